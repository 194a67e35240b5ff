"""Connections to the operations database: SQLite (WAL) or PostgreSQL, with one writer at a time."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.pool import NullPool

_BUSY_TIMEOUT_S = 30.0
_WRITE_LOCK_KEY = 0xD5A110
"""Advisory lock that serialises writers on PostgreSQL (on SQLite: BEGIN IMMEDIATE)."""


class Database:
    """One operations database; building it opens nothing.

    Parameters
    ----------
    url
        SQLAlchemy URL, ``sqlite:///…`` or ``postgresql+psycopg2://…`` (``postgresql://`` and ``postgres://`` are
        taken as psycopg2).
    """

    def __init__(self, url: str) -> None:
        self.url = _with_driver(url)
        options: dict[str, Any] = {"pool_pre_ping": True, "pool_size": 2}
        if self.url.get_backend_name() == "sqlite":
            # no pool: a connection held by an idle process would keep the WAL from being checkpointed
            options = {"poolclass": NullPool, "connect_args": {"timeout": _BUSY_TIMEOUT_S}}
        self.engine = sa.create_engine(self.url, **options)
        if self.is_sqlite:
            sa.event.listen(self.engine, "connect", _configure_sqlite)
            sa.event.listen(self.engine, "begin", _begin_sqlite)

    @property
    def is_sqlite(self) -> bool:
        """Whether this is the default, a file."""
        return self.url.get_backend_name() == "sqlite"

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Open a transaction that only reads."""
        self._make_folder()
        with self.engine.begin() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """Open a transaction that no other writer of any process overlaps."""
        self._make_folder()
        with self.engine.execution_options(dsa110_write=True).begin() as connection:
            if not self.is_sqlite:
                connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _WRITE_LOCK_KEY})
            yield connection

    def close(self) -> None:
        """Give back pooled connections."""
        self.engine.dispose()

    def _make_folder(self) -> None:
        if self.is_sqlite and self.url.database and self.url.database != ":memory:":
            Path(self.url.database).parent.mkdir(parents=True, exist_ok=True)


class UtcDateTime(sa.types.TypeDecorator[datetime]):
    """An aware UTC moment: TIMESTAMP WITH TIME ZONE on PostgreSQL, ISO text on SQLite."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        """Refuse naive moments; SQLite stores UTC without an offset."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("naive datetime: give it a time zone")
        aware = value.astimezone(UTC)
        return aware.replace(tzinfo=None) if dialect.name == "sqlite" else aware

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:  # noqa: ARG002 - SQLAlchemy's signature
        """Give every moment its zone back."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def utc_now() -> datetime:
    """The clock (UTC); tests pass their own moments instead."""
    return datetime.now(UTC)


def _with_driver(url: str) -> sa.URL:
    parsed = sa.make_url(url)
    if parsed.drivername in {"postgres", "postgresql"}:
        return parsed.set(drivername="postgresql+psycopg2")
    return parsed


def _configure_sqlite(connection: Any, _record: object) -> None:
    # SQLAlchemy, not sqlite3, decides when a transaction begins
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.close()


def _begin_sqlite(connection: sa.Connection) -> None:
    is_write = connection.get_execution_options().get("dsa110_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if is_write else "BEGIN")
