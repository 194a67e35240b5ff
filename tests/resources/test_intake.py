"""From files in the folder to groups in the ledger: every failure that real data showed has its outcome."""

import csv
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from incoming_files import LATER, SPACING, START, tiny_array, touch, write_group, write_raw

from dsa110_assets.science.subbands import GroupingOptions, group_id_of, group_of_files, jd_of, partition_key_of
from dsa110_resources.archive import Archive
from dsa110_resources.intake import IntakeOptions, IntakeReport, take_arrivals
from dsa110_resources.operations import Arrival, GroupState, OperationsStore
from dsa110_resources.quarantine import read_records

GROUP = "2026-02-11T16:03:22"
WAIT = timedelta(seconds=600)
OPTIONS = IntakeOptions(campaign_start=datetime(2026, 1, 1, tzinfo=UTC))

Look = Callable[..., IntakeReport]


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(tmp_path / "data")


@pytest.fixture
def incoming(tmp_path: Path) -> Path:
    return tmp_path / "data" / "incoming"


@pytest.fixture
def look(store: OperationsStore, archive: Archive, incoming: Path) -> Look:
    def once(now: datetime = LATER, *, options: IntakeOptions = OPTIONS, **more: object) -> IntakeReport:
        return take_arrivals(store, archive, incoming, options=options, now=lambda: now, **more)  # type: ignore[arg-type]

    return once


def test_a_group_whose_names_differ_by_more_than_a_minute(store: OperationsStore, incoming: Path, look: Look) -> None:
    for subband in range(16):
        write_raw(incoming, subband, name_time=START + timedelta(seconds=5.2 * subband - 60.0))
    report = look()
    assert (report.outcomes, [group.group_id for group in report.changed]) == ({"taken": 16}, [GROUP])
    assert store.ledger.require(GROUP).state is GroupState.PENDING
    assert store.ledger.require(GROUP).dec_deg == pytest.approx(16.27, abs=1e-9)
    assert look().outcomes == {}


def test_consecutive_groups_are_told_apart_and_a_wrong_name_does_not_matter(
    store: OperationsStore, incoming: Path, look: Look
) -> None:
    write_group(incoming)
    write_group(incoming, range(15), start=START + SPACING)
    # sb15 of the second group carries the first one's minute and a wrong number in its name
    misnamed = write_raw(incoming, 15, start=START + SPACING)
    misnamed.rename(incoming / "2026-02-11T16:03:21_sb03.hdf5")
    look()
    groups = store.groups_between(0.0, 1e6)
    assert [(group.group_id, group.n_subbands) for group in groups] == [(GROUP, 16), ("2026-02-11T16:08:31", 16)]


def test_incomplete_growing_and_hidden_files_are_not_taken(incoming: Path, look: Look) -> None:
    write_raw(incoming, 0, suffix="_incomplete.hdf5")
    growing = write_raw(incoming, 1)
    touch(growing, LATER - timedelta(seconds=1))
    write_raw(incoming, 2).rename(incoming / ".2026-02-11T16:03:22_sb02.hdf5.Q1w2")
    report = look()
    assert (report.outcomes, list(report.memory.growing), report.memory.n_unfinished) == ({}, [growing.name], 1)
    (incoming / "2026-02-11T16:03:22_sb00_incomplete.hdf5").rename(incoming / "2026-02-11T16:03:22_sb00.hdf5")
    assert look(previous=report.memory).outcomes == {"taken": 2}


