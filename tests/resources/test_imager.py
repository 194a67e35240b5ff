"""Residual imaging and the native imager on Measurement Sets made by a direct sum (`calibrated_set`)."""

import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from calibrated_set import Recipe, frequencies_hz, make_components, phase_center, write_calibrated_set
from numpy.testing import assert_allclose, assert_array_equal
from scipy.ndimage import map_coordinates

from dsa110_assets.science.beam import drift_averaged_power
from dsa110_assets.science.components import Components
from dsa110_assets.science.geometry import separation_deg
from dsa110_assets.science.noise import image_rms
from dsa110_assets.science.residual import ResidualImage
from dsa110_resources import imager as imagers
from dsa110_resources.errors import ExternalToolMissingError, PermanentError
from dsa110_resources.imager import ImagePaths, ImagingOptions, Provenance, ResidualImager, residual_image
from dsa110_resources.images import read_fits
from dsa110_resources.imaging_native import NativeImager
from dsa110_resources.imaging_options import TIERS
from dsa110_resources.residual_imaging import subtract_lists

NARROW = Recipe(components=make_components([0.0], [0.0], [1.0]), n_channels=48, channel_width_hz=244140.625)
OPTIONS = ImagingOptions(channel_factor=2, cell_arcsec=5.0, size_pixels=(2400, 2000))


def offsets(recipe: Recipe, d_ra: list[float], d_dec: list[float], flux: list[float], alpha: float = 0.0) -> Components:
    """Sources at offsets (true degrees) from the phase centre."""
    ra, dec = phase_center(recipe)
    cos = np.cos(np.radians(dec))
    return make_components([ra + d / cos for d in d_ra], [dec + d for d in d_dec], flux, alpha)


def nothing(components: Components) -> Components:
    return components.select(np.zeros(len(components), dtype=bool))


def peak_position(residual: ResidualImage, x: float, y: float, reach: int = 6) -> tuple[float, float, float]:
    """(x, y, value) of the maximum near a position, by a parabola through the highest pixel's neighbours."""
    i0, j0 = round(float(x)) - reach, round(float(y)) - reach
    cut = residual.image[j0 : j0 + 2 * reach + 1, i0 : i0 + 2 * reach + 1]
    j, i = np.unravel_index(int(cut.argmax()), cut.shape)

    def vertex(a: float, b: float, c: float) -> float:
        return 0.5 * (a - c) / (a - 2 * b + c)

    dx, dy = vertex(*cut[j, i - 1 : i + 2]), vertex(*cut[j - 1 : j + 2, i])
    value = map_coordinates(residual.image, [[j0 + j + dy], [i0 + i + dx]], order=3)[0]
    return i0 + i + dx, j0 + j + dy, float(value)


# --- position, sign, orientation and flux of one source far off axis ---


@pytest.mark.parametrize(
    ("d_ra", "d_dec", "start"),
    [
        (1.05, 0.85, 0.0),
        (-1.1, -0.8, 0.0),
        (1.2, -0.6, 1.0 / 24 * 1.02),  # the field straddles RA 0h: the phase centre is near 359 degrees
        (-0.9, 1.0, 1.0 / 24 * 1.2),
    ],
    ids=["north-east", "south-west", "east across 0h", "west across 0h"],
)
def test_far_off_axis_source_is_where_it_is_and_as_bright(
    tmp_path: Path, d_ra: float, d_dec: float, start: float
) -> None:
    recipe = replace(NARROW, start_jd=NARROW.start_jd + start)
    truth = offsets(recipe, [d_ra], [d_dec], [2.0], -0.7)
    recipe = replace(recipe, components=truth)
    ms = write_calibrated_set(tmp_path / "one.ms", recipe)
    residual = residual_image(ms, nothing(truth), options=OPTIONS)
    x, y = residual.pixels(truth.ra_deg, truth.dec_deg)
    px, py, value = peak_position(residual, x[0], y[0])
    tenth = 0.1 * residual.beam[1] / residual.cell_deg
    assert abs(px - x[0]) < tenth
    assert abs(py - y[0]) < tenth
    ra, dec = residual.wcs.wcs_pix2world(px, py, 0)
    assert float(separation_deg(ra, dec, truth.ra_deg[0], truth.dec_deg[0])) < 0.1 * residual.beam[1]
    power = map_coordinates(residual.primary_beam, [y, x], order=1)[0]
    expected = power * truth.flux_at([residual.frequency_hz])[0, 0]
    assert value == pytest.approx(expected, rel=0.01)


