"""Ensemble (differential) normalisation: every epoch's flux scale from steady references, the target left out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from dsa110_assets.science.ensemble_fit import (
    EnsembleFit,
    EnsembleOptions,
    ReferenceData,
    fit_ensemble,
    predict_left_out,
    predict_scale,
)
from dsa110_assets.science.ensemble_grid import MeasurementGrid, choose_references, median_levels
from dsa110_assets.science.flags import PhotometryFlag
from dsa110_assets.science.noise import MAD_TO_SIGMA, robust_rms

__all__ = ["EnsembleOptions", "Normalised", "measure_held_out", "normalise", "normalise_epochs"]

Floats = npt.NDArray[np.float64]
_MEDIAN_EFFICIENCY = 1.253
"""Standard error of a median over that of a mean: sqrt(pi / 2)."""
_COMMON_MODE = 3.0
"""Epochs whose references scatter this many times more than usual are flagged."""


@dataclass(frozen=True)
class Normalised:
    """Normalised measurements and what was found on the way.

    Attributes
    ----------
    table : DataFrame
        The input with normalized_flux_jy, normalized_flux_err_jy, correction_factor, correction_err, n_references and
        flags.
    epochs : DataFrame
        One row per epoch: epoch, correction, err, n_refs, scatter, held_out, n_held_out, gradient_x_per_deg,
        gradient_y_per_deg, method, flags (the columns of ``ensemble_correction``).
    references : DataFrame
        One row per reference: source_id, level_jy, excess_scatter, kept; pass it as ``references`` to update a day.
    """

    table: pd.DataFrame
    epochs: pd.DataFrame
    references: pd.DataFrame


def normalise(
    table: pd.DataFrame, *, options: EnsembleOptions | None = None, references: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Divide the flux scale of each epoch out of light curves.

    Parameters
    ----------
    table : DataFrame
        One row per source and epoch: source_id, epoch (anything sortable), flux_jy, flux_err_jy (from the image rms
        only); optionally x_deg, y_deg (offsets from the field centre), is_reference (all sources, when missing),
        flags (``PhotometryFlag``), mjd (orders the epochs).
    options : EnsembleOptions
        None: the defaults.
    references : DataFrame, optional
        ``Normalised.references`` of an earlier run: levels are then held, and only scales are fitted.

    Returns
    -------
    DataFrame
        A copy with normalized_flux_jy, normalized_flux_err_jy, correction_factor (divided out), correction_err,
        n_references and flags. Where an epoch has fewer than ``min_references``: NaN and ``NOT_NORMALISED``.

    Raises
    ------
    ShapeError
        If a column is missing or a source has two rows in one epoch.

    References
    ----------
    Honeycutt 1992, PASP 104, 435; Broeg et al. 2005, AN 326, 134.
    """
    return normalise_epochs(table, options=options, references=references).table


def normalise_epochs(
    table: pd.DataFrame, *, options: EnsembleOptions | None = None, references: pd.DataFrame | None = None
) -> Normalised:
    """:func:`normalise` with the table of epochs and that of references."""
    options = options or EnsembleOptions()
    grid = MeasurementGrid.of(table)
    data, rows, levels = choose_references(grid, table, options, references)
    fit = _fit_medians(data, options) if options.method == "median" else fit_ensemble(data, options, levels=levels)
    if levels is None:
        fit = _gauged(fit, data, options)
    return _finish(table, grid, data, rows, fit, options)


def _fit_medians(data: ReferenceData, options: EnsembleOptions) -> EnsembleFit:
    """The simple estimator: baseline = median of the first epochs; scale = clipped median of the ratios."""
    blank = np.where(data.usable, np.exp(data.log_flux), np.nan)
    rank = np.cumsum(data.usable, axis=0)
    first = np.where(rank <= options.baseline_epochs, blank, np.nan)
    baseline = median_levels(first)
    with np.errstate(invalid="ignore"):
        ratio = blank / baseline
    for _ in range(3):
        centre = median_levels(ratio.T)
        spread = robust_rms(ratio, axis=1)
        with np.errstate(invalid="ignore"):
            ratio = np.where(np.abs(ratio - centre[:, None]) <= 3.0 * np.maximum(spread, 1e-12)[:, None], ratio, np.nan)
    used = np.isfinite(ratio)
    number = used.sum(axis=1)
    scale = np.zeros((len(ratio), 3))
    with np.errstate(invalid="ignore", divide="ignore"):
        scale[:, 0] = np.where(number >= options.min_references, np.log(median_levels(ratio.T)), np.nan)
        inverse = np.zeros((len(ratio), 3, 3))
        inverse[:, 0, 0] = np.where(number > 0, 1.0 / np.maximum(number, 1), 0.0)
        level = np.nan_to_num(np.log(baseline))
    kept = np.ones(ratio.shape[1], np.bool_)
    return EnsembleFit(scale, level, np.zeros(ratio.shape[1]), kept, used.astype(np.float64), inverse)


