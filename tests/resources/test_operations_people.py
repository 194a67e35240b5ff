"""Alerts, their acknowledgement, candidate triage, and the schema itself."""

from datetime import timedelta

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from ledger_rows import GROUP, NOW, arrival, register

from dsa110_assets.science.schema import OPERATIONS
from dsa110_resources.errors import PermanentError
from dsa110_resources.operations import FluxAlert, OperationsStore, SentAlert
from dsa110_resources.operations.schema import METADATA

DRIFT = FluxAlert("flux_drift", "warning", "3C48", 7.0, 23.0, 5, "3C48 is 23 % low over 7 days")
CUSTOMER = {
    "ingest_queue": "group_id state received_at last_update expected_subbands has_calibrator calibrators retry_count "
    "error_message",
    "subband_files": "group_id subband_idx file_path file_size discovered_at",
    "caltables": "set_name path table_type order_index valid_start_mjd valid_end_mjd created_at active",
    "alert_history": "source_id alert_type severity message sent_at channel success error_msg",
    "flux_monitoring_alerts": "alert_type severity calibrator_name time_window_days flux_drift_percent n_measurements "
    "message triggered_at acknowledged_at acknowledged_by resolved_at resolution_note",
}


@pytest.mark.parametrize("name", CUSTOMER)
def test_every_column_of_the_customer_exists(store: OperationsStore, name: str) -> None:
    columns, rows = store.read_rows(name)
    assert set(CUSTOMER[name].split()) <= set(columns)
    assert rows == []


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_declared_column_exists(name: str) -> None:
    assert {column.name for column in OPERATIONS[name].columns} <= set(METADATA.tables[name].columns.keys())


def test_migrations_make_the_declared_schema_and_may_be_repeated(store: OperationsStore) -> None:
    store.migrate()
    assert store.schema_version() == "0001"
    with store.database.reading() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []


def test_uniqueness_is_kept_by_the_database(store: OperationsStore) -> None:
    register(store, arrival(0))
    row = {"group_id": GROUP, "subband_idx": 0, "file_path": "/in/other", "file_size": 1, "discovered_at": NOW}
    row |= {"mtime_ns": 0, "start_jd": 0.0, "shape": ""}
    with pytest.raises(sa.exc.IntegrityError), store.database.writing() as connection:
        connection.execute(sa.insert(METADATA.tables["subband_files"]).values(**row))
    with pytest.raises(sa.exc.IntegrityError), store.database.writing() as connection:
        connection.execute(sa.update(METADATA.tables["ingest_queue"]).values(state="lost"))


def test_unknown_tables_are_refused(store: OperationsStore) -> None:
    with pytest.raises(PermanentError, match="no operations table 'users'"):
        store.read_rows("users")


def test_one_alert_per_drift(store: OperationsStore) -> None:
    first, is_new = store.alerts.raise_flux_alert(DRIFT, now=NOW)
    again, is_news = store.alerts.raise_flux_alert(DRIFT, now=NOW + timedelta(days=1))
    assert (again, is_new, is_news) == (first, True, False)
    critical = FluxAlert("flux_drift", "critical", "3C48", 7.0, 41.0, 6, "3C48 is 41 % low over 7 days")
    assert store.alerts.raise_flux_alert(critical) == (first, True)
    assert store.alerts.raise_flux_alert(critical) == (first, False)
    (alert,) = store.alerts.open_flux_alerts()
    assert (alert["severity"], alert["flux_drift_percent"], alert["triggered_at"]) == ("critical", 41.0, NOW)
    assert store.alerts.acknowledge("flux_monitoring_alerts", first, "anna", now=NOW)
    assert not store.alerts.acknowledge("flux_monitoring_alerts", first, "ben")
    assert store.alerts.resolve("flux_monitoring_alerts", first, "new bandpass", now=NOW)
    assert not store.alerts.resolve("flux_monitoring_alerts", first, "again")
    assert store.alerts.open_flux_alerts() == []
    second, is_new = store.alerts.raise_flux_alert(DRIFT)
    assert second != first
    assert is_new


def test_the_history_of_what_was_sent(store: OperationsStore) -> None:
    sent = SentAlert("NVSS J123456.7+420312", "ese_candidate", "warning", "score 0.99", "slack")
    number = store.alerts.record_sent(sent, now=NOW)
    failed = SentAlert("NVSS J123456.7+420312", "drift", "warning", "m", "slack", success=False, error_msg="timeout")
    store.alerts.record_sent(failed, now=NOW + timedelta(minutes=1))
    rows = store.alerts.history(source_id="NVSS J123456.7+420312")
    assert [(row["alert_type"], row["success"], row["error_msg"]) for row in rows] == [
        ("drift", False, "timeout"),
        ("ese_candidate", True, None),
    ]
    assert store.alerts.was_sent(sent.source_id, "ese_candidate", since=NOW)
    assert not store.alerts.was_sent(sent.source_id, "ese_candidate", since=NOW + timedelta(seconds=1))
    assert not store.alerts.was_sent(sent.source_id, "drift", since=NOW)
    assert store.alerts.acknowledge("alert_history", number, "anna")
    assert store.alerts.history(limit=1)[0]["acknowledged_by"] is None


def test_triage_is_append_only_and_the_last_word_counts(store: OperationsStore) -> None:
    store.triage.add("c1", "investigated", who="anna", now=NOW)
    store.triage.add("c1", "dismissed", who="ben", note="a neighbour's sidelobe", now=NOW + timedelta(hours=1))
    store.triage.add("c2", "confirmed", who="anna", now=NOW)
    assert [entry.status for entry in store.triage.history("c1")] == ["investigated", "dismissed"]
    latest = store.triage.latest()
    assert (latest["c1"].status, latest["c1"].who, latest["c1"].note) == (
        "dismissed",
        "ben",
        "a neighbour's sidelobe",
    )
    assert latest["c2"].when == NOW
    with pytest.raises(PermanentError, match="unknown triage status 'maybe'"):
        store.triage.add("c1", "maybe", who="anna")
