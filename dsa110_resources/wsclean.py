"""WSClean as an imager: its command line is built by a pure function, run with a time-out, its images are judged.

It is given a small Measurement Set of averaged residuals (the seeded model subtracted), so that it can neither
overwrite the model nor touch the group's data; the seeds are restored onto what it returns.
"""

import logging
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from astropy.io import fits

from dsa110_assets.science.clean import CleanOptions, measure_sidelobe
from dsa110_assets.science.components import Components
from dsa110_assets.science.noise import image_rms
from dsa110_resources.archive import staging_sibling
from dsa110_resources.averaged_set import write_averaged_set
from dsa110_resources.errors import CorruptInputError
from dsa110_resources.image_products import CleanedImage, Job, apparent_fluxes, restore_catalogue, write_products
from dsa110_resources.imaging_options import (
    ImagePaths,
    ImagingDivergedError,
    ImagingOptions,
    ImagingReport,
    Provenance,
)
from dsa110_resources.imaging_plan import ImagingPlan
from dsa110_resources.process import run_command
from dsa110_resources.residual_imaging import ResidualImager

logger = logging.getLogger(__name__)

Image = npt.NDArray[np.float32]
Runner = Callable[..., Any]
"""As `process.run_command`."""


@dataclass(frozen=True)
class WSCleanRequest:
    """One call of WSClean.

    Attributes
    ----------
    ms
        Measurement Set with the single correlation XX in DATA.
    prefix
        First part of the names of its images.
    size
        (nx, ny), pixels.
    cell_arcsec
        Pixel size in the frame of the uvw, arcsec.
    beam
        Restoring beam: BMAJ, BMIN (deg), BPA (deg).
    mgain
        Share of the peak cleaned between subtractions from the visibilities.
    mask
        FITS mask, or None.
    """

    ms: Path
    prefix: Path
    size: tuple[int, int]
    cell_arcsec: float
    beam: tuple[float, float, float]
    mgain: float
    mask: Path | None = None


def build_wsclean_command(request: WSCleanRequest, options: ImagingOptions) -> list[str]:
    """Command line of WSClean 3.

    Always the wgridder: with the default gridder CLEAN diverged silently (exit status 0, rms 10^6 times the noise).
    No primary beam correction by WSClean: it knows no beam of this telescope, and ours is averaged over the drift.
    """
    tier = options.numbers
    robust = [f"{options.robust:g}"] if options.weighting == "briggs" else []
    bmaj, bmin, pa = request.beam
    command = ["wsclean", "-name", str(request.prefix), "-no-update-model-required"]
    command += ["-use-wgridder", "-wgridder-accuracy", f"{tier.accuracy:g}"]
    command += ["-size", str(request.size[0]), str(request.size[1]), "-scale", f"{request.cell_arcsec:.9f}asec"]
    command += ["-data-column", "DATA", "-pol", "xx", "-weight", options.weighting, *robust]
    command += ["-beam-shape", f"{3600 * bmaj:.6f}", f"{3600 * bmin:.6f}", f"{pa:.6f}"]
    command += ["-niter", str(tier.niter), "-mgain", f"{request.mgain:g}"]
    command += ["-auto-mask", f"{tier.auto_mask:g}", "-auto-threshold", f"{tier.auto_threshold:g}"]
    command += ["-temp-dir", str(request.prefix.parent)]
    if options.min_uv_lambda > 0:
        command += ["-minuv-l", f"{options.min_uv_lambda:g}"]
    if request.mask is not None:
        command += ["-fits-mask", str(request.mask)]
    if options.n_threads > 0:
        command += ["-j", str(options.n_threads)]
    return [*command, str(request.ms)]


def choose_seeds(components: Components, apparent_jy: npt.NDArray[np.float64], options: ImagingOptions) -> Components:
    """Components subtracted before CLEAN and restored after: a calibrator in the field first, else the catalogue.

    Parameters
    ----------
    components
        The catalogue.
    apparent_jy : (n,)
        Flux density through the primary beam, Jy.
    """
    nothing = components.select(np.zeros(len(components), dtype=np.bool_))
    if options.seed == "none":
        return nothing
    calibrators = apparent_jy >= options.seed_calibrator_jy
    if options.seed == "calibrator_first" and calibrators.any():
        return components.select(calibrators)
    return components.select(components.flux_jy >= 1e-3 * options.seed_min_mjy)


