"""`dsa110 demo`: a simulated telescope plugged in, live in the Dagster UI or once and headless."""

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Column, Table

from dsa110_assets.cli.serve import supervise
from dsa110_assets.science.simulation_options import SimulationOptions
from dsa110_resources.errors import DiskFullError, PermanentError
from dsa110_resources.settings import Settings, load_settings

console = Console()

START = "transit:2253+161@2026-01-25"
NEED_GB = {"small": 5.0, "full": 12.0}
"""Free disk asked for, GB: in all for ``small``, per group for ``full`` (DECISIONS 25)."""
EVENING_GROUPS = 14
GROUP_INTERVAL_S = 40.0
"""A group comes this often in the live demo instead of every 309 s."""


@dataclass(frozen=True)
class Stage:
    """Where the demo plays: everything lies below one folder of its own."""

    root: Path

    @property
    def incoming(self) -> Path:
        """The simulated telescope's files, with catalogue and truth."""
        return self.root / "incoming"

    @property
    def data_root(self) -> Path:
        """All products."""
        return self.root / "data-root"

    def settings(self, tier: str) -> Settings:
        """Settings of the demo: the user's, with the demo's folders."""
        return load_settings(
            data_root=self.data_root,
            incoming=self.incoming,
            nvss_catalogue=self.incoming / "nvss.fits",
            partitions_start="2026-01-24",
            imaging_tier=tier,
            group_wait_s=90.0,
            period_quiet_s=120.0,
            monitor_interval_s=10.0,
        )


def demo(
    once: Annotated[bool, typer.Option("--once", help="Headless: a calibrator group and two science groups.")] = False,
    full: Annotated[bool, typer.Option("--full", help="The full array: 2.3 GB a group, 12 GB of disk each.")] = False,
    folder: Annotated[Path, typer.Option(help="Where the demo plays; made anew each time.")] = Path("demo"),
    port: Annotated[int, typer.Option(help="Port of the Dagster UI.")] = 3000,
    groups: Annotated[int | None, typer.Option(help="Groups to observe; default 3 once, 14 live.")] = None,
) -> None:
    """Show the platform on a simulated telescope: 2253+161 transits, then science groups follow."""
    array = "full" if full else "small"
    n_groups = groups or (3 if once else EVENING_GROUPS)
    stage = Stage(folder.absolute())
    require_space(stage.root, NEED_GB[array] * (n_groups if full else 1))
    clear(stage)
    options = SimulationOptions(array=array, start=START, n_groups=n_groups)
    if once:
        raise typer.Exit(run_once(stage, options))
    raise typer.Exit(run_live(stage, array, n_groups, port))


def require_space(root: Path, need_gb: float) -> None:
    """Refuse to start on a disk that the demo would fill.

    Raises
    ------
    DiskFullError
        With less free than needed.
    """
    free_gb = shutil.disk_usage(root if root.exists() else root.parent).free / 1e9
    if free_gb < need_gb:
        raise DiskFullError(
            f"the demo needs {need_gb:.0f} GB and {free_gb:.1f} GB are free",
            path=root,
            cure="free space, or name another disk with --folder",
        )


def clear(stage: Stage) -> None:
    """Start anew: the demo's own folder is emptied, nothing else.

    Raises
    ------
    PermanentError
        If the folder holds something that no demo wrote.
    """
    foreign = [p for p in stage.root.glob("*") if p not in (stage.incoming, stage.data_root)]
    if foreign:
        raise PermanentError(
            f"holds {foreign[0].name}, which no demo wrote", path=stage.root, cure="name an empty --folder"
        )
    shutil.rmtree(stage.root, ignore_errors=True)
    stage.incoming.mkdir(parents=True)


def run_once(stage: Stage, options: SimulationOptions) -> int:
    """Simulate, process headless, and print product, path and figure; 0 only if all exist and pass their checks."""
    from dsa110_assets.cli.headless import HeadlessRunner
    from dsa110_assets.cli.products import list_products
    from dsa110_resources.telescope import simulate

    observation = simulate(options, stage.incoming)
    console.print(f"simulated {len(observation.groups)} groups in {stage.incoming}", soft_wrap=True)
    settings = stage.settings("standard" if options.array == "full" else "development")
    runner = HeadlessRunner(settings)
    report = runner.process(stage.incoming)
    table = Table("product", Column("path", overflow="fold"), Column("figure", overflow="fold"))
    products = list_products(runner.platform, report.groups)
    for product in products:
        table.add_row(
            product.name, product.path if product.exists else f"[red]MISSING[/] {product.path}", product.figure
        )
    console.print(table)
    for line in (*report.red_checks, *(f"{name}: {line}" for name, line in report.failures.items())):
        console.print(f"[red]red[/] {line}", soft_wrap=True)
    is_well = report.is_complete and not report.red_checks and all(product.exists for product in products)
    console.print("every product exists and passes its checks" if is_well else "[red]not every product is well[/]")
    return 0 if is_well else 1


def run_live(stage: Stage, array: str, n_groups: int, port: int) -> int:
    """Start Dagster and, beside it, a telescope that writes in scaled time."""
    from dsa110_assets.cli.headless import HeadlessRunner
    from dsa110_resources.telescope import simulate

    # one group first, into a folder of its own, for the catalogue that the telescope's sky is known by
    simulate(SimulationOptions(array=array, start=START, n_groups=1), stage.incoming)
    settings = stage.settings("standard" if array == "full" else "development")
    HeadlessRunner(settings).build_catalogue()
    speed = 309.24 / GROUP_INTERVAL_S if array == "small" else 1.0
    telescope = [
        sys.executable, "-m", "dsa110_assets.cli", "simulate", "--array", array, "--start", START,
        "--groups", str(n_groups), "--out", str(stage.incoming), "--watch", "--speed", f"{speed:.3f}",
    ]  # fmt: skip
    return supervise(settings, host="127.0.0.1", port=port, companions=[telescope])
