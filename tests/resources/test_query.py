"""SQL over the archive: the customer's names and queries, on empty and on filled stores."""

import time
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pandas as pd
import pytest
import sqlalchemy as sa

from dsa110_assets.science.schema import OPERATIONS, TABLES
from dsa110_resources.archive import Archive
from dsa110_resources.errors import TransientError
from dsa110_resources.operations import OperationsStore
from dsa110_resources.operations.schema import METADATA
from dsa110_resources.tables import ArchiveConnection, connect, write_partition
from dsa110_resources.views import VIEW_TYPES

# The customer's column lists, retyped: each must exist as a table or view of that name.
CUSTOMER = {
    "ingest_queue": "group_id state received_at last_update expected_subbands has_calibrator calibrators retry_count "
    "error_message",
    "subband_files": "group_id subband_idx file_path file_size discovered_at",
    "performance_metrics": "group_id writer_type conversion_time concat_time k_solve_time bp_solve_time g_solve_time "
    "imaging_time photometry_time total_time recorded_at",
    "caltables": "set_name path table_type order_index valid_start_mjd valid_end_mjd created_at active",
    "ms_index": "path start_mjd end_mjd mid_mjd processed_at status stage stage_updated_at cal_applied imagename "
    "field_name pointing_ra_deg pointing_dec_deg",
    "images": "path ms_path created_at type format beam_major_arcsec beam_minor_arcsec beam_pa_deg noise_jy "
    "dynamic_range pbcor field_name center_ra_deg center_dec_deg imsize_x imsize_y cellsize_arcsec freq_ghz "
    "bandwidth_mhz integration_sec",
    "photometry": "image_path source_id ra_deg dec_deg nvss_flux_mjy peak_jyb peak_err_jyb snr measured_at mjd "
    "sep_from_center_deg flags",
    "photometry_timeseries": "source_id image_path flux_jy flux_err_jy normalized_flux_jy normalized_flux_err_jy "
    "measured_at",
    "variability_stats": "source_id ra_deg dec_deg nvss_flux_mjy n_obs mean_flux_mjy std_flux_mjy min_flux_mjy "
    "max_flux_mjy chi2_nu sigma_deviation last_measured_at last_mjd updated_at n_epochs chi2_reduced "
    "fractional_variability significance ese_score eta_metric",
    "ese_candidates": "source_id flagged_at flagged_by significance flag_type notes status investigated_at "
    "dismissed_at first_detection_at last_detection_at max_sigma_dev",
    "mosaics": "path name created_at start_mjd end_mjd integration_sec n_images center_ra_deg center_dec_deg "
    "dec_min_deg dec_max_deg noise_jy beam_major_arcsec beam_minor_arcsec beam_pa_deg n_sources thumbnail_path",
    "qa_artifacts": "group_id name path type category created_at",
    "pointing_history": "timestamp mjd ra_deg dec_deg alt_deg az_deg lst_hours field_name",
    "alert_history": "source_id alert_type severity message sent_at channel success error_msg",
    "calibration_monitoring": "calibrator_name ms_path observed_flux_jy catalog_flux_jy flux_ratio frequency_ghz mjd "
    "timestamp_iso phase_rms_deg amp_rms flagged_fraction created_at notes",
    "flux_monitoring_alerts": "alert_type severity calibrator_name time_window_days flux_drift_percent n_measurements "
    "message triggered_at acknowledged_at acknowledged_by resolved_at resolution_note",
    "spectral_indices": "source_id ra_deg dec_deg spectral_index spectral_index_err freq1_ghz freq2_ghz flux1_mjy "
    "flux2_mjy flux1_err_mjy flux2_err_mjy catalog1 catalog2 match_separation_arcsec n_frequencies fit_quality "
    "calculated_at notes",
    "sources": "source_id ra_deg dec_deg s_nvss snr_nvss s_vlass alpha resolved_flag confusion_flag "
    "first_size_maj_arcsec first_size_min_arcsec first_size_pa_deg",
    "good_references": "source_id ra_deg dec_deg s_nvss snr_nvss",
    "final_references": "source_id ra_deg dec_deg s_nvss snr_nvss",
    "candidate_triage": "candidate_id status note who when",
    "photometry_history": "image_path source_id method",
    "variability_stats_history": "source_id day",
    "ese_candidates_history": "candidate_id day",
    "spectral_indices_history": "source_id day",
    "ensemble_correction": "epoch correction err n_refs held_out",
}

