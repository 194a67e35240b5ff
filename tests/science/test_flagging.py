"""Detectors on synthetic spectra and planes whose interference is known; operators against brute force."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsa110_assets.science.errors import ShapeError
from dsa110_assets.science.flagging import (
    FlaggingOptions,
    find_array_wide,
    find_dead_receptors,
    measure_fractions,
)
from dsa110_assets.science.flagging_baseline import find_baseline_interference, subtract_background
from dsa110_assets.science.flagging_kernels import (
    Tally,
    combine_flags,
    measure_integration,
    sum_threshold,
    widen_by_rank,
)

OPTIONS = FlaggingOptions()
WIDTH_HZ = 244140.625
N_BASELINE = 1500


def empty_tally(n_bl: int, n_chan: int, n_pol: int) -> Tally:
    spectrum, level = (n_chan, n_pol), (n_bl, n_pol)
    return Tally(
        np.zeros(spectrum), np.zeros(spectrum), np.zeros(spectrum, np.int64), np.zeros(spectrum, np.int64),
        np.zeros(level), np.zeros(level, np.int64), np.zeros(level),
    )  # fmt: skip


def noise(generator: np.random.Generator, *shape: int) -> np.ndarray:
    return (generator.normal(size=shape) + 1j * generator.normal(size=shape)).astype(np.complex64)


def spectra(data: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean amplitude and roughness (n_time, n_chan, n_pol) of (n_time, n_bl, n_chan, n_pol), weights 1."""
    weight = np.ones((data.shape[1], data.shape[3], 2), np.float32)
    parts = []
    for one in data:
        tally = empty_tally(*one.shape)
        measure_integration(one, weight, np.empty(one.shape, bool), tally)
        with np.errstate(invalid="ignore"):
            parts.append((tally.amplitude / tally.number, tally.roughness / tally.rough_number))
    return np.stack([p[0] for p in parts]), np.stack([p[1] for p in parts])


def test_sums_of_one_integration() -> None:
    data = noise(np.random.default_rng(1), 5, 12, 2)
    data[3, 4, 1], data[0, 0, 0], data[4, 11, 1] = 0, np.nan, np.inf
    weight = np.full((5, 2, 2), 2.0, np.float32)
    weight[2] = 0.0
    bad, tally = np.empty(data.shape, bool), empty_tally(5, 12, 2)
    assert measure_integration(data, weight, bad, tally)
    assert sorted(map(tuple, np.argwhere(bad))) == [(0, 0, 0), (3, 4, 1), (4, 11, 1)]
    good = np.where(bad, np.nan, data)
    used = good[[0, 1, 3, 4]]
    np.testing.assert_allclose(tally.amplitude, 2 * np.nansum(np.abs(used), axis=0), rtol=1e-5)
    np.testing.assert_array_equal(tally.number, np.isfinite(np.abs(used)).sum(axis=0))
    np.testing.assert_allclose(tally.level, np.nansum(np.abs(good), axis=1), rtol=1e-5)
    rough = np.abs(good[:, 1:-1] - 0.5 * (good[:, :-2] + good[:, 2:]))
    np.testing.assert_allclose(tally.roughness[1:-1], 2 * np.nansum(rough[[0, 1, 3, 4]] ** 2, axis=0), rtol=1e-5)
    np.testing.assert_allclose(tally.rough_level, np.nansum(rough, axis=1), rtol=1e-5)
    assert not tally.rough_number[[0, -1]].any()
    assert not measure_integration(noise(np.random.default_rng(1), 5, 12, 2), weight, bad, tally)
    assert not bad.any()


def test_clean_noise_is_left_alone() -> None:
    data = noise(np.random.default_rng(2), 8, N_BASELINE, 192, 2)
    found = find_array_wide(*spectra(data), WIDTH_HZ, options=OPTIONS)
    assert found.mean() < 2e-3


def test_bandpass_slope_ripple_and_a_strong_calibrator_are_not_interference() -> None:
    generator = np.random.default_rng(3)
    data = noise(generator, 8, N_BASELINE, 192, 2)
    x = np.linspace(0, 1, 192)
    delay = generator.normal(0, 4.0, (N_BASELINE, 1, 1))
    data += 4.0 * np.exp(2j * np.pi * delay * x[:, None])
    # a quarter of the band: the tenth harmonic over 187 MHz is 2.5 half waves here
    ripple = 1 + 0.3 * x + 0.07 * np.cos(2.5 * np.pi * x) + 0.05 * np.sin(1.3 * np.pi * x)
    data *= ripple[:, None].astype(np.float32)
    found = find_array_wide(*spectra(data), WIDTH_HZ, options=OPTIONS)
    assert found.mean() < 2e-3


