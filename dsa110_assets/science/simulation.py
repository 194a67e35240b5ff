"""True visibilities of a drifting sky: a direct sum over point sources, antenna by antenna.

The visibility of baseline (1, 2), in the correlator's sense V = <conj(A) B>, is the integral over the integration T
and the channel width D of

    V_12(t, f) = sum_s S_s(f) P(f, s) exp(2 pi i f (x_2 - x_1) . (s - s_pc) / c),

with apparent directions ``s``, ITRF positions ``x`` and the fringe-stopped phase centre ``s_pc``, which moves with the
sky and stands at (HA 0, dec) at the middle of the integration. The integral is a Gauss-Legendre sum over time and
frequency nodes, each an exact direct sum (w-terms included), evaluated as E E^H with E_as = sqrt(w S P) exp(2 pi i ...)
(the antenna-based algorithm of matvis, Kittiwisit et al. 2025, doi:10.1093/rasti/rzaf001): no smearing formula is
shared with the pipeline's model.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numba
import numpy as np
import numpy.typing as npt

from dsa110_assets.science.beam import SPEED_OF_LIGHT_M_S, airy_power
from dsa110_assets.science.instrument import INTEGRATION_S

Floats = npt.NDArray[np.float64]
Complexes = npt.NDArray[np.complex64]
Beam = Callable[[Floats, Floats], Floats]

EARTH_ROTATION_RAD_S = 7.292115e-5
"""Rate of the sky in ITRS (IERS Conventions 2010, Table 1.2)."""
NODE_TOLERANCE = 5e-4
"""Largest relative error of either smearing integral (time, frequency) on the longest baseline of a block."""
_GAUSS_ERROR = {1: 1.0 / 6.0, 2: 1.0 / 270.0, 3: 3.17e-5, 4: 1.43e-7, 5: 3.9e-10}
"""n -> c of the Gauss-Legendre error c phi^(2n) of the mean of exp(i phi x), |x| <= 1 (n = 1 is the midpoint rule)."""
_CHANNEL_BLOCK = 8


@dataclass(frozen=True)
class Columns:
    """The terms of the direct sum: every source at every smearing node.

    Attributes
    ----------
    source : (n_col,) int
        Index of the source.
    time_offset_s, frequency_offset_hz : (n_col,) float
        Offset of the node from the middle of the integration and of the channel.
    weight : (n_col,) float
        Gauss-Legendre weights, sum 1 per source.
    """

    source: npt.NDArray[np.int64]
    time_offset_s: Floats
    frequency_offset_hz: Floats
    weight: Floats


def choose_node_counts(half_phase_rad: Floats, tolerance: float = NODE_TOLERANCE) -> npt.NDArray[np.int64]:
    """Number of Gauss-Legendre nodes that integrates exp(i phi x) over |x| <= 1 to a relative tolerance.

    Parameters
    ----------
    half_phase_rad : (n,) float
        Phase phi at the edge of the interval, radians, >= 0.
    tolerance
        Largest relative error.

    Returns
    -------
    (n,) int
        1 to 16.
    """
    phi = np.asarray(half_phase_rad, dtype=np.float64)
    counts = np.full(phi.shape, 16, dtype=np.int64)
    for n in sorted(_GAUSS_ERROR, reverse=True):
        counts[_GAUSS_ERROR[n] * phi ** (2 * n) < tolerance] = n
    return counts


@cache
def _gauss_legendre(n: int) -> tuple[Floats, Floats]:
    """Nodes and weights (sum 2) on [-1, 1]."""
    nodes, weights = np.polynomial.legendre.leggauss(n)
    return nodes, weights


def smearing_phases(
    offset_itrs: Floats, positions_m: Floats, frequency_hz: float, channel_width_hz: float
) -> tuple[Floats, Floats]:
    """Largest half-interval phases of sources over the integration and over the channel.

    The fringe rate of a source off the phase centre by d is b . (omega x d) f / c: the largest of all baselines is the
    extent of the array along omega x d.

    Parameters
    ----------
    offset_itrs : (n_time, n_source, 3) float
        Direction minus phase centre.
    positions_m : (n_ant, 3) float
        ITRF, metres.
    frequency_hz, channel_width_hz
        Highest frequency and channel width, Hz.

    Returns
    -------
    time, frequency : (n_source,) float
        Radians at the edge of the integration and of the channel.
    """
    turning = EARTH_ROTATION_RAD_S * np.stack(
        [offset_itrs[..., 1], -offset_itrs[..., 0], np.zeros(offset_itrs.shape[:-1])], axis=-1
    )

    def extent_s(vector: Floats) -> Floats:
        return np.asarray(np.ptp(vector @ positions_m.T, axis=-1).max(axis=0, initial=0.0) / SPEED_OF_LIGHT_M_S)

    time = np.pi * frequency_hz * INTEGRATION_S * extent_s(turning)
    return time, np.pi * channel_width_hz * extent_s(offset_itrs)


def plan_columns(time_phase_rad: Floats, frequency_phase_rad: Floats, channel_width_hz: float) -> Columns:
    """Smearing nodes of every source, as many as its phases over integration and channel ask for.

    Parameters
    ----------
    time_phase_rad, frequency_phase_rad : (n_source,) float
        Of :func:`smearing_phases`.
    channel_width_hz
        Hz.

    Returns
    -------
    Columns
        At least two time nodes per source.
    """
    n_time = np.maximum(2, choose_node_counts(time_phase_rad))
    n_freq = choose_node_counts(frequency_phase_rad)
    source, when, where, weight = [], [], [], []
    for s, (nt, nf) in enumerate(zip(n_time, n_freq, strict=True)):
        xt, wt = _gauss_legendre(int(nt))
        xf, wf = _gauss_legendre(int(nf))
        source.append(np.full(nt * nf, s))
        when.append(np.repeat(xt, nf) * INTEGRATION_S / 2.0)
        where.append(np.tile(xf, nt) * channel_width_hz / 2.0)
        weight.append(np.outer(wt, wf).ravel() / 4.0)
    if not source:
        empty = np.zeros(0)
        return Columns(np.zeros(0, dtype=np.int64), empty, empty, empty)
    return Columns(np.concatenate(source), np.concatenate(when), np.concatenate(where), np.concatenate(weight))


def rotate_with_sky(direction_itrs: Floats, time_offset_s: Floats) -> Floats:
    """Directions (n, 3) in ITRS carried along by the sky for ``time_offset_s`` (n,) seconds."""
    angle = -EARTH_ROTATION_RAD_S * np.asarray(time_offset_s)
    c, s = np.cos(angle), np.sin(angle)
    x, y, z = direction_itrs[:, 0], direction_itrs[:, 1], direction_itrs[:, 2]
    return np.stack([c * x - s * y, s * x + c * y, z], axis=-1)


@numba.njit(nogil=True, cache=True, fastmath=True)
def _start_phasors(delay_s, offset_hz, first_hz, step_hz, current, step):  # type: ignore[no-untyped-def] # pragma: no cover
    """Phasors at the first channel and their ratio from channel to channel, in float64 turns reduced mod 1."""
    for a in range(delay_s.shape[0]):
        for k in range(delay_s.shape[1]):
            turns = delay_s[a, k] * (first_hz + offset_hz[k])
            phase = 2.0 * np.pi * (turns - np.floor(turns))
            current[a, k] = np.complex64(complex(np.cos(phase), np.sin(phase)))
            phase = 2.0 * np.pi * delay_s[a, k] * step_hz
            step[a, k] = np.complex64(complex(np.cos(phase), np.sin(phase)))


@numba.njit(nogil=True, cache=True, fastmath=True)
def _fill_phasors(amplitude, current, step, out):  # type: ignore[no-untyped-def] # pragma: no cover
    """Fill out[f, a, k] = amplitude[f, k] exp(i phase) by recurrence over the block's channels."""
    for a in range(out.shape[1]):
        for f in range(out.shape[0]):
            for k in range(out.shape[2]):
                value = current[a, k]
                out[f, a, k] = amplitude[f, k] * value
                current[a, k] = value * step[a, k]


