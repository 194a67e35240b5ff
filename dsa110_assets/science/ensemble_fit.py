"""The fit behind ensemble normalisation: source levels and epoch scales, alternately, with outliers left out.

Model (Honeycutt 1992, PASP 104, 435; Broeg, Fernandez & Neuhaeuser 2005, AN 326, 134):
ln S_ij = ln s_i + g_j (+ a_j x_ij + b_j y_ij) + noise, weights 1 / (sigma_ij^2 + sigma_i0^2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numba
import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, Field

Floats = npt.NDArray[np.float64]
Booleans = npt.NDArray[np.bool_]

_EXCESS_SIGMA = 5.0
"""A reference is variable only where its excess variance is this many times the error of its noise's variance."""


class EnsembleOptions(BaseModel, frozen=True):
    """How light curves are normalised against the ensemble of references."""

    method: Literal["honeycutt", "median"] = "honeycutt"
    """``honeycutt``: the weighted fit; ``median``: median of reference ratios to their baseline, 3 sigma clipped."""
    min_reference_snr: float = Field(default=50.0, gt=0)
    """A reference is used in an epoch when its level is at least this many times its error there."""
    min_references: int = Field(default=5, ge=1)
    """Epochs with fewer are not normalised, and flagged."""
    min_gradient_references: int = Field(default=30, ge=6)
    """Epochs with at least as many get position terms, when positions are given."""
    baseline_epochs: int = Field(default=10, ge=1)
    """The scale is 1 on average over the first so many good epochs."""
    clip_sigma: float = Field(default=4.0, gt=1)
    """Single measurements further out do not enter the fit (a reference may have an event of its own)."""
    reject_excess: float = Field(default=2.0, gt=0)
    """References whose own scatter exceeds this many times the typical scatter are rejected as variable."""
    max_references: int = Field(default=1000, ge=5)
    """The best so many are used."""
    max_iterations: int = Field(default=30, ge=2)
    """Alternations at most; they end when no scale changes by more than 1e-7."""


@dataclass(frozen=True)
class ReferenceData:
    """Measurements of the references, all (n_epoch, n_reference).

    Attributes
    ----------
    log_flux : float
        ln S; anything where unusable.
    error : float
        Errors over the level of the source (never over the single flux: that weighs low fluxes down).
    x, y : float
        Offsets from the field centre, degrees; 0 when not known.
    usable : bool
        Measurement may enter the fit.
    """

    log_flux: Floats
    error: Floats
    x: Floats
    y: Floats
    usable: Booleans


@dataclass(frozen=True)
class EnsembleFit:
    """Result of the fit.

    Attributes
    ----------
    scale : (n_epoch, 3) float
        g, a (per degree of x), b (per degree of y); NaN where there are too few references.
    level : (n_reference,) float
        ln s.
    excess : (n_reference,) float
        sigma_i0, fractional.
    kept : (n_reference,) bool
        Not rejected.
    weight : (n_epoch, n_reference) float
        Final weights; 0 for what was left out.
    inverse : (n_epoch, 3, 3) float
        Inverse normal matrices, for leaving one out.
    """

    scale: Floats
    level: Floats
    excess: Floats
    kept: Booleans
    weight: Floats
    inverse: Floats


