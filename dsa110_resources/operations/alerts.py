"""Alerts: drifts of the flux scale (raised, acknowledged, resolved) and the history of everything that was sent."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from dsa110_resources.operations.engine import Database, utc_now
from dsa110_resources.operations.schema import alert_history, flux_monitoring_alerts

_F = flux_monitoring_alerts.c
_H = alert_history.c


@dataclass(frozen=True)
class FluxAlert:
    """A drift of one calibrator's flux ratio.

    Attributes
    ----------
    time_window_days
        Window of the trend, d.
    flux_drift_percent
        Largest departure in the window, per cent.
    """

    alert_type: str
    severity: str
    calibrator_name: str
    time_window_days: float
    flux_drift_percent: float | None
    n_measurements: int
    message: str


@dataclass(frozen=True)
class SentAlert:
    """One message that was, or should have been, sent."""

    source_id: str
    alert_type: str
    severity: str
    message: str
    channel: str
    success: bool = True
    error_msg: str | None = None


class Alerts:
    """Alert tables.

    Parameters
    ----------
    database
        The operations database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def raise_flux_alert(self, alert: FluxAlert, *, now: datetime | None = None) -> tuple[int, bool]:
        """Open an alert, or bring the open one of the same type and calibrator up to date: one per drift.

        Returns
        -------
        (int, bool)
            Its id, and whether it is new or became more severe: only then is somebody to be told.
        """
        same = (_F.alert_type == alert.alert_type) & (_F.calibrator_name == alert.calibrator_name)
        with self._database.writing() as connection:
            standing = (
                connection.execute(sa.select(flux_monitoring_alerts).where(same, _F.resolved_at.is_(None)))
                .mappings()
                .one_or_none()
            )
            if standing is None:
                values = asdict(alert) | {"triggered_at": now or utc_now()}
                added = connection.execute(sa.insert(flux_monitoring_alerts).values(**values).returning(_F.id))
                return int(added.scalar_one()), True
            statement = sa.update(flux_monitoring_alerts).where(_F.id == standing["id"])
            connection.execute(statement.values(**asdict(alert)))
        worse = standing["severity"] == "warning" and alert.severity == "critical"
        return int(standing["id"]), worse

    def open_flux_alerts(self) -> list[Mapping[str, Any]]:
        """Alerts not yet resolved, newest first."""
        chosen = sa.select(flux_monitoring_alerts).where(_F.resolved_at.is_(None)).order_by(_F.triggered_at.desc())
        with self._database.reading() as connection:
            return [dict(row) for row in connection.execute(chosen).mappings()]

    def record_sent(self, alert: SentAlert, *, now: datetime | None = None) -> int:
        """Append a message to the history; returns its id."""
        values = asdict(alert) | {"sent_at": now or utc_now()}
        with self._database.writing() as connection:
            added = connection.execute(sa.insert(alert_history).values(**values).returning(_H.id))
            return int(added.scalar_one())

    def was_sent(self, source_id: str, alert_type: str, *, since: datetime) -> bool:
        """Whether this alert was sent successfully at or after a moment (for one message per check and day)."""
        sent = (_H.source_id == source_id) & (_H.alert_type == alert_type) & (_H.sent_at >= since) & _H.success
        with self._database.reading() as connection:
            return connection.execute(sa.select(sa.exists().where(sent))).scalar_one()

    def history(self, *, source_id: str | None = None, limit: int = 100) -> list[Mapping[str, Any]]:
        """Messages, newest first."""
        chosen = sa.select(alert_history).order_by(_H.sent_at.desc(), _H.id.desc()).limit(limit)
        if source_id is not None:
            chosen = chosen.where(_H.source_id == source_id)
        with self._database.reading() as connection:
            return [dict(row) for row in connection.execute(chosen).mappings()]

    def acknowledge(self, table: str, alert_id: int, who: str, *, now: datetime | None = None) -> bool:
        """Say that a person has seen an alert; False if it is unknown or was acknowledged before.

        Parameters
        ----------
        table
            ``flux_monitoring_alerts`` or ``alert_history``.
        """
        target = _table_of(table)
        statement = sa.update(target).where(target.c.id == alert_id, target.c.acknowledged_at.is_(None))
        return self._set(statement.values(acknowledged_at=now or utc_now(), acknowledged_by=who))

    def resolve(self, table: str, alert_id: int, note: str, *, now: datetime | None = None) -> bool:
        """Close an alert with a note; False if it is unknown or closed."""
        target = _table_of(table)
        statement = sa.update(target).where(target.c.id == alert_id, target.c.resolved_at.is_(None))
        return self._set(statement.values(resolved_at=now or utc_now(), resolution_note=note))

    def _set(self, statement: sa.Update) -> bool:
        with self._database.writing() as connection:
            return connection.execute(statement).rowcount == 1


def _table_of(name: str) -> sa.Table:
    return {"flux_monitoring_alerts": flux_monitoring_alerts, "alert_history": alert_history}[name]
