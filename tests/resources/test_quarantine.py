"""Records of what was put aside and why."""

import json
from datetime import timedelta
from pathlib import Path

import pytest
from ledger_rows import GROUP, NOW, WAIT, arrival, register, settle

from dsa110_resources.archive import Archive
from dsa110_resources.errors import CorruptInputError, ForeignDataError, PlatformError, TransientError
from dsa110_resources.operations import OperationsStore, RejectedFile
from dsa110_resources.quarantine import (
    read_records,
    reason_of,
    resolve_record,
    write_file_record,
    write_group_record,
)

FILE = RejectedFile(Path("/in/2026-02-12T01:00:00_sb03.hdf5"), 0, 1, "zero_byte", "the file is empty", "copy it again")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (CorruptInputError("the file is empty (0 bytes)"), "zero_byte"),
        (CorruptInputError("the file is truncated at 49680 bytes"), "truncated"),
        (CorruptInputError("damaged: 'Header'"), "damaged"),
        (CorruptInputError("its channels are not an even comb"), "wrong_shape"),
        (ForeignDataError("written by telescope 'ATA', not 'OVRO_MMA'"), "foreign_telescope"),
        (ForeignDataError("the header says MJD 55000.00100, which ..."), "impossible_time"),
        (ForeignDataError("anything else"), "foreign"),
        (TransientError("the disk sleeps"), "refused"),
    ],
)
def test_every_error_has_a_reason(error: PlatformError, expected: str) -> None:
    assert reason_of(error) == expected


def test_the_record_of_a_group(store: OperationsStore, tmp_path: Path) -> None:
    present = tmp_path / "present.hdf5"
    present.write_bytes(b"12345")
    register(store, arrival(0, path=present), arrival(7))
    settle(store, now=NOW + WAIT)
    archive = Archive(tmp_path)
    path = write_group_record(archive, store.ledger.require(GROUP), now=NOW)
    assert path == tmp_path / "ms" / "failed" / "2026-02-11" / "2026-02-11_16_03_16.json"
    record = json.loads(path.read_text())
    assert record["files"] == [
        {"path": str(present), "size_bytes": 5, "subband": 0},
        {"path": "/in/2026-02-11T16:03:16_sb07.hdf5", "size_bytes": None, "subband": 7},
    ]
    assert (record["reason"], record["attempt"], record["n_subbands"]) == ("incomplete", 1, 2)
    assert record["quarantined_at"] == "2026-02-11T18:00:00+00:00"
    assert record["resolved_at"] is None


@pytest.mark.parametrize(
    ("file", "folder"),
    [
        (FILE, "2026-02-12"),
        (RejectedFile(Path("/in/x.hdf5"), 1, 1, "damaged", "m", "c"), "2026-02-11"),
        (RejectedFile(FILE.path, 1, 1, "duplicate", "m", "c", group_id="2026-02-11T23:59:58"), "2026-02-11"),
    ],
)
def test_the_record_of_a_file_lies_under_the_day_it_belongs_to(tmp_path: Path, file: RejectedFile, folder: str) -> None:
    path = write_file_record(Archive(tmp_path), file, now=NOW)
    assert path.parent == tmp_path / "ms" / "failed" / folder
    assert ":" not in path.name
    (record,) = read_records(Archive(tmp_path), day=folder)
    assert (record["files"][0]["path"], record["record"]) == (str(file.path), str(path))


def test_a_resolved_record_stays_and_says_how_it_ended(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    path = write_file_record(archive, FILE, now=NOW)
    assert resolve_record(path, "copied again", now=NOW + timedelta(hours=1))
    assert read_records(archive) == []
    (record,) = read_records(archive, unresolved_only=False)
    assert (record["resolution"], record["resolved_at"]) == ("copied again", "2026-02-11T19:00:00+00:00")
    assert not resolve_record(tmp_path / "gone.json", "x", now=NOW)