def _truncate(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: 2 * len(content) // 3])


@pytest.mark.parametrize(
    ("spoil", "reason", "words"),
    [
        (_truncate, "truncated", "truncated at"),
        (lambda path: path.write_bytes(b""), "zero_byte", "0 bytes"),
        (lambda path: path.write_bytes(b"not HDF5 at all"), "damaged", "HDF5"),
    ],
)
def test_a_broken_file_costs_its_subband_only(
    store: OperationsStore, archive: Archive, incoming: Path, look: Look, spoil: Callable[[Path], object], reason: str,
    words: str,
) -> None:  # fmt: skip
    paths = write_group(incoming)
    spoil(paths[4])
    touch(paths[4], START)
    assert look().outcomes == {"taken": 15, reason: 1}
    assert look().outcomes == {}
    (record,) = read_records(archive, day="2026-02-11")
    assert (record["reason"], record["files"][0]["path"]) == (reason, str(paths[4]))
    assert words in record["message"]
    assert record["cure"]
    assert [group.state for group in look(LATER + WAIT).changed] == [GroupState.PENDING]
    # copied again from its node: the group is processed once more, the record is closed
    store.ledger.begin(GROUP, "run")
    store.ledger.complete(GROUP, "run")
    write_raw(incoming, 4)
    assert look(LATER + WAIT).outcomes == {"late": 1}
    assert store.ledger.require(GROUP).run_key == f"{GROUP}:2"
    assert read_records(archive) == []
    (closed,) = read_records(archive, unresolved_only=False)
    assert closed["resolution"] == "the file changed and was late"
    assert store.arrivals.rejected() == {}


def test_foreign_and_clockless_files_are_refused_and_the_rest_goes_on(
    archive: Archive, incoming: Path, look: Look
) -> None:
    write_raw(incoming, 0, telescope="ATA", start=START + SPACING)
    write_raw(incoming, 1, start_jd=2400000.5 + 55000.0007, name_time=START + SPACING)
    write_group(incoming)
    assert look().outcomes == {"taken": 16, "foreign_telescope": 1, "impossible_time": 1}
    records = {record["reason"]: record for record in read_records(archive)}
    assert "ATA" in records["foreign_telescope"]["message"]
    assert "MJD 55000" in records["impossible_time"]["message"]


def test_real_files_of_other_telescopes_are_refused(incoming: Path, look: Look, shared_data: Path) -> None:
    incoming.mkdir(parents=True)
    for path in sorted((shared_data / "uvh5").iterdir()):
        target = incoming / f"{path.name}.hdf5"
        target.symlink_to(path)
    assert look(datetime(2027, 1, 1, tzinfo=UTC)).outcomes == {"foreign_telescope": 3}


def test_a_file_of_another_shape_is_refused(store: OperationsStore, incoming: Path, look: Look) -> None:
    write_group(incoming, range(15))
    write_raw(incoming, 15, array=tiny_array(n_integrations=3))
    assert look().outcomes == {"taken": 16}
    (refused,) = store.arrivals.rejected().values()
    assert (refused.reason, refused.subband_idx) == ("wrong_shape", 15)
    assert "3 x 6 x 2 x 2 at Dec 16.270000" in refused.message


def test_a_subband_that_points_elsewhere_is_refused(store: OperationsStore, incoming: Path, look: Look) -> None:
    write_group(incoming, range(15))
    write_raw(incoming, 15, dec_deg=54.57)
    look()
    (refused,) = store.arrivals.rejected().values()
    assert "Dec 54.570000" in refused.message


def test_of_two_copies_found_at_once_the_honestly_named_one_is_taken(
    store: OperationsStore, archive: Archive, incoming: Path, look: Look
) -> None:
    paths = write_group(incoming)
    copy = write_raw(incoming, 3, name_time=START + timedelta(seconds=59))
    assert look().outcomes == {"taken": 16, "duplicate": 1}
    assert store.ledger.require(GROUP).files[3] == paths[3]
    (record,) = read_records(archive)
    assert (record["reason"], record["files"][0]["path"]) == ("duplicate", str(copy))
    assert record["group_id"] == GROUP


def test_a_partial_group_and_its_late_subband(store: OperationsStore, incoming: Path, look: Look) -> None:
    write_group(incoming, range(14))
    assert look().changed == ()
    (group,) = look(LATER + WAIT).changed
    assert (group.state, group.missing_subbands) == (GroupState.PENDING, (14, 15))
    store.ledger.begin(GROUP, "run")
    store.ledger.complete(GROUP, "run")
    write_group(incoming, [14, 15])
    assert look(LATER + WAIT).outcomes == {"late": 1, "taken": 1}
    assert store.ledger.require(GROUP).run_key == f"{GROUP}:2"


def test_a_quarantined_group_has_a_record_that_closes_when_the_rest_arrives(
    store: OperationsStore, archive: Archive, incoming: Path, look: Look
) -> None:
    paths = write_group(incoming, range(9))
    look()
    (group,) = look(LATER + WAIT).changed
    assert (group.state, group.reason) == (GroupState.QUARANTINED, "incomplete")
    record = json.loads((archive.failed / "2026-02-11" / "2026-02-11_16_03_22.json").read_text())
    assert [file["path"] for file in record["files"]] == [str(path) for path in paths]
    assert record["files"][0]["size_bytes"] == paths[0].stat().st_size
    assert record["missing_subbands"] == list(range(9, 16))
    assert record["message"] == "9 of 16 subbands after 600 s (at least 14 are needed)"
    assert all(path.exists() for path in paths)
    write_group(incoming, range(9, 16))
    look(LATER + WAIT)
    assert store.ledger.require(GROUP).run_key == f"{GROUP}:2"
    assert read_records(archive) == []


def test_a_record_that_could_not_be_written_is_written_at_the_next_look(
    archive: Archive, incoming: Path, look: Look
) -> None:
    write_group(incoming, range(3))
    look()
    archive.failed.parent.mkdir(parents=True)
    archive.failed.write_text("a file where the folder should be")
    with pytest.raises(OSError, match=r"Not a directory|File exists"):
        look(LATER + WAIT)
    archive.failed.unlink()
    look(LATER + WAIT)
    assert [record["group_id"] for record in read_records(archive)] == [GROUP]


def test_groups_before_the_campaign(archive: Archive, incoming: Path, look: Look) -> None:
    write_group(incoming, start=START - timedelta(days=100))
    (group,) = look().changed
    assert (group.state, group.reason) == (GroupState.QUARANTINED, "before_campaign")
    (record,) = read_records(archive, day="2025-11-03")
    assert "DSA110_PARTITIONS_START" in record["cure"]


def test_an_occupied_window_raises_an_alert(store: OperationsStore, incoming: Path, look: Look) -> None:
    write_group(incoming)
    look()
    write_group(incoming, start=START + timedelta(seconds=61))
    (group,) = look().changed
    assert (group.group_id, group.reason) == ("2026-02-11T16:04:23", "window_occupied")
    (alert,) = store.alerts.history()
    assert (alert["source_id"], alert["alert_type"], alert["severity"]) == (
        group.group_id,
        "window_occupied",
        "warning",
    )
    assert GROUP in alert["message"]


def test_a_backlog_is_read_newest_first_within_the_time_and_incomplete_groups_are_kept(
    store: OperationsStore, incoming: Path, look: Look
) -> None:
    for n in range(3):
        write_group(incoming, start=START + n * SPACING)
    hurried = OPTIONS.model_copy(update={"budget_s": 1e-9, "grouping": GroupingOptions(wait_s=0.0)})
    report = look(options=hurried)
    assert report.n_unread == 48
    patient = OPTIONS.model_copy(update={"grouping": GroupingOptions(wait_s=0.0)})
    report = look(options=patient)
    assert (report.outcomes, report.n_unread) == ({"taken": 48}, 0)
    assert store.ledger.count_states()[GroupState.PENDING] == 3


def test_a_quiet_folder_is_not_listed_again_until_something_changes(
    store: OperationsStore, incoming: Path, look: Look
) -> None:
    write_group(incoming, range(15))
    bad = write_raw(incoming, 15)
    bad.write_bytes(b"")
    touch(bad, START)
    touch(incoming, START)
    first = look()
    assert first.memory.folder_mtime_ns == incoming.stat().st_mtime_ns
    # an entry that came without a trace (the clock set back) is not seen: nothing was listed
    write_group(incoming, range(3), start=START + SPACING)
    touch(incoming, START)
    quiet = look(previous=first.memory)
    assert (quiet.outcomes, quiet.memory) == ({}, first.memory)
    # an entry that came shows in the folder's time
    touch(incoming, START + timedelta(minutes=1))
    assert look(previous=first.memory).outcomes == {"taken": 3}
    # a refused file that changed, and a ledger that was restored from a backup, are noticed
    settled = look()
    write_raw(incoming, 15)
    touch(incoming, START + timedelta(minutes=1))
    assert look(previous=settled.memory).outcomes == {"taken": 1}
    settled = look()
    store.arrivals.drop(bad)
    assert look(previous=settled.memory).outcomes == {"taken": 1}


def test_a_folder_that_has_just_changed_is_listed_again(incoming: Path, look: Look) -> None:
    write_group(incoming)
    touch(incoming, LATER - timedelta(seconds=1))
    assert look().memory.folder_mtime_ns == 0


def test_a_file_that_may_not_be_read_now_is_not_the_files_fault(
    store: OperationsStore, incoming: Path, look: Look, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_raw(incoming, 0)
    monkeypatch.setattr("os.access", lambda target, mode: Path(target) != path)
    monkeypatch.setattr(Path, "stat", _denied(path, Path.stat))
    report = look()
    assert report.unreachable in {(), (path.name,)}
    monkeypatch.undo()
    assert store.arrivals.rejected() == {}
    assert look().outcomes == {"taken": 1}


def _denied(path: Path, stat: Callable[..., object]) -> Callable[..., object]:
    def guarded(self: Path, **options: object) -> object:
        if self == path:
            raise PermissionError(13, "Permission denied")
        return stat(self, **options)

    return guarded


_ENDLESS_LOOKS = """
import sys
from pathlib import Path
from incoming_files import LATER
from dsa110_resources.archive import Archive
from dsa110_resources.intake import IntakeOptions, take_arrivals
from dsa110_resources.operations import OperationsStore
store = OperationsStore(sys.argv[1])
print("ready", flush=True)
while True:
    take_arrivals(store, Archive(Path(sys.argv[2])), Path(sys.argv[3]), options=IntakeOptions(), now=lambda: LATER)
"""


@pytest.mark.parametrize("after_s", [0.0, 0.05, 0.2])
def test_an_intake_that_is_killed_is_taken_up_where_it_stopped(
    tmp_path: Path, archive: Archive, incoming: Path, after_s: float
) -> None:
    for n in range(3):
        write_group(incoming, start=START + n * SPACING)
    url = f"sqlite:///{tmp_path / 'operations.sqlite3'}"
    store = OperationsStore(url)
    store.migrate()
    command = [sys.executable, "-c", _ENDLESS_LOOKS, url, str(archive.root), str(incoming)]
    path = {"PYTHONPATH": str(Path(__file__).parents[1]), "PATH": ""}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=path, text=True) as daemon:
        assert daemon.stdout is not None
        assert daemon.stdout.readline() == "ready\n"
        time.sleep(after_s)
        daemon.kill()
    take_arrivals(store, archive, incoming, options=OPTIONS, now=lambda: LATER)
    groups = store.groups_between(0.0, 1e6)
    assert [(group.state, group.n_subbands, group.attempt) for group in groups] == [(GroupState.PENDING, 16, 1)] * 3
    assert store.arrivals.rejected() == {}
    assert read_records(archive) == []


def read_log(path: Path) -> list[tuple[datetime, int]]:
    """Name times and numbers of files of the real arrivals, oldest first."""
    rows = csv.DictReader(path.read_text().splitlines())
    moments = [(datetime.fromisoformat(r["timestamp"]).replace(tzinfo=UTC), int(r["n_subbands_found"])) for r in rows]
    return sorted(moments)


def synthesise_headers(log: list[tuple[datetime, int]]) -> list[tuple[datetime, list[datetime]]]:
    """Data time and name times of each real group: data time is the first name's, 102 s later after a restart."""
    clusters: list[list[datetime]] = []
    for moment, count in log:
        if not clusters or moment - clusters[-1][0] > timedelta(seconds=120):
            clusters.append([])
        clusters[-1] += [moment] * count
    groups = []
    for i, names in enumerate(clusters):
        to_next_s = (clusters[i + 1][0] - names[0]).total_seconds() if i + 1 < len(clusters) else 309.0
        groups.append((names[0] + timedelta(seconds=102.0 if 410 <= to_next_s <= 415 else 0.0), names))
    return groups


def _real_files(shared_data: Path, days: tuple[str, ...]) -> list[tuple[datetime, datetime, int]]:
    """Name time, data time and subband of each file, oldest first."""
    groups = synthesise_headers(read_log(shared_data / "arrivals" / "arrivals_2026-02-11_15.csv"))
    chosen = [group for group in groups if f"{group[1][0]:%d}" in days]
    return sorted((name, start, subband) for start, names in chosen for subband, name in enumerate(names))


def test_five_real_days_are_grouped_by_header_time(shared_data: Path) -> None:
    files = _real_files(shared_data, ("11", "12", "13", "14", "15"))
    assert (len(files), len({name for name, _, _ in files})) == (16473, 2822)  # by name they would be 2822 groups
    numbers = group_of_files([jd_of(start) for _, start, _ in files])
    sizes = Counter(Counter(numbers.tolist()).values())
    assert sizes == {16: 1029, 9: 1}
    windows = {partition_key_of(group_id_of(jd_of(start))) for _, start, _ in files}
    assert len(windows) == 1030  # each window holds one start
    full_days = [window for window in windows if "2026-02-13" <= window[:10] <= "2026-02-15"]
    assert len(full_days) == 704  # of 864: restarts and gaps leave 18.5 % empty


def test_a_real_day_through_the_ledger(tmp_path: Path, shared_data: Path) -> None:
    files = _real_files(shared_data, ("12",))
    store = OperationsStore(f"sqlite:///{tmp_path / 'operations.sqlite3'}")
    store.migrate()
    requests = _replay(store, files)
    states = store.ledger.count_states()
    assert len(files) == 242 * 16 + 9
    assert states == dict.fromkeys(GroupState, 0) | {
        GroupState.PENDING: 242,
        GroupState.QUARANTINED: 1,
    }
    (stump,) = store.groups_between(0.0, 1e6, [GroupState.QUARANTINED])
    assert (stump.group_id, stump.n_subbands, stump.reason) == ("2026-02-12T14:25:57", 9, "incomplete")
    assert (len(requests), len(set(requests))) == (242, 242)
    assert store.arrivals.rejected() == {}
    restart = store.ledger.require(group_id_of(jd_of(datetime(2026, 2, 12, 0, 43, 59, tzinfo=UTC))))
    assert restart.files[0].name == "2026-02-12T00:42:17_sb00.hdf5"  # named 102 s before its data


def _replay(store: OperationsStore, files: list[tuple[datetime, datetime, int]]) -> list[str]:
    """Give the ledger each file 310 s after its name, a look every ten minutes; returns the run keys requested."""
    options, requests = GroupingOptions(), []
    files = sorted(files)
    look_at = files[0][0]
    last = files[-1][0] + timedelta(hours=1)
    while look_at < last:
        look_at += timedelta(minutes=10)
        arrived = [file for file in files if file[0] + timedelta(seconds=310) <= look_at]
        files = files[len(arrived) :]
        store.arrivals.register([_arrival(*file) for file in arrived], options=options, now=look_at)
        store.arrivals.settle(options=options, campaign_start=datetime(2026, 1, 1, tzinfo=UTC), now=look_at)
        requests += [group.run_key for group in store.arrivals.take_requests(25, now=look_at, lease_s=1e9)]
    return requests


def _arrival(name: datetime, start: datetime, subband: int) -> Arrival:
    path = Path(f"/in/{name:%Y-%m-%dT%H:%M:%S}_sb{subband:02d}.hdf5")
    start_jd = jd_of(start)
    return Arrival(path, 145348600, 0, start_jd, start_jd + 302.8 / 86400.0, subband, 16.27, "24 x 4656 x 48 x 2")
