"""Directions and baselines, rigorously: ERFA with the Earth-orientation tables that ship with astropy-iers-data.

Times are Julian Dates (UTC, float64). Nothing here reaches for the network: the bundled IERS-B/A tables are read, and
dates beyond them use their last value.
"""

from functools import cache

import erfa
import numpy as np
import numpy.typing as npt

from dsa110_assets.science.instrument import LATITUDE_DEG, LONGITUDE_DEG

Floats = npt.NDArray[np.float64]

_ARCSEC = np.pi / 180.0 / 3600.0


@cache
def _earth_orientation() -> tuple[Floats, Floats, Floats, Floats]:
    """(mjd, ut1-utc s, xp rad, yp rad) of the bundled IERS-A table (which holds the B values where they exist)."""
    from astropy.utils import iers

    table = iers.IERS_A.open(iers.IERS_A_FILE)
    mjd = np.asarray(table["MJD"].to_value("d"), dtype=np.float64)
    dut = np.asarray(table["UT1_UTC"].to_value("s"), dtype=np.float64)
    xp = np.asarray(table["PM_x"].to_value("rad"), dtype=np.float64)
    yp = np.asarray(table["PM_y"].to_value("rad"), dtype=np.float64)
    good = np.isfinite(dut) & np.isfinite(xp) & np.isfinite(yp)
    return mjd[good], dut[good], xp[good], yp[good]


def _interpolated_orientation(time_jd: Floats) -> tuple[Floats, Floats, Floats]:
    mjd_table, dut, xp, yp = _earth_orientation()
    mjd = time_jd - 2400000.5
    # UT1 - TAI is continuous where UT1 - UTC jumps by a leap second: interpolate that one.
    leap_table = _tai_minus_utc(mjd_table)
    leap = _tai_minus_utc(mjd)
    ut1_tai = np.interp(mjd, mjd_table, dut - leap_table)
    return ut1_tai + leap, np.interp(mjd, mjd_table, xp), np.interp(mjd, mjd_table, yp)


def _tai_minus_utc(mjd: Floats) -> Floats:
    jd1, jd2 = np.full_like(mjd, 2400000.5), np.asarray(mjd)
    tai1, tai2 = erfa.utctai(jd1, jd2)
    return np.asarray(np.round(((tai1 - jd1) + (tai2 - jd2)) * 86400.0))


def _split(time_jd: npt.ArrayLike) -> tuple[Floats, Floats]:
    jd = np.atleast_1d(np.asarray(time_jd, dtype=np.float64))
    day = np.floor(jd - 0.5) + 0.5
    return day, jd - day


def _frames(time_jd: npt.ArrayLike) -> tuple[npt.NDArray[np.void], Floats, Floats]:
    """Star-independent astrometry (geocentric), Earth rotation angle (rad) and polar-motion matrix, per time."""
    day, fraction = _split(time_jd)
    dut, xp, yp = _interpolated_orientation(day + fraction)
    tai = erfa.utctai(day, fraction)
    tt = erfa.taitt(*tai)
    ut1 = erfa.utcut1(day, fraction, dut)
    astrom, _ = erfa.apci13(*tt)
    era = np.asarray(erfa.era00(*ut1))
    polar = np.asarray(erfa.pom00(xp, yp, erfa.sp00(*tt)))
    return astrom, era, polar


def _rotate_z(angle_rad: Floats) -> Floats:
    """Rotation matrices about z that turn celestial intermediate into terrestrial axes, shape (..., 3, 3)."""
    c, s = np.cos(angle_rad), np.sin(angle_rad)
    zero, one = np.zeros_like(c), np.ones_like(c)
    return np.stack([np.stack([c, s, zero], -1), np.stack([-s, c, zero], -1), np.stack([zero, zero, one], -1)], -2)


