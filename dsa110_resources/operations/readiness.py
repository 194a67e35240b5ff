"""When a collecting group is ready, partial, or can never work."""

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
from dsa110_resources.operations.groups import Group, RejectedFile
from dsa110_resources.operations.rows import load_group, update_group, write_rejected
from dsa110_resources.operations.schema import OWNS_NO_WINDOW, GroupState, ingest_queue, rejected_files, subband_files

_Q = ingest_queue.c
_F = subband_files.c
_R = rejected_files.c
_DAY_S = 86400.0

MAX_AHEAD_S = 3600.0
"""A group that claims to start later than this after now has a wrong clock."""


def find_verdict(
    connection: sa.Connection,
    group: Group,
    options: GroupingOptions,
    campaign_start: datetime,
    moment: datetime,
    is_held: bool,
) -> dict[str, Any]:
    """New values of a collecting group; empty: it waits."""
    waited_s = (moment - group.last_arrival_at).total_seconds()
    if group.start_mjd < mjd_of(jd_of(campaign_start)):
        return quarantine_values(
            "before_campaign",
            f"the group starts before the campaign ({campaign_start:%Y-%m-%d})",
            "set DSA110_PARTITIONS_START to an earlier day and restart, or move the files away",
        )
    if (group.start_mjd - mjd_of(jd_of(moment))) * _DAY_S > MAX_AHEAD_S:
        return quarantine_values(
            "in_future",
            f"the header says the group starts in the future (now is {moment:%Y-%m-%dT%H:%M:%S})",
            "check the clock of this machine and the correlator's time base",
        )
    verdict = check_completeness(group.n_subbands, waited_s, options=options)
    if verdict is Completeness.WAIT or (verdict is not Completeness.COMPLETE and is_held):
        return {}
    if verdict is Completeness.INCOMPLETE:
        cure = "nothing to do if the rest arrives (it is taken by itself); else lower DSA110_MIN_SUBBANDS"
        return quarantine_values("incomplete", describe_incomplete(group.n_subbands, options), cure)
    rival = find_rival(connection, group)
    if rival is not None:
        return quarantine_values(
            "window_occupied",
            f"window {group.partition_key} already belongs to group {rival}",
            "find out why the correlator started twice within five minutes; move one group's files away",
        )
    return {"state": GroupState.PENDING}


def refuse_odd_shapes(connection: sa.Connection, group: Group, options: GroupingOptions, moment: datetime) -> Group:
    """Refuse members whose shape is not the majority's, once the group has as many as are needed to tell."""
    members = (
        connection.execute(sa.select(subband_files).where(_F.group_id == group.group_id).order_by(_F.subband_idx))
        .mappings()
        .all()
    )
    odd = find_odd_shapes([row["shape"] for row in members])
    expired = (moment - group.last_arrival_at).total_seconds() >= options.wait_s
    if not odd or not (len(members) >= options.expected_subbands or expired):
        return group
    common = next(row["shape"] for index, row in enumerate(members) if index not in odd)
    for row in (members[index] for index in odd):
        write_rejected(connection, _wrong_shape(row, common), moment)
        connection.execute(sa.delete(subband_files).where(_F.file_path == row["file_path"]))
    update_group(connection, group.group_id, {"n_subbands": len(members) - len(odd)}, moment)
    return load_group(connection, group.group_id)


def quarantine_values(reason: str, message: str, cure: str) -> dict[str, Any]:
    """New values of a group that is put aside; its record is still to be written."""
    return {
        "state": GroupState.QUARANTINED,
        "reason": reason,
        "error_message": message,
        "cure": cure,
        "record_path": None,
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
        cure="fetch the file again from its node",
        group_id=row["group_id"],
        subband_idx=row["subband_idx"],
    )
