"""Tables of the operations database as Arrow tables, read through SQLAlchemy.

DuckDB's own database connectors are extensions that a machine without a network cannot load; the tables are small
enough to be copied when a query names them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from dsa110_assets.science.schema import OPERATIONS
from dsa110_resources.errors import TransientError
from dsa110_resources.parquet import ARROW_TYPES

UNIX_EPOCH_MJD = 40587.0
CONNECT_TIMEOUT_S = 10
_MJD_LIMIT = 1.0e6
"""A bare number stored as a time is an MJD below this, Unix seconds above."""


def read_operations_table(url: str, table: str) -> pa.Table | None:
    """All rows of one table of the operations database.

    Parameters
    ----------
    url : str
        SQLAlchemy URL (SQLite or PostgreSQL).
    table : str
        Table name.

    Returns
    -------
    pyarrow.Table or None
        Columns that the schema declares have its types, others the types their values show; None when the database
        or the table does not exist yet.

    Raises
    ------
    TransientError
        When the database cannot be reached.
    """
    address = _address(url)
    if _is_absent(address):
        return None
    engine = _engine(address)
    try:
        with engine.connect() as connection:
            if not sa.inspect(connection).has_table(table):
                return None
            found = connection.execute(sa.select(sa.text("*")).select_from(sa.table(table)))
            names = list(found.keys())
            return _arrow_table(table, names, list(found.fetchall()))
    except SQLAlchemyError as error:
        raise TransientError(
            f"cannot read {table} of the operations database {address.render_as_string(hide_password=True)}: {error}",
            cure="check DSA110_OPERATIONS_URL and that the database runs",
        ) from error
    finally:
        engine.dispose()


def list_operations_tables(url: str) -> list[str]:
    """Names of the tables that the operations database has now (empty when there is no database yet)."""
    address = _address(url)
    if _is_absent(address):
        return []
    engine = _engine(address)
    try:
        return sorted(sa.inspect(engine).get_table_names())
    except SQLAlchemyError as error:
        raise TransientError(
            f"cannot reach the operations database {address.render_as_string(hide_password=True)}",
            cure="check DSA110_OPERATIONS_URL and that the database runs",
        ) from error
    finally:
        engine.dispose()


def _address(url: str) -> sa.URL:
    address = sa.make_url(url)
    is_bare = address.drivername in {"postgres", "postgresql"}
    return address.set(drivername="postgresql+psycopg2") if is_bare else address


def _engine(address: sa.URL) -> sa.Engine:
    limits = {} if address.get_backend_name() == "sqlite" else {"connect_timeout": CONNECT_TIMEOUT_S}
    return sa.create_engine(address, poolclass=sa.pool.NullPool, connect_args=limits)


def _is_absent(address: sa.URL) -> bool:
    """Whether it is an SQLite file that does not exist (opening it would create it)."""
    if address.get_backend_name() != "sqlite" or not address.database or address.database == ":memory:":
        return False
    return not Path(address.database.removeprefix("file:")).is_file()


def _arrow_table(table: str, names: Sequence[str], rows: Sequence[Sequence[Any]]) -> pa.Table:
    declared = _declared_types(table)
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(names)
    arrays = [_array(declared.get(name), values) for name, values in zip(names, columns, strict=True)]
    return pa.Table.from_arrays(arrays, names=list(names))


def _declared_types(table: str) -> dict[str, str]:
    """Logical types of the columns that the schema, or else the database's own declaration, knows."""
    from dsa110_resources.operations.engine import UtcDateTime
    from dsa110_resources.operations.schema import METADATA

    types: dict[str, str] = {}
    if table in METADATA.tables:
        for column in METADATA.tables[table].columns:
            if isinstance(column.type, UtcDateTime):
                types[column.name] = "timestamp"
            elif isinstance(column.type, sa.Boolean):
                types[column.name] = "bool"
    if table in OPERATIONS:
        types |= {column.name: column.dtype for column in OPERATIONS[table].columns}
    return types


def _array(dtype: str | None, values: Iterable[Any]) -> pa.Array:
    if dtype is None:
        return _undeclared(list(values))
    convert = _CONVERTERS[dtype]
    return pa.array([None if value is None else convert(value) for value in values], type=ARROW_TYPES[dtype])


def _undeclared(values: list[Any]) -> pa.Array:
    if any(isinstance(value, datetime) for value in values):
        return pa.array([None if v is None else _instant(v) for v in values], type=ARROW_TYPES["timestamp"])
    try:
        array = pa.array(values)
    except pa.ArrowException:
        array = pa.array([None if value is None else str(value) for value in values])
    return array.cast(pa.string()) if pa.types.is_null(array.type) else array


def _instant(value: Any) -> datetime:
    """A stored time as an aware one: text and naive times are UTC, numbers are MJD or Unix seconds."""
    if isinstance(value, int | float):
        seconds = (value - UNIX_EPOCH_MJD) * 86400.0 if value < _MJD_LIMIT else float(value)
        return datetime.fromtimestamp(seconds, tz=UTC)
    stamp = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    return stamp.replace(tzinfo=UTC) if stamp.tzinfo is None else stamp.astimezone(UTC)


_CONVERTERS: dict[str, Callable[[Any], Any]] = {
    "string": str,
    "float64": float,
    "float32": float,
    "int64": int,
    "int32": int,
    "bool": bool,
    "timestamp": _instant,
    "list<float64>": list,
}
