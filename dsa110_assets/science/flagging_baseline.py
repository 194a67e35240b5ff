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


@numba.njit(nogil=True, cache=True, fastmath=True)
def _accumulate(values: Floats32, sign: float, total: Floats32) -> None:
    factor = np.float32(sign)
    for c in range(total.shape[0]):
        total[c] += factor * values[c]


@numba.njit(nogil=True, cache=True)
def _threshold_over_time(excess: Floats32, flags: Bools, limit: float) -> None:
    """Windows of 1, 2, 4, ... integrations; all channels advance together."""
    n_time, n_chan = excess.shape
    counted, used = np.empty((n_time, n_chan), np.float32), np.empty((n_time, n_chan), np.float32)
    total, number = np.empty(n_chan, np.float32), np.empty(n_chan, np.float32)
    square = np.float32(limit * limit)
    length = 1
    while length <= n_time:
        for t in range(n_time):
            for c in range(n_chan):
                used[t, c] = np.float32(0.0) if flags[t, c] else np.float32(1.0)
                counted[t, c] = excess[t, c] * used[t, c]
        total[:] = 0.0
        number[:] = 0.0
        for t in range(n_time):
            _accumulate(counted[t], 1.0, total)
            _accumulate(used[t], 1.0, number)
            if t >= length:
                _accumulate(counted[t - length], -1.0, total)
                _accumulate(used[t - length], -1.0, number)
            if t >= length - 1 and _any_above(total, number, square):
                for c in range(n_chan):
                    if total[c] > 0.0 and total[c] * total[c] > square * number[c] and number[c] > 0.5:
                        flags[t - length + 1 : t + 1, c] = True
        length *= 2


@numba.njit(nogil=True, cache=True, fastmath=True)
def _any_above(total: Floats32, number: Floats32, square: float) -> bool:
    """Whether any window's sum exceeds the limit times the root of its number; sums are of excesses."""
    highest = np.float32(-1.0)
    for c in range(total.shape[0]):
        above = total[c] * abs(total[c]) - square * number[c]
        highest = max(highest, above)
    return bool(highest > 0.0)


@numba.njit(nogil=True, cache=True)
def _threshold_over_frequency(excess: Floats32, flags: Bools, limit: float) -> None:
    """Windows of 2, 4, 8 channels; a window's sums are made by doubling."""
    n_time, n_chan = excess.shape
    sums, numbers = np.zeros((2, n_chan), np.float32), np.zeros((2, n_chan), np.float32)
    square = np.float32(limit * limit)
    for t in range(n_time):
        length = 2
        while length <= min(LONGEST_IN_FREQUENCY, n_chan):
            row = flags[t]
            for c in range(n_chan):
                numbers[0, c] = np.float32(0.0) if row[c] else np.float32(1.0)
                sums[0, c] = excess[t, c] * numbers[0, c]
            half, now = 1, 0
            while half < length:
                _double(sums[now], half, sums[1 - now])
                _double(numbers[now], half, numbers[1 - now])
                half, now = 2 * half, 1 - now
            n = n_chan - length + 1
            if _any_above(sums[now, :n], numbers[now, :n], square):
                for c in range(n):
                    part, number = sums[now, c], numbers[now, c]
                    if part > 0.0 and part * part > square * number and number > 0.5:
                        row[c : c + length] = True
            length *= 2


@numba.njit(nogil=True, cache=True, fastmath=True)
def _double(values: Floats32, half: int, out: Floats32) -> None:
    """Sums of windows twice as long, values[c] + values[c + half]; the last ``half`` are left short."""
    ahead = values[half:]
    for c in range(ahead.shape[0]):
        out[c] = values[c] + ahead[c]
