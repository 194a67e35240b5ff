"""The ESE search: the filter against direct least squares, then events and impostors whose truth is known."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.stats import gumbel_r

from dsa110_assets.science.errors import ShapeError
from dsa110_assets.science.ese import Candidate, SearchOptions, search
from dsa110_assets.science.ese_filter import (
    WINDOW_WIDTHS,
    Filter,
    gumbel_tail,
    lens_shape,
    make_bank,
    randomise_phases,
    shuffle,
)
from dsa110_assets.science.ese_injection import (
    Injection,
    matches,
    measure_detection_delay,
    measure_false_alarms,
    measure_recovery,
    summarise_recovery,
)
from dsa110_assets.science.ese_vetoes import Surroundings, composite_score, find_vetoes, flag_types, measure_colour
from dsa110_assets.science.lens import gaussian_lens_gain

FIRST = 60000.0


def noise_curve(seed: int, *, days: int = 365, error: float = 0.04) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    mjd = FIRST + np.arange(days) * 0.99727 + rng.uniform(-0.01, 0.01, days)
    return mjd, 0.1 * (1.0 + error * rng.normal(size=days)), np.full(days, 0.1 * error)


def scintillation(rng: np.random.Generator, mjd: np.ndarray, rms: float, low: float, high: float) -> np.ndarray:
    period, phase = np.exp(rng.uniform(np.log(low), np.log(high), 8)), rng.uniform(0, 2 * np.pi, 8)
    return np.exp(rms / 2.0 * np.sin(2 * np.pi * mjd[:, None] / period + phase).sum(axis=1))


def test_the_filter_is_weighted_least_squares_with_a_local_level() -> None:
    rng = np.random.default_rng(1)
    day = np.sort(rng.choice(200, 120, replace=False)).astype(float)
    sigma = rng.uniform(0.02, 0.06, 120)
    residual = sigma * rng.normal(size=120)
    bank = make_bank(256, 1.0, (10.0, 30.0))
    matched = Filter.of(bank, day, sigma)
    snr = matched.apply(residual)
    for template, place in ((0, 50), (7, 100), (12, 150), (17, 70)):
        width = bank.widths[template]
        t = day - place
        near = np.abs(t) <= WINDOW_WIDTHS * width
        design = np.stack([np.ones(near.sum()), bank.shapes[template].at(t[near], width)], axis=1) / sigma[near, None]
        values, *_ = np.linalg.lstsq(design, residual[near] / sigma[near], rcond=None)
        error = np.sqrt(np.linalg.inv(design.T @ design)[1, 1])
        assert snr[template, place] == pytest.approx(values[1] / error, rel=1e-6, abs=1e-8)
        assert matched.scale[template, place] == pytest.approx(error, rel=1e-6)


def test_surrogates_keep_what_they_should() -> None:
    rng = np.random.default_rng(2)
    values = rng.normal(size=101)
    assert sorted(shuffle(values, rng, 101)) == sorted(values)
    phases = randomise_phases(values, rng, 101)
    assert phases.std() == pytest.approx(values.std(), rel=1e-9)
    power = np.abs(np.fft.rfft(values))[1:]
    np.testing.assert_allclose(np.abs(np.fft.rfft(phases))[1:], power, rtol=1e-9)


def test_the_tail_is_that_of_a_gumbel_distribution() -> None:
    maxima = gumbel_r.rvs(4.0, 0.5, size=20_000, random_state=3)
    for value in (4.0, 6.0, 9.0):
        assert gumbel_tail(value, maxima) == pytest.approx(gumbel_r.sf(value, 4.0, 0.5), rel=0.25)


@pytest.mark.parametrize("strength", [0.7, 4.0, 30.0])
def test_a_deep_event_is_described_right(strength: float) -> None:
    mjd, flux, error = noise_curve(4)
    event = Injection(FIRST + 200.0, 45.0, 0.4, strength=strength, source_fwhm=0.6)
    found = search(mjd, flux * event.gain(mjd), error)
    assert len(found) == 1
    best = found[0]
    assert matches(best, event)
    assert best.mjd_start == pytest.approx(event.mjd_mid - 22.5, abs=3.0)
    assert best.mjd_end == pytest.approx(event.mjd_mid + 22.5, abs=3.0)
    assert best.depth == pytest.approx(0.4, abs=0.08)
    assert best.baseline_jy == pytest.approx(0.1, rel=0.02)
    assert best.false_alarm_probability < 1e-3
    assert 0.999 < best.score <= 1.0
    assert abs(best.asymmetry) < 0.1
    assert not best.ongoing


def test_a_short_campaign_as_in_the_issue() -> None:
    mjd, flux, error = noise_curve(5, days=48, error=0.015)
    event = Injection(FIRST + 25.0, 30.0, 0.4, strength=1.0, source_fwhm=0.5)
    found = search(mjd, flux * event.gain(mjd), error)
    assert len(found) == 1
    assert abs(found[0].mjd_start - (event.mjd_mid - 15.0)) < 3.0
    rng = np.random.default_rng(6)
    for _ in range(10):
        assert search(mjd, flux * scintillation(rng, mjd, 0.08, 5.0, 50.0), error) == []


def test_noise_scintillation_and_slow_variation_are_no_events() -> None:
    rng = np.random.default_rng(7)
    curves = [noise_curve(k) for k in range(30)]
    mjd = curves[0][0]
    steady = np.stack([c[1] for c in curves])
    riss = np.stack([c[1] * scintillation(rng, mjd, 0.08, 5.0, 50.0) for c in curves])
    slow = np.stack([c[1] * scintillation(rng, mjd, 0.05, 80.0, 500.0) for c in curves])
    errors = np.stack([c[2] for c in curves])
    number, years, rate = measure_false_alarms(mjd, np.concatenate([steady, riss, slow]), np.concatenate([errors] * 3))
    assert number == 0
    assert years == pytest.approx(90 * 363.0 / 365.25, rel=0.01)
    assert rate == pytest.approx(3.0 / years)


def test_nine_of_ten_deep_events_are_found() -> None:
    curves = [noise_curve(100 + k, error=0.05) for k in range(10)]
    trials = measure_recovery(
        curves[0][0],
        np.stack([c[1] for c in curves]),
        np.stack([c[2] for c in curves]),
        depths=(0.3,),
        widths_days=(30.0, 60.0, 90.0),
        n_trials=10,
    )
    assert trials.recovered.mean() >= 0.9
    assert float(trials.onset_error_days.abs().median()) < 3.0
    summary = summarise_recovery(trials)
    assert summary.n.tolist() == [10, 10, 10]
    assert summary.completeness.mean() == pytest.approx(trials.recovered.mean())


def test_one_bad_epoch_is_no_event() -> None:
    mjd, flux, error = noise_curve(8, error=0.02)
    flux[150] *= 0.2
    flux[220:222] *= 0.6
    assert search(mjd, flux, error) == []


def test_an_event_is_found_before_it_ends() -> None:
    mjd, flux, error = noise_curve(9, days=200, error=0.03)
    event = Injection(FIRST + 190.0, 80.0, 0.5, strength=1.0, source_fwhm=0.5)
    found = search(mjd, flux * event.gain(mjd), error)
    assert len(found) == 1
    assert found[0].ongoing
    assert found[0].mjd_end == mjd[-1]
    onset = event.mjd_mid - 40.0
    delay = measure_detection_delay(mjd, flux * event.gain(mjd), error, onset_mjd=onset)
    assert 3.0 < delay < 40.0


def test_order_unit_and_gaps_do_not_matter() -> None:
    mjd, flux, error = noise_curve(10)
    flux = flux * Injection(FIRST + 120.0, 40.0, 0.5).gain(mjd)
    flux[::7] = np.nan
    first = search(mjd, flux, error)
    order = np.random.default_rng(1).permutation(len(mjd))
    again = search(mjd[order], 1e3 * flux[order], 1e3 * error[order])
    assert len(first) == len(again) == 1
    assert again[0].depth == pytest.approx(first[0].depth, rel=1e-6)
    assert again[0].baseline_jy == pytest.approx(1e3 * first[0].baseline_jy, rel=1e-9)


def test_what_cannot_be_searched_gives_nothing_or_is_refused() -> None:
    mjd, flux, error = noise_curve(11)
    assert search([], [], []) == []
    assert search(mjd[:15], flux[:15], error[:15]) == []
    assert search(mjd, np.full_like(flux, np.nan), error) == []
    assert search(mjd, -flux, error) == []
    with pytest.raises(ShapeError):
        search(mjd, flux[:-1], error)


def candidate() -> Candidate:
    mjd, flux, error = noise_curve(12, error=0.02)
    return search(mjd, flux * Injection(FIRST + 150.0, 40.0, 0.4).gain(mjd), error)[0]


def test_vetoes_have_names() -> None:
    event = candidate()
    mjd = noise_curve(12)[0]
    inside = (mjd >= event.mjd_start) & (mjd <= event.mjd_end)
    clean = Surroundings(
        mjd=mjd,
        common_mode=np.zeros(365, bool),
        table_set=np.array([f"t{k // 3}" for k in range(365)]),
        pb_response=np.full(365, 0.9),
        sun_deg=np.full(365, 90.0),
        neighbours=np.ones((6, 365)),
    )
    assert find_vetoes(event, clean) == ()
    assert find_vetoes(event, Surroundings(mjd=mjd)) == ()
    bad = Surroundings(
        mjd=mjd,
        common_mode=inside,
        table_set=np.where(inside, "one", "other"),
        pb_response=np.where(inside, 0.5, 0.9),
        sun_deg=np.where(inside, 10.0, 90.0),
        neighbours=np.where(inside, 0.7, np.ones((6, 365))),
    )
    expected = ("common_mode", "shared_table", "primary_beam", "sun", "neighbours")
    assert find_vetoes(event, bad) == expected
    assert event.with_vetoes(expected).vetoes == expected


def test_the_colour_of_a_plasma_lens_is_told_from_grey() -> None:
    event = candidate()
    mjd = noise_curve(12)[0]
    nu = np.array([1.33, 1.38, 1.43, 1.48])
    shape = lens_shape(event.lens_strength, event.source_fwhm)
    u = (mjd - event.mjd_mid) * 2 * shape.edge / event.timescale_days
    lens = [
        gaussian_lens_gain(u, event.lens_strength * (nu.mean() / f) ** 2, source_fwhm=event.source_fwhm) for f in nu
    ]
    grey = gaussian_lens_gain(u, event.lens_strength, source_fwhm=event.source_fwhm)
    noise = 0.005 * np.random.default_rng(3).normal(size=(365, 4))
    errors = np.full((365, 4), 0.005)
    assert measure_colour(mjd, np.stack(lens, axis=1) + noise, errors, nu, event) > 5.0
    assert measure_colour(mjd, grey[:, None] + noise, errors, nu, event) < -5.0
    assert np.isnan(measure_colour(mjd, grey[:, None], errors[:, :1], nu[:1], event))


def test_scores_of_the_seeds() -> None:
    assert float(composite_score(10.0, 0.2, 10.0)) == pytest.approx(1.0)
    assert float(composite_score(5.0, 0.1, 0.0)) == pytest.approx(0.25)
    assert np.isnan(composite_score(np.nan, 0.1, 1.0))
    flags = flag_types([1.0, 6.0, 4.0, 1.0], [0.01, 0.01, 0.2, 0.0], [1.0, 1.0, 1.0, 6.0])
    assert flags.tolist() == ["", "variability", "variability", "rapid_change"]
    assert flag_types(9.0, 1.0, 9.0, n_epochs=20).tolist() == ""


def test_widths_of_the_bank_cover_the_range() -> None:
    widths = SearchOptions().widths
    assert widths[0] == pytest.approx(5.0)
    assert widths[-1] == pytest.approx(150.0)
    assert max(b / a for a, b in itertools.pairwise(widths)) <= 1.6
