"""What an image needs besides its visibilities' values: grid, weights, point spread functions, primary beam."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dsa110_assets.science.averaging import AveragedVisibilities
from dsa110_assets.science.beam import SPEED_OF_LIGHT_M_S, BeamDrift, map_primary_beam
from dsa110_assets.science.geometry import meridian_icrs
from dsa110_assets.science.imaging import (
    ImageGeometry,
    aberration_scale,
    choose_cell_arcsec,
    field_size_deg,
    good_size,
    make_psf,
)
from dsa110_assets.science.synthesized_beam import SynthesizedBeam, fit_synthesized_beam, measure_half_power_width
from dsa110_assets.science.weighting import imaging_weights, weighted_thermal_rms
from dsa110_resources.imaging_options import ImagingOptions
from dsa110_resources.measurement_set import Layout

_PROBE_CELL_ARCSEC = 1.5
_PROBE_PIXELS = 512


@dataclass(frozen=True)
class ImagingPlan:
    """All of an image that does not depend on the visibilities' values: grid, weights, beams.

    Attributes
    ----------
    geometry
        Pixels.
    weights : (n_row, n_channel) float32
        Imaging weights.
    psf, noise_psf : (2 ny, 2 nx) float32
        See `ResidualImage`.
    beam
        Gaussian fitted to the PSF.
    drift
        Pointings and weights of the primary beam.
    primary_beam : (ny, nx) float32
        Drift-averaged power.
    thermal_jyb
        Noise expected, Jy/beam.
    plane
        (a, b) of w = a u + b v.
    """

    geometry: ImageGeometry
    weights: npt.NDArray[np.float32]
    psf: npt.NDArray[np.float32]
    noise_psf: npt.NDArray[np.float32] | None
    beam: SynthesizedBeam
    drift: BeamDrift
    primary_beam: npt.NDArray[np.float32]
    thermal_jyb: float
    plane: tuple[float, float]


def build_plan(averaged: AveragedVisibilities, layout: Layout, options: ImagingOptions) -> ImagingPlan:
    """Choose the grid and make everything that depends on geometry and flags only."""
    uvw, frequencies = averaged.uvw_m.reshape(-1, 3), averaged.frequencies_hz
    natural = select_baselines(averaged.weights.reshape(-1, len(frequencies)), uvw, frequencies, options.min_uv_lambda)
    field_deg = choose_field_deg(averaged, layout, options)
    weights = imaging_weights(
        uvw,
        frequencies,
        natural,
        field_rad=(np.radians(field_deg[0]), np.radians(field_deg[1])),
        weighting=options.weighting,
        robust=options.robust,
    )
    geometry = choose_geometry(weights, averaged, layout, options, field_deg)
    wide = geometry.resized(2 * geometry.nx, 2 * geometry.ny, geometry.cell_arcsec)
    psf, noise_psf = make_psfs(weights, natural, averaged, wide, options)
    n_time, n_baseline, n_channel = averaged.visibilities.shape
    ra, dec = meridian_icrs(np.radians(layout.dec_app_deg), layout.times_mjd + 2400000.5)
    drift = BeamDrift(
        ra, dec, frequencies, weights.reshape(n_time, n_baseline, n_channel).sum(axis=1, dtype=np.float64)
    )
    return ImagingPlan(
        geometry=geometry,
        weights=weights,
        psf=psf,
        noise_psf=noise_psf,
        beam=fit_synthesized_beam(psf, geometry.cell_deg),
        drift=drift,
        primary_beam=map_primary_beam(geometry.wcs(), (geometry.ny, geometry.nx), drift),
        thermal_jyb=weighted_thermal_rms(
            weights, natural, sample_sigma_jy=averaged.sample_sigma_jy, sample_weight=averaged.sample_weight
        ),
        plane=fit_baseline_plane(uvw),
    )


def make_psfs(
    weights: npt.NDArray[np.float32],
    natural: npt.NDArray[np.float32],
    averaged: AveragedVisibilities,
    geometry: ImageGeometry,
    options: ImagingOptions,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32] | None]:
    """PSF, and the noise's autocorrelation: the transform of w^2 / n, n the natural weight (None: natural weighting).

    Both are made at the same time, in one thread each.
    """

    def transform(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        uvw, accuracy = averaged.uvw_m.reshape(-1, 3), options.numbers.accuracy
        return make_psf(values, uvw, averaged.frequencies_hz, geometry=geometry, accuracy=accuracy)

    if options.weighting == "natural":
        return transform(weights), None
    variance = np.divide(weights**2, natural, out=np.zeros_like(weights), where=natural > 0)
    with ThreadPoolExecutor(2) as pool:
        psf, noise_psf = pool.map(transform, [weights, variance])
    return psf, noise_psf


def select_baselines(
    weights: npt.NDArray[np.float32],
    uvw_m: npt.NDArray[np.float64],
    frequencies_hz: npt.NDArray[np.float64],
    min_uv_lambda: float,
) -> npt.NDArray[np.float32]:
    """Weights with those of baselines shorter than a number of wavelengths set to 0."""
    if min_uv_lambda <= 0:
        return weights
    length = np.hypot(uvw_m[:, 0], uvw_m[:, 1])[:, None] * (frequencies_hz / SPEED_OF_LIGHT_M_S)
    return np.where(length >= min_uv_lambda, weights, np.float32(0.0))


def fit_baseline_plane(uvw_m: npt.NDArray[np.float64]) -> tuple[float, float]:
    """(a, b) of w = a u + b v in the least-squares sense."""
    solution = np.linalg.lstsq(uvw_m[:, :2], uvw_m[:, 2], rcond=None)[0]
    return float(solution[0]), float(solution[1])


def choose_field_deg(averaged: AveragedVisibilities, layout: Layout, options: ImagingOptions) -> tuple[float, float]:
    """Width and height of the field, degrees."""
    if options.size_pixels is not None and options.cell_arcsec is not None:
        return options.size_pixels[0] * options.cell_arcsec / 3600.0, options.size_pixels[
            1
        ] * options.cell_arcsec / 3600.0
    return field_size_deg(
        min_primary_beam=options.numbers.min_primary_beam,
        frequency_hz=float(averaged.frequencies_hz.mean()),
        duration_s=layout.interval_s * len(layout.times_mjd),
        dec_deg=layout.phase_center_deg[1],
    )


def choose_geometry(
    weights: npt.NDArray[np.float32],
    averaged: AveragedVisibilities,
    layout: Layout,
    options: ImagingOptions,
    field_deg: tuple[float, float],
) -> ImageGeometry:
    """Pixels from the measured PSF, width from the field, both from the options where they say so."""
    ra, dec = layout.phase_center_deg
    mid_jd = float(np.mean(layout.times_mjd)) + 2400000.5
    probe = ImageGeometry(_PROBE_PIXELS, _PROBE_PIXELS, _PROBE_CELL_ARCSEC, ra, dec, aberration_scale(ra, dec, mid_jd))
    cell = options.cell_arcsec
    if cell is None:
        psf = make_psf(weights, averaged.uvw_m.reshape(-1, 3), averaged.frequencies_hz, geometry=probe, accuracy=1e-3)
        width = measure_half_power_width(psf, _PROBE_CELL_ARCSEC)
        cell = choose_cell_arcsec(width, pixels_per_beam=options.numbers.pixels_per_beam)
    if options.size_pixels is not None:
        return probe.resized(*options.size_pixels, cell)
    cap = options.numbers.max_pixels
    nx, ny = (min(cap, good_size(width_deg * 3600.0 / cell)) for width_deg in field_deg)
    return probe.resized(nx, ny, cell)
