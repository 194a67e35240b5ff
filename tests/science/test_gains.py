"""Gains: solved ones against injected ones, and the arithmetic of tables."""

from dataclasses import replace

import numpy as np
import pytest
from gain_truth import NOISE_JY, Recipe, make_table, make_visibilities, ratio_to_truth, robust_scatter, solve
from hypothesis import given, settings
from hypothesis import strategies as st

from dsa110_assets.science.antenna_solution import AntennaSolution, fill_gaps, fit_antenna_noise
from dsa110_assets.science.bandpass_solve import shape_gains, solve_gain
from dsa110_assets.science.block_averaging import average_times, average_visibilities, expand_bandpass
from dsa110_assets.science.errors import ScienceError, ShapeError, SolveError
from dsa110_assets.science.gain_application import apply_gains, combine_gains, invert_gains
from dsa110_assets.science.gain_options import BandpassOptions
from dsa110_assets.science.gains import find_channels, interpolate_gains, multiply_gains
from dsa110_assets.science.normal_sums import NormalSums, collapse_data
from dsa110_assets.science.referencing import choose_reference_antenna, rank_reference_antennas, refer_phases, wrap_deg
from dsa110_assets.science.stefcal import solve_stefcal
from dsa110_assets.science.uvrange import parse_uvrange, select_baselines


@pytest.fixture(scope="module")
def calibrator():
    return make_visibilities(Recipe())


@pytest.fixture(scope="module")
def solution(calibrator):
    return solve(calibrator)


def test_bandpass_errors_are_thermal(calibrator, solution):
    ratio = ratio_to_truth(calibrator, solution)
    phase = np.degrees(np.angle(ratio))
    phase[solution.reference] = np.nan
    assert robust_scatter(np.abs(ratio)) < 1.1 * calibrator.thermal
    assert robust_scatter(phase) < 1.1 * np.sqrt(2) * np.degrees(calibrator.thermal)
    assert abs(np.nanmedian(np.abs(ratio)) - 1) < 1e-3
    assert abs(np.nanmedian(phase)) < 0.1


def test_snr_is_the_inverse_amplitude_error(calibrator, solution):
    assert np.median(solution.bandpass.snr) == pytest.approx(1 / calibrator.thermal, rel=0.03)


def test_noise_is_found_per_antenna(calibrator, solution):
    expected = np.sqrt(2) * NOISE_JY * np.mean(np.abs(calibrator.gains) ** 2, axis=1)
    np.testing.assert_allclose(solution.bandpass.noise, expected, rtol=0.03)


def test_phase_drift_is_taken_out_before_the_bandpass():
    drifting = make_visibilities(Recipe(drift_rad=0.15, n_time=12))
    solved = solve(drifting)
    ratio = ratio_to_truth(drifting, solved)
    assert robust_scatter(np.abs(ratio)) < 1.1 * drifting.thermal
    # an interval of two integrations still averages half a step of the drift away: 1 - 0.15^2 / 8 in amplitude
    assert np.nanmedian(np.abs(ratio)) == pytest.approx(1 - 0.15**2 / 8, abs=1e-3)
    truth = drifting.drift.reshape(6, 2, *drifting.drift.shape[1:]).mean(axis=1)
    truth = truth / np.abs(truth)
    truth = truth * np.conj(truth[:, [solved.reference]])
    mean = truth.sum(axis=0)
    error = np.degrees(np.angle(solved.phases / (truth * np.conj(mean / np.abs(mean)))))
    assert robust_scatter(error) < 0.5


def test_noiseless_gains_come_back_exactly():
    exact = make_visibilities(Recipe(noise_jy=0.0, n_ant=12, n_chan=16))
    sums = NormalSums.empty(len(exact.antennas[0]), 16, 2)
    sums.add(exact.data, exact.flags, exact.model, antennas=exact.antennas, phases=np.ones((12, 2), np.complex64))
    gains, converged = solve_stefcal(sums, exact.antennas, np.ones((12, 2), np.float32))
    product = gains[:, None] * np.conj(gains[None])
    truth = exact.gains[:, None] * np.conj(exact.gains[None])
    assert converged.all()
    np.testing.assert_allclose(product, truth, rtol=2e-4)


