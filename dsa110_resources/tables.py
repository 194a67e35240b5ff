"""Science tables: Parquet partitions that are written whole, and read as data frames.

Queries over all of them are in :mod:`dsa110_resources.query`; ``connect`` is offered here too.
"""

from __future__ import annotations

import errno
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dsa110_assets.science.schema import Column, SchemaError, TableSchema, require_table
from dsa110_resources.archive import Archive, atomic_file
from dsa110_resources.errors import CorruptInputError, DiskFullError, PermanentError
from dsa110_resources.parquet import ARROW_TYPES, arrow_schema, list_partition_files
from dsa110_resources.query import ArchiveConnection, connect

__all__ = [
    "ArchiveConnection",
    "arrow_schema",
    "connect",
    "list_partitions",
    "partition_files",
    "read_partition",
    "read_table",
    "write_partition",
]

ROW_GROUP_ROWS = 20_000
"""Rows per Parquet row group: a source's rows in a sorted day cost one or two groups."""

_PANDAS_NULLABLE = {pa.int64(): pd.Int64Dtype(), pa.int32(): pd.Int32Dtype(), pa.bool_(): pd.BooleanDtype()}


def write_partition(archive: Archive, table: str, partition: str, frame: pd.DataFrame) -> Path:
    """Replace one partition of a table, whole or not at all.

    Columns that are absent and may be null are added as nulls; the columns ``day`` and ``catalogue_version`` of
    day and catalogue partitions are filled from the partition key when absent. Rows are sorted as declared.

    Parameters
    ----------
    archive : Archive
        The archive.
    table : str
        Table name.
    partition : str
        Partition key: group window, hour, day, mosaic name or catalogue version.
    frame : pandas.DataFrame
        Rows; an empty frame is a valid partition (measured, nothing found).

    Returns
    -------
    Path
        The Parquet file.

    Raises
    ------
    PermanentError
        When the frame does not fit the schema (unknown column, wrong type, null or duplicate key, naive time).
    DiskFullError
        When there is no space left.
    """
    schema = require_table(table)
    try:
        rows = _to_arrow(schema, partition, frame)
    except (SchemaError, pa.ArrowException, ValueError, TypeError) as error:
        raise PermanentError(
            f"rows do not fit table {table}: {error}",
            partition=partition,
            cure="give the columns of dsa110_assets.science.schema with their types",
        ) from error
    target = archive.table_partition(table, partition)
    try:
        with atomic_file(target) as staged:
            pq.write_table(rows, staged, compression="zstd", row_group_size=ROW_GROUP_ROWS)
            _require_rows(staged, rows.num_rows, partition)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise DiskFullError(
                f"no space left for table {table}", partition=partition, path=target, cure="free space, then re-run"
            ) from error
        raise
    return target


def read_partition(archive: Archive, table: str, partition: str) -> pd.DataFrame | None:
    """One partition as a data frame; None when it was never written (which is not the same as empty)."""
    path = archive.table_partition(table, partition)
    if not path.is_file():
        return None
    return _to_pandas(require_table(table), [_read_file(require_table(table), path, None)])


def read_table(
    archive: Archive, table: str, partitions: Sequence[str] | None = None, *, columns: Sequence[str] | None = None
) -> pd.DataFrame:
    """Rows of a table, partition after partition.

    Parameters
    ----------
    archive : Archive
        The archive.
    table : str
        Table name.
    partitions : sequence of str, optional
        Partition keys; all when None. Partitions that were never written contribute nothing.
    columns : sequence of str, optional
        Stored columns wanted; all when None.

    Returns
    -------
    pandas.DataFrame
        Columns of the schema with its types, also when there are no rows. Integer and boolean columns that may be
        null have pandas' nullable types.
    """
    schema = require_table(table)
    wanted = schema if columns is None else _selected(schema, columns)
    if partitions is None:
        files = partition_files(archive, table)
    else:
        files = [path for path in (archive.table_partition(table, key) for key in partitions) if path.is_file()]
    return _to_pandas(wanted, [_read_file(wanted, path, list(wanted.names)) for path in files])


def list_partitions(archive: Archive, table: str) -> list[str]:
    """Keys of the partitions that exist, in order.

    Parameters
    ----------
    archive : Archive
        The archive.
    table : str
        Table name.

    Returns
    -------
    list of str
        Keys as given to :func:`write_partition` (times with colons).
    """
    return [_partition_key(path.parent.name) for path in partition_files(archive, table)]


def partition_files(archive: Archive, table: str) -> list[Path]:
    """Parquet files of the partitions that exist, in the order of their keys."""
    return [Path(name) for name in list_partition_files(archive, require_table(table).name)]


def _partition_key(directory: str) -> str:
    """Undo the path form of a partition key: underscores of a clock time become colons."""
    found = re.fullmatch(r"(\d{4}-\d{2}-\d{2}T\d{2})_(\d{2})(?:_(\d{2}))?", directory)
    return ":".join(part for part in found.groups() if part) if found else directory