CANDIDATES_QUERY = """
SELECT e.source_id, v.ra_deg, v.dec_deg, v.mean_flux_mjy, v.nvss_flux_mjy, v.chi2_nu, v.sigma_deviation, v.n_obs, e.flagged_at, e.significance, e.status
FROM ese_candidates e JOIN variability_stats v ON e.source_id = v.source_id WHERE e.status = 'active' ORDER BY e.significance DESC LIMIT 50;
"""  # noqa: E501
CURVE_QUERY = """
SELECT mjd, peak_jyb * 1000 AS flux_mjy, peak_err_jyb * 1000 AS error_mjy, snr, i.field_name, i.noise_jy * 1000 AS image_noise_mjy
FROM photometry p JOIN images i ON p.image_path = i.path WHERE p.source_id = 'NVSS J123456.7+420312' ORDER BY mjd ASC;
"""  # noqa: E501
MOSAICS_QUERY = """
SELECT name, path, start_mjd, end_mjd, integration_sec / 3600.0 AS hours, n_images, n_sources, noise_jy * 1000 AS noise_mjy, thumbnail_path
FROM mosaics ORDER BY created_at DESC LIMIT 20;
"""  # noqa: E501

SOURCE = "NVSS J123456.7+420312"
STAMP = pd.Timestamp("2026-01-25T23:00:00Z")


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(tmp_path)


@pytest.fixture
def filled(archive: Archive) -> Archive:
    """Two days of one source: two images, two mosaics, a candidate that grows, two days of statistics."""
    for window, mjd, peak in (("2026-01-25T22:25", 61065.9, 0.200), ("2026-01-25T22:30", 61065.95, 0.220)):
        path = f"images/{window}.fits"
        common = {"group_id": window, "image_path": path, "source_id": SOURCE, "mjd": mjd, "flags": 0}
        rows = [
            common | {"method": "residual", "peak_jyb": peak, "peak_err_jyb": 0.002, "snr": peak / 0.002},
            common | {"method": "clean", "peak_jyb": peak * 0.93, "peak_err_jyb": 0.002, "snr": peak * 0.93 / 0.002},
        ]
        write_partition(archive, "photometry", window, pd.DataFrame(rows).assign(nvss_flux_jy=0.25))
        image = {"path": path, "group_id": window, "type": "image", "mid_mjd": mjd, "noise_jy": 0.0003}
        write_partition(archive, "images", window, pd.DataFrame([image | {"field_name": "dec+42"}]))
    for day, score, chi2 in (("2026-01-25", 0.7, 4.0), ("2026-01-26", 0.9, 6.0)):
        candidate = {"candidate_id": "ESE-1", "source_id": SOURCE, "flag_type": "ese_template", "flagged_at": STAMP}
        write_partition(
            archive, "ese_candidates", day, pd.DataFrame([candidate | {"ese_score": score, "notes": "auto"}])
        )
        statistics = {"source_id": SOURCE, "mean_flux_jy": 0.21, "nvss_flux_jy": 0.25, "chi2_nu": chi2, "n_obs": 12}
        write_partition(archive, "variability_stats", day, pd.DataFrame([statistics | {"eta": chi2, "v": 0.1}]))
        pair = {"source_id": SOURCE, "catalog1": "NVSS", "catalog2": "VLASS", "flux1_jy": 0.1, "flux2_jy": 0.06}
        write_partition(archive, "spectral_indices", day, pd.DataFrame([pair]))
        mosaic = {"path": f"mosaics/{day}.fits", "name": day, "start_mjd": 61065.0, "end_mjd": 61066.0}
        created = pd.Timestamp(f"{day}T23:30:00Z")
        mosaic |= {"integration_sec": 5400.0, "noise_jy": 0.0001, "created_at": created}
        write_partition(archive, "mosaics", day, pd.DataFrame([mosaic]))
    return archive