@settings(max_examples=15, deadline=None)
@given(st.floats(0.2, 5.0), st.floats(-np.pi, np.pi))
def test_solved_gains_scale_and_turn_with_the_data(factor, angle):
    exact = make_visibilities(Recipe(noise_jy=0.0, n_ant=8, n_chan=4))
    base = _products(exact, exact.data)
    changed = _products(exact, (exact.data * factor**2).astype(np.complex64))
    np.testing.assert_allclose(changed, base * factor**2, rtol=1e-3)
    turn = np.ones(8, complex)
    turn[3] = np.exp(1j * angle)
    first, second = exact.antennas
    turned = exact.data * (turn[first] * np.conj(turn[second]))[None, :, None, None]
    expected = base * (turn[:, None] * np.conj(turn[None]))[:, :, None, None]
    np.testing.assert_allclose(_products(exact, turned.astype(np.complex64)), expected, rtol=1e-3, atol=1e-6)


def _products(visibilities, data):
    sums = NormalSums.empty(len(visibilities.antennas[0]), data.shape[2], 2)
    unit = np.ones((visibilities.recipe.n_ant, 2), np.complex64)
    sums.add(data, visibilities.flags, visibilities.model, antennas=visibilities.antennas, phases=unit)
    gains, _ = solve_stefcal(sums, visibilities.antennas, unit.real.astype(np.float32))
    return gains[:, None] * np.conj(gains[None])


def test_dead_receptors_are_flagged_and_do_no_harm():
    damaged = make_visibilities(Recipe(dead=((3, 0), (3, 1), (9, 1))))
    solved = solve(damaged)
    assert {tuple(r) for r in np.argwhere(solved.dead)} == {(3, 0), (3, 1), (9, 1)}
    assert solved.bandpass.flags[3].all()
    assert solved.bandpass.flags[9, :, 1].all()
    assert not solved.bandpass.flags[9, :, 0].any()
    assert robust_scatter(np.abs(ratio_to_truth(damaged, solved))) < 1.1 * damaged.thermal


def test_an_antenna_that_comes_late_is_solved_too():
    drifting = make_visibilities(Recipe(drift_rad=0.1))
    flags = drifting.flags.copy()
    touched = (drifting.antennas[0] == 4) | (drifting.antennas[1] == 4)
    flags[:4, touched] = True
    solved = solve(replace(drifting, flags=flags))
    ratio = ratio_to_truth(drifting, solved)
    assert not solved.bandpass.flags.any()
    assert solved.phase_flags[:2, 4].all()
    assert not solved.phase_flags[3, 4].any()
    assert robust_scatter(np.abs(ratio[4])) < 1.3 * np.sqrt(2) * drifting.thermal
    assert abs(np.median(np.abs(ratio[4])) - 1) < 0.02


def test_nothing_in_the_first_intervals_does_no_harm():
    visibilities = make_visibilities(Recipe())
    flags = visibilities.flags.copy()
    flags[:4] = True
    flags[:, :, 16:32] = True  # and a missing subband
    solved = solve(replace(visibilities, flags=flags))
    ratio = ratio_to_truth(visibilities, solved)
    assert solved.bandpass.flags[:, 16:32].all()
    assert not np.delete(solved.bandpass.flags, np.arange(16, 32), axis=1).any()
    assert robust_scatter(np.abs(ratio)) < 1.1 * np.sqrt(2) * visibilities.thermal


def test_flagged_interference_leaves_no_trace():
    clean = make_visibilities(Recipe())
    hit = np.array([5, 6, 30])
    data, flags = clean.data.copy(), clean.flags.copy()
    data[:3, :, hit] += 40.0
    flags[:3, :, hit] = True
    solved = solve(replace(clean, data=data, flags=flags))
    ratio = ratio_to_truth(clean, solved)
    assert not solved.bandpass.flags.any()
    assert robust_scatter(np.abs(ratio)) < 1.1 * clean.thermal
    assert robust_scatter(np.abs(ratio[:, hit])) < 1.1 * clean.thermal * np.sqrt(8 / 5)


def test_unflagged_interference_is_flagged_by_its_residuals():
    clean = make_visibilities(Recipe())
    random = np.random.default_rng(8)
    data = clean.data.copy()
    shape = (3, data.shape[1], 1, 2)
    data[:3, :, 20:21] += 0.3 * (random.standard_normal(shape) + 1j * random.standard_normal(shape)).astype(
        np.complex64
    )
    solved = solve(replace(clean, data=data), BandpassOptions(fill_gaps=0))
    assert solved.bandpass.flags[:, 20].all()
    assert not np.delete(solved.bandpass.flags, 20, axis=1).any()
    assert robust_scatter(np.abs(ratio_to_truth(clean, solved))) < 1.1 * clean.thermal


