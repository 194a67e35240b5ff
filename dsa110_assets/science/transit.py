"""Transits over the telescope's meridian, rigorously (apparent place, Earth orientation)."""

import numpy as np
import numpy.typing as npt

from dsa110_assets.science.geometry import icrs_to_itrs
from dsa110_assets.science.instrument import LONGITUDE_DEG

SIDEREAL_DAY_D = 0.9972695663290739
"""Mean sidereal day in days of UT1."""
_MJD_ZERO_JD = 2400000.5
_ITERATIONS = 3


def hour_angle_deg(ra_deg: float, dec_deg: float, time_mjd: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Apparent hour angle of an ICRS position (degrees) at the telescope, degrees in [-180, 180), west positive.

    Parameters
    ----------
    time_mjd : (n_time,) float
        MJD, UTC.
    """
    mjd = np.atleast_1d(np.asarray(time_mjd, dtype=np.float64))
    x, y, _ = np.moveaxis(icrs_to_itrs([ra_deg], [dec_deg], mjd + _MJD_ZERO_JD)[:, 0], -1, 0)
    return np.asarray((LONGITUDE_DEG - np.degrees(np.arctan2(y, x)) + 180.0) % 360.0 - 180.0)


def transit_time_mjd(ra_deg: float, dec_deg: float, near_mjd: float) -> float:
    """Time of the upper transit nearest to a time.

    Parameters
    ----------
    ra_deg, dec_deg
        ICRS, degrees.
    near_mjd
        MJD, UTC.

    Returns
    -------
    float
        MJD, UTC, to better than a millisecond of the apparent place.
    """
    mjd = near_mjd
    for _ in range(_ITERATIONS):
        mjd -= float(hour_angle_deg(ra_deg, dec_deg, mjd)[0]) / 360.0 * SIDEREAL_DAY_D
    return mjd


def transit_times_mjd(ra_deg: float, dec_deg: float, start_mjd: float, end_mjd: float) -> npt.NDArray[np.float64]:
    """All upper transits in [start_mjd, end_mjd), MJD UTC, ascending."""
    first = transit_time_mjd(ra_deg, dec_deg, start_mjd)
    n_days = int(np.ceil((end_mjd - start_mjd) / SIDEREAL_DAY_D)) + 2
    near = first + SIDEREAL_DAY_D * np.arange(-1, n_days)
    times = np.array([transit_time_mjd(ra_deg, dec_deg, mjd) for mjd in near])
    return np.asarray(times[(times >= start_mjd) & (times < end_mjd)])


def apparent_declination_deg(ra_deg: float, dec_deg: float, time_mjd: float) -> float:
    """Apparent declination (degrees) of an ICRS position at a time: what the dishes must be set to."""
    direction = icrs_to_itrs([ra_deg], [dec_deg], [time_mjd + _MJD_ZERO_JD])[0, 0]
    return float(np.degrees(np.arcsin(direction[2])))
