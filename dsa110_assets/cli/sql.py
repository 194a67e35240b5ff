"""`dsa110 sql`: every table and view of the archive in DuckDB, from the prompt, a pipe or ``-c``."""

from __future__ import annotations

import csv
import json
import math
import sys
from collections.abc import Iterator, Sequence
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

if TYPE_CHECKING:
    import duckdb

    from dsa110_resources.query import ArchiveConnection

PROMPT, CONTINUED = "dsa110> ", "     -> "
ROWS_AT_PROMPT = 200
"""Rows of a result shown at the prompt; ``-c`` and pipes show all."""

_HELP = r"""\d          tables and views        \d NAME     columns of one, with units
\q          leave (or Ctrl-D)       any other line is SQL, ended by a semicolon"""


class Format(StrEnum):
    """How rows are written."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


def sql(
    query: Annotated[str | None, typer.Option("--command", "-c", help="Run this query and leave.")] = None,
    data_root: Annotated[Path | None, typer.Option(help="Archive; default: DSA110_DATA_ROOT.")] = None,
    output: Annotated[Format, typer.Option("--format", help="How rows are written.")] = Format.TABLE,
) -> None:
    """Query every table of the archive (DuckDB SQL); without -c: a prompt, or a script from standard input."""
    from dsa110_resources.errors import PermanentError

    session = open_session(data_root)
    with session:
        if query is None and sys.stdin.isatty():
            prompt(session, output)
            return
        try:
            run_script(session, query if query is not None else sys.stdin.read(), output, sys.stdout)
        except BrokenPipeError:  # `| head` has seen enough
            sys.stderr.close()
        except database_error() as error:
            raise PermanentError(str(error), cure="`dsa110 sql -c 'SHOW TABLES'` lists what there is") from error


def open_session(data_root: Path | None) -> ArchiveConnection:
    """Open the archive that the command line or the settings name.

    Raises
    ------
    PermanentError
        When there is no such folder.
    """
    from dsa110_resources.archive import Archive
    from dsa110_resources.errors import PermanentError
    from dsa110_resources.query import connect
    from dsa110_resources.settings import load_settings

    settings = load_settings(data_root=data_root)
    if not settings.data_root.is_dir():
        raise PermanentError(
            "no such archive", path=settings.data_root, cure="give --data-root or set DSA110_DATA_ROOT"
        )
    return connect(Archive(settings.data_root, settings.state_root), settings.database_url)


def database_error() -> type[Exception]:
    """DuckDB's error type (imported when needed: the command line must start at once)."""
    import duckdb

    return duckdb.Error


def run_script(
    session: ArchiveConnection, script: str, output: Format, stream: TextIO, *, max_rows: int | None = None
) -> None:
    """Run the statements of a script one after the other and write the rows of those that ask for rows."""
    import duckdb

    for statement in duckdb.extract_statements(script):
        result = session.execute(statement.query)
        if statement.expected_result_type == [duckdb.ExpectedResultType.QUERY_RESULT]:
            write_rows(result, output, stream, max_rows=max_rows)


def write_rows(
    result: duckdb.DuckDBPyConnection, output: Format, stream: TextIO, *, max_rows: int | None = None
) -> None:
    """Write the rows of a query.

    Parameters
    ----------
    result : duckdb.DuckDBPyConnection
        After ``execute``.
    output : Format
        Table, CSV (header line, empty for null) or JSON (a list of objects, null for null and NaN).
    stream : TextIO
        Where to write.
    max_rows : int, optional
        Show no more rows than this (tables only).
    """
    names = [column[0] for column in result.description or []]
    rows = _rows_of(result)
    if output is Format.CSV:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(names)
        writer.writerows([_plain(value) for value in row] for row in rows)
    elif output is Format.JSON:
        _write_json(names, rows, stream)
    else:
        _write_table(names, list(rows), stream, max_rows)


