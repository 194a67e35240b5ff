import math
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsa110_assets.science.errors import ShapeError
from dsa110_assets.science.instrument import CORRELATOR_SAMPLE_S, GROUP_SPACING_S, N_SUBBANDS, array_configuration
from dsa110_assets.science.subbands import (
    Completeness,
    GroupingOptions,
    check_completeness,
    day_key_of,
    find_odd_shapes,
    group_id_of,
    group_of_files,
    group_start_of,
    hour_key_of,
    is_same_group,
    jd_of,
    mjd_of,
    partition_key_of,
    subband_index_of,
    unix_time_of,
)

MOMENTS = st.datetimes(min_value=datetime(2018, 1, 1), max_value=datetime(2060, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        (datetime(2026, 2, 11, 16, 3, 16, tzinfo=UTC), "2026-02-11T16:03:16"),
        (datetime(2026, 2, 11, 16, 3, 16, 999000, tzinfo=UTC), "2026-02-11T16:03:16"),
        (datetime(2025, 12, 31, 23, 59, 59, 500000, tzinfo=UTC), "2025-12-31T23:59:59"),
        (datetime(2026, 1, 1, tzinfo=UTC), "2026-01-01T00:00:00"),
    ],
)
def test_group_id_is_the_start_truncated_to_the_second(moment: datetime, expected: str) -> None:
    assert group_id_of(jd_of(moment)) == expected


def test_group_id_of_a_real_header() -> None:
    # header of 2025-10-03: time_array[0] = 2460951.992331..., 11:48:57.4 UT
    assert group_id_of(2460951.0 + (23 * 3600 + 48 * 60 + 57.4) / 86400.0) == "2025-10-03T11:48:57"


@given(MOMENTS)
def test_group_id_lies_within_the_second_before_its_time(moment: datetime) -> None:
    time_jd = jd_of(moment)
    behind_s = unix_time_of(time_jd) - group_start_of(group_id_of(time_jd)).timestamp()
    assert -1e-4 <= behind_s < 1.0


@given(MOMENTS)
def test_full_seconds_survive_the_resolution_of_julian_dates(moment: datetime) -> None:
    whole = moment.replace(microsecond=0)
    assert group_start_of(group_id_of(jd_of(whole))) == whole


@given(MOMENTS)
def test_partition_key_is_the_five_minute_window_of_the_id(moment: datetime) -> None:
    group_id = group_id_of(jd_of(moment))
    start = datetime.strptime(partition_key_of(group_id), "%Y-%m-%dT%H:%M").replace(tzinfo=UTC)
    assert start.minute % 5 == 0
    assert timedelta(0) <= group_start_of(group_id) - start < timedelta(minutes=5)
    assert partition_key_of(group_id).startswith(hour_key_of(group_id))
    assert hour_key_of(group_id).startswith(day_key_of(group_id))


@given(MOMENTS, st.integers(2, 400))
def test_a_window_holds_at_most_one_group_start(first: datetime, n_groups: int) -> None:
    starts = [jd_of(first) + i * GROUP_SPACING_S / 86400.0 for i in range(n_groups)]
    windows = [partition_key_of(group_id_of(start)) for start in starts]
    assert len(set(windows)) == n_groups


def test_three_per_cent_of_the_windows_are_empty_without_restarts() -> None:
    start = jd_of(datetime(2026, 2, 1, tzinfo=UTC))
    n_windows = 28 * 288
    starts = [start + i * GROUP_SPACING_S / 86400.0 for i in range(int(28 * 86400 / GROUP_SPACING_S))]
    used = {partition_key_of(group_id_of(moment)) for moment in starts}
    assert 1.0 - len(used) / n_windows == pytest.approx(1.0 - 300.0 / GROUP_SPACING_S, abs=2e-4)  # 2.99 %


@pytest.mark.parametrize("bad", ["2026-02-11 16:03:16", "2026-02-11T16:03", "2026-13-01T00:00:00", ""])
def test_what_is_no_group_id_is_refused(bad: str) -> None:
    with pytest.raises(ValueError, match=r"does not match|unconverted|month must be"):
        group_start_of(bad)


