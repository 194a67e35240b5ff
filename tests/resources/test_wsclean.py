"""WSClean: its command line by equality, its verdicts by injected outcomes, and itself where it is installed."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from calibrated_set import Recipe, make_components, phase_center, write_calibrated_set
from numpy.testing import assert_allclose
from scipy.ndimage import map_coordinates

from dsa110_assets.science.components import Components
from dsa110_resources.averaged_set import write_averaged_set
from dsa110_resources.errors import CorruptInputError
from dsa110_resources.imager import (
    FallbackImager,
    ImagePaths,
    ImagingDivergedError,
    ImagingOptions,
    ResidualImager,
)
from dsa110_resources.images import read_fits
from dsa110_resources.imaging_native import NativeImager
from dsa110_resources.measurement_set import read_column, read_layout
from dsa110_resources.wsclean import (
    WSCleanImager,
    WSCleanRequest,
    build_wsclean_command,
    choose_mgain,
    choose_seeds,
    draw_mask,
    read_wsclean_image,
    require_convergence,
)

installed = pytest.mark.skipif(
    shutil.which("wsclean") is None, reason="wsclean is not installed (apt-get install wsclean)"
)
NARROW = Recipe(components=make_components([0.0], [0.0], [1.0]), n_channels=48, channel_width_hz=244140.625)
OPTIONS = ImagingOptions(channel_factor=4, cell_arcsec=8.0, size_pixels=(1200, 1080), imager="wsclean", niter=3000)


def field_of(recipe: Recipe) -> Components:
    ra, dec = phase_center(recipe)
    return make_components([ra, ra + 1.1, ra - 0.9], [dec, dec + 0.6, dec - 0.8], [3.0, 0.5, 0.4])


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Recipe]:
    recipe = replace(NARROW, components=field_of(NARROW), noise_jy=2.59, flagged_channels=(7, 8))
    return write_calibrated_set(tmp_path_factory.mktemp("noisy") / "noisy.ms", recipe), recipe


def test_command_line() -> None:
    request = WSCleanRequest(
        ms=Path("/s/averaged.ms"),
        prefix=Path("/s/wsclean"),
        size=(4704, 3696),
        cell_arcsec=4.5,
        beam=(0.015, 0.005, -80.0),
        mgain=0.8,
    )
    expected = (
        "wsclean -name /s/wsclean -no-update-model-required -use-wgridder -wgridder-accuracy 0.0001 "
        "-size 4704 3696 -scale 4.500000000asec -data-column DATA -pol xx -weight briggs 0.5 "
        "-beam-shape 54.000000 18.000000 -80.000000 -niter 20000 -mgain 0.8 -auto-mask 5 -auto-threshold 3 "
        "-temp-dir /s /s/averaged.ms"
    )
    assert build_wsclean_command(request, ImagingOptions()) == expected.split()
    options = ImagingOptions(tier="high_precision", weighting="natural", min_uv_lambda=1000, n_threads=2, niter=5)
    deep = (
        "wsclean -name /s/wsclean -no-update-model-required -use-wgridder -wgridder-accuracy 1e-05 "
        "-size 4704 3696 -scale 4.500000000asec -data-column DATA -pol xx -weight natural "
        "-beam-shape 54.000000 18.000000 -80.000000 -niter 5 -mgain 0.7 -auto-mask 4 -auto-threshold 1 "
        "-temp-dir /s -minuv-l 1000 -fits-mask /s/m.fits -j 2 /s/averaged.ms"
    )
    masked = replace(request, mask=Path("/s/m.fits"), mgain=0.7)
    assert build_wsclean_command(masked, options) == deep.split()


@pytest.mark.parametrize("tier", ["quicklook", "development", "standard", "high_precision"])
def test_the_wgridder_is_always_used(tier: str) -> None:
    request = WSCleanRequest(Path("a.ms"), Path("p"), (64, 64), 4.5, (0.01, 0.01, 0.0), 0.8)
    assert "-use-wgridder" in build_wsclean_command(request, ImagingOptions(tier=tier))


def test_seeds_are_a_calibrator_first_else_the_catalogue() -> None:
    catalogue = make_components([1, 2, 3], [0, 0, 0], [5.0, 0.05, 0.002])
    near, far = np.array([4.0, 0.05, 0.002]), np.array([0.9, 0.05, 0.002])
    assert choose_seeds(catalogue, near, ImagingOptions()).source_id.tolist() == ["S0"]
    assert choose_seeds(catalogue, far, ImagingOptions()).source_id.tolist() == ["S0", "S1"]
    assert choose_seeds(catalogue, near, ImagingOptions(seed="catalogue", seed_min_mjy=1)).source_id.size == 3
    assert len(choose_seeds(catalogue, near, ImagingOptions(seed="none"))) == 0


def test_divergence_is_a_typed_error() -> None:
    rng = np.random.default_rng(1)
    dirty = rng.normal(scale=1e-3, size=(200, 200)).astype(np.float32)
    path = Path("x.ms")
    after = require_convergence(dirty, 0.9 * dirty, dirty, ratio=2.0, path=path)
    assert after == pytest.approx(0.9e-3, rel=0.05)
    spiked = dirty.copy()
    spiked[3, 3] = 9.0
    holes = np.where(dirty > 0, np.nan, dirty).astype(np.float32)
    for residual, image in [
        (np.float32(2.5e6) * dirty, dirty),
        (holes, dirty),
        (spiked, dirty),
        (0 * dirty, dirty),  # what WSClean writes after an overflow
        (dirty, spiked),
        (dirty, holes),
    ]:
        with pytest.raises(ImagingDivergedError, match="diverged") as caught:
            require_convergence(dirty, residual, image, ratio=2.0, path=path)
        assert "native" in str(caught.value)


def test_mgain_stays_above_the_sidelobes() -> None:
    psf = np.zeros((400, 400), np.float32)
    psf[200, 200] = 1.0
    assert choose_mgain(psf, 0.8) == 0.8
    psf[20, 30] = -0.16
    assert choose_mgain(psf, 0.8) == pytest.approx(0.68)


def test_a_diverging_run_leaves_no_product(noisy: tuple[Path, Recipe], tmp_path: Path) -> None:
    ms, recipe = noisy

    mgains: list[str] = []

    def diverge(command: list[str], **_: object) -> None:
        mgains.append(command[command.index("-mgain") + 1])
        prefix = command[command.index("-name") + 1]
        noise = np.random.default_rng(1).normal(size=(1, 1, 1080, 1200)).astype(np.float32)
        for kind, scale in (("dirty", 1e-3), ("image", 1e3), ("residual", 1e3), ("model", 1.0)):
            fits.PrimaryHDU(scale * noise).writeto(f"{prefix}-{kind}.fits", overwrite=True)

    out = ImagePaths.beside(tmp_path / "tile.fits")
    with pytest.raises(ImagingDivergedError):
        WSCleanImager(run=diverge).clean(ms, recipe.components, options=OPTIONS, out=out)
    assert list(tmp_path.iterdir()) == []
    assert float(mgains[1]) == pytest.approx(0.5 * float(mgains[0]), rel=1e-4)
    fallback = FallbackImager(WSCleanImager(run=diverge), NativeImager())
    report = fallback.clean(ms, recipe.components, options=OPTIONS, out=out)
    assert report.imager == "native"
    assert read_fits(out.image).header.imager == "native standard"


def test_images_of_another_shape_or_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CorruptInputError, match="no residual"):
        read_wsclean_image(tmp_path / "w", "residual", (10, 20))
    fits.PrimaryHDU(np.zeros((1, 1, 20, 20), np.float32)).writeto(tmp_path / "w-residual.fits")
    with pytest.raises(CorruptInputError, match="expected"):
        read_wsclean_image(tmp_path / "w", "residual", (10, 20))


def test_mask_is_circles_about_bright_sources(noisy: tuple[Path, Recipe]) -> None:
    ms, recipe = noisy
    imager = ResidualImager(ms, OPTIONS)
    imager.require_data(recipe.components)
    mask = draw_mask(recipe.components, imager.plan, radius_arcsec=60.0, min_mjy=450.0)
    assert mask.sum() == pytest.approx(2 * np.pi * 7.5**2, rel=0.05)
    x, y = imager.plan.geometry.wcs().wcs_world2pix(recipe.components.ra_deg, recipe.components.dec_deg, 0)
    inside = mask[np.rint(y).astype(int), np.rint(x).astype(int)]
    assert inside.tolist() == [True, True, False]


def test_averaged_set_reads_back(noisy: tuple[Path, Recipe], tmp_path: Path) -> None:
    ms, recipe = noisy
    imager = ResidualImager(ms, OPTIONS)
    averaged = imager.residual_visibilities(recipe.components)
    write_averaged_set(tmp_path / "a.ms", averaged, imager.layout)
    layout = read_layout(tmp_path / "a.ms")
    assert layout.polarizations == ("XX",)
    assert layout.phase_center_deg == pytest.approx(imager.layout.phase_center_deg)
    assert_allclose(layout.uvw_m, averaged.uvw_m)
    assert_allclose(layout.frequencies_hz, averaged.frequencies_hz)
    assert_allclose(read_column(layout, "DATA")[..., 0], averaged.visibilities)
    assert_allclose(read_column(layout, "WEIGHT_SPECTRUM")[..., 0], averaged.weights)


@installed
def test_wsclean_makes_the_same_dirty_image_as_ducc0(noisy: tuple[Path, Recipe], tmp_path: Path) -> None:
    """Natural weights, same data: equal within 0.2 % of the peak, but for WSClean's outermost pixels."""
    from dsa110_resources.process import run_command

    ms, recipe = noisy
    options = OPTIONS.model_copy(update={"weighting": "natural", "niter": 0})
    imager = ResidualImager(ms, options)
    residual = imager.image(recipe.components.select(np.zeros(3, bool)))
    write_averaged_set(tmp_path / "a.ms", imager.averaged, imager.layout)
    cell = float(np.degrees(imager.plan.geometry.gridding_cell_rad) * 3600)
    request = WSCleanRequest(tmp_path / "a.ms", tmp_path / "w", (1200, 1080), cell, residual.beam, 0.8)
    run_command(build_wsclean_command(request, options), timeout_s=300, cwd=tmp_path)
    theirs = read_wsclean_image(request.prefix, "image", (1080, 1200))
    inner = (slice(40, -40), slice(40, -40))
    assert np.abs(theirs - residual.image)[inner].max() < 2e-3 * residual.image.max()


