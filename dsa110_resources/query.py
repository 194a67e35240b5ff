"""SQL over the archive: DuckDB in memory, every table and every name of the customer as a view.

Nothing is listed or copied before a query names it, so that a session over tens of thousands of partitions opens at
once and always sees what is on disk at the time of the query.
"""

# ruff: noqa: S608 (names come from the schema, values are bound or are numbers of our own)
from __future__ import annotations

import json
import os
import re
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import duckdb
import pyarrow as pa

from dsa110_assets.science.schema import OPERATIONS, TABLES
from dsa110_resources import views
from dsa110_resources.archive import Archive
from dsa110_resources.compaction import find_table_files
from dsa110_resources.errors import TransientError
from dsa110_resources.parquet import count_rows

DEFAULT_METHOD = "residual"
"""Photometry method that the ``photometry`` view shows."""

CURRENT_CATALOGUE = "sources.json"
"""Provenance of the current catalogue version, in the catalogue folder."""

_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_RESTS_ON: dict[str, tuple[str, ...]] = {
    "ese_candidates": ("ese_candidates", "candidate_triage"),
    "good_references": ("sources",),
    "final_references": ("sources", "final_references_table"),
}
"""Views that rest on other tables than the one they are named after."""


class ArchiveConnection:
    """A DuckDB connection whose views are bound when a query names them.

    ``execute``, ``sql`` and ``query`` work as DuckDB's own; every other attribute is the connection's.

    Parameters
    ----------
    archive : Archive
        The archive.
    operations_url : str, optional
        SQLAlchemy URL of the operations database; the archive's SQLite file when None.
    default_method : str
        Photometry method that the ``photometry`` view shows; ``photometry_history`` shows all.
    """

    def __init__(
        self, archive: Archive, operations_url: str | None = None, *, default_method: str = DEFAULT_METHOD
    ) -> None:
        self._archive = archive
        self._url = operations_url or f"sqlite:///{Path(archive.state_root, 'operations.sqlite3').absolute()}"
        self._method = default_method
        self._named: set[str] = set()
        self._duckdb = duckdb.connect(
            config={"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"}
        )
        self._duckdb.execute(
            "SET TimeZone = 'UTC'; SET python_scan_all_frames = true; SET parquet_metadata_cache = true"
        )
        self._declare()

    def execute(self, query: str, parameters: object = None) -> duckdb.DuckDBPyConnection:
        """Run a query after binding the tables it names; returns the connection to fetch from."""
        self.bind(query)
        try:
            return self._duckdb.execute(query, parameters)
        except duckdb.CatalogException:
            if not self._bind_undeclared(query):
                raise
            return self._duckdb.execute(query, parameters)

    def sql(self, query: str, **options: Any) -> duckdb.DuckDBPyRelation:
        """DuckDB's relation of a query, after binding the tables it names."""
        self.bind(query)
        try:
            return self._duckdb.sql(query, **options)
        except duckdb.CatalogException:
            if not self._bind_undeclared(query):
                raise
            return self._duckdb.sql(query, **options)

    query = sql

    def cursor(self) -> ArchiveConnection:
        """A connection of one's own (a thread needs one)."""
        return ArchiveConnection(self._archive, self._url, default_method=self._method)

    def close(self) -> None:
        """Close the connection."""
        self._duckdb.close()

    def bind(self, query: str) -> None:
        """Bring the tables named in a query, or in an earlier one, up to date.

        Parameters
        ----------
        query : str
            SQL text; only the words in it matter.
        """
        words = {word.lower() for word in _WORD.findall(query)}
        for name in sorted(words):
            self._named.update(_RESTS_ON.get(name, (name.removesuffix("_history"),)))
        for table in sorted(self._named & TABLES.keys()):
            self._bind_files(table)
        for table in sorted(self._named & OPERATIONS.keys()):
            self._bind_operations(table)

    def __getattr__(self, name: str) -> Any:
        """Everything else is DuckDB's."""
        return getattr(self._duckdb, name)

    def __enter__(self) -> Self:
        """Enter a context that closes the connection."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection."""
        self.close()

    def _declare(self) -> None:
        """Create every view over empty tables of the right types."""
        self._duckdb.execute("CREATE SCHEMA store; CREATE SCHEMA operations; BEGIN")
        for name, schema in TABLES.items():
            nothing = views.select_nothing(schema.columns)
            for relation in (name, f"{name}_current"):
                self._duckdb.execute(f"CREATE VIEW store.{relation} AS {nothing}")
        for name, schema in OPERATIONS.items():
            nothing = views.select_nothing(schema.columns, views.VIEW_TYPES)
            self._duckdb.execute(f"CREATE TABLE operations.{name} AS {nothing}")
            self._duckdb.execute(f"CREATE VIEW main.{name} AS SELECT * FROM operations.{name}")
        declared = {
            **views.science_views(self._method),
            **views.reference_views(**views.REFERENCE_RULE),
        }
        for name, select in declared.items():
            self._duckdb.execute(f"CREATE VIEW main.{name} AS {select}")
        self._duckdb.execute(views.COLUMN_DESCRIPTIONS)
        self._duckdb.execute("COMMIT")
        self._known_views = set(declared) | set(OPERATIONS)

    def _bind_files(self, table: str) -> None:
        """Point a table's store views at the Parquet files that exist now."""
        files = find_table_files(self._archive, table)
        if not files:
            return
        self._point(table, table, files)
        if table in views.AS_OF_DAY + views.CURRENT_VERSION:
            self._point(f"{table}_current", table, self._current(table, files))
        if table == "sources":
            for name, select in views.reference_views(**read_reference_rule(self._archive)).items():
                self._duckdb.execute(f"CREATE OR REPLACE VIEW main.{name} AS {select}")

    def _point(self, relation: str, table: str, files: list[str]) -> None:
        variable = f"files_{relation}"
        self._duckdb.execute(f"SET VARIABLE {variable} = $1", [files])
        select = views.select_files(TABLES[table], variable)
        self._duckdb.execute(f"CREATE OR REPLACE VIEW store.{relation} AS {select}")

    def _current(self, table: str, files: list[str]) -> list[str]:
        """Files of the partition that the main view shows: the last day that has rows, or the version in use."""
        if table not in views.CURRENT_VERSION:
            return next(([path] for path in reversed(files) if count_rows(path)), files[-1:])
        version = read_current_version(self._archive)
        chosen = [path for path in files if version is not None and Path(path).parent.name == version]
        return chosen or [max(files, key=lambda path: os.stat(path).st_mtime_ns)]  # noqa: PTH116

    def _bind_undeclared(self, query: str) -> bool:
        """Copy further tables of the operations database that a query names; False when it names none."""
        from dsa110_resources.operations_copy import list_operations_tables  # SQLAlchemy: half of the start-up time

        try:
            others = set(list_operations_tables(self._url)) - self._known_views
        except TransientError:
            return False  # DuckDB's message says which table is missing
        named = others & {word.lower() for word in _WORD.findall(query)}
        for table in sorted(named):
            self._bind_operations(table)
        return bool(named)

    def _bind_operations(self, table: str) -> None:
        """Copy a table of the operations database into memory."""
        from dsa110_resources.operations_copy import read_operations_table

        rows = read_operations_table(self._url, table)
        if rows is None:
            return
        declared = {column.name: column for column in OPERATIONS[table].columns} if table in OPERATIONS else {}
        for position, (name, kind) in enumerate(zip(rows.schema.names, rows.schema.types, strict=True)):
            if pa.types.is_timestamp(kind):  # as in every view: UTC without a zone
                rows = rows.set_column(position, name, rows[name].cast(pa.timestamp("us")))
        for name in declared.keys() - set(rows.schema.names):
            rows = rows.append_column(name, pa.nulls(rows.num_rows))
        shown = [f"CAST({views.quote(name)} AS {views.VIEW_TYPES[column.dtype]}) AS {views.quote(name)}"
                 for name, column in declared.items()]  # fmt: skip
        shown += [views.quote(name) for name in rows.schema.names if name not in declared]
        self._duckdb.register("_copied", rows)
        self._duckdb.execute(f"CREATE OR REPLACE TABLE operations.{table} AS SELECT {', '.join(shown)} FROM _copied")
        self._duckdb.unregister("_copied")
        self._duckdb.execute(f"CREATE OR REPLACE VIEW main.{table} AS SELECT * FROM operations.{table}")


def connect(
    archive: Archive, operations_url: str | None = None, *, default_method: str = DEFAULT_METHOD
) -> ArchiveConnection:
    """Open an SQL session over the archive (see :class:`ArchiveConnection`)."""
    return ArchiveConnection(archive, operations_url, default_method=default_method)


def read_current_version(archive: Archive) -> str | None:
    """Version of the catalogue in use; None when none was built."""
    try:
        return str(json.loads((archive.catalogs / CURRENT_CATALOGUE).read_text(encoding="utf-8"))["version"])
    except FileNotFoundError:
        return None


def read_reference_rule(archive: Archive) -> dict[str, float]:
    """Thresholds of the reference views: those the current catalogue version was built with."""
    try:
        built_with = json.loads((archive.catalogs / CURRENT_CATALOGUE).read_text(encoding="utf-8"))["options"]
    except FileNotFoundError:
        return dict(views.REFERENCE_RULE)
    return {name: float(built_with[name]) for name in views.REFERENCE_RULE}