@numba.njit(cache=True, nogil=True)
def _invert(matrix, terms, out):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Inverse of the leading block of a symmetric 3 x 3 matrix; falls back to one term where it is singular."""
    out[:, :] = 0.0
    if terms == 3:
        a, b, c, d, e, f = matrix[0, 0], matrix[0, 1], matrix[0, 2], matrix[1, 1], matrix[1, 2], matrix[2, 2]
        first, second, third = d * f - e * e, c * e - b * f, b * e - c * d
        determinant = a * first + b * second + c * third
        if determinant > 1e-6 * a * d * f and a * d * f > 0.0:
            out[0, 0], out[0, 1], out[0, 2] = first / determinant, second / determinant, third / determinant
            out[1, 1], out[1, 2] = (a * f - c * c) / determinant, (b * c - a * e) / determinant
            out[2, 2] = (a * d - b * b) / determinant
            out[1, 0], out[2, 0], out[2, 1] = out[0, 1], out[0, 2], out[1, 2]
            return
    if matrix[0, 0] > 0.0:
        out[0, 0] = 1.0 / matrix[0, 0]


@numba.njit(cache=True, nogil=True, parallel=True)
def _fit_epochs(log_flux, variance, x, y, usable, level, excess, kept, limits, scale, weight, inverse):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Weighted fit of every epoch, three times, each leaving out what lies beyond the clip from the one before."""
    min_references, min_gradient, clip = limits
    for j in numba.prange(log_flux.shape[0]):
        matrix, vector, design = np.zeros((3, 3)), np.zeros(3), np.ones(3)
        for _ in range(3):
            matrix[:, :] = 0.0
            vector[:] = 0.0
            count = 0
            for i in range(log_flux.shape[1]):
                weight[j, i] = 0.0
                if not (usable[j, i] and kept[i]):
                    continue
                design[1], design[2] = x[j, i], y[j, i]
                residual = log_flux[j, i] - level[i]
                total = variance[j, i] + excess[i] ** 2
                model = scale[j, 0] + scale[j, 1] * design[1] + scale[j, 2] * design[2]
                if (residual - model) ** 2 > clip * clip * total:
                    continue
                count += 1
                weight[j, i] = 1.0 / total
                for a in range(3):
                    vector[a] += residual * design[a] / total
                    for b in range(3):
                        matrix[a, b] += design[a] * design[b] / total
            if count < min_references:
                scale[j, :] = np.nan
                break
            _invert(matrix, 3 if count >= min_gradient else 1, inverse[j])
            for a in range(3):
                scale[j, a] = inverse[j, a, 0] * vector[0] + inverse[j, a, 1] * vector[1] + inverse[j, a, 2] * vector[2]


