"""When a collecting group is ready, partial, or can never work."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from dsa110_assets.science.subbands import (
    Completeness,
    GroupingOptions,
    check_completeness,
    find_odd_shapes,
    jd_of,
    mjd_of,
)
from dsa110_resources.operations.groups import Group, RejectedFile, group_of_row
from dsa110_resources.operations.rows import load_group, update_group, write_rejected
from dsa110_resources.operations.schema import OWNS_NO_WINDOW, GroupState, ingest_queue, subband_files

_Q = ingest_queue.c
_F = subband_files.c
_DAY_S = 86400.0

MAX_AHEAD_S = 3600.0
"""A group that claims to start later than this after now has a wrong clock."""


@dataclass(frozen=True)
class Judge:
    """Decides about collecting groups at one moment: see :meth:`ArrivalBook.settle`."""

    options: GroupingOptions
    campaign_start: datetime
    moment: datetime
    held: frozenset[str]

    def settle(self, connection: sa.Connection) -> list[Group]:
        """Decide about every collecting group, and about quarantined ones whose reason is gone."""
        self._reopen(connection)
        collecting = sa.select(ingest_queue).where(_Q.state == GroupState.COLLECTING).order_by(_Q.start_jd)
        changed = []
        for row in connection.execute(collecting).mappings().all():
            group = group_of_row(row)
            values = self._find_verdict(connection, group)
            if values.get("state") == GroupState.PENDING and self._refuse_odd_shapes(connection, group):
                values = self._find_verdict(connection, load_group(connection, group.group_id))
            if values:
                update_group(connection, group.group_id, values, self.moment)
                changed.append(load_group(connection, group.group_id))
        return changed

    def _reopen(self, connection: sa.Connection) -> None:
        """Let groups collect again whose quarantine the operator (or time) has cured."""
        rival = ingest_queue.alias("rival").c
        occupied = sa.exists().where(
            rival.partition_key == _Q.partition_key, rival.state.not_in(OWNS_NO_WINDOW), rival.group_id != _Q.group_id
        )
        cured = sa.or_(
            (_Q.reason == "before_campaign") & (_Q.start_mjd >= self._campaign_start_mjd),
            (_Q.reason == "in_future") & (_Q.start_mjd <= self._latest_start_mjd),
            (_Q.reason == "incomplete") & (_Q.n_subbands >= self.options.min_subbands) & ~occupied,
            (_Q.reason == "window_occupied") & ~occupied,
        )
        statement = sa.update(ingest_queue).where(_Q.state == GroupState.QUARANTINED, cured)
        values = {"state": GroupState.COLLECTING, "reason": None, "error_message": None, "cure": None}
        connection.execute(statement.values(**values, last_update=self.moment))

    @property
    def _campaign_start_mjd(self) -> float:
        return mjd_of(jd_of(self.campaign_start))

    @property
    def _latest_start_mjd(self) -> float:
        return mjd_of(jd_of(self.moment)) + MAX_AHEAD_S / _DAY_S

    def _find_verdict(self, connection: sa.Connection, group: Group) -> dict[str, Any]:
        """New values of a collecting group; empty: it waits."""
        if group.start_mjd < self._campaign_start_mjd:
            return quarantine_values(
                "before_campaign",
                f"the group starts before the campaign ({self.campaign_start:%Y-%m-%d})",
                "set DSA110_PARTITIONS_START to an earlier day and restart, or move the files away",
            )
        if group.start_mjd > self._latest_start_mjd:
            return quarantine_values(
                "in_future",
                f"the header says the group starts in the future (now is {self.moment:%Y-%m-%dT%H:%M:%S})",
                "check the clock of this machine and the correlator's time base; it is taken when its time has come",
            )
        waited_s = (self.moment - group.last_arrival_at).total_seconds()
        verdict = check_completeness(group.n_subbands, waited_s, options=self.options)
        if verdict is Completeness.WAIT or (verdict is not Completeness.COMPLETE and group.group_id in self.held):
            return {}
        if verdict is Completeness.INCOMPLETE:
            cure = "nothing to do if the rest arrives (it is taken by itself); else lower DSA110_MIN_SUBBANDS"
            return quarantine_values("incomplete", describe_incomplete(group.n_subbands, self.options), cure)
        rival = find_rival(connection, group)
        if rival is not None:
            return quarantine_values(
                "window_occupied",
                f"window {group.partition_key} already belongs to group {rival}",
                "find out why the correlator started twice within five minutes; move one group's files away",
            )
        return {"state": GroupState.PENDING}

    def _refuse_odd_shapes(self, connection: sa.Connection, group: Group) -> bool:
        """Refuse members whose shape is not the majority's; whether there were any."""
        chosen = sa.select(subband_files).where(_F.group_id == group.group_id).order_by(_F.subband_idx)
        members = connection.execute(chosen).mappings().all()
        odd = find_odd_shapes([row["shape"] for row in members])
        for row in (members[index] for index in odd):
            common = next(row["shape"] for index, row in enumerate(members) if index not in odd)
            write_rejected(connection, _wrong_shape(row, common), self.moment)
            connection.execute(sa.delete(subband_files).where(_F.file_path == row["file_path"]))
        if odd:
            update_group(connection, group.group_id, {"n_subbands": len(members) - len(odd)}, self.moment)
        return bool(odd)


def quarantine_values(reason: str, message: str, cure: str) -> dict[str, Any]:
    """New values of a group that is put aside; its record is still to be written."""
    return {
        "state": GroupState.QUARANTINED,
        "reason": reason,
        "error_message": message,
        "cure": cure,
        "record_due": True,
    }


def describe_incomplete(n_subbands: int, options: GroupingOptions) -> str:
    """Why an incomplete group was put aside."""
    return (
        f"{n_subbands} of {options.expected_subbands} subbands after {options.wait_s:.0f} s "
        f"(at least {options.min_subbands} are needed)"
    )


def find_rival(connection: sa.Connection, group: Group) -> str | None:
    """The other group that owns this group's tile partition, if any."""
    rival = sa.select(_Q.group_id).where(
        _Q.partition_key == group.partition_key, _Q.group_id != group.group_id, _Q.state.not_in(OWNS_NO_WINDOW)
    )
    return connection.execute(rival).scalar_one_or_none()


def _wrong_shape(row: sa.RowMapping, common: str) -> RejectedFile:
    return RejectedFile(
        path=Path(row["file_path"]),
        size=row["file_size"],
        mtime_ns=row["mtime_ns"],
        reason="wrong_shape",
        message=f"the file holds {row['shape']}, the others of group {row['group_id']} hold {common}",
        cure="copy the file again from its node",
        group_id=row["group_id"],
        subband_idx=row["subband_idx"],
    )
