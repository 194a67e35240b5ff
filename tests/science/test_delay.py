"""Delays and their plane across the array, on made-up truth and on the real tables of 2025-10-13."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsa110_assets.science.delay import east_north_m, fit_delay_plane, measure_delays
from dsa110_assets.science.errors import ShapeError, SolveError
from dsa110_assets.science.instrument import TELESCOPE_ITRF_M, read_stations

FREQUENCIES = 1311.387e6 + 244140.625 * np.arange(768)
STATIONS = read_stations()
POSITIONS = (STATIONS.positions_m + TELESCOPE_ITRF_M)[STATIONS.active]


def phasors(delay_ns):
    delay = np.asarray(delay_ns, dtype=float)
    return np.exp(2e-9j * np.pi * FREQUENCIES[None, :, None] * delay[:, None, None])


@settings(max_examples=25, deadline=None)
@given(st.floats(-2000, 2000), st.floats(-np.pi, np.pi))
def test_any_delay_within_the_ambiguity_is_found(delay, turn):
    gains = phasors([delay]) * np.exp(1j * turn)
    found, coherence = measure_delays(gains, np.zeros(gains.shape, bool), FREQUENCIES)
    assert found[0, 0] == pytest.approx(delay, abs=1e-6)
    assert coherence[0, 0] == pytest.approx(1, abs=1e-9)


def test_missing_subbands_do_not_shift_a_delay():
    keep = np.ones(768, bool)
    keep[48:96] = keep[300:396] = False
    gains = phasors([426.0])[:, keep]
    found, _ = measure_delays(gains, np.zeros(gains.shape, bool), FREQUENCIES[keep])
    assert found[0, 0] == pytest.approx(426.0, abs=1e-6)


def test_delay_error_is_that_of_theory():
    random = np.random.default_rng(2)
    noise = 0.1
    gains = phasors(np.full(400, 33.0))
    gains = gains + noise * (random.standard_normal(gains.shape) + 1j * random.standard_normal(gains.shape))
    found, _ = measure_delays(gains, np.zeros(gains.shape, bool), FREQUENCIES)
    # least-squares slope: sigma_tau = sigma_phase / (2 pi sqrt(N) rms(nu))
    expected = 1e9 * noise / (2 * np.pi * np.sqrt(768) * FREQUENCIES.std())
    assert found.std() == pytest.approx(expected, rel=0.12)
    assert abs(found.mean() - 33.0) < 4 * expected / 20


def test_noise_has_no_coherence_and_few_channels_no_delay():
    random = np.random.default_rng(3)
    gains = np.exp(2j * np.pi * random.uniform(size=(4, 768, 1)))
    flags = np.zeros(gains.shape, bool)
    flags[3, 3:] = True
    found, coherence = measure_delays(gains, flags, FREQUENCIES)
    assert np.all(coherence[:3] < 0.2)
    assert np.isnan(found[3, 0])
    with pytest.raises(ShapeError):
        measure_delays(gains, flags[:2], FREQUENCIES)


def test_a_plane_is_recovered_with_rogues_named():
    random = np.random.default_rng(5)
    ground = east_north_m(POSITIONS)
    delays = (ground @ np.array([0.053, 0.475]))[:, None] + np.array([180.0, 182.0]) + random.normal(0, 5, (96, 2))
    delays[10] += 426
    delays[40] -= 1700
    delays[77, 0] = np.nan
    plane = fit_delay_plane(delays, POSITIONS)
    assert plane.east_ns_m == pytest.approx(0.053, abs=4 * plane.error_ns_m)
    assert plane.north_ns_m == pytest.approx(0.475, abs=4 * plane.error_ns_m)
    assert plane.error_ns_m < 0.002
    np.testing.assert_allclose(plane.offset_ns, [180, 182], atol=3)
    assert np.flatnonzero(plane.rogue).tolist() == [10, 40]
    assert plane.rms_ns == pytest.approx(5.0, rel=0.15)
    assert plane.n_antennas == 94
    assert np.isnan(plane.residual_ns[77, 0])


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 40), st.integers(0, 2**31))
def test_up_to_forty_rogues_do_not_tilt_the_plane(n_rogue, seed):
    random = np.random.default_rng(seed)
    delays = random.normal(0, 3, (96, 1))
    rogue = random.choice(96, n_rogue, replace=False)
    delays[rogue, 0] += random.choice([-1, 1], n_rogue) * random.uniform(100, 2000, n_rogue)
    plane = fit_delay_plane(delays, POSITIONS)
    assert set(np.flatnonzero(plane.rogue)) == set(rogue)
    assert plane.gradient_ns_m < 0.01


def test_the_limit_is_a_third_of_a_degree():
    ground = east_north_m(POSITIONS)
    plane = fit_delay_plane((0.02 * ground[:, 1])[:, None], POSITIONS)
    assert plane.gradient_ns_m == pytest.approx(0.02)
    assert plane.angle_deg == pytest.approx(0.3435, abs=1e-3)


def test_antennas_in_one_line_leave_the_gradient_across_it_zero():
    line = STATIONS.arms[STATIONS.active] == "E-W"
    ground = east_north_m(POSITIONS[line])
    plane = fit_delay_plane((0.1 * ground[:, 0])[:, None], POSITIONS[line])
    assert plane.east_ns_m == pytest.approx(0.1, abs=1e-3)
    assert abs(plane.north_ns_m) < 0.01


def test_too_few_delays_make_no_plane():
    delays = np.full((96, 2), np.nan)
    delays[:2] = 1.0
    with pytest.raises(SolveError, match="at least 6"):
        fit_delay_plane(delays, POSITIONS)
