"""The disk layout: the one place that builds and parses paths, and the way every product is put in place."""

import ctypes
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dsa110_resources.errors import PermanentError

GROUP_ID = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}")
TABLE_TYPE_SUFFIXES = ("kcal", "prebp", "bpcal", "gpcal")
IMAGE_SUFFIXES = ("", "-pb", "-pbcor", "-residual", "-rms", "-model", "-psf")
STAGING_MARK = ".staging-"
"""Part of the name of everything unfinished; no consumer looks at such a path."""

_RENAME_EXCHANGE = 2
_AT_FDCWD = -100


def path_form(group_id: str) -> str:
    """The group id as it stands in paths: ``2026-01-25T22:26:05`` becomes ``2026-01-25_22_26_05``.

    Raises
    ------
    PermanentError
        If the text is not a group id (nothing else may ever reach a path).
    """
    if not GROUP_ID.fullmatch(group_id):
        raise PermanentError(f"{group_id!r} is not a group id", cure="use the form YYYY-MM-DDTHH:MM:SS (UTC)")
    return group_id.replace("T", "_").replace(":", "_")


def group_id_of_path(stem: str) -> str:
    """Inverse of :func:`path_form`."""
    parts = stem.split("_")
    group_id = f"{parts[0]}T{':'.join(parts[1:4])}" if len(parts) >= 4 else stem
    if not GROUP_ID.fullmatch(group_id):
        raise PermanentError(f"{stem!r} does not name a group", cure="use the form YYYY-MM-DD_HH_MM_SS")
    return group_id


@dataclass(frozen=True)
class Archive:
    """Paths below the data root; building one touches no disk.

    Parameters
    ----------
    root
        ``DSA110_DATA_ROOT``.
    state
        Where the operations database and the catalogues live (default: the data root).
    """

    root: Path
    state: Path | None = None

    @property
    def state_root(self) -> Path:
        """State must not lie on scratch: a setting of its own."""
        return self.state or self.root

    @property
    def catalogs(self) -> Path:
        """Reference catalogues."""
        return self.state_root / "catalogs"

    @property
    def scratch(self) -> Path:
        """Staging of single steps; may be cleared when nothing runs."""
        return self.root / "scratch"

    @property
    def logs(self) -> Path:
        """Logs of external tools."""
        return self.root / "logs"

    @property
    def failed(self) -> Path:
        """Quarantine records."""
        return self.root / "ms" / "failed"

    def ms_path(self, group_id: str, *, calibrator: bool = False) -> Path:
        """Measurement Set of a group."""
        kind = "calibrators" if calibrator else "science"
        return self.root / "ms" / kind / group_id[:10] / f"{path_form(group_id)}.ms"

    def find_ms(self, group_id: str) -> Path | None:
        """The group's Measurement Set, whichever kind it is; None if there is none."""
        for calibrator in (False, True):
            path = self.ms_path(group_id, calibrator=calibrator)
            if path.is_dir():
                return path
        return None

    def caltable_path(self, group_id: str, table_suffix: str) -> Path:
        """CASA table solved on a group: ``kcal``, ``prebp`` and ``bpcal`` daily (24h), ``gpcal`` hourly (1h)."""
        if table_suffix not in TABLE_TYPE_SUFFIXES:
            raise PermanentError(f"unknown table suffix {table_suffix!r}", cure=f"one of {TABLE_TYPE_SUFFIXES}")
        cadence = "1h" if table_suffix == "gpcal" else "24h"
        return self.root / "caltables" / group_id[:10] / f"{path_form(group_id)}_{cadence}.{table_suffix}"

    def image_path(self, group_id: str, suffix: str = "") -> Path:
        """FITS image of a tile; ``suffix`` is one of :data:`IMAGE_SUFFIXES`."""
        if suffix not in IMAGE_SUFFIXES:
            raise PermanentError(f"unknown image suffix {suffix!r}", cure=f"one of {IMAGE_SUFFIXES}")
        return self.root / "images" / group_id[:10] / f"{path_form(group_id)}{suffix}.fits"

    def thumbnail_path(self, group_id: str) -> Path:
        """PNG preview of a tile."""
        return self.qa_dir(group_id) / "image.png"

    def mosaic_dir(self, kind: str) -> Path:
        """Folder of ``hourly``, ``nightly``, ``transit`` or ``custom`` mosaics."""
        return self.root / "mosaics" / kind

    def qa_dir(self, group_id: str) -> Path:
        """Diagnostic plots and reports of a group."""
        return self.root / "qa" / path_form(group_id)

    def table_dir(self, table: str) -> Path:
        """All partitions of a science table."""
        return self.root / "tables" / table

    def table_partition(self, table: str, partition: str) -> Path:
        """One partition's Parquet file; the partition's colons become underscores."""
        if not re.fullmatch(r"[A-Za-z0-9_.+:T-]+", partition) or partition.startswith("."):
            raise PermanentError(f"{partition!r} cannot name a partition", cure="letters, digits and - _ : only")
        return self.table_dir(table) / partition.replace(":", "_") / "part.parquet"

    def require_inside(self, path: Path) -> Path:
        """Resolve a path and refuse it if it leaves the data root or the state root."""
        resolved = path.resolve()
        for root in (self.root, self.state_root):
            if resolved.is_relative_to(root.resolve()):
                return resolved
        raise PermanentError("path lies outside the data root", path=path, cure="name a product of this archive")


