"""Tables of the operations database; the migrations create them, a test compares the two."""

from enum import StrEnum

import sqlalchemy as sa

from dsa110_resources.operations.engine import UtcDateTime

METADATA = sa.MetaData()


class GroupState(StrEnum):
    """Where a subband group stands."""

    COLLECTING = "collecting"
    PENDING = "pending"
    IN_PROGRESS = "in_progress"
    WAITING_CALIBRATION = "waiting_calibration"
    COMPLETED = "completed"
    FAILED = "failed"
    QUARANTINED = "quarantined"


GROUP_STATES = tuple(GroupState)
TRIAGE_STATUSES = ("active", "investigated", "dismissed", "confirmed")
OWNS_NO_WINDOW = (GroupState.COLLECTING, GroupState.QUARANTINED)
"""States in which a group does not occupy its tile partition."""
_OWNS_WINDOW = sa.text("state NOT IN ('collecting', 'quarantined')")


def _one_of(column: str, values: tuple[str, ...]) -> sa.CheckConstraint:
    listed = ", ".join(f"'{value}'" for value in values)
    return sa.CheckConstraint(f"{column} IN ({listed})", name=f"ck_{column}")


ingest_queue = sa.Table(
    "ingest_queue",
    METADATA,
    sa.Column("group_id", sa.Text, primary_key=True),
    sa.Column("state", sa.Text, nullable=False, index=True),
    sa.Column("n_subbands", sa.Integer, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False, default=1),
    sa.Column("received_at", UtcDateTime, nullable=False),
    sa.Column("last_update", UtcDateTime, nullable=False),
    sa.Column("expected_subbands", sa.Integer, nullable=False),
    sa.Column("has_calibrator", sa.Boolean),
    sa.Column("calibrators", sa.Text),
    sa.Column("retry_count", sa.Integer, nullable=False, default=0),
    sa.Column("error_message", sa.Text),
    sa.Column("partition_key", sa.Text, nullable=False, index=True),
    sa.Column("start_jd", sa.Double, nullable=False, index=True),
    sa.Column("start_mjd", sa.Double, nullable=False, index=True),
    sa.Column("end_mjd", sa.Double, nullable=False, index=True),
    sa.Column("dec_deg", sa.Double),
    sa.Column("last_arrival_at", UtcDateTime, nullable=False),
    sa.Column("reason", sa.Text),
    sa.Column("cure", sa.Text),
    sa.Column("record_path", sa.Text),
    sa.Column("record_due", sa.Boolean, nullable=False, default=False),
    sa.Column("requested_attempt", sa.Integer, nullable=False, default=0),
    sa.Column("requested_at", UtcDateTime),
    sa.Column("run_id", sa.Text),
    sa.Column("started_at", UtcDateTime),
    sa.Column("n_subbands_used", sa.Integer),
    sa.Column("waiting_for", sa.Text),
    sa.Column("waiting_since", UtcDateTime),
    sa.Column("completed_at", UtcDateTime),
    sa.Column("refined", sa.Boolean, nullable=False, default=False),
    _one_of("state", GROUP_STATES),
)
sa.Index(
    "uq_ingest_queue_window",
    ingest_queue.c.partition_key,
    unique=True,
    sqlite_where=_OWNS_WINDOW,
    postgresql_where=_OWNS_WINDOW,
)