def draw_mask(
    components: Components, plan: ImagingPlan, *, radius_arcsec: float, min_mjy: float
) -> npt.NDArray[np.bool_]:
    """Circles about the catalogue sources of at least ``min_mjy``, (ny, nx)."""
    geometry = plan.geometry
    bright = components.select(components.flux_jy >= 1e-3 * min_mjy)
    x, y = geometry.wcs().wcs_world2pix(bright.ra_deg, bright.dec_deg, 0)
    mask = np.zeros((geometry.ny, geometry.nx), np.bool_)
    radius = radius_arcsec / geometry.cell_arcsec
    reach = int(np.ceil(radius))
    for cx, cy in zip(x, y, strict=True):
        if not (-reach <= cx < geometry.nx + reach and -reach <= cy < geometry.ny + reach):
            continue  # not finite, or outside
        i0, j0 = max(0, int(cx) - reach), max(0, int(cy) - reach)
        part = mask[j0 : int(cy) + reach + 2, i0 : int(cx) + reach + 2]
        j, i = np.indices(part.shape)
        part |= (i + i0 - cx) ** 2 + (j + j0 - cy) ** 2 <= radius**2
    return mask


def choose_mgain(psf: Image, mgain: float) -> float:
    """Share of the peak that may be cleaned between subtractions: not below twice the highest far sidelobe.

    With sidelobes of 16 per cent (32 antennas, a narrow band) and mgain 0.8 the minor cycles of WSClean 3.1 ran away to
    10^35 Jy and it ended with status 0 and a residual of zeros; with 0.6 they converge.
    """
    sidelobe = measure_sidelobe(psf, CleanOptions().core_radius)
    return float(np.clip(1.0 - 2.0 * sidelobe, 0.1, mgain))


def require_convergence(dirty: Image, residual: Image, image: Image, *, ratio: float, path: Path) -> float:
    """Residual rms, Jy/beam, if CLEAN made the image no worse.

    Parameters
    ----------
    dirty, residual, image : (ny, nx)
        Before CLEAN, after it, and restored, Jy/beam.
    ratio
        Greatest rms and peak allowed, in units of the dirty image's.
    path
        Measurement Set, for the message.

    Raises
    ------
    ImagingDivergedError
        If residual or image are not finite, a rms or peak exceeds ``ratio`` times the dirty image's, or the residual is
        zero (what WSClean writes after an overflow).
    """
    before, after = image_rms(dirty), image_rms(residual)
    peak_before = float(np.abs(dirty).max())
    peak_after = max(float(np.abs(residual).max()), float(np.abs(image).max()))  # NaN compares as false below
    if 0.0 < after <= ratio * before and peak_after <= ratio * peak_before and np.isfinite(image).all():
        return after
    raise ImagingDivergedError(
        f"CLEAN diverged: rms {1e3 * before:.3g} mJy/beam before, {1e3 * after:.3g} after; "
        f"peak {peak_before:.3g} Jy before, {peak_after:.3g} after",
        path=path,
        cure="image with DSA110_IMAGER=native, or lower mgain; look at the calibration of this group",
    )


