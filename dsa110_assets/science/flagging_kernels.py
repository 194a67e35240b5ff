"""Compiled loops of the flagging: one pass over the visibilities, one over the flags, window sums."""

from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt

Bools = npt.NDArray[np.bool_]
Floats32 = npt.NDArray[np.float32]
Floats64 = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class Tally(NamedTuple):
    """Sums of one integration.

    Attributes
    ----------
    amplitude : (n_chan, n_pol) float
        Sum over baselines of weighted amplitudes.
    roughness : (n_chan, n_pol) float
        Sum over baselines of weighted squares of the second difference over channels.
    number, rough_number : (n_chan, n_pol) int
        Baselines in these sums.
    level : (n_bl, n_pol) float
        Sum over channels of amplitudes.
    level_number : (n_bl, n_pol) int
        Channels in it.
    rough_level : (n_bl, n_pol) float
        Sum over channels of the second difference's modulus; counted as ``level`` less the two end channels.
    """

    amplitude: Floats64
    roughness: Floats64
    number: Ints
    rough_number: Ints
    level: Floats64
    level_number: Ints
    rough_level: Floats64


@numba.njit(nogil=True, cache=True)
def measure_integration(data: npt.NDArray[np.complex64], weight: Floats32, bad: Bools, tally: Tally) -> bool:
    """Find zeros and NaN of one integration and sum amplitudes and roughness.

    Parameters
    ----------
    data : (n_bl, n_chan, n_pol) complex64
        Visibilities.
    weight : (n_bl, n_pol, 2) float32
        1 / typical amplitude of the baseline and 1 / typical squared roughness; 0 leaves it out of the spectra.
    bad : (n_bl, n_chan, n_pol) bool
        Written: True at samples that are exactly zero or not finite.
    tally : Tally
        Added to.

    Returns
    -------
    bool
        Whether anything is bad.
    """
    n_chan, n_pol = data.shape[1], data.shape[2]
    square = np.empty((n_chan, n_pol), np.float32)
    any_bad = False
    for b in range(data.shape[0]):
        row = data[b]
        low, total = np.float32(np.inf), np.float32(0.0)
        for c in range(n_chan):
            for p in range(n_pol):
                square[c, p] = row[c, p].real * row[c, p].real + row[c, p].imag * row[c, p].imag
                low = min(low, square[c, p])
                total += square[c, p]
        if low > 0.0 and total < np.inf:
            bad[b] = False
            _tally_clean(row, square, weight[b], b, tally)
        else:
            any_bad = True
            _tally_holes(row, square, weight[b], (b, bad[b]), tally)
    return any_bad


@numba.njit(nogil=True, cache=True, fastmath=True)
def _tally_clean(
    row: npt.NDArray[np.complex64], square: Floats32, weight: Floats32, baseline: int, tally: Tally
) -> None:
    """Add a baseline without holes."""
    n_chan, n_pol = row.shape
    for p in range(n_pol):
        w, w_rough = weight[p]
        total = np.float32(0.0)
        for c in range(n_chan):
            amplitude = np.sqrt(square[c, p])
            total += amplitude
            tally.amplitude[c, p] += amplitude * w
        tally.level[baseline, p] += total
        tally.level_number[baseline, p] += n_chan
        total = np.float32(0.0)
        for c in range(1, n_chan - 1):
            re = row[c, p].real - np.float32(0.5) * (row[c - 1, p].real + row[c + 1, p].real)
            im = row[c, p].imag - np.float32(0.5) * (row[c - 1, p].imag + row[c + 1, p].imag)
            rough = re * re + im * im
            total += np.sqrt(rough)
            tally.roughness[c, p] += rough * w_rough
        tally.rough_level[baseline, p] += total
        if w > 0.0:
            for c in range(n_chan):
                tally.number[c, p] += 1
            for c in range(1, n_chan - 1):
                tally.rough_number[c, p] += 1


