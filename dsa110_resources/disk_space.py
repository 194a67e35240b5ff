"""Room on disk, made sure of before it is needed.

casacore answers a full disk by ending the process (an exception in a destructor), so every large column gets its blocks
reserved when it is created: that fails in the ordinary way.
"""

import ctypes
import errno
import os
import shutil
import tempfile
from pathlib import Path

from dsa110_resources.errors import DiskFullError

MARGIN_BYTES = 64_000_000
"""Kept free for what is not reserved: subtables, small columns, logs."""

_KEEP_SIZE = 1
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_CURE = "free disk space (`dsa110 prune` lists what may go), then retry"


def require_space(directory: Path, need_bytes: int, *, partition: str | None = None) -> None:
    """Raise when a file system has less than ``need_bytes`` and a margin free.

    Raises
    ------
    DiskFullError
        With both figures.
    """
    free = shutil.disk_usage(directory).free
    if free < need_bytes + MARGIN_BYTES:
        raise DiskFullError(
            f"{(need_bytes + MARGIN_BYTES) / 1e9:.2f} GB are needed and {free / 1e9:.2f} GB free",
            partition=partition,
            path=directory,
            cure=_CURE,
        )


def require_room(directory: Path, size: int) -> None:
    """Raise when ``size`` bytes cannot be had in a directory, whatever the limit (disk, quota, file size).

    Blocks are really reserved for a moment, before casacore writes anything it could not finish.

    Raises
    ------
    DiskFullError
        If there is no room.
    """
    with tempfile.NamedTemporaryFile(dir=directory, prefix=".room-") as probe:
        _allocate(Path(probe.name), size, 0)


def reserve(path: Path, size: int) -> None:
    """Reserve disk blocks for a file that will grow to ``size`` bytes, leaving its present size alone.

    Does nothing where the file system cannot (NFS, FUSE).

    Raises
    ------
    DiskFullError
        If there is no room.
    """
    _allocate(path, size, _KEEP_SIZE)


def _allocate(path: Path, size: int, mode: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "fallocate"):
        return
    descriptor = os.open(path, os.O_RDWR)
    try:
        failed = libc.fallocate(descriptor, mode, ctypes.c_int64(0), ctypes.c_int64(size))
        code = ctypes.get_errno() if failed else 0
    finally:
        os.close(descriptor)
    if code in _FULL:
        raise DiskFullError(f"no room for {size / 1e9:.3f} GB ({os.strerror(code)})", path=path.parent, cure=_CURE)
