"""The array against figures of real headers (TELESCOPE 1.2, 1.4, 2)."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from dsa110_assets.science import instrument


@pytest.fixture
def full():
    return instrument.array_configuration("full")


def test_positions_reproduce_the_ranges_of_a_real_header(full):
    low, high = full.antenna_positions_m.min(axis=0), full.antenna_positions_m.max(axis=0)
    assert_allclose(low, [-1125.1, -269.3, -304.8], atol=0.06)
    assert_allclose(high, [1018.5, 1521.3, 1465.5], atol=0.06)


def test_baselines_of_the_96_antennas(full):
    first, second = full.baselines()
    cross = first != second
    lengths = np.linalg.norm(full.antenna_positions_m[second] - full.antenna_positions_m[first], axis=1)[cross]
    assert len(first) == 4656
    assert cross.sum() == 4560
    assert_allclose([lengths.min(), np.median(lengths), lengths.max()], [5.75, 308.0, 2601.6], rtol=2e-3)


def test_correlator_order_is_not_ascending_and_pairs_run_as_written(full):
    first, second = full.baselines()
    order = full.antenna_order
    assert (first > second).any()
    assert list(zip(first[:6], second[:6], strict=True)) == [
        (order[0], order[0]), (order[0], order[1]), (order[1], order[1]),
        (order[0], order[2]), (order[1], order[2]), (order[2], order[2]),
    ]  # fmt: skip


def test_frequencies_of_a_real_header(full):
    assert full.channel_width_hz == 244140.625
    assert_allclose(full.frequencies_hz(0)[[0, -1]], [1498643188.4765625, 1487168579.1015625], rtol=1e-15)
    assert_allclose(full.frequencies_hz(7)[-1], 1405137329.1015625, rtol=1e-15)
    assert_allclose(full.frequencies_hz(15)[[0, -1]], [1322861938.4765625, 1311387329.1015625], rtol=1e-15)


def test_small_covers_the_same_band_with_32_antennas():
    small = instrument.array_configuration("small")
    assert len(small.antenna_order) == 32
    assert small.channel_width_hz == 1464843.75
    edges = small.frequencies_hz(0)[0] + small.channel_width_hz / 2, small.frequencies_hz(15)[-1]
    assert_allclose(edges, [instrument.BAND_TOP_HZ, instrument.BAND_BOTTOM_HZ + small.channel_width_hz / 2], rtol=1e-15)


def test_an_unknown_array_is_an_error():
    with pytest.raises(KeyError):
        instrument.array_configuration("medium")
