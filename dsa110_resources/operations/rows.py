"""Rows of groups and refused files, read and written inside a transaction that somebody else opened."""

from datetime import datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from dsa110_resources.operations.groups import Group, RejectedFile, group_of_row
from dsa110_resources.operations.schema import ingest_queue, rejected_files, subband_files

_Q = ingest_queue.c
_F = subband_files.c
_R = rejected_files.c
_DAY_S = 86400.0


def write_rejected(connection: sa.Connection, file: RejectedFile, moment: datetime) -> None:
    """Remember a refused file as it is now."""
    connection.execute(sa.delete(rejected_files).where(_R.file_path == str(file.path)))
    connection.execute(
        sa.insert(rejected_files).values(
            file_path=str(file.path),
            file_size=file.size,
            mtime_ns=file.mtime_ns,
            reason=file.reason,
            message=file.message,
            cure=file.cure,
            group_id=file.group_id,
            subband_idx=file.subband_idx,
            rejected_at=moment,
            record_path=None,
        )
    )


def rejected_of_row(row: sa.RowMapping) -> RejectedFile:
    """Build a refused file from its row."""
    values = dict(row)
    values.pop("rejected_at")
    return RejectedFile(path=Path(values.pop("file_path")), size=values.pop("file_size"), **values)


def update_group(connection: sa.Connection, group_id: str, values: dict[str, Any], moment: datetime) -> int:
    """Change a group; returns how many rows that were (0 or 1)."""
    statement = sa.update(ingest_queue).where(_Q.group_id == group_id).values(**values, last_update=moment)
    return connection.execute(statement).rowcount


def load_group(connection: sa.Connection, group_id: str) -> Group:
    """A group that is known to exist, with its files."""
    row = connection.execute(sa.select(ingest_queue).where(_Q.group_id == group_id)).mappings().one()
    files = sa.select(_F.subband_idx, _F.file_path).where(_F.group_id == group_id).order_by(_F.subband_idx)
    return group_of_row(row, {index: Path(path) for index, path in connection.execute(files)})
