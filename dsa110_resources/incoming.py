"""The folder of arriving subbands: which files are new and whole, at 100,000 files a second.

Only names are listed (``os.scandir``); a file is looked at more closely only while neither the ledger nor the list of
refused files knows it. The folder is never written to.
"""

import os
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from dsa110_resources.operations.groups import RejectedFile

SUFFIX = ".hdf5"
UNFINISHED = "_incomplete.hdf5"
"""The raw writer's name for a file that is still open; it is renamed when closed."""
SETTLE_S = 5.0
"""A file modified more recently than this may still grow."""
_NAME = re.compile(r"(\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2})_sb(\d{2})")

Stat = tuple[int, int]
"""Size (bytes) and modification time (ns)."""


@dataclass(frozen=True)
class NameHint:
    """What a name claims: the node's wall clock when it opened the file, and its subband."""

    moment: datetime
    subband_idx: int


@dataclass(frozen=True)
class Candidate:
    """A file that neither grows nor is known."""

    path: Path
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class Scan:
    """What a look at the folder found.

    Attributes
    ----------
    ready
        New files, by name the newest first.
    growing
        Size and modification time of files that may still grow, by name: to be compared with at the next look.
    unfinished
        Names of ``_incomplete`` files.
    n_entries
        Everything in the folder.
    """

    ready: tuple[Candidate, ...] = ()
    growing: Mapping[str, Stat] = field(default_factory=dict)
    unfinished: tuple[str, ...] = ()
    n_entries: int = 0


@dataclass(frozen=True)
class FolderMemory:
    """What one look leaves for the next; losing it only costs time.

    Attributes
    ----------
    growing
        Size and modification time of files that may still grow, by name.
    folder_mtime_ns
        The folder's modification time if nothing but an entry coming or going can bring anything new, else 0.
    n_known
        Files that the ledger held or had refused after the look.
    n_entries, n_unfinished
        What the look counted.
    """

    growing: Mapping[str, Stat] = field(default_factory=dict)
    folder_mtime_ns: int = 0
    n_known: int = -1
    n_entries: int = 0
    n_unfinished: int = 0


def is_unchanged(folder: Path, memory: FolderMemory, *, rejected: Mapping[str, RejectedFile], n_known: int) -> bool:
    """Whether a look would find nothing new: no entry came or went, and no refused file changed."""
    if not memory.folder_mtime_ns or n_known != memory.n_known:
        return False
    return folder_mtime_ns(folder) == memory.folder_mtime_ns and all(
        _stat(file.path) in (None, (file.size, file.mtime_ns)) for file in rejected.values()
    )


def folder_mtime_ns(folder: Path) -> int:
    """Modification time of a folder, ns: it changes when an entry comes, goes or is renamed; 0 if it is absent."""
    try:
        return folder.stat().st_mtime_ns
    except OSError:
        return 0


def read_name(name: str) -> NameHint | None:
    """What the name ``YYYY-MM-DDTHH:MM:SS_sbNN.hdf5`` claims; None if it is not of that form.

    A hint only: real names of one group differ by up to 82 s, and a restart group's name precedes its data by 100 s.
    """
    match = _NAME.match(name)
    if match is None:
        return None
    try:
        moment = datetime.strptime(match[1], "%Y-%m-%dT%H:%M:%S").replace(tzinfo=UTC)
    except ValueError:
        return None
    return NameHint(moment, int(match[2]))


def scan_folder(
    folder: Path,
    *,
    known: Collection[str],
    rejected: Mapping[str, RejectedFile],
    previous: Mapping[str, Stat],
    now: datetime,
    settle_s: float = SETTLE_S,
) -> Scan:
    """Find new files.

    A file is ready when its size and modification time are those of the previous look, or when it was last modified
    more than ``settle_s`` ago; a refused file is looked at again once it has changed.

    Parameters
    ----------
    folder
        Incoming folder (flat); an absent one is empty.
    known
        Paths that groups hold.
    rejected
        Refused files by path.
    previous
        ``growing`` of the previous scan (may be lost: it only makes files ready one look earlier).
    now
        The clock, UTC.
    settle_s
        See above, s.
    """
    prefix = f"{folder}{os.sep}"
    taken = {path[len(prefix) :] for path in known if path.startswith(prefix)}
    names, unfinished, n_entries = _list_new(folder, taken)
    ready: list[Candidate] = []
    growing: dict[str, Stat] = {}
    for name in sorted(names, reverse=True):
        stat = _stat(folder / name)
        if stat is None or _is_unchanged(rejected.get(prefix + name), stat):
            continue
        age_s = now.timestamp() - stat[1] * 1e-9
        if previous.get(name) == stat or age_s > settle_s:
            ready.append(Candidate(folder / name, *stat))
        else:
            growing[name] = stat
    return Scan(tuple(ready), growing, tuple(unfinished), n_entries)


def find_oldest_unfinished_s(folder: Path, names: Iterable[str], now: datetime) -> float:
    """Age of the oldest ``_incomplete`` file, s: one left behind by a dead writer grows old; 0 without any."""
    stats = [stat for name in names if (stat := _stat(folder / name)) is not None]
    return max((now.timestamp() - mtime_ns * 1e-9 for _, mtime_ns in stats), default=0.0)


def _list_new(folder: Path, taken: Collection[str]) -> tuple[list[str], list[str], int]:
    names: list[str] = []
    unfinished: list[str] = []
    n_entries = 0
    try:
        entries = os.scandir(folder)
    except FileNotFoundError:
        return names, unfinished, n_entries
    with entries:
        for entry in entries:
            n_entries += 1
            name = entry.name
            if name in taken or not name.endswith(SUFFIX) or name.startswith("."):
                continue  # copying programs work under hidden names
            (unfinished if name.endswith(UNFINISHED) else names).append(name)
    return names, unfinished, n_entries


def _stat(path: Path) -> Stat | None:
    """Size and time of a regular file; None if it is none or cannot be reached now."""
    try:
        found = path.stat()
    except OSError:
        return None
    return (found.st_size, found.st_mtime_ns) if path.is_file() else None


def _is_unchanged(rejected: RejectedFile | None, stat: Stat) -> bool:
    return rejected is not None and (rejected.size, rejected.mtime_ns) == stat
