"""Variability metrics of light curves, vectorised over sources.

Every function takes one curve (n_epoch,) or many (n_source, n_epoch) and works along the last axis. Epochs that are
not finite (in flux, or in an error that is used, or with an error that is not positive) are left out; with fewer than
two epochs the answer is NaN, never 0.

References: Mooley, K. et al. 2016, ApJ 818, 105; Swinbank, J. et al. 2015, A&C 11, 25; Akritas, M. & Bershady, M. 1996.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import gammaincc
from scipy.stats import norm

from dsa110_assets.science.errors import ShapeError

Floats = npt.NDArray[np.float64]

VS_CANDIDATE = 4.3
"""|Vs| of a pair from which it is a candidate (Mooley+16)."""
M_CANDIDATE = 0.26
"""|m| that goes with it."""
MIN_EPOCHS = 2


class _Curves(NamedTuple):
    """Fluxes with 0 where unusable, weights (0 there), number of usable epochs."""

    flux: Floats
    good: npt.NDArray[np.bool_]
    number: Floats


def _usable(flux: npt.ArrayLike, *errors: npt.ArrayLike) -> _Curves:
    values = np.asarray(flux, dtype=np.float64)
    good = np.isfinite(values)
    for error in errors:
        sigma = np.asarray(error, dtype=np.float64)
        if sigma.shape not in ((), values.shape):
            raise ShapeError(f"errors have shape {sigma.shape}, expected that of the fluxes, {values.shape}")
        good = good & np.isfinite(sigma) & (sigma > 0)
    return _Curves(np.where(good, values, 0.0), good, good.sum(axis=-1).astype(np.float64))


def _unknown_below(value: npt.ArrayLike, number: Floats, least: int = MIN_EPOCHS) -> Floats:
    return np.asarray(np.where(number >= least, value, np.nan), dtype=np.float64)


def _mean_and_std(curves: _Curves) -> tuple[Floats, Floats]:
    """Mean and standard deviation (ddof 1), two-pass."""
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = curves.flux.sum(axis=-1) / curves.number
        deviation = np.where(curves.good, curves.flux - mean[..., None], 0.0)
        std = np.sqrt(np.einsum("...i,...i->...", deviation, deviation) / (curves.number - 1.0))
    return mean, std


def v(flux: npt.ArrayLike) -> Floats:
    """Fractional variability V = s / <S>, s with ddof 1.

    Parameters
    ----------
    flux : (..., n_epoch)
        Flux densities, any unit.

    Returns
    -------
    (...) float
        NaN with fewer than two epochs or where the mean is 0.
    """
    curves = _usable(flux)
    mean, std = _mean_and_std(curves)
    with np.errstate(invalid="ignore", divide="ignore"):
        return _unknown_below(np.where(mean != 0.0, std / mean, np.nan), curves.number)


def eta(flux: npt.ArrayLike, flux_err: npt.ArrayLike) -> Floats:
    """Reduced chi squared against constancy: eta = sum w (S - S_w)^2 / (N - 1), w = 1 / sigma^2, S_w weighted mean.

    The form of Swinbank+15 with means of squares is the same number, but loses digits.

    Parameters
    ----------
    flux, flux_err : (..., n_epoch)
        Flux densities and their errors, the same unit.

    Returns
    -------
    (...) float
    """
    curves = _usable(flux, flux_err)
    sigma = np.where(curves.good, flux_err, 1.0)
    weight = np.where(curves.good, 1.0 / sigma**2, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = (weight * curves.flux).sum(axis=-1) / weight.sum(axis=-1)
        deviation = np.where(curves.good, (curves.flux - mean[..., None]) / sigma, 0.0)
        chi2 = np.einsum("...i,...i->...", deviation, deviation)
        return _unknown_below(chi2 / (curves.number - 1.0), curves.number)


def chi2_nu(flux: npt.ArrayLike, flux_err: npt.ArrayLike) -> Floats:
    """Reduced chi squared against constancy; the same number as :func:`eta`."""
    return eta(flux, flux_err)


def p_value(flux: npt.ArrayLike, flux_err: npt.ArrayLike) -> Floats:
    """Probability that a constant source shows at least this eta: chi^2_sf((N - 1) eta, N - 1)."""
    number = _usable(flux, flux_err).number
    degrees = np.maximum(number - 1.0, 1.0)
    return _unknown_below(gammaincc(0.5 * degrees, 0.5 * degrees * np.nan_to_num(eta(flux, flux_err))), number)


def significance(flux: npt.ArrayLike, flux_err: npt.ArrayLike) -> Floats:
    """The one-sided Gaussian equivalent of :func:`p_value`, in sigma; from the Wilson-Hilferty form where p underflows.

    For p below 1e-300: z = ((eta)^(1/3) - 1 + 2/(9 k)) / sqrt(2/(9 k)), k = N - 1 (good to a few per cent).
    """
    number = _usable(flux, flux_err).number
    probability = p_value(flux, flux_err)
    k = np.maximum(number - 1.0, 1.0)
    far = (np.cbrt(np.nan_to_num(eta(flux, flux_err))) - 1.0 + 2.0 / (9.0 * k)) / np.sqrt(2.0 / (9.0 * k))
    with np.errstate(invalid="ignore"):
        near = norm.isf(np.clip(np.nan_to_num(probability, nan=1.0), 1e-300, 1.0))
        value = np.where(probability > 1e-300, near, np.maximum(far, near))
    return _unknown_below(value, number)


def vs(flux_a: npt.ArrayLike, flux_b: npt.ArrayLike, err_a: npt.ArrayLike, err_b: npt.ArrayLike) -> Floats:
    """Two-epoch statistic Vs = (S_a - S_b) / hypot(sigma_a, sigma_b); Vs(200, 100, 3, 4) = 20.

    Parameters
    ----------
    flux_a, flux_b, err_a, err_b
        Flux densities and errors; they broadcast.

    Returns
    -------
    array of float
        NaN where an input is not finite or both errors are 0.
    """
    a, b = np.asarray(flux_a, np.float64), np.asarray(flux_b, np.float64)
    error = np.hypot(np.asarray(err_a, np.float64), np.asarray(err_b, np.float64))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(error > 0, (a - b) / error, np.nan))


def m(flux_a: npt.ArrayLike, flux_b: npt.ArrayLike) -> Floats:
    """Two-epoch modulation m = 2 (S_a - S_b) / (S_a + S_b); m(2, 1) = 2/3. NaN where the sum is 0."""
    a, b = np.asarray(flux_a, np.float64), np.asarray(flux_b, np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(a + b != 0, 2.0 * (a - b) / (a + b), np.nan))


def debiased_modulation_index(flux: npt.ArrayLike, flux_err: npt.ArrayLike) -> Floats:
    """Modulation index without the part due to errors: sqrt(max(0, sum((S - <S>)^2 - sigma^2) / N)) / <S>.

    Akritas & Bershady 1996; Sadler et al. 2006, MNRAS 371, 898.
    """
    curves = _usable(flux, flux_err)
    sigma = np.where(curves.good, flux_err, 0.0)
    mean, _ = _mean_and_std(curves)
    with np.errstate(invalid="ignore", divide="ignore"):
        deviation = np.where(curves.good, curves.flux - mean[..., None], 0.0)
        excess = (deviation**2 - sigma**2).sum(axis=-1) / curves.number
        value = np.where(mean != 0.0, np.sqrt(np.maximum(excess, 0.0)) / mean, np.nan)
    return _unknown_below(value, curves.number)


@numba.njit(cache=True, nogil=True)
def _median_without(ordered, skip):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Median of a sorted array without its element ``skip``."""
    n = ordered.size - 1
    upper = n // 2
    lower = upper if n % 2 else upper - 1
    return 0.5 * (ordered[lower + (lower >= skip)] + ordered[upper + (upper >= skip)])