def icrs_to_itrs(ra_deg: npt.ArrayLike, dec_deg: npt.ArrayLike, time_jd: npt.ArrayLike) -> Floats:
    """Apparent directions of fixed ICRS positions in the rotating Earth frame.

    Annual aberration, light deflection, precession-nutation (IAU 2006/2000A), Earth rotation and polar motion;
    diurnal aberration (0.3 arcsec, common to a field) and refraction are left out, as in the correlator's model.

    Parameters
    ----------
    ra_deg, dec_deg : (n_source,) float
        ICRS position, degrees.
    time_jd : (n_time,) float
        Julian Date, UTC.

    Returns
    -------
    (n_time, n_source, 3) float
        Unit vectors in ITRS.
    """
    astrom, era, polar = _frames(time_jd)
    ra = np.radians(np.atleast_1d(np.asarray(ra_deg, dtype=np.float64)))
    dec = np.radians(np.atleast_1d(np.asarray(dec_deg, dtype=np.float64)))
    ri, di = erfa.atciqz(ra[None, :], dec[None, :], astrom[:, None])
    cirs = erfa.s2c(ri, di)
    matrix = polar @ _rotate_z(era)
    return np.asarray(np.einsum("tij,tsj->tsi", matrix, cirs))


def itrs_to_icrs(direction: npt.ArrayLike, time_jd: npt.ArrayLike) -> tuple[Floats, Floats]:
    """Inverse of :func:`icrs_to_itrs`, one direction per time.

    Parameters
    ----------
    direction : (n_time, 3) or (3,) float
        Apparent ITRS unit vectors.
    time_jd : (n_time,) float
        Julian Date, UTC.

    Returns
    -------
    ra_deg, dec_deg : (n_time,) float
        ICRS, degrees, right ascension in [0, 360).
    """
    astrom, era, polar = _frames(time_jd)
    matrix = polar @ _rotate_z(era)
    vector = np.broadcast_to(np.asarray(direction, dtype=np.float64), (len(era), 3))
    cirs = np.einsum("tji,tj->ti", matrix, vector)
    ri, di = erfa.c2s(cirs)
    ra, dec = erfa.aticq(ri, di, astrom)
    return np.degrees(np.asarray(ra)) % 360.0, np.degrees(np.asarray(dec))


def meridian_direction(dec_app_rad: float) -> Floats:
    """ITRS unit vector, shape (3,), of hour angle 0 at an apparent declination (radians): constant in time."""
    longitude = np.radians(LONGITUDE_DEG)
    return np.array(
        [np.cos(dec_app_rad) * np.cos(longitude), np.cos(dec_app_rad) * np.sin(longitude), np.sin(dec_app_rad)]
    )


def meridian_icrs(dec_app_rad: float, time_jd: npt.ArrayLike) -> tuple[Floats, Floats]:
    """ICRS position (degrees, each shape (n_time,)) of the meridian point at an apparent declination (radians)."""
    return itrs_to_icrs(meridian_direction(dec_app_rad), time_jd)


def uvw_axes(ra_deg: float, dec_deg: float, time_jd: npt.ArrayLike) -> Floats:
    """Axes of the uvw frame of an ICRS phase centre, in ITRS.

    w points to the apparent phase centre, v to the projection of ICRS north as seen there (finite difference of the
    apparent place), u completes the right-handed set and points east.

    Returns
    -------
    (n_time, 3, 3) float
        Rows u, v, w; ``uvw = axes @ (x1 - x2)`` for a Measurement Set.
    """
    step = 1e-5  # radians: 2 arcsec, small against curvature and large against rounding
    north = icrs_to_itrs([ra_deg, ra_deg], [dec_deg - np.degrees(step), dec_deg + np.degrees(step)], time_jd)
    w = icrs_to_itrs([ra_deg], [dec_deg], time_jd)[:, 0]
    v = north[:, 1] - north[:, 0]
    v -= np.sum(v * w, axis=-1, keepdims=True) * w
    v /= np.linalg.norm(v, axis=-1, keepdims=True)
    return np.stack([np.cross(v, w), v, w], axis=1)


