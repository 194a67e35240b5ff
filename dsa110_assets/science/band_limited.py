"""Images between their pixels: values, gradients and curvatures of a band-limited image at any position.

A dirty image or PSF holds no spatial frequency beyond its longest baseline, so a windowed sinc returns it as far as
the window's transition allows: here to 1e-4 of what there is up to 0.3 cycles per pixel (three pixels per fringe of the
longest baseline).
"""

from __future__ import annotations

from functools import cache

import numba
import numpy as np
import numpy.typing as npt
from scipy.interpolate import make_interp_spline

Floats = npt.NDArray[np.float64]

TAPS = 16
"""Pixels used along each axis."""
_KAISER_BETA = 9.0
"""Window shape: transition of 0.19 cycles per pixel, ripple below 1e-4."""
_OVERSAMPLING = 2048
"""Table entries per pixel; linear interpolation between them is good to 1e-6 of the curvature."""


@cache
def kernel_table() -> Floats:
    """Kernel sinc(t) Kaiser(t) and its first two derivatives, (3, n), for t from -TAPS/2 to TAPS/2."""
    half = TAPS // 2
    t = np.arange(-half * _OVERSAMPLING, half * _OVERSAMPLING + 1) / _OVERSAMPLING
    window = np.i0(_KAISER_BETA * np.sqrt(np.clip(1.0 - (t / half) ** 2, 0.0, 1.0))) / np.i0(_KAISER_BETA)
    spline = make_interp_spline(t, np.sinc(t) * window, k=5)
    table = np.stack([spline(t), spline.derivative(1)(t), spline.derivative(2)(t)])
    table.flags.writeable = False
    return np.asarray(table)


@numba.njit(cache=True, nogil=True, inline="always")
def _weights(table, oversampling, offset, weights):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Kernel and derivatives at the taps, for a position ``offset`` (0 to 1) beyond the pixel of tap TAPS / 2 - 1.

    A value at x is sum_i image[i] k(x - i): derivatives with respect to x are those of k.
    """
    taps = weights.shape[1]
    for tap in range(taps):
        position = (offset - (tap - (taps // 2 - 1)) + taps // 2) * oversampling
        index = min(max(int(position), 0), table.shape[1] - 2)
        fraction = position - index
        for order in range(3):
            weights[order, tap] = table[order, index] * (1.0 - fraction) + table[order, index + 1] * fraction


@numba.njit(cache=True, nogil=True)
def _read_one(image, x, y, table, oversampling, wx, wy, out):  # type: ignore[no-untyped-def]  # pragma: no cover
    """(f, fx, fy, fxx, fxy, fyy) at (x, y); pixels beyond the border count as 0."""
    ny, nx = image.shape
    taps = wx.shape[1]
    column, row = int(np.floor(x)), int(np.floor(y))
    _weights(table, oversampling, x - column, wx)
    _weights(table, oversampling, y - row, wy)
    out[:] = 0.0
    for b in range(taps):
        j = row + b - (taps // 2 - 1)
        if j < 0 or j >= ny:
            continue
        value, slope, curvature = 0.0, 0.0, 0.0
        for a in range(taps):
            i = column + a - (taps // 2 - 1)
            if 0 <= i < nx:
                pixel = np.float64(image[j, i])
                value += wx[0, a] * pixel
                slope += wx[1, a] * pixel
                curvature += wx[2, a] * pixel
        out[0] += wy[0, b] * value
        out[1] += wy[0, b] * slope
        out[2] += wy[1, b] * value
        out[3] += wy[0, b] * curvature
        out[4] += wy[1, b] * slope
        out[5] += wy[2, b] * value


@numba.njit(cache=True, nogil=True, parallel=True)
def _read_many(image, x, y, table, oversampling, out):  # type: ignore[no-untyped-def]  # pragma: no cover
    taps = (table.shape[1] - 1) // oversampling
    for k in numba.prange(x.size):
        wx, wy = np.empty((3, taps)), np.empty((3, taps))
        _read_one(image, x[k], y[k], table, oversampling, wx, wy, out[k])


@numba.njit(cache=True, nogil=True, parallel=True)
def _read_differences(image, x, y, centre, table, oversampling, out):  # type: ignore[no-untyped-def]  # pragma: no cover
    """The image at centre + x_k - x_l for all k <= l, mirrored: f and its second derivatives are even, first odd."""
    taps = (table.shape[1] - 1) // oversampling
    for k in numba.prange(x.size):
        wx, wy, one = np.empty((3, taps)), np.empty((3, taps)), np.empty(6)
        for m in range(k, x.size):
            _read_one(image, centre[0] + x[k] - x[m], centre[1] + y[k] - y[m], table, oversampling, wx, wy, one)
            for term in range(6):
                out[term, k, m] = one[term]
                out[term, m, k] = -one[term] if term in (1, 2) else one[term]


def read_band_limited(image: npt.NDArray[np.floating], x: Floats, y: Floats) -> Floats:
    """Value, gradient and second derivatives of an image at positions between its pixels.

    Parameters
    ----------
    image : (ny, nx) float32 or float64
        Band-limited to 0.3 cycles per pixel; beyond its border it counts as 0.
    x, y : (n,)
        0-based pixel coordinates.

    Returns
    -------
    (6, n) float
        f, df/dx, df/dy, d2f/dx2, d2f/dxdy, d2f/dy2, per pixel; NaN where a pixel used is NaN.
    """
    out = np.empty((x.size, 6))
    _read_many(np.ascontiguousarray(image), x, y, kernel_table(), _OVERSAMPLING, out)
    return np.ascontiguousarray(out.T)


def read_pair_offsets(image: npt.NDArray[np.floating], x: Floats, y: Floats) -> Floats:
    """The same for an even function (a PSF, centre at (ny // 2, nx // 2)) at the offsets between all pairs of points.

    Parameters
    ----------
    image : (ny, nx)
        Even about its centre.
    x, y : (n,)
        Pixel coordinates whose differences are the offsets.

    Returns
    -------
    (6, n, n) float
        [term, k, l] at x_k - x_l.
    """
    centre = np.array([image.shape[1] // 2, image.shape[0] // 2], dtype=np.float64)
    out = np.empty((6, x.size, x.size))
    _read_differences(np.ascontiguousarray(image), x, y, centre, kernel_table(), _OVERSAMPLING, out)
    return out
