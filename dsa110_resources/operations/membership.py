"""Which group an arriving file joins, and what a late one changes."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from dsa110_assets.science.subbands import (
    SAME_GROUP_S,
    GroupingOptions,
    group_id_of,
    is_same_group,
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

# Built once: a backlog registers a hundred thousand files, and building a statement costs more than running it.
_HOME = (
    sa.select(_Q.group_id, _Q.state, _Q.reason, _Q.start_jd)
    .where(_Q.start_jd.between(sa.bindparam("first"), sa.bindparam("last")) | (_Q.group_id == sa.bindparam("same_id")))
    .order_by(sa.func.abs(_Q.start_jd - sa.bindparam("start")))
    .limit(1)
)
_MEMBERS = sa.select(subband_files).where(_F.group_id == sa.bindparam("home"))
_ADD_FILE = sa.insert(subband_files)
_COUNT_FILE = (
    sa.update(ingest_queue)
    .where(_Q.group_id == sa.bindparam("home"))
    .values(
        n_subbands=_Q.n_subbands + 1,
        last_arrival_at=sa.bindparam("moment", type_=_Q.last_arrival_at.type),
        last_update=sa.bindparam("moment", type_=_Q.last_update.type),
    )
)


def register_arrivals(
    connection: sa.Connection, arrivals: Sequence[Arrival], options: GroupingOptions, moment: datetime
) -> list[Registration]:
    """Put files into their groups: see :meth:`ArrivalBook.register`."""
    names = [str(arrival.path) for arrival in arrivals]
    rows = connection.execute(sa.select(_F.file_path, _F.group_id).where(_F.file_path.in_(names)))
    held = {str(row.file_path): str(row.group_id) for row in rows}
    connection.execute(sa.delete(rejected_files).where(_R.file_path.in_(names)))
    registered = []
    for arrival in arrivals:
        if str(arrival.path) in held:
            registered.append(Registration(arrival.path, "known", held[str(arrival.path)]))
        else:
            registered.append(_register(connection, arrival, options, moment))
    return registered


def _register(connection: sa.Connection, arrival: Arrival, options: GroupingOptions, moment: datetime) -> Registration:
    home = _find_home(connection, arrival)
    if home is None:
        home = _found_group(connection, arrival, options, moment)
    objection = _find_objection(connection, arrival, home)
    if objection is not None:
        write_rejected(connection, objection, moment)
        return Registration(arrival.path, objection.reason, home.group_id)
    row = {
        "group_id": home.group_id,
        "subband_idx": arrival.subband_idx,
        "file_path": str(arrival.path),
        "file_size": arrival.size,
        "discovered_at": moment,
        "mtime_ns": arrival.mtime_ns,
        "start_jd": arrival.start_jd,
        "shape": arrival.shape,
    }
    connection.execute(_ADD_FILE, row)
    late = home.state not in (GroupState.COLLECTING, GroupState.PENDING)
    changes = _revival(connection, home, options) if late else {}
    connection.execute(_COUNT_FILE, {"home": home.group_id, "moment": moment})
    if changes:
        update_group(connection, home.group_id, changes, moment)
    return Registration(arrival.path, "late" if late else "taken", home.group_id)


@dataclass(frozen=True)
class _Home:
    """The group of an arriving file as far as registration needs it."""

    group_id: str
    state: GroupState
    reason: str | None
    start_jd: float


def _find_home(connection: sa.Connection, arrival: Arrival) -> _Home | None:
    """The group whose first-seen start is nearest within the tolerance, else one that starts in the same second."""
    tolerance_jd = SAME_GROUP_S / _DAY_S
    values = {
        "first": arrival.start_jd - tolerance_jd,
        "last": arrival.start_jd + tolerance_jd,
        "same_id": group_id_of(arrival.start_jd),
        "start": arrival.start_jd,
    }
    row = connection.execute(_HOME, values).one_or_none()
    return None if row is None else _Home(row.group_id, GroupState(row.state), row.reason, row.start_jd)


def _found_group(connection: sa.Connection, arrival: Arrival, options: GroupingOptions, moment: datetime) -> _Home:
    group_id = group_id_of(arrival.start_jd)
    connection.execute(
        sa.insert(ingest_queue).values(
            group_id=group_id,
            state=GroupState.COLLECTING,
            n_subbands=0,
            received_at=moment,
            last_update=moment,
            last_arrival_at=moment,
            expected_subbands=options.expected_subbands,
            partition_key=partition_key_of(group_id),
            start_jd=arrival.start_jd,
            start_mjd=mjd_of(arrival.start_jd),
            end_mjd=mjd_of(arrival.end_jd),
            dec_deg=arrival.dec_deg,
        )
    )
    return _Home(group_id, GroupState.COLLECTING, None, arrival.start_jd)


def _find_objection(connection: sa.Connection, arrival: Arrival, home: _Home) -> RejectedFile | None:
    """Why a file cannot join its group: the subband is held, or its shape is not that of a group already judged."""
    members = connection.execute(_MEMBERS, {"home": home.group_id}).mappings().all()
    if not is_same_group(arrival.start_jd, home.start_jd):
        apart_s = abs(arrival.start_jd - home.start_jd) * _DAY_S
        return _refused(arrival, home, "duplicate", f"group {home.group_id} starts {apart_s:.3f} s from this file")
    for member in members:
        if member["subband_idx"] == arrival.subband_idx:
            same = arrival.size == member["file_size"] and arrival.shape == member["shape"]
            content = "of the same size and shape" if same else f"of another size or shape ({member['file_size']} B)"
            held = f"subband {arrival.subband_idx} of {home.group_id} is already held by {member['file_path']}"
            return _refused(arrival, home, "duplicate", f"{held}, {content}")
    if home.state is not GroupState.COLLECTING and members and members[0]["shape"] != arrival.shape:
        told = f"the file holds {arrival.shape}, the others of group {home.group_id} hold {members[0]['shape']}"
        return _refused(arrival, home, "wrong_shape", told)
    return None


def _refused(arrival: Arrival, home: _Home, reason: str, message: str) -> RejectedFile:
    cures = {
        "duplicate": "compare the two and move the wrong one away; the first seen stays in use",
        "wrong_shape": "copy the file again from its node",
    }
    return RejectedFile(
        path=arrival.path,
        size=arrival.size,
        mtime_ns=arrival.mtime_ns,
        reason=reason,
        message=message,
        cure=cures[reason],
        group_id=home.group_id,
        subband_idx=arrival.subband_idx,
    )


def _revival(connection: sa.Connection, home: _Home, options: GroupingOptions) -> dict[str, Any]:
    """What a late subband changes besides the number of subbands."""
    if home.state is GroupState.IN_PROGRESS:
        return {}  # the end of the run compares n_subbands with what it used
    again: dict[str, Any] = {"state": GroupState.PENDING, "attempt": _Q.attempt + 1, "refined": False}
    again |= {"reason": None, "cure": None, "error_message": None, "waiting_for": None, "waiting_since": None}
    if home.state is not GroupState.QUARANTINED:
        return again
    if home.reason != "incomplete":
        return {"record_due": True}
    group = load_group(connection, home.group_id)
    if group.n_subbands + 1 >= options.min_subbands and find_rival(connection, group) is None:
        return again
    return {"error_message": describe_incomplete(group.n_subbands + 1, options), "record_due": True}