@numba.njit(cache=True, nogil=True)
def _rank_distances(ordered, centre, distances, rank):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Distances of a sorted array from a centre in ascending order, and each element's place among them."""
    right = np.searchsorted(ordered, centre)
    left = right - 1
    for count in range(ordered.size):
        if left >= 0 and (right >= ordered.size or centre - ordered[left] <= ordered[right] - centre):
            distances[count], rank[left] = centre - ordered[left], count
            left -= 1
        else:
            distances[count], rank[right] = ordered[right] - centre, count
            right += 1


@numba.njit(cache=True, nogil=True, parallel=True)
def _largest_deviations(flux, sigma, good, out, which):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Without one element, a median has at most three values: distances are ranked once for each of them."""
    for s in numba.prange(flux.shape[0]):
        values, errors = flux[s][good[s]], sigma[s][good[s]]
        if values.size < 2:
            continue
        order = np.argsort(values)
        ordered = values[order]
        distances, rank = np.empty(values.size), np.empty(values.size, np.int64)
        largest, where, centre = -1.0, -1, np.nan
        for place in range(ordered.size):
            median = _median_without(ordered, place)
            if median != centre:
                centre = median
                _rank_distances(ordered, centre, distances, rank)
            scale = max(errors[order[place]], 1.482602218505602 * _median_without(distances, rank[place]))
            deviation = abs(ordered[place] - centre) / scale
            if deviation > largest:
                largest, where = deviation, order[place]
        out[s], which[s] = largest, np.flatnonzero(good[s])[where]


def sigma_deviation(flux: npt.ArrayLike, flux_err: npt.ArrayLike) -> Floats:
    """Largest leave-one-out deviation in sigma.

    max over epochs j of |S_j - median of the others| / max(sigma_j, 1.4826 MAD of the others). Unlike
    max |x - mean| / std, which (N - 1) / sqrt(N) bounds (5 needs 27 epochs), it is not bounded by the number of epochs.

    Parameters
    ----------
    flux, flux_err : (..., n_epoch)

    Returns
    -------
    (...) float
    """
    return largest_deviation(flux, flux_err)[0]


def largest_deviation(flux: npt.ArrayLike, flux_err: npt.ArrayLike) -> tuple[Floats, npt.NDArray[np.int64]]:
    """:func:`sigma_deviation` and the epoch it was found at (-1 where unknown)."""
    values, good, _ = _usable(flux, flux_err)
    sigma = np.where(good, flux_err, 1.0)
    shape = values.shape[:-1]
    rows = (int(np.prod(shape)), values.shape[-1])
    out, which = np.full(rows[0], np.nan), np.full(rows[0], -1, np.int64)
    _largest_deviations(values.reshape(rows), np.ascontiguousarray(sigma).reshape(rows), good.reshape(rows), out, which)
    return out.reshape(shape), which.reshape(shape)


@numba.njit(cache=True, nogil=True)
def _undominated(order, variance):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Elements, in the given order, whose variance is below that of all before: the others cannot win a pair."""
    kept, least = [order[0]], variance[order[0]]
    for k in order[1:]:
        if variance[k] < least:
            kept.append(k)
            least = variance[k]
    return kept


