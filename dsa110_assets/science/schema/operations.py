"""The tables of the operations database as the customer knows them (the database itself may hold more columns)."""

from __future__ import annotations

from dsa110_assets.science.schema.columns import TableSchema, count, flag, instant, mjd, number, text

_ACKNOWLEDGED_AT = instant("acknowledged_at", "When someone acknowledged it")
_ACKNOWLEDGED_BY = text("acknowledged_by", "Who acknowledged it", ucd="meta.curation")
_RESOLVED_AT = instant("resolved_at", "When it was resolved")
_RESOLUTION_NOTE = text("resolution_note", "How it was resolved")

INGEST_QUEUE = TableSchema(
    name="ingest_queue",
    partition="database",
    key=("group_id",),
    description="Ledger of subband groups",
    columns=(
        text("group_id", "Subband group", ucd="meta.id;obs", required=True),
        text(
            "state",
            "collecting, pending, in_progress, waiting_calibration, completed, failed or quarantined",
            ucd="meta.code.status",
        ),
        count("n_subbands", "Subbands seen"),
        count("attempt", "Attempt"),
        instant("received_at", "When the first subband was seen"),
        instant("last_update", "When the row last changed"),
        count("expected_subbands", "Subbands of a complete group"),
        flag("has_calibrator", "Whether a calibrator transits in it"),
        text("calibrators", "Calibrators in the field"),
        count("retry_count", "Retries"),
        text("error_message", "Why it failed or waits"),
    ),
)

SUBBAND_FILES = TableSchema(
    name="subband_files",
    partition="database",
    key=("group_id", "subband_idx"),
    description="Raw subband files",
    columns=(
        text("group_id", "Subband group", ucd="meta.id;obs", required=True),
        count("subband_idx", "Subband, 0 the highest frequency"),
        text("file_path", "Raw file", ucd="meta.ref;meta.file"),
        count("file_size", "Bytes"),
        instant("discovered_at", "When it was seen"),
    ),
)

CALTABLES = TableSchema(
    name="caltables",
    partition="database",
    key=("path",),
    description="Registry of calibration tables",
    columns=(
        text("set_name", "Set the table belongs to", ucd="meta.id"),
        text("path", "Table directory", ucd="meta.ref;meta.file", required=True),
        text("table_type", "K, BP or G (order K → BA → BP → GA → GP → 2G → FLUX)", ucd="meta.code.class"),
        count("order_index", "Order of application"),
        mjd("valid_start_mjd", "Start of validity", ucd="time.start"),
        mjd("valid_end_mjd", "End of validity", ucd="time.end"),
        instant("created_at", "When it was registered", ucd="time.creation"),
        flag("active", "Whether it may be used"),
        text("quality", "Verdict of the checks: good, doubtful or refused", ucd="meta.code.qual"),
        number("dec_deg", "deg", "pos.eq.dec", "Declination of the strip"),
        mjd("solved_mjd", "Middle of the data solved"),
        text("group_ids", "Groups solved, joined by commas", ucd="meta.id;obs"),
        text("refant", "Reference antenna", ucd="meta.id;instr"),
        text("solver", "native or casa", ucd="meta.id;meta.software"),
        text("flux_anchor", "What the flux scale rests on", ucd="meta.ref;instr.calib"),
        text("checksum", "SHA-256 of the table", ucd="meta.checksum"),
        text("run_id", "Dagster run that solved it", ucd="meta.id"),
    ),
)

FLUX_MONITORING_ALERTS = TableSchema(
    name="flux_monitoring_alerts",
    partition="database",
    key=("id",),
    description="Drifts of the flux scale",
    columns=(
        count("id", "Number of the alert", ucd="meta.id", required=True),
        text("alert_type", "What drifted", ucd="meta.code.class"),
        text("severity", "warning or critical", ucd="meta.code.qual"),
        text("calibrator_name", "Calibrator", ucd="meta.id;src"),
        number("time_window_days", "d", "time.interval", "Window of the trend"),
        number("flux_drift_percent", "", "phot.flux.density;em.radio;arith.ratio", "Drift over the window, per cent"),
        count("n_measurements", "Measurements in the window"),
        text("message", "What to know"),
        instant("triggered_at", "When it was raised"),
        _ACKNOWLEDGED_AT,
        _ACKNOWLEDGED_BY,
        _RESOLVED_AT,
        _RESOLUTION_NOTE,
    ),
)

ALERT_HISTORY = TableSchema(
    name="alert_history",
    partition="database",
    key=("id",),
    description="Alerts sent",
    columns=(
        count("id", "Number of the alert", ucd="meta.id", required=True),
        text("source_id", "Source or partition it is about", ucd="meta.id"),
        text("alert_type", "Kind of alert", ucd="meta.code.class"),
        text("severity", "info, warning or critical", ucd="meta.code.qual"),
        text("message", "What to know"),
        instant("sent_at", "When it was sent"),
        text("channel", "Where it was sent"),
        flag("success", "Whether it arrived"),
        text("error_msg", "Why it did not"),
        _ACKNOWLEDGED_AT,
        _ACKNOWLEDGED_BY,
        _RESOLVED_AT,
        _RESOLUTION_NOTE,
    ),
)

CANDIDATE_TRIAGE = TableSchema(
    name="candidate_triage",
    partition="database",
    key=("id",),
    description="What people decided of candidates (append-only)",
    columns=(
        count("id", "Number of the entry", ucd="meta.id", required=True),
        text("candidate_id", "Candidate", ucd="meta.id"),
        text("status", "active, investigated, dismissed or confirmed", ucd="meta.code.status"),
        text("note", "Remark"),
        text("who", "Who decided", ucd="meta.curation"),
        instant("when", "When it was decided"),
    ),
)

OPERATIONS_TABLES = (
    INGEST_QUEUE,
    SUBBAND_FILES,
    CALTABLES,
    FLUX_MONITORING_ALERTS,
    ALERT_HISTORY,
    CANDIDATE_TRIAGE,
)
