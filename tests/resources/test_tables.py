"""Parquet partitions: written whole, read back exactly, refused when they do not fit."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from astropy.time import Time
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dsa110_assets.science.schema import TABLES
from dsa110_resources.archive import Archive
from dsa110_resources.errors import CorruptInputError, PermanentError
from dsa110_resources.tables import list_partitions, read_partition, read_table, write_partition

GROUP = "2026-01-25T22:26:05"
WINDOW = "2026-01-25T22:25"


def measurements(**columns: object) -> pd.DataFrame:
    """Return a photometry frame of two sources, with columns replaced."""
    rows = {
        "source_id": ["NVSS J020000.0+160000", "NVSS J010000.0+160000"],
        "image_path": "images/2026-01-25/2026-01-25_22_26_05.fits",
        "group_id": GROUP,
        "method": "residual",
        "mjd": 61065.935,
        "peak_jyb": [0.25, np.nan],
        "flags": [0, 1],
        "dof": [12, None],
        "subband_fluxes_jyb": [[0.2, np.nan], None],
        "measured_at": pd.Timestamp("2026-01-25T23:00:00Z"),
    }
    return pd.DataFrame(rows | columns)


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(tmp_path)


def test_a_partition_comes_back_sorted_complete_and_typed(archive: Archive) -> None:
    path = write_partition(archive, "photometry", WINDOW, measurements())
    assert path == archive.root / "tables" / "photometry" / "2026-01-25T22_25" / "part.parquet"
    back = read_table(archive, "photometry")
    assert list(back.columns) == list(TABLES["photometry"].names)
    assert list(back["source_id"]) == ["NVSS J010000.0+160000", "NVSS J020000.0+160000"]
    np.testing.assert_array_equal(back["peak_jyb"], [np.nan, 0.25])
    assert back["flags"].dtype == np.int64
    assert back["dof"].dtype == pd.Int64Dtype()
    assert list(back["dof"].isna()) == [True, False]
    assert back["measured_at"].iloc[0] == pd.Timestamp("2026-01-25T23:00:00Z")
    np.testing.assert_array_equal(back["subband_fluxes_jyb"].iloc[1], [0.2, np.nan])
    assert back["ra_deg"].isna().all()


def test_parquet_fields_carry_unit_ucd_and_description(archive: Archive) -> None:
    field = pq.read_schema(write_partition(archive, "photometry", WINDOW, measurements())).field("peak_jyb")
    assert field.metadata[b"unit"] == b"Jy/beam"
    assert field.metadata[b"ucd"] == b"phot.flux.density;em.radio;stat.max"
    assert b"primary-beam corrected" in field.metadata[b"description"]


def test_an_unmeasured_flux_is_null_on_disk_and_nan_in_memory(archive: Archive) -> None:
    path = write_partition(archive, "photometry", WINDOW, measurements())
    assert pq.read_table(path)["peak_jyb"].null_count == 1


def test_a_rerun_replaces_exactly_its_own_partition(archive: Archive) -> None:
    write_partition(archive, "photometry", WINDOW, measurements())
    write_partition(archive, "photometry", "2026-01-25T22:30", measurements())
    write_partition(archive, "photometry", WINDOW, measurements().iloc[:1])
    assert list_partitions(archive, "photometry") == [WINDOW, "2026-01-25T22:30"]
    assert len(read_table(archive, "photometry", [WINDOW])) == 1
    assert len(read_table(archive, "photometry")) == 3


def test_the_same_rows_give_the_same_bytes(archive: Archive) -> None:
    first = write_partition(archive, "photometry", WINDOW, measurements()).read_bytes()
    again = write_partition(archive, "photometry", WINDOW, measurements().iloc[::-1])
    assert again.read_bytes() == first


def test_never_written_is_not_empty(archive: Archive) -> None:
    assert read_partition(archive, "photometry", WINDOW) is None
    write_partition(archive, "photometry", WINDOW, measurements().iloc[:0])
    empty = read_partition(archive, "photometry", WINDOW)
    assert empty is not None
    assert len(empty) == 0
    assert list(empty.columns) == list(TABLES["photometry"].names)
    nothing = read_table(archive, "mosaics")
    assert len(nothing) == 0
    assert nothing.dtypes.equals(read_table(archive, "mosaics", ["2026-01-25"]).dtypes)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"colour": 1.0}, "unknown columns colour"),
        ({"mjd": [61065.9, np.nan]}, "required column mjd"),
        ({"source_id": "NVSS J010000.0+160000"}, "2 rows with the same key"),
        ({"flags": [0.5, 1.0]}, "column flags should be int64"),
        ({"peak_jyb": ["bright", "faint"]}, "column peak_jyb should be float64"),
        ({"measured_at": pd.Timestamp("2026-01-25T23:00:00")}, "column measured_at has a time without a zone"),
    ],
)
def test_rows_that_do_not_fit_are_refused_and_the_old_partition_stays(
    archive: Archive, columns: dict[str, object], message: str
) -> None:
    path = write_partition(archive, "photometry", WINDOW, measurements())
    before = path.read_bytes()
    with pytest.raises(PermanentError, match=message) as caught:
        write_partition(archive, "photometry", WINDOW, measurements(**columns))
    assert caught.value.partition == WINDOW
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == ["part.parquet"]


def test_times_may_come_as_text_or_astropy_time(archive: Archive) -> None:
    stamps = [Time("2026-01-25T23:00:00", scale="utc"), "2026-01-25T23:00:01.5"]
    write_partition(archive, "photometry", WINDOW, measurements(measured_at=pd.Series(stamps, dtype=object)))
    back = read_table(archive, "photometry").sort_values("measured_at")["measured_at"]
    assert list(back) == [pd.Timestamp("2026-01-25T23:00:00Z"), pd.Timestamp("2026-01-25T23:00:01.5Z")]


def test_day_and_catalogue_version_come_from_the_partition_key(archive: Archive) -> None:
    stats = pd.DataFrame({"source_id": ["NVSS J010000.0+160000"], "n_obs": [3]})
    write_partition(archive, "variability_stats", "2026-01-25", stats)
    assert list(read_table(archive, "variability_stats")["day"]) == ["2026-01-25"]
    write_partition(archive, "sources", "nvss-0123", pd.DataFrame({"source_id": ["NVSS J010000.0+160000"]}))
    assert list(read_table(archive, "sources")["catalogue_version"]) == ["nvss-0123"]


def test_a_file_older_than_a_column_shows_it_as_null(archive: Archive) -> None:
    path = write_partition(archive, "photometry", WINDOW, measurements())
    pq.write_table(pq.read_table(path).drop_columns(["chi2", "quality"]), path)
    back = read_table(archive, "photometry", columns=["source_id", "chi2", "quality"])
    assert list(back.columns) == ["source_id", "chi2", "quality"]
    assert back["chi2"].isna().all()
    assert back["quality"].isna().all()


def test_a_damaged_file_is_named(archive: Archive) -> None:
    path = write_partition(archive, "photometry", WINDOW, measurements())
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CorruptInputError, match=r"part\.parquet.*unreadable.*re-materialise"):
        read_table(archive, "photometry")


def test_unfinished_and_abandoned_directories_are_not_partitions(archive: Archive) -> None:
    write_partition(archive, "photometry", WINDOW, measurements())
    (archive.table_dir("photometry") / "2026-01-25T22_30").mkdir()
    assert list_partitions(archive, "photometry") == [WINDOW]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.floats(allow_infinity=False, width=64), min_size=1, max_size=20))
def test_fluxes_come_back_to_the_bit(archive: Archive, fluxes: list[float]) -> None:
    frame = pd.DataFrame(
        {
            "source_id": [f"S{k:03d}" for k in range(len(fluxes))],
            "mjd": 61065.0,
            "epoch": "e",
            "kind": "tile",
            "flux_jy": fluxes,
            "flags": 0,
        }
    )
    write_partition(archive, "photometry_timeseries", "2026-01-25", frame)
    np.testing.assert_array_equal(read_table(archive, "photometry_timeseries")["flux_jy"], fluxes)
