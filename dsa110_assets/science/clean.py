"""CLEAN of what the catalogue left: Clark's minor cycles between exact subtractions from the visibilities.

Högbom 1974, A&AS 15, 417; Clark 1980, A&A 89, 377; Schwab 1984, AJ 89, 1076 (subtraction from the visibilities).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numba
import numpy as np
import numpy.typing as npt
from pydantic import BaseModel
from scipy.ndimage import binary_dilation

from dsa110_assets.science.errors import ShapeError

Image = npt.NDArray[np.float32]


class CleanOptions(BaseModel, frozen=True):
    """How deep to CLEAN."""

    max_components: int = 20_000
    """Most components."""
    gain: float = 0.1
    """Share of the peak taken in a component."""
    mgain: float = 0.8
    """Share of the highest peak taken before the visibilities are subtracted again."""
    auto_mask: float = 5.0
    """Peaks above this many rms enter the mask."""
    auto_threshold: float = 3.0
    """Pixels within the mask are cleaned down to this many rms."""
    mask_radius: int = 3
    """Pixels by which the mask grows about a peak."""
    max_major_cycles: int = 12
    """Subtractions from the visibilities."""
    core_radius: int = 30
    """Pixels about the PSF's peak that count as its main lobe; beyond are sidelobes."""


@dataclass(frozen=True)
class CleanResult:
    """Components and what they leave.

    Attributes
    ----------
    model : (ny, nx) float32
        Components, Jy per pixel, apparent.
    residual : (ny, nx) float32
        Jy/beam, with the model subtracted from the visibilities.
    n_components
        Minor iterations.
    n_major
        Subtractions from the visibilities.
    """

    model: Image
    residual: Image
    n_components: int
    n_major: int


@numba.njit(cache=True, nogil=True)
def _minor_cycle(values, y, x, psf, limits, stop, gain, max_components, found):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Take components among listed pixels until the highest is below ``stop`` or its own limit; count them."""
    y0, x0 = psf.shape[0] // 2, psf.shape[1] // 2
    for iteration in range(max_components):
        best, peak = -1, 0.0
        for k in range(values.size):
            size = abs(values[k])
            if size > limits[k] and size > peak:
                best, peak = k, size
        if best < 0 or peak < stop:
            return iteration
        flux = gain * values[best]
        found[best] += flux
        for k in range(values.size):
            values[k] -= flux * psf[y0 + y[k] - y[best], x0 + x[k] - x[best]]
    return max_components


def take_components(
    residual: Image, psf: Image, limit: Image, mask: npt.NDArray[np.bool_], *, stop: float, options: CleanOptions
) -> tuple[Image, int]:
    """One run of minor cycles: the components found among the pixels of a mask.

    Only the listed pixels are followed (Clark), which is exact for them: the PSF is known at every offset between two
    pixels of the image.

    Parameters
    ----------
    residual, limit : (ny, nx)
        Jy/beam, and the value below which a pixel is left alone.
    psf : (2 ny, 2 nx)
        Unit peak at (ny, nx).
    mask : (ny, nx) bool
        Where components may be.
    stop
        Highest absolute value at which to end, Jy/beam.

    Returns
    -------
    components : (ny, nx) float32
        Jy per pixel.
    n_components
    """
    if psf.shape != (2 * residual.shape[0], 2 * residual.shape[1]):
        raise ShapeError(f"psf {psf.shape} is not twice the image {residual.shape}")
    y, x = np.nonzero(mask & np.isfinite(residual))
    values = residual[y, x].astype(np.float64)
    found = np.zeros(len(y))
    limits = limit[y, x].astype(np.float64)
    n = int(_minor_cycle(values, y, x, psf, limits, stop, options.gain, options.max_components, found))
    components = np.zeros_like(residual)
    components[y, x] = found
    return components, n


def measure_sidelobe(psf: Image, core_radius: int) -> float:
    """Highest absolute value of a PSF outside a square about its peak, (0-1)."""
    y0, x0 = psf.shape[0] // 2, psf.shape[1] // 2
    size = np.abs(psf)
    size[max(0, y0 - core_radius) : y0 + core_radius + 1, max(0, x0 - core_radius) : x0 + core_radius + 1] = 0.0
    return float(size.max())


def clean_residual(
    dirty: Image,
    psf: Image,
    rms: Image,
    subtract: Callable[[Image], Image],
    *,
    options: CleanOptions | None = None,
    mask: npt.NDArray[np.bool_] | None = None,
) -> CleanResult:
    """CLEAN with a mask that grows from the image, subtracting from the visibilities in major cycles.

    Parameters
    ----------
    dirty, rms : (ny, nx)
        Dirty image and local rms, Jy/beam.
    psf : (2 ny, 2 nx)
        Unit peak at (ny, nx).
    subtract
        Makes the dirty image of the visibilities minus a model image (Jy per pixel).
    mask : (ny, nx) bool, optional
        Pixels that may be cleaned besides those the image itself shows.
    """
    options = options or CleanOptions()
    model, residual = np.zeros_like(dirty), dirty
    sidelobe = measure_sidelobe(psf, options.core_radius)
    allowed = np.zeros(dirty.shape, np.bool_) if mask is None else mask.copy()
    n_components = n_major = 0
    while n_major < options.max_major_cycles and n_components < options.max_components:
        # what may be a sidelobe of the highest peak waits until that is subtracted
        doubtful = 1.2 * sidelobe * float(np.abs(residual).max())
        peaks = np.abs(residual) > np.maximum(options.auto_mask * rms, doubtful)
        if peaks.any():
            allowed |= binary_dilation(peaks, iterations=options.mask_radius)
        limit = np.asarray(options.auto_threshold * rms, np.float32)
        open_pixels = allowed & (np.abs(residual) > limit)
        if not open_pixels.any():
            break
        stop = max(1.0 - options.mgain, sidelobe) * float(np.abs(residual[open_pixels]).max())
        left = options.model_copy(update={"max_components": options.max_components - n_components})
        found, n = take_components(residual, psf, limit, allowed, stop=stop, options=left)
        if n == 0:
            break
        model = model + found
        residual = subtract(model)
        n_components, n_major = n_components + n, n_major + 1
    return CleanResult(model, residual, n_components, n_major)
