"""Previews of images: PNG bytes, labelled, with beam and colour bar."""

from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt
from astropy.wcs import WCS

THUMBNAIL_PIXELS = 900
"""Longest side of the image in a preview, pixels."""
_ZOOM_ARCMIN = 12.0
_TICKS_MJY = (-100, -30, -10, -3, -1, -0.3, 0, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3000, 10000)


def shrink_image(image: npt.NDArray[np.floating], longest: int) -> tuple[npt.NDArray[np.float32], int]:
    """Image made smaller by a whole factor, each new pixel the value of largest size in its block (sources stay).

    Returns
    -------
    small : (ny // factor, nx // factor) float32
    factor
    """
    factor = max(1, int(np.ceil(max(image.shape) / longest)))
    ny, nx = (n // factor for n in image.shape)
    blocks = image[: ny * factor, : nx * factor].reshape(ny, factor, nx, factor).swapaxes(1, 2).reshape(ny, nx, -1)
    size = np.where(np.isfinite(blocks), np.abs(blocks), -1.0)
    small = np.take_along_axis(blocks, size.argmax(axis=-1)[..., None], axis=-1)[..., 0]
    return np.asarray(small, np.float32), factor


def stretch_limits(image: npt.NDArray[np.floating], rms: float) -> tuple[float, float]:
    """Colour range: -3 rms to the greater of 30 rms and the 99.95th percentile."""
    finite = image[np.isfinite(image)]
    if not finite.size:
        return -1.0, 1.0
    return -3.0 * rms, max(30.0 * rms, float(np.percentile(finite, 99.95)))


def render_thumbnail(
    image: npt.NDArray[np.floating],
    wcs: WCS,
    *,
    title: str,
    rms_jyb: float,
    beam: tuple[float, float, float] | None = None,
    marks_deg: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]] | None = None,
) -> bytes:
    """Preview of an image with sky coordinates, colour bar and a close-up of its brightest pixel with the beam.

    Parameters
    ----------
    image : (ny, nx)
        Jy/beam; blanks are NaN.
    wcs
        Celestial world coordinates.
    title
        Heading.
    rms_jyb
        Noise; sets the colour scale (arcsinh, linear below 3 rms).
    beam
        BMAJ, BMIN, BPA in degrees; drawn in the close-up.
    marks_deg
        (ra, dec) of positions to circle.

    Returns
    -------
    bytes
        PNG.
    """
    from astropy.visualization.wcsaxes import WCSAxes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import AsinhNorm
    from matplotlib.figure import Figure

    rms = rms_jyb if np.isfinite(rms_jyb) and rms_jyb > 0 else 1e-3
    small, factor = shrink_image(image, THUMBNAIL_PIXELS)
    low, high = stretch_limits(image, rms)
    norm = AsinhNorm(linear_width=6e3 * rms, vmin=1e3 * low, vmax=1e3 * high)
    figure = Figure(figsize=(10.5, 8.0), dpi=100, layout=None)
    canvas = FigureCanvasAgg(figure)
    axes = WCSAxes(figure, [0.08, 0.08, 0.76, 0.84], wcs=wcs[::factor, ::factor] if factor > 1 else wcs)
    figure.add_axes(axes)
    shown = axes.imshow(1e3 * small, norm=norm, origin="lower", cmap="inferno", interpolation="nearest")
    axes.set_title(title)
    axes.coords[0].set_axislabel("right ascension (ICRS)")
    axes.coords[1].set_axislabel("declination (ICRS)")
    axes.coords.grid(color="white", alpha=0.15, linestyle=":")
    if marks_deg is not None:
        axes.scatter(*marks_deg, transform=axes.get_transform("icrs"), s=30, edgecolor="cyan", facecolor="none", lw=0.5)
    bar = figure.colorbar(shown, cax=figure.add_axes((0.87, 0.08, 0.02, 0.52)))
    bar.set_label("mJy/beam")
    bar.set_ticks([tick for tick in _TICKS_MJY if 1e3 * low <= tick <= 1e3 * high])
    bar.ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    bar.minorticks_off()
    _draw_close_up(figure, image, wcs, norm=norm, beam=beam)
    out = BytesIO()
    canvas.print_png(out)
    return out.getvalue()


def _draw_close_up(
    figure: Any,
    image: npt.NDArray[np.floating],
    wcs: WCS,
    *,
    norm: Any,
    beam: tuple[float, float, float] | None,
) -> None:
    """A square of 12 arcmin about the brightest pixel, and the beam in its corner."""
    from matplotlib.patches import Ellipse

    if not np.isfinite(image).any():
        return
    cell_deg = float(abs(wcs.wcs.cdelt[1]))
    half = max(4, int(_ZOOM_ARCMIN / 120.0 / cell_deg))
    y, x = np.unravel_index(int(np.nanargmax(image)), image.shape)
    cut = image[max(0, y - half) : y + half + 1, max(0, x - half) : x + half + 1]
    axes = figure.add_axes((0.855, 0.68, 0.14, 0.19))
    axes.imshow(1e3 * cut, norm=norm, origin="lower", cmap="inferno", interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    arcmin = 60.0 * cell_deg * cut.shape[1]
    axes.set_title(f"brightest, {1e3 * float(image[y, x]):.1f}\n{arcmin:.0f}′ wide", fontsize=8)
    if beam is None:
        return
    bmaj, bmin, pa = beam
    # position angle is east of north, that is counter-clockwise from up on the page (x grows to the west)
    corner = (0.5 * bmaj / cell_deg + 3, 0.5 * bmaj / cell_deg + 3)
    axes.add_patch(
        Ellipse(corner, bmin / cell_deg, bmaj / cell_deg, angle=pa, facecolor="white", edgecolor="black", lw=0.5)
    )
    axes.set_xlabel(f"beam {3600 * bmaj:.0f}″ × {3600 * bmin:.0f}″, {pa:.0f}°", fontsize=8)
