"""Sources of the joint solve that no catalogue has: peaks of the residual, with each other's side lobes taken out."""

from __future__ import annotations

import logging

import numpy as np
import numpy.typing as npt
from scipy.ndimage import maximum_filter
from scipy.spatial import cKDTree

from dsa110_assets.science.band_limited import TAPS, read_band_limited
from dsa110_assets.science.components import Components
from dsa110_assets.science.joint_options import JointOptions
from dsa110_assets.science.residual import ResidualImage

logger = logging.getLogger(__name__)
Floats = npt.NDArray[np.float64]


def find_new_sources(
    residual: ResidualImage, rms: npt.NDArray[np.floating], known: Components, options: JointOptions
) -> Components:
    """Point sources that stand out of a residual image and lie apart from every known component.

    Local maxima of image / local rms above ``new_source_snr``, taken from the brightest down; what the PSFs of those
    already taken put at the others is subtracted first, so that side lobes are not sources.

    Parameters
    ----------
    residual : ResidualImage
        Image with the known components subtracted.
    rms : (ny, nx)
        Local rms, Jy/beam.
    known : Components
        Nothing within one BMAJ of them is new.
    options : JointOptions
        Thresholds.

    Returns
    -------
    Components
        At ``residual.frequency_hz``, with flux densities corrected for the primary beam; perhaps none.
    """
    x, y = _peaks(residual, rms, options)
    if x.size:
        x, y = _away_from(known, residual, x, y)
    if not x.size:
        return _components(residual, x, y, x, options)
    x, y, peak = _refine(residual.image, x, y)
    noise = rms[np.rint(y).astype(np.int64), np.rint(x).astype(np.int64)].astype(np.float64)
    taken, flux = _take(residual, x, y, peak, options.new_source_snr * noise)
    if len(taken) > options.max_new_sources:
        logger.warning(
            "%d new sources in one residual: only the %d brightest are kept", len(taken), options.max_new_sources
        )
        taken, flux = taken[: options.max_new_sources], flux[: options.max_new_sources]
    return _components(residual, x[taken], y[taken], flux, options)


def _peaks(residual: ResidualImage, rms: npt.NDArray[np.floating], options: JointOptions) -> tuple[Floats, Floats]:
    image = residual.image
    width = max(3, int(0.5 * residual.beam[1] / residual.cell_deg) | 1)
    with np.errstate(invalid="ignore"):
        high = (image > options.new_source_snr * rms) & (residual.primary_beam >= options.min_primary_beam)
    high[: TAPS // 2], high[-TAPS // 2 :], high[:, : TAPS // 2], high[:, -TAPS // 2 :] = False, False, False, False
    if not high.any():
        return np.zeros(0), np.zeros(0)
    top = high & (image == maximum_filter(np.nan_to_num(image), size=width))
    rows, columns = np.nonzero(top)
    return columns.astype(np.float64), rows.astype(np.float64)


def _away_from(known: Components, residual: ResidualImage, x: Floats, y: Floats) -> tuple[Floats, Floats]:
    if not len(known):
        return x, y
    known_x, known_y = residual.pixels(known.ra_deg, known.dec_deg)
    usable = np.isfinite(known_x) & np.isfinite(known_y)
    tree = cKDTree(np.stack([known_x[usable], known_y[usable]], axis=1))
    distance, _ = tree.query(np.stack([x, y], axis=1))
    apart = distance > residual.beam[0] / residual.cell_deg
    return x[apart], y[apart]


def _refine(image: npt.NDArray[np.floating], x: Floats, y: Floats) -> tuple[Floats, Floats, Floats]:
    """Sub-pixel maxima by two Newton steps of at most one pixel."""
    at_x, at_y = x.copy(), y.copy()
    for _ in range(2):
        _, gx, gy, xx, xy, yy = read_band_limited(image, at_x, at_y)
        determinant = xx * yy - xy**2
        peaked = (xx < 0) & (determinant > 0)
        safe = np.where(peaked, determinant, 1.0)
        at_x = np.clip(at_x - np.where(peaked, (yy * gx - xy * gy) / safe, 0.0), x - 1.0, x + 1.0)
        at_y = np.clip(at_y - np.where(peaked, (xx * gy - xy * gx) / safe, 0.0), y - 1.0, y + 1.0)
    return at_x, at_y, read_band_limited(image, at_x, at_y)[0]


def _take(
    residual: ResidualImage, x: Floats, y: Floats, peak: Floats, threshold: Floats
) -> tuple[npt.NDArray[np.int64], Floats]:
    """Peaks, brightest first, that stay above their threshold when the PSFs of those taken are subtracted."""
    ra, dec = residual.wcs.wcs_pix2world(x, y, 0)
    offset_x, offset_y = residual.offset_pixels(ra, dec)
    psf_y, psf_x = residual.psf_center
    left = peak.copy()
    taken: list[int] = []
    flux: list[float] = []
    while True:
        brightest = int(np.argmax(left / threshold))
        if not left[brightest] > threshold[brightest]:
            return np.array(taken, np.int64), np.array(flux)
        taken.append(brightest)
        flux.append(float(left[brightest]))
        response = read_band_limited(
            residual.psf, psf_x + offset_x - offset_x[brightest], psf_y + offset_y - offset_y[brightest]
        )[0]
        left = left - flux[-1] * response
        left[brightest] = -np.inf


def _components(residual: ResidualImage, x: Floats, y: Floats, peak: Floats, options: JointOptions) -> Components:
    ra, dec = residual.wcs.wcs_pix2world(x, y, 0) if x.size else (x, y)
    response = residual.primary_beam[np.rint(y).astype(np.int64), np.rint(x).astype(np.int64)]
    names = [source_name(*position) for position in zip(ra, dec, strict=True)]
    return Components(
        source_id=np.array(names, dtype=np.str_),
        ra_deg=np.asarray(ra, np.float64),
        dec_deg=np.asarray(dec, np.float64),
        flux_jy=np.asarray(peak / response, np.float64),
        freq_ghz=np.full(x.size, residual.frequency_hz / 1e9),
        spectral_index=np.full(x.size, options.new_source_spectral_index),
    )


def source_name(ra_deg: float, dec_deg: float) -> str:
    """IAU-style name of a new source, ``DSA JHHMMSS.s+DDMMSS``: coordinates truncated, not rounded."""
    tenths = int((ra_deg % 360.0) / 15.0 * 36000.0 + 1e-6)
    seconds = int(abs(dec_deg) * 3600.0 + 1e-6)
    hours = f"{tenths // 36000:02d}{tenths // 600 % 60:02d}{tenths % 600 // 10:02d}.{tenths % 10}"
    sign = "-" if dec_deg < 0 else "+"
    return f"DSA J{hours}{sign}{seconds // 3600:02d}{seconds // 60 % 60:02d}{seconds % 60:02d}"
