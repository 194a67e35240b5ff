"""`dsa110 convert`: UVH5 files to one Measurement Set, the observatory's raw subbands or any other telescope's."""

from pathlib import Path

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from dsa110_resources.conversion import ConversionOptions, convert_files
from dsa110_resources.conversion_report import ConversionReport
from dsa110_resources.errors import PlatformError

console = Console()


def convert(
    files: list[Path] = typer.Argument(..., help="Subbands of one observation, in any order."),
    out: Path = typer.Option(..., "--out", help="Measurement Set to write; an existing one is replaced in one step."),
    writer: str = typer.Option("auto", help="auto, direct (DSA-110 raw files) or pyuvdata (slow; any telescope)."),
    staging: str = typer.Option("disk", help="Where it is built: disk, tmpfs, or auto."),
    threads: int = typer.Option(2, min=1, help="Threads that read and rephase."),
) -> None:
    """Convert UVH5 files of one observation to a Measurement Set."""
    try:
        options = ConversionOptions.model_validate({"writer": writer, "staging": staging, "threads": threads})
        report = convert_files(files, out, options=options)
    except (PlatformError, ValidationError) as error:
        console.print(str(error), style="red", markup=False, soft_wrap=True)
        raise typer.Exit(1) from None
    console.print(summary_table(report))


def summary_table(report: ConversionReport) -> Table:
    """What was written, for people."""
    table = Table(show_header=False, title=str(report.ms_path))
    ra, dec = report.phase_center_deg
    rows = {
        "observation": f"{report.group_id} UTC, {(report.end_mjd - report.start_mjd) * 86400.0:.1f} s",
        "phase centre": f"{ra:.5f} {dec:+.5f} deg (ICRS)",
        "rows": f"{report.n_rows} ({report.n_times} times, {report.n_baselines} baselines)",
        "antennas": str(report.n_antennas),
        "channels": str(report.n_channels),
        "missing subbands": ", ".join(map(str, report.missing_subbands)) or "none",
        "uvw check": f"{report.uvw_max_discrepancy_m * 1000.0:.2f} mm",
        "writer": report.writer_type,
        "size": f"{report.bytes_written / 1e6:.1f} MB in {report.timings_s['total']:.1f} s",
    }
    for name, value in rows.items():
        table.add_row(name, value)
    return table
