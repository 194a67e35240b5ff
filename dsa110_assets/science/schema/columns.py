"""The vocabulary of the schema: columns, aliases of the customer's names, and tables.

A column is declared once, with type, unit, UCD1+ and description; Parquet field metadata, SQL views, VOTables and the
documentation are all made from that declaration.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Literal

from dsa110_assets.science.errors import ScienceError

DType = Literal["string", "float64", "float32", "int64", "int32", "bool", "timestamp", "list<float64>"]
"""Logical types; ``timestamp`` is UTC with microseconds, every type may be null unless the column is required."""

PartitionKind = Literal["tile", "hour", "day", "tile or mosaic", "hour or day", "tile or day", "catalogue", "database"]


class SchemaError(ScienceError):
    """A table or column that does not exist, or a table that does not fit its declaration."""


@dataclass(frozen=True)
class Column:
    """One column.

    Parameters
    ----------
    name : str
        Name, with its unit where the type is a bare float.
    dtype : DType
        Logical type.
    unit : str
        VOUnit string; empty for counts, names and ratios.
    ucd : str
        UCD1+ of the IVOA controlled vocabulary.
    description : str
        One line for people.
    required : bool
        True when a row without it has no meaning (null is refused on writing).
    """

    name: str
    dtype: DType
    unit: str = ""
    ucd: str = ""
    description: str = ""
    required: bool = False

    @property
    def field_id(self) -> int:
        """Stable Parquet field id: it depends on the name alone, so that columns may be added between others."""
        return zlib.crc32(self.name.encode()) & 0x7FFFFFFF


@dataclass(frozen=True)
class Alias:
    """A view column computed from stored ones: the customer's name, often in mJy.

    Parameters
    ----------
    column : Column
        Name, type, unit, UCD and description as shown.
    expression : str
        SQL scalar expression over the stored columns (a name, ``name * 1000`` or ``NULL``).
    """

    column: Column
    expression: str


@dataclass(frozen=True)
class TableSchema:
    """One table.

    Parameters
    ----------
    name : str
        Table and view name.
    partition : PartitionKind
        What one partition holds.
    key : tuple of str
        Columns that identify a row within the whole table; unique within a partition.
    columns : tuple of Column
        Stored columns in order.
    aliases : tuple of Alias
        Further columns of the view.
    sort_by : tuple of str
        Order of rows in a partition (the key when empty).
    description : str
        One line for people.
    """

    name: str
    partition: PartitionKind
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    aliases: tuple[Alias, ...] = ()
    sort_by: tuple[str, ...] = ()
    description: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the stored columns in order."""
        return tuple(column.name for column in self.columns)

    @property
    def view_columns(self) -> tuple[Column, ...]:
        """Stored columns followed by the aliases, as the view shows them."""
        return self.columns + tuple(alias.column for alias in self.aliases)

    def column(self, name: str) -> Column:
        """Declaration of a stored or alias column.

        Raises
        ------
        SchemaError
            When there is no such column.
        """
        for column in self.view_columns:
            if column.name == name:
                return column
        msg = f"table {self.name} has no column {name!r}; it has {', '.join(c.name for c in self.view_columns)}"
        raise SchemaError(msg)


def text(name: str, description: str, *, ucd: str = "meta.note", required: bool = False) -> Column:
    """Declare a string column."""
    return Column(name, "string", "", ucd, description, required)


def number(name: str, unit: str, ucd: str, description: str, *, required: bool = False) -> Column:
    """Declare a double-precision column."""
    return Column(name, "float64", unit, ucd, description, required)


def count(name: str, description: str, *, ucd: str = "meta.number", required: bool = False) -> Column:
    """Declare an integer column."""
    return Column(name, "int64", "", ucd, description, required)


def flag(name: str, description: str) -> Column:
    """Declare a boolean column."""
    return Column(name, "bool", "", "meta.code", description)


def instant(name: str, description: str, *, ucd: str = "time") -> Column:
    """Declare a UTC time-stamp column."""
    return Column(name, "timestamp", "", ucd, description)


def mjd(name: str, description: str, *, ucd: str = "time.epoch", required: bool = False) -> Column:
    """Declare a Modified Julian Date (UTC) column."""
    return number(name, "d", ucd, f"{description}, MJD UTC", required=required)


def source_id() -> Column:
    """Declare the source name."""
    return text("source_id", "Source name of the master catalogue", ucd="meta.id;meta.main", required=True)


def position(prefix: str, what: str) -> tuple[Column, Column]:
    """Declare right ascension and declination (ICRS) of ``what``; ``prefix`` is empty or ends with an underscore."""
    main = ";meta.main" if not prefix else ""
    return (
        number(f"{prefix}ra_deg", "deg", f"pos.eq.ra{main}", f"Right ascension of {what}, ICRS"),
        number(f"{prefix}dec_deg", "deg", f"pos.eq.dec{main}", f"Declination of {what}, ICRS"),
    )


def renamed(column: Column, name: str, expression: str | None = None) -> Alias:
    """Declare a second name for a stored column (or for an expression of the same kind)."""
    again = Column(name, column.dtype, column.unit, column.ucd, column.description)
    return Alias(again, column.name if expression is None else expression)


def millijansky(columns: tuple[Column, ...], *stored: str) -> tuple[Alias, ...]:
    """Declare the ``*_mjy`` view columns of stored ``*_jy`` columns.

    Parameters
    ----------
    columns : tuple of Column
        The table's stored columns.
    stored : str
        Names ending in ``_jy``.
    """
    by_name = {column.name: column for column in columns}
    return tuple(
        Alias(
            Column(f"{name.removesuffix('_jy')}_mjy", "float64", "mJy", by_name[name].ucd, by_name[name].description),
            f"{name} * 1000",
        )
        for name in stored
    )
