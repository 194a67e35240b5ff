"""Every table of the platform: column, type, unit, UCD and description, declared once.

``TABLES`` holds the Parquet tables by name, ``OPERATIONS`` those of the operations database.
"""

from __future__ import annotations

from dsa110_assets.science.flags import PhotometryFlag
from dsa110_assets.science.schema.catalogue import CATALOGUE_TABLES
from dsa110_assets.science.schema.columns import Alias, Column, SchemaError, TableSchema
from dsa110_assets.science.schema.derived import DERIVED_TABLES
from dsa110_assets.science.schema.operations import OPERATIONS_TABLES
from dsa110_assets.science.schema.series import SERIES_TABLES
from dsa110_assets.science.schema.tiles import TILE_TABLES

__all__ = [
    "OPERATIONS",
    "TABLES",
    "Alias",
    "Column",
    "PhotometryFlag",
    "SchemaError",
    "TableSchema",
    "require_table",
]

TABLES: dict[str, TableSchema] = {
    table.name: table for table in (*TILE_TABLES, *SERIES_TABLES, *DERIVED_TABLES, *CATALOGUE_TABLES)
}
"""Parquet tables by name."""

OPERATIONS: dict[str, TableSchema] = {table.name: table for table in OPERATIONS_TABLES}
"""Tables of the operations database by name."""


def require_table(name: str) -> TableSchema:
    """Schema of a Parquet table.

    Parameters
    ----------
    name : str
        Table name.

    Raises
    ------
    SchemaError
        When no table has that name.
    """
    try:
        return TABLES[name]
    except KeyError:
        msg = f"no table is called {name!r}; there are {', '.join(sorted(TABLES))}"
        raise SchemaError(msg) from None