def _correlate_all(phasors: Complexes, out: Complexes) -> None:
    """Fill out[f, i, j] = sum_k conj(E_i) E_j, the lower left quarter by symmetry (a quarter of the work saved)."""
    half = phasors.shape[1] // 2
    np.matmul(phasors[:, :half].conj(), phasors.swapaxes(1, 2), out=out[:, :half])
    np.matmul(phasors[:, half:].conj(), phasors[:, half:].swapaxes(1, 2), out=out[:, half:, half:])
    out[:, half:, :half] = out[:, :half, half:].conj().swapaxes(1, 2)


@dataclass(frozen=True)
class Blocks:
    """Antennas split in a compact core and the far rest, so that only long baselines pay for many nodes.

    Attributes
    ----------
    order : (n_ant,) int
        Antenna indices, core first.
    n_core
        How many of them are core.
    """

    order: npt.NDArray[np.int64]
    n_core: int


def split_array(positions_m: Floats, *, core_radius_m: float = 450.0) -> Blocks:
    """Split antennas at a distance (metres) from their median position.

    Parameters
    ----------
    positions_m : (n_ant, 3) float
        ITRF, metres.
    """
    distance = np.linalg.norm(positions_m - np.median(positions_m, axis=0), axis=1)
    is_core = distance <= core_radius_m
    order = np.concatenate([np.flatnonzero(is_core), np.flatnonzero(~is_core)])
    return Blocks(order, int(is_core.sum()))


@dataclass(frozen=True)
class SkyField:
    """What a group sees of the sky.

    Attributes
    ----------
    directions_itrs : (n_time, n_source, 3) float
        Apparent directions at the middle of each integration.
    phase_centre_itrs, beam_centre_itrs : (3,) float
        Meridian points that the correlator stops fringes at and that the dishes look at.
    beam
        Power response (separation in radians, frequency in Hz), broadcasting.
    """

    directions_itrs: Floats
    phase_centre_itrs: Floats
    beam_centre_itrs: Floats
    beam: Beam = airy_power