@numba.njit(nogil=True, cache=True)
def _tally_holes(
    row: npt.NDArray[np.complex64], square: Floats32, weight: Floats32, holes: tuple[int, Bools], tally: Tally
) -> None:
    """Add a baseline with zeros or NaN, which are marked; differences across them are left out."""
    baseline, bad = holes
    n_chan, n_pol = row.shape
    for p in range(n_pol):
        w, w_rough = weight[p]
        for c in range(n_chan):
            bad[c, p] = not (square[c, p] > 0.0 and square[c, p] < np.inf)
        for c in range(n_chan):
            if bad[c, p]:
                continue
            amplitude = np.sqrt(square[c, p])
            tally.level[baseline, p] += amplitude
            tally.level_number[baseline, p] += 1
            if w > 0.0:
                tally.amplitude[c, p] += amplitude * w
                tally.number[c, p] += 1
            if 0 < c < n_chan - 1 and not bad[c - 1, p] and not bad[c + 1, p]:
                rough = abs(row[c, p] - np.float32(0.5) * (row[c - 1, p] + row[c + 1, p]))
                tally.rough_level[baseline, p] += rough
                if w > 0.0:
                    tally.roughness[c, p] += rough * rough * w_rough
                    tally.rough_number[c, p] += 1


@numba.njit(nogil=True, cache=True)
def combine_flags(flags: Bools, channel_mask: Bools, receptor_mask: Bools, counts: Ints, row_flags: Bools) -> None:
    """Add the masks of one integration to its flags and count.

    Parameters
    ----------
    flags : (n_bl, n_chan, n_pol) bool
        Zeros and NaN (and what was known before); completed in place.
    channel_mask : (n_chan, n_pol) bool
        Bad on all baselines.
    receptor_mask : (n_bl, n_pol) bool
        Bad in all channels.
    counts : (n_bl, n_chan) int
        Flagged polarisations, added to.
    row_flags : (n_bl,) bool
        Set where everything is flagged.
    """
    for b in range(flags.shape[0]):
        everything = True
        for c in range(flags.shape[1]):
            for p in range(flags.shape[2]):
                flags[b, c, p] = flags[b, c, p] or channel_mask[c, p] or receptor_mask[b, p]
                if flags[b, c, p]:
                    counts[b, c] += 1
                else:
                    everything = False
        row_flags[b] = everything


@numba.njit(nogil=True, cache=True)
def sum_threshold(values: Floats64, flags: Bools, length: int, limit: float, floor: float) -> None:
    """Flag every run of ``length`` samples along the last axis whose unflagged mean is too high, in place.

    One pass of SumThreshold (Offringa et al. 2010, MNRAS 405, 155): samples flagged before the pass do not count, a
    run is flagged whole. Here the mean of the n that count is held against limit / sqrt(n), and against ``floor``, so
    that a lone sample between flagged ones is not judged by a long window's limit. Arrays are (n, m).
    """
    for row in range(values.shape[0]):
        before = flags[row].copy()
        total, n = 0.0, 0
        for k in range(values.shape[1]):
            if not before[k]:
                total += values[row, k]
                n += 1
            if k >= length and not before[k - length]:
                total -= values[row, k - length]
                n -= 1
            if k >= length - 1 and n > 0 and total > max(limit * np.sqrt(n), floor * n):
                flags[row, k - length + 1 : k + 1] = True


@numba.njit(nogil=True, cache=True)
def widen_by_rank(flags: Bools, eta: float) -> None:
    """Scale-invariant rank operator along the last axis of (n, m) flags, in place.

    A sample is flagged when it lies in a run of which a share of at least 1 - eta is flagged (Offringa, van de Gronde
    & Roerdink 2012, A&A 539, A95; their linear-time algorithm).
    """
    m = flags.shape[1]
    prefix, lowest, highest = np.empty(m + 1), np.empty(m + 1), np.empty(m + 1)
    for row in range(flags.shape[0]):
        prefix[0] = 0.0
        for k in range(m):
            prefix[k + 1] = prefix[k] + (eta if flags[row, k] else eta - 1.0)
        lowest[0] = prefix[0]
        for k in range(1, m + 1):
            lowest[k] = min(lowest[k - 1], prefix[k])
        highest[m] = prefix[m]
        for k in range(m - 1, -1, -1):
            highest[k] = max(highest[k + 1], prefix[k])
        for k in range(m):
            flags[row, k] = highest[k + 1] - lowest[k] >= -1e-12
