"""Light curves from day partitions and from their compacted copies: the same rows, and fast."""

import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dsa110_resources.archive import Archive
from dsa110_resources.compaction import (
    bucket_of,
    compact_archive,
    compact_closed,
    compact_period,
    find_table_files,
    read_light_curve,
)
from dsa110_resources.parquet import list_partition_files
from dsa110_resources.tables import connect, read_table, write_partition

TABLE = "photometry_timeseries"
CURVE = f"SELECT mjd, flux_jy, flags FROM {TABLE} WHERE source_id = ? ORDER BY mjd, kind"


def day_of(archive: Archive, day: pd.Timestamp, n_sources: int, *, factor: float = 1.0) -> None:
    """Write one day: two tiles and a combined row of every source."""
    generator = np.random.default_rng(day.toordinal())
    mjd = day.to_julian_date() - 2400000.5
    names = np.repeat([f"NVSS J{number:06d}.0+160000" for number in range(n_sources)], 3)
    rows = pd.DataFrame(
        {
            "source_id": names,
            "mjd": mjd + np.tile([0.30, 0.31, 0.305], n_sources),
            "epoch": np.tile([f"{day:%F}-a", f"{day:%F}-b", f"{day:%F}"], n_sources),
            "kind": np.tile(["tile", "tile", "daily"], n_sources),
            "flux_jy": factor * generator.normal(1.0, 0.1, 3 * n_sources),
            "flags": 0,
        }
    )
    write_partition(archive, TABLE, f"{day:%Y-%m-%d}", rows)


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    """Ten days of 30 sources over the end of a month."""
    archive = Archive(tmp_path)
    for day in pd.date_range("2026-01-27", periods=10):
        day_of(archive, day, 30)
    return archive


def test_compacted_months_hold_the_same_rows(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dsa110_resources.compaction.BUCKET_ROWS", 100)
    name = "NVSS J000017.0+160000"
    before, whole = read_light_curve(archive, name), read_table(archive, TABLE)
    assert compact_closed(archive, TABLE, before="2026-02") == ["2026-01"]
    month = compact_period(archive, TABLE, "2026-01")
    assert month is not None
    assert month.n_buckets == 5
    files = find_table_files(archive, TABLE)
    assert len(files) == 5 + 5
    assert find_table_files(archive, TABLE, name)[0].endswith(f"bucket-{bucket_of(name, 5):03d}.parquet")
    pd.testing.assert_frame_equal(read_light_curve(archive, name), before)
    with connect(archive) as connection:
        assert connection.execute(f"SELECT count(*), sum(flux_jy) FROM {TABLE}").fetchall() == [
            (len(whole), pytest.approx(whole["flux_jy"].sum(), rel=1e-12))
        ]
        assert connection.execute(CURVE, [name]).fetchall() == [
            tuple(row) for row in before[["mjd", "flux_jy", "flags"]].to_numpy()
        ]


def test_a_backfilled_day_is_seen_at_once_and_compacted_again(archive: Archive) -> None:
    name = "NVSS J000003.0+160000"
    compact_period(archive, TABLE, "2026-01")
    before = read_light_curve(archive, name, kind="daily")
    with connect(archive) as connection:
        assert len(connection.execute(CURVE, [name]).fetchall()) == 30
        day_of(archive, pd.Timestamp("2026-01-29"), 30, factor=2.0)
        assert len(find_table_files(archive, TABLE)) == 10
        sums = connection.execute(f"SELECT sum(flux_jy) FROM {TABLE} WHERE source_id = ?", [name]).fetchall()
    after = read_light_curve(archive, name, kind="daily")
    np.testing.assert_array_equal(after["flux_jy"][2], 2.0 * before["flux_jy"][2])
    np.testing.assert_array_equal(np.delete(after["flux_jy"], 2), np.delete(before["flux_jy"], 2))
    assert sums[0][0] == pytest.approx(read_light_curve(archive, name)["flux_jy"].sum())
    compact_period(archive, TABLE, "2026-01")
    assert len(find_table_files(archive, TABLE)) == 1 + 5
    pd.testing.assert_frame_equal(read_light_curve(archive, name, kind="daily"), after)


def test_an_unchanged_month_is_left_alone(archive: Archive) -> None:
    month = compact_period(archive, TABLE, "2026-01")
    assert month is not None
    stamp = month.directory.stat().st_mtime_ns
    assert compact_period(archive, TABLE, "2026-01") == month
    assert month.directory.stat().st_mtime_ns == stamp
    assert compact_period(archive, TABLE, "2025-12") is None


def test_every_closed_period_of_every_table_is_compacted(archive: Archive) -> None:
    row = {"path": "a.fits", "group_id": "g", "type": "image", "mid_mjd": 61067.0}
    measured = {"source_id": "A", "image_path": "a", "group_id": "g", "method": "residual", "mjd": 61067.0, "flags": 0}
    for hour in ("2026-01-27T03:00", "2026-01-27T03:05", "2026-02-05T03:00", "custom-field"):
        write_partition(archive, "images", hour, pd.DataFrame([row | {"path": f"{hour}.fits"}]))
        write_partition(archive, "photometry", hour, pd.DataFrame([measured | {"image_path": f"{hour}.fits"}]))
    done = compact_archive(archive, before="2026-02-05")
    assert done[TABLE] == ["2026-01"]
    assert done["images"] == ["2026-01"]
    assert done["photometry"] == ["2026-01-27"]
    assert [len(find_table_files(archive, name)) for name in ("images", "photometry")] == [3, 3]
    with connect(archive) as connection:
        joined = connection.execute("SELECT i.path FROM photometry p JOIN images i ON p.image_path = i.path ORDER BY 1")
        assert [name for (name,) in joined.fetchall()] == [
            "2026-01-27T03:00.fits",
            "2026-01-27T03:05.fits",
            "2026-02-05T03:00.fits",
            "custom-field.fits",
        ]


def test_a_source_that_was_never_measured_has_an_empty_curve(archive: Archive, tmp_path: Path) -> None:
    unknown = read_light_curve(archive, "NVSS J235959.9+160000")
    assert len(unknown) == 0
    nothing = read_light_curve(Archive(tmp_path / "nothing"), "x", columns=["mjd", "flux_jy"])
    assert list(nothing.columns) == ["mjd", "flux_jy"]
    assert list(unknown.columns) == list(read_table(archive, TABLE).columns)


def test_columns_older_than_the_schema_are_null_after_compaction(archive: Archive) -> None:
    import pyarrow.parquet as pq

    for path in list_partition_files(archive, TABLE)[:5]:
        pq.write_table(pq.read_table(path).drop_columns(["pb_response"]), path)
    compact_period(archive, TABLE, "2026-01")
    curve = read_light_curve(archive, "NVSS J000003.0+160000")
    assert len(curve) == 30
    assert curve["pb_response"].isna().all()


def test_a_year_of_one_source_takes_less_than_fifty_milliseconds(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    for day in pd.date_range("2026-01-01", "2026-12-31"):
        day_of(archive, day, 300)
    compact_closed(archive, TABLE, before="2027-01")
    read_light_curve(archive, "NVSS J000299.0+160000")
    spent = []
    for number in range(0, 300, 30):
        begin = time.process_time()
        curve = read_light_curve(archive, f"NVSS J{number:06d}.0+160000")
        spent.append(time.process_time() - begin)
        assert len(curve) == 3 * 365
    assert np.median(spent) < 0.050
