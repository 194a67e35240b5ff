"""Opening casacore tables the one safe way: quietly, for as short a time as possible, closed whatever happens.

A process that keeps a table open after writing blocks every other reader without a word, so nothing outside this module
opens one without its context manager.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dsa110_resources.errors import CorruptInputError, DiskFullError


@contextmanager
def open_table(path: Path, *, write: bool = False) -> Iterator[Any]:
    """Open a casacore table (a Measurement Set or a subtable) and close it on leaving.

    Raises
    ------
    CorruptInputError
        The path is no table, or a damaged one.
    DiskFullError
        The disk filled up while writing.
    """
    from casacore.tables import table

    try:
        handle = table(str(path), readonly=not write, ack=False, lockoptions="auto" if write else "autonoread")
    except RuntimeError as error:
        message = f"not a readable casacore table ({error})"
        raise CorruptInputError(message, path=path, cure="convert it again") from error
    try:
        with typed_errors(path):
            yield handle
    finally:
        handle.close()


@contextmanager
def typed_errors(path: Path) -> Iterator[None]:
    """Turn casacore's RuntimeError into the platform's errors."""
    try:
        yield
    except RuntimeError as error:
        raise _typed(error, path) from error


def _typed(error: RuntimeError, path: Path) -> Exception:
    text = str(error)
    if "No space left" in text or "write failed" in text:
        return DiskFullError(f"the disk is full ({text})", path=path, cure="free disk space, then retry")
    return CorruptInputError(f"casacore: {text}", path=path, cure="convert the group again")
