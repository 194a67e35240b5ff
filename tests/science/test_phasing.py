"""Rephasing against direct sums, reordering against brute force, the uvw check against known rotations."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dsa110_assets.science import geometry
from dsa110_assets.science.errors import ShapeError
from dsa110_assets.science.instrument import CHANNEL_WIDTH_HZ, INTEGRATION_S, SEFD_JY, array_configuration
from dsa110_assets.science.phasing import (
    SPEED_OF_LIGHT_M_S,
    TiledVisibilities,
    antenna_phasors,
    compare_uvw,
    mean_of_rows,
    order_baselines,
    rephase,
    thermal_sigma_jy,
)

START_JD = 2461066.4347222224
DEC_APP = np.radians(16.27)


def all_pairs(n_antenna: int) -> tuple[np.ndarray, np.ndarray]:
    second, first = np.tril_indices(n_antenna)
    return first, second


def tiled(values: np.ndarray, tile: tuple[int, int, int], rng: np.random.Generator) -> TiledVisibilities:
    """Cut an array into padded tiles and put them into a flat buffer in random order."""
    counts = [-(-n // t) for n, t in zip(values.shape, tile, strict=True)]
    size = int(np.prod(tile))
    places = rng.permutation(int(np.prod(counts))).reshape(counts)
    flat = np.full(places.size * size, 99 + 99j, np.complex64)
    for index in np.ndindex(*counts):
        corner = tuple(slice(i * t, (i + 1) * t) for i, t in zip(index, tile, strict=True))
        piece = np.full(tile, -7, np.complex64)
        part = values[corner]
        piece[: part.shape[0], : part.shape[1], : part.shape[2]] = part
        flat[places[index] * size : (places[index] + 1) * size] = piece.reshape(-1)
    return TiledVisibilities(flat, places.astype(np.int64) * size, tile)


@given(st.permutations(range(7)), st.data())
def test_rows_are_ascending_and_every_baseline_has_one(order: list[int], data: st.DataObject) -> None:
    first, second = (np.array(order)[i] for i in all_pairs(7))
    turned = data.draw(arrays(np.bool_, len(first)))
    first, second = np.where(turned, second, first), np.where(turned, first, second)
    rows = order_baselines(first, second)
    assert np.all(rows.antenna1 <= rows.antenna2)
    assert sorted(rows.destination) == list(range(len(first)))
    pair = rows.antenna1 * 7 + rows.antenna2
    assert np.all(np.diff(pair) > 0)
    np.testing.assert_array_equal(rows.swapped, first > second)
    np.testing.assert_array_equal(rows.antenna1[rows.destination], np.minimum(first, second))
    np.testing.assert_array_equal(rows.antenna2[rows.destination], np.maximum(first, second))


def test_a_baseline_given_twice_is_refused() -> None:
    with pytest.raises(ShapeError, match="twice"):
        order_baselines([0, 1], [1, 0])


def test_phasors_are_exact_for_two_thousand_turns() -> None:
    positions = np.array([[2000.0, -1500.0, 900.0], [0.0, 0.0, 0.0]])
    shift = np.array([[0.1, 0.2, -0.05]])
    frequency = np.array([1.405e9, 1.4987e9])
    turns = np.array([0.1 * 2000 - 0.2 * 1500 - 0.05 * 900, 0.0])[:, None] * frequency / SPEED_OF_LIGHT_M_S
    expected = np.cos(2 * np.pi * turns) - 1j * np.sin(2 * np.pi * turns)
    np.testing.assert_allclose(antenna_phasors(positions, shift, frequency)[0], expected, atol=3e-7)


def test_a_source_off_axis_becomes_exp_plus_2_pi_i_uvw_dot_s() -> None:
    """The whole recipe on the small array: correlator's sense in, Measurement Set's sense and uvw out."""
    array = array_configuration("small")
    times = START_JD + np.arange(3) * INTEGRATION_S / 86400.0
    frequencies = array.frequencies_hz(5)
    first, second = array.baselines()
    positions = array.antenna_positions_m
    ra0, dec0 = (float(v[0]) for v in geometry.meridian_icrs(DEC_APP, times[1:2]))
    source = geometry.icrs_to_itrs([ra0 + 1.1], [dec0 - 0.9], times)[:, 0]
    meridian = geometry.meridian_direction(DEC_APP)
    delay = (source - meridian) @ (positions[second] - positions[first]).T / SPEED_OF_LIGHT_M_S
    raw = np.exp(2j * np.pi * delay[:, :, None] * frequencies)
    raw = np.repeat(raw[..., None], 2, axis=3).astype(np.complex64).reshape(-1, len(frequencies), 2)

    axes = geometry.uvw_axes(ra0, dec0, times)
    rows = order_baselines(first, second)
    out, flags = np.empty_like(raw), np.zeros(raw.shape, bool)
    phasors = antenna_phasors(positions, axes[:, 2] - meridian, frequencies)
    tiles = TiledVisibilities.from_array(raw, descending=True)
    n_bad = rephase(tiles, phasors, order=rows, out=out, flags=flags)

    uvw = np.einsum("tij,bj->tbi", axes, positions[rows.antenna1] - positions[rows.antenna2])
    lmn = np.einsum("tij,tj->ti", axes, source) - np.array([0.0, 0.0, 1.0])
    phase = np.einsum("tbi,ti->tb", uvw, lmn)[:, :, None] * np.sort(frequencies) / SPEED_OF_LIGHT_M_S
    expected = np.exp(2j * np.pi * phase).reshape(-1, len(frequencies))
    assert n_bad == 0
    assert not flags.any()
    assert np.any(rows.swapped)
    for pol in range(2):
        np.testing.assert_allclose(out[:, :, pol], expected, atol=2e-6)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 9), st.integers(1, 5), st.sampled_from([1, 2]), st.booleans(), st.integers(0, 2**32 - 1))
def test_any_tiling_gives_what_the_plain_array_gives(
    tile_rows: int, tile_channels: int, tile_pols: int, reverse: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    first, second = all_pairs(3)
    n_time, n_channel = 2, 5
    shape = (n_time * len(first), n_channel, 2)
    raw = (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64)
    phasors = np.exp(1j * rng.normal(size=(n_time, 3, n_channel))).astype(np.complex64)
    turned = rng.random(len(first)) < 0.5
    ends = np.where(turned, second, first), np.where(turned, first, second)
    rows = order_baselines(*ends)
    results = []
    for tiles in (TiledVisibilities.from_array(raw), tiled(raw, (tile_rows, tile_channels, tile_pols), rng)):
        out, flags = np.empty_like(raw), np.zeros(shape, bool)
        rephase(replace(tiles, descending=reverse), phasors, order=rows, out=out, flags=flags)
        results.append(out)
    np.testing.assert_array_equal(results[0], results[1])
    for row in range(shape[0]):
        time, baseline = divmod(row, len(first))
        factor = phasors[time, ends[0][baseline]] * np.conj(phasors[time, ends[1][baseline]])
        expected = np.conj(raw[row]) * factor[:, None]
        expected = np.conj(expected) if rows.swapped[baseline] else expected
        got = results[0][time * len(first) + rows.destination[baseline]]
        np.testing.assert_allclose(got[::-1] if reverse else got, expected, atol=2e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf, complex(0, -np.inf), complex(np.nan, 1)])
def test_values_that_are_not_finite_are_zeroed_and_flagged_alone(bad: complex) -> None:
    first, second = all_pairs(2)
    raw = np.ones((3, 4, 2), np.complex64)
    raw[1, 2, 1] = bad
    out, flags = np.empty_like(raw), np.zeros(raw.shape, bool)
    phasors = np.ones((1, 2, 4), np.complex64)
    rows = order_baselines(first, second)
    tiles = TiledVisibilities.from_array(raw, descending=True)
    assert rephase(tiles, phasors, order=rows, out=out, flags=flags) == 1
    expected = np.zeros(raw.shape, bool)
    expected[rows.destination[1], 1, 1] = True
    np.testing.assert_array_equal(flags, expected)
    np.testing.assert_array_equal(out, np.where(expected, 0, 1))


def test_shapes_that_do_not_fit_are_refused() -> None:
    first, second = all_pairs(2)
    raw = TiledVisibilities.from_array(np.ones((3, 4, 2), np.complex64))
    rows, phasors = order_baselines(first, second), np.ones((1, 2, 4), np.complex64)
    flags = np.zeros((3, 4, 2), bool)
    for out, tiles in (
        (np.empty((6, 4, 2), np.complex64), raw),
        (np.empty((3, 4, 2), np.complex64), TiledVisibilities(raw.flat, raw.starts, (2, 4, 2))),
    ):
        with pytest.raises(ShapeError):
            rephase(tiles, phasors, order=rows, out=out, flags=flags)


def test_row_means_leave_the_padding_of_tiles_out() -> None:
    rng = np.random.default_rng(3)
    values = rng.random((7, 5, 2)).astype(np.float32)
    tiles = tiled(values.astype(np.complex64), (4, 2, 1), rng)
    flat = tiles.flat.real.copy()
    means = mean_of_rows(flat, tiles.starts, tiles.tile, values.shape)
    np.testing.assert_allclose(means, values.mean(axis=(1, 2)), rtol=1e-6)
    part = mean_of_rows(flat, tiles.starts[1:], tiles.tile, (2, 5, 2), first_row=1)
    np.testing.assert_allclose(part, values[5:7].mean(axis=(1, 2)), rtol=1e-6)
    with pytest.raises(ShapeError, match="do not cover"):
        mean_of_rows(flat, tiles.starts, tiles.tile, (20, 5, 2))


@given(
    st.tuples(*[st.floats(-3000, 3000)] * 3).filter(lambda v: np.linalg.norm(v) > 1e-3),
)
def test_a_small_rotation_is_found(rotation_arcsec: tuple[float, float, float]) -> None:
    rng = np.random.default_rng(1)
    uvw = rng.normal(scale=800.0, size=(60, 3))
    vector = np.array(rotation_arcsec) * np.pi / 180 / 3600
    angle = np.linalg.norm(vector)
    x, y, z = vector / angle
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    matrix = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    found = compare_uvw(uvw @ matrix.T, uvw)
    np.testing.assert_allclose(found.rotation_arcsec, rotation_arcsec, atol=1e-6)
    assert found.max_residual_m < 1e-8
    assert found.max_discrepancy_m == pytest.approx(np.linalg.norm(uvw @ matrix.T - uvw, axis=1).max())


def test_zenith_instead_of_the_declination_is_a_rotation_about_u_of_a_kilometre() -> None:
    array = array_configuration("full")
    first, second = array.baselines()
    vectors = array.antenna_positions_m[second] - array.antenna_positions_m[first]
    zenith = geometry.header_uvw(vectors, np.radians(37.2334051))
    found = compare_uvw(zenith, geometry.header_uvw(vectors, DEC_APP))
    assert found.max_discrepancy_m > 700.0
    # d to d + e: v becomes v cos e - w sin e, a positive turn about u
    np.testing.assert_allclose(np.array(found.rotation_arcsec) / 3600.0, [37.2334051 - 16.27, 0, 0], atol=1e-6)
    assert found.max_residual_m < 1e-8


def test_one_moved_antenna_is_no_rotation() -> None:
    array = array_configuration("small")
    first, second = array.baselines()
    moved = array.antenna_positions_m.copy()
    moved[first[1]] += [0.0, 0.5, 0.0]
    found = compare_uvw(
        geometry.header_uvw(moved[second] - moved[first], DEC_APP),
        geometry.header_uvw(array.antenna_positions_m[second] - array.antenna_positions_m[first], DEC_APP),
    )
    assert found.max_discrepancy_m == pytest.approx(0.5)
    assert found.max_residual_m > 0.4


def test_uvw_of_other_shapes_are_refused() -> None:
    with pytest.raises(ShapeError):
        compare_uvw(np.zeros((3, 3)), np.zeros((4, 3)))


def test_thermal_noise_of_one_visibility() -> None:
    assert thermal_sigma_jy(SEFD_JY, CHANNEL_WIDTH_HZ, INTEGRATION_S) == pytest.approx(2.5914, abs=1e-4)
