"""Local background and rms against images whose background and noise are known."""

import time

import numpy as np
import pytest

from dsa110_assets.science.background import BackgroundOptions, measure_background, require_positive
from dsa110_assets.science.errors import ScienceError, ShapeError


def _noise(shape: tuple[int, int], seed: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def test_flat_noise_and_offset_are_recovered() -> None:
    maps = measure_background(5.0 + 2.0 * _noise((800, 700)))
    np.testing.assert_allclose(maps.background, 5.0, atol=5 * 2.0 * 1.25 / 100 / np.sqrt(3))
    assert float(np.median(maps.rms)) == pytest.approx(2.0, rel=0.005)
    np.testing.assert_allclose(maps.rms, 2.0, rtol=0.03)


def test_sources_do_not_raise_the_background_or_the_rms() -> None:
    rng = np.random.default_rng(4)
    image = _noise((1000, 1000))
    y, x = np.mgrid[-20:21, -20:21]
    for cx, cy in rng.integers(30, 970, (60, 2)):
        image[cy - 20 : cy + 21, cx - 20 : cx + 21] += 500.0 * np.exp(-0.5 * (x**2 + y**2) / 4.0**2)
    maps = measure_background(image)
    assert abs(float(np.mean(maps.background))) < 0.05
    assert float(np.mean(maps.rms)) == pytest.approx(1.0, rel=0.03)


def test_slow_changes_are_followed() -> None:
    y, x = np.mgrid[0:900, 0:1200]
    true_rms, true_level = 1.0 + y / 900.0, 0.01 * x
    maps = measure_background(true_level + true_rms * _noise((900, 1200)), options=BackgroundOptions(box_pixels=60))
    inner = (slice(60, -60), slice(60, -60))
    assert np.median(np.abs(maps.rms / true_rms - 1.0)[inner]) < 0.03
    assert np.median(np.abs(maps.background - true_level)[inner]) < 0.1


def test_blank_parts_are_bridged_and_a_blank_image_is_unknown() -> None:
    image = _noise((400, 400))
    image[:150, :] = np.nan
    image[200, 200] = np.inf
    maps = measure_background(image, options=BackgroundOptions(box_pixels=50))
    assert np.isfinite(maps.rms).all()
    np.testing.assert_allclose(maps.rms, 1.0, rtol=0.1)
    blank = measure_background(np.full((100, 100), np.nan))
    assert np.isnan(blank.rms).all()
    assert np.isnan(blank.background).all()


@pytest.mark.parametrize("shape", [(3, 5), (64, 1001), (101, 99)])
def test_every_shape_keeps_its_shape(shape: tuple[int, int]) -> None:
    maps = measure_background(_noise(shape).astype(">f4"), options=BackgroundOptions(box_pixels=32))
    assert maps.rms.shape == maps.background.shape == shape
    assert np.isfinite(maps.rms).all()


def test_wrong_shapes_and_empty_noise_are_refused() -> None:
    with pytest.raises(ShapeError):
        measure_background(np.zeros(5))
    with pytest.raises(ScienceError):
        require_positive(np.zeros((3, 3)))


def test_a_full_tile_takes_less_than_two_seconds() -> None:
    image = _noise((3600, 3600)).astype(np.float32)
    start = time.process_time()
    measure_background(image)
    assert time.process_time() - start < 2.0
