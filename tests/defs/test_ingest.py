"""The subband sensor and the asset of a group's raw files, as Dagster runs them."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from incoming_files import SPACING, START, touch, write_group, write_raw

from dsa110_assets.defs import ingest
from dsa110_assets.defs.platform import Platform
from dsa110_resources.operations import GroupState
from dsa110_resources.settings import load_settings

GROUP, WINDOW = "2026-02-11T16:03:22", "2026-02-11T16:00"


@pytest.fixture
def incoming(tmp_path: Path) -> Path:
    return tmp_path / "incoming"


@pytest.fixture
def platform(tmp_path: Path) -> Platform:
    settings = load_settings(
        {}, data_root=tmp_path, group_wait_s=0.0, partitions_start=datetime(2026, 1, 1, tzinfo=UTC)
    )
    return Platform.from_settings(settings)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


def tick(platform: Platform, instance: dg.DagsterInstance, cursor: str | None = None) -> dg.SensorResult:
    with dg.build_sensor_context(instance=instance, cursor=cursor, resources={"platform": platform}) as context:
        result = ingest.subband_sensor(context)
    assert isinstance(result, dg.SensorResult)
    return result


def run(platform: Platform, instance: dg.DagsterInstance, window: str = WINDOW) -> dg.ExecuteInProcessResult:
    return dg.materialize(
        [ingest.subband_group],
        partition_key=window,
        resources={"platform": platform},
        instance=instance,
        raise_on_error=False,
    )


def verdicts(result: dg.ExecuteInProcessResult) -> dict[str, bool]:
    return {check.check_name: check.passed for check in result.get_asset_check_evaluations()}


def test_a_tick_requests_one_run_per_complete_group_newest_first(
    platform: Platform, instance: dg.DagsterInstance, incoming: Path
) -> None:
    write_group(incoming)
    write_group(incoming, start=START + SPACING)
    result = tick(platform, instance)
    newest, oldest = result.run_requests or []
    assert (newest.run_key, oldest.run_key) == ("2026-02-11T16:08:31:1", f"{GROUP}:1")
    assert oldest.partition_key == WINDOW
    assert oldest.tags == {
        "dsa110/window": WINDOW,
        "dsa110/group": GROUP,
        "dsa110/attempt": "1",
        "dsa110/live": "true",
        "dagster/priority": "10",
    }
    again = tick(platform, instance, result.cursor)
    assert again.run_requests == []
    assert "nothing new; 0 runs requested" in str(again.skip_reason)


def test_live_groups_go_before_the_backlog_and_both_before_backfills(
    platform: Platform, instance: dg.DagsterInstance, incoming: Path
) -> None:
    write_group(incoming, start=START - timedelta(hours=3))
    write_group(incoming)
    live, backlog = tick(platform, instance).run_requests or []
    assert (live.tags["dagster/priority"], backlog.tags["dagster/priority"]) == ("10", "5")
    assert "dsa110/live" not in backlog.tags


def test_requests_of_a_tick_are_limited(tmp_path: Path, instance: dg.DagsterInstance, incoming: Path) -> None:
    assert load_settings({}).sensor_max_requests == 25
    limited = Platform.from_settings(load_settings({}, data_root=tmp_path, sensor_max_requests=2))
    for n in range(3):
        write_group(incoming, start=START + n * SPACING)
    counts = [len(tick(limited, instance).run_requests or []) for _ in range(3)]
    assert counts == [2, 1, 0]


@pytest.mark.parametrize("cursor", [None, "", "not json", "[1]", '{"growing": {"a": 1}}', '{"other": 1}'])
def test_a_lost_or_foreign_cursor_does_no_harm(
    platform: Platform, instance: dg.DagsterInstance, incoming: Path, cursor: str | None
) -> None:
    write_group(incoming)
    assert len(tick(platform, instance, cursor).run_requests or []) == 1


def test_growing_files_are_remembered_in_the_cursor(
    platform: Platform, instance: dg.DagsterInstance, incoming: Path
) -> None:
    path = write_raw(incoming, 0)
    touch(path, datetime.now(UTC) + timedelta(minutes=5))  # a node's clock is ahead: two equal looks settle it
    result = tick(platform, instance)
    assert list(json.loads(result.cursor or "")["growing"]) == [path.name]
    assert "1 growing" in str(result.skip_reason)
    assert "1 taken" in str(tick(platform, instance, result.cursor).skip_reason)


def test_bad_files_do_not_stop_the_sensor_and_are_named(
    platform: Platform, instance: dg.DagsterInstance, incoming: Path
) -> None:
    paths = write_group(incoming)
    paths[0].write_bytes(b"")
    touch(paths[0], START)
    write_raw(incoming, 3, start=START + SPACING, telescope="ATA")
    write_group(incoming, range(3), start=START + 2 * SPACING)
    result = tick(platform, instance)
    assert [request.run_key for request in result.run_requests or []] == [f"{GROUP}:1"]  # partial: 15 of 16
    assert platform.operations.ledger.count_states()[GroupState.QUARANTINED] == 1


def test_a_late_subband_is_requested_as_the_next_attempt(
    platform: Platform, instance: dg.DagsterInstance, incoming: Path
) -> None:
    write_group(incoming, range(15))
    cursor = tick(platform, instance).cursor
    result = run(platform, instance)
    assert verdicts(result)["all_subbands_arrived"] is False
    platform.operations.ledger.complete(GROUP, result.run_id)
    write_raw(incoming, 15)
    (request,) = tick(platform, instance, cursor).run_requests or []
    assert (request.run_key, request.partition_key) == (f"{GROUP}:2", WINDOW)
    assert "dsa110/live" not in request.tags
    again = run(platform, instance)
    assert verdicts(again)["all_subbands_arrived"] is True


def test_the_asset_takes_the_group_into_work_and_describes_it(
    platform: Platform, instance: dg.DagsterInstance, incoming: Path
) -> None:
    write_group(incoming)
    write_group(incoming, start=START + SPACING)
    tick(platform, instance)
    result = run(platform, instance, "2026-02-11T16:05")
    assert result.success
    assert verdicts(result) == {check.name: True for check in ingest.CHECKS}
    (materialization,) = result.asset_materializations_for_node("subband_group")
    metadata = {name: value.value for name, value in materialization.metadata.items()}
    assert metadata["group_id"] == "2026-02-11T16:08:31"
    assert (metadata["n_subbands"], metadata["attempt"]) == (16, 1)
    assert metadata["gap_s"] == pytest.approx(309.2376, abs=1e-3)
    assert metadata["dec_deg"] == pytest.approx(16.27, abs=1e-6)
    assert len(metadata["files"]) == 16
    group = platform.operations.ledger.require("2026-02-11T16:08:31")
    assert (group.state, group.run_id) == (GroupState.IN_PROGRESS, result.run_id)


def test_an_empty_window_makes_nothing_and_does_not_fail(platform: Platform, instance: dg.DagsterInstance) -> None:
    result = run(platform, instance, "2026-02-11T17:00")
    assert result.success
    assert result.asset_materializations_for_node("subband_group") == []
    assert set(verdicts(result).values()) == {True}


def test_a_file_that_vanished_stops_the_run(platform: Platform, instance: dg.DagsterInstance, incoming: Path) -> None:
    paths = write_group(incoming)
    tick(platform, instance)
    paths[7].unlink()
    result = run(platform, instance)
    assert verdicts(result)["files_unchanged"] is False
    (check,) = [c for c in result.get_asset_check_evaluations() if c.check_name == "files_unchanged"]
    assert check.severity is dg.AssetCheckSeverity.ERROR
    assert paths[7].name in (check.description or "")


def test_a_file_copied_again_is_taken_as_it_is_now(
    platform: Platform, instance: dg.DagsterInstance, incoming: Path
) -> None:
    paths = write_group(incoming)
    tick(platform, instance)
    with paths[2].open("ab") as file:
        file.write(b"\0" * 64)
    result = run(platform, instance)
    assert verdicts(result)["files_unchanged"] is True
    assert platform.operations.arrivals.file_sizes(GROUP)[paths[2]] == paths[2].stat().st_size


def test_pointing_changes_and_wrong_clocks_are_warned_of(
    platform: Platform, instance: dg.DagsterInstance, incoming: Path
) -> None:
    write_group(incoming)
    moved = START + SPACING
    write_group(incoming, range(15), start=moved, dec_deg=54.57)
    write_raw(incoming, 15, start=moved, dec_deg=54.57, name_time=moved - timedelta(seconds=200))
    tick(platform, instance)
    result = run(platform, instance, "2026-02-11T16:05")
    assert result.success
    assert verdicts(result) == {
        "files_unchanged": True,
        "all_subbands_arrived": True,
        "names_near_header_time": False,
        "pointing_unchanged": False,
    }


def test_the_asset_is_dressed() -> None:
    spec = ingest.subband_group.get_asset_spec()
    columns = spec.metadata["dagster/column_schema"].columns
    assert [column.name for column in columns] == ["group_id", "subband_idx", "file_path", "file_size", "discovered_at"]
    assert (spec.group_name, list(spec.owners), set(spec.kinds)) == ("ingest", ["team:continuum"], {"hdf5"})
    assert "raw subbands of the group" in (spec.description or "")


def test_the_sensor_is_on_by_default_every_thirty_seconds() -> None:
    assert ingest.subband_sensor.minimum_interval_seconds == 30
    assert ingest.subband_sensor.default_status is dg.DefaultSensorStatus.RUNNING
    assert ingest.subband_sensor.job_name == "process_tile"