@pytest.fixture
def triaged(filled: Archive) -> Archive:
    """The filled archive with an operations database in which people judged candidates."""
    engine = sa.create_engine(f"sqlite:///{filled.root / 'operations.sqlite3'}", poolclass=sa.pool.NullPool)
    with engine.begin() as connection:
        connection.execute(
            sa.text(
                "CREATE TABLE candidate_triage (id INTEGER PRIMARY KEY, candidate_id TEXT, status TEXT, note TEXT, "
                'who TEXT, "when" TIMESTAMP)'
            )
        )
        insert = sa.text("INSERT INTO candidate_triage VALUES (:i, :c, :s, :n, :w, :t)")
        rows = [
            (1, "ESE-1", "investigated", "looked", "ada", "2026-01-26 08:00:00.000000"),
            (2, "ESE-1", "active", "again", "bob", "2026-01-27 08:00:00.000000"),
            (3, "user:NVSS J000000.0+000000", "active", "odd", "ada", "2026-01-28 08:00:00.000000"),
        ]
        connection.execute(insert, [dict(zip("icsnwt", row, strict=True)) for row in rows])
        connection.execute(
            sa.text("CREATE TABLE ingest_queue (group_id TEXT, state TEXT, received_at REAL, extra TEXT)")
        )
        connection.execute(
            sa.text("INSERT INTO ingest_queue VALUES ('2026-01-25T22:26:05', 'completed', 61065.5, 'x')")
        )
        connection.execute(sa.text("CREATE TABLE rejected_files (file_path TEXT, reason TEXT)"))
        connection.execute(sa.text("INSERT INTO rejected_files VALUES ('a_sb00.hdf5', 'truncated')"))
    engine.dispose()
    return filled


def columns_of(connection: ArchiveConnection, view: str) -> dict[str, str]:
    return {row[0]: row[1] for row in connection.execute(f"DESCRIBE {view}").fetchall()}


def test_every_name_of_the_customer_is_there_empty_and_filled(triaged: Archive, tmp_path: Path) -> None:
    with connect(Archive(tmp_path / "nothing")) as empty, connect(triaged) as full:
        for view, names in CUSTOMER.items():
            typed = columns_of(empty, view)
            assert set(names.split()) - set(typed) == set(), view
            described = columns_of(full, view)
            assert {name: described[name] for name in typed} == typed, view
            assert empty.execute(f"SELECT count(*) FROM {view}").fetchall() == [(0,)], view


@pytest.mark.parametrize("query", [CANDIDATES_QUERY, CURVE_QUERY, MOSAICS_QUERY])
def test_the_customers_queries_run_on_empty_stores(archive: Archive, query: str) -> None:
    with connect(archive) as connection:
        assert connection.execute(query).fetchall() == []


def test_the_candidates_query_gives_each_candidate_once_with_the_latest_statistics(filled: Archive) -> None:
    with connect(filled) as connection:
        rows = connection.execute(CANDIDATES_QUERY).fetchall()
    naive = STAMP.tz_localize(None).to_pydatetime()
    assert rows == [(SOURCE, None, None, 210.0, 250.0, 6.0, None, 12, naive, None, "active")]


def test_the_curve_query_gives_the_default_method_in_order_of_time(filled: Archive) -> None:
    with connect(filled) as connection:
        rows = connection.execute(CURVE_QUERY).fetchall()
        assert connection.execute("SELECT count(*) FROM photometry_history").fetchall() == [(4,)]
    assert [row[0] for row in rows] == [61065.9, 61065.95]
    assert [row[1] for row in rows] == pytest.approx([200.0, 220.0], abs=1e-12)
    assert rows[0][4:] == ("dec+42", pytest.approx(0.3))


def test_the_mosaics_query_gives_the_newest_first(filled: Archive) -> None:
    with connect(filled) as connection:
        rows = connection.execute(MOSAICS_QUERY).fetchall()
    assert [(row[0], row[4], row[7]) for row in rows] == [("2026-01-26", 1.5, 0.1), ("2026-01-25", 1.5, 0.1)]


def test_another_default_method(filled: Archive) -> None:
    with connect(filled, default_method="clean") as connection:
        found = connection.execute("SELECT DISTINCT method FROM photometry").fetchall()
    assert found == [("clean",)]