def _gauged(fit: EnsembleFit, data: ReferenceData, options: EnsembleOptions) -> EnsembleFit:
    """Mean ln scale 0 over the first good epochs; for fixed positions the mean gradients too."""
    good = np.flatnonzero(np.isfinite(fit.scale[:, 0]))[: options.baseline_epochs]
    if not good.size:
        return fit
    shift = fit.scale[good].mean(axis=0)
    fixed = bool(np.ptp(data.x, axis=0).max(initial=0.0) < 1e-9 and np.ptp(data.y, axis=0).max(initial=0.0) < 1e-9)
    if not fixed:
        shift[1:] = 0.0
    level = fit.level + shift[0] + shift[1] * data.x[good[0]] + shift[2] * data.y[good[0]]
    return EnsembleFit(fit.scale - shift, level, fit.excess, fit.kept, fit.weight, fit.inverse)


def _finish(
    table: pd.DataFrame,
    grid: MeasurementGrid,
    data: ReferenceData,
    rows: npt.NDArray[np.intp],
    fit: EnsembleFit,
    options: EnsembleOptions,
) -> Normalised:
    used = fit.weight > 0
    residual = np.where(used, data.log_flux - fit.level - predict_scale(fit, data.x, data.y), np.nan)
    scatter = robust_rms(residual, axis=1)
    ln_scale = predict_scale(fit, grid.x, grid.y)
    left_out = predict_left_out(fit, data)
    ln_scale[:, rows] = np.where(used, left_out, ln_scale[:, rows])
    epochs = _summarise_epochs(grid, fit, scatter, options)
    held = _held_out_residuals(grid, rows, fit, ln_scale, options)
    epochs["held_out"], epochs["n_held_out"] = robust_rms(held, axis=1), np.isfinite(held).sum(axis=1)
    counts = np.repeat(used.sum(axis=1)[:, None], len(grid.sources), axis=1)
    counts[:, rows] -= used
    epoch_flags = epochs["flags"].to_numpy()
    flags = epoch_flags[grid.epoch] | _reference_flags(grid, rows, fit)[grid.source]
    at = (grid.epoch, grid.source)
    relative = (epochs["err"] / epochs["correction"]).to_numpy()[grid.epoch]
    out = _corrected(table, ln_scale[at], relative, counts[at], flags)
    references = pd.DataFrame(
        {
            "source_id": grid.sources[rows],
            "level_jy": np.exp(fit.level),
            "excess_scatter": fit.excess,
            "kept": fit.kept,
        }
    )
    return Normalised(out, epochs, references)


def _corrected(
    table: pd.DataFrame,
    ln_scale: Floats,
    relative_error: Floats,
    n_references: npt.NDArray[np.int64],
    flags: npt.NDArray[np.int64],
) -> pd.DataFrame:
    """The table with the columns of a normalisation, all per row."""
    out = table.copy()
    factor = np.exp(ln_scale)
    flux, error = (table[name].to_numpy(np.float64) / factor for name in ("flux_jy", "flux_err_jy"))
    out["normalized_flux_jy"] = flux
    out["normalized_flux_err_jy"] = np.hypot(error, flux * relative_error)
    out["correction_factor"] = factor
    out["correction_err"] = factor * relative_error
    out["n_references"] = n_references.astype(np.int64)
    given = table["flags"].to_numpy(np.int64) if "flags" in table.columns else np.zeros(len(table), np.int64)
    unknown = np.where(np.isnan(factor), int(PhotometryFlag.NOT_NORMALISED), 0)
    out["flags"] = given | flags | unknown
    return out


