"""The primary beam: an Airy pattern of the 4.65 m dish, frequency dependent, drifting with the sky."""

import numpy as np
import numpy.typing as npt
from scipy.special import j1

from dsa110_assets.science.instrument import DISH_DIAMETER_M

SPEED_OF_LIGHT_M_S = 299792458.0


def airy_power(
    separation_rad: npt.ArrayLike, frequency_hz: npt.ArrayLike, *, diameter_m: float = DISH_DIAMETER_M
) -> npt.NDArray[np.float64]:
    """Power response of a uniformly illuminated circular aperture.

    P = (2 J1(x) / x)^2, x = pi D sin(theta) / lambda; FWHM = 1.03 lambda / D (2.71 deg at 1405 MHz).

    Parameters
    ----------
    separation_rad, frequency_hz
        Angle from the pointing centre (radians) and frequency (Hz); they broadcast.
    diameter_m
        Dish diameter, metres.

    Returns
    -------
    array of float
        Response, 1 at the centre.
    """
    sine = np.sin(np.asarray(separation_rad, dtype=np.float64))
    x = np.pi * diameter_m * sine * np.asarray(frequency_hz, dtype=np.float64) / SPEED_OF_LIGHT_M_S
    small = np.abs(x) < 1e-8
    safe = np.where(small, 1.0, x)
    return np.where(small, 1.0, (2.0 * j1(safe) / safe) ** 2)
