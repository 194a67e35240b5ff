"""Searches on the sphere against plain geometry."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsa110_assets.science.crossmatch import ConeIndex, source_names
from dsa110_assets.science.errors import ShapeError
from dsa110_assets.science.geometry import separation_deg
from dsa110_assets.science.sky import iau_name


def uniform_sky(n: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    return generator.uniform(0.0, 360.0, n), np.degrees(np.arcsin(generator.uniform(-1.0, 1.0, n)))


@pytest.mark.parametrize("centre", [(0.02, 10.0), (359.99, -30.0), (123.0, 89.95), (10.0, -90.0), (200.0, 0.0)])
def test_a_cone_holds_what_lies_within_it_also_over_ra_zero_and_the_pole(centre: tuple[float, float]) -> None:
    ra, dec = uniform_sky(200_000)
    index, separation = ConeIndex(ra, dec).search(*centre, 1.5)
    expected = separation_deg(ra, dec, *centre)
    assert set(index) == set(np.flatnonzero(expected <= 1.5))
    np.testing.assert_allclose(separation, expected[index], atol=1e-9)
    assert (np.diff(separation) >= 0).all()


def test_a_cone_of_a_million_rows_takes_less_than_ten_milliseconds() -> None:
    index = ConeIndex(*uniform_sky(1_000_000))
    index.search(0.0, 0.0, 0.1)
    spent = []
    for ra in np.linspace(0.0, 359.0, 20):
        begin = time.process_time()
        index.search(float(ra), 16.0, 1.0)
        spent.append(time.process_time() - begin)
    assert np.median(spent) < 0.010


def test_matching_gives_nearest_separation_and_number() -> None:
    index = ConeIndex([10.0, 10.0, 50.0], [20.0, 20.0 + 3.0 / 3600.0, 60.0])
    matches = index.match([10.0, 50.0, 90.0], [20.0 + 1.0 / 3600.0, 60.0, 0.0], radius_arcsec=7.5)
    assert matches.index.tolist() == [0, 2, -1]
    assert matches.count.tolist() == [2, 1, 0]
    np.testing.assert_allclose(matches.separation_arcsec, [1.0, 0.0, np.nan], atol=1e-6)
    np.testing.assert_array_equal(matches.take([5.0, 6.0, 7.0]), [5.0, 7.0, np.nan])


def test_the_radius_itself_is_a_match_and_more_is_not() -> None:
    index = ConeIndex([0.0], [0.0])
    assert index.match([0.0], [7.4999 / 3600.0], radius_arcsec=7.5).is_matched.all()
    assert not index.match([0.0], [7.5001 / 3600.0], radius_arcsec=7.5).is_matched.any()


def test_nothing_matches_nothing() -> None:
    assert ConeIndex([], []).match([1.0], [2.0], radius_arcsec=7.5).index.tolist() == [-1]
    assert len(ConeIndex([1.0], [2.0]).match([], [], radius_arcsec=7.5).index) == 0
    assert ConeIndex([1.0], [2.0]).separation_of_nearest_arcsec().tolist() == [np.inf]
    with pytest.raises(ShapeError):
        ConeIndex([1.0, 2.0], [1.0])


def test_names_are_truncated_not_rounded() -> None:
    ra = 15.0 * (12 + 34 / 60 + 56.79 / 3600)
    dec = 42 + 3 / 60 + 12.99 / 3600
    assert source_names([ra, 359.9999999, 0.0], [dec, -0.5, -0.0001]).tolist() == [
        "NVSS J123456.7+420312",
        "NVSS J235959.9-003000",
        "NVSS J000000.0-000000",
    ]


def test_names_that_coincide_get_letters() -> None:
    assert source_names([10.0, 20.0, 10.0], [1.0, 2.0, 1.0]).tolist() == [
        "NVSS J004000.0+010000a",
        "NVSS J012000.0+020000",
        "NVSS J004000.0+010000b",
    ]


@given(st.floats(0.0, 359.9999), st.floats(-90.0, 90.0))
def test_names_are_those_of_the_simulated_sky(ra: float, dec: float) -> None:
    assert source_names([ra], [dec])[0] == iau_name(ra, dec)
