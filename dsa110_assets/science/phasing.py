"""Rephasing: from the correlator's meridian to one fixed phase centre, in the Measurement Set's sign convention.

The correlator divides by the fringe of the meridian point, so a raw file holds, for x the antenna positions and s the
apparent direction of a source,

    V_raw = exp(+2 pi i (x2 - x1) . (s - s_meridian) f / c).

A Measurement Set wants V_ms = exp(+2 pi i UVW . s') with UVW = R (x1 - x2), hence

    V_ms = conj(V_raw) P_1 conj(P_2),   P_a = exp(-2 pi i f x_a . (s_centre(t) - s_meridian) / c).

One phasor per antenna, time and channel serves all baselines. References: the rephasing of interferometric data as in
Thompson, Moran & Swenson (2017, doi:10.1007/978-3-319-44431-4), chapter 4.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numba import njit

from dsa110_assets.science.errors import ShapeError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Visibilities = npt.NDArray[np.complex64]

SPEED_OF_LIGHT_M_S = 299792458.0
ARCSEC_PER_RADIAN = 180.0 * 3600.0 / np.pi


@dataclass(frozen=True, eq=False)
class BaselineOrder:
    """How the raw baselines map onto the rows of one integration of a Measurement Set.

    Attributes
    ----------
    antenna1, antenna2 : (n_baseline,) int
        Antennas of each Measurement Set row, antenna1 <= antenna2, in ascending order.
    destination : (n_baseline,) int
        Row of each raw baseline.
    swapped : (n_baseline,) bool
        Per raw baseline: it was recorded with the higher antenna first, so it is conjugated.
    """

    antenna1: Ints
    antenna2: Ints
    destination: Ints
    swapped: Bools


def order_baselines(antenna1: npt.ArrayLike, antenna2: npt.ArrayLike) -> BaselineOrder:
    """Canonical rows for baselines in any order and of either sense.

    Parameters
    ----------
    antenna1, antenna2 : (n_baseline,) int
        As recorded.

    Raises
    ------
    ShapeError
        If a baseline occurs twice.
    """
    first, second = np.asarray(antenna1, dtype=np.int64), np.asarray(antenna2, dtype=np.int64)
    low, high = np.minimum(first, second), np.maximum(first, second)
    order = np.lexsort((high, low))
    if np.any((np.diff(low[order]) == 0) & (np.diff(high[order]) == 0)):
        raise ShapeError("a baseline occurs twice in one integration")
    destination = np.empty_like(order)
    destination[order] = np.arange(len(order))
    return BaselineOrder(low[order], high[order], destination, first > second)


def antenna_phasors(positions_m: Floats, shift: Floats, frequencies_hz: Floats) -> Visibilities:
    """P_a of this module: the phase that moves each antenna from the meridian to the phase centre.

    Parameters
    ----------
    positions_m : (n_antenna, 3) float
        ITRF relative to any common origin, metres.
    shift : (n_time, 3) float
        Apparent phase centre minus meridian direction, ITRS unit vectors.
    frequencies_hz : (n_channel,) float
        Hz.

    Returns
    -------
    (n_time, n_antenna, n_channel) complex64
        Unit phasors, the phase computed in float64.
    """
    delay_s = shift @ np.asarray(positions_m, dtype=np.float64).T / SPEED_OF_LIGHT_M_S
    turns = delay_s[:, :, None] * np.asarray(frequencies_hz, dtype=np.float64)
    phasors: Visibilities = np.exp(-2j * np.pi * (turns - np.round(turns))).astype(np.complex64)
    return phasors


@njit(nogil=True, cache=True)
def _rephase_tiles(raw, starts, tile, phasors, ends, order, reverse, out, flags):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    tile_rows, tile_channels, tile_pols = tile
    ant1, ant2 = ends
    destination, swapped = order
    n_baseline = ant1.size
    n_row, n_channel, n_pol = out.shape
    factor = np.empty(n_channel, np.complex64)
    n_bad = 0
    for row in range(n_row):
        time = row // n_baseline
        baseline = row - time * n_baseline
        p1, p2 = phasors[time, ant1[baseline]], phasors[time, ant2[baseline]]
        swap = swapped[baseline]
        for c in range(n_channel):
            factor[c] = p2[c] * np.conj(p1[c]) if swap else p1[c] * np.conj(p2[c])
        to = time * n_baseline + destination[baseline]
        i, inside = row // tile_rows, row % tile_rows
        for c in range(n_channel):
            k = c // tile_channels
            at = (inside * tile_channels + c - k * tile_channels) * tile_pols
            c_out = n_channel - 1 - c if reverse else c
            for p in range(n_pol):
                value = raw[starts[i, k, p // tile_pols] + at + p % tile_pols]
                bad = not np.isfinite(value.real + value.imag)
                if bad:
                    n_bad += 1
                    value = np.complex64(0.0)
                elif not swap:
                    value = np.conj(value)
                out[to, c_out, p] = value * factor[c]
                flags[to, c_out, p] = bad
    return n_bad


@dataclass(frozen=True, eq=False)
class TiledVisibilities:
    """Raw visibilities as they lie in a file: a flat buffer and where each tile of it starts.

    Attributes
    ----------
    flat : (n,) complex64
        The buffer.
    starts : (n_row_tile, n_channel_tile, n_pol_tile) int
        Index in ``flat`` of each tile's first value.
    tile : (rows, channels, polarisations)
        Shape of a tile; values within run in that order, polarisation fastest.
    """

    flat: Visibilities
    starts: Ints
    tile: tuple[int, int, int]

    @classmethod
    def from_array(cls, visibilities: Visibilities) -> "TiledVisibilities":
        """One tile that holds an array of shape (n_row, n_channel, n_pol)."""
        n_row, n_channel, n_pol = visibilities.shape
        return cls(
            np.ascontiguousarray(visibilities).reshape(-1), np.zeros((1, 1, 1), np.int64), (n_row, n_channel, n_pol)
        )


def rephase(
    raw: TiledVisibilities,
    phasors: Visibilities,
    antenna1: Ints,
    antenna2: Ints,
    *,
    order: BaselineOrder,
    reverse_channels: bool,
    out: Visibilities,
    flags: Bools,
) -> int:
    """Conjugate, rephase and reorder raw visibilities into rows of a Measurement Set (formula above).

    Releases the interpreter lock: several subbands can be rephased by threads.

    Parameters
    ----------
    raw
        (n_time * n_baseline, n_channel, n_pol) values in the correlator's sense.
    phasors : (n_time, n_antenna, n_channel) complex64
        From :func:`antenna_phasors`, channels in the order of ``raw``.
    antenna1, antenna2 : (n_baseline,) int
        As recorded.
    order
        From :func:`order_baselines`.
    reverse_channels
        Whether ``raw`` descends in frequency.
    out : (n_time * n_baseline, n_channel, n_pol) complex64
        Written: time-major rows, channels ascending; a value that is not finite becomes 0.
    flags : same shape, bool
        Written: True where the raw value was not finite.

    Returns
    -------
    int
        Number of values that were not finite.
    """
    if out.shape != flags.shape or out.shape[0] != phasors.shape[0] * len(antenna1) or out.shape[1] != phasors.shape[2]:
        raise ShapeError(f"out {out.shape}, flags {flags.shape} and phasors {phasors.shape} do not fit")
    n_tiles = tuple(-(-n // t) for n, t in zip(out.shape, raw.tile, strict=True))
    if raw.starts.shape != n_tiles:
        raise ShapeError(f"{raw.starts.shape} tiles of {raw.tile} do not cover {out.shape}")
    ends, rows = (antenna1, antenna2), (order.destination, order.swapped)
    return int(_rephase_tiles(raw.flat, raw.starts, raw.tile, phasors, ends, rows, reverse_channels, out, flags))


@njit(nogil=True, cache=True)
def _sum_tiles(flat, starts, tile, n_channel, n_pol, sums):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    tile_rows, tile_channels, tile_pols = tile
    for row in range(sums.size):
        i, inside = row // tile_rows, row % tile_rows
        total = 0.0
        for c in range(n_channel):
            k = c // tile_channels
            at = (inside * tile_channels + c - k * tile_channels) * tile_pols
            for p in range(n_pol):
                total += flat[starts[i, k, p // tile_pols] + at + p % tile_pols]
        sums[row] = total


def mean_of_rows(
    flat: npt.NDArray[np.float32], starts: Ints, tile: tuple[int, int, int], shape: tuple[int, int, int]
) -> Floats:
    """Mean over channels and polarisations of each row of a tiled array (layout as in :class:`TiledVisibilities`).

    Parameters
    ----------
    flat : (n,) float32
        The buffer.
    starts, tile
        Where tiles start in it, and their shape.
    shape
        (n_row, n_channel, n_pol) of the whole array.

    Returns
    -------
    (n_row,) float
    """
    sums = np.zeros(shape[0])
    _sum_tiles(flat, starts, tile, shape[1], shape[2], sums)
    return sums / (shape[1] * shape[2])


@dataclass(frozen=True, eq=False)
class UvwComparison:
    """Recorded against recomputed baseline coordinates.

    Attributes
    ----------
    max_discrepancy_m
        Largest |recorded - recomputed|, metres.
    rotation_arcsec : (3,) float
        Rotation vector about the u, v and w axes that turns the recomputed into the recorded coordinates.
    max_residual_m
        Largest discrepancy that is left after that rotation: what is not a pointing error but a wrong position.
    """

    max_discrepancy_m: float
    rotation_arcsec: tuple[float, float, float]
    max_residual_m: float


def compare_uvw(recorded_m: Floats, recomputed_m: Floats) -> UvwComparison:
    """Compare two sets of baseline coordinates and fit the rotation between them.

    Kabsch (1976, doi:10.1107/S0567739476001873). A wrong phase centre is a rotation: zenith instead of a declination
    21 degrees away moves 2.6 km baselines by 1 km.

    Parameters
    ----------
    recorded_m, recomputed_m : (n_baseline, 3) float
        u, v, w in metres.
    """
    from scipy.spatial.transform import Rotation

    recorded, recomputed = np.asarray(recorded_m, dtype=np.float64), np.asarray(recomputed_m, dtype=np.float64)
    if recorded.shape != recomputed.shape or recorded.ndim != 2:
        raise ShapeError(f"uvw of shapes {recorded.shape} and {recomputed.shape} cannot be compared")
    discrepancy = np.linalg.norm(recorded - recomputed, axis=1).max()
    u, _, vt = np.linalg.svd(recorded.T @ recomputed)
    handed = np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    rotation = u @ handed @ vt
    residual = np.linalg.norm(recorded - recomputed @ rotation.T, axis=1).max()
    vector = Rotation.from_matrix(rotation).as_rotvec() * ARCSEC_PER_RADIAN
    return UvwComparison(float(discrepancy), (float(vector[0]), float(vector[1]), float(vector[2])), float(residual))


def thermal_sigma_jy(sefd_jy: float, channel_width_hz: float, integration_s: float) -> float:
    """Noise (standard deviation of the real or imaginary part) of one visibility: SEFD / sqrt(2 bandwidth time), Jy."""
    return float(sefd_jy / np.sqrt(2.0 * channel_width_hz * integration_s))
