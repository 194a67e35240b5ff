"""The imperfect telescope: sizes, continuity, sign conventions and noise."""

import numpy as np
import pytest

from dsa110_assets.science.instrument import RAW_GAIN, REFERENCE_FREQUENCY_HZ, array_configuration
from dsa110_assets.science.instrument_model import DEAD_AMPLITUDE, draw_instrument, thermal_sigma_jy
from dsa110_assets.science.simulation import split_array
from dsa110_assets.science.simulation_corruption import build_corruption
from dsa110_assets.science.simulation_options import InstrumentOptions
from dsa110_assets.science.simulation_rfi import TONES, draw_interference
from dsa110_assets.science.wander import draw_wander, seeded_generator

FULL = array_configuration("full")
SMALL = array_configuration("small")
BAND = np.concatenate([FULL.frequencies_hz(s) for s in range(16)])
HEALTHY = InstrumentOptions(n_dead_antennas=0, n_dead_receptors=0, rogue_delays_ns=())


def full_instrument(options=HEALTHY, seed=1):
    return draw_instrument(FULL.antenna_order + 1, options, seed)


def test_gain_amplitudes_scatter_about_the_raw_scale():
    amplitude = np.abs(full_instrument().gains(61066.0, [REFERENCE_FREQUENCY_HZ])[0, :, 0])
    assert np.median(amplitude) == pytest.approx(RAW_GAIN, rel=0.12)
    assert np.std(np.log(amplitude)) == pytest.approx(0.3, rel=0.15)


def test_phases_are_random_but_drift_smoothly():
    instrument = full_instrument()
    mjd = 61066.0 + np.arange(0.0, 2.0, 5.0 / 1440.0)
    gains = instrument.drifting_gains(mjd)
    assert abs(np.mean(gains[0] / np.abs(gains[0]))) < 0.25
    steps = np.degrees(np.angle(gains[1:] * gains[:-1].conj()))
    assert np.std(steps) < 1.5
    drift = np.unwrap(np.angle(gains), axis=0)
    assert np.degrees(np.std(drift - drift.mean(axis=0))) == pytest.approx(20.0, rel=0.2)


def test_bandpass_has_the_ripple_and_the_delays_asked_for():
    instrument = full_instrument()
    band = instrument.bandpass(BAND)
    amplitude = np.log(np.abs(band))
    assert np.sqrt(np.mean((amplitude - amplitude.mean(axis=1, keepdims=True)) ** 2)) == pytest.approx(0.04, rel=0.2)
    straight = band * np.exp(
        -2j * np.pi * instrument.delay_s[:, None, :] * (BAND[None, :, None] - REFERENCE_FREQUENCY_HZ)
    )
    phase = np.degrees(np.angle(straight))
    assert np.sqrt(np.mean((phase - phase.mean(axis=1, keepdims=True)) ** 2)) == pytest.approx(8.0, rel=0.2)
    assert np.std(instrument.delay_s.mean(axis=1)) == pytest.approx(5e-9, rel=0.2)
    assert np.std(np.diff(instrument.delay_s, axis=1)) == pytest.approx(1.5e-9, rel=0.2)


def test_small_and_full_arrays_share_the_gains_of_a_station():
    small = draw_instrument(SMALL.antenna_order + 1, HEALTHY, 1)
    full = full_instrument()
    rows = [list(full.stations).index(s) for s in small.stations]
    np.testing.assert_array_equal(small.gains([61066.3], BAND[:5]), full.gains([61066.3], BAND[:5])[:, rows])


def test_flux_scale_is_one_on_average_and_common_to_all():
    instrument = full_instrument(InstrumentOptions(amplitude_drift=0.0, phase_drift_deg=0.0, n_dead_antennas=0))
    mjd = 61000.0 + np.arange(0.0, 200.0, 0.05)
    scale = instrument.flux_scale(mjd)
    assert np.std(np.log(scale)) == pytest.approx(0.02, rel=0.15)
    power = np.abs(instrument.drifting_gains(mjd[:50])) ** 2
    np.testing.assert_allclose(power / power[0], np.repeat(scale[:50, None, None] / scale[0], 96, 1).repeat(2, 2))


