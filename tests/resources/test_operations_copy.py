"""Operations tables copied into the query engine: the same from SQLite and from PostgreSQL."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from dsa110_assets.science.subbands import GroupingOptions
from dsa110_resources.archive import Archive
from dsa110_resources.operations import Arrival, FluxAlert, OperationsStore
from dsa110_resources.operations_copy import list_operations_tables, read_operations_table
from dsa110_resources.tables import connect

MOMENT = datetime(2026, 1, 25, 22, 31, 30, 250_000, tzinfo=UTC)


@pytest.fixture
def written(store: OperationsStore, tmp_path: Path) -> OperationsStore:
    """One subband of a group, one alert, one decision."""
    start_jd = 2461066.43478
    arrival = Arrival(tmp_path / "a_sb03.hdf5", 140_300_000, 1, start_jd, start_jd + 0.0036, 3, 16.27, "24x4656x48")
    store.arrivals.register([arrival], options=GroupingOptions(), now=MOMENT)
    drift = FluxAlert("flux_drift", "warning", "3C286", 7.0, None, 4, "drifts")
    store.alerts.raise_flux_alert(drift, now=MOMENT)
    store.triage.add("ESE-1", "confirmed", who="ada", now=MOMENT)
    return store


def test_views_show_what_was_written(written: OperationsStore, operations_url: str, tmp_path: Path) -> None:
    with connect(Archive(tmp_path), operations_url) as connection:
        queue = connection.execute(
            "SELECT group_id, state, n_subbands, received_at::VARCHAR, error_message, ingest_queue.start_jd, "
            "refined, subband_idx "
            "FROM ingest_queue JOIN subband_files USING (group_id)"
        ).fetchall()
        alerts = connection.execute(
            "SELECT calibrator_name, flux_drift_percent, triggered_at::VARCHAR, resolved_at FROM flux_monitoring_alerts"
        ).fetchall()
        joined = connection.execute(
            'SELECT t.who FROM candidate_triage t JOIN ingest_queue q ON t."when" = q.received_at'
        )
        assert joined.fetchall() == [("ada",)]
    assert [row[1:] for row in queue] == [("collecting", 1, "2026-01-25 22:31:30.25", None, 2461066.43478, False, 3)]
    assert alerts == [("3C286", None, "2026-01-25 22:31:30.25", None)]


def test_times_and_truths_have_their_types(written: OperationsStore, operations_url: str) -> None:
    rows = read_operations_table(operations_url, "ingest_queue")
    assert rows is not None
    assert rows["last_arrival_at"].to_pylist() == [MOMENT]
    assert rows["refined"].to_pylist() == [False]
    assert rows["cure"].to_pylist() == [None]


def test_what_is_not_there_yet_is_none(store: OperationsStore, operations_url: str, tmp_path: Path) -> None:
    assert read_operations_table(operations_url, "no_such_table") is None
    assert "alembic_version" in list_operations_tables(operations_url)
    absent = f"sqlite:///{tmp_path / 'absent.sqlite3'}"
    assert read_operations_table(absent, "ingest_queue") is None
    assert list_operations_tables(absent) == []
    assert not (tmp_path / "absent.sqlite3").exists()
