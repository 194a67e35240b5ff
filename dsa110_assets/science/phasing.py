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
    recorded1, recorded2 : (n_baseline,) int
        Antennas of each raw baseline.
    """

    antenna1: Ints
    antenna2: Ints
    destination: Ints
    swapped: Bools
    recorded1: Ints
    recorded2: Ints


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
    return BaselineOrder(low[order], high[order], destination, first > second, first, second)


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
def _rephase_tiles(raw, starts, tile, phasors, ends, order, reverse, rows, out, flags):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    tile_rows, tile_channels, tile_pols = tile
    ant1, ant2 = ends
    destination, swapped = order
    first_row, first_channel = rows
    n_baseline = ant1.size
    n_row, _, n_pol = out.shape
    n_channel = phasors.shape[2]
    factor = np.empty(n_channel, np.complex64)
    n_bad = 0
    for row in range(n_row):
        time = row // n_baseline
        baseline = row - time * n_baseline
        swap = swapped[baseline]
        # conj(V) P1 conj(P2) = conj(V conj(P1) P2), and a swapped row is its conjugate: one product serves both.
        p1, p2 = phasors[time, ant1[baseline]], phasors[time, ant2[baseline]]
        for c in range(n_channel):
            factor[c] = np.conj(p1[c]) * p2[c]
        to = time * n_baseline + destination[baseline]
        tile_row = (row + first_row) // tile_rows
        inside = (row + first_row - tile_row * tile_rows) * tile_channels
        nothing = np.float32(0.0)
        for k in range(starts.shape[1]):
            c0 = k * tile_channels
            c1 = min(c0 + tile_channels, n_channel)
            for p in range(n_pol):
                at = starts[tile_row, k, p // tile_pols] + inside * tile_pols + p % tile_pols
                for c in range(c0, c1):
                    value = raw[at + (c - c0) * tile_pols] * factor[c]
                    nothing += np.float32(0.0) * (value.real + value.imag)
                    c_out = first_channel + (n_channel - 1 - c if reverse else c)
                    out[to, c_out, p] = value if swap else np.conj(value)
        if nothing != 0.0:  # a value that is not finite turns 0 x value into NaN
            own = slice(first_channel, first_channel + n_channel)
            n_bad += _clear_bad(out[to, own], flags[to, own])
    return n_bad


@njit(nogil=True, cache=True)
def _clear_bad(row, flags):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    n_bad = 0
    for c in range(row.shape[0]):
        for p in range(row.shape[1]):
            if not np.isfinite(row[c, p].real + row[c, p].imag):
                row[c, p] = 0.0
                flags[c, p] = True
                n_bad += 1
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
    first_row
        Row of the first tile that is row 0 here.
    descending
        Whether the channels descend in frequency.
    """

    flat: Visibilities
    starts: Ints
    tile: tuple[int, int, int]
    first_row: int = 0
    descending: bool = False

    @classmethod
    def from_array(cls, visibilities: Visibilities, *, descending: bool = False) -> "TiledVisibilities":
        """One tile that holds an array of shape (n_row, n_channel, n_pol)."""
        n_row, n_channel, n_pol = visibilities.shape
        flat = np.ascontiguousarray(visibilities).reshape(-1)
        return cls(flat, np.zeros((1, 1, 1), np.int64), (n_row, n_channel, n_pol), 0, descending)


def rephase(
    raw: TiledVisibilities,
    phasors: Visibilities,
    *,
    order: BaselineOrder,
    out: Visibilities,
    flags: Bools,
    first_channel: int = 0,
) -> int:
    """Conjugate, rephase and reorder raw visibilities into rows of a Measurement Set (formula above).

    Releases the interpreter lock: several subbands can be rephased by threads.

    Parameters
    ----------
    raw
        (n_time * n_baseline, n_channel, n_pol) values in the correlator's sense.
    phasors : (n_time, n_antenna, n_channel) complex64
        From :func:`antenna_phasors`, channels in the order of ``raw``.
    order
        From :func:`order_baselines`.
    out : (n_time * n_baseline, n_channel or more, n_pol) complex64
        Written: time-major rows, channels ascending; a value that is not finite becomes 0.
    flags : same shape, bool
        Set to True where the raw value was not finite; otherwise left alone.
    first_channel
        Where the channels of ``raw`` begin in ``out`` and ``flags``.

    Returns
    -------
    int
        Number of values that were not finite.
    """
    n_channel = phasors.shape[2]
    shape = (phasors.shape[0] * len(order.swapped), n_channel, out.shape[2])
    if out.shape != flags.shape or out.shape[0] != shape[0] or out.shape[1] < first_channel + n_channel:
        raise ShapeError(f"out {out.shape}, flags {flags.shape} and phasors {phasors.shape} do not fit")
    _require_cover(raw.starts, raw.tile, raw.first_row, shape)
    ends, rows = (order.recorded1, order.recorded2), (order.destination, order.swapped)
    place = (raw.first_row, first_channel)
    arguments = (raw.flat, raw.starts, raw.tile, phasors, ends, rows, raw.descending, place, out, flags)
    return int(_rephase_tiles(*arguments))