class WSCleanImager:
    """Makes an image with WSClean.

    Parameters
    ----------
    run
        Runs a command; the tests record it.
    """

    def __init__(self, run: Runner = run_command) -> None:
        self._run = run

    def clean(
        self,
        ms: Path,
        components: Components,
        *,
        options: ImagingOptions,
        out: ImagePaths,
        provenance: Provenance | None = None,
        residual: ResidualImager | None = None,
    ) -> ImagingReport:
        """Image a calibrated Measurement Set; see `Imager.clean`."""
        imager = residual or ResidualImager(ms, options)
        staging = staging_sibling(out.image.with_suffix(""))
        staging.mkdir(parents=True)
        try:
            cleaned = self._clean_in(staging, imager, components, options)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        return write_products(cleaned, Job("wsclean", imager, options, out, provenance or Provenance()))

    def _clean_in(
        self, staging: Path, imager: ResidualImager, components: Components, options: ImagingOptions
    ) -> CleanedImage:
        imager.require_data(components)
        plan = imager.plan
        seeds = choose_seeds(components, apparent_fluxes(components, plan), options)
        request = self._prepare(staging, imager, seeds, components, options)
        start = time.perf_counter()
        image, residual, model = self._run_wsclean(request, imager, options)
        imager.seconds["wsclean"] = round(time.perf_counter() - start, 3)
        n_components = int(np.count_nonzero(model))
        image, model = restore_catalogue(image, model, seeds, plan)
        return CleanedImage(
            image=image,
            residual=residual,
            model=model,
            wcs=plan.geometry.wcs(),
            beam=plan.beam,
            n_seeded=len(seeds),
            n_clean_components=n_components,
        )

    def _run_wsclean(
        self, request: WSCleanRequest, imager: ResidualImager, options: ImagingOptions
    ) -> tuple[Image, Image, Image]:
        """Restored, residual and model image; one more attempt with half the mgain if CLEAN diverges."""
        try:
            return self._attempt(request, imager, options)
        except ImagingDivergedError as error:
            gentler = replace(request, mgain=0.5 * request.mgain)
            logger.warning("%s; trying once more with mgain %.2f", error, gentler.mgain)
            return self._attempt(gentler, imager, options)

    def _attempt(
        self, request: WSCleanRequest, imager: ResidualImager, options: ImagingOptions
    ) -> tuple[Image, Image, Image]:
        folder = request.prefix.parent
        command = build_wsclean_command(request, options)
        self._run(command, timeout_s=options.numbers.timeout_s, cwd=folder, log_path=folder / "wsclean.log")
        shape = (imager.plan.geometry.ny, imager.plan.geometry.nx)
        image = read_wsclean_image(request.prefix, "image", shape)
        if options.numbers.niter == 0:
            return image, image, np.zeros_like(image)
        kinds = ("dirty", "residual", "model")
        dirty, residual, model = (read_wsclean_image(request.prefix, kind, shape) for kind in kinds)
        require_convergence(dirty, residual, image, ratio=options.divergence_ratio, path=imager.ms)
        return image, residual, model

    def _prepare(
        self,
        staging: Path,
        imager: ResidualImager,
        seeds: Components,
        components: Components,
        options: ImagingOptions,
    ) -> WSCleanRequest:
        """Write the averaged Measurement Set and the mask."""
        start = time.perf_counter()
        plan = imager.plan
        ms = staging / "averaged.ms"
        write_averaged_set(ms, imager.residual_visibilities(seeds), imager.layout)
        mask = None
        if options.mask == "catalogue":
            mask = staging / "mask.fits"
            circles = draw_mask(
                components, plan, radius_arcsec=options.mask_radius_arcsec, min_mjy=options.mask_min_mjy
            )
            header = plan.geometry.wcs().to_header()
            fits.PrimaryHDU(circles[None, None].astype(np.float32), header=header).writeto(mask)
        imager.seconds["averaged_set"] = round(time.perf_counter() - start, 3)
        return WSCleanRequest(
            ms=ms,
            prefix=staging / "wsclean",
            size=(plan.geometry.nx, plan.geometry.ny),
            cell_arcsec=float(np.degrees(plan.geometry.gridding_cell_rad) * 3600.0),
            beam=plan.beam.triple,
            mgain=choose_mgain(plan.psf, options.numbers.mgain),
            mask=mask,
        )


def read_wsclean_image(prefix: Path, kind: str, shape: Sequence[int]) -> Image:
    """One of WSClean's images as (ny, nx) float32.

    Raises
    ------
    CorruptInputError
        If it is missing or has another shape.
    """
    path = prefix.with_name(f"{prefix.name}-{kind}.fits")
    try:
        data = np.asarray(fits.getdata(path), np.float32)
    except OSError as error:
        raise CorruptInputError(f"WSClean left no {kind} image", path=path, cure="see its log") from error
    if data.shape[-2:] != tuple(shape) or data.size != shape[0] * shape[1]:
        raise CorruptInputError(f"WSClean made {data.shape}, expected {tuple(shape)}", path=path, cure="see its log")
    return np.ascontiguousarray(data.reshape(tuple(shape)))
