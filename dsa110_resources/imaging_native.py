"""The imager in process: catalogue subtracted, residual imaged and CLEANed above the mask threshold, model restored."""

import time
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dsa110_assets.science.averaging import AveragedVisibilities
from dsa110_assets.science.background import measure_background
from dsa110_assets.science.clean import CleanOptions, CleanResult, clean_residual
from dsa110_assets.science.components import Components
from dsa110_assets.science.imaging import make_dirty_image, predict_from_image
from dsa110_assets.science.residual import ResidualImage
from dsa110_assets.science.synthesized_beam import restore_components
from dsa110_resources.image_products import CleanedImage, Job, restore_catalogue, write_products
from dsa110_resources.imaging_options import ImagePaths, ImagingOptions, ImagingReport, Provenance
from dsa110_resources.imaging_plan import ImagingPlan
from dsa110_resources.residual_imaging import ResidualImager

Image = npt.NDArray[np.float32]


class NativeImager:
    """Makes an image with ducc0 alone."""

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
        dirty = imager.image(components)
        start = time.perf_counter()
        found = _clean(dirty, imager, components, options)
        restored, model = _restore(found, imager.plan)
        restored, model = restore_catalogue(restored, model, components, imager.plan)
        imager.seconds["clean"] = round(time.perf_counter() - start, 3)
        cleaned = CleanedImage(
            image=restored,
            residual=found.residual,
            model=model,
            wcs=dirty.wcs,
            beam=imager.plan.beam,
            n_seeded=len(components),
            n_clean_components=found.n_components,
        )
        return write_products(cleaned, Job("native", imager, options, out, provenance or Provenance()))


def _clean(
    dirty: ResidualImage, imager: ResidualImager, components: Components, options: ImagingOptions
) -> CleanResult:
    """CLEAN of the residual, nothing for tiers without iterations."""
    tier = options.numbers
    if tier.niter == 0:
        return CleanResult(np.zeros_like(dirty.image), dirty.image, 0, 0)
    averaged = imager.residual_visibilities(components)
    return clean_residual(
        dirty.image,
        dirty.psf,
        measure_background(dirty.image).rms,
        lambda model: _subtract_model(model, averaged, imager.plan, tier.accuracy),
        options=CleanOptions(
            max_components=tier.niter,
            mgain=tier.mgain,
            auto_mask=tier.auto_mask,
            auto_threshold=tier.auto_threshold,
        ),
    )


def _subtract_model(model: Image, averaged: AveragedVisibilities, plan: ImagingPlan, accuracy: float) -> Image:
    """Dirty image of the visibilities minus a model image (a major cycle)."""
    uvw, frequencies = averaged.uvw_m.reshape(-1, 3), averaged.frequencies_hz
    predicted = predict_from_image(model, uvw, frequencies, geometry=plan.geometry, accuracy=accuracy)
    left = averaged.visibilities.reshape(predicted.shape) - predicted
    return make_dirty_image(left, plan.weights, uvw, frequencies, geometry=plan.geometry, accuracy=accuracy)


def _restore(found: CleanResult, plan: ImagingPlan) -> tuple[Image, Image]:
    """Residual plus CLEAN components convolved with the restoring beam, and the components."""
    y, x = np.nonzero(found.model)
    restored = restore_components(
        found.residual,
        x.astype(np.float64),
        y.astype(np.float64),
        found.model[y, x].astype(np.float64),
        beam=plan.beam,
        cell_deg=plan.geometry.cell_deg,
    )
    return restored, found.model
