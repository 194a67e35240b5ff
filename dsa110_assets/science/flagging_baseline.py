"""Interference that only some baselines see: SumThreshold on the amplitudes of each baseline, compiled.

The background of a plane (integrations by channels of one baseline and polarisation) is a running mean over channels
of what is not flagged, its noise the standard deviation of the rest; thresholds fall from round to round, so that
strong interference does not hide weak (Offringa et al. 2010, MNRAS 405, 155).
"""

import numba
import numpy as np
import numpy.typing as npt

from dsa110_assets.science.flagging_kernels import widen_by_rank

Bools = npt.NDArray[np.bool_]
Floats32 = npt.NDArray[np.float32]

BACKGROUND_CHANNELS = 13
"""Length of the running mean over channels."""
ROUNDS = 3
LONGEST_IN_FREQUENCY = 8


@numba.njit(nogil=True, cache=True)
def find_baseline_interference(amplitude: Floats32, flags: Bools, base_threshold: float, rank_eta: float) -> None:
    """Add interference to the flags of some baselines, in place; found in one polarisation, it is bad in all.

    Parameters
    ----------
    amplitude : (n_bl, n_time, n_chan, n_pol) float32
        |V|.
    flags : (n_bl, n_time, n_chan, n_pol) bool
        What is known to be bad; completed.
    base_threshold
        Last threshold, in standard deviations of the plane over the square root of the window.
    rank_eta
        For the rank operator over time, then frequency.
    """
    n_bl, n_time, n_chan, n_pol = amplitude.shape
    values, excess = np.empty((n_time, n_chan), np.float32), np.empty((n_time, n_chan), np.float32)
    known, mine = np.empty((n_time, n_chan), np.bool_), np.empty((n_time, n_chan), np.bool_)
    found = np.empty((n_time, n_chan), np.bool_)
    for b in range(n_bl):
        found[:] = False
        for p in range(n_pol):
            values[:] = amplitude[b, :, :, p]
            known[:] = flags[b, :, :, p]
            mine[:] = known
            for k in range(ROUNDS):
                subtract_background(values, mine, BACKGROUND_CHANNELS // 2, excess)
                noise = _measure_noise(excess, mine)
                mine[:] = known
                limit = noise * base_threshold * 2.0 ** (ROUNDS - 1 - k)
                _threshold_over_time(excess, mine, limit)
                _threshold_over_frequency(excess, mine, limit)
            for t in range(n_time):
                for c in range(n_chan):
                    found[t, c] |= mine[t, c] and not known[t, c]
        if found.any():
            over_time = found.T.copy()
            widen_by_rank(over_time, rank_eta)
            found[:] = over_time.T
            widen_by_rank(found, rank_eta)
            for p in range(n_pol):
                flags[b, :, :, p] |= found


@numba.njit(nogil=True, cache=True)
def subtract_background(values: Floats32, flags: Bools, half: int, out: Floats32) -> None:
    """Subtract the running mean of the unflagged over 2 half + 1 channels; flagged planes give 0."""
    n_time, n_chan = values.shape
    total, number = np.zeros(n_chan + 1, np.float32), np.zeros(n_chan + 1, np.float32)
    for t in range(n_time):
        for c in range(n_chan):
            use = np.float32(0.0) if flags[t, c] else np.float32(1.0)
            total[c + 1] = total[c] + (values[t, c] if use > 0 else np.float32(0.0))
            number[c + 1] = number[c] + use
        overall = total[n_chan] / max(number[n_chan], np.float32(1.0))
        for c in range(n_chan):
            low, high = max(0, c - half), min(n_chan, c + half + 1)
            n = number[high] - number[low]
            out[t, c] = values[t, c] - ((total[high] - total[low]) / n if n > 2 else overall)


@numba.njit(nogil=True, cache=True)
def _measure_noise(excess: Floats32, flags: Bools) -> float:
    """Standard deviation of the unflagged, clipped at three of its own, twice."""
    clip, sigma = np.inf, 0.0
    for _ in range(3):
        total, n = 0.0, 0
        for t in range(excess.shape[0]):
            for c in range(excess.shape[1]):
                square = np.float64(excess[t, c]) * excess[t, c]
                if not flags[t, c] and square <= clip:
                    total += square
                    n += 1
        sigma = np.sqrt(total / n) if n else 0.0
        clip = 9.0 * sigma * sigma
    return sigma


@numba.njit(nogil=True, cache=True)
def _threshold_over_time(excess: Floats32, flags: Bools, limit: float) -> None:
    """Windows of 1, 2, 4, ... integrations; all channels advance together."""
    n_time, n_chan = excess.shape
    total, number = np.empty(n_chan, np.float32), np.empty(n_chan, np.float32)
    length = 1
    while length <= n_time:
        before = flags.copy()
        total[:] = 0.0
        number[:] = 0.0
        for t in range(n_time):
            for c in range(n_chan):
                if not before[t, c]:
                    total[c] += excess[t, c]
                    number[c] += 1
                if t >= length and not before[t - length, c]:
                    total[c] -= excess[t - length, c]
                    number[c] -= 1
            if t >= length - 1:
                for c in range(n_chan):
                    if number[c] > 0 and total[c] > limit * np.sqrt(number[c]):
                        flags[t - length + 1 : t + 1, c] = True
        length *= 2


@numba.njit(nogil=True, cache=True)
def _threshold_over_frequency(excess: Floats32, flags: Bools, limit: float) -> None:
    """Windows of 1, 2, 4, 8 channels."""
    n_time, n_chan = excess.shape
    length = 2
    while length <= LONGEST_IN_FREQUENCY:
        for t in range(n_time):
            before = flags[t].copy()
            total, n = np.float32(0.0), 0
            for c in range(n_chan):
                if not before[c]:
                    total += excess[t, c]
                    n += 1
                if c >= length and not before[c - length]:
                    total -= excess[t, c - length]
                    n -= 1
                if c >= length - 1 and n > 0 and total > limit * np.sqrt(n):
                    flags[t, c - length + 1 : c + 1] = True
        length *= 2
