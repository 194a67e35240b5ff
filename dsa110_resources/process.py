"""Run an outside program: streamed log, time-out of the whole process group, typed errors."""

from __future__ import annotations

import logging
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from dsa110_resources.errors import ExternalToolError, ExternalToolMissingError

logger = logging.getLogger(__name__)

KEPT_LINES = 40
"""Last lines of output kept for the error message and the result."""
TERMINATE_GRACE_S = 5.0
"""Seconds between the polite and the final signal."""

_LINE_END = re.compile(rb"[\r\n]+")


@dataclass(frozen=True)
class CommandResult:
    """What a finished command left.

    Attributes
    ----------
    argv
        The command as it was given.
    seconds
        Wall time.
    last_lines
        The last lines of standard output and error, oldest first.
    """

    argv: tuple[str, ...]
    seconds: float
    last_lines: tuple[str, ...]


def run_command(
    argv: Sequence[str | Path],
    *,
    timeout_s: float,
    cwd: Path | None = None,
    env_extra: Mapping[str, str] | None = None,
    log_path: Path | None = None,
) -> CommandResult:
    """Run a program to its end, streaming its output, and kill it with all its children on time-out.

    Parameters
    ----------
    argv
        Program and arguments; never a shell line.
    timeout_s
        Wall-clock limit, seconds.
    cwd
        Working directory; the current one by default.
    env_extra
        Variables added to the inherited environment.
    log_path
        File to which output is appended line by line.

    Returns
    -------
    CommandResult

    Raises
    ------
    ExternalToolMissingError
        The program is not on the PATH.
    ExternalToolError
        It failed, was killed by a signal or ran out of time; the message holds its last lines.
    """
    command = tuple(str(part) for part in argv)
    require_program(command[0])
    started = time.monotonic()
    lines: deque[str] = deque(maxlen=KEPT_LINES)
    with ExitStack() as stack:
        log = stack.enter_context(log_path.open("ab")) if log_path else None
        process = _start(command, cwd, env_extra)
        reader = threading.Thread(target=_drain, args=(process, command[0], lines, log), daemon=True)
        reader.start()
        try:
            process.wait(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            kill_group(process)
            raise ExternalToolError(
                f"{command[0]} was stopped after {timeout_s:.0f} s; last lines: {_tail(lines)}",
                path=log_path,
                cure="raise the time-out of this stage or look for a stuck program in the log",
            ) from None
        finally:
            kill_group(process)
            reader.join(TERMINATE_GRACE_S)
    require_success(command[0], process.returncode, tuple(lines), log_path)
    return CommandResult(command, time.monotonic() - started, tuple(lines))


def require_program(program: str) -> str:
    """Path of a program, or ExternalToolMissingError with the cure."""
    found = shutil.which(program)
    if found is None:
        raise ExternalToolMissingError(
            f"the program {program!r} is not installed on this machine",
            cure="`dsa110 doctor` prints the packages that provide it",
        )
    return found


def require_success(name: str, returncode: int, lines: Sequence[str], log_path: Path | None) -> None:
    """Raise ExternalToolError in the program's own last words unless the status is 0."""
    if returncode == 0:
        return
    killed = returncode < 0
    how = f"was killed by {signal.Signals(-returncode).name}" if killed else f"failed with status {returncode}"
    raise ExternalToolError(f"{name} {how}; last lines: {_tail(lines)}", path=log_path, cure="see the log")


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """End a process and whatever its group still holds: SIGTERM, a grace period, SIGKILL.

    The group is only signalled by the number of a leader this module started itself with a new session.
    """
    if process.poll() is None:
        _signal_group(process.pid, signal.SIGTERM)
        try:
            process.wait(TERMINATE_GRACE_S)
        except subprocess.TimeoutExpired:
            logger.warning("process %d ignores SIGTERM, sending SIGKILL", process.pid)
    _signal_group(process.pid, signal.SIGKILL)
    process.wait()


def parent_death_prefix() -> tuple[str, ...]:
    """Command prefix that makes the kernel kill the child with its parent, where util-linux offers it.

    Without it a SIGKILLed run would leave, say, an imager writing into the Measurement Set its successor opens.
    """
    setpriv = shutil.which("setpriv")
    return (setpriv, "--pdeathsig", "KILL", "--") if setpriv else ()


def _start(command: tuple[str, ...], cwd: Path | None, env_extra: Mapping[str, str] | None) -> subprocess.Popen[bytes]:
    logger.info("running %s", " ".join(command))
    return subprocess.Popen(
        (*parent_death_prefix(), *command),
        cwd=cwd,
        env={**os.environ, **env_extra} if env_extra else None,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def _drain(process: subprocess.Popen[bytes], name: str, lines: deque[str], log: IO[bytes] | None) -> None:
    program = Path(name).name
    for line in _read_lines(process):
        lines.append(line)
        logger.debug("%s: %s", program, line)
        if log is not None and not log.closed:
            log.write(line.encode() + b"\n")
            log.flush()


def _read_lines(process: subprocess.Popen[bytes]) -> Iterator[str]:
    """Lines of the merged output; a progress bar's carriage returns count as line ends."""
    if process.stdout is None:
        return
    rest = b""
    with process.stdout as stream:
        while chunk := os.read(stream.fileno(), 65536):
            *complete, rest = _LINE_END.split(rest + chunk)
            yield from (part.decode(errors="replace") for part in complete if part)
    if rest:
        yield rest.decode(errors="replace")


def _signal_group(group: int, number: signal.Signals) -> None:
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return
    except PermissionError:  # a set-uid child of the group: cannot be ours to end
        logger.warning("process group %d may not be signalled", group)


def _tail(lines: Sequence[str]) -> str:
    return " | ".join(list(lines)[-8:]) or "(no output)"
