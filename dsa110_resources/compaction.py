"""Light curves in few files: closed months of day partitions copied into hash buckets of source_id.

The day partitions stay the truth. A compacted month lies under ``cache/`` with a manifest of the day files it was made
from, and is used only while they are unchanged: a backfilled day is read from its own partition at once.
"""

from __future__ import annotations

import json
import os
import threading
import zlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dsa110_assets.science.schema import TABLES, require_table
from dsa110_resources.archive import Archive, atomic_directory
from dsa110_resources.parquet import ARROW_TYPES, arrow_schema, list_partition_files
from dsa110_resources.views import select_files

if TYPE_CHECKING:
    import pandas as pd

COMPACTED_TABLES = ("photometry_timeseries",)
"""Tables whose closed months may be compacted."""

BUCKET_ROWS = 250_000
BUCKET_ROW_GROUP = 4_096
MAX_BUCKETS = 256
_MANIFEST = "manifest.json"


@dataclass(frozen=True)
class CompactedMonth:
    """One compacted month.

    Parameters
    ----------
    directory : Path
        Where its buckets are.
    n_buckets : int
        Number of buckets; a source lies in bucket ``crc32(source_id) mod n_buckets``.
    inputs : dict of str to list of int
        Day → size in bytes and modification time in ns of its Parquet file.
    """

    directory: Path
    n_buckets: int
    inputs: dict[str, list[int]]

    def buckets(self, source_id: str | None = None) -> list[str]:
        """Files of all buckets, or of the one that holds a source."""
        wanted = range(self.n_buckets) if source_id is None else [bucket_of(source_id, self.n_buckets)]
        return [str(self.directory / f"bucket-{number:03d}.parquet") for number in wanted]


def bucket_of(source_id: str, n_buckets: int) -> int:
    """Bucket of a source: CRC-32 of its name modulo the number of buckets."""
    return zlib.crc32(source_id.encode()) % n_buckets