class VisibilityPredictor:
    """Noise-free, uncorrupted visibilities of one group.

    Parameters
    ----------
    positions_m : (n_ant, 3) float
        ITRF positions (any origin), metres, in correlator order.
    field
        The sky.
    highest_frequency_hz, channel_width_hz
        Hz.
    """

    def __init__(
        self, positions_m: Floats, field: SkyField, *, highest_frequency_hz: float, channel_width_hz: float
    ) -> None:
        self.blocks = split_array(positions_m)
        self._positions_m = positions_m[self.blocks.order]
        self._field = field
        offset = field.directions_itrs - field.phase_centre_itrs
        self._core, self._far = (
            plan_columns(*smearing_phases(offset, part, highest_frequency_hz, channel_width_hz), channel_width_hz)
            for part in (self._positions_m[: self.blocks.n_core], self._positions_m)
        )

    def predict(self, time: int, frequency_hz: Floats, flux_jy: Floats) -> tuple[Complexes, Complexes]:
        """Correlation matrices of one integration, Jy (one Stokes-I polarisation).

        Parameters
        ----------
        time
            Index of the integration.
        frequency_hz : (n_chan,) float
            Evenly spaced, either direction.
        flux_jy : (n_source, n_chan) float
            Flux densities, primary beam excluded.

        Returns
        -------
        core : (n_chan, n_core, n_core) complex64
            V[f, i, j] = <conj(i) j> in the order of ``blocks.order``.
        far : (n_chan, n_far, n_ant) complex64
            V[f, i, j] with i counted from ``blocks.n_core``.
        """
        n_core, n_ant = self.blocks.n_core, len(self.blocks.order)
        core = np.zeros((len(frequency_hz), n_core, n_core), dtype=np.complex64)
        far = np.zeros((len(frequency_hz), n_ant - n_core, n_ant), dtype=np.complex64)
        if self._field.directions_itrs.shape[1] > 0:
            self._multiply(time, frequency_hz, flux_jy, self._core, core)
            if n_core < n_ant:
                self._multiply(time, frequency_hz, flux_jy, self._far, far)
        return core, far

    def _multiply(self, time: int, frequency_hz: Floats, flux_jy: Floats, columns: Columns, out: Complexes) -> None:
        """Sum conj(E_i) E_j over the columns: j runs over the first antennas, i over the last of those."""
        n_last, n_antennas = out.shape[1:]
        delay_s = self._delays(time, columns, n_antennas)
        amplitude = self._amplitudes(time, frequency_hz, flux_jy, columns)
        current = np.empty(delay_s.shape, dtype=np.complex64)
        step = np.empty_like(current)
        spacing = float(frequency_hz[1] - frequency_hz[0]) if len(frequency_hz) > 1 else 0.0
        _start_phasors(delay_s, columns.frequency_offset_hz, float(frequency_hz[0]), spacing, current, step)
        scratch = np.empty((_CHANNEL_BLOCK, *delay_s.shape), dtype=np.complex64)
        for first in range(0, len(frequency_hz), _CHANNEL_BLOCK):
            stop = min(first + _CHANNEL_BLOCK, len(frequency_hz))
            phasors = scratch[: stop - first]
            _fill_phasors(amplitude[first:stop], current, step, phasors)
            if n_last == n_antennas:
                _correlate_all(phasors, out[first:stop])
            else:
                np.matmul(phasors[:, n_antennas - n_last :].conj(), phasors.swapaxes(1, 2), out=out[first:stop])

    def _delays(self, time: int, columns: Columns, n_antennas: int) -> Floats:
        """Geometric delay relative to the moving phase centre, seconds, shape (n_antennas, n_col)."""
        offset = self._field.directions_itrs[time, columns.source] - self._field.phase_centre_itrs
        moved = rotate_with_sky(offset, columns.time_offset_s)
        return np.asarray(self._positions_m[:n_antennas] @ moved.T / SPEED_OF_LIGHT_M_S)

    def _amplitudes(
        self, time: int, frequency_hz: Floats, flux_jy: Floats, columns: Columns
    ) -> npt.NDArray[np.float32]:
        """sqrt(weight x flux x beam), shape (n_chan, n_col); the beam is a parabola in frequency over a subband."""
        moved = rotate_with_sky(self._field.directions_itrs[time, columns.source], columns.time_offset_s)
        chord = np.linalg.norm(moved - self._field.beam_centre_itrs, axis=1)
        separation = 2.0 * np.arcsin(np.minimum(1.0, chord / 2.0))
        middle, half = np.mean(frequency_hz), max(1.0, float(np.ptp(frequency_hz)) / 2.0)
        low, mid, high = self._field.beam(separation[:, None], middle + half * np.array([-1.0, 0.0, 1.0])).T
        x = ((frequency_hz - middle) / half)[:, None]
        power = mid + x * (high - low) / 2.0 + x**2 * ((high + low) / 2.0 - mid)
        intensity = np.maximum(power, 0.0) * columns.weight * flux_jy[columns.source].T
        return np.asarray(np.sqrt(np.maximum(intensity, 0.0)), dtype=np.float32)
