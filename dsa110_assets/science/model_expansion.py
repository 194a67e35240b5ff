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
    RunState,
    SmearingTerms,
    fill_phasors,
    gather_baselines,
    predict_directly,
    start_run,
)

Floats = npt.NDArray[np.float64]
Floats32 = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Complexes = npt.NDArray[np.complex64]

TOLERANCE = 5e-4
"""Largest neglected term of the expansion, as a fraction of the source's flux."""
ARGUMENT_LIMIT = 2.5
"""Largest argument (pi * turns from the array's middle) of the expansion; sources beyond it are summed directly."""
MAX_ORDER = 7
BLOCK_CHANNELS = 8
TASK_CHANNELS = 64


@dataclass(frozen=True)
class Part:
    """Sources of one sign, ready to be summed.

    Attributes
    ----------
    phases : AntennaPhases
        Arrays (n_time, n_ant, n_src): antennas in the order of the baselines, sources by decreasing smearing.
    flux_jy : (n_time, n_src, n_chan) float
        Apparent fluxes, not negative.
    pairs : (n_bl, 3) int
        The two antennas of a baseline, as rows of ``phases``, and its row in the output.
    n_direct
        The first sources are smeared beyond the expansion: they are summed baseline by baseline.
    terms : SmearingTerms
        Terms for all antennas (source counts start behind the direct ones).
    outer : (n_outer,) int
        Antennas far from the middle.
    outer_pairs : (n_outer_bl, 3) int
        Baselines among them, as rows of ``outer``.
    outer_terms : SmearingTerms
        Further terms that matter only among the outer antennas.
    """

    phases: AntennaPhases
    flux_jy: Floats
    pairs: Ints
    n_direct: int
    terms: SmearingTerms
    outer: Ints
    outer_pairs: Ints
    outer_terms: SmearingTerms


def sort_part(phases: AntennaPhases, flux_jy: Floats, pairs: Ints, top_hz: float) -> Part:
    """Sort antennas and sources and choose the expansion's terms.

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
    antennas, place = _order_of_appearance(pairs, phases.delay_s.shape[1])
    time = np.abs(phases.time_rate[:, antennas]).max(axis=0) * top_hz
    channel = np.abs(phases.channel_turn[:, antennas]).max(axis=0)
    sources = np.argsort(-np.hypot(time, channel).max(axis=0), kind="stable")
    time, channel = time[:, sources], channel[:, sources]
    reach = np.maximum(time, channel).max(axis=0)
    n_direct = int(np.max(np.flatnonzero(reach > ARGUMENT_LIMIT), initial=-1)) + 1
    outermost = np.argsort(-np.hypot(time, channel).max(axis=1), kind="stable")
    n_outer, terms, outer_terms = _choose_terms(time[outermost, n_direct:], channel[outermost, n_direct:])
    rows = np.column_stack([place[pairs], np.arange(len(pairs))])
    return Part(
        phases=_select(phases, np.ix_(np.arange(len(flux_jy)), antennas, sources)),
        flux_jy=flux_jy[:, sources],
        pairs=rows,
        n_direct=n_direct,
        terms=terms,
        outer=outermost[:n_outer],
        outer_pairs=_pairs_among(rows, outermost[:n_outer], len(antennas)),
        outer_terms=outer_terms,
    )


def _order_of_appearance(pairs: Ints, n_ant: int) -> tuple[Ints, Ints]:
    """Antennas that have baselines, in the order of the baselines (runs of neighbours gather fast), and the inverse."""
    used, first = np.unique(pairs.ravel(), return_index=True)
    antennas = used[np.argsort(first)]
    place = np.full(n_ant, -1, dtype=np.int64)
    place[antennas] = np.arange(len(antennas))
    return antennas, place


def _pairs_among(rows: Ints, chosen: Ints, n_ant: int) -> Ints:
    place = np.full(n_ant, -1, dtype=np.int64)
    place[chosen] = np.arange(len(chosen))
    among = np.column_stack([place[rows[:, :2]], rows[:, 2]])
    return np.ascontiguousarray(among[(among[:, 0] >= 0) & (among[:, 1] >= 0)])


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
    far_t, far_c, near_t, near_c = (
        _weights(part.max(axis=0, initial=0.0)) for part in (time, channel, time[n_outer:], channel[n_outer:])
    )
    for k, m in _orders():
        far = far_t[k] * far_c[m]
        everywhere = _count(far * near_t[k] * near_c[m])
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


def _weights(argument: Floats) -> Floats:
    """Bounds sqrt(2k + 1) j_k(z) of the terms' factors, shape (order, source)."""
    order = np.arange(MAX_ORDER + 1)[:, None]
    weights = np.sqrt(2.0 * order + 1.0) * spherical_jn(order, np.minimum(argument, ARGUMENT_LIMIT))
    weights[0] = 1.0
    return np.asarray(weights)


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
    """Sum a thread's share of (integration, run of channels)."""
    everywhere = _Product(len(part.phases.delay_s[0]), part.terms, part.pairs)
    among_outer = _Product(len(part.outer), part.outer_terms, part.outer_pairs)
    for t, run in share:
        target = (out[t], run.start, sign)
        amplitude = np.sqrt(part.flux_jy[t, part.n_direct :, run].T).astype(np.float32, order="C")
        here = _select(part.phases, (t, slice(None), slice(part.n_direct, None)))
        everywhere.add(here, frequency[run], amplitude, target)
        among_outer.add(_select(here, part.outer), frequency[run], amplitude, target)
        if part.n_direct:
            far = _select(part.phases, (t, slice(None), slice(part.n_direct)))
            flux = sign * part.flux_jy[t, : part.n_direct, run].T
            predict_directly(far, frequency[run], flux, part.pairs, out[t, :, run])


