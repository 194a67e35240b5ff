"""`dsa110 process`: everything that is in a folder through photometry, headless."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from dsa110_resources.settings import load_settings

console = Console()


def process(
    directory: Annotated[Path, typer.Argument(help="Folder of subband files.", exists=True, file_okay=False)],
    data_root: Annotated[Path, typer.Option(help="Folder of all products.")],
    catalogue: Annotated[
        Path | None,
        typer.Option(help="Component CSV: sky model, target list and references.", exists=True, dir_okay=False),
    ] = None,
) -> None:
    """Process every group in DIRECTORY through photometry; exits non-zero if one did not complete."""
    settings = load_settings(
        data_root=data_root.absolute(),
        incoming=directory.absolute(),
        catalogue=None if catalogue is None else catalogue.absolute(),
    )
    from dsa110_assets.cli.headless import HeadlessRunner

    report = HeadlessRunner(settings).process(directory.absolute())
    table = Table("group", "state", "subbands", "message")
    for group in report.groups:
        table.add_row(group.group_id, group.state.value, str(group.n_subbands), group.error_message or "")
    console.print(table)
    for line in report.red_checks:
        console.print(f"[red]check[/] {line}")
    for name, line in report.failures.items():
        console.print(f"[red]failed[/] {name}: {line}")
    if not report.is_complete:
        raise typer.Exit(1)
