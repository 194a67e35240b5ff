"""Looking at the incoming folder: names are hints, growing files wait, a hundred thousand entries take no time."""

import json
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from incoming_files import LATER, START, touch

from dsa110_resources.archive import Archive
from dsa110_resources.incoming import NameHint, Scan, find_oldest_unfinished_s, read_name, scan_folder
from dsa110_resources.intake import IntakeOptions, take_arrivals
from dsa110_resources.operations import OperationsStore, RejectedFile
from dsa110_resources.operations.schema import ingest_queue


def scan(folder: Path, *, now: datetime = LATER, **options: object) -> Scan:
    values: dict[str, object] = {"known": (), "rejected": {}, "previous": {}, "now": now}
    return scan_folder(folder, **(values | options))  # type: ignore[arg-type]


def make(folder: Path, name: str, size: int = 10, moment: datetime = START) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_bytes(b"x" * size)
    touch(path, moment)
    return path


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("2026-02-11T16:03:16_sb07.hdf5", NameHint(datetime(2026, 2, 11, 16, 3, 16, tzinfo=UTC), 7)),
        ("2026-02-11T16:03:16_sb15_incomplete.hdf5", NameHint(datetime(2026, 2, 11, 16, 3, 16, tzinfo=UTC), 15)),
        ("2026-02-31T16:03:16_sb07.hdf5", None),
        ("holiday.hdf5", None),
    ],
)
def test_what_a_name_claims(name: str, expected: NameHint | None) -> None:
    assert read_name(name) == expected


def test_an_absent_folder_is_empty(tmp_path: Path) -> None:
    assert scan(tmp_path / "nothing") == Scan()


def test_only_whole_subbands_are_ready_newest_name_first(tmp_path: Path) -> None:
    for name in ("2026-02-11T16:03:16_sb00.hdf5", "2026-02-11T16:08:25_sb00.hdf5", "2026-02-11T16:03:16_sb01.hdf5"):
        make(tmp_path, name)
    for name in ("2026-02-11T16:13:34_sb00_incomplete.hdf5", ".2026-02-11T16:13:34_sb01.hdf5.Xa3", "notes.txt"):
        make(tmp_path, name)
    (tmp_path / "folder.hdf5").mkdir()
    found = scan(tmp_path)
    assert [candidate.path.name for candidate in found.ready] == [
        "2026-02-11T16:08:25_sb00.hdf5",
        "2026-02-11T16:03:16_sb01.hdf5",
        "2026-02-11T16:03:16_sb00.hdf5",
    ]
    assert found.unfinished == ("2026-02-11T16:13:34_sb00_incomplete.hdf5",)
    assert found.n_entries == 7


def test_known_files_are_not_looked_at(tmp_path: Path) -> None:
    path = make(tmp_path, "2026-02-11T16:03:16_sb00.hdf5")
    elsewhere = "/other/2026-02-11T16:03:16_sb01.hdf5"
    make(tmp_path, "2026-02-11T16:03:16_sb01.hdf5")
    found = scan(tmp_path, known={str(path), elsewhere})
    assert [candidate.path.name for candidate in found.ready] == ["2026-02-11T16:03:16_sb01.hdf5"]


def test_a_growing_file_waits_until_it_is_as_large_as_at_the_last_look(tmp_path: Path) -> None:
    now = LATER
    path = make(tmp_path, "2026-02-11T16:03:16_sb00.hdf5", size=10, moment=now - timedelta(seconds=2))
    first = scan(tmp_path, now=now)
    assert (first.ready, list(first.growing)) == ((), [path.name])
    make(tmp_path, path.name, size=20, moment=now - timedelta(seconds=1))
    second = scan(tmp_path, now=now, previous=first.growing)
    assert (second.ready, second.growing[path.name][0]) == ((), 20)
    third = scan(tmp_path, now=now, previous=second.growing)
    assert [candidate.size for candidate in third.ready] == [20]


def test_without_a_cursor_age_alone_decides(tmp_path: Path) -> None:
    make(tmp_path, "2026-02-11T16:03:16_sb00.hdf5", moment=LATER - timedelta(seconds=2))
    assert scan(tmp_path).ready == ()
    assert len(scan(tmp_path, now=LATER + timedelta(seconds=4)).ready) == 1
    assert len(scan(tmp_path, settle_s=1.0).ready) == 1


