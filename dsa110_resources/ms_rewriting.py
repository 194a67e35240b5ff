"""Rewriting a Measurement Set in place: one writer at a time, and evidence when it dies half way.

``GROUP.ms.writing`` beside the table is lock and marker in one: locked (flock) while its writer lives, removed when the
writer has finished, left behind when it was killed or failed. Consumers refuse a table whose marker stands.
"""

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from dsa110_resources.errors import LockedError, PermanentError

_POLL_S = 0.2


def marker_path(ms: Path) -> Path:
    """The marker of a Measurement Set."""
    return ms.with_name(f"{ms.name}.writing")


@contextmanager
def rewriting(ms: Path, *, step: str = "rewrite", timeout_s: float = 0.0) -> Iterator[None]:
    """Hold a Measurement Set for rewriting columns in place.

    Parameters
    ----------
    ms
        The table.
    step
        Who writes. A marker left by a crash lets only the same step in again: it redoes all it had begun.
    timeout_s
        How long to wait for another writer.

    Raises
    ------
    LockedError
        Another process is writing it.
    PermanentError
        Another step died while writing it.
    """
    marker = marker_path(ms)
    descriptor = _lock(marker, timeout_s)
    try:
        left = _read_note(descriptor)
        if left is not None and left.get("step") != step:
            raise _interrupted(ms, left)
        note = {"step": step, "pid": os.getpid(), "host": socket.gethostname(), "since": datetime.now(UTC).isoformat()}
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(note).encode(), 0)
        yield
        marker.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


@contextmanager
def replacing(ms: Path) -> Iterator[None]:
    """Hold a Measurement Set while another is put in its place: no step may be writing it then.

    The new one owes nothing to an interrupted rewriting of the old: a marker that stands is removed.

    Raises
    ------
    LockedError
        Another process is writing it.
    """
    marker = marker_path(ms)
    descriptor = _lock(marker, 0.0)
    interrupted = _read_note(descriptor) is not None
    done = False
    try:
        yield
        done = True
    finally:
        if done or not interrupted:
            marker.unlink(missing_ok=True)
        os.close(descriptor)


def require_consistent(ms: Path) -> None:
    """Refuse a Measurement Set that is being rewritten, or whose rewriting was interrupted.

    Raises
    ------
    LockedError
        A writer is at work: try again later.
    PermanentError
        A writer died: the contents cannot be trusted.
    """
    marker = marker_path(ms)
    try:
        descriptor = os.open(marker, os.O_RDWR)
    except FileNotFoundError:
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise _locked(marker) from error
        note = _read_note(descriptor)
        if note is not None and _is_current(descriptor, marker):  # an empty one: it died before it touched the table
            raise _interrupted(ms, note)
    finally:
        os.close(descriptor)


def _lock(marker: Path, timeout_s: float) -> int:
    deadline = time.monotonic() + timeout_s
    while True:
        descriptor = os.open(marker, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            if time.monotonic() >= deadline:
                raise _locked(marker) from error
            time.sleep(_POLL_S)
            continue
        if _is_current(descriptor, marker):
            return descriptor
        os.close(descriptor)  # its writer finished and removed the file between our open and our lock


def _is_current(descriptor: int, marker: Path) -> bool:
    try:
        return os.fstat(descriptor).st_ino == marker.stat().st_ino
    except FileNotFoundError:
        return False


def _read_note(descriptor: int) -> dict[str, object] | None:
    text = os.pread(descriptor, 4096, 0)
    if not text:
        return None
    try:
        note: dict[str, object] = json.loads(text)
    except ValueError:
        return {}
    return note


def _locked(marker: Path) -> LockedError:
    return LockedError("another process is writing this Measurement Set", path=marker, cure="it is retried later")


def _interrupted(ms: Path, note: dict[str, object]) -> PermanentError:
    who = f"{note.get('step', 'a step')} (process {note.get('pid', '?')}, since {note.get('since', '?')})"
    return PermanentError(
        f"half rewritten: {who} did not finish",
        path=ms,
        cure="run that step again, or convert the group again (`dsa110 reprocess GROUP`)",
    )
