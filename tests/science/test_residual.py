"""The residual image's own geometry: shapes, pixels, and offsets in which the PSF is the same everywhere."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from dsa110_assets.science.components import concatenate
from dsa110_assets.science.errors import ShapeError
from dsa110_assets.science.imaging import ImageGeometry
from dsa110_assets.science.residual import ResidualImage

GEOMETRY = ImageGeometry(nx=400, ny=200, cell_arcsec=30.0, ra_deg=0.5, dec_deg=16.0)


def residual_of(shape: tuple[int, int] = (200, 400), plane: tuple[float, float] = (0.0, 0.0)) -> ResidualImage:
    ny, nx = shape
    return ResidualImage(
        image=np.zeros((200, 400), np.float32),
        psf=np.zeros((2 * ny, 2 * nx), np.float32),
        noise_psf=None,
        wcs=GEOMETRY.wcs(),
        beam=(0.01, 0.005, 0.0),
        frequency_hz=1.4e9,
        primary_beam=np.ones((200, 400), np.float32),
        components=concatenate([]),
        plane=plane,
    )


def test_centre_and_cell() -> None:
    residual = residual_of()
    x, y = residual.pixels(0.5, 16.0)
    assert_allclose([x[0], y[0]], [200.0, 100.0], atol=1e-9)
    assert residual.psf_center == (200, 400)
    assert residual.cell_deg == pytest.approx(30.0 / 3600.0)


def test_east_is_left_and_north_is_up_across_0h() -> None:
    x, y = residual_of().pixels([359.9, 0.5], [16.0, 16.5])
    assert x[0] > 200.0  # to the west of RA 0.5
    assert y[1] == pytest.approx(100.0 + np.sin(np.radians(0.5)) * np.degrees(1.0) * 120.0, abs=1e-6)


def test_offsets_of_a_flat_array_are_pixels() -> None:
    residual = residual_of()
    assert_allclose(residual.offset_pixels([1.0], [16.4]), residual.pixels([1.0], [16.4]))


def test_offsets_shift_by_the_plane_times_n_minus_1() -> None:
    residual = residual_of(plane=(0.1, -0.4))
    x, y = residual.pixels([1.0], [16.4])
    xo, yo = residual.offset_pixels([1.0], [16.4])
    cell = np.radians(30.0 / 3600.0)
    n_minus_1 = np.sqrt(1 - ((x - 200) * cell) ** 2 - ((y - 100) * cell) ** 2) - 1
    assert_allclose(xo - x, -0.1 * n_minus_1 / cell)
    assert_allclose(yo - y, -0.4 * n_minus_1 / cell)
    assert (xo - x)[0] > 0.0


def test_shapes_are_required() -> None:
    with pytest.raises(ShapeError, match="psf has shape"):
        residual_of((100, 400))
