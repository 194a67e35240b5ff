"""The smearing expansion of the prediction: which terms are needed, and their sum as matrix products."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import spherical_jn
from threadpoolctl import ThreadpoolController

from dsa110_assets.science.model_kernels import (
    AntennaPhases,
    SmearingTerms,
    fill_phasors,
    gather_baselines,
    predict_directly,
)

Floats = npt.NDArray[np.float64]
Floats32 = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Complexes = npt.NDArray[np.complex64]

TOLERANCE = 2.5e-4
"""Largest neglected term of the expansion, as a fraction of the source's flux."""
ARGUMENT_LIMIT = 2.5
"""Largest argument (pi * turns from the array's middle) of the expansion; sources beyond it are summed directly."""
MAX_ORDER = 7
BLOCK_CHANNELS = 16
TASK_CHANNELS = 64


@dataclass(frozen=True)
class Part:
    """Sources of one sign, ready to be summed.

    Attributes
    ----------
    phases : AntennaPhases
        Arrays (n_time, n_ant, n_src): antennas outermost first, sources by decreasing smearing.
    flux_jy : (n_time, n_src, n_chan) float
        Apparent fluxes, not negative.
    pairs : (n_bl, 2) int
        Baselines as rows of the sorted antennas.
    n_direct
        The first sources are smeared beyond the expansion: they are summed baseline by baseline.
    terms : SmearingTerms
        Terms for all antennas (source counts start behind the direct ones).
    n_outer, outer_terms
        Further terms that matter only among the first ``n_outer`` antennas.
    """

    phases: AntennaPhases
    flux_jy: Floats
    pairs: Ints
    n_direct: int
    terms: SmearingTerms
    n_outer: int
    outer_terms: SmearingTerms


def sort_part(phases: AntennaPhases, flux_jy: Floats, pairs: Ints, top_hz: float) -> Part:
    """Sort antennas and sources by smearing and choose the expansion's terms.

    Parameters
    ----------
    phases : AntennaPhases
        Arrays (n_time, n_ant, n_src).
    flux_jy : (n_time, n_src, n_chan) float
        Apparent fluxes.
    pairs : (n_bl, 2) int
        Antenna rows of the baselines.
    top_hz
        Highest frequency, where time smearing is largest.
    """
    time = np.abs(phases.time_rate).max(axis=0) * top_hz
    channel = np.abs(phases.channel_turn).max(axis=0)
    antennas = np.argsort(-np.hypot(time, channel).max(axis=1, initial=0.0), kind="stable")
    sources = np.argsort(-np.hypot(time, channel).max(axis=0), kind="stable")
    time, channel = time[np.ix_(antennas, sources)], channel[np.ix_(antennas, sources)]
    reach = np.maximum(time, channel).max(axis=0)
    n_direct = int(np.max(np.flatnonzero(reach > ARGUMENT_LIMIT), initial=-1)) + 1
    n_outer, terms, outer_terms = _choose_terms(time[:, n_direct:], channel[:, n_direct:])
    rank = np.argsort(antennas)
    return Part(
        phases=_select(phases, np.ix_(np.arange(len(flux_jy)), antennas, sources)),
        flux_jy=flux_jy[:, sources],
        pairs=rank[pairs],
        n_direct=n_direct,
        terms=terms,
        n_outer=n_outer,
        outer_terms=outer_terms,
    )