def test_statistics_show_the_latest_day_and_keep_their_history(filled: Archive) -> None:
    with connect(filled) as connection:
        latest = connection.execute(
            "SELECT day, chi2_reduced, eta_metric, fractional_variability, n_epochs FROM variability_stats"
        )
        assert latest.fetchall() == [("2026-01-26", 6.0, 6.0, 0.1, 12)]
        history = connection.execute("SELECT day, chi2_nu FROM variability_stats_history ORDER BY day").fetchall()
        assert history == [("2026-01-25", 4.0), ("2026-01-26", 6.0)]
        pairs = connection.execute("SELECT day, flux1_mjy, round(flux2_mjy, 9) FROM spectral_indices").fetchall()
        assert pairs == [("2026-01-26", 100.0, 60.0)]


def test_a_day_without_rows_does_not_hide_the_day_before(filled: Archive) -> None:
    write_partition(filled, "variability_stats", "2026-01-27", pd.DataFrame())
    with connect(filled) as connection:
        assert connection.execute("SELECT day FROM variability_stats").fetchall() == [("2026-01-26",)]


def test_triage_is_joined_and_people_can_raise_candidates(triaged: Archive) -> None:
    with connect(triaged) as connection:
        rows = connection.execute(
            "SELECT candidate_id, source_id, flag_type, ese_score, status, notes, flagged_by, "
            "investigated_at::DATE::VARCHAR FROM ese_candidates ORDER BY candidate_id"
        ).fetchall()
    assert rows == [
        ("ESE-1", SOURCE, "ese_template", 0.9, "active", "again", None, "2026-01-26"),
        ("user:NVSS J000000.0+000000", "NVSS J000000.0+000000", "user", None, "active", "odd", "ada", None),
    ]


def test_operations_tables_are_read_as_they_are_now(triaged: Archive) -> None:
    with connect(triaged) as connection:
        query = "SELECT group_id, state, received_at::VARCHAR, retry_count FROM ingest_queue"
        assert connection.execute(query).fetchall() == [
            ("2026-01-25T22:26:05", "completed", "2026-01-25 12:00:00", None)
        ]
        engine = sa.create_engine(f"sqlite:///{triaged.root / 'operations.sqlite3'}", poolclass=sa.pool.NullPool)
        with engine.begin() as writer:
            writer.execute(sa.text("UPDATE ingest_queue SET state = 'failed'"))
        engine.dispose()
        assert connection.execute(query).fetchall()[0][1] == "failed"
        assert connection.execute("SELECT reason FROM rejected_files").fetchall() == [("truncated",)]


def test_the_declared_operations_columns_are_those_of_the_database() -> None:
    for name, schema in OPERATIONS.items():
        assert set(schema.names) - set(METADATA.tables[name].columns.keys()) == set(), name


def test_the_platforms_own_operations_database_is_read(filled: Archive) -> None:
    store = OperationsStore(f"sqlite:///{filled.root / 'operations.sqlite3'}")
    store.migrate()
    store.triage.add("ESE-1", "dismissed", who="ada", note="RFI", now=datetime(2026, 1, 28, 9, 30, tzinfo=UTC))
    store.triage.add("user:NVSS J111111.1+111111:odd", "active", who="bob", now=datetime(2026, 1, 29, tzinfo=UTC))
    store.close()
    with connect(filled) as connection:
        candidates = connection.execute(
            "SELECT source_id, status, dismissed_at::VARCHAR, flagged_by, flagged_at::VARCHAR "
            "FROM ese_candidates ORDER BY source_id"
        ).fetchall()
        typed = columns_of(connection, "ingest_queue")
        triage = connection.execute('SELECT who, "when"::VARCHAR FROM candidate_triage ORDER BY id').fetchall()
    assert candidates == [
        ("NVSS J111111.1+111111", "active", None, "bob", "2026-01-29 00:00:00"),
        (SOURCE, "dismissed", "2026-01-28 09:30:00", None, "2026-01-25 23:00:00"),
    ]
    assert triage == [("ada", "2026-01-28 09:30:00"), ("bob", "2026-01-29 00:00:00")]
    assert typed["received_at"] == "TIMESTAMP"
    assert typed["has_calibrator"] == "BOOLEAN"