subband_files = sa.Table(
    "subband_files",
    METADATA,
    sa.Column("group_id", sa.Text, sa.ForeignKey("ingest_queue.group_id"), primary_key=True),
    sa.Column("subband_idx", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("file_path", sa.Text, nullable=False, unique=True),
    sa.Column("file_size", sa.BigInteger, nullable=False),
    sa.Column("discovered_at", UtcDateTime, nullable=False),
    sa.Column("mtime_ns", sa.BigInteger, nullable=False),
    sa.Column("start_jd", sa.Double, nullable=False),
    sa.Column("shape", sa.Text, nullable=False),
)

rejected_files = sa.Table(
    "rejected_files",
    METADATA,
    sa.Column("file_path", sa.Text, primary_key=True),
    sa.Column("file_size", sa.BigInteger, nullable=False),
    sa.Column("mtime_ns", sa.BigInteger, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("message", sa.Text, nullable=False),
    sa.Column("cure", sa.Text, nullable=False),
    sa.Column("group_id", sa.Text),
    sa.Column("subband_idx", sa.Integer),
    sa.Column("rejected_at", UtcDateTime, nullable=False),
    sa.Column("record_path", sa.Text),
)

caltables = sa.Table(
    "caltables",
    METADATA,
    sa.Column("set_name", sa.Text, nullable=False, index=True),
    sa.Column("path", sa.Text, primary_key=True),
    sa.Column("table_type", sa.Text, nullable=False, index=True),
    sa.Column("order_index", sa.Integer, nullable=False),
    sa.Column("valid_start_mjd", sa.Double, nullable=False),
    sa.Column("valid_end_mjd", sa.Double, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("active", sa.Boolean, nullable=False),
    sa.Column("quality", sa.Text, nullable=False),
    sa.Column("dec_deg", sa.Double, nullable=False),
    sa.Column("solved_mjd", sa.Double, nullable=False, index=True),
    sa.Column("group_ids", sa.Text, nullable=False),
    sa.Column("refant", sa.Text),
    sa.Column("solver", sa.Text),
    sa.Column("flux_anchor", sa.Text),
    sa.Column("checksum", sa.Text),
    sa.Column("run_id", sa.Text),
    sa.Column("note", sa.Text),
    _one_of("quality", ("good", "doubtful", "refused")),
)

_ACKNOWLEDGEMENT = ("acknowledged_at", "acknowledged_by", "resolved_at", "resolution_note")


def _acknowledgement() -> list[sa.Column[object]]:
    return [sa.Column(name, UtcDateTime if name.endswith("_at") else sa.Text) for name in _ACKNOWLEDGEMENT]


flux_monitoring_alerts = sa.Table(
    "flux_monitoring_alerts",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("alert_type", sa.Text, nullable=False),
    sa.Column("severity", sa.Text, nullable=False),
    sa.Column("calibrator_name", sa.Text, nullable=False),
    sa.Column("time_window_days", sa.Double, nullable=False),
    sa.Column("flux_drift_percent", sa.Double),
    sa.Column("n_measurements", sa.Integer, nullable=False),
    sa.Column("message", sa.Text, nullable=False),
    sa.Column("triggered_at", UtcDateTime, nullable=False),
    *_acknowledgement(),
)
sa.Index(
    "uq_flux_monitoring_alerts_open",
    flux_monitoring_alerts.c.alert_type,
    flux_monitoring_alerts.c.calibrator_name,
    unique=True,
    sqlite_where=flux_monitoring_alerts.c.resolved_at.is_(None),
    postgresql_where=flux_monitoring_alerts.c.resolved_at.is_(None),
)

alert_history = sa.Table(
    "alert_history",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("source_id", sa.Text, nullable=False, index=True),
    sa.Column("alert_type", sa.Text, nullable=False),
    sa.Column("severity", sa.Text, nullable=False),
    sa.Column("message", sa.Text, nullable=False),
    sa.Column("sent_at", UtcDateTime, nullable=False),
    sa.Column("channel", sa.Text, nullable=False),
    sa.Column("success", sa.Boolean, nullable=False),
    sa.Column("error_msg", sa.Text),
    *_acknowledgement(),
)

candidate_triage = sa.Table(
    "candidate_triage",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("candidate_id", sa.Text, nullable=False, index=True),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("note", sa.Text),
    sa.Column("who", sa.Text, nullable=False),
    sa.Column("when", UtcDateTime, nullable=False),
    _one_of("status", TRIAGE_STATUSES),
)
