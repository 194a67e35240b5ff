"""CASA tclean as an imager: a small adapter, for comparison with the observatory's habits; not for production.

Its w-projection with few planes shifts positions by 1.4 arcsec and costs 2 % of flux at the field's edge; with the
planes it would need it is slower than the sky. Like WSClean it is given averaged residuals; seeds are restored after.
"""

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dsa110_assets.science.components import Components
from dsa110_resources.archive import staging_sibling
from dsa110_resources.averaged_set import write_averaged_set
from dsa110_resources.casa import run_casa_task
from dsa110_resources.casacore_tables import open_table
from dsa110_resources.errors import CorruptInputError
from dsa110_resources.image_products import CleanedImage, Job, apparent_fluxes, restore_catalogue, write_products
from dsa110_resources.imaging_options import ImagePaths, ImagingOptions, ImagingReport, Provenance
from dsa110_resources.imaging_plan import ImagingPlan
from dsa110_resources.residual_imaging import ResidualImager
from dsa110_resources.wsclean import choose_seeds, require_convergence

Image = npt.NDArray[np.float32]
W_PLANES = 64


def build_tclean_arguments(ms: Path, prefix: Path, plan: ImagingPlan, options: ImagingOptions) -> dict[str, Any]:
    """Keyword arguments of ``casatasks.tclean``."""
    tier = options.numbers
    geometry = plan.geometry
    cell = float(np.degrees(geometry.gridding_cell_rad) * 3600.0)
    bmaj, bmin, pa = plan.beam.triple
    return {
        "vis": str(ms),
        "imagename": str(prefix),
        "datacolumn": "data",
        "imsize": [geometry.nx, geometry.ny],
        "cell": f"{cell:.9f}arcsec",
        "stokes": "XX",
        "specmode": "mfs",
        "gridder": "wproject",
        "wprojplanes": W_PLANES,
        "deconvolver": "hogbom",
        "weighting": options.weighting,
        "robust": options.robust,
        "uvrange": f">{options.min_uv_lambda:g}lambda" if options.min_uv_lambda > 0 else "",
        "niter": tier.niter,
        "nsigma": tier.auto_threshold,
        "cyclefactor": 1.5,
        "restoringbeam": [f"{3600 * bmaj:.6f}arcsec", f"{3600 * bmin:.6f}arcsec", f"{pa:.6f}deg"],
        "pbcor": False,
        "pblimit": -0.1,
    }


class TcleanImager:
    """Makes an image with CASA.

    Parameters
    ----------
    run
        Runs a CASA task; the tests record it.
    """

    def __init__(self, run: Callable[..., Any] = run_casa_task) -> None:
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
        imager.require_data(components)
        seeds = choose_seeds(components, apparent_fluxes(components, imager.plan), options)
        staging = staging_sibling(out.image.with_suffix(""))
        staging.mkdir(parents=True)
        try:
            image, left, model = self._run_in(staging, imager, seeds, options)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        n_components = int(np.count_nonzero(model))
        image, model = restore_catalogue(image, model, seeds, imager.plan)
        cleaned = CleanedImage(
            image=image,
            residual=left,
            model=model,
            wcs=imager.plan.geometry.wcs(),
            beam=imager.plan.beam,
            n_seeded=len(seeds),
            n_clean_components=n_components,
        )
        return write_products(cleaned, Job("tclean", imager, options, out, provenance or Provenance()))

    def _run_in(
        self, staging: Path, imager: ResidualImager, seeds: Components, options: ImagingOptions
    ) -> tuple[Image, Image, Image]:
        ms, prefix = staging / "averaged.ms", staging / "tclean"
        write_averaged_set(ms, imager.residual_visibilities(seeds), imager.layout)
        dirty = imager.image(seeds).image
        start = time.perf_counter()
        arguments = build_tclean_arguments(ms, prefix, imager.plan, options)
        self._run("tclean", timeout_s=options.numbers.timeout_s, **arguments)
        imager.seconds["tclean"] = round(time.perf_counter() - start, 3)
        image, left, model = (read_casa_image(prefix, kind, dirty.shape) for kind in ("image", "residual", "model"))
        if options.numbers.niter > 0:
            require_convergence(dirty, left, image, ratio=options.divergence_ratio, path=imager.ms)
        return image, left, model


def read_casa_image(prefix: Path, kind: str, shape: tuple[int, ...]) -> Image:
    """One of tclean's images as (ny, nx) float32.

    Raises
    ------
    CorruptInputError
        If it is missing or has another shape.
    """
    path = prefix.with_name(f"{prefix.name}.{kind}")
    with open_table(path) as table:
        cube = np.asarray(table.getcell("map", 0), np.float32)
    image = cube.reshape(cube.shape[-2:])
    if image.shape != tuple(shape):
        raise CorruptInputError(f"tclean made {image.shape}, expected {tuple(shape)}", path=path, cure="see its log")
    return np.ascontiguousarray(image)