def _to_arrow(schema: TableSchema, partition: str, frame: pd.DataFrame) -> pa.Table:
    unknown = sorted(set(frame.columns) - set(schema.names))
    if unknown:
        msg = f"unknown columns {', '.join(map(str, unknown))}"
        raise SchemaError(msg)
    filled = {"day": partition[:10], "catalogue_version": partition if schema.partition == "catalogue" else None}
    arrays = []
    for column in schema.columns:
        if column.name in frame.columns:
            arrays.append(_column_array(column, frame[column.name]))
        else:
            value = filled.get(column.name)
            arrays.append(pa.array([value] * len(frame), type=ARROW_TYPES[column.dtype]))
        if column.required and arrays[-1].null_count:
            msg = f"required column {column.name} is missing or has nulls"
            raise SchemaError(msg)
    rows = pa.Table.from_arrays(arrays, schema=arrow_schema(schema))
    order = schema.sort_by or schema.key
    rows = rows.sort_by([(name, "ascending") for name in order]) if rows.num_rows else rows
    _require_unique(schema, rows)
    return rows


def _column_array(column: Column, values: pd.Series) -> pa.Array:
    """One column as Arrow, without any silent loss; NaN becomes null, since SQL sorts NaN above every number."""
    kind = ARROW_TYPES[column.dtype]
    if column.dtype == "timestamp":
        return _time_array(column, values)
    if column.dtype == "list<float64>":
        return pa.array([_floats(item) for item in values], type=kind)
    try:
        array = pa.array(values, from_pandas=True)
        return array.cast(kind, safe=not pa.types.is_floating(kind))
    except pa.ArrowException as error:
        msg = f"column {column.name} should be {column.dtype}: {error}"
        raise SchemaError(msg) from error


def _time_array(column: Column, values: pd.Series) -> pa.Array:
    if isinstance(values.dtype, pd.DatetimeTZDtype):
        return pa.array(values.dt.tz_convert("UTC").dt.as_unit("us"), type=ARROW_TYPES["timestamp"], from_pandas=True)
    stamps = []
    for value in values:
        stamp = None if _is_missing(value) else pd.Timestamp(getattr(value, "datetime", value))
        if stamp is not None and stamp.tzinfo is None:
            if not isinstance(value, str) and not hasattr(value, "scale"):
                msg = f"column {column.name} has a time without a zone; use UTC"
                raise SchemaError(msg)
            stamp = stamp.tz_localize("UTC")
        stamps.append(None if stamp is None else stamp.tz_convert("UTC").to_pydatetime())
    return pa.array(stamps, type=ARROW_TYPES["timestamp"])


def _floats(item: Any) -> list[float | None] | None:
    return None if _is_missing(item) else [None if x is None or math.isnan(x) else float(x) for x in item]


def _is_missing(value: object) -> bool:
    if value is None:
        return True
    missing = pd.isna(value) if not hasattr(value, "__len__") or isinstance(value, str) else False  # type: ignore[call-overload]
    return bool(missing)


def _require_unique(schema: TableSchema, rows: pa.Table) -> None:
    if rows.num_rows < 2:
        return
    groups = rows.select(list(schema.key)).group_by(list(schema.key)).aggregate([([], "count_all")])
    if groups.num_rows == rows.num_rows:
        return
    repeated = groups.filter(pc.greater(groups["count_all"], 1)).slice(0, 1).to_pylist()[0]
    named = ", ".join(f"{name}={repeated[name]}" for name in schema.key)
    msg = f"{repeated['count_all']} rows with the same key ({named})"
    raise SchemaError(msg)


def _require_rows(path: Path, n_rows: int, partition: str) -> None:
    found = pq.read_metadata(path).num_rows
    if found != n_rows:
        raise CorruptInputError(
            f"{found} rows on disk, {n_rows} expected", partition=partition, path=path, cure="check the disk, re-run"
        )


def _selected(schema: TableSchema, columns: Sequence[str]) -> TableSchema:
    chosen = tuple(schema.column(name) for name in columns)
    return TableSchema(schema.name, schema.partition, (), chosen)


def _read_file(schema: TableSchema, path: Path, columns: list[str] | None) -> pa.Table:
    """Read a file and bring it to the present schema (columns added since it was written are null)."""
    try:
        handle = pq.ParquetFile(path)
        present = set(handle.schema_arrow.names)
        rows = handle.read(columns=[name for name in (columns or schema.names) if name in present])
        n_rows = handle.metadata.num_rows
    except pa.ArrowException as error:
        raise CorruptInputError(
            f"unreadable Parquet file: {error}", path=path, cure="re-materialise that partition"
        ) from error
    arrays = []
    for column in schema.columns:
        kind = ARROW_TYPES[column.dtype]
        arrays.append(rows[column.name].cast(kind) if column.name in present else pa.nulls(n_rows, kind))
    return pa.Table.from_arrays(arrays, names=list(schema.names))


def _to_pandas(schema: TableSchema, parts: list[pa.Table]) -> pd.DataFrame:
    optional = {column.name for column in schema.columns if not column.required}
    empty = pa.schema([(column.name, ARROW_TYPES[column.dtype]) for column in schema.columns]).empty_table()
    rows = pa.concat_tables([empty, *parts])
    frame: pd.DataFrame = rows.to_pandas()
    for field in rows.schema:
        if field.name in optional and field.type in _PANDAS_NULLABLE:
            nullable = rows[field.name].to_pandas(types_mapper=_PANDAS_NULLABLE.get)
            frame[field.name] = nullable
    return frame
