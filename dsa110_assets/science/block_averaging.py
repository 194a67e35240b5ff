"""Averages of visibility blocks in time and channel, for the ``fast`` solves."""

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
    good = ~flags & np.isfinite(data.real) & np.isfinite(data.imag)
    total = _sum_blocks(np.where(good, data, 0), factors)
    count = _sum_blocks(good.astype(np.float32), factors)
    mean = total / np.where(count > 0, count, 1.0)
    return mean.astype(np.complex64), np.asarray(count == 0)


def average_times(model: npt.NDArray[np.complex64], factor: int) -> npt.NDArray[np.complex64]:
    """Mean over integrations of a model of shape (n_time, n_bl, n_chan)."""
    total = _sum_blocks(model[..., None], (factor, 1))[..., 0]
    counts = np.diff(np.append(np.arange(0, len(model), factor), len(model)))
    return (total / counts[:, None, None]).astype(np.complex64)


def _sum_blocks(array: npt.NDArray[np.inexact], factors: tuple[int, int]) -> npt.NDArray[np.inexact]:
    n_time, n_bl, n_chan, n_pol = array.shape
    in_time = np.add.reduceat(array, np.arange(0, n_time, factors[0]), axis=0)
    shape = (len(in_time), n_bl, group_channels(n_chan, factors[1]), factors[1], n_pol)
    return np.asarray(in_time.reshape(shape).sum(axis=3))


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
