"""Averages of visibility blocks in time and channel, for the ``fast`` solves."""

import numba
import numpy as np
import numpy.typing as npt

from dsa110_assets.science.errors import ShapeError


def group_channels(n_channel: int, factor: int) -> int:
    """Number of averaged channels.

    Raises
    ------
    ShapeError
        If the factor does not divide the number of channels.
    """
    if n_channel % factor:
        raise ShapeError(f"{n_channel} channels cannot be averaged by {factor}: take a divisor")
    return n_channel // factor


def average_visibilities(
    data: npt.NDArray[np.complex64], flags: npt.NDArray[np.bool_], factors: tuple[int, int]
) -> tuple[npt.NDArray[np.complex64], npt.NDArray[np.bool_]]:
    """Mean of the unflagged samples; flagged where there is none.

    Parameters
    ----------
    data, flags : (n_time, n_bl, n_chan, n_pol)
    factors
        Integrations and channels averaged; the last average of a block may hold fewer integrations.
    """
    n_time, n_bl, n_chan, n_pol = data.shape
    shape = (-(-n_time // factors[0]), n_bl, group_channels(n_chan, factors[1]), n_pol)
    mean = np.zeros(shape, np.complex64)
    empty = np.zeros(shape, bool)
    _average(data, flags, factors[0], factors[1], mean, empty)
    return mean, empty


def average_times(model: npt.NDArray[np.complex64], factor: int) -> npt.NDArray[np.complex64]:
    """Mean over integrations of a model of shape (n_time, n_bl, n_chan)."""
    starts = np.arange(0, len(model), factor)
    counts = np.diff(np.append(starts, len(model)))
    return np.asarray(np.add.reduceat(model, starts, axis=0) / counts[:, None, None], dtype=np.complex64)


@numba.njit(cache=True, nogil=True, error_model="numpy", parallel=True)
def _average(data, flags, in_time, in_channel, mean, empty):  # type: ignore[no-untyped-def]
    n_time = data.shape[0]
    n_out, n_bl, n_chan, n_pol = mean.shape
    for k in numba.prange(n_bl):
        for t in range(n_out):
            for c in range(n_chan):
                for p in range(n_pol):
                    total = np.complex64(0)
                    count = 0
                    for i in range(t * in_time, min((t + 1) * in_time, n_time)):
                        for j in range(c * in_channel, (c + 1) * in_channel):
                            value = data[i, k, j, p]
                            if not flags[i, k, j, p] and np.isfinite(value.real) and np.isfinite(value.imag):
                                total += value
                                count += 1
                    mean[t, k, c, p] = total / np.float32(max(count, 1))
                    empty[t, k, c, p] = count == 0


def average_bandpass(gains: npt.NDArray[np.complex128], factor: int) -> npt.NDArray[np.complex64]:
    """Mean bandpass (n_ant, n_chan, n_pol) over groups of channels, 0 where none of a group has a solution."""
    n_ant, n_chan, n_pol = gains.shape
    grouped = gains.reshape(n_ant, group_channels(n_chan, factor), factor, n_pol)
    count = np.count_nonzero(grouped, axis=2)
    return np.asarray(grouped.sum(axis=2) / np.maximum(count, 1), dtype=np.complex64)


def expand_bandpass(
    gains: npt.NDArray[np.complex64],
    delays_ns: npt.NDArray[np.float64],
    coarse_hz: npt.NDArray[np.float64],
    fine_hz: npt.NDArray[np.float64],
) -> npt.NDArray[np.complex64]:
    """Bandpass of averaged channels on the channels of the data.

    The delay is taken out, the rest is interpolated linearly (held beyond the outer centres), the delay put back.

    Parameters
    ----------
    gains : (n_ant, n_coarse, n_pol) complex64
        0 where there is no solution; such channels are bridged.
    delays_ns : (n_ant, n_pol) float
        NaN counts as 0.
    coarse_hz, fine_hz
        Ascending channel centres, Hz.

    Returns
    -------
    (n_ant, n_fine, n_pol) complex64
    """
    tau = 1e-9 * np.nan_to_num(delays_ns)[:, None, :]
    flat = gains * np.exp(-2j * np.pi * coarse_hz[None, :, None] * tau)
    fine = np.zeros((gains.shape[0], len(fine_hz), gains.shape[2]), np.complex128)
    for a, p in np.argwhere(np.any(gains != 0, axis=1)):
        good = gains[a, :, p] != 0
        fine[a, :, p] = np.interp(fine_hz, coarse_hz[good], flat[a, good, p])
    return np.asarray(fine * np.exp(2j * np.pi * fine_hz[None, :, None] * tau), dtype=np.complex64)