def header_uvw(baseline_m: npt.ArrayLike, dec_app_rad: float) -> Floats:
    """The raw writer's uvw at hour angle 0: u = y, v = -sin(d) x + cos(d) z, w = cos(d) x + sin(d) z.

    Parameters
    ----------
    baseline_m : (n, 3) float
        ITRF vectors, metres; the raw files hold antenna 2 minus antenna 1.
    dec_app_rad
        Apparent declination of the meridian point, radians.

    Returns
    -------
    (n, 3) float
        Metres. x is along the telescope's meridian at the equator, y east, z north.
    """
    vector = np.asarray(baseline_m, dtype=np.float64)
    longitude = np.radians(LONGITUDE_DEG)
    x = np.cos(longitude) * vector[..., 0] + np.sin(longitude) * vector[..., 1]
    y = -np.sin(longitude) * vector[..., 0] + np.cos(longitude) * vector[..., 1]
    z = vector[..., 2]
    sin_d, cos_d = np.sin(dec_app_rad), np.cos(dec_app_rad)
    return np.stack([y, -sin_d * x + cos_d * z, cos_d * x + sin_d * z], axis=-1)


def direction_cosines(
    ra_deg: npt.ArrayLike, dec_deg: npt.ArrayLike, ra0_deg: float, dec0_deg: float
) -> tuple[Floats, Floats, Floats]:
    """Direction cosines (l east, m north, n) of ICRS positions about a phase centre (all degrees)."""
    d_ra = np.radians(np.asarray(ra_deg, dtype=np.float64) - ra0_deg)
    dec, dec0 = np.radians(np.asarray(dec_deg, dtype=np.float64)), np.radians(dec0_deg)
    l_cosine = np.cos(dec) * np.sin(d_ra)
    m_cosine = np.sin(dec) * np.cos(dec0) - np.cos(dec) * np.sin(dec0) * np.cos(d_ra)
    n_cosine = np.sin(dec) * np.sin(dec0) + np.cos(dec) * np.cos(dec0) * np.cos(d_ra)
    return l_cosine, m_cosine, n_cosine


def separation_deg(
    ra1_deg: npt.ArrayLike, dec1_deg: npt.ArrayLike, ra2_deg: npt.ArrayLike, dec2_deg: npt.ArrayLike
) -> Floats:
    """Great-circle separation, degrees (Vincenty's form, exact at all distances); broadcasts."""
    ra1, dec1, ra2, dec2 = (np.radians(np.asarray(a, dtype=np.float64)) for a in (ra1_deg, dec1_deg, ra2_deg, dec2_deg))
    return np.asarray(np.degrees(erfa.seps(ra1, dec1, ra2, dec2)), dtype=np.float64)


def circular_mean_deg(angle_deg: npt.ArrayLike, weight: npt.ArrayLike | None = None) -> float:
    """Mean direction of angles in degrees, in [0, 360): right across 0h."""
    angle = np.radians(np.asarray(angle_deg, dtype=np.float64))
    mean = np.average(np.exp(1j * angle), weights=None if weight is None else np.asarray(weight))
    return float(np.degrees(np.angle(mean)) % 360.0)


def local_sidereal_time_deg(time_jd: npt.ArrayLike) -> Floats:
    """Apparent local sidereal time at the telescope, degrees in [0, 360), shape (n_time,)."""
    day, fraction = _split(time_jd)
    dut, _, _ = _interpolated_orientation(day + fraction)
    tt = erfa.taitt(*erfa.utctai(day, fraction))
    ut1 = erfa.utcut1(day, fraction, dut)
    gast = np.degrees(np.asarray(erfa.gst06a(*ut1, *tt)))
    return np.asarray((gast + LONGITUDE_DEG) % 360.0, dtype=np.float64)


def altitude_azimuth_deg(dec_app_rad: float) -> tuple[float, float]:
    """Altitude and azimuth (east of north), degrees, of the meridian point at an apparent declination (radians)."""
    zenith_distance = LATITUDE_DEG - np.degrees(dec_app_rad)
    return float(90.0 - abs(zenith_distance)), 180.0 if zenith_distance > 0 else 0.0