class _Product:
    """The matrix product over the columns of some antennas, with the buffers of one thread."""

    def __init__(self, n_ant: int, terms: SmearingTerms, pairs: Ints) -> None:
        self._terms = terms
        places = [pairs[:, 0] * n_ant + pairs[:, 1], pairs[:, 1] * n_ant + pairs[:, 0], pairs[:, 2]]
        self._places = np.stack(places, axis=1).astype(np.uintp)
        self._n_column = _count_columns(terms)
        n_source = int(terms.last.max(initial=0))
        self._n_source = n_source
        self._state = RunState(
            np.empty((n_ant, 2, n_source), np.float32),
            np.empty((n_ant, 2, n_source), np.float32),
            np.empty((n_ant, self._n_column), np.float32),
            np.empty((n_ant, self._n_column), np.float32),
        )
        self._phasors = np.empty((BLOCK_CHANNELS, n_ant, 2 * self._n_column), np.float32)
        self._real = np.empty((BLOCK_CHANNELS, n_ant, n_ant), np.float32)
        self._cross = np.empty_like(self._real)

    def add(
        self,
        phases: AntennaPhases,
        frequency: Floats,
        amplitude: Floats32,
        target: tuple[Complexes, int, float],
    ) -> None:
        """Add V = E E^H of a run of channels to ``target``: (n_bl, n_all_chan) output, its first channel, the sign."""
        if not self._n_column:
            return
        out, first, sign = target
        start_run(_select(phases, np.s_[:, : self._n_source]), frequency, self._terms, self._state)
        for start in range(0, len(frequency), BLOCK_CHANNELS):
            strength = amplitude[start : start + BLOCK_CHANNELS, : self._n_source]
            block, real, cross = (a[: len(strength)] for a in (self._phasors, self._real, self._cross))
            fill_phasors(strength, self._terms, self._state, block)
            np.matmul(block, block.transpose(0, 2, 1), out=real)  # the same operand twice: numpy calls syrk
            x, y = block[:, :, : self._n_column], block[:, :, self._n_column :]
            np.matmul(y, x.transpose(0, 2, 1), out=cross)
            flat = real.reshape(len(block), -1), cross.reshape(len(block), -1)
            gather_baselines(flat, self._places, sign, first + start, out)
