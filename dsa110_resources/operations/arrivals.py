"""The ledger's side of arriving files: registration, readiness, requests for runs, and files that were refused."""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import sqlalchemy as sa

from dsa110_assets.science.subbands import SAME_GROUP_S, GroupingOptions
from dsa110_resources.operations.engine import Database, utc_now
from dsa110_resources.operations.groups import Arrival, Group, Registration, RejectedFile, group_of_row
from dsa110_resources.operations.membership import register_arrivals
from dsa110_resources.operations.readiness import Judge, quarantine_values
from dsa110_resources.operations.rows import load_group, rejected_of_row, update_group, write_rejected
from dsa110_resources.operations.schema import GroupState, ingest_queue, rejected_files, subband_files

_Q = ingest_queue.c
_F = subband_files.c
_R = rejected_files.c
_DAY_S = 86400.0


class ArrivalBook:
    """What the subband sensor reads and writes.

    Parameters
    ----------
    database
        The operations database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def known_paths(self) -> set[str]:
        """Every file that a group holds."""
        with self._database.reading() as connection:
            return {path for (path,) in connection.execute(sa.select(_F.file_path)).fetchall()}

    def count_known(self) -> int:
        """How many files groups hold or were refused."""
        counts = [sa.select(sa.func.count()).select_from(table) for table in (subband_files, rejected_files)]
        with self._database.reading() as connection:
            return sum(int(connection.execute(count).scalar_one()) for count in counts)

    def file_sizes(self, group_id: str) -> dict[Path, int]:
        """Sizes (bytes) that the group's files had when they were taken."""
        chosen = sa.select(_F.file_path, _F.file_size).where(_F.group_id == group_id).order_by(_F.subband_idx)
        with self._database.reading() as connection:
            return {Path(path): int(size) for path, size in connection.execute(chosen)}

    def rejected(self) -> dict[str, RejectedFile]:
        """Every refused file by path."""
        with self._database.reading() as connection:
            rows = connection.execute(sa.select(rejected_files)).mappings().all()
        return {row["file_path"]: rejected_of_row(row) for row in rows}

    def register(
        self, arrivals: Sequence[Arrival], *, options: GroupingOptions, now: datetime | None = None
    ) -> list[Registration]:
        """Put files into their groups, by header time.

        A file joins the group whose first-seen start is within half a correlator sample of its own, or founds one. A
        subband that a group already holds is a duplicate and is refused. A subband that arrives after its group was
        processed returns it to pending with the next attempt (while a run is at work: when that run ends).
        """
        moment = now or utc_now()
        with self._database.writing() as connection:
            return register_arrivals(connection, arrivals, options, moment)

    def renew(self, arrival: Arrival) -> bool:
        """Take a file that was copied again under the same path; False unless it is the same subband and shape."""
        same = (_F.file_path == str(arrival.path)) & (_F.subband_idx == arrival.subband_idx)
        same &= (_F.shape == arrival.shape) & (sa.func.abs(_F.start_jd - arrival.start_jd) <= SAME_GROUP_S / _DAY_S)
        values = {"file_size": arrival.size, "mtime_ns": arrival.mtime_ns}
        with self._database.writing() as connection:
            return connection.execute(sa.update(subband_files).where(same).values(**values)).rowcount == 1

    def drop(self, path: Path) -> bool:
        """Forget a file that is lost for good, so that its group can be processed without it; False if unknown."""
        with self._database.writing() as connection:
            chosen = sa.select(_F.group_id).where(_F.file_path == str(path))
            group_id = connection.execute(chosen).scalar_one_or_none()
            if group_id is None:
                return False
            connection.execute(sa.delete(subband_files).where(_F.file_path == str(path)))
            update_group(connection, group_id, {"n_subbands": _Q.n_subbands - 1}, utc_now())
        return True

    def settle(
        self,
        *,
        options: GroupingOptions,
        campaign_start: datetime,
        now: datetime | None = None,
        held: Collection[str] = (),
    ) -> list[Group]:
        """Decide about every collecting group: pending, quarantined, or wait.

        Parameters
        ----------
        options
            Completeness policy.
        campaign_start
            First moment of the first tile partition; earlier groups are quarantined as ``before_campaign``.
        held
            Groups of which unread files lie in the folder: they are not given up yet.

        Returns
        -------
        list of Group
            Those that changed, in their new state.
        """
        moment = now or utc_now()
        judge = Judge(options, campaign_start, moment, frozenset(held))
        with self._database.writing() as connection:
            return judge.settle(connection)

    def take_requests(
        self, limit: int, *, now: datetime | None = None, lease_s: float = 600.0, before_mjd: float | None = None
    ) -> list[Group]:
        """Pending groups that a run is to be requested for, newest first, marked as requested.

        A group requested more than ``lease_s`` ago whose run has not begun is handed out again after the fresh ones
        (the request may have died with its daemon; the run key makes a repetition harmless).

        Parameters
        ----------
        limit
            At most so many.
        before_mjd
            Only groups that start earlier: their tile partition exists.
        """
        moment = now or utc_now()
        fresh = _Q.requested_attempt < _Q.attempt
        due = sa.or_(fresh, _Q.requested_at < moment - timedelta(seconds=lease_s))
        chosen = sa.select(ingest_queue).where(_Q.state == GroupState.PENDING, due)
        if before_mjd is not None:
            chosen = chosen.where(_Q.start_mjd < before_mjd)
        chosen = chosen.order_by(sa.case((fresh, 0), else_=1), _Q.start_jd.desc()).limit(limit)
        with self._database.writing() as connection:
            groups = [group_of_row(row) for row in connection.execute(chosen).mappings()]
            for group in groups:
                values = {"requested_attempt": group.attempt, "requested_at": moment}
                connection.execute(sa.update(ingest_queue).where(_Q.group_id == group.group_id).values(**values))
        return groups

    def reject(self, files: Sequence[RejectedFile], *, now: datetime | None = None) -> None:
        """Remember refused files as they are now."""
        with self._database.writing() as connection:
            for file in files:
                write_rejected(connection, file, now or utc_now())

    def forgive(self, paths: Sequence[Path]) -> list[RejectedFile]:
        """Forget that these files were refused (they changed and are good now); returns what was known."""
        names = [str(path) for path in paths]
        with self._database.writing() as connection:
            rows = connection.execute(sa.select(rejected_files).where(_R.file_path.in_(names))).mappings().all()
            connection.execute(sa.delete(rejected_files).where(_R.file_path.in_(names)))
        return [rejected_of_row(row) for row in rows]

    def quarantine(self, group_id: str, reason: str, message: str, cure: str, *, now: datetime | None = None) -> bool:
        """Quarantine a group that can never work as it is (permanent errors of its run); False if unknown."""
        values = quarantine_values(reason, message, cure)
        with self._database.writing() as connection:
            return update_group(connection, group_id, values, now or utc_now()) == 1

    def unrecorded(self) -> tuple[list[Group], list[RejectedFile]]:
        """Quarantined groups (with files) and refused files whose record has not been written."""
        lost = sa.select(_Q.group_id).where(_Q.state == GroupState.QUARANTINED, _Q.record_due)
        with self._database.reading() as connection:
            groups = [load_group(connection, name) for name in connection.execute(lost.order_by(_Q.start_jd)).scalars()]
            files = connection.execute(sa.select(rejected_files).where(_R.record_path.is_(None))).mappings().all()
        return groups, [rejected_of_row(row) for row in files]

    def taken_up_again(self) -> list[Group]:
        """Groups that have a quarantine record and are no longer quarantined."""
        chosen = sa.select(ingest_queue).where(_Q.record_path.is_not(None), _Q.state != GroupState.QUARANTINED)
        with self._database.reading() as connection:
            return [group_of_row(row) for row in connection.execute(chosen).mappings()]

    def collecting(self) -> list[str]:
        """Ids of groups that are not ready, oldest first."""
        chosen = sa.select(_Q.group_id).where(_Q.state == GroupState.COLLECTING).order_by(_Q.start_jd)
        with self._database.reading() as connection:
            return list(connection.execute(chosen).scalars())

    def set_record(self, record: Path | None, *, group_id: str | None = None, file: Path | None = None) -> None:
        """Remember where the quarantine record of a group or a file is (None: it is closed)."""
        with self._database.writing() as connection:
            text = None if record is None else str(record)
            if group_id is not None:
                chosen = sa.update(ingest_queue).where(_Q.group_id == group_id)
                connection.execute(chosen.values(record_path=text, record_due=False))
            if file is not None:
                connection.execute(sa.update(rejected_files).where(_R.file_path == str(file)).values(record_path=text))