def test_field_across_0h_is_really_across_0h() -> None:
    ra, _ = phase_center(replace(NARROW, start_jd=NARROW.start_jd + 1.0 / 24 * 1.02))
    assert min(ra, 360.0 - ra) < 1.5


# --- subtraction ---


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Recipe]:
    """Five sources, smeared by true averaging, no noise."""
    truth = offsets(NARROW, [0.0, 0.9, -1.0, 0.02, 0.4], [0.0, 0.7, -0.9, 0.015, -1.1], [3.0, 1.0, 0.8, 0.2, 0.5], -0.8)
    recipe = replace(NARROW, components=truth, oversample=5)
    return write_calibrated_set(tmp_path_factory.mktemp("crowded") / "five.ms", recipe), recipe


def test_subtracting_the_truth_leaves_nothing(crowded: tuple[Path, Recipe]) -> None:
    ms, recipe = crowded
    residual = residual_image(ms, recipe.components, options=OPTIONS)
    assert np.abs(residual.image).max() < 1e-4 * 3.0  # 5-point averages against the exact smearing
    assert residual.components is recipe.components


def test_a_corrected_list_gives_the_same_as_reading_again(crowded: tuple[Path, Recipe]) -> None:
    ms, recipe = crowded
    wrong = recipe.components.with_flux(recipe.components.flux_jy * np.array([0.98, 1.15, 0.9, 1.1, 1.0]))
    moved = replace(wrong, dec_deg=wrong.dec_deg + np.array([0, 0, 1 / 3600, 0, 0]))
    imager = ResidualImager(ms, OPTIONS)
    imager.image(recipe.components)
    again, fresh = imager.image(moved), residual_image(ms, moved, options=OPTIONS)
    size = np.abs(fresh.image).max()
    assert size > 0.05
    assert np.abs(again.image - fresh.image).max() < 2e-3 * size
    assert again.psf is imager.image(recipe.components).psf
    assert_array_equal(
        imager.image(recipe.components).image, ResidualImager(ms, OPTIONS).image(recipe.components).image
    )


def test_a_flux_error_shows_as_primary_beam_times_psf(crowded: tuple[Path, Recipe]) -> None:
    """d = P(x_k) dS_k psf(x - x_k) in `offset_pixels`, to 1 % of the peak over the field: H of the joint solve."""
    ms, recipe = crowded
    for k in (1, 2):
        change = np.zeros(5)
        change[k] = 0.1
        residual = residual_image(ms, recipe.components.with_flux(recipe.components.flux_jy - change), options=OPTIONS)
        x0, y0 = residual.offset_pixels(recipe.components.ra_deg[k], recipe.components.dec_deg[k])
        rng = np.random.default_rng(k)
        x, y = rng.uniform(100, 2300, 400), rng.uniform(100, 1900, 400)
        xk, yk = residual.pixels(recipe.components.ra_deg[k], recipe.components.dec_deg[k])
        x[:100], y[:100] = xk + rng.normal(0, 8, 100), yk + rng.normal(0, 8, 100)
        ra, dec = residual.wcs.wcs_pix2world(x, y, 0)
        xo, yo = residual.offset_pixels(ra, dec)
        cy, cx = residual.psf_center
        psf = map_coordinates(residual.psf, [yo - y0 + cy, xo - x0 + cx], order=3)
        image = map_coordinates(residual.image, [y, x], order=3)
        power = map_coordinates(residual.primary_beam, [yk, xk], order=1)[0]
        flux = power * 0.1 * (residual.frequency_hz / 1.405e9) ** -0.8
        assert_allclose(image, flux * psf, atol=0.012 * flux)


def test_lists_subtract_by_source() -> None:
    old = make_components([1, 2, 3, 4], [0, 0, 0, 0], [1.0, 2.0, 3.0, 4.0])
    new = replace(old.select(np.array([0, 1, 2])), dec_deg=np.array([0, 0.1, 0.0]), flux_jy=np.array([1.5, 2.0, 3.0]))
    change = subtract_lists(new, old)
    rows = sorted(zip(change.source_id.tolist(), change.dec_deg.tolist(), change.flux_jy.tolist(), strict=True))
    assert rows == [("S0", 0.0, 0.5), ("S1", 0.0, -2.0), ("S1", 0.1, 2.0), ("S3", 0.0, -4.0)]
    assert len(subtract_lists(old, old)) == 0


