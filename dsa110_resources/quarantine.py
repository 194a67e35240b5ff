"""Quarantine records: a JSON per group or file that says what was wrong and what cures it. Raw files stay in place."""

import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from dsa110_resources.archive import Archive, atomic_file, path_form
from dsa110_resources.errors import CorruptInputError, ForeignDataError, PlatformError
from dsa110_resources.incoming import read_name
from dsa110_resources.operations.groups import Group, RejectedFile

_REASONS = (
    (CorruptInputError, "(0 bytes)", "zero_byte"),
    (CorruptInputError, "truncated", "truncated"),
    (CorruptInputError, "damaged", "damaged"),
    (CorruptInputError, "not a readable HDF5", "damaged"),
    (CorruptInputError, "", "wrong_shape"),
    (ForeignDataError, "written by telescope", "foreign_telescope"),
    (ForeignDataError, "MJD", "impossible_time"),
    (ForeignDataError, "", "foreign"),
)
"""Error type, words of its message, reason: the first that fits."""


def reason_of(error: PlatformError) -> str:
    """One word for why a file was refused."""
    fitting = (reason for kind, words, reason in _REASONS if isinstance(error, kind) and words in error.message)
    return next(fitting, "refused")


def write_group_record(archive: Archive, group: Group, *, now: datetime) -> Path:
    """Write the record of a quarantined group, in place of an older one of the same group.

    Returns
    -------
    Path
        ``ms/failed/YYYY-MM-DD/GROUP.json``.
    """
    target = archive.failed / group.group_id[:10] / f"{path_form(group.group_id)}.json"
    files = [{"path": str(path), "size_bytes": _size(path), "subband": idx} for idx, path in group.files.items()]
    record = {
        "group_id": group.group_id,
        "state": str(group.state),
        "attempt": group.attempt,
        "n_subbands": group.n_subbands,
        "expected_subbands": group.expected_subbands,
        "missing_subbands": list(group.missing_subbands),
        "reason": group.reason,
        "message": group.error_message,
        "cure": group.cure,
        "files": files,
    }
    return _write(target, record, now)


def write_file_record(archive: Archive, file: RejectedFile, *, now: datetime) -> Path:
    """Write the record of a refused file.

    Returns
    -------
    Path
        ``ms/failed/YYYY-MM-DD/NAME.json``; the day is that of the group, else of the name, else today.
    """
    hint = read_name(file.path.name)
    day = file.group_id[:10] if file.group_id else f"{(hint.moment if hint else now):%Y-%m-%d}"
    target = archive.failed / day / f"{file.path.name.replace(':', '_')}.json"
    record = {
        "group_id": file.group_id,
        "reason": file.reason,
        "message": file.message,
        "cure": file.cure,
        "files": [{"path": str(file.path), "size_bytes": file.size, "subband": file.subband_idx}],
    }
    return _write(target, record, now)


def resolve_record(record: Path, how: str, *, now: datetime) -> bool:
    """Add to a record how the matter ended; nothing is deleted. False if the record is gone."""
    try:
        content = json.loads(record.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return False
    _dump(record, content | {"resolved_at": now.isoformat(), "resolution": how})
    return True


def read_records(archive: Archive, *, day: str = "*", unresolved_only: bool = True) -> list[dict[str, Any]]:
    """Quarantine records of a day (``YYYY-MM-DD``, default all), each with its own ``record`` path, oldest first."""
    found = []
    for path in sorted(archive.failed.glob(f"{day}/*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        if not (unresolved_only and content.get("resolved_at")):
            found.append(content | {"record": str(path)})
    return found


def _write(target: Path, record: Mapping[str, Any], now: datetime) -> Path:
    _dump(target, {**record, "quarantined_at": now.isoformat(), "resolved_at": None})
    return target


def _dump(target: Path, content: Mapping[str, Any]) -> None:
    with atomic_file(target) as staged:
        staged.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None
