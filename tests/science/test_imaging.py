"""Imaging against the sums that define it: averaging, weights, dirty images, PSFs, beams, CLEAN."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from dsa110_assets.science import geometry as sky
from dsa110_assets.science.averaging import (
    AveragedVisibilities,
    average_block,
    average_frequencies,
    choose_channel_factor,
    smearing_loss,
)
from dsa110_assets.science.beam import SPEED_OF_LIGHT_M_S
from dsa110_assets.science.clean import CleanOptions, clean_residual
from dsa110_assets.science.errors import ShapeError, SolveError
from dsa110_assets.science.imaging import (
    ImageGeometry,
    aberration_scale,
    choose_cell_arcsec,
    good_size,
    make_dirty_image,
    make_psf,
    predict_from_image,
)
from dsa110_assets.science.synthesized_beam import (
    SynthesizedBeam,
    fit_synthesized_beam,
    measure_half_power_width,
    restore_components,
)
from dsa110_assets.science.weighting import imaging_weights, weighted_thermal_rms

Floats = npt.NDArray[np.float64]

FREQUENCIES = np.linspace(1.32e9, 1.49e9, 6)


def a_layout(n_row: int = 400, longest_m: float = 1500.0, seed: int = 3) -> Floats:
    """Random coplanar baselines seen at an angle, as the array is: w = 0.38 v, and some metres off the plane."""
    rng = np.random.default_rng(seed)
    uv = rng.uniform(-longest_m, longest_m, (n_row, 2))
    return np.column_stack([uv, -0.38 * uv[:, 1] + rng.normal(scale=2.0, size=n_row)])


def direct_image(
    vis: npt.ArrayLike, weights: npt.ArrayLike, uvw: Floats, geometry: ImageGeometry, y: int, x: int
) -> float:
    """Sum of w V exp(-2 pi i (u l + v m + w (n - 1))) / sum w at one pixel."""
    ll = -(x - geometry.nx // 2) * geometry.gridding_cell_rad
    mm = (y - geometry.ny // 2) * geometry.gridding_cell_rad
    phase = uvw @ np.array([ll, mm, np.sqrt(1 - ll**2 - mm**2) - 1])
    turn = np.exp(-2j * np.pi * phase[:, None] * FREQUENCIES / SPEED_OF_LIGHT_M_S)
    return float(np.sum(np.asarray(weights) * np.asarray(vis) * turn).real / np.sum(weights))


# --- averaging ---


def a_block(seed: int = 1) -> tuple[npt.NDArray[np.complex64], npt.NDArray[np.bool_]]:
    rng = np.random.default_rng(seed)
    shape = (2, 5, 12, 2)
    data = (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64)
    return data, rng.random(shape) < 0.3


@settings(max_examples=25, deadline=None)
@given(st.sampled_from([1, 2, 3, 4, 6, 12]), st.booleans(), st.integers(0, 10**6))
def test_average_is_the_weighted_mean_of_unflagged_samples(factor: int, weighted: bool, seed: int) -> None:
    data, flags = a_block(seed)
    rng = np.random.default_rng(seed)
    w = rng.uniform(0.5, 2.0, data.shape).astype(np.float32) if weighted else None
    model = (rng.normal(size=data.shape[:3]) * (1 + 1j)).astype(np.complex64)
    got, weights, n = average_block(data, flags, factor=factor, sample_weights=w, model=model)
    kept = np.where(flags, 0.0, 1.0 if w is None else w)
    grouped = kept.reshape(2, 5, 12 // factor, factor * 2)
    values = ((data - model[..., None]) * kept).reshape(2, 5, 12 // factor, factor * 2)
    total = grouped.sum(-1)
    expected = np.divide(values.sum(-1), total, out=np.zeros(total.shape, complex), where=total > 0)
    assert_allclose(weights, total, rtol=1e-6)
    assert_allclose(got, expected, atol=2e-6)
    assert n == np.count_nonzero(~flags)


def test_not_finite_samples_and_unchosen_baselines_are_left_out() -> None:
    data, flags = a_block()
    flags[:] = False
    data[0, 1, 0, 0] = np.nan
    got, weights, n = average_block(data, flags, factor=4, baselines=np.array([3, 1]))
    assert got.shape == (2, 2, 3)
    assert weights[0, 1, 0] == 7
    assert n == 2 * 2 * 24 - 1
    assert_allclose(got[1, 0, 2], data[1, 3, 8:12].mean(), rtol=1e-5)
    assert np.isfinite(got).all()


def test_shapes_of_averaging() -> None:
    data, flags = a_block()
    with pytest.raises(ShapeError, match="cannot be averaged by 5"):
        average_block(data, flags, factor=5)
    with pytest.raises(ShapeError, match="model has shape"):
        average_block(data, flags, factor=4, model=np.zeros((2, 4, 12), np.complex64))
    with pytest.raises(ShapeError):
        AveragedVisibilities(data[..., 0], np.ones((2, 5, 12), np.float32), np.zeros((2, 5, 3)), FREQUENCIES, 1.0, 1.0)


def test_mean_frequency_moves_away_from_flagged_channels() -> None:
    frequencies = np.arange(8.0)
    good = np.array([1, 1, 0, 0, 0, 0, 0, 0.0])
    assert_array_equal(average_frequencies(frequencies, 4), [1.5, 5.5])
    assert_array_equal(average_frequencies(frequencies, 4, good=good), [0.5, 5.5])


def test_smearing_limit_averages_four_channels_of_the_full_array_and_none_of_the_small() -> None:
    half_power = np.radians(1.355)
    limits = {"offset_rad": half_power, "max_loss": 0.08}
    assert choose_channel_factor(768, 244140.625, longest_baseline_m=2601.6, **limits) == 4
    assert choose_channel_factor(128, 1.46484375e6, longest_baseline_m=2200.0, **limits) == 1
    assert choose_channel_factor(768, 244140.625, longest_baseline_m=2601.6, offset_rad=half_power, max_loss=0.02) == 2
    assert smearing_loss(2601.6, half_power, 4 * 244140.625) == pytest.approx(0.0648, abs=5e-4)


# --- weights ---


def test_briggs_is_its_formula_on_two_cells() -> None:
    uvw = np.array([[10.0, 0, 0], [10.0, 0, 0], [10.0, 0, 0], [50.0, 0, 0]])
    frequency = np.array([SPEED_OF_LIGHT_M_S])
    natural = np.array([[1.0], [1.0], [1.0], [2.0]], np.float32)
    got = imaging_weights(uvw, frequency, natural, field_rad=(0.2, 0.2), robust=0.5)
    f2 = (5 * 10**-0.5) ** 2 / ((3.0**2 + 2.0**2) / 5.0)
    assert_allclose(got[:, 0], [1 / (1 + 3 * f2)] * 3 + [2 / (1 + 2 * f2)], rtol=1e-6)
    uniform = imaging_weights(uvw, frequency, natural, field_rad=(0.2, 0.2), weighting="uniform")
    assert_allclose(uniform[:, 0], [1 / 3] * 3 + [1.0], rtol=1e-6)


def test_conjugate_baselines_share_a_cell_and_flagged_ones_none() -> None:
    uvw = np.array([[10.0, 30.0, 0], [-10.0, -30.0, 0], [10.0, 30.0, 0]])
    natural = np.array([[1.0], [1.0], [0.0]], np.float32)
    got = imaging_weights(uvw, np.array([SPEED_OF_LIGHT_M_S]), natural, field_rad=(0.2, 0.2), weighting="uniform")
    assert_allclose(got[:, 0], [0.5, 0.5, 0.0])


def test_nothing_to_weight_is_an_error() -> None:
    with pytest.raises(SolveError, match="flagged"):
        imaging_weights(a_layout(), FREQUENCIES, np.zeros((400, 6), np.float32), field_rad=(0.1, 0.1))


def test_thermal_rms_is_least_for_natural_weights_and_right_for_noise() -> None:
    uvw, rng = a_layout(2000), np.random.default_rng(1)
    natural = rng.integers(1, 9, (2000, 6)).astype(np.float32)
    field = (0.08, 0.08)
    sigma = {"sample_sigma_jy": 2.59, "sample_weight": 1.0}
    rms = {
        robust: weighted_thermal_rms(
            imaging_weights(uvw, FREQUENCIES, natural, field_rad=field, robust=robust), natural, **sigma
        )
        for robust in (-2.0, 0.0, 2.0)
    }
    least = weighted_thermal_rms(natural, natural, **sigma)
    assert least == pytest.approx(2.59 / np.sqrt(natural.sum()), rel=1e-6)
    assert least < rms[2.0] < rms[0.0] < rms[-2.0]
    weights = imaging_weights(uvw, FREQUENCIES, natural, field_rad=field, robust=0.0)
    noise = (rng.normal(size=natural.shape) + 1j * rng.normal(size=natural.shape)) * 2.59 / np.sqrt(natural)
    geometry = ImageGeometry(256, 256, 25.0, 0.0, 16.0)
    image = make_dirty_image(noise.astype(np.complex64), weights, uvw, FREQUENCIES, geometry=geometry)
    assert image.std() == pytest.approx(rms[0.0], rel=0.04)


# --- dirty images and PSFs ---

FINE = ImageGeometry(nx=600, ny=480, cell_arcsec=20.0, ra_deg=0.0, dec_deg=16.0)
COARSE = ImageGeometry(nx=1200, ny=960, cell_arcsec=5.0, ra_deg=0.0, dec_deg=16.0)


@pytest.mark.parametrize("geometry", [FINE, COARSE], ids=["direct", "doubled"])
def test_dirty_image_is_the_direct_sum_far_off_axis(geometry: ImageGeometry) -> None:
    longest = 1500.0 if geometry is FINE else 1900.0
    uvw, rng = a_layout(longest_m=longest), np.random.default_rng(5)
    vis = (rng.normal(size=(400, 6)) + 1j * rng.normal(size=(400, 6))).astype(np.complex64)
    weights = rng.uniform(0, 1, (400, 6)).astype(np.float32)
    image = make_dirty_image(vis, weights, uvw, FREQUENCIES, geometry=geometry, accuracy=1e-5)
    assert image.shape == (geometry.ny, geometry.nx)
    pixels = [(geometry.ny // 2, geometry.nx // 2), (30, 40), (geometry.ny - 40, 50), (100, geometry.nx - 30)]
    for y, x in pixels:
        assert image[y, x] == pytest.approx(
            direct_image(vis, weights, uvw, geometry, y, x), abs=5e-4 * float(image.std())
        )


def test_doubled_image_is_right_at_its_very_edge() -> None:
    uvw, rng = a_layout(longest_m=1900.0), np.random.default_rng(6)
    vis = (rng.normal(size=(400, 6)) + 1j * rng.normal(size=(400, 6))).astype(np.complex64)
    weights = np.ones((400, 6), np.float32)
    image = make_dirty_image(vis, weights, uvw, FREQUENCIES, geometry=COARSE, accuracy=1e-5)
    for y, x in [(0, 0), (959, 1199), (480, 0), (0, 600)]:
        assert image[y, x] == pytest.approx(
            direct_image(vis, weights, uvw, COARSE, y, x), abs=5e-3 * float(image.std())
        )


def test_point_source_peaks_at_its_flux_with_no_division_by_n() -> None:
    uvw = a_layout()
    y, x = 400, 100
    ll, mm = -(x - 300) * FINE.gridding_cell_rad, (y - 240) * FINE.gridding_cell_rad
    phase = uvw @ np.array([ll, mm, np.sqrt(1 - ll**2 - mm**2) - 1])
    vis = 0.7 * np.exp(2j * np.pi * phase[:, None] * FREQUENCIES / SPEED_OF_LIGHT_M_S)
    image = make_dirty_image(vis.astype(np.complex64), np.ones((400, 6), np.float32), uvw, FREQUENCIES, geometry=FINE)
    assert np.unravel_index(image.argmax(), image.shape) == (y, x)
    assert image[y, x] == pytest.approx(0.7, rel=2e-4)


@pytest.mark.parametrize("geometry", [FINE, COARSE], ids=["direct", "doubled"])
def test_psf_is_the_transform_of_the_weights(geometry: ImageGeometry) -> None:
    uvw = a_layout(longest_m=1500.0 if geometry is FINE else 1900.0)
    weights = np.random.default_rng(5).uniform(0, 1, (400, 6)).astype(np.float32)
    psf = make_psf(weights, uvw, FREQUENCIES, geometry=geometry, accuracy=1e-5)
    y0, x0 = geometry.ny // 2, geometry.nx // 2
    flat = uvw * np.array([1.0, 1.0, 0.0])
    assert psf[y0, x0] == 1.0
    assert psf.max() == 1.0
    for y, x in [(y0 + 7, x0 - 3), (20, 30), (geometry.ny - 25, x0)]:
        expected = direct_image(np.ones((400, 6)), weights, flat, geometry, y, x)
        assert psf[y, x] == pytest.approx(expected, abs=1e-5)
    assert_allclose(psf[1:, 1:], psf[1:, 1:][::-1, ::-1], atol=5e-5)  # the gridding's accuracy


def test_prediction_is_the_adjoint_of_imaging() -> None:
    uvw, rng = a_layout(), np.random.default_rng(8)
    geometry = ImageGeometry(128, 160, 40.0, 0.0, 16.0)
    vis = (rng.normal(size=(400, 6)) + 1j * rng.normal(size=(400, 6))).astype(np.complex64)
    sky_image = rng.normal(size=(160, 128)).astype(np.float32)
    ones = np.ones((400, 6), np.float32)
    dirty = make_dirty_image(vis, ones, uvw, FREQUENCIES, geometry=geometry, accuracy=1e-6)
    predicted = predict_from_image(sky_image, uvw, FREQUENCIES, geometry=geometry, accuracy=1e-6)
    left = np.sum(dirty.astype(np.float64) * sky_image) * ones.sum()
    assert left == pytest.approx(np.sum(vis.conj() * predicted).real, rel=1e-4)


def test_grid_choices() -> None:
    assert choose_cell_arcsec(20.44, pixels_per_beam=4.5) == 4.5
    assert choose_cell_arcsec(0.1, pixels_per_beam=4.5) == 0.5
    assert good_size(4651) % 4 == 0
    assert 4651 <= good_size(4651) <= 4800
    wcs = FINE.wcs()
    assert list(wcs.wcs.ctype) == ["RA---SIN", "DEC--SIN"]
    assert_allclose(wcs.wcs_pix2world([[300, 240]], 0), [[0.0, 16.0]], atol=1e-12)


def test_aberration_scale_is_the_ratio_of_apparent_to_true_offsets() -> None:
    jd, ra, dec = 2461066.43, 343.0, 16.1
    for d_ra, d_dec in [(1.2, 0.0), (0.0, -1.3), (-0.9, 0.8)]:
        a, b = sky.icrs_to_itrs([ra - d_ra, ra + d_ra], [dec - d_dec, dec + d_dec], jd)[0]
        apparent = 2 * np.arcsin(0.5 * np.linalg.norm(a - b))
        true = np.radians(sky.separation_deg(ra - d_ra, dec - d_dec, ra + d_ra, dec + d_dec))
        assert apparent / true == pytest.approx(aberration_scale(ra, dec, jd), abs=5e-8)  # 1e-4 offset^2
    assert abs(aberration_scale(ra, dec, jd) - 1) > 3e-5


# --- beams ---


@settings(max_examples=30, deadline=None)
@given(st.floats(40, 60), st.floats(0.4, 0.85), st.floats(-89, 89))
def test_fit_recovers_an_elliptical_gaussian(bmaj: float, ratio: float, pa: float) -> None:
    beam = SynthesizedBeam(bmaj / 3600, ratio * bmaj / 3600, pa)
    blank = np.zeros((101, 101), np.float32)
    psf = restore_components(blank, np.array([50.0]), np.array([50.0]), np.array([1.0]), beam=beam, cell_deg=4 / 3600)
    fit = fit_synthesized_beam(psf, 4 / 3600)
    assert fit.bmaj_deg * 3600 == pytest.approx(bmaj, rel=1e-3)
    assert fit.bmin_deg * 3600 == pytest.approx(ratio * bmaj, rel=1e-3)
    assert abs((fit.pa_deg - pa + 90) % 180 - 90) < 0.2
    assert psf.sum() == pytest.approx(beam.area_pixels(4 / 3600), rel=1e-3)


@pytest.mark.parametrize("pa", [0.0, 30.0, -75.0])
def test_half_power_width_is_the_minor_axis(pa: float) -> None:
    beam = SynthesizedBeam(50 / 3600, 20 / 3600, pa)
    blank, middle = np.zeros((201, 201), np.float32), np.array([100.0])
    psf = restore_components(blank, middle, middle, np.array([1.0]), beam=beam, cell_deg=1.5 / 3600)
    assert measure_half_power_width(psf, 1.5) == pytest.approx(20.0, rel=0.01)


def test_position_angle_turns_from_north_to_east() -> None:
    beam = SynthesizedBeam(60 / 3600, 20 / 3600, 45.0)
    blank = np.zeros((81, 81), np.float32)
    image = restore_components(blank, np.array([40.0]), np.array([40.0]), np.array([1.0]), beam=beam, cell_deg=4 / 3600)
    assert image[46, 34] > 10 * image[46, 46]  # north-east is up and left


def test_restoring_adds_the_peak_between_pixels_and_skips_unknown_positions() -> None:
    beam = SynthesizedBeam(40 / 3600, 40 / 3600, 0.0)
    blank = np.zeros((60, 60), np.float32)
    x, y, flux = np.array([20.5, np.nan, 400.0]), np.array([30.0, 3.0, 3.0]), np.array([2.0, 1.0, 1.0])
    image = restore_components(blank, x, y, flux, beam=beam, cell_deg=4 / 3600)
    expected = 2.0 * np.exp(-4 * np.log(2) * (0.5 * 4 / 40) ** 2)
    assert_allclose(image[30, 20:22], expected, rtol=1e-5)
    assert image.sum() == pytest.approx(2.0 * beam.area_pixels(4 / 3600), rel=1e-3)
    assert not blank.any()


def test_a_beam_without_lobe_is_refused() -> None:
    delta = np.zeros((51, 51), np.float32)
    delta[25, 25] = 1.0
    with pytest.raises(SolveError, match="too coarse"):
        fit_synthesized_beam(delta, 0.001)
    with pytest.raises(SolveError, match="half its peak"):
        measure_half_power_width(np.ones((51, 51)), 1.0)


# --- CLEAN ---


def test_clean_finds_what_was_left_and_leaves_the_noise() -> None:
    uvw, rng = a_layout(3000), np.random.default_rng(9)
    geometry = ImageGeometry(256, 256, 20.0, 0.0, 16.0)
    truth = np.zeros((256, 256), np.float32)
    truth[100, 60], truth[180, 200] = 0.05, -0.03
    sigma = 0.1
    vis = predict_from_image(truth, uvw, FREQUENCIES, geometry=geometry, accuracy=1e-6)
    vis = vis + (sigma * (rng.normal(size=vis.shape) + 1j * rng.normal(size=vis.shape))).astype(np.complex64)
    weights = np.ones(vis.shape, np.float32)

    def subtract(model: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        left = vis - predict_from_image(model, uvw, FREQUENCIES, geometry=geometry)
        return make_dirty_image(left, weights, uvw, FREQUENCIES, geometry=geometry)

    psf = make_psf(weights, uvw, FREQUENCIES, geometry=geometry.resized(512, 512, 20.0))
    noise = np.full((256, 256), sigma / np.sqrt(vis.size), np.float32)
    found = clean_residual(subtract(0 * truth), psf, noise, subtract, options=CleanOptions())
    assert found.n_major >= 2
    assert found.model[98:103, 58:63].sum() == pytest.approx(0.05, abs=4 * sigma / np.sqrt(vis.size))
    assert found.model[178:183, 198:203].sum() == pytest.approx(-0.03, abs=4 * sigma / np.sqrt(vis.size))
    assert found.residual.std() == pytest.approx(noise[0, 0], rel=0.1)


def test_clean_of_noise_takes_nothing() -> None:
    rng = np.random.default_rng(1)
    image = rng.normal(size=(64, 64)).astype(np.float32)
    psf = np.zeros((128, 128), np.float32)
    psf[64, 64] = 1.0
    found = clean_residual(image, psf, np.ones_like(image), lambda model: image - model)
    assert found.n_components == 0
    assert found.residual is image