# --- noise, flags, plan ---


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Recipe]:
    truth = offsets(NARROW, [0.3, -0.8], [0.2, 0.6], [0.5, 0.3])
    recipe = replace(NARROW, components=truth, noise_jy=2.59, flagged_channels=(3, 4, 5, 20))
    return write_calibrated_set(tmp_path_factory.mktemp("noisy") / "noisy.ms", recipe), recipe


@pytest.mark.parametrize("weighting", ["natural", "briggs"])
def test_residual_noise_is_thermal(noisy: tuple[Path, Recipe], weighting: str) -> None:
    ms, recipe = noisy
    options = OPTIONS.model_copy(update={"weighting": weighting})
    residual = residual_image(ms, recipe.components, options=options)
    assert residual.image.std() == pytest.approx(residual.thermal_jyb, rel=0.05)
    assert image_rms(residual.image) < 1.3 * residual.thermal_jyb
    assert (residual.noise_psf is None) == (weighting == "natural")
    if residual.noise_psf is not None:
        lag = np.mean(residual.image[:, 4:] * residual.image[:, :-4]) / residual.image.var()
        cy, cx = residual.psf_center
        assert lag == pytest.approx(float(residual.noise_psf[cy, cx + 4]), abs=0.03)
        assert abs(lag - float(residual.psf[cy, cx + 4])) > 0.03


def test_flagged_channels_do_not_reach_the_image(noisy: tuple[Path, Recipe]) -> None:
    ms, recipe = noisy  # flagged samples hold 10^6 Jy
    imager = ResidualImager(ms, OPTIONS)
    residual = imager.image(recipe.components)
    assert np.abs(residual.image).max() < 10 * residual.thermal_jyb
    assert imager.flagged_fraction == pytest.approx(4 / 48)
    good = np.delete(frequencies_hz(recipe), [3, 4, 5, 20])
    assert residual.frequency_hz == pytest.approx(good.mean(), rel=2e-4)