def test_looking_creates_no_database(archive: Archive) -> None:
    with connect(archive) as connection:
        connection.execute("SELECT * FROM ingest_queue").fetchall()
    assert list(archive.root.iterdir()) == []


def test_an_unreachable_database_is_an_error_not_an_empty_table(archive: Archive) -> None:
    url = "postgresql+psycopg2://nobody:secret@127.0.0.1:1/dsa110"
    with connect(archive, url) as connection:
        assert connection.execute("SELECT count(*) FROM photometry").fetchall() == [(0,)]
        with pytest.raises(TransientError, match="cannot read ingest_queue") as caught:
            connection.execute("SELECT * FROM ingest_queue")
    assert "secret" not in str(caught.value)


def test_new_and_replaced_partitions_appear_in_an_open_session(filled: Archive) -> None:
    query = "SELECT count(*), max(peak_jyb) FROM photometry"
    row = {"source_id": SOURCE, "image_path": "a", "group_id": "g", "method": "residual", "mjd": 61067.0, "flags": 0}
    with connect(filled) as connection:
        assert connection.execute(query).fetchall() == [(2, 0.22)]
        write_partition(filled, "photometry", "2026-01-26T22:30", pd.DataFrame([row | {"peak_jyb": 0.3}]))
        assert connection.execute(query).fetchall() == [(3, 0.3)]
        write_partition(filled, "photometry", "2026-01-26T22:30", pd.DataFrame([row | {"peak_jyb": 0.5}]))
        assert connection.execute(query).fetchall() == [(3, 0.5)]


def test_frames_of_the_caller_can_be_joined(filled: Archive) -> None:
    mine = pd.DataFrame({"source_id": [SOURCE], "weight": [2.0]})
    with connect(filled) as connection:
        found = connection.sql("SELECT sum(weight) FROM photometry JOIN mine USING (source_id)").fetchall()
    assert found == [(4.0,)]
    assert len(mine) == 1


def test_a_column_added_later_is_null_in_older_files(filled: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    old = TABLES["photometry"]
    newer = type(old)(old.name, old.partition, old.key, (*old.columns, type(old.columns[0])("seeing", "float64")))
    monkeypatch.setitem(TABLES, "photometry", newer)
    with connect(filled) as connection:
        assert connection.execute("SELECT count(*), count(seeing) FROM photometry").fetchall() == [(2, 0)]


def test_no_extension_is_fetched_from_a_network(archive: Archive) -> None:
    with connect(archive) as connection, pytest.raises(duckdb.Error, match=r"(?i)extension|not exist"):
        connection.execute("SELECT * FROM sqlite_scan('x.db', 'y')")


def test_views_have_the_declared_columns_in_order_and_tell_what_they_mean(filled: Archive) -> None:
    with connect(filled) as connection:
        for name, schema in TABLES.items():
            shown = list(columns_of(connection, name).items())
            declared = [(column.name, VIEW_TYPES[column.dtype]) for column in schema.view_columns]
            assert shown[: len(declared)] == declared, name
        told = connection.execute(
            "SELECT unit, ucd, description FROM column_descriptions "
            "WHERE table_name = 'variability_stats' AND column_name = 'mean_flux_mjy'"
        ).fetchall()
    assert told == [("mJy", "phot.flux.density;em.radio;stat.mean", "Mean flux density")]


def test_every_declared_table_is_listed(archive: Archive) -> None:
    with connect(archive) as connection:
        shown = {row[0] for row in connection.execute("SHOW TABLES").fetchall()}
    assert set(TABLES) | set(OPERATIONS) | {"good_references", "final_references"} <= shown


def test_a_session_over_ten_thousand_partitions_opens_at_once(filled: Archive) -> None:
    part = filled.table_partition("photometry", "2026-01-25T22:25").read_bytes()
    for hour in range(10_000):
        stamp = pd.Timestamp("2024-01-01") + pd.Timedelta(hours=hour)
        path = filled.table_partition("photometry", f"{stamp:%Y-%m-%dT%H:%M}")
        path.parent.mkdir()
        path.write_bytes(part)
    begin = time.perf_counter()
    with connect(filled) as connection:
        assert len(connection.execute("SELECT source_id FROM photometry LIMIT 5").fetchall()) == 5
    assert time.perf_counter() - begin < 2.0
