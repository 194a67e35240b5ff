"""The child process of ``casa.py``: reads one JSON request per line, runs the CASA task, answers with one JSON line.

It is run as a script, never imported: CASA's configuration, working directory and log are its own, and a crash of
CASA's libraries ends this process only. Standard output and error belong to CASA; requests and answers have their
own pipes, whose descriptors are the two arguments.
"""

import ctypes
import importlib
import json
import os
import signal
import sys
import traceback
from typing import Any

PR_SET_PDEATHSIG = 1


def encode(value: Any) -> Any:
    """JSON form of what CASA tasks return: arrays as lists, complex numbers as pairs, unknown things as text."""
    if hasattr(value, "tolist"):
        return encode(value.tolist())
    if isinstance(value, dict):
        return {str(key): encode(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [encode(item) for item in value]
    if isinstance(value, complex):
        return {"real": value.real, "imag": value.imag}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)


def run_task(request: dict[str, Any]) -> dict[str, Any]:
    """Run one task; errors come back as text, never as a dead worker."""
    try:
        tasks = importlib.import_module("casatasks")
        value = getattr(tasks, request["task"])(**request["kwargs"])
        return {"ok": True, "value": encode(value)}
    except Exception as error:
        return {"ok": False, "kind": type(error).__name__, "error": str(error), "traceback": traceback.format_exc()}


def serve(read_fd: int, write_fd: int) -> None:
    """Answer requests until the parent closes its end."""
    with os.fdopen(read_fd, encoding="utf-8") as requests, os.fdopen(write_fd, "w", encoding="utf-8") as answers:
        for line in requests:
            answers.write(json.dumps(run_task(json.loads(line))) + "\n")
            answers.flush()


def die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent dies: no orphan goes on writing into an MS."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    die_with_parent()
    serve(int(sys.argv[1]), int(sys.argv[2]))