def test_a_file_from_the_future_waits_for_two_equal_looks(tmp_path: Path) -> None:
    make(tmp_path, "2026-02-11T16:03:16_sb00.hdf5", moment=LATER + timedelta(hours=8))  # a node's clock is wrong
    first = scan(tmp_path)
    assert first.ready == ()
    assert len(scan(tmp_path, previous=first.growing).ready) == 1


def test_a_refused_file_is_looked_at_again_only_when_it_has_changed(tmp_path: Path) -> None:
    path = make(tmp_path, "2026-02-11T16:03:16_sb00.hdf5")
    stat = path.stat()
    refused = {str(path): RejectedFile(path, stat.st_size, stat.st_mtime_ns, "truncated", "m", "c")}
    assert scan(tmp_path, rejected=refused).ready == ()
    make(tmp_path, path.name, size=30)
    assert len(scan(tmp_path, rejected=refused).ready) == 1


def test_a_file_left_behind_unfinished_is_noticed_by_its_age(tmp_path: Path) -> None:
    make(tmp_path, "2026-02-11T16:03:16_sb00_incomplete.hdf5", moment=LATER - timedelta(hours=3))
    found = scan(tmp_path)
    assert find_oldest_unfinished_s(tmp_path, found.unfinished, LATER) == pytest.approx(3 * 3600.0)
    assert find_oldest_unfinished_s(tmp_path, ["gone"], LATER) == 0.0


def test_a_tick_over_a_hundred_thousand_known_files_takes_less_than_a_second(tmp_path: Path) -> None:
    folder = tmp_path / "incoming"
    folder.mkdir()
    n_groups = 6250
    starts = [START - n * timedelta(seconds=309.24) for n in range(n_groups)]
    ids = [f"{start:%Y-%m-%dT%H:%M:%S}" for start in starts]
    names = [f"{group_id}_sb{subband:02d}.hdf5" for group_id in ids for subband in range(16)]
    handle = os.open(folder, os.O_RDONLY)
    for name in names:
        os.close(os.open(name, os.O_CREAT | os.O_WRONLY, dir_fd=handle))
    os.close(handle)
    store = OperationsStore(f"sqlite:///{tmp_path / 'operations.sqlite3'}")
    store.migrate()
    _fill(store, folder, ids, names)
    options = IntakeOptions(campaign_start=datetime(2025, 1, 1, tzinfo=UTC))
    cpu, report = time.process_time(), take_arrivals(store, Archive(tmp_path), folder, options=options)
    cpu = time.process_time() - cpu
    assert (report.memory.n_entries, report.outcomes, report.n_unread) == (100_000, {}, 0)
    assert cpu < 1.0  # processor time: other work on the machine does not count
    touch(folder, START)
    memory = take_arrivals(store, Archive(tmp_path), folder, options=options).memory
    cpu = time.process_time()
    take_arrivals(store, Archive(tmp_path), folder, options=options, previous=memory)
    assert time.process_time() - cpu < 0.1  # nothing came: the folder is not even listed


def _fill(store: OperationsStore, folder: Path, ids: list[str], names: list[str]) -> None:
    """Put 6250 completed groups into the ledger at once."""
    group = {"state": "completed", "n_subbands": 16, "expected_subbands": 16, "requested_attempt": 1}
    group |= {"received_at": START, "last_update": START, "last_arrival_at": START}
    group |= {"end_mjd": 61082.0, "start_mjd": 61082.0, "start_jd": 0.0}
    groups = [group | {"group_id": group_id, "partition_key": group_id} for group_id in ids]
    files = [(name[:19], int(name[22:24]), f"{folder}/{name}") for name in names]
    with store.database.writing() as connection:
        connection.execute(sa.insert(ingest_queue), groups)
        connection.exec_driver_sql(
            "INSERT INTO subband_files VALUES (?, ?, ?, 0, '2026-02-11 16:03:22.000000', 0, 0.0, '')", files
        )


def test_the_cursor_is_plain_json(tmp_path: Path) -> None:
    make(tmp_path, "2026-02-11T16:03:16_sb00.hdf5", moment=LATER - timedelta(seconds=1))
    growing = scan(tmp_path).growing
    restored = {name: tuple(stat) for name, stat in json.loads(json.dumps(growing)).items()}
    assert len(scan(tmp_path, previous=restored).ready) == 1