@pytest.mark.parametrize(
    ("difference_s", "expected"),
    [(0.0, True), (0.06, True), (0.5 * CORRELATOR_SAMPLE_S - 1e-4, True), (0.068, False), (12.88, False)],
)
def test_membership_is_half_a_correlator_sample_either_way(difference_s: float, expected: bool) -> None:
    time_jd = jd_of(datetime(2026, 2, 11, 16, 3, 16, 999990, tzinfo=UTC))
    other = time_jd + difference_s / 86400.0
    assert is_same_group(time_jd, other) is expected
    assert is_same_group(other, time_jd) is expected


def test_members_either_side_of_a_full_second_are_one_group() -> None:
    # keyed on a rounded time they would be two
    before = jd_of(datetime(2026, 2, 11, 16, 3, 16, 990000, tzinfo=UTC))
    after = jd_of(datetime(2026, 2, 11, 16, 3, 17, 10000, tzinfo=UTC))
    assert group_id_of(before) != group_id_of(after)
    np.testing.assert_array_equal(group_of_files([before, after]), [0, 0])


@given(
    MOMENTS,
    st.lists(st.tuples(st.integers(0, 11), st.floats(-0.03, 0.03)), min_size=1, max_size=60),
    st.randoms(use_true_random=False),
)
def test_grouping_recovers_the_groups_in_any_order_of_arrival(
    first: datetime, files: list[tuple[int, float]], shuffle: object
) -> None:
    shuffle.shuffle(files)  # type: ignore[attr-defined]
    truth = np.array([group for group, _ in files])
    times = [jd_of(first) + (group * GROUP_SPACING_S + jitter) / 86400.0 for group, jitter in files]
    found = group_of_files(times)
    same_truth = truth[:, None] == truth[None, :]
    same_found = found[:, None] == found[None, :]
    np.testing.assert_array_equal(same_found, same_truth)
    assert sorted(set(found)) == list(range(len(set(truth))))


@pytest.mark.parametrize("name", ["full", "small"])
def test_subband_index_comes_from_the_frequencies(name: str) -> None:
    array = array_configuration(name)
    found = [subband_index_of(array.frequencies_hz(subband)) for subband in range(N_SUBBANDS)]
    assert found == list(range(N_SUBBANDS))
    assert subband_index_of(array.frequencies_hz(3)[::-1]) == 3


@pytest.mark.parametrize(
    "frequencies_hz",
    [
        [],
        [[1.4e9]],
        [math.nan],
        np.linspace(1.28e9, 1.29e9, 48),  # below the band
        1498643188.4765625 + 11718750.0 - 244140.625 * np.arange(48),  # one subband above it
        1498643188.4765625 - 5e6 - 244140.625 * np.arange(48),  # straddles two
    ],
)
def test_channels_off_the_subband_grid_are_refused(frequencies_hz: object) -> None:
    with pytest.raises(ShapeError):
        subband_index_of(frequencies_hz)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("n_subbands", "waited_s", "expected"),
    [
        (16, 0.0, Completeness.COMPLETE),
        (15, 0.0, Completeness.WAIT),
        (15, 599.9, Completeness.WAIT),
        (15, 600.0, Completeness.PARTIAL),
        (14, 600.0, Completeness.PARTIAL),
        (13, 599.9, Completeness.WAIT),
        (13, 600.0, Completeness.INCOMPLETE),
        (1, 1e6, Completeness.INCOMPLETE),
    ],
)
def test_completeness_policy(n_subbands: int, waited_s: float, expected: Completeness) -> None:
    assert check_completeness(n_subbands, waited_s, options=GroupingOptions()) is expected


def test_policy_that_contradicts_itself_is_refused() -> None:
    with pytest.raises(ValueError, match="min_subbands 15 exceeds expected_subbands 12"):
        GroupingOptions(expected_subbands=12, min_subbands=15)


@pytest.mark.parametrize(
    ("shapes", "odd"),
    [([], []), (["a"], []), (["a", "a", "b"], [2]), (["b", "a", "a"], [0]), (["a", "b"], [1])],
)
def test_the_majority_gives_a_group_its_shape(shapes: list[str], odd: list[int]) -> None:
    assert find_odd_shapes(shapes) == odd


@given(MOMENTS)
def test_julian_dates_and_moments_agree(moment: datetime) -> None:
    time_jd = jd_of(moment)
    assert unix_time_of(time_jd) == pytest.approx(moment.timestamp(), abs=5e-5)
    assert mjd_of(time_jd) == pytest.approx(time_jd - 2400000.5, abs=1e-9)
