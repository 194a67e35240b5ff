"""`dsa110 simulate`: a telescope to plug in, which writes raw subband files as the real one does."""

import logging
from pathlib import Path
from typing import Any

import typer
from pydantic import ValidationError
from rich.console import Console

from dsa110_assets.science.errors import ScienceError
from dsa110_assets.science.simulation_options import InstrumentOptions, SimulationOptions, SkyOptions
from dsa110_resources.errors import PlatformError
from dsa110_resources.faults import FAULTS
from dsa110_resources.telescope import Pace, SimulatedObservation
from dsa110_resources.telescope import simulate as simulate_observation

console = Console()

_FAULT_HELP = "Failures, comma separated, NAME[:GROUP[:SUBBAND]] counted from 0: " + ", ".join(FAULTS)


def simulate(
    array: str = typer.Option("small", help="full (96 antennas, 2.3 GB a group) or small."),
    groups: int = typer.Option(1, min=1, help="Consecutive groups a day, 309.24 s apart."),
    start: str = typer.Option(
        "transit:2253+161",
        help="UTC of the first group, or transit:NAME or transit:NAME@DATE: NAME transits amid the first group.",
    ),
    dec: float | None = typer.Option(None, help="Apparent declination, degrees; default: the transiting source's."),
    out: Path = typer.Option(..., help="Directory for the files; truth and catalogues are written beside them."),
    catalogue: Path | None = typer.Option(None, help="Component CSV that is the whole sky; default: NVSS-like counts."),
    days: int = typer.Option(1, min=1, help="Observe the same sidereal time on so many days."),
    faults: str = typer.Option("", help=_FAULT_HELP),
    seed: int = typer.Option(1, min=0, help="Everything random follows from it."),
    watch: bool = typer.Option(False, "--watch", help="Write in scaled real time."),
    speed: float = typer.Option(1.0, min=1e-3, help="With --watch: seconds of the sky per second of the clock."),
    restarts: bool = typer.Option(False, "--restarts", help="The correlator restarts every 3801 s, as the real one."),
    sky: list[str] = typer.Option([], "--sky", help="Sky option KEY=VALUE, e.g. n_lensed=2, blazar_modulation=0.15."),
    instrument: list[str] = typer.Option([], "--instrument", help="Instrument option KEY=VALUE, e.g. rfi=false."),
) -> None:
    """Simulate the telescope: raw UVH5 subband files with their truth beside them."""
    try:
        options = SimulationOptions(
            array=array,
            start=start,
            dec_deg=dec,
            n_groups=groups,
            n_days=days,
            restart_cadence=restarts,
            catalogue=catalogue,
            faults=faults,
            seed=seed,
            sky=SkyOptions(**read_assignments(sky)),
            instrument=InstrumentOptions(**read_assignments(instrument)),
        )
        logging.getLogger("dsa110_resources.telescope").setLevel(logging.INFO)
        observation = simulate_observation(options, out, pace=Pace(speed=speed) if watch else None)
    except (PlatformError, ScienceError, ValidationError) as error:
        console.print(str(error), style="red", markup=False, soft_wrap=True)
        raise typer.Exit(1) from None
    report(observation, out)


def read_assignments(texts: list[str]) -> dict[str, Any]:
    """``KEY=VALUE`` texts as a dictionary; the options' own validators read the values.

    Raises
    ------
    ScienceError
        If a text has no ``=``.
    """
    values: dict[str, Any] = {}
    for text in texts:
        key, separator, value = text.partition("=")
        if not separator:
            raise ScienceError(f"{text!r} is not KEY=VALUE")
        values[key.strip()] = value.strip()
    return values


def report(observation: SimulatedObservation, out: Path) -> None:
    """Tell what was written and where."""
    for group_id, paths in observation.groups:
        console.print(f"{group_id}  {len(paths)} files")
    console.print(
        f"files in {out}; catalogue {observation.catalogue_path}; truth {observation.truth_dir}", soft_wrap=True
    )
