"""CASA tasks in a child process: own working directory, own log, own configuration; a crash stays in there.

Importing CASA costs 3 to 5 s, so a session runs many tasks in one child. Nothing of CASA enters this process.
"""

from __future__ import annotations

import json
import logging
import os
import re
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from dsa110_resources.errors import ExternalToolError
from dsa110_resources.process import kill_group

logger = logging.getLogger(__name__)

DEFAULT_TIMEOUT_S = 1800.0
"""Wall-clock limit of one task, import of CASA included."""

_WORKER = Path(__file__).with_name("casa_worker.py")
_SITE_CONFIG = """import casadata
measurespath = casadata.datapath
measures_auto_update = False
data_auto_update = False
logfile = {logfile!r}
log2term = False
telemetry_enabled = False
crashreporter_enabled = False
"""
# The bundled leap-second table is older than the data: said by every task, harmless here (UVW are not CASA's).
_KNOWN_NOISE = re.compile(r"Leap second table|TAI_UTC|IERS|MeasTable::dUT1")


class CasaSession:
    """A child process that runs CASA tasks one after the other.

    Use as a context manager::

        with CasaSession(log_dir=run_dir) as casa:
            casa.run("gaincal", vis=str(ms), caltable=str(table), ...)

    Parameters
    ----------
    log_dir
        Directory that keeps ``casa.log``; by default the log goes with the temporary working directory.
    n_threads
        Threads that CASA's OpenMP loops may use.

    Notes
    -----
    Configuration is only the generated file that CASASITECONFIG names: measures tables of the ``casadata`` package,
    no update, no network; HOME is the empty working directory. The child starts with the first task, and again after
    a crash or a time-out.
    """

    def __init__(self, *, log_dir: Path | None = None, n_threads: int = 1) -> None:
        self._n_threads = n_threads
        self._log_dir = log_dir
        self._workdir: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._request_fd = -1
        self._answer_fd = -1
        self._pending = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def workdir(self) -> Path:
        """Working directory of the child (created with the first use, removed by :meth:`close`)."""
        if self._workdir is None:
            self._workdir = Path(tempfile.mkdtemp(prefix="dsa110-casa-"))
        return self._workdir

    @property
    def log_path(self) -> Path:
        """CASA's own log file."""
        return (self._log_dir or self.workdir) / "casa.log"

    @property
    def pid(self) -> int | None:
        """Process id of the child, None when there is none."""
        return self._process.pid if self._process is not None else None

    def run(self, task: str, *, timeout_s: float = DEFAULT_TIMEOUT_S, **parameters: Any) -> Any:
        """Run one task of ``casatasks`` and return its value (arrays as lists).

        Raises
        ------
        ExternalToolError
            The task failed, CASA crashed, or the time ran out; the message holds CASA's own lines.
        """
        if self._process is None or self._process.poll() is not None:
            self._start()
        log_start = _size(self.log_path)
        started = time.monotonic()
        request = json.dumps({"task": task, "kwargs": {k: _plain(v) for k, v in parameters.items()}}) + "\n"
        try:
            _write_all(self._request_fd, request.encode())
            answer = self._read_answer(task, started + timeout_s, log_start)
        except BrokenPipeError:
            self._raise_crash(task, log_start)
        if not answer["ok"]:
            logger.debug("CASA %s: %s", task, answer["traceback"])
            said = read_complaints(self.log_path, log_start)
            raise ExternalToolError(
                f"CASA {task} failed: {answer['kind']}: {answer['error']} | CASA says: {said}",
                path=self.log_path,
                cure="check the task's inputs named above",
            )
        logger.info("CASA %s took %.1f s", task, time.monotonic() - started)
        return answer["value"]

    def close(self) -> None:
        """End the child and remove its working directory."""
        self._stop()
        if self._workdir is not None:
            shutil.rmtree(self._workdir, ignore_errors=True)
            self._workdir = None

    def _start(self) -> None:
        self._stop()
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        config = self.workdir / "casasiteconfig.py"
        config.write_text(_SITE_CONFIG.format(logfile=str(self.log_path)))
        request_read, self._request_fd = os.pipe()
        self._answer_fd, answer_write = os.pipe()
        try:
            with (self.workdir / "casa-output.log").open("ab") as output:
                self._process = subprocess.Popen(
                    # -P: the script's directory must not shadow the modules CASA imports
                    (sys.executable, "-P", str(_WORKER), str(request_read), str(answer_write)),
                    cwd=self.workdir,
                    env=casa_environment(os.environ, config, self.workdir, self._n_threads),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    pass_fds=(request_read, answer_write),
                    start_new_session=True,
                )
        finally:
            os.close(request_read)
            os.close(answer_write)
        self._pending = b""

    def _stop(self) -> None:
        if self._process is None:
            return
        os.close(self._request_fd)
        os.close(self._answer_fd)
        kill_group(self._process)
        self._process = None

    def _read_answer(self, task: str, deadline: float, log_start: int) -> dict[str, Any]:
        with selectors.DefaultSelector() as selector:
            selector.register(self._answer_fd, selectors.EVENT_READ)
            while b"\n" not in self._pending:
                left = deadline - time.monotonic()
                if left <= 0 or not selector.select(left):
                    self._stop()
                    said = read_complaints(self.log_path, log_start)
                    raise ExternalToolError(
                        f"CASA {task} was stopped at its time-out | CASA says: {said}",
                        path=self.log_path,
                        cure="raise the time-out of this stage",
                    )
                chunk = os.read(self._answer_fd, 1 << 20)
                if not chunk:
                    self._raise_crash(task, log_start)
                self._pending += chunk
        line, _, self._pending = self._pending.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _raise_crash(self, task: str, log_start: int) -> None:
        code = self._process.wait() if self._process else 0
        self._stop()
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"status {code}"
        output = _last_lines(self.workdir / "casa-output.log", 0)
        raise ExternalToolError(
            f"CASA crashed in {task} ({how}) | CASA says: {read_complaints(self.log_path, log_start)} | {output}",
            path=self.log_path,
        )


