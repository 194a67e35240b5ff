"""Variability metrics against plain per-curve formulas, to 1e-10."""

import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import chi2 as chi2_distribution

from dsa110_assets.science import variability
from dsa110_assets.science.errors import ShapeError


def curves(n: int = 30, epochs: int = 41, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    error = rng.uniform(0.5, 2.0, (n, epochs))
    flux = 50.0 + error * rng.standard_t(4, (n, epochs))
    flux[rng.random((n, epochs)) < 0.1] = np.nan
    return flux, error


def plain_sigma_deviation(x: np.ndarray, e: np.ndarray) -> float:
    best = 0.0
    for j in range(len(x)):
        others = np.delete(x, j)
        centre = np.median(others)
        mad = 1.482602218505602 * np.median(np.abs(others - centre))
        best = max(best, abs(x[j] - centre) / max(e[j], mad))
    return best


@pytest.mark.parametrize("epochs", [2, 3, 4, 5, 12, 41])
def test_every_metric_equals_its_formula(epochs: int) -> None:
    flux, error = curves(epochs=epochs, seed=epochs)
    table = variability.measure_variability(flux, error)
    for row, x_all, e_all in zip(table.itertuples(), flux, error, strict=True):
        good = np.isfinite(x_all)
        x, e = x_all[good], e_all[good]
        if len(x) < 2:
            assert np.isnan(row.eta)
            assert np.isnan(row.vs_max)
            assert np.isnan(row.sigma_deviation)
            continue
        w = 1 / e**2
        mean_w = np.sum(w * x) / np.sum(w)
        eta = np.sum(w * (x - mean_w) ** 2) / (len(x) - 1)
        pairs = [(abs(x[i] - x[j]) / np.hypot(e[i], e[j]), i, j) for i in range(len(x)) for j in range(i)]
        best = max(pairs)
        expected = {
            "n_obs": len(x),
            "mean_flux_jy": x.mean(),
            "weighted_mean_flux_jy": mean_w,
            "median_flux_jy": np.median(x),
            "std_flux_jy": x.std(ddof=1),
            "min_flux_jy": x.min(),
            "max_flux_jy": x.max(),
            "eta": eta,
            "chi2_nu": eta,
            "v": x.std(ddof=1) / x.mean(),
            "debiased_modulation": np.sqrt(max(0.0, np.mean((x - x.mean()) ** 2 - e**2))) / x.mean(),
            "vs_max": best[0],
            "m_max": abs(2 * (x[best[1]] - x[best[2]]) / (x[best[1]] + x[best[2]])),
            "sigma_deviation": plain_sigma_deviation(x, e),
            "p_value": chi2_distribution.sf(eta * (len(x) - 1), len(x) - 1),
        }
        for name, value in expected.items():
            assert getattr(row, name) == pytest.approx(value, rel=1e-10, abs=1e-12), name


def test_exact_values_of_the_pair_statistics() -> None:
    assert float(variability.vs(200.0, 100.0, 3.0, 4.0)) == 20.0
    assert float(variability.m(2.0, 1.0)) == pytest.approx(2 / 3, rel=1e-15)
    assert np.isnan(variability.vs(1.0, 2.0, 0.0, 0.0))
    assert np.isnan(variability.m(1.0, -1.0))


def test_too_few_epochs_are_unknown_not_zero() -> None:
    for flux in ([], [3.0], [np.nan, 3.0]):
        error = np.ones(len(flux))
        results = [
            variability.v(flux),
            variability.eta(flux, error),
            variability.chi2_nu(flux, error),
            variability.sigma_deviation(flux, error),
            variability.debiased_modulation_index(flux, error),
            variability.p_value(flux, error),
            variability.significance(flux, error),
            *variability.largest_pair(flux, error),
        ]
        assert np.isnan(results).all()


def test_the_leave_one_out_deviation_is_not_bounded_by_the_number_of_epochs() -> None:
    flux = np.array([100.0, 101.0, 99.0, 100.5, 99.5, 100.2, 99.8, 100.1, 99.9, 60.0])
    assert float(variability.sigma_deviation(flux, np.ones(10))) > 30.0
    naive = np.max(np.abs(flux - flux.mean())) / flux.std(ddof=1)
    assert naive < (10 - 1) / np.sqrt(10)
    assert int(variability.largest_deviation(flux, np.ones(10))[1]) == 9


def test_the_stable_form_keeps_its_digits() -> None:
    flux = 1e6 + np.array([0.1, -0.1, 0.2, -0.2])
    assert float(variability.eta(flux, np.full(4, 0.1))) == pytest.approx(10.0 / 3.0, rel=1e-8)


@settings(deadline=None, max_examples=60)
@given(arrays(np.float64, (7,), elements=st.floats(1.0, 1e3)), st.floats(0.01, 100.0))
def test_scale_and_order_do_not_matter(flux: np.ndarray, scale: float) -> None:
    error = 0.1 * np.sqrt(flux)
    for metric in (variability.eta, variability.sigma_deviation, variability.debiased_modulation_index):
        value = float(metric(flux, error))
        assert float(metric(scale * flux, scale * error)) == pytest.approx(value, rel=1e-7, abs=1e-9)
        assert float(metric(flux[::-1], error[::-1])) == pytest.approx(value, rel=1e-7, abs=1e-9)


def test_noise_gives_uniform_p_values_and_unit_eta() -> None:
    rng = np.random.default_rng(4)
    error = np.full((4000, 60), 2.0)
    flux = 10.0 + rng.normal(0, 2.0, error.shape)
    assert float(np.mean(variability.eta(flux, error))) == pytest.approx(1.0, abs=0.01)
    p = np.sort(variability.p_value(flux, error))
    assert np.max(np.abs(p - (np.arange(4000) + 0.5) / 4000)) < 0.03
    assert float(np.std(variability.significance(flux, error))) == pytest.approx(1.0, abs=0.03)


def test_significance_continues_where_p_underflows() -> None:
    error = np.ones(30)
    dip = np.where(np.arange(30) < 10, 100.0, 100.0 - np.array([[20.0], [60.0], [400.0]]))
    value = variability.significance(dip, np.broadcast_to(error, dip.shape))
    assert (np.diff(value) > 0).all()
    assert np.isfinite(value).all()


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ShapeError):
        variability.eta(np.ones(5), np.ones(4))
    with pytest.raises(ShapeError):
        variability.measure_variability(np.ones(5), np.ones(5))


def test_fifty_times_faster_than_a_loop_over_sources() -> None:
    flux, error = curves(400, 200)
    variability.measure_variability(flux[:2], error[:2])
    start = time.process_time()
    variability.measure_variability(flux, error)
    ours = time.process_time() - start
    start = time.process_time()
    for x, e in zip(flux[:4], error[:4], strict=True):
        curve = pd.DataFrame({"x": x, "e": e}).dropna()
        plain_sigma_deviation(curve["x"].to_numpy(), curve["e"].to_numpy())
        max(
            abs(a.x - b.x) / np.hypot(a.e, b.e)
            for i, a in enumerate(curve.itertuples())
            for b in list(curve.itertuples())[:i]
        )
    assert (time.process_time() - start) * 100 > 50 * ours
