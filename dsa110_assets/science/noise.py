"""Noise: what the radiometer equation expects, and robust measures of what is there."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dsa110_assets.science.errors import ScienceError

MAD_TO_SIGMA = 1.482602218505602
"""Standard deviation of a Gaussian over its median absolute deviation: 1 / Phi^-1(3/4)."""


def thermal_rms(
    sefd_jy: float,
    n_baselines: int,
    channel_width_hz: float,
    *,
    integration_s: float,
    n_channels: int = 1,
    n_integrations: int = 1,
    n_polarizations: int = 2,
) -> float:
    """Noise of a naturally weighted Stokes I image, Jy/beam.

    sigma = SEFD / sqrt(2 width time) / sqrt(n_baselines n_channels n_integrations n_polarizations): the noise of the
    real part of one visibility over the root of their number; cross-correlations only, efficiency within the SEFD.

    Parameters
    ----------
    sefd_jy : float
        System equivalent flux density of one antenna, Jy.
    n_baselines : int
        Cross-correlations (without autocorrelations).
    channel_width_hz : float
        Hz.
    integration_s : float
        Seconds per integration.
    n_channels, n_integrations, n_polarizations : int
        Samples of every baseline that are averaged.

    Returns
    -------
    float
        Jy/beam; 0.20 mJy for one full group of DSA-110 (96 antennas, 768 channels, 24 integrations).

    References
    ----------
    Wrobel, J. M. & Walker, R. C. 1999, ASPC 180, 171, eqs 9-3 and 9-23.
    """
    samples = n_baselines * n_channels * n_integrations * n_polarizations
    if min(sefd_jy, channel_width_hz, integration_s) <= 0 or samples <= 0:
        raise ScienceError("thermal noise needs a positive SEFD, bandwidth, time and number of samples")
    return float(sefd_jy / np.sqrt(2.0 * channel_width_hz * integration_s * samples))


def robust_rms(values: npt.ArrayLike, *, axis: int | None = None) -> npt.NDArray[np.float64]:
    """1.4826 median absolute deviation about the median, NaN left out.

    Parameters
    ----------
    values : array_like
        Any shape.
    axis : int or None
        Axis along which it is taken; None: over everything.

    Returns
    -------
    array of float
        NaN where there is no finite value.
    """
    data = np.asarray(values, dtype=np.float64)
    data = np.where(np.isfinite(data), data, np.nan)
    if axis is None:
        data, axis = data[np.isfinite(data)], 0
        if data.size == 0:
            return np.asarray(np.nan)
        return np.asarray(MAD_TO_SIGMA * np.median(np.abs(data - np.median(data))))
    empty = ~np.isfinite(data).any(axis=axis)
    filled = np.where(np.expand_dims(empty, axis), 0.0, data)
    deviation = np.abs(filled - np.nanmedian(filled, axis=axis, keepdims=True))
    return np.asarray(np.where(empty, np.nan, MAD_TO_SIGMA * np.nanmedian(deviation, axis=axis)))


def image_rms(image: npt.NDArray[np.floating], *, step: int = 3) -> float:
    """Robust rms of an image, Jy/beam, from every ``step``-th pixel each way; NaN if there is no finite pixel."""
    return float(robust_rms(image[::step, ::step]))
