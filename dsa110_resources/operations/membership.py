"""Which group an arriving file joins, and what a late one changes."""

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from dsa110_assets.science.subbands import (
    SAME_GROUP_S,
    GroupingOptions,
    group_id_of,
    mjd_of,
    partition_key_of,
)
from dsa110_resources.operations.groups import Arrival, Registration, RejectedFile
from dsa110_resources.operations.readiness import describe_incomplete, find_rival
from dsa110_resources.operations.rows import load_group, update_group, write_rejected
from dsa110_resources.operations.schema import GroupState, ingest_queue, rejected_files, subband_files

_Q = ingest_queue.c
_F = subband_files.c
_R = rejected_files.c
_DAY_S = 86400.0

REVIVING_REASONS = ("incomplete",)
"""Quarantine that a late subband may end."""


def register_arrival(
    connection: sa.Connection, arrival: Arrival, options: GroupingOptions, moment: datetime
) -> Registration:
    """Put one file into its group: see :meth:`ArrivalBook.register`."""
    held = connection.execute(sa.select(_F.group_id).where(_F.file_path == str(arrival.path))).scalar_one_or_none()
    if held is not None:
        return Registration(arrival.path, "known", held)
    group_id, state, reason = _home_of(connection, arrival, options, moment)
    rival = _slot_holder(connection, group_id, arrival.subband_idx)
    if rival is not None:
        write_rejected(connection, _duplicate(arrival, group_id, rival), moment)
        return Registration(arrival.path, "duplicate", group_id)
    connection.execute(
        sa.insert(subband_files).values(
            group_id=group_id,
            subband_idx=arrival.subband_idx,
            file_path=str(arrival.path),
            file_size=arrival.size,
            discovered_at=moment,
            mtime_ns=arrival.mtime_ns,
            start_jd=arrival.start_jd,
            shape=arrival.shape,
        )
    )
    connection.execute(sa.delete(rejected_files).where(_R.file_path == str(arrival.path)))
    values: dict[str, Any] = {"n_subbands": _Q.n_subbands + 1, "last_arrival_at": moment}
    late = state not in (GroupState.COLLECTING, GroupState.PENDING)
    if late:
        values |= _revival(connection, group_id, state, reason, options)
    update_group(connection, group_id, values, moment)
    return Registration(arrival.path, "late" if late else "taken", group_id)


def _home_of(
    connection: sa.Connection, arrival: Arrival, options: GroupingOptions, moment: datetime
) -> tuple[str, GroupState, str | None]:
    """Find the group of a file or found it."""
    tolerance_jd = SAME_GROUP_S / _DAY_S
    columns = sa.select(_Q.group_id, _Q.state, _Q.reason)
    near = columns.where(_Q.start_jd.between(arrival.start_jd - tolerance_jd, arrival.start_jd + tolerance_jd))
    found = connection.execute(near.order_by(sa.func.abs(_Q.start_jd - arrival.start_jd)).limit(1)).one_or_none()
    group_id = group_id_of(arrival.start_jd)
    if found is None:
        # starts are 309 s apart: a second group within one second is a repetition under another clock
        found = connection.execute(columns.where(_Q.group_id == group_id)).one_or_none()
    if found is not None:
        return found.group_id, GroupState(found.state), found.reason
    connection.execute(
        sa.insert(ingest_queue).values(
            group_id=group_id,
            state=GroupState.COLLECTING,
            n_subbands=0,
            attempt=1,
            received_at=moment,
            last_update=moment,
            last_arrival_at=moment,
            expected_subbands=options.expected_subbands,
            retry_count=0,
            partition_key=partition_key_of(group_id),
            start_jd=arrival.start_jd,
            start_mjd=mjd_of(arrival.start_jd),
            end_mjd=mjd_of(arrival.end_jd),
            dec_deg=arrival.dec_deg,
            requested_attempt=0,
            refined=False,
        )
    )
    return group_id, GroupState.COLLECTING, None


def _revival(
    connection: sa.Connection, group_id: str, state: GroupState, reason: str | None, options: GroupingOptions
) -> dict[str, Any]:
    """What a late subband changes besides the number of subbands."""
    again: dict[str, Any] = {"state": GroupState.PENDING, "attempt": _Q.attempt + 1, "refined": False}
    again |= {"reason": None, "cure": None, "error_message": None, "waiting_for": None, "waiting_since": None}
    if state is GroupState.IN_PROGRESS:
        return {}  # the end of the run compares n_subbands with what it used
    if state is not GroupState.QUARANTINED:
        return again
    group = load_group(connection, group_id)
    enough = group.n_subbands + 1 >= options.min_subbands
    if reason in REVIVING_REASONS and enough and find_rival(connection, group) is None:
        return again
    message = describe_incomplete(group.n_subbands + 1, options) if reason in REVIVING_REASONS else group.error_message
    return {"error_message": message, "record_path": None}


def _slot_holder(connection: sa.Connection, group_id: str, subband_idx: int) -> sa.RowMapping | None:
    slot = sa.select(subband_files).where(_F.group_id == group_id, _F.subband_idx == subband_idx)
    return connection.execute(slot).mappings().one_or_none()


def _duplicate(arrival: Arrival, group_id: str, holder: sa.RowMapping) -> RejectedFile:
    same = arrival.size == holder["file_size"] and arrival.shape == holder["shape"]
    content = "of the same size and shape" if same else f"of another size or shape ({holder['file_size']} B)"
    return RejectedFile(
        path=arrival.path,
        size=arrival.size,
        mtime_ns=arrival.mtime_ns,
        reason="duplicate",
        message=f"subband {arrival.subband_idx} of {group_id} is already held by {holder['file_path']}, {content}",
        cure="compare the two and move the wrong one away; the first seen stays in use",
        group_id=group_id,
        subband_idx=arrival.subband_idx,
    )