def test_no_data_is_told():
    visibilities = make_visibilities(Recipe(n_chan=8, n_ant=6))
    with pytest.raises(SolveError, match="no unflagged data"):
        solve(replace(visibilities, flags=np.ones_like(visibilities.flags)))


def test_a_gain_on_top_of_the_bandpass_is_found(calibrator, solution):
    random = np.random.default_rng(4)
    turn = np.exp(1j * random.uniform(-1, 1, (32, 2)))
    turn[solution.reference] = 1
    amplitude = np.repeat(np.exp(0.05 * random.standard_normal((32, 1))), 2, axis=1)
    amplitude *= np.sqrt(1.21) / np.median(amplitude)
    change = turn * amplitude
    first, second = calibrator.antennas
    data = calibrator.data * (change[first] * np.conj(change[second]))[None, :, None]
    sums = collapse_data(
        data.astype(np.complex64), calibrator.flags, calibrator.model, solution.bandpass.gains, calibrator.antennas
    )
    kept, ratio = solve_gain(sums, calibrator.antennas, _flat(solution), amplitudes=True)
    assert ratio == pytest.approx(1.21, rel=2e-3)
    referred = kept.gains[:, 0] * np.exp(-1j * np.angle(kept.gains[[solution.reference], 0]))
    np.testing.assert_allclose(np.abs(referred), amplitude / np.sqrt(1.21), rtol=1e-2)
    assert np.degrees(robust_scatter(np.angle(referred / turn).ravel())) < 0.3
    phases, same = solve_gain(sums, calibrator.antennas, _flat(solution), amplitudes=False)
    np.testing.assert_allclose(np.abs(phases.gains), 1.0, rtol=1e-6)
    assert same == pytest.approx(ratio)


def _flat(solution):
    """A bandpass of one unit channel: the sums already hold the real one."""
    shape = (solution.bandpass.gains.shape[0], 1, 2)
    return AntennaSolution(
        np.ones(shape, np.complex64), np.zeros(shape, bool), np.ones(shape, np.float32), solution.bandpass.noise
    )


def test_common_amplitude_is_reported_and_not_kept():
    gains = np.full((4, 1, 2), 1.1 + 0j, np.complex64)
    solution = AntennaSolution(gains, np.zeros((4, 1, 2), bool), np.full((4, 1, 2), 9, np.float32), np.ones((4, 2)))
    kept, ratio = shape_gains(solution, amplitudes=True)
    assert ratio == pytest.approx(1.21, rel=1e-5)
    np.testing.assert_allclose(kept.gains, 1.0, rtol=1e-6)


def test_rank_one_noise_survives_bad_baselines():
    second, first = np.tril_indices(8, -1)
    s = np.linspace(0.5, 2, 8)
    power = (s[first] * s[second])[:, None].repeat(2, axis=1)
    power[3] *= 50
    power[11] *= 9
    noise = fit_antenna_noise(power, (first.astype(np.int64), second.astype(np.int64)), 8)
    np.testing.assert_allclose(noise[:, 0], s, rtol=1e-3)


def test_short_gaps_are_filled_and_long_ones_are_not():
    phase = np.linspace(0, 3, 20)
    gains = ((1 + 0.01 * np.arange(20)) * np.exp(1j * phase)).astype(np.complex64)[None, :, None].repeat(2, axis=2)
    flags = np.zeros((1, 20, 2), bool)
    flags[0, 5:8, 0] = flags[0, 10:14, 0] = flags[0, :2, 1] = True
    snr = np.full((1, 20, 2), 10, np.float32)
    filled, still, filled_snr = fill_gaps(np.where(flags, 0, gains), flags, snr, 3)
    np.testing.assert_allclose(filled[0, 5:8, 0], gains[0, 5:8, 0], rtol=1e-3)
    assert not still[0, 5:8, 0].any()
    assert still[0, 10:14, 0].all()
    assert still[0, :2, 1].all()
    assert filled_snr[0, 6, 0] == 10


def test_reference_is_central_and_healthy():
    flags = np.zeros((5, 10, 2), bool)
    flags[2, :, 1] = True  # the most central one has a dead polarization
    snr = np.full((5, 10, 2), 20.0)
    snr[1] = 2.0  # the next one is deaf
    positions = np.array([[90.0, 0, 0], [5, 0, 0], [0, 0, 0], [10, 0, 0], [-200, 0, 0]])
    order = rank_reference_antennas(flags, snr, positions)
    assert order[0] == 3
    assert 2 not in order
    names = ("a", "b", "c", "d", "e")
    assert choose_reference_antenna(order, names, "e") == 4
    assert choose_reference_antenna(order, names, "c") == 3  # without solutions: the best stands in
    with pytest.raises(SolveError):
        rank_reference_antennas(np.ones((2, 3, 2), bool), np.zeros((2, 3, 2)), np.zeros((2, 3)))