@numba.njit(cache=True, nogil=True, parallel=True)
def _extreme_pairs(flux, sigma, good, out_vs, out_m):  # type: ignore[no-untyped-def]  # pragma: no cover
    for s in numba.prange(flux.shape[0]):
        values, variance = flux[s][good[s]], sigma[s][good[s]] ** 2
        if values.size < 2:
            continue
        order = np.argsort(values)
        largest, modulation = -1.0, np.nan
        for i in _undominated(order[::-1], variance):
            for j in _undominated(order, variance):
                difference = values[i] - values[j]
                ratio = difference * difference / (variance[i] + variance[j])
                if i != j and difference >= 0.0 and ratio > largest:
                    largest = ratio
                    total = values[i] + values[j]
                    modulation = abs(2.0 * difference / total) if total != 0.0 else np.nan
        out_vs[s], out_m[s] = np.sqrt(max(largest, 0.0)), modulation


def largest_pair(flux: npt.ArrayLike, flux_err: npt.ArrayLike) -> tuple[Floats, Floats]:
    """Largest |Vs| of all pairs of epochs, and |m| of that pair.

    Parameters
    ----------
    flux, flux_err : (..., n_epoch)

    Returns
    -------
    vs_max, m_max : (...) float
    """
    values, good, _ = _usable(flux, flux_err)
    sigma = np.where(good, flux_err, 1.0)
    shape = values.shape[:-1]
    rows = (int(np.prod(shape)), values.shape[-1])
    out_vs, out_m = np.full(rows[0], np.nan), np.full(rows[0], np.nan)
    _extreme_pairs(values.reshape(rows), np.ascontiguousarray(sigma).reshape(rows), good.reshape(rows), out_vs, out_m)
    return out_vs.reshape(shape), out_m.reshape(shape)


def measure_variability(flux: npt.ArrayLike, flux_err: npt.ArrayLike) -> pd.DataFrame:
    """All metrics of many curves at once: the columns of ``variability_stats``.

    Parameters
    ----------
    flux, flux_err : (n_source, n_epoch)
        Jy.

    Returns
    -------
    DataFrame, one row per source
        n_obs, mean/weighted_mean/median/std/min/max_flux_jy, chi2_nu, eta, v, debiased_modulation, vs_max, m_max,
        sigma_deviation, p_value, significance, is_variable (chi2_nu > 3 or V > 0.05, as the seeds had it).
    """
    curves = _usable(flux, flux_err)
    if curves.flux.ndim != 2:
        raise ShapeError(f"fluxes have {curves.flux.ndim} axes, expected (n_source, n_epoch)")
    blank = np.where(curves.good, curves.flux, np.nan)
    blank[curves.number == 0] = 0.0  # nan-aware reductions warn about empty rows
    weight = np.where(curves.good, 1.0 / np.where(curves.good, flux_err, 1.0) ** 2, 0.0)
    reduced = eta(flux, flux_err)
    _, std = _mean_and_std(curves)
    pairs = largest_pair(flux, flux_err)
    with np.errstate(invalid="ignore", divide="ignore"):
        weighted = (weight * curves.flux).sum(axis=1) / weight.sum(axis=1)
    frame = pd.DataFrame(
        {
            "n_obs": curves.number.astype(np.int64),
            "mean_flux_jy": np.nanmean(blank, axis=1),
            "weighted_mean_flux_jy": weighted,
            "median_flux_jy": np.nanmedian(blank, axis=1),
            "std_flux_jy": _unknown_below(std, curves.number),
            "min_flux_jy": np.nanmin(blank, axis=1),
            "max_flux_jy": np.nanmax(blank, axis=1),
            "chi2_nu": reduced,
            "eta": reduced,
            "v": v(np.where(curves.good, curves.flux, np.nan)),
            "debiased_modulation": debiased_modulation_index(flux, flux_err),
            "vs_max": pairs[0],
            "m_max": pairs[1],
            "sigma_deviation": sigma_deviation(flux, flux_err),
            "p_value": p_value(flux, flux_err),
            "significance": significance(flux, flux_err),
        }
    )
    level = [f"{name}_flux_jy" for name in ("mean", "median", "min", "max")]
    frame.loc[frame["n_obs"] == 0, level] = np.nan
    frame["is_variable"] = (frame["chi2_nu"] > 3.0) | (frame["v"] > 0.05)
    return frame
