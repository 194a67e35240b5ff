"""How declared columns look in Parquet, and which files a table has."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from dsa110_assets.science.schema import TableSchema
from dsa110_resources.archive import Archive

PARTITION_FILE = "part.parquet"

ARROW_TYPES: dict[str, pa.DataType] = {
    "string": pa.string(),
    "float64": pa.float64(),
    "float32": pa.float32(),
    "int64": pa.int64(),
    "int32": pa.int32(),
    "bool": pa.bool_(),
    "timestamp": pa.timestamp("us", tz="UTC"),
    "list<float64>": pa.list_(pa.float64()),
}
"""Logical types of the schema as Arrow types."""


def arrow_schema(schema: TableSchema) -> pa.Schema:
    """Parquet schema of a table: unit, UCD and description as field metadata, stable field ids.

    Parameters
    ----------
    schema : TableSchema
        The declaration.

    Returns
    -------
    pyarrow.Schema
    """
    fields = [
        pa.field(
            column.name,
            ARROW_TYPES[column.dtype],
            nullable=not column.required,
            metadata={
                "unit": column.unit,
                "ucd": column.ucd,
                "description": column.description,
                "PARQUET:field_id": str(column.field_id),
            },
        )
        for column in schema.columns
    ]
    return pa.schema(fields, metadata={"table": schema.name, "description": schema.description})


def list_partition_files(archive: Archive, table: str) -> list[str]:
    """Parquet files of a table's partitions, in the order of their keys.

    Parameters
    ----------
    archive : Archive
        The archive.
    table : str
        Table name.

    Returns
    -------
    list of str
        Absolute paths; empty when the table has no partition. Unfinished partitions are left out.
    """
    directory = Path(archive.table_dir(table)).absolute()
    try:
        with os.scandir(directory) as entries:
            names = sorted(entry.name for entry in entries if not entry.name.startswith("."))
    except FileNotFoundError:
        return []
    root = os.fspath(directory)
    files = (f"{root}/{name}/{PARTITION_FILE}" for name in names)
    return [path for path in files if os.path.exists(path)]  # noqa: PTH110 (10,000 Path objects cost 50 ms)


def count_rows(path: str) -> int:
    """Rows of a Parquet file, from its footer."""
    return int(pq.read_metadata(path).num_rows)
