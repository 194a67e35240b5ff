import warnings
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsa110_assets.defs import partitions
from dsa110_assets.science.subbands import day_key_of, group_id_of, hour_key_of, jd_of, partition_key_of

START = datetime(2025, 1, 1, tzinfo=UTC)
NOW = datetime(2025, 6, 1, 12, 34, 56, tzinfo=UTC)
TILES = partitions.tile_partitions(START)
HOURS = partitions.hour_partitions(START)
DAYS = partitions.day_partitions(START)
KINDS = {"tile": TILES, "hour": HOURS, "day": DAYS}


def upstream_keys(mapping: dg.TimeWindowPartitionMapping, upstream: str, downstream: str, key: str) -> list[str]:
    downstream_keys = KINDS[downstream].subset_with_partition_keys([key])
    result = mapping.get_upstream_mapped_partitions_result_for_partitions(
        downstream_keys, KINDS[downstream], KINDS[upstream], current_time=NOW
    )
    return sorted(result.partitions_subset.get_partition_keys())


@pytest.mark.parametrize(
    ("definition", "first", "last", "count"),
    [
        (TILES, "2025-01-01T00:00", "2025-06-01T12:30", 151 * 288 + 12 * 12 + 7),
        (HOURS, "2025-01-01T00", "2025-06-01T12", 151 * 24 + 13),
        (DAYS, "2025-01-01", "2025-06-01", 152),
    ],
)
def test_partitions_reach_from_the_campaign_start_into_the_running_window(
    definition: dg.TimeWindowPartitionsDefinition, first: str, last: str, count: int
) -> None:
    keys = definition.get_partition_keys(current_time=NOW)
    assert (keys[0], keys[-1], len(keys)) == (first, last, count)
    assert definition.timezone == "UTC"


def test_a_campaign_that_starts_within_a_day_begins_at_midnight() -> None:
    definition = partitions.tile_partitions(datetime(2025, 1, 1, 13, 7, 5, tzinfo=UTC))
    assert definition.get_partition_keys(current_time=NOW)[0] == "2025-01-01T00:00"


@given(
    st.datetimes(
        min_value=START.replace(tzinfo=None),
        max_value=datetime(2025, 5, 31),  # noqa: DTZ001
        timezones=st.just(UTC),
    )
)
@settings(deadline=None)
def test_every_group_has_its_partitions(moment: datetime) -> None:
    group_id = group_id_of(jd_of(moment))
    for definition, key in (
        (TILES, partition_key_of(group_id)),
        (HOURS, hour_key_of(group_id)),
        (DAYS, day_key_of(group_id)),
    ):
        assert definition.has_partition_key(key)
        start, end = partitions.period_bounds(key)
        assert start <= moment.replace(microsecond=0) < end
        window = definition.time_window_for_partition_key(key)
        assert (window.start.timestamp(), window.end.timestamp()) == (start.timestamp(), end.timestamp())


def test_bandpass_of_yesterday_today_and_tomorrow_serves_a_tile() -> None:
    # offsets count downstream units: 288 tiles are one day
    days = upstream_keys(partitions.BANDPASS_TO_TILE, "day", "tile", "2025-02-11T16:05")
    assert days == ["2025-02-10", "2025-02-11", "2025-02-12"]


def test_gains_of_the_neighbouring_hours_serve_a_tile() -> None:
    hours = upstream_keys(partitions.GAIN_TO_TILE, "hour", "tile", "2025-02-11T16:05")
    assert hours == ["2025-02-11T15", "2025-02-11T16", "2025-02-11T17"]


@pytest.mark.parametrize(
    ("key", "expected"),
    [("2025-01-01T00:00", ["2025-01-01", "2025-01-02"]), ("2025-06-01T12:30", ["2025-05-31", "2025-06-01"])],
)
def test_the_first_and_the_newest_tile_do_not_ask_for_days_that_do_not_exist(key: str, expected: list[str]) -> None:
    assert upstream_keys(partitions.BANDPASS_TO_TILE, "day", "tile", key) == expected


@pytest.mark.parametrize(
    ("mapping", "downstream", "key", "first", "last", "count"),
    [
        (partitions.TILE_TO_MOSAIC, "hour", "2025-02-11T16", "2025-02-11T15:00", "2025-02-11T17:55", 36),
        (partitions.TILE_TO_HOUR, "hour", "2025-02-11T16", "2025-02-11T16:00", "2025-02-11T16:55", 12),
        (partitions.TILE_TO_DAY, "day", "2025-02-11", "2025-02-10T00:00", "2025-02-12T23:55", 864),
    ],
)
def test_tiles_of_a_period(
    mapping: dg.TimeWindowPartitionMapping, downstream: str, key: str, first: str, last: str, count: int
) -> None:
    keys = upstream_keys(mapping, "tile", downstream, key)
    assert (keys[0], keys[-1], len(keys)) == (first, last, count)


def test_hours_of_a_day_and_days_of_an_hour() -> None:
    hours = upstream_keys(partitions.HOUR_TO_DAY, "hour", "day", "2025-02-11")
    assert (hours[0], hours[-1], len(hours)) == ("2025-02-11T00", "2025-02-11T23", 24)
    days = upstream_keys(partitions.BANDPASS_TO_HOUR, "day", "hour", "2025-02-11T16")
    assert days == ["2025-02-10", "2025-02-11", "2025-02-12"]
    assert upstream_keys(partitions.PREVIOUS_DAY, "day", "day", "2025-02-11") == ["2025-02-10", "2025-02-11"]


@given(st.integers(0, 150 * 288))
@settings(deadline=None, max_examples=50)
def test_lineage_of_any_tile_holds_its_own_day_and_hour(index: int) -> None:
    moment = START + timedelta(minutes=5 * index)
    key = f"{moment:%Y-%m-%dT%H:%M}"
    assert f"{moment:%Y-%m-%d}" in upstream_keys(partitions.BANDPASS_TO_TILE, "day", "tile", key)
    assert f"{moment:%Y-%m-%dT%H}" in upstream_keys(partitions.GAIN_TO_TILE, "hour", "tile", key)


def test_building_mappings_warns_nobody() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        partitions._offsets(-1, 1)


@pytest.mark.parametrize("bad", ["", "2025", "2025-02-11T16:05:00", "2025-02-31"])
def test_what_is_no_partition_key_is_refused(bad: str) -> None:
    with pytest.raises(ValueError, match="not a tile, hour or day partition key"):
        partitions.period_bounds(bad)
