"""Candidate triage: what people decided about ESE candidates; append-only."""

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from dsa110_resources.errors import PermanentError
from dsa110_resources.operations.engine import Database, utc_now
from dsa110_resources.operations.schema import TRIAGE_STATUSES, candidate_triage

_T = candidate_triage.c


@dataclass(frozen=True)
class TriageEntry:
    """One decision: ``status`` is active, investigated, dismissed or confirmed."""

    candidate_id: str
    status: str
    note: str | None
    who: str
    when: datetime


class Triage:
    """Decisions on candidates.

    Parameters
    ----------
    database
        The operations database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(
        self, candidate_id: str, status: str, *, who: str, note: str | None = None, now: datetime | None = None
    ) -> TriageEntry:
        """Append a decision.

        Raises
        ------
        PermanentError
            If the status is unknown.
        """
        if status not in TRIAGE_STATUSES:
            raise PermanentError(f"unknown triage status {status!r}", cure=f"one of {', '.join(TRIAGE_STATUSES)}")
        entry = TriageEntry(candidate_id, status, note, who, now or utc_now())
        with self._database.writing() as connection:
            connection.execute(sa.insert(candidate_triage).values({name: getattr(entry, name) for name in _COLUMNS}))
        return entry

    def history(self, candidate_id: str) -> list[TriageEntry]:
        """Every decision on a candidate, oldest first."""
        chosen = sa.select(*_SELECTED).where(_T.candidate_id == candidate_id).order_by(_T.id)
        with self._database.reading() as connection:
            return [TriageEntry(*row) for row in connection.execute(chosen)]

    def latest(self) -> dict[str, TriageEntry]:
        """The decision in force for every candidate that has one."""
        newest = sa.select(sa.func.max(_T.id)).group_by(_T.candidate_id)
        with self._database.reading() as connection:
            rows = connection.execute(sa.select(*_SELECTED).where(_T.id.in_(newest)))
            return {row.candidate_id: TriageEntry(*row) for row in rows}


_COLUMNS = ("candidate_id", "status", "note", "who", "when")
_SELECTED = tuple(_T[name] for name in _COLUMNS)
