"""Many partitions in few files: closed days and months copied together, sources in hash buckets of their names.

The partitions stay the truth. A compacted period lies under ``cache/`` with a manifest of the files it was made from,
and is used only while they are unchanged: a backfilled partition is read from its own file at once.
"""

from __future__ import annotations

import json
import os
import threading
import zlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
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

MONTH, DAY = len("2026-01"), len("2026-01-25")

COMPACTED_TABLES: dict[str, int] = {
    "photometry_timeseries": MONTH,
    "photometry": DAY,
    "images": MONTH,
    "ms_index": MONTH,
    "pointing_history": MONTH,
    "performance_metrics": MONTH,
    "qa_artifacts": MONTH,
}
"""Tables whose closed periods are compacted, and how much of a partition key names the period."""

BUCKET_ROWS = 250_000
BUCKET_ROW_GROUP = 4_096
MAX_BUCKETS = 256
_MANIFEST = "manifest.json"


@dataclass(frozen=True)
class CompactedPeriod:
    """One compacted day or month of a table.

    Parameters
    ----------
    directory : Path
        Where its buckets are.
    n_buckets : int
        Number of buckets; a source lies in bucket ``crc32(source_id) mod n_buckets``.
    inputs : dict of str to list of int
        Partition → size in bytes and modification time in ns of its Parquet file.
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


def compact_archive(archive: Archive, *, before: str) -> dict[str, list[str]]:
    """Compact every closed period of every table of :data:`COMPACTED_TABLES`.

    Parameters
    ----------
    archive : Archive
        The archive.
    before : str
        First day that is still open, ``YYYY-MM-DD``.

    Returns
    -------
    dict of str to list of str
        Table → its closed periods, now whole.
    """
    return {table: compact_closed(archive, table, before=before) for table in COMPACTED_TABLES}


def compact_closed(archive: Archive, table: str, *, before: str) -> list[str]:
    """Compact every period of a table that ended before a day (or month); returns those periods.

    Parameters
    ----------
    archive : Archive
        The archive.
    table : str
        One of :data:`COMPACTED_TABLES`.
    before : str
        First day that is still open, ``YYYY-MM-DD`` (or its month).
    """
    periods = _by_period(table, list_partition_files(archive, table))
    closed = sorted(period for period in periods if period < before[: COMPACTED_TABLES[table]])
    for period in closed:
        compact_period(archive, table, period)
    return closed


def compact_period(archive: Archive, table: str, period: str) -> CompactedPeriod | None:
    """Copy a period's partitions into few files, sorted by source where rows have one.

    Parameters
    ----------
    archive : Archive
        The archive.
    table : str
        One of :data:`COMPACTED_TABLES`.
    period : str
        ``YYYY-MM`` or ``YYYY-MM-DD``, as the table has it.

    Returns
    -------
    CompactedPeriod or None
        The period as it is now on disk; None when it has no partition. A period that is already compacted from the
        same files is left as it is.
    """
    schema = require_table(table)
    files = _by_period(table, list_partition_files(archive, table)).get(period, [])
    if not files:
        return None
    inputs = _stamps(files)
    directory = _directory(archive, table, period)
    known = _read_manifest(directory)
    if known is not None and known.inputs == inputs:
        return known
    rows = pa.concat_tables([pq.read_table(path) for path in files], promote_options="default")
    stored = pa.schema([field for field in arrow_schema(schema) if field.name in rows.column_names])
    order = dict.fromkeys([*(["source_id"] if "source_id" in schema.key else []), *(schema.sort_by or schema.key)])
    rows = rows.select(stored.names).cast(stored).sort_by([(name, "ascending") for name in order])
    n_buckets = min(MAX_BUCKETS, max(1, -(-rows.num_rows // BUCKET_ROWS))) if "source_id" in schema.key else 1
    with atomic_directory(directory) as staged:
        staged.mkdir()
        _write_buckets(staged, rows, n_buckets)
        manifest = {"n_buckets": n_buckets, "n_rows": rows.num_rows, "inputs": inputs}
        (staged / _MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    return CompactedPeriod(directory, n_buckets, inputs)


def find_table_files(archive: Archive, table: str, source_id: str | None = None) -> list[str]:
    """Files that together hold every row of a table once (or every row of one source).

    Parameters
    ----------
    archive : Archive
        The archive.
    table : str
        Table name.
    source_id : str, optional
        Only this source is wanted: other sources' rows may be missing from the files.

    Returns
    -------
    list of str
        Compacted files of periods that are unchanged since, the partitions' own files of all others.
    """
    found = list_partition_files(archive, table)
    compacted = _compacted_periods(archive, table)
    if not compacted:
        return found
    files: list[str] = []
    for period, own in sorted(_by_period(table, found).items()):
        known = _read_manifest(_directory(archive, table, period)) if period in compacted else None
        files += known.buckets(source_id) if known is not None and known.inputs == _stamps(own) else own
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
    files = find_table_files(archive, schema.name, source_id)
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


def _directory(archive: Archive, table: str, period: str) -> Path:
    return archive.root / "cache" / "tables" / table / period


def _compacted_periods(archive: Archive, table: str) -> set[str]:
    try:
        return {path.name for path in (archive.root / "cache" / "tables" / table).iterdir()}
    except FileNotFoundError:
        return set()


def _by_period(table: str, files: Sequence[str]) -> dict[str, list[str]]:
    length = COMPACTED_TABLES[table]
    periods: dict[str, list[str]] = defaultdict(list)
    for path in files:
        periods[path.rsplit("/", 2)[1][:length]].append(path)
    return periods


def _stamps(files: Sequence[str]) -> dict[str, list[int]]:
    stamps = {}
    for path in files:
        status = os.stat(path)  # noqa: PTH116 (called for a year of files at every query)
        stamps[path.rsplit("/", 2)[1]] = [status.st_size, status.st_mtime_ns]
    return stamps


def _read_manifest(directory: Path) -> CompactedPeriod | None:
    try:
        manifest = json.loads((directory / _MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return CompactedPeriod(directory, int(manifest["n_buckets"]), dict(manifest["inputs"]))


def _write_buckets(directory: Path, rows: pa.Table, n_buckets: int) -> None:
    for number, part in enumerate([rows] if n_buckets == 1 else _split(rows, n_buckets)):
        path = directory / f"bucket-{number:03d}.parquet"
        pq.write_table(part, path, compression="zstd", row_group_size=BUCKET_ROW_GROUP)


def _split(rows: pa.Table, n_buckets: int) -> Iterator[pa.Table]:
    encoded = rows["source_id"].combine_chunks().dictionary_encode()
    number = np.array([bucket_of(name, n_buckets) for name in encoded.dictionary.to_pylist()], dtype=np.int64)
    bucket = number[encoded.indices.to_numpy(zero_copy_only=False)]
    for wanted in range(n_buckets):
        yield rows.filter(pa.array(bucket == wanted))