def test_dead_and_rogue_receptors_are_those_asked_for_and_never_the_reference():
    options = InstrumentOptions(n_dead_antennas=2, n_dead_receptors=3, rogue_delays_ns=(-199.0, 426.0))
    for seed in range(5):
        instrument = full_instrument(options, seed)
        both = instrument.dead.all(axis=1)
        assert both.sum() == 2
        assert instrument.dead.sum() == 2 * 2 + 3
        assert not instrument.dead[list(instrument.stations).index(103)].any()
        assert set(np.unique(instrument.noise_scale)) == {0.0, DEAD_AMPLITUDE, 1.0}
        assert np.sum(np.abs(instrument.delay_s.mean(axis=1)) > 100e-9) == 2


def test_thermal_noise_is_the_radiometer_equation():
    assert thermal_sigma_jy(6500.0, 244140.625, 12.884901888) == pytest.approx(2.59, abs=0.005)


def corruption_of(instrument, array=SMALL, sefd_jy=6500.0):
    blocks = split_array(array.antenna_positions_m[array.antenna_order])
    second, first = np.tril_indices(len(array.antenna_order))
    built = build_corruption(
        instrument, blocks, (first, second), sefd_jy=sefd_jy, channel_width_hz=array.channel_width_hz,
        integration_s=12.884901888,
    )  # fmt: skip
    return built, first, second


def no_tones(n_channels, n_antennas):
    return np.full(n_channels, -1), np.zeros((1, n_antennas, 2), dtype=np.complex64)


def random_matrices(blocks, n_channels, rng):
    """Hermitian truth in the predictor's form, and in correlator order."""
    n = len(blocks.order)
    voltages = rng.standard_normal((n_channels, n, 3)) + 1j * rng.standard_normal((n_channels, n, 3))
    truth = np.einsum("fis,fjs->fij", voltages.conj(), voltages).astype(np.complex64)
    ordered = truth[:, blocks.order][:, :, blocks.order]
    core = np.ascontiguousarray(ordered[:, : blocks.n_core, : blocks.n_core])
    return (core, np.ascontiguousarray(ordered[:, blocks.n_core :])), truth


def test_raw_data_are_conj_g1_g2_times_truth():
    options = HEALTHY.model_copy(update={"sefd_jy": 0.0, "rogue_delays_ns": (426.0,)})
    instrument = draw_instrument(SMALL.antenna_order + 1, options, 3)
    corruption, first, second = corruption_of(instrument, sefd_jy=0.0)
    frequency = SMALL.frequencies_hz(6)
    matrices, truth = random_matrices(corruption.blocks, 8, np.random.default_rng(1))
    raw = corruption.apply(matrices, corruption.gains(61066.4, frequency), no_tones(8, 32), np.random.default_rng(2))
    gains = instrument.gains(61066.4, frequency)[0]
    loss = np.sinc(SMALL.channel_width_hz * (instrument.delay_s[second] - instrument.delay_s[first]))
    expected = gains[first].conj() * gains[second] * truth[:, first, second].T[..., None] * loss[:, None]
    np.testing.assert_allclose(raw[first != second], expected[first != second], rtol=2e-5, atol=1e-7)
    same = first == second
    np.testing.assert_allclose(raw[same].real, expected[same].real, rtol=2e-5)
    assert not raw[same].imag.any()


def test_noise_of_cross_and_autocorrelations():
    instrument = draw_instrument(SMALL.antenna_order + 1, HEALTHY, 3)
    corruption, first, second = corruption_of(instrument)
    frequency = SMALL.frequencies_hz(0)
    blocks = corruption.blocks
    nothing = (
        np.zeros((8, blocks.n_core, blocks.n_core), np.complex64),
        np.zeros((8, 32 - blocks.n_core, 32), np.complex64),
    )
    gains = corruption.gains(61066.4, frequency)
    raw = np.stack([corruption.apply(nothing, gains, no_tones(8, 32), np.random.default_rng(k)) for k in range(20)])
    g = np.abs(instrument.gains(61066.4, frequency)[0])
    scaled = raw / (g[first] * g[second])
    cross = scaled[:, first != second]
    sigma = thermal_sigma_jy(6500.0, SMALL.channel_width_hz, 12.884901888)
    assert cross.real.std() == pytest.approx(sigma, rel=0.005)
    assert cross.imag.std() == pytest.approx(sigma, rel=0.005)
    assert abs(cross.mean()) < 4 * sigma / np.sqrt(cross.size)
    autos = scaled[:, first == second]
    assert autos.real.mean() == pytest.approx(6500.0, rel=1e-3)
    assert autos.real.std() == pytest.approx(np.sqrt(2.0) * sigma, rel=0.03)
    assert not autos.imag.any()
    assert np.median(np.abs(raw[:, first == second])) == pytest.approx(6500.0 * RAW_GAIN**2, rel=0.3)