@pytest.mark.parametrize(("calibrator", "strength"), [(0.0, 1.2), (0.0, 60.0), (4.0, 0.8), (4.0, 60.0)])
def test_tones_are_found_in_their_channels_and_times(calibrator: float, strength: float) -> None:
    """Strengths in the noise of one real part; 1.2 is invisible on any single baseline."""
    generator = np.random.default_rng(4)
    data = noise(generator, 8, N_BASELINE, 192, 2) + np.complex64(calibrator)
    truth = np.zeros((8, 192), bool)
    truth[:, 50] = truth[2:5, 120] = truth[6, 5] = True
    phase = np.exp(2j * np.pi * generator.random((8, N_BASELINE, 192, 1)))
    data += np.where(truth[:, None, :, None], strength * phase, 0).astype(np.complex64)
    found = find_array_wide(*spectra(data), WIDTH_HZ, options=OPTIONS)[:, :, 0]
    assert found[truth].all()
    assert (found & ~truth).mean() < 2e-3


def test_a_weak_persistent_tone_is_found_by_adding_integrations() -> None:
    generator = np.random.default_rng(5)
    data = noise(generator, 24, 800, 128, 1)
    data[:, :, 77] += 0.4 * np.exp(2j * np.pi * generator.random((24, 800, 1)))
    found = find_array_wide(*spectra(data), WIDTH_HZ, options=OPTIONS)
    assert found[:, 77].mean() > 0.9
    assert np.delete(found, 77, axis=1).mean() < 2e-3


def test_a_broad_line_is_found_whole() -> None:
    generator = np.random.default_rng(6)
    data = noise(generator, 8, 800, 192, 2)
    data[3:6, :, 90:96] += 5.0
    found = find_array_wide(*spectra(data), WIDTH_HZ, options=OPTIONS)
    assert found[3:6, 90:96].all()
    assert found.sum() == found[3:6, 90:96].size


def test_missing_subbands_and_silent_integrations() -> None:
    generator = np.random.default_rng(7)
    data = noise(generator, 6, 800, 192, 2)
    data[:, :, 40:80] = 0
    data[2] = 0
    data[4, :, 150] += 9.0
    found = find_array_wide(*spectra(data), WIDTH_HZ, options=OPTIONS)
    assert found[4, 150].all()
    assert not found[:, 40:80].any()
    assert found.mean() < 2e-3
    nothing = np.full((3, 16, 2), np.nan)
    assert not find_array_wide(nothing, nothing, WIDTH_HZ, options=OPTIONS).any()


@pytest.mark.parametrize("shape", [(1, 16, 1), (1, 7, 2), (30, 9, 4)])
def test_any_shape_is_searched(shape: tuple[int, int, int]) -> None:
    amplitude = np.random.default_rng(8).normal(1.0, 0.001, shape)
    amplitude[0, 3] = 2.0
    found = find_array_wide(amplitude, amplitude, WIDTH_HZ, options=OPTIONS)
    assert found.shape == shape
    assert found[0, 3].all()


def test_too_few_channels_are_not_judged() -> None:
    amplitude = np.ones((10, 5, 2)) * np.array([1.0, 1.1, 5.0, 1.2, 1.3])[:, None]
    assert not find_array_wide(amplitude, amplitude, WIDTH_HZ, options=OPTIONS).any()


def test_dead_receptors_by_amplitude() -> None:
    generator = np.random.default_rng(9)
    first, second = np.triu_indices(20)
    gain = np.exp(0.3 * generator.standard_normal((22, 2)))
    gain[3], gain[7, 1], gain[12, 0] = 0.02, 0.0, 0.4  # dead, silent, weak but alive
    level = gain[first] * gain[second] * generator.normal(1, 0.01, (len(first), 1))
    dead = find_dead_receptors(level, np.stack([first, second], 1), 22, dead_below=OPTIONS.dead_below)
    assert sorted(map(tuple, np.argwhere(dead))) == [(3, 0), (3, 1), (7, 1)]


def test_a_silent_array_has_no_living_receptor() -> None:
    first, second = np.triu_indices(4)
    dead = find_dead_receptors(np.zeros((10, 2)), np.stack([first, second], 1), 5, dead_below=0.15)
    assert dead[:4].all()
    assert not dead[4].any()
    with pytest.raises(ShapeError):
        find_dead_receptors(np.zeros((9, 2)), np.stack([first, second], 1), 5, dead_below=0.15)


def test_a_short_windows_flags_are_not_judged_by_a_long_windows_limit() -> None:
    """One sample of noise between two flagged ones stays."""
    values = np.array([[0.0, 100.0, 3.0, 100.0, 0.0]])
    flags = np.zeros((1, 5), bool)
    for window in (1, 2, 4):
        sum_threshold(values, flags, window, 6.0, 0.0)
    assert flags.tolist() == [[False, True, False, True, False]]


