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
from scipy.special import gammaincc, ndtri

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
    return _chi2_probability(eta(flux, flux_err), _usable(flux, flux_err).number)


def _chi2_probability(reduced: Floats, number: Floats) -> Floats:
    half = 0.5 * np.maximum(number - 1.0, 1.0)
    return _unknown_below(gammaincc(half, half * np.nan_to_num(reduced)), number)


def significance(flux: npt.ArrayLike, flux_err: npt.ArrayLike) -> Floats:
    """The one-sided Gaussian equivalent of :func:`p_value`, in sigma; from the Wilson-Hilferty form where p underflows.

    For p below 1e-300: z = (eta^(1/3) - 1 + 2/(9 k)) / sqrt(2/(9 k)), k = N - 1 (good to a few per cent).
    """
    return _gaussian_significance(eta(flux, flux_err), _usable(flux, flux_err).number)


def _gaussian_significance(reduced: Floats, number: Floats) -> Floats:
    probability = np.nan_to_num(_chi2_probability(reduced, number), nan=1.0)
    width = 2.0 / (9.0 * np.maximum(number - 1.0, 1.0))
    far = (np.cbrt(np.nan_to_num(reduced)) - 1.0 + width) / np.sqrt(width)
    near = -ndtri(np.clip(probability, 1e-300, 1.0 - 1e-16))
    return _unknown_below(np.where(probability > 1e-300, near, np.maximum(far, near)), number)


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


@numba.njit(cache=True, nogil=True)
def _largest_deviation(values, errors, order):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Without one element, a median has at most three values: distances are ranked once for each of them."""
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
    return largest, where


@numba.njit(cache=True, nogil=True)
def _undominated(order, errors):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Elements, in the given order, whose error is below that of all before: the others cannot win a pair."""
    kept, least = [order[0]], errors[order[0]]
    for k in order[1:]:
        if errors[k] < least:
            kept.append(k)
            least = errors[k]
    return kept


@numba.njit(cache=True, nogil=True)
def _extreme_pair(values, errors, order):  # type: ignore[no-untyped-def]  # pragma: no cover
    largest, modulation = 0.0, np.nan
    for i in _undominated(order[::-1], errors):
        for j in _undominated(order, errors):
            difference = values[i] - values[j]
            ratio = difference / np.sqrt(errors[i] ** 2 + errors[j] ** 2)
            if i != j and ratio >= largest:
                largest = ratio
                total = values[i] + values[j]
                modulation = abs(2.0 * difference / total) if total != 0.0 else np.nan
    return largest, modulation


@numba.njit(cache=True, nogil=True)
def _moments(values, errors, out):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Mean, weighted mean, std (ddof 1), eta, debiased modulation, two-pass."""
    n = values.size
    weights, weighted, mean = 0.0, 0.0, 0.0
    for k in range(n):
        mean += values[k] / n
        weights += 1.0 / errors[k] ** 2
        weighted += values[k] / errors[k] ** 2
    weighted /= weights
    squares, chi2, excess = 0.0, 0.0, 0.0
    for k in range(n):
        squares += (values[k] - mean) ** 2
        chi2 += ((values[k] - weighted) / errors[k]) ** 2
        excess += (values[k] - mean) ** 2 - errors[k] ** 2
    out[0], out[1] = mean, weighted
    if n >= 2:
        out[5], out[6] = np.sqrt(squares / (n - 1)), chi2 / (n - 1)
        if mean != 0.0:
            out[7] = out[5] / mean
            out[8] = np.sqrt(max(excess / n, 0.0)) / mean


@numba.njit(cache=True, nogil=True, parallel=True)
def _measure_all(flux, sigma, good, out, which):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Per source: moments (0, 1, 5-8), median, min, max (2-4), largest pair (9, 10) and deviation (11)."""
    for s in numba.prange(flux.shape[0]):
        values, errors = flux[s][good[s]], sigma[s][good[s]]
        n = values.size
        if n == 0:
            continue
        order = np.argsort(values)
        _moments(values, errors, out[s])
        out[s, 2] = 0.5 * (values[order[n // 2]] + values[order[(n - 1) // 2]])
        out[s, 3], out[s, 4] = values[order[0]], values[order[-1]]
        if n >= 2:
            out[s, 9], out[s, 10] = _extreme_pair(values, errors, order)
            out[s, 11], where = _largest_deviation(values, errors, order)
            which[s] = np.flatnonzero(good[s])[where]


def _measure(flux: npt.ArrayLike, flux_err: npt.ArrayLike) -> tuple[Floats, npt.NDArray[np.int64], Floats]:
    """(…, 12) values of `_measure_all`, the epoch of the largest deviation, and the number of epochs."""
    values, good, number = _usable(flux, flux_err)
    sigma = np.where(good, flux_err, 1.0)
    shape = values.shape[:-1]
    rows = (int(np.prod(shape)), values.shape[-1])
    out, which = np.full((rows[0], 12), np.nan), np.full(rows[0], -1, np.int64)
    _measure_all(values.reshape(rows), sigma.reshape(rows), good.reshape(rows), out, which)
    return out.reshape((*shape, 12)), which.reshape(shape), number


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
    values, which, _ = _measure(flux, flux_err)
    return values[..., 11], which


def largest_pair(flux: npt.ArrayLike, flux_err: npt.ArrayLike) -> tuple[Floats, Floats]:
    """Largest |Vs| of all pairs of epochs, and |m| of that pair.

    Parameters
    ----------
    flux, flux_err : (..., n_epoch)

    Returns
    -------
    vs_max, m_max : (...) float
    """
    values, _, _ = _measure(flux, flux_err)
    return values[..., 9], values[..., 10]


def measure_variability(flux: npt.ArrayLike, flux_err: npt.ArrayLike) -> pd.DataFrame:
    """All metrics of many curves in one pass: the columns of ``variability_stats``.

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
    if np.ndim(flux) != 2:
        raise ShapeError(f"fluxes have {np.ndim(flux)} axes, expected (n_source, n_epoch)")
    values, _, number = _measure(flux, flux_err)
    frame = pd.DataFrame({"n_obs": number.astype(np.int64)})
    for k, name in enumerate(("mean", "weighted_mean", "median", "min", "max", "std")):
        frame[f"{name}_flux_jy"] = values[:, k]
    frame["eta"] = frame["chi2_nu"] = values[:, 6]
    for k, name in enumerate(("v", "debiased_modulation", "vs_max", "m_max", "sigma_deviation"), start=7):
        frame[name] = values[:, k]
    frame["p_value"] = _chi2_probability(values[:, 6], number)
    frame["significance"] = _gaussian_significance(values[:, 6], number)
    frame["is_variable"] = (frame["chi2_nu"] > 3.0) | (frame["v"] > 0.05)
    return frame
