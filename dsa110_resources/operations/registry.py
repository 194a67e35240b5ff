"""The calibration registry: every table that was made, when it is valid and what it was made of."""

import hashlib
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from dsa110_resources.errors import PermanentError
from dsa110_resources.operations.engine import Database, utc_now
from dsa110_resources.operations.groups import split_list
from dsa110_resources.operations.schema import caltables
from dsa110_resources.operations.selection import (
    Bracket,
    CaltableRecord,
    TableChoice,
    find_bracket,
    select_table,
)
from dsa110_resources.operations.strips import order_index_of, release_waiting

_C = caltables.c


@dataclass(frozen=True)
class RegistrationReport:
    """What a new row did: the groups it released from waiting."""

    record: CaltableRecord
    released: tuple[str, ...]


class Registry:
    """Calibration tables.

    Parameters
    ----------
    database
        The operations database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def register(self, record: CaltableRecord, *, now: datetime | None = None) -> RegistrationReport:
        """Add a table, or replace the row of the same path, and release the groups that waited for it.

        A refused table is kept, inactive, and releases nobody.

        Raises
        ------
        PermanentError
            For an unknown type or quality, or a validity that runs backwards.
        """
        _require_sound(record)
        moment = now or utc_now()
        made = replace(record, created_at=moment, active=record.active and record.quality != "refused")
        with self._database.writing() as connection:
            connection.execute(sa.delete(caltables).where(_C.path == str(record.path)))
            connection.execute(sa.insert(caltables).values(**_row_of(made)))
            released: list[str] = []
            if made.active:
                released = release_waiting(connection, record.table_type, record.dec_deg, moment)
        return RegistrationReport(made, tuple(released))

    def set_active(self, path: Path, active: bool, *, quality: str | None = None, note: str | None = None) -> bool:
        """Activate or deactivate a table; give ``quality="refused"`` for one that must never be used again.

        A deactivated table of good quality remains the last resort of the fallback chain.

        Returns
        -------
        bool
            False if the registry does not know the path.
        """
        values: dict[str, Any] = {"active": active and quality != "refused"}
        values |= {} if quality is None else {"quality": quality}
        values |= {} if note is None else {"note": note}
        with self._database.writing() as connection:
            done = connection.execute(sa.update(caltables).where(_C.path == str(path)).values(**values)).rowcount
            row = connection.execute(sa.select(caltables).where(_C.path == str(path))).mappings().one_or_none()
            if row is not None and row["active"] and row["quality"] != "refused":
                release_waiting(connection, row["table_type"], row["dec_deg"], utc_now())
        return done == 1

    def find(self, path: Path) -> CaltableRecord | None:
        """The row of a table, or None."""
        with self._database.reading() as connection:
            row = connection.execute(sa.select(caltables).where(_C.path == str(path))).mappings().one_or_none()
        return None if row is None else _record_of(row)

    def tables(self, table_type: str | None = None, *, active_only: bool = False) -> list[CaltableRecord]:
        """All rows in apply order, oldest first within a type."""
        chosen = sa.select(caltables).order_by(_C.order_index, _C.solved_mjd, _C.path)
        if table_type is not None:
            order_index_of(table_type)
            chosen = chosen.where(_C.table_type == table_type)
        if active_only:
            chosen = chosen.where(_C.active)
        with self._database.reading() as connection:
            return [_record_of(row) for row in connection.execute(chosen).mappings()]

    def select(
        self, table_type: str, dec_deg: float, mjd: float, *, live: bool, max_age_h: float | None = None
    ) -> TableChoice | None:
        """The table of one type for a group, by the fallback chain; None: the group must wait.

        Parameters
        ----------
        dec_deg, mjd
            Declination (deg) and mid-time (MJD, UTC) of the group.
        live
            Only tables solved on data not later than the group.
        max_age_h
            Refuse tables further away in time; default: no limit.
        """
        return select_table(self.tables(table_type), dec_deg=dec_deg, mjd=mjd, live=live, max_age_h=max_age_h)

    def bracket(self, table_type: str, dec_deg: float, mjd: float) -> Bracket:
        """Valid tables either side of a time, for interpolation when reprocessing."""
        return find_bracket(self.tables(table_type, active_only=True), dec_deg=dec_deg, mjd=mjd)

    def previous(self, table_type: str, dec_deg: float, mjd: float) -> CaltableRecord | None:
        """The newest good table solved before a time on the strip: what a new one is compared with."""
        choice = select_table(
            [r for r in self.tables(table_type) if r.solved_mjd < mjd and r.quality == "good"],
            dec_deg=dec_deg,
            mjd=mjd,
            live=True,
        )
        return None if choice is None else choice.record


def measure_checksum(table: Path) -> str:
    """SHA-256 over the names and bytes of a table directory's files (locks aside), in name order."""
    digest = hashlib.sha256()
    for file in sorted(path for path in table.rglob("*") if path.is_file() and path.name != "table.lock"):
        digest.update(str(file.relative_to(table)).encode())
        with file.open("rb") as handle:
            digest.update(hashlib.file_digest(handle, "sha256").digest())
    return digest.hexdigest()


def _require_sound(record: CaltableRecord) -> None:
    order_index_of(record.table_type)
    if record.quality not in {"good", "doubtful", "refused"}:
        raise PermanentError(
            f"unknown quality {record.quality!r}", path=record.path, cure="one of good, doubtful, refused"
        )
    if not record.valid_start_mjd <= record.solved_mjd <= record.valid_end_mjd:
        raise PermanentError(
            f"solved at MJD {record.solved_mjd}, valid {record.valid_start_mjd} to {record.valid_end_mjd}",
            path=record.path,
            cure="take the validity from validity_mjd(first integration, last integration)",
        )


def _row_of(record: CaltableRecord) -> dict[str, Any]:
    row = asdict(record)
    row["path"] = str(record.path)
    row["group_ids"] = ",".join(record.group_ids)
    row["order_index"] = order_index_of(record.table_type)
    return row


def _record_of(row: sa.RowMapping) -> CaltableRecord:
    values = dict(row)
    del values["order_index"]
    values["path"] = Path(values["path"])
    values["group_ids"] = split_list(values["group_ids"])
    return CaltableRecord(**values)
