"""Declination strips: which groups a calibration table serves, and their release when one lands."""

from datetime import datetime

import sqlalchemy as sa

from dsa110_resources.errors import PermanentError
from dsa110_resources.operations.groups import split_list
from dsa110_resources.operations.schema import GroupState, caltables, ingest_queue

STRIP_DEG = 5.0
"""Tables serve pointings within 5° of their own declination (DECISIONS 12)."""
APPLY_ORDER = ("K", "BA", "BP", "GA", "G", "GP", "2G", "FLUX")
"""The order in which table types are applied."""
_FAMILIES = {"BA": "BP", "GA": "G", "GP": "G", "2G": "G"}


def order_index_of(table_type: str) -> int:
    """Place of a table type in the apply order.

    Raises
    ------
    PermanentError
        If the type is unknown.
    """
    if table_type not in APPLY_ORDER:
        raise PermanentError(f"unknown calibration table type {table_type!r}", cure=f"one of {', '.join(APPLY_ORDER)}")
    return 10 * APPLY_ORDER.index(table_type)


def family_of(table_type: str) -> str:
    """What a table can stand for when a group waits: amplitude-only bandpasses for BP, any gain for G."""
    return _FAMILIES.get(table_type, table_type)


def types_on_strip(connection: sa.Connection, dec_deg: float | None, *, since: datetime | None = None) -> set[str]:
    """Families of usable tables on a strip (all strips if the declination is unknown) registered at or after since."""
    usable = sa.select(caltables.c.table_type).where(caltables.c.active, caltables.c.quality != "refused")
    if dec_deg is not None:
        usable = usable.where(sa.func.abs(caltables.c.dec_deg - dec_deg) <= STRIP_DEG)
    if since is not None:
        usable = usable.where(caltables.c.created_at >= since)
    return {family_of(name) for name in connection.execute(usable.distinct()).scalars()}


def release_waiting(connection: sa.Connection, table_type: str, dec_deg: float, now: datetime) -> list[str]:
    """Strike a table type off the list of every group of the strip that waits for it.

    Returns
    -------
    list of str
        The groups that wait for nothing more: pending with the next attempt, oldest first.
    """
    queue = ingest_queue.c
    near = sa.or_(queue.dec_deg.is_(None), sa.func.abs(queue.dec_deg - dec_deg) <= STRIP_DEG)
    waiting = (
        sa.select(queue.group_id, queue.waiting_for)
        .where(queue.state == GroupState.WAITING_CALIBRATION, near)
        .order_by(queue.start_jd)
    )
    released = []
    for group_id, text in connection.execute(waiting).all():
        still = [name for name in split_list(text) if family_of(name) != family_of(table_type)]
        values: dict[str, object] = {"waiting_for": ",".join(still)}
        if not still:
            released.append(group_id)
            values |= {"state": GroupState.PENDING, "attempt": queue.attempt + 1, "error_message": None}
        if len(still) < len(split_list(text)):
            statement = sa.update(ingest_queue).where(queue.group_id == group_id).values(**values, last_update=now)
            connection.execute(statement)
    return released