def test_plan_follows_tier_and_measured_beam(noisy: tuple[Path, Recipe]) -> None:
    ms, recipe = noisy
    quick = ResidualImager(ms, ImagingOptions(tier="quicklook"))
    residual = quick.image(recipe.components)
    geometry = quick.plan.geometry
    assert geometry.cell_arcsec % 0.5 == 0
    assert max(geometry.nx, geometry.ny) <= TIERS["quicklook"].max_pixels
    assert geometry.nx > geometry.ny  # the drift
    assert residual.psf.shape == (2 * geometry.ny, 2 * geometry.nx)
    assert residual.primary_beam[0, geometry.nx // 2] == pytest.approx(0.5, abs=0.1)
    assert quick.seconds.keys() >= {"subtract", "psf", "dirty"}


def test_missing_column_and_wrong_factor_tell_the_cure(noisy: tuple[Path, Recipe], tmp_path: Path) -> None:
    ms, recipe = noisy
    with pytest.raises(PermanentError, match="channel_factor"):
        ResidualImager(ms, OPTIONS.model_copy(update={"channel_factor": 5})).image(recipe.components)
    copy = tmp_path / "raw.ms"
    shutil.copytree(ms, copy)
    from dsa110_resources.casacore_tables import open_table

    with open_table(copy, write=True) as table:
        table.removecols(["CORRECTED_DATA"])
    with pytest.raises(PermanentError, match="apply calibration first"):
        residual_image(copy, recipe.components, options=OPTIONS)
    with pytest.raises(PermanentError, match="call image"):
        _ = ResidualImager(ms, OPTIONS).averaged


def test_subband_readings_give_the_spectrum(tmp_path: Path) -> None:
    """A source of index -2 known with index 0: model plus reading over beam is its flux in each part of the band."""
    recipe = replace(NARROW, n_channels=32, channel_width_hz=5e6, first_hz=1.33e9, n_times=4, oversample=5)
    truth = offsets(recipe, [0.25], [-0.3], [1.0], -2.0)
    ms = write_calibrated_set(tmp_path / "steep.ms", replace(recipe, components=truth))
    known = replace(truth, spectral_index=np.zeros(1))
    options = OPTIONS.model_copy(update={"channel_factor": 1, "size_pixels": (800, 800)})
    imager = ResidualImager(ms, options)
    imager.require_data(known)
    readings = imager.read_subbands(known, n_parts=4)
    assert readings.residual_jyb.shape == (1, 4)
    measured = known.flux_at(readings.frequencies_hz)[0] + (readings.residual_jyb / readings.primary_beam)[0]
    assert_allclose(measured, truth.flux_at(readings.frequencies_hz)[0], rtol=5e-3)
    assert np.ptp(known.flux_at(readings.frequencies_hz)) == 0.0


# --- products of the native imager ---


def test_native_products_hold_the_sources_and_repeat_byte_for_byte(noisy: tuple[Path, Recipe], tmp_path: Path) -> None:
    ms, recipe = noisy
    known = recipe.components.select(np.array([0]))  # the other one is left to CLEAN
    out = ImagePaths.beside(tmp_path / "a" / "tile.fits", thumbnail=tmp_path / "a" / "tile.png")
    said = Provenance(run_id="r1", bandpass_table="b.bpcal", bandpass_age_h=2.0)
    report = NativeImager().clean(ms, known, options=OPTIONS, out=out, provenance=said)
    assert report.thermal_ratio < 1.3
    assert (report.n_seeded, report.n_clean_components > 0) == (1, True)
    assert report.dynamic_range == pytest.approx(report.peak_jyb / report.rms_jyb)
    assert out.thumbnail is not None
    assert out.thumbnail.read_bytes().startswith(b"\x89PNG")
    image, pbcor, beam = read_fits(out.image, check=True), read_fits(out.pbcor), read_fits(out.primary_beam)
    x, y = image.wcs.wcs_world2pix(recipe.components.ra_deg, recipe.components.dec_deg, 0)
    values = map_coordinates(np.nan_to_num(pbcor.data), [y, x], order=3)
    powers = map_coordinates(beam.data, [y, x], order=1)
    assert_allclose(values, recipe.components.flux_jy, atol=float(np.max(5 * report.rms_jyb / powers)))
    assert image.header.object_name == "2026-01-25T22:26:00"
    assert (image.header.run_id, image.header.bandpass_age_h) == ("r1", 2.0)
    assert image.header.rms_jyb == pytest.approx(report.rms_jyb)
    assert np.isnan(pbcor.data[beam.data < 0.1]).all()
    assert np.isfinite(pbcor.data[beam.data >= 0.1]).all()
    assert read_fits(out.model).data.sum() == pytest.approx(
        float(image_fluxes(recipe, beam.header.frequency_hz, ms).sum()), abs=0.1 * 0.3
    )
    again = ImagePaths.beside(tmp_path / "b" / "tile.fits")
    NativeImager().clean(ms, known, options=OPTIONS, out=again, provenance=said)
    assert again.image.read_bytes() == out.image.read_bytes()
    assert again.pbcor.read_bytes() == out.pbcor.read_bytes()
    assert {p.name for p in tmp_path.joinpath("b").iterdir()} == {
        f"tile{suffix}.fits" for suffix in ("", "-pb", "-pbcor", "-residual", "-rms", "-model")
    }


def image_fluxes(recipe: Recipe, frequency_hz: float, ms: Path) -> np.ndarray:
    imager = ResidualImager(ms, OPTIONS)
    imager.require_data(recipe.components)
    power = drift_averaged_power(recipe.components.ra_deg, recipe.components.dec_deg, imager.plan.drift)
    return recipe.components.flux_at([frequency_hz])[:, 0] * power


# --- the choice ---


def test_auto_is_wsclean_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imagers.shutil, "which", lambda _: "/usr/bin/wsclean")
    assert imagers.resolve_imager_name("auto") == "wsclean"
    monkeypatch.setattr(imagers.shutil, "which", lambda _: None)
    assert imagers.resolve_imager_name("auto") == "native"
    assert isinstance(imagers.choose_imager("auto"), NativeImager)
    with pytest.raises(ExternalToolMissingError, match="apt-get install wsclean"):
        imagers.resolve_imager_name("wsclean")


def test_tiers_deepen() -> None:
    order = [TIERS[name] for name in ("quicklook", "development", "standard", "high_precision")]
    for shallow, deep in pairwise(order):
        assert shallow.niter < deep.niter
        assert shallow.max_pixels <= deep.max_pixels
        assert shallow.min_primary_beam >= deep.min_primary_beam
        assert shallow.auto_threshold >= deep.auto_threshold
    assert ImagingOptions(tier="standard", niter=7).numbers.niter == 7