def staging_sibling(target: Path) -> Path:
    """A fresh temporary name beside the target, on the same file system."""
    return target.with_name(f".{target.name}{STAGING_MARK}{os.getpid()}-{uuid.uuid4().hex[:8]}")


def is_staging(path: Path) -> bool:
    """Whether a path is an unfinished product."""
    return path.name.startswith(".") and STAGING_MARK in path.name


@contextmanager
def atomic_file(target: Path) -> Iterator[Path]:
    """Write a file so that it is whole or absent.

    Yields a temporary sibling; on success it is flushed to disk and renamed over the target, on failure removed.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    staged = staging_sibling(target)
    try:
        yield staged
        with staged.open("rb") as handle:
            os.fsync(handle.fileno())
        staged.replace(target)
    finally:
        staged.unlink(missing_ok=True)


@contextmanager
def atomic_directory(target: Path) -> Iterator[Path]:
    """Write a directory (a CASA table) so that it is whole or absent.

    Yields a temporary sibling name that does not exist yet. On success it is exchanged with the target in one step
    where the kernel can (renameat2), else the old one is put aside first; on failure it is removed.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    staged = staging_sibling(target)
    try:
        yield staged
        publish_directory(staged, target)
    finally:
        if staged.exists():
            shutil.rmtree(staged)


def publish_directory(staged: Path, target: Path) -> None:
    """Put a finished directory in the target's place; the old one, if any, is removed afterwards."""
    if not target.exists():
        staged.replace(target)
        return
    if _exchange(staged, target):
        shutil.rmtree(staged)
        return
    aside = target.with_name(f".{target.name}.aside")
    target.replace(aside)
    staged.replace(target)
    shutil.rmtree(aside)


def repair_aside(directory: Path) -> list[Path]:
    """Put back directories that a crash between the two renames left aside; returns what was put back."""
    restored = []
    for aside in directory.rglob(".*.aside"):
        target = aside.with_name(aside.name[1 : -len(".aside")])
        if target.exists():
            shutil.rmtree(aside)
        else:
            aside.replace(target)
            restored.append(target)
    return restored


def _exchange(first: Path, second: Path) -> bool:
    """Swap two directories atomically; False where the kernel or file system cannot."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "renameat2"):
        return False
    result = libc.renameat2(_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE)
    return int(result) == 0
