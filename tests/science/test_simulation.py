"""The direct sum against dense quadrature and closed forms."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsa110_assets.science.beam import airy_power
from dsa110_assets.science.geometry import header_uvw, icrs_to_itrs, meridian_direction, meridian_icrs
from dsa110_assets.science.instrument import INTEGRATION_S, array_configuration
from dsa110_assets.science.simulation import (
    EARTH_ROTATION_RAD_S,
    SkyField,
    VisibilityPredictor,
    choose_node_counts,
    plan_columns,
    rotate_with_sky,
    split_array,
)

SPEED_OF_LIGHT = 299792458.0
DEC = np.radians(16.27)
TIME = 2461066.435 + np.arange(2) * INTEGRATION_S / 86400.0
MERIDIAN = meridian_direction(DEC)


def unity(separation_rad, frequency_hz):
    return np.ones(np.broadcast(separation_rad, frequency_hz).shape)


def place_sources(east_deg, north_deg):
    ra, dec = meridian_icrs(DEC, TIME[:1])
    return icrs_to_itrs(ra + np.asarray(east_deg) / np.cos(DEC), dec + np.asarray(north_deg), TIME)


def matrix(array, field, flux, frequency, time=0):
    """Full matrix <conj(i) j>, antennas in correlator order, shape (n_chan, n_ant, n_ant)."""
    positions = array.antenna_positions_m[array.antenna_order]
    predictor = VisibilityPredictor(
        positions, field, highest_frequency_hz=frequency.max(), channel_width_hz=array.channel_width_hz
    )
    core, far = predictor.predict(time, frequency, flux)
    n_core, order = predictor.blocks.n_core, predictor.blocks.order
    full = np.empty((len(frequency), len(order), len(order)), dtype=complex)
    full[:, :n_core, :n_core] = core
    full[:, n_core:, :] = far
    full[:, :, n_core:] = far.conj().swapaxes(1, 2)
    back = np.argsort(order)
    return full[:, back][:, :, back], positions


def dense_visibility(baseline_m, directions, flux, frequency_hz, width_hz, beam=unity):
    """Brute force: 24 x 8 Gauss nodes over time and channel for one baseline (2 minus 1)."""
    total = 0.0
    nodes_t, weights_t = np.polynomial.legendre.leggauss(24)
    nodes_f, weights_f = np.polynomial.legendre.leggauss(8)
    for x, wx in zip(nodes_t, weights_t, strict=True):
        shift = np.full(len(directions), x * INTEGRATION_S / 2)
        moved = rotate_with_sky(directions, shift)
        centre = rotate_with_sky(MERIDIAN[None], shift[:1])
        power = beam(2 * np.arcsin(np.linalg.norm(moved - MERIDIAN, axis=1) / 2), frequency_hz)
        for y, wy in zip(nodes_f, weights_f, strict=True):
            f = frequency_hz + y * width_hz / 2
            phase = 2j * np.pi * f * ((moved - centre) @ baseline_m) / SPEED_OF_LIGHT
            total += wx * wy / 4 * np.sum(flux * power * np.exp(phase))
    return total


@pytest.mark.parametrize("name", ["small", "full"])
def test_visibilities_equal_dense_quadrature_within_a_thousandth(name):
    array = array_configuration(name)
    rng = np.random.default_rng(3)
    directions = place_sources(rng.uniform(-1.6, 1.6, 12), rng.uniform(-1.6, 1.6, 12))
    flux = rng.uniform(0.1, 3.0, 12)
    frequency = array.frequencies_hz(2)
    field = SkyField(directions, MERIDIAN, MERIDIAN)
    got, positions = matrix(array, field, np.repeat(flux[:, None], len(frequency), 1), frequency)
    apparent = np.sum(flux * airy_power(np.linalg.norm(directions[0] - MERIDIAN, axis=1), frequency[3]))
    pairs = rng.integers(0, len(positions), (40, 2))
    for i, j in pairs:
        baseline = positions[j] - positions[i]
        truth = dense_visibility(baseline, directions[0], flux, frequency[3], array.channel_width_hz, airy_power)
        assert abs(got[3, i, j] - truth) < 1e-3 * apparent


def test_smearing_is_the_sinc_of_time_and_channel_on_the_longest_baseline():
    """A source 1.5 deg off loses up to 5 % on the longest baselines: |V| = sinc(rate T) sinc(delay width) to 1e-3."""
    array = array_configuration("full")
    directions = place_sources([1.5], [0.0])
    frequency = array.frequencies_hz(0)
    field = SkyField(directions, MERIDIAN, MERIDIAN, beam=unity)
    got, positions = matrix(array, field, np.ones((1, len(frequency))), frequency)
    offset = directions[0, 0] - MERIDIAN
    turning = EARTH_ROTATION_RAD_S * np.array([offset[1], -offset[0], 0.0])
    baselines = positions[None] - positions[:, None]
    turns = frequency[0] / SPEED_OF_LIGHT * (baselines @ turning) * INTEGRATION_S
    delays = array.channel_width_hz / SPEED_OF_LIGHT * (baselines @ offset)
    expected = np.abs(np.sinc(turns) * np.sinc(delays))
    np.testing.assert_allclose(np.abs(got[0]), expected, atol=1e-3)
    assert 0.94 < expected.min() < 0.96


def test_phases_are_those_of_the_header_uvw_at_small_offsets():
    """conj(A) B with uvw = x_B - x_A: a source l east and m north has phase +2 pi (u l + v m + w (n - 1))."""
    array = array_configuration("small")
    directions = place_sources([0.02], [-0.03])
    frequency = array.frequencies_hz(8)
    got, positions = matrix(array, SkyField(directions, MERIDIAN, MERIDIAN), np.ones((1, 8)), frequency)
    uvw = header_uvw(positions[None] - positions[:, None], DEC)
    lmn = header_uvw(directions[0, 0], DEC) - np.array([0.0, 0.0, 1.0])
    turns = frequency[4] / SPEED_OF_LIGHT * (uvw @ lmn)
    np.testing.assert_allclose(np.angle(got[4] * np.exp(-2j * np.pi * turns)), 0.0, atol=2e-4)
    assert np.ptp(turns) > 2.0


def test_matrix_is_hermitian_with_the_total_apparent_flux_on_the_diagonal():
    array = array_configuration("small")
    directions = place_sources([0.5, -1.0], [0.3, 0.9])
    flux = np.array([2.0, 0.7])
    frequency = array.frequencies_hz(15)
    got, _ = matrix(array, SkyField(directions, MERIDIAN, MERIDIAN), np.repeat(flux[:, None], 8, 1), frequency, time=1)
    np.testing.assert_allclose(got, got.conj().swapaxes(1, 2), atol=3e-6)
    separation = np.linalg.norm(directions[1] - MERIDIAN, axis=1)
    total = np.sum(flux[:, None] * airy_power(separation[:, None], frequency), axis=0)
    np.testing.assert_allclose(np.diagonal(got, axis1=1, axis2=2).real, np.repeat(total[:, None], 32, 1), rtol=2e-4)


def test_no_source_gives_zero():
    array = array_configuration("small")
    got, _ = matrix(array, SkyField(np.zeros((2, 0, 3)), MERIDIAN, MERIDIAN), np.zeros((0, 8)), array.frequencies_hz(0))
    assert not got.any()


def test_beam_follows_the_pointing_and_phase_follows_the_phase_centre():
    array = array_configuration("small")
    directions = place_sources([0.0], [0.0])
    pointing = meridian_direction(DEC + np.radians(1.0))
    frequency = array.frequencies_hz(4)
    got, _ = matrix(array, SkyField(directions, MERIDIAN, pointing), np.ones((1, 8)), frequency)
    np.testing.assert_allclose(np.abs(got[0]), airy_power(np.radians(1.0), frequency[0]), rtol=2e-4)
    np.testing.assert_allclose(np.angle(got[0]), 0.0, atol=1e-2)


@given(st.floats(0.0, 8.0))
def test_node_count_reaches_its_tolerance(phi):
    n = int(choose_node_counts(np.array([phi]), 1e-4)[0])
    nodes, weights = np.polynomial.legendre.leggauss(n)
    mean = np.sum(weights * np.exp(1j * phi * nodes)) / 2.0
    assert abs(mean - np.sinc(phi / np.pi)) < 1e-4


def test_column_weights_of_each_source_sum_to_one_with_two_time_nodes_at_least():
    columns = plan_columns(np.array([0.0, 0.7, 3.0]), np.array([0.0, 0.1, 1.0]), 244140.625)
    for source in range(3):
        mine = columns.source == source
        assert columns.weight[mine].sum() == pytest.approx(1.0, abs=1e-12)
        assert len(np.unique(columns.time_offset_s[mine])) >= 2
    assert np.abs(columns.time_offset_s).max() < INTEGRATION_S / 2


def test_core_of_the_full_array_is_its_82_inner_antennas():
    array = array_configuration("full")
    blocks = split_array(array.antenna_positions_m[array.antenna_order])
    assert blocks.n_core == 82
    assert sorted(blocks.order) == list(range(96))
