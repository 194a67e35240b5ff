"""The primary beam, the flux scale and component spectra against published numbers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.optimize import brentq

from dsa110_assets.science.beam import airy_power
from dsa110_assets.science.components import Components, concatenate
from dsa110_assets.science.errors import ShapeError, UnknownSourceError
from dsa110_assets.science.flux_scale import perley_butler_2017, power_law


@pytest.mark.parametrize(("frequency_mhz", "fwhm_deg"), [(1311, 2.90), (1405, 2.71), (1499, 2.54)])
def test_beam_width(frequency_mhz, fwhm_deg):
    half = brentq(lambda t: float(airy_power(t, frequency_mhz * 1e6)) - 0.5, 0.001, 0.04)
    assert_allclose(np.degrees(2 * half), fwhm_deg, atol=0.005)


def test_beam_is_one_at_the_centre_and_zero_at_the_first_null():
    assert airy_power(0.0, 1.405e9) == 1.0
    null = np.arcsin(1.2196698912665045 * 299792458.0 / (1.405e9 * 4.65))
    assert_allclose(airy_power(null, 1.405e9), 0.0, atol=1e-15)


@pytest.mark.parametrize(
    ("name", "flux_jy"),
    [
        ("3C48", 16.2086), ("3C138", 8.5475), ("3C147", 22.1108), ("3C286", 15.0569),
        ("3C295", 22.4313), ("3C196", 14.3827), ("3C123", 48.1880), ("3C380", 13.1063),
    ],
)  # fmt: skip
def test_perley_butler_fluxes(name, flux_jy):
    assert_allclose(perley_butler_2017(name, 1.405), flux_jy, atol=5e-5)


def test_an_unknown_calibrator_is_an_error():
    with pytest.raises(UnknownSourceError, match="3C454"):
        perley_butler_2017("3C454.3", 1.4)


@given(st.floats(1e-4, 50), st.floats(-2, 2), st.floats(0.1, 10))
def test_power_law_inverts(flux, alpha, frequency):
    there = power_law(flux, 1.4, alpha, frequency)
    assert_allclose(power_law(there, frequency, alpha, 1.4), flux, rtol=1e-12)


def _components(n: int) -> Components:
    ramp = np.arange(n, dtype=np.float64)
    return Components(np.array([f"S{i}" for i in range(n)]), ramp, ramp, ramp + 1, np.full(n, 1.4), -0.7 + 0 * ramp)


def test_components_give_fluxes_per_source_and_frequency():
    flux = _components(3).flux_at([1.4e9, 2.8e9])
    assert flux.shape == (3, 2)
    assert_allclose(flux[:, 0], [1, 2, 3])
    assert_allclose(flux[:, 1] / flux[:, 0], 2**-0.7)


def test_components_select_and_join():
    joined = concatenate([_components(2).select(np.array([False, True])), _components(3)])
    assert list(joined.source_id) == ["S1", "S0", "S1", "S2"]
    assert len(concatenate([])) == 0


def test_components_of_unequal_lengths_are_refused():
    with pytest.raises(ShapeError, match="dec_deg"):
        Components(np.array(["a"]), np.zeros(1), np.zeros(2), np.zeros(1), np.zeros(1), np.zeros(1))
