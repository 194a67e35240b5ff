"""Previews: PNG bytes whose picture holds the source, and blocks that keep sources."""

from io import BytesIO

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.image import imread

from dsa110_assets.science.imaging import ImageGeometry
from dsa110_assets.science.plots import render_thumbnail, shrink_image, stretch_limits


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 9), st.integers(0, 10**6))
def test_shrinking_keeps_the_brightest_pixel(longest: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    factor = int(np.ceil(36 / (4 * longest)))
    image = rng.normal(size=(factor * 4, factor * 4 * longest if factor == 1 else 36)).astype(np.float32)
    small, used = shrink_image(image, max(4 * longest, 1))
    kept = image[: small.shape[0] * used, : small.shape[1] * used]
    assert small.size == (image.shape[0] // used) * (image.shape[1] // used)
    assert np.abs(small).max() == np.abs(kept).max()


def test_blank_pixels_lose_against_numbers() -> None:
    image = np.full((4, 4), np.nan, np.float32)
    image[1, 1] = -2.0
    small, factor = shrink_image(image, 2)
    assert factor == 2
    assert small[0, 0] == -2.0
    assert np.isnan(small[1, 1])


def test_limits_follow_the_noise() -> None:
    rng = np.random.default_rng(1)
    low, high = stretch_limits(rng.normal(scale=1e-3, size=(100, 100)), 1e-3)
    assert low == -3e-3
    assert high == 30e-3
    assert stretch_limits(np.full((3, 3), np.nan), 1.0) == (-1.0, 1.0)


def test_thumbnail_is_a_png_that_shows_the_source() -> None:
    geometry = ImageGeometry(nx=300, ny=200, cell_arcsec=5.0, ra_deg=0.0, dec_deg=16.0)
    rng = np.random.default_rng(2)
    image = rng.normal(scale=1e-4, size=(200, 300)).astype(np.float32)
    image[100:103, 60:63] = 0.2
    image[:10] = np.nan
    png = render_thumbnail(image, geometry.wcs(), title="a tile", rms_jyb=1e-4, beam=(0.01, 0.005, 30.0))
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    picture = imread(BytesIO(png))
    assert picture.shape == (800, 1050, 4)
    bright = picture[:, :, :3].sum(axis=2) > 2.4
    bright[:, 830:] = False  # colour bar and close-up
    columns = np.flatnonzero(((picture[:, :, 0] > 0.9) & (picture[:, :, 2] < 0.7) & bright).any(axis=0))
    assert columns.size > 0
    assert 84 + 0.17 * 798 < columns.mean() < 84 + 0.25 * 798  # pixel 61 of 300 in axes 798 pixels wide


def test_marks_and_an_empty_image_do_not_fail() -> None:
    geometry = ImageGeometry(nx=40, ny=40, cell_arcsec=5.0, ra_deg=180.0, dec_deg=71.6)
    blank = np.full((40, 40), np.nan, np.float32)
    marks = (np.array([180.0]), np.array([71.6]))
    png = render_thumbnail(blank, geometry.wcs(), title="blank", rms_jyb=float("nan"), marks_deg=marks)
    assert len(png) > 5000