def run_casa_task(task: str, *, timeout_s: float = DEFAULT_TIMEOUT_S, **parameters: Any) -> Any:
    """Run a single CASA task in a child of its own; see :meth:`CasaSession.run`."""
    with CasaSession() as session:
        return session.run(task, timeout_s=timeout_s, **parameters)


def casa_environment(inherited: Mapping[str, str], config: Path, home: Path, n_threads: int) -> dict[str, str]:
    """Environment of the child: CASA sees the generated configuration and an empty HOME, nothing of the user's."""
    # compiling CASA's modules takes as long as importing them: let the child keep its bytecode
    kept = {name: value for name, value in inherited.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {
        **kept,
        "CASASITECONFIG": str(config),
        "HOME": str(home),
        "MPLCONFIGDIR": str(home),
        "MPLBACKEND": "Agg",
        "OMP_NUM_THREADS": str(n_threads),
        "OPENBLAS_NUM_THREADS": "1",
    }


def read_complaints(log_path: Path, start: int, *, limit: int = 6) -> str:
    """CASA's SEVERE and WARN lines since a position of its log, without those that mean nothing here."""
    text = _text_from(log_path, start)
    lines = [line.split("\t") for line in text.splitlines() if "\tSEVERE\t" in line or "\tWARN\t" in line]
    said = [" ".join(part.strip() for part in line[1:] if part.strip()) for line in lines]
    told = [line for line in said if not _KNOWN_NOISE.search(line)]
    return " | ".join(told[-limit:]) or "(nothing)"


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _text_from(path: Path, start: int) -> str:
    if not path.exists():
        return ""
    with path.open("rb") as stream:
        stream.seek(start)
        return stream.read().decode(errors="replace")


def _last_lines(path: Path, start: int, *, limit: int = 4) -> str:
    return " | ".join(_text_from(path, start).splitlines()[-limit:])