def test_reference_gaps_are_bridged_by_the_fallback():
    random = np.random.default_rng(1)
    slope = np.exp(1j * np.linspace(0, 2, 30))[None, :, None] * np.exp(1j * random.uniform(0, 6, (3, 1, 2)))
    flags = np.zeros((3, 30, 2), bool)
    flags[0, 10:13, 0] = True
    referred = refer_phases(slope, flags, 0, fallback=1)
    expected = slope[2] * np.conj(slope[0])
    np.testing.assert_allclose(referred[2], expected, rtol=1e-9)
    np.testing.assert_allclose(np.angle(referred[0][~flags[0]]), 0, atol=1e-12)


@given(st.floats(-1e4, 1e4))
def test_wrapped_degrees_are_in_range_and_equal_on_the_circle(angle):
    wrapped = float(wrap_deg(angle))
    assert -180 <= wrapped < 180
    assert np.exp(1j * np.radians(wrapped)) == pytest.approx(np.exp(1j * np.radians(angle)), abs=1e-9)


def test_delay_table_turns_about_its_centre():
    table = make_table("K", n_chan=1, gains=np.full((1, 12, 1, 2), 10.0 + 0j))
    frequencies = table.frequencies_hz[0] + np.array([0.0, 25e6])
    gains, _ = table.at_frequencies(frequencies)
    np.testing.assert_allclose(gains[0, 0, :, 0], [1, 1j], atol=1e-12)
    assert np.all(table.delays_ns == 10.0)


def test_channels_outside_the_table_are_flagged():
    centres, widths = np.array([10.0, 20.0, 40.0]) * 1e6, np.full(3, 10e6)
    index, covered = find_channels(centres, widths, np.array([4.0, 6.0, 24.0, 29.0, 44.0]) * 1e6)
    assert index.tolist() == [0, 0, 1, 1, 2]
    assert covered.tolist() == [False, True, True, False, True]


def test_antennas_are_matched_by_name():
    table = make_table(n_ant=3)
    turned = table.for_antennas(("3", "9", "1"))
    np.testing.assert_array_equal(turned.gains[:, 0], table.gains[:, 2])
    assert turned.flags[:, 1].all()
    assert not turned.flags[:, [0, 2]].any()


def test_bandpass_times_window_gains():
    bandpass, gain = make_table(n_chan=16), make_table("G", n_time=2, n_chan=4, seed=5)
    whole = multiply_gains(bandpass, gain)
    assert whole.gains.shape == (2, 12, 16, 2)
    np.testing.assert_allclose(whole.gains[1, 3, 6], bandpass.gains[0, 3, 6] * gain.gains[1, 3, 1])
    with pytest.raises(ShapeError):
        multiply_gains(make_table(n_time=2), gain)


def test_phases_are_interpolated_the_short_way():
    early = make_table("G", n_chan=1, times_mjd=[61000.0], gains=np.full((1, 12, 1, 2), np.exp(1j * np.radians(170))))
    late = make_table(
        "G", n_chan=1, times_mjd=[61000.1], gains=np.full((1, 12, 1, 2), 3 * np.exp(-1j * np.radians(150)))
    )
    gains, flags = interpolate_gains([late, early], np.array([60999.0, 61000.025, 61000.05, 61001.0]))
    assert not flags.any()
    np.testing.assert_allclose(np.degrees(np.angle(gains[:, 0, 0, 0])), [170, -180 + 0, -170, -150], atol=1e-6)
    np.testing.assert_allclose(np.abs(gains[:, 0, 0, 0]), [1, 1.5, 2, 3])


def test_interpolated_gains_share_a_reference():
    early = make_table("G", n_chan=1, times_mjd=[61000.0], gains=np.ones((1, 12, 1, 2), complex))
    turned = np.ones((1, 12, 1, 2), complex)
    turned[:, 1:] = np.exp(1j)  # the same gains with another antenna at zero phase: nothing changed
    turned[:, 0] = 1.0
    late = replace(early, gains=turned * np.exp(-1j), refant="2", times_mjd=np.array([61000.1]))
    gains, _ = interpolate_gains([early, late], np.array([61000.05]))
    relative = gains[0, :, 0, 0] * np.conj(gains[0, 5, 0, 0])
    np.testing.assert_allclose(np.abs(np.angle(relative[1:])), 0, atol=1e-9)


