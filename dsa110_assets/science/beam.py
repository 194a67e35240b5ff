"""The primary beam: an Airy pattern of the 4.65 m dish, frequency dependent, drifting with the sky."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from astropy.wcs import WCS
from scipy.interpolate import RectBivariateSpline
from scipy.special import j1

from dsa110_assets.science.errors import ShapeError
from dsa110_assets.science.geometry import separation_deg
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


PRIMARY_BEAM_MODEL = "airy-4.65m-drift-v1"
"""Name and version of the model below; written into every product that was corrected with it."""

_BEAM_NODES = 16
"""Frequencies at which a drift average is evaluated; P is smooth enough for 1e-5 over the band's 13 per cent."""
_COARSE_STEP_DEG = 0.05
"""Spacing of the grid on which a beam map is computed; cubic interpolation from it is good to 1e-6."""


@dataclass(frozen=True)
class BeamDrift:
    """Where the primary beam pointed, and with what weight, while an image was taken.

    Attributes
    ----------
    ra_deg, dec_deg : (n_time,) float
        ICRS position of the meridian point at each integration, degrees.
    frequencies_hz : (n_frequency,) float
        Hz.
    weights : (n_time, n_frequency) float
        Summed imaging weights.
    """

    ra_deg: npt.NDArray[np.float64]
    dec_deg: npt.NDArray[np.float64]
    frequencies_hz: npt.NDArray[np.float64]
    weights: npt.NDArray[np.float64]

    def __post_init__(self) -> None:
        expected = (len(self.ra_deg), len(self.frequencies_hz))
        if self.weights.shape != expected or self.dec_deg.shape != self.ra_deg.shape:
            raise ShapeError(f"weights have shape {self.weights.shape}, expected {expected}")
        if not self.weights.sum() > 0:
            raise ShapeError("the weights of a beam drift must have a positive sum")

    @property
    def effective_frequency_hz(self) -> float:
        """Weighted mean frequency."""
        return float(np.average(self.frequencies_hz, weights=self.weights.sum(axis=0)))

    def binned(self, n_bins: int = _BEAM_NODES) -> "BeamDrift":
        """The same with frequencies joined to at most ``n_bins`` weighted means."""
        parts = np.array_split(np.arange(len(self.frequencies_hz)), min(n_bins, len(self.frequencies_hz)))
        weights = np.stack([self.weights[:, p].sum(axis=1) for p in parts], axis=1)
        per_channel = self.weights.sum(axis=0)
        centres = [
            np.average(self.frequencies_hz[p], weights=per_channel[p]) if per_channel[p].sum() > 0 else 0.0
            for p in parts
        ]
        used = weights.sum(axis=0) > 0
        return BeamDrift(self.ra_deg, self.dec_deg, np.array(centres)[used], weights[:, used])


def drift_averaged_power(
    ra_deg: npt.ArrayLike, dec_deg: npt.ArrayLike, drift: BeamDrift, *, spectral_index: npt.ArrayLike = 0.0
) -> npt.NDArray[np.float64]:
    """Primary beam power averaged over drift, frequency and weight: the apparent over the true flux of a source.

    P(x) = sum_tf w_tf P(theta_t(x), f) (f / f_eff)^alpha / sum_tf w_tf, f_eff the weighted mean frequency.

    Parameters
    ----------
    ra_deg, dec_deg : (n,)
        ICRS positions, degrees.
    drift : BeamDrift
        Pointings and weights.
    spectral_index : float or (n,)
        alpha of each source.

    Returns
    -------
    (n,) float
        0-1 for alpha = 0.
    """
    ra, dec, alpha = np.broadcast_arrays(np.atleast_1d(ra_deg), np.atleast_1d(dec_deg), np.atleast_1d(spectral_index))
    binned = drift.binned()
    separation = np.radians(separation_deg(ra[:, None], dec[:, None], drift.ra_deg[None, :], drift.dec_deg[None, :]))
    total = np.zeros(ra.shape)
    for k, frequency in enumerate(binned.frequencies_hz):
        power = airy_power(separation, frequency) @ binned.weights[:, k]
        total += power * (frequency / drift.effective_frequency_hz) ** alpha
    return np.asarray(total / binned.weights.sum())


def map_primary_beam(wcs: WCS, shape: tuple[int, int], drift: BeamDrift) -> npt.NDArray[np.float32]:
    """Drift-averaged primary beam power at every pixel of an image.

    Evaluated on a grid of 0.05 degrees and interpolated by cubic splines: the beam is 2.7 degrees wide.

    Parameters
    ----------
    wcs
        Celestial world coordinates.
    shape
        (ny, nx).
    drift : BeamDrift
        Pointings and weights.

    Returns
    -------
    (ny, nx) float32
    """
    ny, nx = shape
    step = max(1.0, _COARSE_STEP_DEG / abs(float(wcs.wcs.cdelt[1])))
    y, x = (np.linspace(0, n - 1, max(4, int(np.ceil(n / step)) + 1)) for n in (ny, nx))
    grid_x, grid_y = np.meshgrid(x, y)
    ra, dec = wcs.wcs_pix2world(grid_x.ravel(), grid_y.ravel(), 0)
    on_sky = np.isfinite(ra) & np.isfinite(dec)
    power = np.zeros(ra.shape)
    power[on_sky] = drift_averaged_power(ra[on_sky], dec[on_sky], drift)
    spline = RectBivariateSpline(y, x, power.reshape(grid_x.shape))
    return np.asarray(np.clip(spline(np.arange(ny), np.arange(nx)), 0.0, 1.0), dtype=np.float32)
