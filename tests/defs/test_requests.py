"""Work is asked for by the data: what the sensors request from a ledger in a given state."""

from datetime import timedelta

import dagster as dg
import pytest
from ledger_rows import NOW, complete_group, make_group

from dsa110_assets.defs.platform import Platform
from dsa110_assets.defs.requests import bandpass_requests, gain_requests, overdue_groups
from dsa110_assets.defs.sensors import calibration_sensor, daily_bandpass
from dsa110_resources.operations import CaltableRecord
from dsa110_resources.settings import load_settings


@pytest.fixture
def platform(tmp_path) -> Platform:
    return Platform.from_settings(load_settings({}, data_root=tmp_path))


def _wait(platform: Platform, *, group: int = 0, calibrators: tuple[str, ...] = (), missing=("BP", "G")) -> str:
    """A group with a Measurement Set that waits for tables."""
    group_id = make_group(platform.operations, group=group)
    ledger = platform.operations.ledger
    ledger.begin(group_id, "run", now=NOW)
    ledger.set_calibrators(group_id, calibrators)
    ledger.wait_for_calibration(group_id, "run", missing, now=NOW)
    platform.archive.ms_path(group_id, calibrator=bool(calibrators)).mkdir(parents=True)
    return group_id


def _register(platform: Platform, table_type: str, group_id: str) -> None:
    group = platform.operations.ledger.require(group_id)
    record = CaltableRecord(
        set_name=group_id,
        path=platform.archive.caltable_path(group_id, "bpcal" if table_type == "BP" else "gpcal"),
        table_type=table_type,
        valid_start_mjd=group.start_mjd - 1,
        valid_end_mjd=group.end_mjd + 1,
        solved_mjd=group.start_mjd,
        dec_deg=group.dec_deg or 0.0,
        group_ids=(group_id,),
    )
    platform.operations.registry.register(record)


def test_nothing_is_asked_of_an_empty_ledger(platform):
    assert list(bandpass_requests(platform)) == []
    assert list(gain_requests(platform)) == []


def test_a_transit_without_bandpass_asks_for_its_day_once(platform):
    group_id = _wait(platform, calibrators=("2253+161",))
    (request,) = bandpass_requests(platform)
    assert (request.partition, request.run_key) == ("2026-02-11", f"bandpass:2026-02-11:{group_id}:1")
    assert list(bandpass_requests(platform)) == [request]
    _register(platform, "BP", group_id)
    assert list(bandpass_requests(platform)) == []


def test_gains_are_asked_for_once_a_bandpass_is_there_and_a_group_waits(platform):
    group_id = _wait(platform)
    assert list(gain_requests(platform)) == []
    _register(platform, "BP", group_id)
    (request,) = gain_requests(platform)
    assert request.partition == "2026-02-11T16"
    _register(platform, "G", group_id)
    assert list(gain_requests(platform)) == []


def test_a_strip_without_calibrator_is_solved_on_its_field_when_the_day_is_closed(platform):
    _wait(platform)
    (request,) = bandpass_requests(platform)  # NOW lies in the past: nothing has arrived for long
    assert request.run_key == "bandpass:2026-02-11:strip+16"


def test_a_completed_hour_that_closed_gets_the_tiles_it_lacks(platform):
    first, second = complete_group(platform.operations), complete_group(platform.operations, group=1)
    for group_id in (first, second):
        platform.archive.ms_path(group_id).mkdir(parents=True)
    _register(platform, "BP", first)
    _register(platform, "G", first)
    (request,) = gain_requests(platform)
    assert request.reason == "1 tiles without gains"


def test_the_sensor_and_the_schedule_make_the_same_request(platform):
    _wait(platform, calibrators=("2253+161",))
    instance = dg.DagsterInstance.ephemeral()
    sensed = calibration_sensor(dg.build_sensor_context(instance=instance), platform=platform)
    scheduled = daily_bandpass(dg.build_schedule_context(instance=instance), platform=platform)
    assert [r.run_key for r in sensed.run_requests] == [r.run_key for r in scheduled]
    assert sensed.run_requests[0].job_name == "solve_bandpass"


def test_the_schedule_reports_no_data(platform):
    (skip,) = [daily_bandpass(dg.build_schedule_context(instance=dg.DagsterInstance.ephemeral()), platform=platform)]
    assert isinstance(skip, dg.SkipReason)
    assert "no data" in skip.skip_message


def test_a_group_that_waits_too_long_by_the_data_clock_is_named(platform):
    group_id = _wait(platform)
    assert overdue_groups(platform) == []
    complete_group(platform.operations, group=600, now=NOW + timedelta(days=3))
    assert [group.group_id for group in overdue_groups(platform)] == [group_id]
