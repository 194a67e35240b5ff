"""Applying gains to visibilities, compiled and threaded."""

from collections.abc import Sequence
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from dsa110_assets.science.gains import Flags, Floats, GainTable, interpolate_gains

Complex64s = npt.NDArray[np.complex64]
Ints = npt.NDArray[np.int64]


def combine_gains(
    static: Sequence[GainTable], gains: Sequence[GainTable], frequencies_hz: Floats, times_mjd: Floats
) -> Complex64s:
    """Product of all tables at the data's channels and times, in the antenna order of the first table.

    Parameters
    ----------
    static
        Delay and bandpass tables of one time each, constant over the data.
    gains
        Gain tables, interpolated in time (phases linearly between bracketing ones); may be empty.
    frequencies_hz : (n_chan,) float
    times_mjd : (n_time,) float

    Returns
    -------
    (n_time or 1, n_ant, n_chan, n_pol) complex64
        One time when nothing varies; 0 where any table has no solution.
    """
    names = static[0].antenna_names
    total = np.ones((1, len(names), len(frequencies_hz), static[0].gains.shape[3]), np.complex128)
    for table in static:
        values, flags = table.for_antennas(names).at_frequencies(frequencies_hz)
        total = total * np.where(flags, 0.0, values)
    if gains:
        ordered = [table.for_antennas(names) for table in gains]
        times = times_mjd if sum(len(t.times_mjd) for t in ordered) > 1 else times_mjd[:1]
        values, flags = interpolate_gains(ordered, times)
        channels = ordered[0].frequencies_hz
        nearest = np.argmin(np.abs(frequencies_hz[:, None] - channels[None]), axis=1)
        total = total * np.where(flags, 0.0, values)[:, :, nearest]
    return total.astype(np.complex64)


def invert_gains(gains: Complex64s) -> Complex64s:
    """1 / g, and 0 where g is 0 or not finite."""
    good = np.isfinite(gains.real) & np.isfinite(gains.imag) & (gains != 0)
    return np.where(good, 1.0 / np.where(good, gains, 1.0), 0.0).astype(np.complex64)


def apply_gains(
    data: Complex64s, flags: Flags, inverse: Complex64s, antennas: tuple[Ints, Ints]
) -> tuple[Complex64s, int, int]:
    """Corrected visibilities ``V / (g_i conj(g_j))``; flags are added in place.

    Samples without a gain, or that are not finite, become flagged zeros.

    Parameters
    ----------
    data : (n_time, n_bl, n_chan, n_pol) complex64
    flags : (n_time, n_bl, n_chan, n_pol) bool
        Changed in place.
    inverse : (n_time or 1, n_ant, n_chan, n_pol) complex64
        From :func:`invert_gains`.
    antennas
        Antenna indices (i, j) of each baseline.

    Returns
    -------
    corrected : like ``data``
    n_flagged
        Samples flagged here.
    n_zero
        Unflagged samples whose corrected value is exactly zero.
    """
    corrected = np.empty_like(data)
    new, zero = _apply(data, flags, np.ascontiguousarray(inverse), *antennas, corrected)
    return corrected, int(new.sum()), int(zero.sum())


def _jit(**options: Any) -> Any:
    return numba.njit(cache=True, nogil=True, error_model="numpy", **options)


@_jit(parallel=True)
def _apply(data, flags, inverse, ant1, ant2, corrected):  # type: ignore[no-untyped-def]
    n_time, n_bl, n_chan, n_pol = data.shape
    new = np.zeros(n_bl, np.int64)
    zero = np.zeros(n_bl, np.int64)
    varies = inverse.shape[0] > 1
    for k in numba.prange(n_bl):
        i, j = ant1[k], ant2[k]
        for t in range(n_time):
            g = t if varies else 0
            for c in range(n_chan):
                for p in range(n_pol):
                    factor = inverse[g, i, c, p] * np.conj(inverse[g, j, c, p])
                    value = data[t, k, c, p] * factor
                    power = value.real * value.real + value.imag * value.imag
                    if (factor.real == 0 and factor.imag == 0) or not np.isfinite(power):
                        value = np.complex64(0)
                        if not flags[t, k, c, p]:
                            flags[t, k, c, p] = True
                            new[k] += 1
                    elif power == 0 and not flags[t, k, c, p]:
                        zero[k] += 1
                    corrected[t, k, c, p] = value
    return new, zero
