"""Spectral indices: pairs of frequencies, fits over many, and what they are worth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.optimize import least_squares

from dsa110_assets.science.errors import ShapeError, SolveError

Floats = npt.NDArray[np.float64]
Quality = Literal["good", "fair", "poor"]
SpectralClass = Literal["steep", "normal", "flat", "inverted", "unknown"]

MIN_LOG_RATIO = 0.3
"""|ln(nu1/nu2)| below which no index is given: real NVSS against RACS-mid (1.4/1.3675) scatters by 2.24 in alpha."""
_LINEAR_BELOW_SNR = 5.0
"""Below this SNR the logarithm is biased and its errors lopsided: the fit is made in flux."""


def spectral_index(
    flux1: npt.ArrayLike,
    flux2: npt.ArrayLike,
    freq1_ghz: npt.ArrayLike,
    freq2_ghz: npt.ArrayLike,
    flux1_err: npt.ArrayLike | None = None,
    flux2_err: npt.ArrayLike | None = None,
) -> tuple[Floats, Floats]:
    """Two-point spectral index of S proportional to nu^alpha.

    alpha = ln(S1/S2) / ln(nu1/nu2), sigma = hypot(sigma1/S1, sigma2/S2) / |ln(nu1/nu2)|:
    (1.4, 3.0 GHz; 100 +- 5, 58.65 +- 3 mJy) gives -0.700 +- 0.094.

    Parameters
    ----------
    flux1, flux2 : array_like
        Flux densities, one unit; everything broadcasts.
    freq1_ghz, freq2_ghz : array_like
        GHz.
    flux1_err, flux2_err : array_like, optional
        1 sigma errors.

    Returns
    -------
    alpha, alpha_err : array of float
        Both NaN where a flux is not positive or |ln(nu1/nu2)| < 0.3; alpha_err NaN without errors.
    """
    s1, s2 = np.asarray(flux1, np.float64), np.asarray(flux2, np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.log(np.asarray(freq1_ghz, np.float64) / np.asarray(freq2_ghz, np.float64))
        usable = (s1 > 0) & (s2 > 0) & np.isfinite(s1) & np.isfinite(s2) & (np.abs(ratio) >= MIN_LOG_RATIO)
        alpha = np.where(usable, np.log(s1 / s2) / ratio, np.nan)
        if flux1_err is None or flux2_err is None:
            return alpha, np.full(alpha.shape, np.nan)
        relative = np.hypot(np.asarray(flux1_err, np.float64) / s1, np.asarray(flux2_err, np.float64) / s2)
        return alpha, np.where(usable, relative / np.abs(ratio), np.nan)


@dataclass(frozen=True)
class SpectralFit:
    """A power law, or a log-parabola, through fluxes at several frequencies.

    Attributes
    ----------
    alpha, alpha_err : float
        Index at ``reference_ghz``; the error is scaled up by sqrt(chi2 / dof) when that exceeds 1.
    curvature, curvature_err : float
        c of ln S = ln S0 + alpha x + c x^2, x = ln(nu / reference); NaN below four points.
    flux, flux_err : float
        S0 at ``reference_ghz``, the unit of the input.
    reference_ghz : float
        Weighted geometric mean of the frequencies.
    chi2 : float
    dof : int
    n_frequencies : int
    covariance : (2, 2) or (3, 3) float
        Of (ln S0, alpha[, curvature]), not scaled.
    method : ``log`` or ``linear``
        Space the fit was made in.
    """

    alpha: float
    alpha_err: float
    curvature: float
    curvature_err: float
    flux: float
    flux_err: float
    reference_ghz: float
    chi2: float
    dof: int
    n_frequencies: int
    covariance: Floats
    method: Literal["log", "linear"]


def fit_spectral_index(
    freq_ghz: npt.ArrayLike, flux: npt.ArrayLike, flux_err: npt.ArrayLike, *, min_points_for_curvature: int = 4
) -> SpectralFit:
    """Weighted power-law fit; a log-parabola from four points on.

    Least squares of ln S against ln nu with weights (S / sigma)^2; where a point has SNR < 5 (or is not positive), in
    flux instead, started from the strong points.

    Parameters
    ----------
    freq_ghz, flux, flux_err : (n,)
        GHz, flux densities and errors (one unit). Points that are not finite are left out.
    min_points_for_curvature : int
        Fewer points get a power law.

    Returns
    -------
    SpectralFit

    Raises
    ------
    ShapeError
        If the arrays differ in shape.
    SolveError
        With fewer than two points, none of them positive, or a frequency range of |ln ratio| < 0.3.
    """
    nu, s, sigma = (np.asarray(a, np.float64) for a in (freq_ghz, flux, flux_err))
    if not (nu.shape == s.shape == sigma.shape and nu.ndim == 1):
        raise ShapeError(f"frequencies {nu.shape}, fluxes {s.shape} and errors {sigma.shape} must be (n,) each")
    good = np.isfinite(nu) & np.isfinite(s) & np.isfinite(sigma) & (sigma > 0) & (nu > 0)
    nu, s, sigma = nu[good], s[good], sigma[good]
    if nu.size < 2 or np.log(nu.max() / nu.min()) < MIN_LOG_RATIO or not np.any(s > 0):
        raise SolveError("a spectral index needs two positive fluxes a factor of e^0.3 apart in frequency")
    weak = bool(np.any(s < _LINEAR_BELOW_SNR * sigma))
    weight = np.maximum(s / sigma, 0.1) ** 2
    reference = float(np.exp(np.average(np.log(nu), weights=weight)))
    x = np.log(nu / reference)
    order = 3 if nu.size >= min_points_for_curvature and np.unique(nu).size >= min_points_for_curvature else 2
    design = np.stack([x**power for power in range(order)], axis=1)
    floor = np.maximum(s, 0.3 * sigma)
    values, covariance, chi2 = _fit_log(design, floor, sigma)
    if weak:
        values, covariance, chi2 = _fit_linear(design, s, sigma, values)
    return _as_fit(values, covariance, chi2, nu.size, reference, "linear" if weak else "log")


def _fit_log(design: Floats, s: Floats, sigma: Floats) -> tuple[Floats, Floats, float]:
    scaled = design * (s / sigma)[:, None]
    target = np.log(s) * s / sigma
    covariance = np.asarray(np.linalg.pinv(scaled.T @ scaled), np.float64)
    values = covariance @ (scaled.T @ target)
    return values, covariance, float(np.sum((target - scaled @ values) ** 2))


def _fit_linear(design: Floats, s: Floats, sigma: Floats, start: Floats) -> tuple[Floats, Floats, float]:
    scale = float(np.max(np.abs(s)))

    def misfit(values: Floats) -> Floats:
        return np.asarray((s - scale * np.exp(np.clip(design @ values, -60.0, 60.0))) / sigma)

    begin = start - np.eye(len(start))[0] * np.log(scale)
    found = least_squares(misfit, begin, method="lm" if len(s) >= len(begin) else "trf", max_nfev=2000)
    jacobian = np.asarray(found.jac, np.float64)
    covariance = np.asarray(np.linalg.pinv(jacobian.T @ jacobian), np.float64)
    values = np.asarray(found.x) + np.eye(len(start))[0] * np.log(scale)
    return values, covariance, float(2.0 * found.cost)


def _as_fit(
    values: Floats, covariance: Floats, chi2: float, n: int, reference: float, method: Literal["log", "linear"]
) -> SpectralFit:
    dof = n - len(values)
    scale = float(np.sqrt(max(1.0, chi2 / dof))) if dof > 0 else 1.0
    errors = np.sqrt(np.maximum(np.diag(covariance), 0.0)) * scale
    curved = len(values) == 3
    return SpectralFit(
        alpha=float(values[1]),
        alpha_err=float(errors[1]),
        curvature=float(values[2]) if curved else float("nan"),
        curvature_err=float(errors[2]) if curved else float("nan"),
        flux=float(np.exp(values[0])),
        flux_err=float(np.exp(values[0]) * errors[0]),
        reference_ghz=reference,
        chi2=chi2,
        dof=dof,
        n_frequencies=n,
        covariance=covariance,
        method=method,
    )


def classify_index(alpha: npt.ArrayLike) -> npt.NDArray[np.str_]:
    """``steep`` < -0.7, ``normal`` to -0.5, ``flat`` to 0.5, ``inverted`` above; ``unknown`` for NaN."""
    value = np.asarray(alpha, np.float64)
    with np.errstate(invalid="ignore"):
        chosen = np.select(
            [value < -0.7, value < -0.5, value <= 0.5, value > 0.5],
            ["steep", "normal", "flat", "inverted"],
            default="unknown",
        )
    return np.asarray(chosen, dtype=np.str_)


def judge_quality(
    alpha_err: npt.ArrayLike, *, reduced_chi2: npt.ArrayLike = np.nan, separation_beams: npt.ArrayLike = 0.0
) -> npt.NDArray[np.str_]:
    """What an index is worth.

    ``good``: error < 0.15, chi squared per degree of freedom < 3 (or unknown), matches closer than a third of a beam;
    ``fair``: error < 0.4, < 10, closer than two thirds; else, and where alpha is unknown, ``poor``.

    Parameters
    ----------
    alpha_err : (...)
        1 sigma error; NaN is poor.
    reduced_chi2 : (...)
        Of a fit through more than two points; NaN where there is none.
    separation_beams : (...)
        Largest separation of the match over the coarser survey's FWHM.
    """
    error, chi2, apart = np.broadcast_arrays(
        np.asarray(alpha_err, np.float64),
        np.asarray(reduced_chi2, np.float64),
        np.asarray(separation_beams, np.float64),
    )
    quiet = np.nan_to_num(chi2, nan=0.0)
    with np.errstate(invalid="ignore"):
        good = (error < 0.15) & (quiet < 3.0) & (apart < 1.0 / 3.0)
        fair = (error < 0.4) & (quiet < 10.0) & (apart < 2.0 / 3.0)
    return np.where(good, "good", np.where(fair, "fair", "poor"))
