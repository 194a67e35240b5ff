"""The Gaussian plasma lens against the exact values of its equations (Clegg, Fey & Lazio 1998)."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad, simpson

from dsa110_assets.science.errors import ScienceError
from dsa110_assets.science.lens import (
    CAUSTIC_STRENGTH,
    axisymmetric_lens_gain,
    crossing_time_days,
    find_caustics,
    gaussian_lens_gain,
    strength_at_frequency,
)


@settings(deadline=None)
@given(st.floats(0.0, 200.0))
def test_gain_on_the_axis_is_one_over_one_plus_strength(strength: float) -> None:
    np.testing.assert_allclose(gaussian_lens_gain(0.0, strength), 1.0 / (1.0 + strength), rtol=1e-13)
    np.testing.assert_allclose(axisymmetric_lens_gain(0.0, strength), (1.0 + strength) ** -2, rtol=1e-13)


@pytest.mark.parametrize(("strength", "inner", "outer"), [(5.0, 2.151375, 2.914029), (25.0, 2.584755, 11.440948)])
def test_caustics_lie_where_the_equation_puts_them(strength: float, inner: float, outer: float) -> None:
    found = find_caustics(strength)
    assert found is not None
    np.testing.assert_allclose(found, (inner, outer), atol=1e-6)
    just_inside, just_outside = gaussian_lens_gain([found[1] - 1e-9, found[1] + 1e-9], strength)
    assert just_inside > 300.0
    assert just_outside < 2.0


def test_weak_lenses_have_no_caustics() -> None:
    np.testing.assert_allclose(CAUSTIC_STRENGTH, 2.2408, atol=5e-5)
    assert find_caustics(CAUSTIC_STRENGTH * (1 - 1e-9)) is None
    assert find_caustics(CAUSTIC_STRENGTH * (1 + 1e-6)) is not None


def test_extended_source_value() -> None:
    assert gaussian_lens_gain(0.0, 25.0, source_fwhm=1.0) == pytest.approx(0.03849, abs=5e-6)


@pytest.mark.parametrize(("strength", "fwhm"), [(0.5, 0.3), (2.0, 1.0), (5.0, 0.1), (25.0, 1.0), (100.0, 0.5)])
def test_a_one_dimensional_lens_conserves_flux(strength: float, fwhm: float) -> None:
    u = np.arange(-80.0, 80.0, 0.02)
    excess = gaussian_lens_gain(u, strength, source_fwhm=fwhm) - 1.0
    assert abs(np.sum(excess) * 0.02) < 1e-8


def test_a_point_source_conserves_flux() -> None:
    # no caustics at a = 2: the integrand is smooth
    total, _ = quad(lambda u: float(gaussian_lens_gain(u, 2.0)) - 1.0, -40, 40, limit=400, epsabs=1e-11)
    assert abs(total) < 1e-9


@pytest.mark.parametrize("strength", [0.7, 2.0, 8.0])
def test_a_small_source_is_the_average_of_point_sources(strength: float) -> None:
    fwhm = 0.4
    sigma = fwhm / np.sqrt(8 * np.log(2))
    for position in (0.0, 0.8, 1.7, 4.0):
        edges = [p for p in find_caustics(strength) or () if abs(p - position) < 8 * sigma]
        expected, _ = quad(
            lambda x, at=position: (
                float(gaussian_lens_gain(x, strength))
                * np.exp(-0.5 * ((x - at) / sigma) ** 2)
                / (sigma * np.sqrt(2 * np.pi))
            ),
            position - 8 * sigma,
            position + 8 * sigma,
            points=edges or None,
            limit=500,
        )
        found = float(gaussian_lens_gain(position, strength, source_fwhm=fwhm))
        assert found == pytest.approx(expected, rel=1e-6)


@settings(deadline=None)
@given(st.floats(0.0, 50.0), st.floats(0.05, 3.0), st.floats(-20.0, 20.0))
def test_gain_is_even_positive_and_one_far_away(strength: float, fwhm: float, u: float) -> None:
    left, right, far = gaussian_lens_gain([-u, u, 300.0], strength, source_fwhm=fwhm)
    assert left == pytest.approx(right, rel=1e-9)
    assert left > 0.0
    assert far == pytest.approx(1.0, abs=1e-9)


def test_no_lens_no_change_and_shape_is_kept() -> None:
    u = np.linspace(-3, 3, 12).reshape(3, 4)
    for fwhm in (0.0, 0.01, 2.5):
        gain = gaussian_lens_gain(u, 0.0, source_fwhm=fwhm)
        assert gain.shape == (3, 4)
        np.testing.assert_allclose(gain, 1.0, rtol=1e-9)
        np.testing.assert_allclose(axisymmetric_lens_gain(u, 0.0, source_fwhm=fwhm), 1.0, rtol=1e-8)
    assert gaussian_lens_gain(np.zeros(0), 3.0, source_fwhm=1.0).shape == (0,)


def test_positions_that_are_not_finite_stay_unknown() -> None:
    for fwhm in (0.0, 1.0):
        gain = gaussian_lens_gain([np.nan, 0.0], 3.0, source_fwhm=fwhm)
        assert np.isnan(gain[0])
        assert np.isfinite(gain[1])


def test_axisymmetric_lens_conserves_flux_over_the_plane() -> None:
    r = np.arange(0.0, 30.01, 0.02)
    excess = axisymmetric_lens_gain(r, 6.0, source_fwhm=0.7) - 1.0
    assert abs(2 * np.pi * simpson(excess * r, x=r)) < 1e-6


def test_a_track_past_a_round_lens_reads_the_radius() -> None:
    direct = axisymmetric_lens_gain(np.hypot(1.2, 0.9), 4.0)
    assert axisymmetric_lens_gain(1.2, 4.0, impact=0.9) == pytest.approx(float(direct), rel=1e-12)


def test_strength_scales_with_wavelength_squared() -> None:
    assert strength_at_frequency(1.0, 1.50, 1.31) == pytest.approx(1.311, abs=5e-4)


def test_crossing_time_of_one_au_at_fifty_km_s() -> None:
    assert crossing_time_days(1.0, 50.0) == pytest.approx(69.3, abs=0.1)


@pytest.mark.parametrize(("strength", "fwhm"), [(-0.1, 0.0), (np.nan, 0.0), (1.0, -1.0), (1.0, np.inf)])
def test_impossible_lenses_are_refused(strength: float, fwhm: float) -> None:
    with pytest.raises(ScienceError):
        gaussian_lens_gain(0.0, strength, source_fwhm=fwhm)
