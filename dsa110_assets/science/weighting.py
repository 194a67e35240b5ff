"""Imaging weights: natural, uniform and Briggs, with the noise that they cost."""

from typing import Literal

import numba
import numpy as np
import numpy.typing as npt

from dsa110_assets.science.beam import SPEED_OF_LIGHT_M_S
from dsa110_assets.science.errors import SolveError

Weighting = Literal["natural", "uniform", "briggs"]


@numba.njit(cache=True, nogil=True, parallel=True)
def _grid_weights(u, v, wavenumber, weights, du, dv, shape, n_threads):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Sum of weights per uv cell of the half plane v >= 0, one private grid per thread."""
    n_v, n_u = shape
    grids = np.zeros((n_threads, n_v, n_u), np.float32)
    for k in numba.prange(n_threads):
        for row in range(k, u.size, n_threads):
            for c in range(wavenumber.size):
                if weights[row, c] > 0.0:
                    x, y = u[row] * wavenumber[c] / du, v[row] * wavenumber[c] / dv
                    if y < 0.0:
                        x, y = -x, -y
                    i, j = int(np.round(x)) + n_u // 2, int(np.round(y))
                    if 0 <= i < n_u and j < n_v:
                        grids[k, j, i] += weights[row, c]
    for k in range(1, n_threads):
        grids[0] += grids[k]
    return grids[0]


@numba.njit(cache=True, nogil=True, parallel=True)
def _apply_grid(u, v, wavenumber, weights, du, dv, grid, factor, offset):  # type: ignore[no-untyped-def]  # pragma: no cover
    n_v, n_u = grid.shape
    out = np.zeros_like(weights)
    for row in numba.prange(u.size):
        for c in range(wavenumber.size):
            if weights[row, c] > 0.0:
                x, y = u[row] * wavenumber[c] / du, v[row] * wavenumber[c] / dv
                if y < 0.0:
                    x, y = -x, -y
                i, j = int(np.round(x)) + n_u // 2, int(np.round(y))
                if 0 <= i < n_u and j < n_v:
                    out[row, c] = weights[row, c] / (offset + grid[j, i] * factor)
    return out


@numba.njit(cache=True, nogil=True, parallel=True)
def _sum_variance(imaging, natural):  # type: ignore[no-untyped-def]  # pragma: no cover
    """(sum w^2 / n, sum w) over samples with natural weight n > 0."""
    variance, total = 0.0, 0.0
    for k in numba.prange(imaging.size):
        if natural[k] > 0.0:
            w = np.float64(imaging[k])
            variance += w * w / natural[k]
            total += w
    return variance, total


def imaging_weights(
    uvw_m: npt.NDArray[np.float64],
    frequencies_hz: npt.NDArray[np.float64],
    weights: npt.NDArray[np.float32],
    *,
    field_rad: tuple[float, float],
    weighting: Weighting = "briggs",
    robust: float = 0.5,
) -> npt.NDArray[np.float32]:
    """Weights with which the visibilities are gridded.

    Briggs: w' = w / (1 + W f^2), f^2 = (5 10^-R)^2 / (sum W^2 / sum w), W the summed weight of the uv cell; uniform:
    w' = w / W. Cells are 1 / field wide, so the weights do not depend on the pixel size.

    Parameters
    ----------
    uvw_m : (n_row, 3)
        Metres.
    frequencies_hz : (n_channel,)
        Hz.
    weights : (n_row, n_channel)
        Natural weights, 0 where flagged.
    field_rad
        Width and height of the image, radians.
    weighting, robust
        ``natural``, ``uniform`` or ``briggs`` with its robustness (-2 uniform … 2 natural).

    Returns
    -------
    (n_row, n_channel) float32

    Raises
    ------
    SolveError
        If every sample is flagged.

    References
    ----------
    Briggs, D. 1995, PhD thesis, New Mexico Tech, §3.
    """
    if not np.any(weights > 0):
        raise SolveError("all visibilities are flagged: there is nothing to image")
    if weighting == "natural":
        return weights
    wavenumber = np.asarray(frequencies_hz, np.float64) / SPEED_OF_LIGHT_M_S
    u, v = np.ascontiguousarray(uvw_m[:, 0]), np.ascontiguousarray(uvw_m[:, 1])
    du, dv = 1.0 / field_rad[0], 1.0 / field_rad[1]
    n_u = 2 * int(np.ceil(np.abs(u).max() * wavenumber.max() / du)) + 3
    n_v = int(np.ceil(np.abs(v).max() * wavenumber.max() / dv)) + 2
    grid = _grid_weights(u, v, wavenumber, weights, du, dv, (n_v, n_u), numba.get_num_threads())
    if weighting == "uniform":
        return np.asarray(_apply_grid(u, v, wavenumber, weights, du, dv, grid, 1.0, 0.0), np.float32)
    squares, total = float(np.sum(grid.astype(np.float64) ** 2)), float(np.sum(grid, dtype=np.float64))
    factor = (5.0 * 10.0**-robust) ** 2 / (squares / total)
    return np.asarray(_apply_grid(u, v, wavenumber, weights, du, dv, grid, factor, 1.0), np.float32)


def weighted_thermal_rms(
    imaging: npt.NDArray[np.float32], natural: npt.NDArray[np.float32], *, sample_sigma_jy: float, sample_weight: float
) -> float:
    """Thermal noise of an image made with given weights, Jy/beam.

    sigma = sqrt(sum w_i^2 s_i^2) / sum w_i with s_i^2 = s_1^2 / N_i, N_i = natural weight / weight of one sample, s_1
    the noise of the real part of one sample (Wrobel & Walker 1999, ASPC 180, 171).

    Parameters
    ----------
    imaging, natural
        Imaging and natural weights, the same shape.
    sample_sigma_jy, sample_weight
        Noise (Jy) and natural weight of one unflagged input sample.
    """
    variance, total = _sum_variance(imaging.ravel(), natural.ravel())
    return float(sample_sigma_jy * np.sqrt(variance * sample_weight) / total)