@installed
@pytest.mark.parametrize(("seed", "thermal_ratio"), [("calibrator_first", 1.5), ("none", 3.0)])
def test_wsclean_products(noisy: tuple[Path, Recipe], tmp_path: Path, seed: str, thermal_ratio: float) -> None:
    """Seeded, a 3 Jy source costs nothing; left to CLEAN it leaves twice the thermal noise on 32 antennas."""
    ms, recipe = noisy
    before = read_column(ms, "CORRECTED_DATA", times=slice(0, 1)).tobytes()
    options = OPTIONS.model_copy(update={"seed": seed, "mask": "catalogue" if seed == "none" else "auto"})
    out = ImagePaths.beside(tmp_path / "tile.fits")
    report = WSCleanImager().clean(ms, recipe.components, options=options, out=out)
    assert report.imager == "wsclean"
    assert report.n_seeded == (1 if seed == "calibrator_first" else 0)
    assert report.n_clean_components > 0
    assert report.thermal_ratio < thermal_ratio
    assert report.seconds.keys() >= {"wsclean", "averaged_set", "products"}
    pbcor, beam = read_fits(out.pbcor, check=True), read_fits(out.primary_beam)
    x, y = pbcor.wcs.wcs_world2pix(recipe.components.ra_deg, recipe.components.dec_deg, 0)
    values = map_coordinates(np.nan_to_num(pbcor.data), [y, x], order=3)
    error = report.rms_jyb / map_coordinates(beam.data, [y, x], order=1)
    assert np.all(np.abs(values - recipe.components.flux_jy) < 5 * error + 0.01 * recipe.components.flux_jy)
    assert {p.suffix for p in tmp_path.iterdir()} == {".fits"}  # no staging left
    assert read_column(ms, "CORRECTED_DATA", times=slice(0, 1)).tobytes() == before