def test_a_missing_solution_is_held_from_its_neighbour():
    early, late = make_table("G", n_chan=1, times_mjd=[61000.0]), make_table("G", n_chan=1, times_mjd=[61000.1], seed=2)
    early.flags[0, 4] = True
    late.flags[0, 7] = early.flags[0, 7] = True
    gains, flags = interpolate_gains([early, late], np.array([61000.05]))
    np.testing.assert_allclose(gains[0, 4], late.gains[0, 4])
    assert flags[0, 7].all()
    assert not flags[0, 4].any()


def test_applied_gains_undo_themselves_and_flag_what_has_none():
    visibilities = make_visibilities(Recipe(n_ant=6, n_chan=8, n_time=3, noise_jy=0.0))
    table = make_table(n_ant=6, n_chan=8, gains=visibilities.gains[None], frequencies_hz=visibilities.frequencies_hz)
    table.flags[0, 2, 5, 1] = True
    factors = combine_gains([table], [], visibilities.frequencies_hz, np.array([61000.0, 61000.1, 61000.2]))
    flags = visibilities.flags.copy()
    data = visibilities.data.copy()
    data[1, 4, 2, 0] = np.nan
    corrected, n_new, n_zero = apply_gains(data, flags, invert_gains(factors), visibilities.antennas)
    first, second = visibilities.antennas
    lost = ((first == 2) | (second == 2))[None, :, None, None] & np.zeros_like(flags)
    lost[:, (first == 2) | (second == 2), 5, 1] = True
    lost[1, 4, 2, 0] = True
    np.testing.assert_array_equal(flags, lost)
    assert n_new == lost.sum()
    assert n_zero == 0
    expected = np.repeat(visibilities.model[..., None], 2, axis=3) * np.exp(0j)
    turn = visibilities.drift[:, first] * np.conj(visibilities.drift[:, second])
    np.testing.assert_allclose(corrected[~lost], (expected * turn[:, :, None])[~lost], rtol=2e-5)
    assert np.all(corrected[lost] == 0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", (0, np.inf)),
        (">1klambda", (1000 * 299792458 / 1.5e9, np.inf)),
        ("<500m", (0, 500)),
        ("0.2~5 klambda", (200 * 299792458 / 1.5e9, 5000 * 299792458 / 1.5e9)),
        ("10~2000", (10, 2000)),
    ],
)
def test_uvrange(text, expected):
    assert parse_uvrange(text, 1.5e9) == pytest.approx(expected)


def test_uvrange_nonsense_is_told():
    with pytest.raises(ScienceError, match="not understood"):
        parse_uvrange("1klambda<", 1.4e9)


def test_baselines_are_selected_by_projected_length():
    uvw = np.array([[3.0, 4, 100], [0, 0, 5], [30, 40, 0]])
    assert select_baselines(">10m", uvw, 1.4e9).tolist() == [False, False, True]


def test_averaging_skips_flags():
    data = np.arange(16, dtype=np.complex64).reshape(4, 1, 4, 1)
    flags = np.zeros_like(data, bool)
    flags[0, 0, 0] = True
    flags[2:, :, :2] = True
    mean, empty = average_visibilities(data, flags, (2, 2))
    np.testing.assert_allclose(mean[0, 0, :, 0], [(1 + 4 + 5) / 3, (2 + 3 + 6 + 7) / 4])
    assert empty[:, 0, :, 0].tolist() == [[False, False], [True, False]]
    np.testing.assert_allclose(average_times(data[..., 0], 3)[:, 0, 0], [4, 12])
    with pytest.raises(ShapeError, match="divisor"):
        average_visibilities(data, flags, (1, 3))


def test_averaged_bandpass_is_expanded_along_its_delay():
    coarse, fine = np.arange(8) * 4.0 + 1.5, np.arange(32) * 1.0
    slope = np.exp(2j * np.pi * 0.01 * coarse)[None, :, None]
    expanded = expand_bandpass((2 * slope).astype(np.complex64), np.array([[1e7]]), coarse, fine)
    np.testing.assert_allclose(expanded[0, :, 0], 2 * np.exp(2j * np.pi * 0.01 * fine), rtol=1e-5)
