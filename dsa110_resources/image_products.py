"""From the arrays of an imager to its products: FITS files with full headers, preview and report."""

import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from astropy.wcs import WCS

from dsa110_assets.science.background import BackgroundMaps, measure_background
from dsa110_assets.science.beam import drift_averaged_power
from dsa110_assets.science.components import Components
from dsa110_assets.science.geometry import meridian_icrs
from dsa110_assets.science.plots import render_thumbnail
from dsa110_assets.science.synthesized_beam import SynthesizedBeam, restore_components
from dsa110_resources.archive import atomic_file
from dsa110_resources.images import ImageHeader, write_fits
from dsa110_resources.imaging_options import ImagePaths, ImagingOptions, ImagingReport, Provenance
from dsa110_resources.imaging_plan import ImagingPlan
from dsa110_resources.residual_imaging import ResidualImager

Image = npt.NDArray[np.float32]


@dataclass(frozen=True)
class CleanedImage:
    """What an imager hands over: arrays of one grid, apparent (not corrected for the primary beam).

    Attributes
    ----------
    image, residual : (ny, nx)
        Restored image and what the model leaves, Jy/beam.
    model : (ny, nx)
        Components on their nearest pixels, Jy per pixel.
    wcs
        Of all of them.
    beam
        Restoring beam.
    n_seeded, n_clean_components
        Components subtracted and restored; found by CLEAN.
    """

    image: Image
    residual: Image
    model: Image
    wcs: WCS
    beam: SynthesizedBeam
    n_seeded: int = 0
    n_clean_components: int = 0


@dataclass(frozen=True)
class Job:
    """One imaging: of what, how, to where."""

    imager: str
    residual: ResidualImager
    options: ImagingOptions
    out: ImagePaths
    provenance: Provenance = field(default_factory=Provenance)


def apparent_fluxes(components: Components, plan: ImagingPlan) -> npt.NDArray[np.float64]:
    """Flux densities as the image shows them: at its effective frequency, through the drift-averaged beam, Jy."""
    flux = components.flux_at([plan.drift.effective_frequency_hz])[:, 0]
    power = drift_averaged_power(
        components.ra_deg, components.dec_deg, plan.drift, spectral_index=components.spectral_index
    )
    return np.asarray(flux * power)


def restore_catalogue(image: Image, model: Image, components: Components, plan: ImagingPlan) -> tuple[Image, Image]:
    """Image with every component restored at its exact position, and model with each on its nearest pixel."""
    x, y = (
        np.asarray(c, np.float64) for c in plan.geometry.wcs().wcs_world2pix(components.ra_deg, components.dec_deg, 0)
    )
    flux = apparent_fluxes(components, plan)
    visible = np.isfinite(x) & np.isfinite(y) & np.isfinite(flux)
    restored = restore_components(image, x, y, flux, beam=plan.beam, cell_deg=plan.geometry.cell_deg)
    i, j = np.rint(x[visible]).astype(int), np.rint(y[visible]).astype(int)
    inside = (i >= 0) & (i < plan.geometry.nx) & (j >= 0) & (j < plan.geometry.ny)
    out = model.copy()
    np.add.at(out, (j[inside], i[inside]), flux[visible][inside].astype(np.float32))
    return restored, out


def correct_primary_beam(image: Image, primary_beam: Image, cut: float) -> Image:
    """Image over primary beam power, NaN where that is below a cut."""
    good = primary_beam >= cut
    return np.asarray(np.divide(image, primary_beam, out=np.full_like(image, np.nan), where=good), np.float32)


def write_products(cleaned: CleanedImage, job: Job) -> ImagingReport:
    """Measure, write every file of ``job.out``, and report."""
    start = time.perf_counter()
    plan = job.residual.plan
    maps = measure_background(cleaned.residual)
    rms = typical_rms(maps, plan.primary_beam)
    report = _build_report(cleaned, job, rms)
    header = _build_header(cleaned, job, rms)
    _write_images(cleaned, maps, job, header)
    if job.out.thumbnail is not None:
        _write_thumbnail(job.out.thumbnail, cleaned, job, report)
    seconds = job.residual.seconds | {"products": round(time.perf_counter() - start, 3)}
    return report.model_copy(update={"seconds": seconds})


def typical_rms(maps: BackgroundMaps, primary_beam: Image) -> float:
    """Median of the local rms where the primary beam exceeds one half, Jy/beam."""
    inner = primary_beam > 0.5
    values = maps.rms[inner] if inner.any() else maps.rms
    return float(np.nanmedian(values))