def _require_cover(starts: Ints, tile: tuple[int, int, int], first_row: int, shape: tuple[int, int, int]) -> None:
    wanted = (shape[0] + first_row, *shape[1:])
    if starts.shape != tuple(-(-n // t) for n, t in zip(wanted, tile, strict=True)):
        raise ShapeError(f"{starts.shape} tiles of {tile} do not cover {shape} from row {first_row}")


@njit(nogil=True, cache=True)
def _sum_tiles(flat, starts, tile, first_row, shape, sums):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    tile_rows, tile_channels, tile_pols = tile
    _, n_channel, n_pol = shape
    for row in range(sums.size):
        i, inside = (row + first_row) // tile_rows, (row + first_row) % tile_rows
        total = 0.0
        for c in range(n_channel):
            k = c // tile_channels
            at = (inside * tile_channels + c - k * tile_channels) * tile_pols
            for p in range(n_pol):
                total += flat[starts[i, k, p // tile_pols] + at + p % tile_pols]
        sums[row] = total


def mean_of_rows(
    flat: npt.NDArray[np.float32],
    starts: Ints,
    tile: tuple[int, int, int],
    shape: tuple[int, int, int],
    *,
    first_row: int = 0,
) -> Floats:
    """Mean over channels and polarisations of each row of a tiled array (layout as in :class:`TiledVisibilities`).

    Parameters
    ----------
    flat : (n,) float32
        The buffer.
    starts, tile
        Where tiles start in it, and their shape.
    shape
        (n_row, n_channel, n_pol) of the array.
    first_row
        Row of the first tile that is the array's row 0.

    Returns
    -------
    (n_row,) float
    """
    _require_cover(starts, tile, first_row, shape)
    sums = np.zeros(shape[0])
    _sum_tiles(flat, starts, tile, first_row, shape, sums)
    return sums / (shape[1] * shape[2])


@dataclass(frozen=True, eq=False)
class UvwComparison:
    """Recorded against recomputed baseline coordinates.

    Attributes
    ----------
    max_discrepancy_m
        Largest |recorded - recomputed|, metres.
    rotation_arcsec : (3,) float
        Rotation vector about the u, v and w axes that turns the recomputed into the recorded coordinates. A positive
        first number: the data are phased that much further north than the header says.
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
    recorded, recomputed = np.asarray(recorded_m, dtype=np.float64), np.asarray(recomputed_m, dtype=np.float64)
    if recorded.shape != recomputed.shape or recorded.ndim != 2:
        raise ShapeError(f"uvw of shapes {recorded.shape} and {recomputed.shape} cannot be compared")
    discrepancy = np.linalg.norm(recorded - recomputed, axis=1).max()
    u, _, vt = np.linalg.svd(recorded.T @ recomputed)
    handed = np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    rotation = u @ handed @ vt
    residual = np.linalg.norm(recorded - recomputed @ rotation.T, axis=1).max()
    return UvwComparison(float(discrepancy), _rotation_vector_arcsec(rotation), float(residual))


def _rotation_vector_arcsec(rotation: Floats) -> tuple[float, float, float]:
    """Axis times angle (below half a turn) of a rotation matrix."""
    skew = 0.5 * np.array(
        [rotation[2, 1] - rotation[1, 2], rotation[0, 2] - rotation[2, 0], rotation[1, 0] - rotation[0, 1]]
    )
    sine, cosine = float(np.linalg.norm(skew)), 0.5 * float(np.trace(rotation) - 1.0)
    vector = skew * (np.arctan2(sine, cosine) / sine if sine > 0 else 1.0) * ARCSEC_PER_RADIAN
    return float(vector[0]), float(vector[1]), float(vector[2])


def thermal_sigma_jy(sefd_jy: float, channel_width_hz: float, integration_s: float) -> float:
    """Noise (standard deviation of the real or imaginary part) of one visibility: SEFD / sqrt(2 bandwidth time), Jy."""
    return float(sefd_jy / np.sqrt(2.0 * channel_width_hz * integration_s))
