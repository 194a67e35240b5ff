"""Hours and days as the ledger sees them: which are closed, so that work on whole periods may begin."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from dsa110_resources.operations.engine import Database, utc_now
from dsa110_resources.operations.schema import GroupState, ingest_queue

QUIET_S = 1800.0
"""With no later data, a period is closed when nothing has arrived for this long (end of a night)."""

_Q = ingest_queue.c
_KEY_LENGTHS = {"hour": len("2026-02-11T16"), "day": len("2026-02-11")}
_UNSETTLED = (GroupState.COLLECTING, GroupState.PENDING, GroupState.IN_PROGRESS)


@dataclass(frozen=True)
class Period:
    """A UTC hour or day in which groups started.

    Attributes
    ----------
    key
        Partition key, ``YYYY-MM-DDTHH`` or ``YYYY-MM-DD``.
    counts
        Groups by state.
    revision
        Grows whenever a group of the period is processed again: a request keyed ``f"{key}:{revision}"`` is made once
        per content.
    last_arrival_at
        When the newest file of the period was taken.
    """

    key: str
    counts: Mapping[GroupState, int]
    revision: int
    last_arrival_at: datetime

    @property
    def n_completed(self) -> int:
        """Groups with all products."""
        return self.counts.get(GroupState.COMPLETED, 0)

    @property
    def n_waiting(self) -> int:
        """Groups that have a Measurement Set and wait for calibration."""
        return self.counts.get(GroupState.WAITING_CALIBRATION, 0)


class Periods:
    """Hours and days of the ledger.

    Parameters
    ----------
    database
        The operations database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def closed_hours(self, **options: Any) -> list[Period]:
        """Hours whose groups are all settled, oldest first; options as in :meth:`closed`."""
        return self.closed("hour", **options)

    def closed_days(self, **options: Any) -> list[Period]:
        """Days whose groups are all settled, oldest first; options as in :meth:`closed`."""
        return self.closed("day", **options)

    def closed(
        self,
        length: str,
        *,
        since: str = "",
        waiting_is_settled: bool = True,
        quiet_s: float = QUIET_S,
        now: datetime | None = None,
    ) -> list[Period]:
        """Periods to which no group will be added and in which none is being worked on.

        A period is closed when a later group has been seen, or nothing has arrived in it for ``quiet_s``; and when
        none of its groups is collecting, pending or in progress. Quarantined groups count neither way.

        Parameters
        ----------
        length
            ``hour`` or ``day``.
        since
            First key of interest.
        waiting_is_settled
            True for calibration (groups that wait for it have their Measurement Set); False for mosaics and day
            products, which want every tile.
        quiet_s
            See above, s.
        """
        open_states = _UNSETTLED if waiting_is_settled else (*_UNSETTLED, GroupState.WAITING_CALIBRATION)
        quiet_before = (now or utc_now()) - timedelta(seconds=quiet_s)
        found = self._periods(length, since)
        closed = []
        for index, period in enumerate(found):
            is_past = index < len(found) - 1 or period.last_arrival_at <= quiet_before
            if is_past and not any(period.counts.get(state, 0) for state in open_states):
                closed.append(period)
        return closed

    def _periods(self, length: str, since: str) -> list[Period]:
        key = sa.func.substr(_Q.group_id, 1, _KEY_LENGTHS[length]).label("key")
        counted = (
            sa.select(key, _Q.state, sa.func.count(), sa.func.sum(_Q.attempt), sa.func.max(_Q.last_arrival_at))
            .where(_Q.state != GroupState.QUARANTINED, _Q.group_id >= since)
            .group_by(key, _Q.state)
            .order_by(key)
        )
        rows: dict[str, list[tuple[GroupState, int, int, datetime]]] = {}
        with self._database.reading() as connection:
            for name, state, count, attempts, arrived in connection.execute(counted):
                rows.setdefault(name, []).append((GroupState(state), int(count), int(attempts), arrived))
        return [_period(name, states) for name, states in rows.items()]


def _period(key: str, states: list[tuple[GroupState, int, int, datetime]]) -> Period:
    done = (GroupState.COMPLETED, GroupState.WAITING_CALIBRATION)
    return Period(
        key=key,
        counts={state: count for state, count, _, _ in states},
        revision=sum(attempts for state, _, attempts, _ in states if state in done),
        last_arrival_at=max(arrived for _, _, _, arrived in states),
    )