def prompt(session: ArchiveConnection, output: Format) -> None:
    r"""Read queries from the terminal until Ctrl-D or ``\q``; an error does not end the session."""
    import contextlib

    from dsa110_resources.errors import PlatformError

    with contextlib.suppress(ImportError):
        import readline  # noqa: F401 (line editing)
    print(_HELP)
    while (text := _read_statement()) is not None:
        try:
            if text.startswith("\\"):
                write_rows(session.execute(_of_command(text)), output, sys.stdout)
                continue
            run_script(session, text, output, sys.stdout, max_rows=ROWS_AT_PROMPT)
        except (database_error(), PlatformError) as error:
            print(f"error: {error}")
        except KeyboardInterrupt:
            print("interrupted")


def _read_statement() -> str | None:
    """One statement or backslash command; None when the user leaves."""
    lines: list[str] = []
    while True:
        try:
            line = input(CONTINUED if lines else PROMPT)
        except EOFError:
            print()
            return None
        except KeyboardInterrupt:
            print()
            lines = []
            continue
        word = line.strip()
        if not lines and word in {"\\q", "exit", "quit", "exit;", "quit;"}:
            return None
        if not lines and word.startswith("\\"):
            return word
        lines += [line] if word or lines else []
        if word.endswith(";"):
            return "\n".join(lines)


def _of_command(text: str) -> str:
    """SQL of a backslash command."""
    if text.split(maxsplit=1)[0] != "\\d":
        return f"SELECT '{_HELP.replace(chr(39), chr(39) * 2)}' AS help"
    name = text[2:].strip().rstrip(";").lower()
    if not name:
        return "SHOW TABLES"
    described = name.removesuffix("_history").replace("'", "''")
    return (
        "SELECT column_name, type, unit, description FROM column_descriptions "  # noqa: S608 (the user's own SQL prompt)
        f"WHERE table_name = '{described}' ORDER BY position"
    )


def _rows_of(result: duckdb.DuckDBPyConnection) -> Iterator[Sequence[Any]]:
    while rows := result.fetchmany(10_000):
        yield from rows


def _plain(value: Any) -> Any:
    """A value as text or a number that reads back exactly; null is empty."""
    if isinstance(value, datetime):
        return value.isoformat(timespec="microseconds" if value.microsecond else "seconds")
    return json.dumps(_jsonable(value)) if isinstance(value, list | dict) else value


def _jsonable(value: Any) -> Any:
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, datetime | date):
        return _plain(value) if isinstance(value, datetime) else value.isoformat()
    if isinstance(value, list | tuple):
        return [_jsonable(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _jsonable(item) for key, item in value.items()}
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _write_json(names: Sequence[str], rows: Iterator[Sequence[Any]], stream: TextIO) -> None:
    separator = "[\n"
    for row in rows:
        item = {name: _jsonable(value) for name, value in zip(names, row, strict=True)}
        stream.write(separator + json.dumps(item, ensure_ascii=False))
        separator = ",\n"
    stream.write("[]\n" if separator == "[\n" else "\n]\n")


def _write_table(names: Sequence[str], rows: list[Sequence[Any]], stream: TextIO, max_rows: int | None) -> None:
    shown = rows if max_rows is None else rows[:max_rows]
    cells = [[_cell(value) for value in row] for row in shown]
    widths = [max([len(name), *(len(row[k]) for row in cells)]) for k, name in enumerate(names)]
    is_number = [all(isinstance(row[k], int | float | Decimal | None) for row in shown) for k in range(len(names))]

    def line(texts: Sequence[str]) -> str:
        aligned = [t.rjust(w) if n else t.ljust(w) for t, w, n in zip(texts, widths, is_number, strict=True)]
        return "  ".join(aligned).rstrip() + "\n"

    stream.write(line(names))
    stream.write("  ".join("-" * width for width in widths) + "\n")
    stream.writelines(line(row) for row in cells)
    more = f", first {len(shown)} shown" if len(shown) < len(rows) else ""
    stream.write(f"({len(rows)} row{'' if len(rows) == 1 else 's'}{more})\n")


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.10g}"
    return str(_plain(value))
