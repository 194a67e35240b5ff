"""Transit times against astropy and against the definition."""

import numpy as np
import pytest
from astropy.coordinates import ICRS, SkyCoord
from astropy.time import Time
from hypothesis import given, settings
from hypothesis import strategies as st

from dsa110_assets.science.geometry import icrs_to_itrs, meridian_icrs
from dsa110_assets.science.instrument import LONGITUDE_DEG
from dsa110_assets.science.transit import (
    SIDEREAL_DAY_D,
    apparent_declination_deg,
    hour_angle_deg,
    transit_time_mjd,
    transit_times_mjd,
)

RA_3C454, DEC_3C454 = 343.4906164, 16.1482114


def test_transit_of_3c454_3_is_where_the_real_group_was():
    """The group 2026-01-25T22:26:05 was the site's calibrator group: its 309 s hold the transit."""
    transit = transit_time_mjd(RA_3C454, DEC_3C454, Time("2026-01-25T22:00").mjd)
    start = Time("2026-01-25T22:26:05").mjd
    assert start < transit < start + 309.24 / 86400


@settings(max_examples=30, deadline=None)
@given(st.floats(0, 359.9), st.floats(-40, 85), st.floats(59000, 61500))
def test_at_transit_the_hour_angle_is_zero_and_the_day_is_the_nearest(ra, dec, mjd):
    transit = transit_time_mjd(ra, dec, mjd)
    # a Julian Date in float64 resolves 0.04 ms, 1.7e-7 deg of hour angle
    assert abs(hour_angle_deg(ra, dec, transit)[0]) < 4e-7
    assert abs(transit - mjd) <= 0.5 * SIDEREAL_DAY_D + 1e-3
    # upper, not lower, transit: the apparent direction is on the telescope's side of the axis
    x, y, _ = icrs_to_itrs([ra], [dec], [transit + 2400000.5])[0, 0]
    longitude = np.radians(LONGITUDE_DEG)
    assert x * np.cos(longitude) + y * np.sin(longitude) > 0


def test_transit_agrees_with_astropys_apparent_place():
    from astropy import units as u
    from astropy.coordinates import CIRS, EarthLocation
    from astropy.utils import iers

    with iers.conf.set_temp("auto_download", False):
        mjd = transit_time_mjd(RA_3C454, DEC_3C454, 61065.9)
        time = Time(mjd, format="mjd")
        place = SkyCoord(RA_3C454, DEC_3C454, unit="deg", frame=ICRS()).transform_to(CIRS(obstime=time))
        era = time.earth_rotation_angle(longitude=EarthLocation.from_geodetic(LONGITUDE_DEG, 37.2334, 1188).lon)
    seconds = (era - place.ra).wrap_at(180 * u.deg).to_value(u.deg) / 360 * 86164.09
    assert abs(seconds) < 0.05  # polar motion is the rest


def test_the_meridian_point_transits_now():
    ra, dec = meridian_icrs(np.radians(54.573), [2461066.43])
    assert transit_time_mjd(float(ra[0]), float(dec[0]), 61065.93) == pytest.approx(61065.93, abs=1e-9)
    assert apparent_declination_deg(float(ra[0]), float(dec[0]), 61065.93) == pytest.approx(54.573, abs=1e-9)


def test_all_transits_of_a_span_are_found_a_sidereal_day_apart():
    times = transit_times_mjd(RA_3C454, DEC_3C454, 61000.0, 61010.0)
    assert len(times) == 10
    np.testing.assert_allclose(np.diff(times), SIDEREAL_DAY_D, atol=2e-6)
    first = float(times[0])
    assert transit_times_mjd(RA_3C454, DEC_3C454, first - 1e-6, first + 1e-6).shape == (1,)
    assert transit_times_mjd(RA_3C454, DEC_3C454, first + 1e-6, first + 0.9).shape == (0,)
