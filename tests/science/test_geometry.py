"""Directions against astropy (an independent implementation), and the identities a phase centre must obey."""

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import ITRS, SkyCoord
from astropy.time import Time
from astropy.utils import iers
from numpy.testing import assert_allclose

from dsa110_assets.science import geometry
from dsa110_assets.science.instrument import LONGITUDE_DEG, array_configuration

TIMES_JD = 2461066.4354 + np.arange(24) * 12.884901888 / 86400.0  # 2026-01-25T22:26:58 on


@pytest.fixture(autouse=True)
def no_network():
    with iers.conf.set_temp("auto_download", False):
        yield


@pytest.mark.parametrize(("ra", "dec"), [(0.001, 16.2), (343.49, 16.148), (359.9999, -31.0), (101.3, 71.7)])
def test_apparent_directions_equal_astropy_to_ten_microarcseconds(ra, dec):
    ours = geometry.icrs_to_itrs([ra], [dec], TIMES_JD)[:, 0]
    sky = SkyCoord(ra * u.deg, dec * u.deg).transform_to(ITRS(obstime=Time(TIMES_JD, format="jd", scale="utc")))
    assert_allclose(ours, sky.cartesian.xyz.value.T, atol=5e-11, rtol=0)


def test_itrs_to_icrs_inverts_icrs_to_itrs():
    directions = geometry.icrs_to_itrs([359.9999], [54.573], TIMES_JD)[:, 0]
    ra, dec = geometry.itrs_to_icrs(directions, TIMES_JD)
    assert_allclose(ra, 359.9999, atol=1e-9)
    assert_allclose(dec, 54.573, atol=1e-9)


def test_meridian_point_moves_with_sidereal_time_and_shows_precession():
    ra, dec = geometry.meridian_icrs(np.radians(16.27), TIMES_JD)
    # 12.9 s of sidereal time per integration is 193.8 arcsec of right ascension (TELESCOPE 1.5)
    assert_allclose(np.diff(ra) * 3600.0, 193.8, atol=0.15)
    # 26 years of precession: apparent declination differs from ICRS by up to 0.14 deg
    assert 0.01 < abs(dec[0] - 16.27) < 0.15


def test_uvw_axes_are_right_handed_and_orthonormal():
    axes = geometry.uvw_axes(343.49, 16.148, TIMES_JD)
    identity = np.broadcast_to(np.eye(3), axes.shape)
    assert_allclose(axes @ axes.transpose(0, 2, 1), identity, atol=1e-12)
    assert_allclose(np.linalg.det(axes), 1.0, atol=1e-12)


def test_u_points_east_and_v_north():
    axes = geometry.uvw_axes(100.0, 30.0, TIMES_JD)
    east, north = geometry.icrs_to_itrs([100.001, 100.0], [30.0, 30.001], TIMES_JD).transpose(1, 0, 2)
    assert np.all(np.einsum("ti,ti->t", axes[:, 0], east) > 1e-5)
    assert np.all(np.einsum("ti,ti->t", axes[:, 1], north) > 1e-5)


def test_header_uvw_is_the_projection_on_the_meridian_point():
    array = array_configuration("full")
    vectors = array.antenna_positions_m[103:116] - array.antenna_positions_m[0]
    dec = np.radians(71.633)
    uvw = geometry.header_uvw(vectors, dec)
    assert_allclose(uvw[:, 2], vectors @ geometry.meridian_direction(dec), atol=1e-9)
    assert_allclose(np.linalg.norm(uvw, axis=1), np.linalg.norm(vectors, axis=1), rtol=1e-12)


def test_zenith_uvw_differs_by_the_known_scar():
    """Reading 'drift' as zenith shifts w by up to 1253 m at declination 71.633 deg (a real pyuvdata message)."""
    array = array_configuration("full")
    first, second = array.baselines()
    vectors = array.antenna_positions_m[second] - array.antenna_positions_m[first]
    zenith = np.radians(37.2334051)
    difference = geometry.header_uvw(vectors, np.radians(71.633)) - geometry.header_uvw(vectors, zenith)
    assert_allclose(np.abs(difference[:, 2]).max(), 1253.2, atol=0.3)


def test_separation_and_circular_mean_work_across_zero_hours():
    assert_allclose(geometry.separation_deg(359.9, 0.0, 0.1, 0.0), 0.2, atol=1e-12)
    assert_allclose(geometry.circular_mean_deg([359.0, 1.0, 3.0]), 1.0, atol=1e-9)


def test_direction_cosines_of_the_phase_centre_are_zero_and_east_is_positive():
    cosines = geometry.direction_cosines([10.0, 10.5], [20.0, 20.0], 10.0, 20.0)
    assert_allclose([c[0] for c in cosines], [0.0, 0.0, 1.0], atol=1e-15)
    assert cosines[0][1] > 0


def test_sidereal_time_equals_astropy():
    times = Time(TIMES_JD, format="jd", scale="utc")
    expected = times.sidereal_time("apparent", longitude=LONGITUDE_DEG * u.deg).to_value(u.deg)
    # astropy's local time includes the polar-motion term of the longitude: tens of milliarcseconds
    assert_allclose(geometry.local_sidereal_time_deg(TIMES_JD), expected, atol=3e-5)


def test_altitude_of_the_meridian_point():
    assert_allclose(geometry.altitude_azimuth_deg(np.radians(16.27)), (69.0365949, 180.0), atol=1e-6)
    assert geometry.altitude_azimuth_deg(np.radians(71.6))[1] == 0.0