def test_sum_threshold_finds_runs_that_no_sample_shows() -> None:
    values, flags = np.zeros((1, 32)), np.zeros((1, 32), bool)
    values[0, 10:18] = 2.5
    sum_threshold(values, flags, 1, 6.0, 0.0)
    assert not flags.any()
    sum_threshold(values, flags, 8, 6.0, 0.0)
    assert flags[0, 10:18].all()
    floored = np.zeros((1, 32), bool)
    sum_threshold(values, floored, 8, 6.0, 2.6)
    assert not floored.any()


@settings(max_examples=200, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=24), st.sampled_from([0.1, 0.2, 0.25, 0.5]))
def test_rank_operator_equals_its_definition(flags: list[bool], eta: float) -> None:
    n = len(flags)
    expected = [
        any(sum(eta if f else eta - 1 for f in flags[i : j + 1]) >= -1e-9 for i in range(k + 1) for j in range(k, n))
        for k in range(n)
    ]
    array = np.array([flags])
    widen_by_rank(array, eta)
    assert array[0].tolist() == expected


def test_masks_are_combined_and_counted() -> None:
    flags = np.zeros((3, 4, 2), bool)
    flags[2, 1, 0] = True
    channel, receptor = np.zeros((4, 2), bool), np.zeros((3, 2), bool)
    channel[0], receptor[1] = True, True
    counts, rows = np.zeros((3, 4), np.int64), np.zeros(3, bool)
    combine_flags(flags, channel, receptor, counts, rows)
    assert counts.tolist() == [[2, 0, 0, 0], [2, 2, 2, 2], [2, 1, 0, 0]]
    assert rows.tolist() == [False, True, False]
    cross = np.array([True, False, True])
    np.testing.assert_allclose(measure_fractions(counts, 2, cross=cross, n_parts=2), [5 / 8, 0.0])


def test_background_follows_the_plane() -> None:
    values = (np.linspace(1, 3, 60) + np.zeros((4, 1))).astype(np.float32)
    flags = np.zeros(values.shape, bool)
    values[:, 30], flags[:, 30] = 50.0, True
    out = np.empty_like(values)
    subtract_background(values, flags, 6, out)
    assert np.abs(np.delete(out, 30, axis=1)[:, 6:-6]).max() < 0.02
    np.testing.assert_allclose(out[:, 30], 48.0, atol=0.1)


def test_baseline_detector_on_local_interference() -> None:
    """On Rayleigh amplitudes: strong bursts, a persistent tone of 3 sigma, and false positives."""
    generator = np.random.default_rng(10)
    data = np.abs(noise(generator, 12, 24, 384, 2))
    truth = np.zeros(data.shape[:3], bool)
    truth[0, 5:9, 100] = truth[1, :, 250] = truth[2, 3, 40:44] = True
    data[0, 5:9, 100] += 10.0
    data[1, :, 250] = np.abs(noise(generator, 24, 2) + 3.0)
    data[2, 3, 40:44] += 4.0
    flags = np.zeros(data.shape, bool)
    find_baseline_interference(data.astype(np.float32), flags, OPTIONS.base_threshold, OPTIONS.rank_eta)
    found = flags[..., 0]
    np.testing.assert_array_equal(found, flags[..., 1])
    assert found[truth].mean() > 0.95
    assert found[~truth].mean() < 2e-4


def test_baseline_detector_keeps_what_is_known_and_survives_dead_baselines() -> None:
    data = np.abs(noise(np.random.default_rng(11), 3, 8, 64, 2)).astype(np.float32)
    flags = np.zeros(data.shape, bool)
    flags[1], flags[2, :, 10] = True, True
    data[1] = 0.0
    before = flags.copy()
    find_baseline_interference(data, flags, OPTIONS.base_threshold, OPTIONS.rank_eta)
    assert flags[before].all()
    assert (flags & ~before).mean() < 2e-3


def test_thresholds_fall_with_longer_windows() -> None:
    """The mean excess that is found decreases as one over the root of the run's length."""
    weakest = []
    for length in (1, 4, 16):
        for excess in np.arange(0.5, 8.0, 0.25):
            values, flags = np.zeros((1, 64)), np.zeros((1, 64), bool)
            values[0, 20 : 20 + length] = excess
            for window in (1, 2, 4, 8, 16):
                sum_threshold(values, flags, window, 6.0, 0.0)
            if flags[0, 20 : 20 + length].all():
                weakest.append(excess)
                break
    assert len(weakest) == 3
    assert all(1.8 < a / b < 2.2 for a, b in pairwise(weakest))
