"""`dsa110 prune`: the operators' retention. Nothing is ever deleted automatically, and a dry run is the default."""

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from dsa110_resources.archive import Archive
from dsa110_resources.errors import PermanentError
from dsa110_resources.settings import load_settings

KINDS = {
    "science-ms": "ms/science",
    "calibrator-ms": "ms/calibrators",
    "images": "images",
    "logs": "logs",
}
"""What may be pruned: folders with one subfolder per day. Tables, calibration and catalogues never are."""
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")

console = Console()


@dataclass(frozen=True)
class DayFolder:
    """One day of one kind of product."""

    kind: str
    day: date
    path: Path
    size_bytes: int


def prune(
    older_than: Annotated[int, typer.Option("--older-than", min=1, help="Days; younger products stay.")],
    keep: Annotated[list[str] | None, typer.Option(help=f"Kinds that stay: {', '.join(KINDS)}.")] = None,
    data_root: Annotated[Path | None, typer.Option(help="Data root; default: the setting.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Delete; without it only the list is printed.")] = False,
) -> None:
    """List, and with --yes delete, day folders older than so many days of observation time before today."""
    unknown = sorted(set(keep or ()) - set(KINDS))
    if unknown:
        raise PermanentError(f"cannot keep {', '.join(unknown)}", cure=f"one of {', '.join(KINDS)}")
    archive = Archive(load_settings(data_root=data_root).data_root.absolute())
    limit = datetime.now(UTC).date() - timedelta(days=older_than)
    folders = [f for f in find_day_folders(archive) if f.day < limit and f.kind not in (keep or ())]
    table = Table("kind", "day", "GB", "path")
    for folder in folders:
        table.add_row(folder.kind, folder.day.isoformat(), f"{folder.size_bytes / 1e9:.2f}", str(folder.path))
        if yes:
            shutil.rmtree(archive.require_inside(folder.path))
    console.print(table)
    total_gb = sum(folder.size_bytes for folder in folders) / 1e9
    console.print(f"{total_gb:.2f} GB {'deleted' if yes else 'would be deleted; add --yes to delete'}")


def find_day_folders(archive: Archive) -> Iterator[DayFolder]:
    """Every day folder that may be pruned, by kind and day."""
    for kind, relative in KINDS.items():
        for path in sorted((archive.root / relative).glob("*")):
            if path.is_dir() and _DAY.fullmatch(path.name):
                size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
                yield DayFolder(kind, date.fromisoformat(path.name), path, size)