@numba.njit(cache=True, nogil=True, parallel=True)
def _fit_levels(log_flux, variance, x, y, usable, scale, clip, level, excess):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Weighted mean level of every reference, and the scatter that its errors do not explain."""
    n_epoch, n_reference = log_flux.shape
    for i in numba.prange(n_reference):
        for _ in range(2):
            total_weight, total, squares, number, errors = 0.0, 0.0, 0.0, 0.0, 0.0
            for j in range(n_epoch):
                model = scale[j, 0] + scale[j, 1] * x[j, i] + scale[j, 2] * y[j, i]
                if not usable[j, i] or np.isnan(model):
                    continue
                value = log_flux[j, i] - model
                spread = variance[j, i] + excess[i] ** 2
                if (value - level[i]) ** 2 > clip * clip * spread:
                    continue
                total += value / spread
                total_weight += 1.0 / spread
                squares += (value - level[i]) ** 2
                errors += variance[j, i]
                number += 1.0
            if number >= 2.0:
                level[i] = total / total_weight
                excess[i] = np.sqrt(max(0.0, squares / (number - 1.0) - errors / number))


def start_fit(data: ReferenceData) -> tuple[Floats, Floats, Floats]:
    """Medians, twice in turn: epoch scales (n_epoch, 3), levels and excess scatter (n_reference,)."""
    blank = np.where(data.usable, data.log_flux, np.nan)
    level = _median(blank, axis=0)
    scale = np.zeros((len(blank), 3))
    for _ in range(3):
        scale[:, 0] = np.nan_to_num(_median(blank - level, axis=1))
        level = _median(blank - scale[:, :1], axis=0)
    spread = 1.4826 * _median(np.abs(blank - scale[:, :1] - level), axis=0)
    noise = _median(np.where(data.usable, data.error, np.nan), axis=0)
    excess = np.sqrt(np.maximum(0.0, spread**2 - noise**2))
    return scale, np.nan_to_num(level), np.nan_to_num(excess)


def _median(values: Floats, *, axis: int) -> Floats:
    """Nanmedian without a warning for what is all NaN."""
    known = np.isfinite(values).any(axis=axis)
    filled = np.where(np.expand_dims(known, axis), values, 0.0)
    return np.asarray(np.where(known, np.nanmedian(filled, axis=axis), np.nan))


def fit_ensemble(
    data: ReferenceData, options: EnsembleOptions, *, levels: tuple[Floats, Floats] | None = None
) -> EnsembleFit:
    """Fit levels and scales; with given ``levels`` (ln s, excess) only the scales.

    Parameters
    ----------
    data : ReferenceData
        The references' measurements.
    options : EnsembleOptions
        Limits.
    levels : ((n_reference,), (n_reference,)), optional
        ln s and sigma_i0 of an earlier fit: what makes the update of a day cheap.

    Returns
    -------
    EnsembleFit
    """
    scale, level, excess = start_fit(data)
    if levels is not None:
        level, excess = levels[0].copy(), levels[1].copy()
        blank = np.where(data.usable, data.log_flux, np.nan)
        scale[:, 0] = np.nan_to_num(_median(blank - level, axis=1))
    shape = data.log_flux.shape
    kept = np.ones(shape[1], np.bool_)
    weight, inverse = np.zeros(shape), np.zeros((shape[0], 3, 3))
    variance = data.error**2
    limits = (float(options.min_references), float(options.min_gradient_references), options.clip_sigma)
    arrays = (data.log_flux, variance, data.x, data.y, data.usable)
    for iteration in range(1 if levels is not None else options.max_iterations):
        before = scale.copy()
        scale[np.isnan(scale)] = 0.0
        _fit_epochs(*arrays, level, excess, kept, limits, scale, weight, inverse)
        if levels is not None:
            break
        _fit_levels(*arrays, scale, options.clip_sigma, level, excess)
        rejected = _reject(data, excess, kept, options) if iteration >= 2 else 0
        if not rejected and iteration > 2 and np.nanmax(np.abs(scale - before), initial=0.0) < 1e-7:
            break
    return EnsembleFit(scale, level, excess, kept, weight, inverse)


def _reject(data: ReferenceData, excess: Floats, kept: Booleans, options: EnsembleOptions) -> int:
    """Drop the worst references, at most a twentieth at a time, in place; returns how many."""
    if kept.sum() <= options.min_references:
        return 0
    number = np.maximum(data.usable.sum(axis=0), 1)
    noise = np.where(data.usable, data.error**2, 0.0).sum(axis=0) / number
    typical = float(np.sqrt(np.median((noise + excess**2)[kept])))
    significant = excess**2 > _EXCESS_SIGMA * noise * np.sqrt(2.0 / number)
    worst = np.flatnonzero(kept & significant & (excess > options.reject_excess * typical))
    room = min(max(1, int(kept.sum()) // 20), int(kept.sum()) - options.min_references)
    drop = worst[np.argsort(excess[worst])[::-1][:room]]
    kept[drop] = False
    return len(drop)


def predict_scale(fit: EnsembleFit, x: Floats, y: Floats) -> Floats:
    """Ln scale at offsets (n_epoch, n) in degrees."""
    return np.asarray(fit.scale[:, :1] + fit.scale[:, 1:2] * x + fit.scale[:, 2:] * y)


def predict_left_out(fit: EnsembleFit, data: ReferenceData) -> Floats:
    """Ln scale at every reference from the others alone, (n_epoch, n_reference).

    For a linear fit y^_(-i) = (y^_i - h_i y_i) / (1 - h_i), h_i = w_i d_i^T M^-1 d_i the leverage.
    """
    design = np.stack([np.ones_like(data.x), data.x, data.y])
    leverage = fit.weight * np.einsum("aji,jab,bji->ji", design, fit.inverse, design, optimize=True)
    predicted = predict_scale(fit, data.x, data.y)
    observed = np.where(fit.weight > 0, data.log_flux - fit.level, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        left_out = (predicted - leverage * observed) / (1.0 - leverage)
    return np.asarray(np.where(leverage < 1.0 - 1e-9, left_out, np.nan))
