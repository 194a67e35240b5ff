"""Local background and local rms of an image: sigma-clipped statistics of a mesh, filtered and interpolated."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, Field
from scipy.ndimage import distance_transform_edt, median_filter
from scipy.stats import norm

from dsa110_assets.science.errors import ScienceError, ShapeError

Floats = npt.NDArray[np.float64]
_SIGMA_FROM_QUARTILES = 1.0 / (2.0 * float(norm.ppf(0.75)))


class BackgroundOptions(BaseModel, frozen=True):
    """How the mesh is made."""

    box_pixels: int = Field(default=100, ge=8)
    """Width of a mesh box, pixels: at least six synthesized beams, and small against real changes of the noise."""
    clip_sigma: float = Field(default=3.0, ge=1.5, le=6.0)
    """Values further from the median than this many sigma are left out."""
    max_iterations: int = Field(default=10, ge=1)
    """Rounds of clipping; they end when nothing more is left out."""
    min_valid_fraction: float = Field(default=0.2, gt=0, le=1)
    """A box with fewer finite pixels takes the value of its nearest good neighbour."""
    filter_boxes: int = Field(default=3, ge=1)
    """Width of the median filter over the mesh, boxes: takes out boxes filled by a source."""


@dataclass(frozen=True)
class BackgroundMaps:
    """Local background and rms, each (ny, nx) float32 in the unit of the image, finite wherever any box was."""

    background: npt.NDArray[np.float32]
    rms: npt.NDArray[np.float32]


def measure_background(image: npt.NDArray[np.floating], *, options: BackgroundOptions | None = None) -> BackgroundMaps:
    """Background and rms maps of an image.

    In every box: median and standard deviation of the values within ``clip_sigma`` of the median, iterated; the
    standard deviation is corrected for the tails that clipping takes off a Gaussian. The mesh is median-filtered and
    interpolated linearly between box centres.

    Parameters
    ----------
    image : (ny, nx)
        Any unit; pixels that are not finite are left out.
    options : BackgroundOptions
        None: the defaults.

    Returns
    -------
    BackgroundMaps
        All NaN when the image has no finite pixel.

    Raises
    ------
    ShapeError
        If ``image`` is not two-dimensional.
    """
    options = options or BackgroundOptions()
    if image.ndim != 2 or 0 in image.shape:
        raise ShapeError(f"an image has two axes of at least one pixel, got shape {image.shape}")
    boxes, centres = _cut_boxes(image, options.box_pixels)
    middle, spread = _clipped_statistics(boxes.reshape(-1, boxes.shape[-1]), options)
    shape = boxes.shape[:2]
    maps = [
        _interpolate(_filtered(m.reshape(shape), options.filter_boxes), centres, image.shape) for m in (middle, spread)
    ]
    return BackgroundMaps(*maps)


def _cut_boxes(image: npt.NDArray[np.floating], box: int) -> tuple[npt.NDArray[np.float32], tuple[Floats, Floats]]:
    """Pixels of every box, (n_y, n_x, pixels) padded with NaN, and the pixel coordinates of the box centres."""
    counts = [max(1, round(n / box)) for n in image.shape]
    sizes = [-(-n // k) for n, k in zip(image.shape, counts, strict=True)]
    counts = [-(-n // size) for n, size in zip(image.shape, sizes, strict=True)]
    padded = np.full([k * size for k, size in zip(counts, sizes, strict=True)], np.nan, np.float32)
    padded[: image.shape[0], : image.shape[1]] = image
    padded[~np.isfinite(padded)] = np.nan
    boxes = padded.reshape(counts[0], sizes[0], counts[1], sizes[1]).swapaxes(1, 2)
    centres = [
        0.5 * (np.arange(k) * size + np.minimum((np.arange(k) + 1) * size, n) - 1.0)
        for n, k, size in zip(image.shape, counts, sizes, strict=True)
    ]
    return boxes.reshape(counts[0], counts[1], -1), (centres[0], centres[1])


def _clipped_statistics(boxes: npt.NDArray[np.float32], options: BackgroundOptions) -> tuple[Floats, Floats]:
    """Clipped median and standard deviation of every row; NaN for rows with too few finite values."""
    values = np.sort(boxes, axis=1)  # NaN last: every clipped set is a slice, and every quantile an element
    valid = np.isfinite(values).sum(axis=1)
    enough = valid >= max(2.0, options.min_valid_fraction * boxes.shape[1])
    low, high = np.zeros(len(values), np.int64), np.where(enough, valid, 2)
    values = np.where(enough[:, None], values, 0.0).astype(np.float32, copy=False)
    for _ in range(options.max_iterations):
        median = _quantile(values, low, high, 0.5)
        sigma = _SIGMA_FROM_QUARTILES * (_quantile(values, low, high, 0.75) - _quantile(values, low, high, 0.25))
        reach = options.clip_sigma * sigma
        below = (values < (median - reach)[:, None]).sum(axis=1)
        above = (values <= (median + reach)[:, None]).sum(axis=1)
        new_low, new_high = np.maximum(low, below), np.minimum(high, above)
        if np.array_equal(new_low, low) and np.array_equal(new_high, high):
            break
        low, high = new_low, new_high
    median = _quantile(values, low, high, 0.5)
    inside = np.arange(values.shape[1])
    kept = (inside >= low[:, None]) & (inside < high[:, None])
    deviation = np.where(kept, values - median[:, None].astype(np.float32), np.float32(0.0))
    variance = np.einsum("ij,ij->i", deviation, deviation, dtype=np.float64) / np.maximum(high - low - 1, 1)
    spread = np.sqrt(variance) / _clipping_loss(options.clip_sigma)
    return np.where(enough, median, np.nan), np.where(enough, spread, np.nan)


def _quantile(
    values: npt.NDArray[np.float32], low: npt.NDArray[np.int64], high: npt.NDArray[np.int64], fraction: float
) -> Floats:
    """Linearly interpolated quantile of the sorted slice [low, high) of every row."""
    position = low + fraction * (high - 1 - low)
    index = np.floor(position).astype(np.int64)
    rows = np.arange(len(values))
    lower, upper = values[rows, index], values[rows, np.minimum(index + 1, high - 1)]
    return np.asarray(lower + (position - index) * (upper - lower), np.float64)


def _clipping_loss(clip_sigma: float) -> float:
    """Standard deviation of a unit Gaussian cut at +- clip_sigma: sqrt(1 - 2 c phi(c) / (2 Phi(c) - 1))."""
    return float(np.sqrt(1.0 - 2.0 * clip_sigma * norm.pdf(clip_sigma) / (2.0 * norm.cdf(clip_sigma) - 1.0)))


def _filtered(mesh: Floats, width: int) -> Floats:
    """Boxes without a value take their nearest neighbour's; then a running median."""
    missing = ~np.isfinite(mesh)
    if missing.all():
        return mesh
    if missing.any():
        nearest = distance_transform_edt(missing, return_distances=False, return_indices=True)
        mesh = mesh[tuple(np.asarray(nearest))]
    return np.asarray(median_filter(mesh, size=min(width, *mesh.shape), mode="nearest"))


def _interpolate(mesh: Floats, centres: tuple[Floats, Floats], shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """Linear interpolation between box centres, constant beyond the outermost."""
    rows, columns = (_linear_weights(c, n) for c, n in zip(centres, shape, strict=True))
    return np.asarray((rows @ mesh.astype(np.float32)) @ columns.T, np.float32)


def _linear_weights(centres: Floats, n: int) -> npt.NDArray[np.float32]:
    """Matrix (n, n_centres) that turns values at the centres into values at every pixel."""
    identity = np.eye(len(centres))
    pixels = np.arange(n, dtype=np.float64)
    return np.stack([np.interp(pixels, centres, row) for row in identity], axis=1).astype(np.float32)


def require_positive(rms: npt.ArrayLike) -> None:
    """Raise if an rms has no positive value at all: nothing can be measured against it."""
    values = np.asarray(rms, dtype=np.float64)
    if not np.any(values > 0):
        raise ScienceError("the rms map has no positive value: give the rms of the image, in its unit")