def _choose_terms(time: Floats, channel: Floats) -> tuple[int, SmearingTerms, SmearingTerms]:
    """Cheapest split into outer antennas and core for arguments (n_ant, n_src), antennas outermost first."""
    n_ant = len(time)
    splits = sorted({0, n_ant // 12, n_ant // 8, n_ant // 6, n_ant // 4, n_ant // 3, n_ant // 2})
    plans = [(n_outer, *_split_terms(time, channel, n_outer)) for n_outer in splits]

    def cost(plan: tuple[int, SmearingTerms, SmearingTerms]) -> float:
        return float(n_ant**2 * _count_columns(plan[1]) + plan[0] ** 2 * _count_columns(plan[2]))

    return min(plans, key=cost)


def _split_terms(time: Floats, channel: Floats, n_outer: int) -> tuple[SmearingTerms, SmearingTerms]:
    all_terms, outer_terms = [(0, 0, 0, time.shape[1])], []
    far_t, far_c = time.max(axis=0, initial=0.0), channel.max(axis=0, initial=0.0)
    near_t, near_c = time[n_outer:].max(axis=0, initial=0.0), channel[n_outer:].max(axis=0, initial=0.0)
    for k, m in _orders():
        far = _weight(k, far_t) * _weight(m, far_c)
        near = _weight(k, near_t) * _weight(m, near_c)
        everywhere = _count(far * near)
        among_outer = _count(far * far)
        if everywhere:
            all_terms.append((k, m, 0, everywhere))
        if among_outer > everywhere:
            outer_terms.append((k, m, everywhere, among_outer))
    return _as_terms(all_terms), _as_terms(outer_terms)


def _select(phases: AntennaPhases, index: Any) -> AntennaPhases:
    return AntennaPhases(phases.delay_s[index], phases.time_rate[index], phases.channel_turn[index])


def _orders() -> list[tuple[int, int]]:
    return [(k, m) for k in range(MAX_ORDER + 1) for m in range(MAX_ORDER + 1 - k) if k + m]


def _weight(order: int, argument: Floats) -> Floats:
    """Bound sqrt(2k + 1) j_k(z) of a term's factor."""
    if order == 0:
        return np.ones_like(argument)
    return np.asarray(np.sqrt(2.0 * order + 1.0) * spherical_jn(order, np.minimum(argument, ARGUMENT_LIMIT)))


def _count(product: Floats) -> int:
    return int(np.max(np.flatnonzero(product > TOLERANCE), initial=-1)) + 1


def _as_terms(terms: list[tuple[int, int, int, int]]) -> SmearingTerms:
    table = np.array(terms, dtype=np.int64).reshape(-1, 4)
    return SmearingTerms(*(np.ascontiguousarray(part) for part in (table[:, :2], table[:, 2], table[:, 3])))


def _count_columns(terms: SmearingTerms) -> int:
    return int((terms.last - terms.first).sum())


def add_part(part: Part, frequency: Floats, sign: float, n_threads: int, out: Complexes) -> None:
    """Add the sources of a part, times ``sign``, to ``out`` (n_time, n_bl, n_chan).

    Every thread takes its share of (integration, run of channels) with buffers of its own; BLAS keeps to one thread.
    """
    tasks = [(t, run) for t in range(out.shape[0]) for run in _equal_runs(frequency, TASK_CHANNELS)]
    shares = [tasks[i::n_threads] for i in range(min(n_threads, len(tasks)))]
    with _blas().limit(limits=1), ThreadPoolExecutor(len(shares)) as pool:
        for done in [pool.submit(_add_share, part, frequency, sign, share, out) for share in shares]:
            done.result()


def _equal_runs(frequency: Floats, longest: int) -> Iterator[slice]:
    """Runs of equally spaced channels, at most ``longest`` long (a missing subband ends a run)."""
    start, spacing = 0, np.diff(frequency)
    while start < len(frequency):
        stop = min(start + longest, len(frequency))
        if stop - start > 1:
            uneven = np.abs(spacing[start : stop - 1] - spacing[start]) > 1e-9 * frequency[start]
            stop = start + 1 + int(np.argmax(uneven)) if uneven.any() else stop
        yield slice(start, stop)
        start = stop


@cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController()


def _add_share(part: Part, frequency: Floats, sign: float, share: list[tuple[int, slice]], out: Complexes) -> None:
    n_ant = part.phases.delay_s.shape[1]
    products = [_Product(n_ant, _count_columns(part.terms))]
    if _count_columns(part.outer_terms):
        products.append(_Product(part.n_outer, _count_columns(part.outer_terms)))
    for t, run in share:
        here = _select(part.phases, (t, slice(None), slice(part.n_direct, None)))
        amplitude = np.sqrt(part.flux_jy[t % len(part.flux_jy), part.n_direct :, run].T).astype(np.float32)
        amplitude = np.ascontiguousarray(np.broadcast_to(amplitude, (run.stop - run.start, here.delay_s.shape[1])))
        if n_direct := part.n_direct:
            flux = sign * part.flux_jy[t, :n_direct, run].T
            predict_directly(
                _select(part.phases, (t, slice(None), slice(n_direct))),
                frequency[run],
                flux,
                part.pairs,
                out[t, :, run],
            )
        for product, terms in zip(products, (part.terms, part.outer_terms), strict=False):
            product.add(here, frequency[run], amplitude, terms, (part.pairs, sign, out[t, :, run]))


class _Product:
    """Buffers of the matrix product over the columns of some antennas, for one thread."""

    def __init__(self, n_ant: int, n_column: int) -> None:
        self._n_ant = n_ant
        self._phasors = np.empty((TASK_CHANNELS, n_ant, 2 * n_column), np.float32)
        self._real = np.empty((BLOCK_CHANNELS, n_ant, n_ant), np.float32)
        self._cross = np.empty_like(self._real)

    def add(
        self,
        phases: AntennaPhases,
        frequency: Floats,
        amplitude: Floats32,
        terms: SmearingTerms,
        target: tuple[Ints, float, Complexes],
    ) -> None:
        """Add V = E E^H of a run of channels to the baselines of ``target`` (pairs, sign, out (n_bl, n_chan))."""
        pairs, sign, out = target
        phasors = self._phasors[: len(frequency)]
        mine = _select(phases, slice(self._n_ant))
        fill_phasors(mine, frequency, amplitude, terms, phasors)
        n_column = phasors.shape[2] // 2
        for start in range(0, len(frequency), BLOCK_CHANNELS):
            block = phasors[start : start + BLOCK_CHANNELS]
            real, cross = self._real[: len(block)], self._cross[: len(block)]
            np.matmul(block, block.transpose(0, 2, 1), out=real)  # the same operand twice: numpy calls syrk
            np.matmul(block[:, :, n_column:], block[:, :, :n_column].transpose(0, 2, 1), out=cross)
            gather_baselines(real, cross, pairs, sign, out[:, start : start + BLOCK_CHANNELS])