def test_dead_receptor_sees_no_sky_and_little_noise():
    instrument = draw_instrument(SMALL.antenna_order + 1, HEALTHY, 3).with_dead(4, slice(1, 2))
    corruption, first, second = corruption_of(instrument)
    matrices, _ = random_matrices(corruption.blocks, 8, np.random.default_rng(1))
    loud = tuple((1000.0 * m).astype(np.complex64) for m in matrices)
    raw = corruption.apply(
        loud, corruption.gains(61066.4, SMALL.frequencies_hz(2)), no_tones(8, 32), np.random.default_rng(2)
    )
    mine = ((first == 4) | (second == 4)) & (first != second)
    others = ~mine & (first != second)
    ratio = np.median(np.abs(raw[mine, :, 1])) / np.median(np.abs(raw[mine, :, 0]))
    assert ratio < 1e-3
    assert np.median(np.abs(raw[others, :, 1])) > 100 * np.median(np.abs(raw[mine, :, 1]))


def test_interference_lies_in_the_channels_of_the_tones():
    rfi = draw_interference(BAND, 24, 4656, scale=1.0, seed=1, group=7)
    gps = BAND[rfi.channel[np.abs(BAND[rfi.channel] - 1381.05e6) < 1e6]]
    assert np.abs(gps - 1381.05e6).max() < 0.72e6
    assert len(gps) >= 5
    for channel in rfi.channel:
        nearest = min(TONES, key=lambda tone: abs(tone.frequency_hz - BAND[channel]))
        assert abs(nearest.frequency_hz - BAND[channel]) < nearest.width_hz / 2 + 122070.4
    assert len(np.unique(rfi.channel)) / 768 < 0.03
    assert rfi.on.any(axis=1).sum() >= 4
    quiet = draw_interference(BAND, 24, 4656, scale=0.0, seed=1, group=7)
    assert not quiet.on.any()
    assert len(quiet.local_channel) == 0


def test_tone_amplitude_arrives_on_the_baselines():
    instrument = draw_instrument(SMALL.antenna_order + 1, InstrumentOptions(gains=False, sefd_jy=0.0), 3)
    corruption, first, second = corruption_of(instrument, sefd_jy=0.0)
    frequencies = np.concatenate([SMALL.frequencies_hz(s) for s in range(16)])
    rfi = draw_interference(frequencies, 8, 528, scale=1.0, seed=1, group=7)
    tone = int(np.flatnonzero(rfi.on.all(axis=1))[0])
    start = rfi.channel[tone] // 8 * 8
    index = rfi.channel_index(int(start), 8)
    blocks = corruption.blocks
    nothing = (
        np.zeros((8, blocks.n_core, blocks.n_core), np.complex64),
        np.zeros((8, 32 - blocks.n_core, 32), np.complex64),
    )
    responses = rfi.array_responses(0, 32, seeded_generator(1, "phases"))
    gains = corruption.gains(61066.4, frequencies[start : start + 8])
    raw = corruption.apply(nothing, gains, (index, responses), np.random.default_rng(2))
    here = rfi.channel[tone] - start
    alive = ~(instrument.dead.any(axis=1)[first] | instrument.dead.any(axis=1)[second]) & (first != second)
    typical = np.median(np.abs(raw[alive, here])) / RAW_GAIN**2
    assert typical == pytest.approx(rfi.amplitude_jy[tone], rel=0.25)
    assert not raw[:, index < 0].any()


def test_wander_has_its_rms_over_time_and_no_memory_of_the_run():
    wander = draw_wander(seeded_generator(1, "x"), rms=2.0, period_days=(0.1, 1.0))
    days = 60000.0 + np.arange(0.0, 50.0, 0.01)
    assert wander.at(days).std() == pytest.approx(2.0, rel=0.03)
    np.testing.assert_array_equal(wander.at(days[100:110]), wander.at(days)[100:110])
