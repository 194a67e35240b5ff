"""The operations database: ledger, registry, alerts, triage.

Revision ID: 0001
Revises:
"""

import sqlalchemy as sa
from alembic import op

from dsa110_resources.operations.engine import UtcDateTime

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create every table."""
    op.create_table(
        "alert_history",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("source_id", sa.Text(), nullable=False),
        sa.Column("alert_type", sa.Text(), nullable=False),
        sa.Column("severity", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("sent_at", UtcDateTime(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("success", sa.Boolean(), nullable=False),
        sa.Column("error_msg", sa.Text(), nullable=True),
        sa.Column("acknowledged_at", UtcDateTime(), nullable=True),
        sa.Column("acknowledged_by", sa.Text(), nullable=True),
        sa.Column("resolved_at", UtcDateTime(), nullable=True),
        sa.Column("resolution_note", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_alert_history_source_id"), "alert_history", ["source_id"], unique=False)
    op.create_table(
        "caltables",
        sa.Column("set_name", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("table_type", sa.Text(), nullable=False),
        sa.Column("order_index", sa.Integer(), nullable=False),
        sa.Column("valid_start_mjd", sa.Double(), nullable=False),
        sa.Column("valid_end_mjd", sa.Double(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("quality", sa.Text(), nullable=False),
        sa.Column("dec_deg", sa.Double(), nullable=False),
        sa.Column("solved_mjd", sa.Double(), nullable=False),
        sa.Column("group_ids", sa.Text(), nullable=False),
        sa.Column("refant", sa.Text(), nullable=True),
        sa.Column("solver", sa.Text(), nullable=True),
        sa.Column("flux_anchor", sa.Text(), nullable=True),
        sa.Column("checksum", sa.Text(), nullable=True),
        sa.Column("run_id", sa.Text(), nullable=True),
        sa.Column("note", sa.Text(), nullable=True),
        sa.CheckConstraint("quality IN ('good', 'doubtful', 'refused')", name="ck_quality"),
        sa.PrimaryKeyConstraint("path"),
    )
    op.create_index(op.f("ix_caltables_set_name"), "caltables", ["set_name"], unique=False)
    op.create_index(op.f("ix_caltables_solved_mjd"), "caltables", ["solved_mjd"], unique=False)
    op.create_index(op.f("ix_caltables_table_type"), "caltables", ["table_type"], unique=False)
    op.create_table(
        "candidate_triage",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("candidate_id", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("when", UtcDateTime(), nullable=False),
        sa.CheckConstraint("status IN ('active', 'investigated', 'dismissed', 'confirmed')", name="ck_status"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_candidate_triage_candidate_id"), "candidate_triage", ["candidate_id"], unique=False)
    op.create_table(
        "flux_monitoring_alerts",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("alert_type", sa.Text(), nullable=False),
        sa.Column("severity", sa.Text(), nullable=False),
        sa.Column("calibrator_name", sa.Text(), nullable=False),
        sa.Column("time_window_days", sa.Double(), nullable=False),
        sa.Column("flux_drift_percent", sa.Double(), nullable=True),
        sa.Column("n_measurements", sa.Integer(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("triggered_at", UtcDateTime(), nullable=False),
        sa.Column("acknowledged_at", UtcDateTime(), nullable=True),
        sa.Column("acknowledged_by", sa.Text(), nullable=True),
        sa.Column("resolved_at", UtcDateTime(), nullable=True),
        sa.Column("resolution_note", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "uq_flux_monitoring_alerts_open",
        "flux_monitoring_alerts",
        ["alert_type", "calibrator_name"],
        unique=True,
        sqlite_where=sa.text("resolved_at IS NULL"),
        postgresql_where=sa.text("resolved_at IS NULL"),
    )
    op.create_table(
        "ingest_queue",
        sa.Column("group_id", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("n_subbands", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("received_at", UtcDateTime(), nullable=False),
        sa.Column("last_update", UtcDateTime(), nullable=False),
        sa.Column("expected_subbands", sa.Integer(), nullable=False),
        sa.Column("has_calibrator", sa.Boolean(), nullable=True),
        sa.Column("calibrators", sa.Text(), nullable=True),
        sa.Column("retry_count", sa.Integer(), nullable=False),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("partition_key", sa.Text(), nullable=False),
        sa.Column("start_jd", sa.Double(), nullable=False),
        sa.Column("start_mjd", sa.Double(), nullable=False),
        sa.Column("end_mjd", sa.Double(), nullable=False),
        sa.Column("dec_deg", sa.Double(), nullable=True),
        sa.Column("last_arrival_at", UtcDateTime(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("cure", sa.Text(), nullable=True),
        sa.Column("record_path", sa.Text(), nullable=True),
        sa.Column("record_due", sa.Boolean(), nullable=False),
        sa.Column("requested_attempt", sa.Integer(), nullable=False),
        sa.Column("requested_at", UtcDateTime(), nullable=True),
        sa.Column("run_id", sa.Text(), nullable=True),
        sa.Column("started_at", UtcDateTime(), nullable=True),
        sa.Column("n_subbands_used", sa.Integer(), nullable=True),
        sa.Column("waiting_for", sa.Text(), nullable=True),
        sa.Column("waiting_since", UtcDateTime(), nullable=True),
        sa.Column("completed_at", UtcDateTime(), nullable=True),
        sa.Column("refined", sa.Boolean(), nullable=False),
        sa.CheckConstraint(
            "state IN ('collecting', 'pending', 'in_progress', 'waiting_calibration', 'completed', 'failed', 'quarantined')",
            name="ck_state",
        ),
        sa.PrimaryKeyConstraint("group_id"),
    )
    op.create_index(op.f("ix_ingest_queue_end_mjd"), "ingest_queue", ["end_mjd"], unique=False)
    op.create_index(op.f("ix_ingest_queue_partition_key"), "ingest_queue", ["partition_key"], unique=False)
    op.create_index(op.f("ix_ingest_queue_start_jd"), "ingest_queue", ["start_jd"], unique=False)
    op.create_index(op.f("ix_ingest_queue_start_mjd"), "ingest_queue", ["start_mjd"], unique=False)
    op.create_index(op.f("ix_ingest_queue_state"), "ingest_queue", ["state"], unique=False)
    op.create_index(
        "uq_ingest_queue_window",
        "ingest_queue",
        ["partition_key"],
        unique=True,
        sqlite_where=sa.text("state NOT IN ('collecting', 'quarantined')"),
        postgresql_where=sa.text("state NOT IN ('collecting', 'quarantined')"),
    )
    op.create_table(
        "rejected_files",
        sa.Column("file_path", sa.Text(), nullable=False),
        sa.Column("file_size", sa.BigInteger(), nullable=False),
        sa.Column("mtime_ns", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("cure", sa.Text(), nullable=False),
        sa.Column("group_id", sa.Text(), nullable=True),
        sa.Column("subband_idx", sa.Integer(), nullable=True),
        sa.Column("rejected_at", UtcDateTime(), nullable=False),
        sa.Column("record_path", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("file_path"),
    )
    op.create_table(
        "subband_files",
        sa.Column("group_id", sa.Text(), nullable=False),
        sa.Column("subband_idx", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("file_path", sa.Text(), nullable=False),
        sa.Column("file_size", sa.BigInteger(), nullable=False),
        sa.Column("discovered_at", UtcDateTime(), nullable=False),
        sa.Column("mtime_ns", sa.BigInteger(), nullable=False),
        sa.Column("start_jd", sa.Double(), nullable=False),
        sa.Column("shape", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["group_id"],
            ["ingest_queue.group_id"],
        ),
        sa.PrimaryKeyConstraint("group_id", "subband_idx"),
        sa.UniqueConstraint("file_path"),
    )