def _build_report(cleaned: CleanedImage, job: Job, rms: float) -> ImagingReport:
    plan, layout = job.residual.plan, job.residual.layout
    peak = float(np.nanmax(cleaned.image))
    return ImagingReport(
        imager=job.imager,
        tier=job.options.tier,
        rms_jyb=rms,
        thermal_jyb=plan.thermal_jyb,
        thermal_ratio=rms / plan.thermal_jyb,
        peak_jyb=peak,
        dynamic_range=peak / rms if rms > 0 else float("inf"),
        beam_arcsec=(3600.0 * cleaned.beam.bmaj_deg, 3600.0 * cleaned.beam.bmin_deg),
        beam_pa_deg=cleaned.beam.pa_deg,
        cell_arcsec=plan.geometry.cell_arcsec,
        size_pixels=(plan.geometry.nx, plan.geometry.ny),
        frequency_hz=plan.drift.effective_frequency_hz,
        bandwidth_hz=float(np.ptp(layout.frequencies_hz) + layout.channel_width_hz),
        channel_factor=job.residual.channel_factor,
        flagged_fraction=job.residual.flagged_fraction,
        n_seeded=cleaned.n_seeded,
        n_clean_components=cleaned.n_clean_components,
    )


def _build_header(cleaned: CleanedImage, job: Job, rms: float) -> ImageHeader:
    plan, layout, said = job.residual.plan, job.residual.layout, job.provenance
    ra, dec = meridian_icrs(np.radians(layout.dec_app_deg), layout.mid_mjd + 2400000.5)
    weighting = job.options.weighting + (f" {job.options.robust:g}" if job.options.weighting == "briggs" else "")
    return ImageHeader(
        object_name=said.object_name or layout.group_id,
        image_type="image",
        beam=cleaned.beam.triple,
        frequency_hz=plan.drift.effective_frequency_hz,
        bandwidth_hz=float(np.ptp(layout.frequencies_hz) + layout.channel_width_hz),
        start_mjd=layout.start_mjd,
        end_mjd=layout.end_mjd,
        mid_mjd=layout.mid_mjd,
        exposure_s=layout.interval_s * len(layout.times_mjd),
        rms_jyb=rms,
        thermal_jyb=plan.thermal_jyb,
        weighting=weighting,
        imager=f"{job.imager} {job.options.tier}",
        n_components=cleaned.n_seeded,
        pointing_deg=(float(ra[0]), float(dec[0])),
        run_id=said.run_id,
        git_commit=said.git_commit,
        bandpass_table=said.bandpass_table,
        bandpass_age_h=said.bandpass_age_h,
        gain_table=said.gain_table,
        gain_age_h=said.gain_age_h,
        catalogue=said.catalogue,
    )


def _write_images(cleaned: CleanedImage, maps: BackgroundMaps, job: Job, header: ImageHeader) -> None:
    plan, out = job.residual.plan, job.out
    corrected = correct_primary_beam(cleaned.image, plan.primary_beam, job.options.pb_cut)
    products: list[tuple[Path, npt.NDArray[np.floating], dict[str, object]]] = [
        (out.primary_beam, plan.primary_beam, {"image_type": "pb", "unit": "", "beam": None}),
        (out.residual, cleaned.residual, {"image_type": "residual"}),
        (out.rms, maps.rms, {"image_type": "rms"}),
        (out.model, cleaned.model, {"image_type": "model", "unit": "Jy/pixel"}),
        (out.pbcor, corrected, {"image_type": "pbcor", "pbcor": True}),
        (out.image, cleaned.image, {"image_type": "image"}),  # last: it stands for the set
    ]
    for path, data, change in products:
        write_fits(path, data, cleaned.wcs, header.model_copy(update=change))
    if out.psf is not None:
        geometry = plan.geometry.resized(2 * plan.geometry.nx, 2 * plan.geometry.ny, plan.geometry.cell_arcsec)
        write_fits(out.psf, plan.psf, geometry.wcs(), header.model_copy(update={"image_type": "psf", "unit": ""}))


def _write_thumbnail(path: Path, cleaned: CleanedImage, job: Job, report: ImagingReport) -> None:
    title = (
        f"{job.provenance.object_name or job.residual.layout.group_id}  {job.imager} {job.options.tier}   "
        f"rms {1e3 * report.rms_jyb:.2f} mJy/beam ({report.thermal_ratio:.2f} × thermal), peak {report.peak_jyb:.3f} Jy"
    )
    png = render_thumbnail(cleaned.image, cleaned.wcs, title=title, rms_jyb=report.rms_jyb, beam=cleaned.beam.triple)
    with atomic_file(path) as staged:
        staged.write_bytes(png)
