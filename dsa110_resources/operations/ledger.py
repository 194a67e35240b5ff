"""The ingest ledger: what happens to a group once its files are at hand, and what people ask about groups.

Every transition is one compare-and-set in SQL: it returns False, and changes nothing, when the group is no longer in
a state from which it may leave. Two daemons can therefore run the same code on one database.
"""

import logging
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from dsa110_resources.errors import PermanentError
from dsa110_resources.operations.engine import Database, utc_now
from dsa110_resources.operations.groups import Group, group_of_row
from dsa110_resources.operations.schema import OWNS_NO_WINDOW, GroupState, ingest_queue, subband_files
from dsa110_resources.operations.strips import release_waiting, types_on_strip

_LOG = logging.getLogger(__name__)
_Q = ingest_queue.c
_RUNNABLE = tuple(state for state in GroupState if state not in OWNS_NO_WINDOW)
_HAS_LATE_SUBBAND = _Q.n_subbands > sa.func.coalesce(_Q.n_subbands_used, _Q.n_subbands)


class Ledger:
    """Life of subband groups.

    Parameters
    ----------
    database
        The operations database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    # -- questions --------------------------------------------------------------------------------------------------

    def find(self, group_id: str) -> Group | None:
        """A group with its files, or None."""
        with self._database.reading() as connection:
            return _find(connection, _Q.group_id == group_id)

    def require(self, group_id: str) -> Group:
        """A group with its files.

        Raises
        ------
        PermanentError
            If the ledger does not know it.
        """
        group = self.find(group_id)
        if group is None:
            raise PermanentError(
                "the ledger knows no such group",
                partition=group_id,
                cure="`dsa110 sql -c 'SELECT * FROM ingest_queue'`",
            )
        return group

    def find_window(self, partition_key: str) -> Group | None:
        """The group, with its files, that owns a tile partition; None if no group started in that window."""
        with self._database.reading() as connection:
            return _find(connection, (_Q.partition_key == partition_key) & _Q.state.not_in(OWNS_NO_WINDOW))

    def find_previous(self, group: Group) -> Group | None:
        """The last group, not quarantined, that started before this one; files are not filled in."""
        chosen = (
            sa.select(ingest_queue)
            .where(_Q.start_jd < group.start_jd, _Q.state != GroupState.QUARANTINED)
            .order_by(_Q.start_jd.desc())
            .limit(1)
        )
        with self._database.reading() as connection:
            row = connection.execute(chosen).mappings().one_or_none()
        return None if row is None else group_of_row(row)

    def groups_between(
        self, start_mjd: float, end_mjd: float, states: Iterable[GroupState | str] | None = None
    ) -> list[Group]:
        """Groups, files not filled in, that START in [start_mjd, end_mjd), oldest first.

        Parameters
        ----------
        start_mjd, end_mjd
            MJD (UTC).
        states
            Only these; default: all.
        """
        chosen = sa.select(ingest_queue).where(_Q.start_mjd >= start_mjd, _Q.start_mjd < end_mjd)
        if states is not None:
            chosen = chosen.where(_Q.state.in_([GroupState(state) for state in states]))
        with self._database.reading() as connection:
            return [group_of_row(row) for row in connection.execute(chosen.order_by(_Q.start_jd)).mappings()]

    def latest_group_end(self) -> float | None:
        """The data clock: end of the newest group that is not quarantined, MJD (UTC); None before the first."""
        newest = sa.select(sa.func.max(_Q.end_mjd)).where(_Q.state != GroupState.QUARANTINED)
        with self._database.reading() as connection:
            value = connection.execute(newest).scalar_one()
        return None if value is None else float(value)

    def count_states(self) -> dict[GroupState, int]:
        """How many groups are in each state (absent states are 0)."""
        counted = sa.select(_Q.state, sa.func.count()).group_by(_Q.state)
        with self._database.reading() as connection:
            found = {state: int(count) for state, count in connection.execute(counted)}
        return {state: found.get(state, 0) for state in GroupState}

    def find_waiting(self, *, since: datetime | None = None) -> list[Group]:
        """Groups that wait for calibration, oldest first; with ``since`` only those that wait from before it."""
        chosen = sa.select(ingest_queue).where(_Q.state == GroupState.WAITING_CALIBRATION)
        if since is not None:
            chosen = chosen.where(_Q.waiting_since < since)
        with self._database.reading() as connection:
            return [group_of_row(row) for row in connection.execute(chosen.order_by(_Q.start_jd)).mappings()]

    # -- life of a run ----------------------------------------------------------------------------------------------

    def begin(self, group_id: str, run_id: str, *, now: datetime | None = None) -> Group:
        """Take a group into work (pending → in_progress) and return it with the files this run is to use.

        A group that was processed before may begin again (backfill, reprocessing); a run that began it earlier and
        is still alive loses it: its ``complete`` will return False.

        Raises
        ------
        PermanentError
            If the group is unknown, still collecting or quarantined.
        """
        moment = now or utc_now()
        values = {
            "state": GroupState.IN_PROGRESS,
            "run_id": run_id,
            "started_at": moment,
            "n_subbands_used": _Q.n_subbands,
        }
        with self._database.writing() as connection:
            before = _find(connection, _Q.group_id == group_id)
            if not _transition(connection, group_id, _RUNNABLE, values, now=moment):
                raise _not_runnable(group_id, before)
            group = _find(connection, _Q.group_id == group_id)
        if group is None or before is None:
            raise _not_runnable(group_id, before)
        if before.state is GroupState.IN_PROGRESS and before.run_id != run_id:
            _LOG.warning("group %s taken over from run %s by run %s", group_id, before.run_id, run_id)
        return group

    def complete(self, group_id: str, run_id: str, *, now: datetime | None = None) -> bool:
        """End a run well (in_progress → completed).

        If a subband arrived after the run began, the group goes to pending instead, with the next attempt.

        Returns
        -------
        bool
            False if this run no longer holds the group.
        """
        moment = now or utc_now()
        values = {
            "state": sa.case((_HAS_LATE_SUBBAND, GroupState.PENDING), else_=GroupState.COMPLETED),
            "attempt": _Q.attempt + sa.case((_HAS_LATE_SUBBAND, 1), else_=0),
            "completed_at": moment,
            "error_message": None,
            "reason": None,
            "cure": None,
            "waiting_for": None,
            "waiting_since": None,
        }
        return self._end_run(group_id, run_id, values, moment)

    def fail(self, group_id: str, run_id: str, message: str, *, now: datetime | None = None) -> bool:
        """End a run badly (in_progress → failed, retry_count + 1); a late subband gives the next attempt."""
        values = {
            "state": sa.case((_HAS_LATE_SUBBAND, GroupState.PENDING), else_=GroupState.FAILED),
            "attempt": _Q.attempt + sa.case((_HAS_LATE_SUBBAND, 1), else_=0),
            "retry_count": _Q.retry_count + 1,
            "error_message": message,
        }
        return self._end_run(group_id, run_id, values, now or utc_now())

    def wait_for_calibration(
        self, group_id: str, run_id: str, missing: Sequence[str], *, now: datetime | None = None
    ) -> bool:
        """End a run that found no usable tables (in_progress → waiting_calibration).

        Parameters
        ----------
        missing
            Table types without a usable table on the group's strip, e.g. ``("BP", "G")``. When the last of them is
            registered the group is released to pending with the next attempt; if all were registered since this run
            looked, or a subband arrived late, at once.

        Returns
        -------
        bool
            False if this run no longer holds the group.
        """
        moment = now or utc_now()
        with self._database.writing() as connection:
            group = _find(connection, _Q.group_id == group_id)
            there = types_on_strip(connection, group.dec_deg, since=group.started_at) if group else set()
            still = [name for name in missing if name not in there]
            again = _HAS_LATE_SUBBAND if still else sa.true()
            values = {
                "state": sa.case((again, GroupState.PENDING), else_=GroupState.WAITING_CALIBRATION),
                "attempt": _Q.attempt + sa.case((again, 1), else_=0),
                "waiting_for": ",".join(still or missing),
                "waiting_since": sa.func.coalesce(
                    _Q.waiting_since, sa.bindparam("moment", moment, _Q.waiting_since.type)
                ),
                "error_message": f"no usable {' and '.join(missing)} table on this declination strip yet",
            }
            return _transition(connection, group_id, (GroupState.IN_PROGRESS,), values, run_id=run_id, now=moment)

    # -- what people and other parts ask for ------------------------------------------------------------------------

    def retry(self, group_id: str, *, now: datetime | None = None) -> bool:
        """Put a processed group (completed, failed or waiting) back to pending with the next attempt."""
        states = (GroupState.COMPLETED, GroupState.FAILED, GroupState.WAITING_CALIBRATION)
        values = {"state": GroupState.PENDING, "attempt": _Q.attempt + 1}
        with self._database.writing() as connection:
            return _transition(connection, group_id, states, values, now=now)

    def expire_runs(self, before: datetime, *, now: datetime | None = None) -> list[str]:
        """Fail groups whose run began before a moment and never ended: run monitoring ended it, or it was deleted.

        Returns
        -------
        list of str
            The groups; nothing else would ever settle them, and their hour would never close.
        """
        stale = sa.select(_Q.group_id, _Q.run_id).where(_Q.state == GroupState.IN_PROGRESS, _Q.started_at < before)
        with self._database.reading() as connection:
            rows = connection.execute(stale.order_by(_Q.start_jd)).all()
        message = "its run ended without a word (killed, or deleted); `dsa110 reprocess` runs it again"
        return [row.group_id for row in rows if self.fail(row.group_id, row.run_id, message, now=now)]

    def release(self, table_type: str, dec_deg: float, *, now: datetime | None = None) -> list[str]:
        """Release groups waiting for this table type on this strip (the registry does it by itself)."""
        with self._database.writing() as connection:
            return release_waiting(connection, table_type, dec_deg, now or utc_now())

    def set_calibrators(self, group_id: str, names: Sequence[str]) -> None:
        """Record which calibrators transit in the group (none is an answer too)."""
        values = {"has_calibrator": bool(names), "calibrators": ",".join(names)}
        with self._database.writing() as connection:
            connection.execute(sa.update(ingest_queue).where(_Q.group_id == group_id).values(**values))

    def mark_refined(self, group_ids: Sequence[str]) -> None:
        """Record that the tiles were made again with both bracketing gain tables: once is enough."""
        with self._database.writing() as connection:
            connection.execute(sa.update(ingest_queue).where(_Q.group_id.in_(group_ids)).values(refined=True))

    def _end_run(self, group_id: str, run_id: str, values: dict[str, Any], moment: datetime) -> bool:
        with self._database.writing() as connection:
            held = (GroupState.IN_PROGRESS,)
            return _transition(connection, group_id, held, values, run_id=run_id, now=moment)


def _transition(
    connection: sa.Connection,
    group_id: str,
    from_states: Iterable[GroupState],
    values: dict[str, Any],
    *,
    run_id: str | None = None,
    now: datetime | None = None,
) -> bool:
    condition = (_Q.group_id == group_id) & _Q.state.in_(list(from_states))
    if run_id is not None:
        condition &= _Q.run_id == run_id
    statement = sa.update(ingest_queue).where(condition).values(**values, last_update=now or utc_now())
    return connection.execute(statement).rowcount == 1


def _find(connection: sa.Connection, condition: sa.ColumnElement[bool]) -> Group | None:
    row = connection.execute(sa.select(ingest_queue).where(condition)).mappings().one_or_none()
    if row is None:
        return None
    files = sa.select(subband_files.c.subband_idx, subband_files.c.file_path).where(
        subband_files.c.group_id == row["group_id"]
    )
    paths = {index: Path(path) for index, path in connection.execute(files.order_by(subband_files.c.subband_idx))}
    return group_of_row(row, paths)


def _not_runnable(group_id: str, group: Group | None) -> PermanentError:
    if group is None:
        return PermanentError(
            "the ledger knows no such group", partition=group_id, cure="let the subband sensor find its files first"
        )
    why = f" ({group.reason}: {group.error_message})" if group.reason else ""
    return PermanentError(
        f"the group is {group.state}{why}", partition=group_id, cure=group.cure or "wait until its subbands arrived"
    )