def compact_month(archive: Archive, table: str, month: str) -> CompactedMonth | None:
    """Copy a month's day partitions into hash buckets, sorted by source and time.

    Parameters
    ----------
    archive : Archive
        The archive.
    table : str
        One of :data:`COMPACTED_TABLES`.
    month : str
        ``YYYY-MM``.

    Returns
    -------
    CompactedMonth or None
        The month as it is now on disk; None when the month has no partition. A month that is already compacted from
        the same files is left as it is.
    """
    schema = require_table(table)
    days = _days_of(list_partition_files(archive, table)).get(month, [])
    if not days:
        return None
    inputs = _stamps(days)
    directory = _directory(archive, table, month)
    known = _read_manifest(directory)
    if known is not None and known.inputs == inputs:
        return known
    rows = pa.concat_tables([pq.read_table(path) for path in days], promote_options="default")
    stored = pa.schema([field for field in arrow_schema(schema) if field.name in rows.column_names])
    rows = rows.select(stored.names).cast(stored).sort_by([(name, "ascending") for name in schema.sort_by])
    n_buckets = min(MAX_BUCKETS, max(1, -(-rows.num_rows // BUCKET_ROWS)))
    with atomic_directory(directory) as staged:
        staged.mkdir()
        _write_buckets(staged, rows, n_buckets)
        manifest = {"n_buckets": n_buckets, "n_rows": rows.num_rows, "inputs": inputs}
        (staged / _MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    return CompactedMonth(directory, n_buckets, inputs)


def compact_closed_months(archive: Archive, table: str, *, before: str) -> list[str]:
    """Compact every month that ended before a month; returns those that were (re)made or already whole.

    Parameters
    ----------
    archive : Archive
        The archive.
    table : str
        One of :data:`COMPACTED_TABLES`.
    before : str
        First month that is still open, ``YYYY-MM``.
    """
    months = sorted(month for month in _days_of(list_partition_files(archive, table)) if month < before)
    for month in months:
        compact_month(archive, table, month)
    return months


def light_curve_files(archive: Archive, table: str, source_id: str | None = None) -> list[str]:
    """Files that together hold every row of a compacted table once (or every row of one source).

    Parameters
    ----------
    archive : Archive
        The archive.
    table : str
        One of :data:`COMPACTED_TABLES`.
    source_id : str, optional
        Only this source is wanted: other sources' rows may be missing from the files.
    """
    files: list[str] = []
    for month, days in sorted(_days_of(list_partition_files(archive, table)).items()):
        compacted = _read_manifest(_directory(archive, table, month))
        if compacted is not None and compacted.inputs == _stamps(days):
            files += compacted.buckets(source_id)
        else:
            files += days
    return files


def read_light_curve(
    archive: Archive, source_id: str, *, kind: str | None = None, columns: Sequence[str] | None = None
) -> pd.DataFrame:
    """Every row of one source of ``photometry_timeseries``, in order of time.

    Parameters
    ----------
    archive : Archive
        The archive.
    source_id : str
        Source name.
    kind : str, optional
        ``tile`` or ``daily``; both when None.
    columns : sequence of str, optional
        Columns wanted; all when None.

    Returns
    -------
    pandas.DataFrame
        Empty, with the same columns, when the source was never measured.
    """
    schema = TABLES["photometry_timeseries"]
    wanted = [schema.column(name).name for name in (columns or schema.names)]
    files = light_curve_files(archive, schema.name, source_id)
    if not files:
        empty = pa.schema([(name, ARROW_TYPES[schema.column(name).dtype]) for name in wanted]).empty_table()
        return empty.to_pandas()  # type: ignore[no-any-return]
    chosen = ", ".join(f'"{name}"' for name in wanted)
    conditions = "source_id = $source" + (" AND kind = $kind" if kind else "")
    parameters: dict[str, Any] = {"source": source_id} | ({"kind": kind} if kind else {})
    connection = _engine(threading.get_ident())
    connection.execute("SET VARIABLE files = $1", [files])
    select = f"SELECT {chosen} FROM ({select_files(schema, 'files')}) WHERE {conditions} ORDER BY mjd, kind"  # noqa: S608
    frame: pd.DataFrame = connection.sql(select, params=parameters).to_arrow_table().to_pandas()
    return frame


@lru_cache(maxsize=8)
def _engine(_thread: int) -> duckdb.DuckDBPyConnection:
    """DuckDB of a thread: opening one takes as long as reading a curve, and it remembers the files' footers."""
    engine = duckdb.connect(config={"threads": 1})
    engine.execute("SET parquet_metadata_cache = true")
    return engine


def _directory(archive: Archive, table: str, month: str) -> Path:
    return archive.root / "cache" / "tables" / table / month


def _days_of(files: Sequence[str]) -> dict[str, list[str]]:
    months: dict[str, list[str]] = defaultdict(list)
    for path in files:
        months[path.rsplit("/", 2)[1][:7]].append(path)
    return months


def _stamps(files: Sequence[str]) -> dict[str, list[int]]:
    stamps = {}
    for path in files:
        status = os.stat(path)  # noqa: PTH116 (called for a year of files at every query)
        stamps[path.rsplit("/", 2)[1]] = [status.st_size, status.st_mtime_ns]
    return stamps


def _read_manifest(directory: Path) -> CompactedMonth | None:
    try:
        manifest = json.loads((directory / _MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return CompactedMonth(directory, int(manifest["n_buckets"]), dict(manifest["inputs"]))


def _write_buckets(directory: Path, rows: pa.Table, n_buckets: int) -> None:
    encoded = rows["source_id"].combine_chunks().dictionary_encode()
    number = np.array([bucket_of(name, n_buckets) for name in encoded.dictionary.to_pylist()], dtype=np.int64)
    bucket = number[encoded.indices.to_numpy(zero_copy_only=False)] if len(rows) else np.zeros(0, dtype=np.int64)
    for k in range(n_buckets):
        part = rows.filter(pa.array(bucket == k))
        pq.write_table(part, directory / f"bucket-{k:03d}.parquet", compression="zstd", row_group_size=BUCKET_ROW_GROUP)