def _summarise_epochs(
    grid: MeasurementGrid, fit: EnsembleFit, scatter: Floats, options: EnsembleOptions
) -> pd.DataFrame:
    """One row per epoch; the error is 1.253 x 1.4826 MAD / sqrt(N), that of a median."""
    number = (fit.weight > 0).sum(axis=1)
    correction = np.exp(fit.scale[:, 0])
    good = np.isfinite(correction)
    flags = np.where(good, 0, int(PhotometryFlag.NOT_NORMALISED))
    early = np.cumsum(good) < options.baseline_epochs
    flags |= np.where(early, int(PhotometryFlag.PROVISIONAL_BASELINE), 0)
    if good.sum() >= options.baseline_epochs:
        wild = good & (scatter > _COMMON_MODE * np.median(scatter[good]))
        flags |= np.where(wild, int(PhotometryFlag.COMMON_MODE), 0)
    return pd.DataFrame(
        {
            "epoch": grid.epochs,
            "correction": correction,
            "err": correction * _MEDIAN_EFFICIENCY * scatter / np.sqrt(np.maximum(number, 1)),
            "n_refs": number,
            "scatter": np.where(good, scatter, np.nan),
            "gradient_x_per_deg": fit.scale[:, 1],
            "gradient_y_per_deg": fit.scale[:, 2],
            "method": options.method,
            "flags": flags.astype(np.int64),
        }
    )


def _reference_flags(grid: MeasurementGrid, rows: npt.NDArray[np.intp], fit: EnsembleFit) -> npt.NDArray[np.int64]:
    flags = np.zeros(len(grid.sources), np.int64)
    flags[rows] = np.where(fit.kept, int(PhotometryFlag.IS_REFERENCE), int(PhotometryFlag.REJECTED_REFERENCE))
    return flags


def _held_out_residuals(
    grid: MeasurementGrid, rows: npt.NDArray[np.intp], fit: EnsembleFit, ln_scale: Floats, options: EnsembleOptions
) -> Floats:
    """Ln of normalised flux over its own median, (n_epoch, n_source), of bright sources that had no part in it.

    References count with the scale of the others; rejected ones do not count. NaN elsewhere.
    """
    level = median_levels(grid.flux)
    with np.errstate(invalid="ignore", divide="ignore"):
        bright = (grid.error <= level / options.min_reference_snr) & (grid.flux > 0)
        bright[:, rows[~fit.kept]] = False
        value = np.where(bright, np.log(np.where(bright, grid.flux, 1.0)) - ln_scale, np.nan)
        return np.asarray(value - median_levels(value), np.float64)


def measure_held_out(
    table: pd.DataFrame, *, options: EnsembleOptions | None = None, n_folds: int = 5, seed: int = 0
) -> pd.DataFrame:
    """Scatter of bright sources that were kept out of the ensemble altogether, fold by fold.

    Parameters
    ----------
    table : DataFrame
        As for :func:`normalise`.
    options : EnsembleOptions
        None: the defaults.
    n_folds : int
        References are split into so many parts; each is normalised by the others.
    seed : int
        Of the split.

    Returns
    -------
    DataFrame
        One row per source: source_id, scatter (1.4826 MAD of the normalised flux over its median), noise (median
        fractional error), n_epochs.
    """
    options = options or EnsembleOptions()
    allowed = (
        table["is_reference"].to_numpy(np.bool_) if "is_reference" in table.columns else np.ones(len(table), np.bool_)
    )
    code, names = pd.factorize(table["source_id"])
    fold = np.random.default_rng(seed).permutation(len(names)) % n_folds
    parts = []
    for k in range(n_folds):
        out_of_it = fold[code] == k
        result = normalise(table.assign(is_reference=allowed & ~out_of_it), options=options)
        parts.append(result[out_of_it & allowed])
    held = pd.concat(parts)
    held = held[held["normalized_flux_jy"].notna()]
    curves = held.groupby("source_id", sort=False)
    median = curves["normalized_flux_jy"].transform("median")
    deviation = (held["normalized_flux_jy"] / median - 1.0).abs()
    return pd.DataFrame(
        {
            "scatter": MAD_TO_SIGMA * deviation.groupby(held["source_id"], sort=False).median(),
            "noise": (held["flux_err_jy"] / held["correction_factor"] / median)
            .groupby(held["source_id"], sort=False)
            .median(),
            "n_epochs": curves.size(),
        }
    ).reset_index()
