"""Forced photometry against images whose sources are known exactly."""

import time

import numpy as np
import pandas as pd
import pytest
from astropy.wcs import WCS
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import fftconvolve

from dsa110_assets.science.errors import ScienceError, ShapeError
from dsa110_assets.science.forced import PhotometryFlag, measure

BEAM = (69.0 / 3600, 35.0 / 3600, 25.0)
CELL = 4.0 / 3600


def make_wcs(ny: int = 400, nx: int = 500, ra: float = 0.02, dec: float = 16.0) -> WCS:
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---SIN", "DEC--SIN"]
    wcs.wcs.crval = [ra, dec]
    wcs.wcs.crpix = [nx // 2 + 1, ny // 2 + 1]
    wcs.wcs.cdelt = [-CELL, CELL]
    return wcs


def kernel(x: float, y: float, shape: tuple[int, int], beam: tuple[float, float, float] = BEAM) -> np.ndarray:
    """Restoring beam of unit peak at 0-based pixel (x, y): position angle from north (up) to east (left)."""
    j, i = np.mgrid[: shape[0], : shape[1]]
    east, north = -(i - x) * CELL, (j - y) * CELL
    pa = np.radians(beam[2])
    along = east * np.sin(pa) + north * np.cos(pa)
    across = east * np.cos(pa) - north * np.sin(pa)
    return np.exp(-4 * np.log(2) * ((along / beam[0]) ** 2 + (across / beam[1]) ** 2))


def sky(wcs: WCS, x: object, y: object) -> tuple[np.ndarray, np.ndarray]:
    ra, dec = wcs.wcs_pix2world(x, y, 0)
    return np.atleast_1d(ra), np.atleast_1d(dec)


def correlated_noise(shape: tuple[int, int], seed: int) -> np.ndarray:
    """Unit noise with the autocorrelation of the restoring beam."""
    half = kernel(60, 60, (121, 121), (BEAM[0] / np.sqrt(2), BEAM[1] / np.sqrt(2), BEAM[2]))
    white = np.random.default_rng(seed).normal(size=(shape[0] + 120, shape[1] + 120))
    return fftconvolve(white, half / np.sqrt(np.sum(half**2)), mode="valid")


@settings(deadline=None, max_examples=25)
@given(st.floats(100.0, 101.0), st.floats(200.0, 201.0), st.floats(-90.0, 90.0), st.floats(-3.0, 100.0))
def test_any_subpixel_position_and_angle_gives_the_flux_exactly(x: float, y: float, pa: float, flux: float) -> None:
    wcs, beam = make_wcs(), (BEAM[0], BEAM[1], pa)
    image = flux * kernel(x, y, (400, 500), beam) + 2.0
    found = measure(image, 2.0, 0.5, wcs, beam, *sky(wcs, x, y)).iloc[0]
    assert found.flux == pytest.approx(flux, rel=1e-9, abs=1e-9)
    assert found.flux_err == pytest.approx(0.5, rel=1e-12)
    assert found.chi2 == pytest.approx(0.0, abs=1e-9)
    assert bool(int(found["flags"]) & PhotometryFlag.NEGATIVE_FLUX) == (found.flux < 0)


def test_formula_of_condon_on_a_noise_map_that_varies() -> None:
    wcs, shape = make_wcs(), (400, 500)
    rng = np.random.default_rng(1)
    image, background, rms = rng.normal(size=shape), rng.normal(size=shape), rng.uniform(0.5, 2.0, shape)
    x, y = 310.3, 120.8
    found = measure(image, background, rms, wcs, BEAM, *sky(wcs, x, y)).iloc[0]
    half = int(np.ceil(1.5 * BEAM[0] / CELL))
    cut = (slice(121 - half, 122 + half), slice(310 - half, 311 + half))
    d, n, k = (image - background)[cut], rms[cut], kernel(x, y, shape)[cut]
    flux = np.sum(d * k / n**2) / np.sum(k**2 / n**2)
    assert found.flux == pytest.approx(flux, rel=1e-9)
    assert found.flux_err == pytest.approx(np.sum(n * k / n**2) / np.sum(k / n**2), rel=1e-9)
    assert found.chi2 == pytest.approx(np.sum(((d - k * flux) / n) ** 2), rel=1e-9)
    assert found.dof == d.size - 1


def test_neighbours_are_solved_together() -> None:
    wcs, shape = make_wcs(), (400, 500)
    x, y = np.array([200.0, 213.2, 226.0, 400.0]), np.array([200.0, 206.0, 198.5, 300.0])
    true = np.array([1.0, 0.3, 5.0, 2.0])
    image = sum(f * kernel(*p, shape) for f, *p in zip(true, x, y, strict=True))
    found = measure(image, 0.0, 0.01, wcs, BEAM, *sky(wcs, x, y))
    np.testing.assert_allclose(found.flux, true, rtol=2e-3)
    assert found.group.nunique() == 2
    assert (found.flux_err[:3] > 0.0099).all()
    assert found.flux_err[3] == pytest.approx(0.01)


def test_errors_of_neighbours_are_those_of_beam_correlated_noise() -> None:
    wcs, shape = make_wcs(), (400, 500)
    columns = np.arange(60.0, 450.0, 78.0)  # pairs 0.55 BMAJ apart, along the major axis
    rows = np.arange(60.0, 360.0, 70.0)
    x, y = (a.ravel() for a in np.meshgrid(columns, rows))
    x, y = np.stack([x, x - 4.0], 1).ravel(), np.stack([y, y + 8.55], 1).ravel()
    ra, dec = sky(wcs, x, y)
    fluxes = [measure(correlated_noise(shape, s), 0.0, 1.0, wcs, BEAM, ra, dec) for s in range(12)]
    pull = pd.concat(fluxes)
    alone = measure(correlated_noise(shape, 99), 0.0, 1.0, wcs, BEAM, ra[::2], dec[::2])
    assert (alone.flux_err == 1.0).all()
    # the matched filter on beam-correlated noise has 2/sqrt(3) of the rms, for one source as for linked ones
    assert np.std(pull.flux / pull.flux_err) == pytest.approx(2 / np.sqrt(3), rel=0.06)
    assert float(pull.flux_err.median()) > 1.15


def test_blended_positions_are_one_source() -> None:
    wcs, shape = make_wcs(), (400, 500)
    image = 3.0 * kernel(201.0, 150.0, shape)
    found = measure(image, 0.0, 0.1, wcs, BEAM, *sky(wcs, [200.0, 202.0, 300.0], [150.0, 150.0, 150.0]))
    np.testing.assert_allclose(found.flux[:2], 3.0, rtol=1e-9)
    assert (found["flags"][:2] == int(PhotometryFlag.BLENDED)).all()
    assert found["flags"][2] & PhotometryFlag.BLENDED == 0


def test_unknown_is_nan_with_a_flag_never_zero() -> None:
    wcs, shape = make_wcs(), (400, 500)
    image, rms = np.ones(shape), np.full(shape, 0.1)
    image[50:150, 50:150] = np.nan
    rms[300:350, 300:350] = 0.0
    rms[300:350, 400:450] = np.nan
    x = np.array([100.0, 320.0, 420.0, -20.0, 510.0, 250.0])
    y = np.array([100.0, 320.0, 320.0, 100.0, 100.0, 200.0])
    ra, dec = sky(wcs, x, y)
    ra, dec = np.append(ra, [np.nan, 180.0]), np.append(dec, [10.0, -16.0])
    found = measure(image, 0.0, rms, wcs, BEAM, ra, dec)
    expected = [1, 16, 16, 1, 1, 0, 1, 1]
    assert (found["flags"] & 17).tolist() == expected
    assert found.flux.isna().tolist() == [e != 0 for e in expected]
    assert found.flux_err.isna().tolist() == [e != 0 for e in expected]
    assert found.chi2.isna().tolist() == [e != 0 for e in expected]


def test_the_border_cuts_the_kernel_and_is_flagged() -> None:
    wcs, shape = make_wcs(), (400, 500)
    x, y = np.array([3.0, 0.0, 250.0]), np.array([200.0, 0.0, 200.0])
    image = sum(kernel(*p, shape) for p in zip(x, y, strict=True))
    found = measure(image, 0.0, 0.1, wcs, BEAM, *sky(wcs, x, y))
    assert found.flux[0] == pytest.approx(1.0, rel=1e-6)
    assert found["flags"][0] == PhotometryFlag.EDGE
    assert np.isnan(found.flux[1])  # a corner holds only a quarter of the kernel
    assert found["flags"][1] == PhotometryFlag.EDGE | PhotometryFlag.NO_COVERAGE
    assert found["flags"][2] == 0


def test_big_endian_float32_and_no_positions() -> None:
    wcs, shape = make_wcs(), (400, 500)
    image = kernel(120.4, 130.6, shape).astype(">f4")
    found = measure(image, np.zeros(shape), np.ones(shape, ">f4"), wcs, BEAM, *sky(wcs, 120.4, 130.6))
    assert found.flux[0] == pytest.approx(1.0, rel=1e-5)
    assert len(measure(image, 0.0, 1.0, wcs, BEAM, [], [])) == 0


def test_wrong_arguments_are_refused() -> None:
    wcs = make_wcs()
    image = np.zeros((10, 10))
    with pytest.raises(ShapeError, match="rms"):
        measure(image, 0.0, np.ones((9, 10)), wcs, BEAM, [0.0], [16.0])
    with pytest.raises(ShapeError, match="axes"):
        measure(np.zeros(10), 0.0, 1.0, wcs, BEAM, [0.0], [16.0])
    with pytest.raises(ScienceError, match="beam"):
        measure(image, 0.0, 1.0, wcs, (0.01, 0.02, 0.0), [0.0], [16.0])
    with pytest.raises(ScienceError, match="rms"):
        measure(image, 0.0, 0.0, wcs, BEAM, [0.0], [16.0])


def test_two_thousand_sources_take_less_than_a_second() -> None:
    wcs = make_wcs(2000, 2000)
    rng = np.random.default_rng(2)
    image = rng.normal(size=(2000, 2000)).astype(np.float32)
    ra, dec = sky(wcs, rng.uniform(0, 1999, 2000), rng.uniform(0, 1999, 2000))
    measure(image, 0.0, np.ones_like(image), wcs, BEAM, ra[:50], dec[:50])
    start = time.process_time()
    found = measure(image, 0.0, np.ones_like(image), wcs, BEAM, ra, dec)
    assert time.process_time() - start < 1.0
    assert found.flux.notna().mean() > 0.98
