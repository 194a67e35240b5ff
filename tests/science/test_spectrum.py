"""Spectral indices against exact power laws and the value of SCIENCE §6."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsa110_assets.science.errors import ShapeError, SolveError
from dsa110_assets.science.spectrum import classify_index, fit_spectral_index, judge_quality, spectral_index


def test_the_value_of_the_design() -> None:
    alpha, error = spectral_index(100.0, 58.65, 1.4, 3.0, 5.0, 3.0)
    assert float(alpha) == pytest.approx(-0.700, abs=5e-4)
    assert float(error) == pytest.approx(0.094, abs=5e-4)


@given(st.floats(-3, 3), st.floats(0.1, 2.0), st.floats(2.8, 10.0), st.floats(1e-3, 1e3))
def test_a_power_law_gives_its_index(alpha: float, low: float, high: float, flux: float) -> None:
    found, error = spectral_index(flux, flux * (high / low) ** alpha, low, high)
    assert float(found) == pytest.approx(alpha, abs=1e-9)
    assert np.isnan(error)


def test_near_frequencies_and_impossible_fluxes_are_unknown_elementwise() -> None:
    flux, low, high = [1.0, 1.0, 0.0, -1.0, np.nan, 2.0], [1.405, 1.4, 3, 3, 3, 3], [1.4, 1.3675, 1.4, 1.4, 1.4, 1.4]
    alpha, error = spectral_index(flux, 1.0, low, high, 0.1, 0.1)
    assert np.isnan(alpha).tolist() == [True] * 5 + [False]
    assert np.isnan(error).tolist() == [True] * 5 + [False]
    near = 1.4 * np.exp(0.3)
    assert np.isfinite(spectral_index(1.0, 2.0, near * 1.0001, 1.4)[0])
    assert np.isnan(spectral_index(1.0, 2.0, near * 0.9999, 1.4)[0])


def test_a_fit_through_two_points_is_the_pair() -> None:
    fit = fit_spectral_index([1.4, 3.0], [100.0, 58.65], [5.0, 3.0])
    alpha, error = spectral_index(100.0, 58.65, 1.4, 3.0, 5.0, 3.0)
    assert fit.alpha == pytest.approx(float(alpha), rel=1e-9)
    assert fit.alpha_err == pytest.approx(float(error), rel=1e-9)
    assert fit.dof == 0
    assert np.isnan(fit.curvature)


def test_errors_are_those_of_repeated_measurements() -> None:
    rng = np.random.default_rng(2)
    nu = np.array([0.15, 0.888, 1.4])
    truth = 0.2 * (nu / 1.4) ** -0.8
    sigma = 0.03 * truth
    fits = [fit_spectral_index(nu, truth + sigma * rng.normal(size=3), sigma) for _ in range(400)]
    alphas = np.array([f.alpha for f in fits])
    assert alphas.mean() == pytest.approx(-0.8, abs=0.004)
    raw = np.sqrt(fits[0].covariance[1, 1])
    assert alphas.std() == pytest.approx(raw, rel=0.12)


def test_curvature_needs_four_points_and_is_found() -> None:
    nu = np.array([0.15, 0.4, 0.888, 1.4, 3.0])
    x = np.log(nu)
    flux = np.exp(0.3 - 0.7 * x - 0.15 * x**2)
    fit = fit_spectral_index(nu, flux, 0.02 * flux)
    assert fit.curvature == pytest.approx(-0.15, abs=1e-9)
    assert fit.alpha == pytest.approx(-0.7 - 0.3 * np.log(fit.reference_ghz), abs=1e-9)
    assert fit.chi2 == pytest.approx(0.0, abs=1e-9)
    assert np.isnan(fit_spectral_index(nu[:3], flux[:3], 0.02 * flux[:3]).curvature)


def test_weak_points_are_fitted_in_flux_without_bias() -> None:
    rng = np.random.default_rng(5)
    nu = np.array([0.888, 1.4, 3.0])
    truth = 10.0 * (nu / 1.4) ** -0.8
    sigma = np.array([1.0, 0.5, 2.0])  # the last point is at 2.7 sigma
    fits = [fit_spectral_index(nu, truth + sigma * rng.normal(size=3), sigma) for _ in range(300)]
    assert {f.method for f in fits} <= {"linear", "log"}
    assert sum(f.method == "linear" for f in fits) > 250
    assert np.median([f.alpha for f in fits]) == pytest.approx(-0.8, abs=0.05)


def test_points_that_say_nothing_are_left_out_or_refused() -> None:
    fit = fit_spectral_index([1.4, np.nan, 3.0], [1.0, 2.0, 0.5], [0.1, 0.1, 0.1])
    assert fit.n_frequencies == 2
    with pytest.raises(SolveError):
        fit_spectral_index([1.4, 1.3675], [1.0, 1.0], [0.1, 0.1])
    with pytest.raises(SolveError):
        fit_spectral_index([1.4, 3.0], [-1.0, -2.0], [0.1, 0.1])
    with pytest.raises(ShapeError):
        fit_spectral_index([1.4, 3.0], [1.0], [0.1])


def test_classes_and_quality() -> None:
    assert classify_index([-1.0, -0.7, -0.6, -0.5, 0.0, 0.5, 0.6, np.nan]).tolist() == [
        "steep", "normal", "normal", "flat", "flat", "flat", "inverted", "unknown",
    ]  # fmt: skip
    assert judge_quality([0.1, 0.2, 0.5, np.nan]).tolist() == ["good", "fair", "poor", "poor"]
    assert judge_quality(0.1, reduced_chi2=5.0).tolist() == "fair"
    assert judge_quality(0.1, separation_beams=0.9).tolist() == "poor"
