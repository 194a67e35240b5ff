"""Compiled loops of the flagging: one pass over the visibilities, one over the flags, window sums."""

import numba
import numpy as np
import numpy.typing as npt

Bools = npt.NDArray[np.bool_]
Floats32 = npt.NDArray[np.float32]
Floats64 = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@numba.njit(nogil=True, cache=True)
def measure_amplitudes(
    data: npt.NDArray[np.complex64],
    skip: Bools,
    weight: Floats32,
    bad: Bools,
    spectrum: tuple[Floats64, Ints],
    level: tuple[Floats64, Ints],
) -> None:
    """Find zeros and NaN of one integration and sum the amplitudes over baselines and over channels.

    Parameters
    ----------
    data : (n_bl, n_chan, n_pol) complex64
        Visibilities.
    skip : (n_bl,) bool
        Baselines left out of the spectrum (autocorrelations).
    weight : (n_bl, n_pol) float32
        1 / typical amplitude of the baseline; 0 leaves it out of the spectrum.
    bad : (n_bl, n_chan, n_pol) bool
        Set True at samples that are exactly zero or not finite.
    spectrum : (n_chan, n_pol) sums and counts
        Weighted amplitude sums over baselines, added to.
    level : (n_bl, n_pol) sums and counts
        Amplitude sums over channels, added to.
    """
    for b in range(data.shape[0]):
        for c in range(data.shape[1]):
            for p in range(data.shape[2]):
                value = data[b, c, p]
                square = value.real * value.real + value.imag * value.imag
                if not (square > 0.0 and square < np.inf):
                    bad[b, c, p] = True
                    continue
                bad[b, c, p] = False
                amplitude = np.sqrt(square)
                level[0][b, p] += amplitude
                level[1][b, p] += 1
                if not skip[b] and weight[b, p] > 0.0:
                    spectrum[0][c, p] += amplitude * weight[b, p]
                    spectrum[1][c, p] += 1


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
