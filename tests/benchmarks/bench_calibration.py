"""Calibration of a full-array group: native solver and apply beside CASA's, in one run, with the errors of both.

``data_dir`` holds a simulated calibrator group: raw files (or a Measurement Set ``*.ms``), ``catalogue.csv`` and,
if it is there, ``truth/instrument``; the notes then state how far each solver is from the injected gains.
"""

from __future__ import annotations

import resource
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dsa110_assets.science.components import Components
from dsa110_assets.science.gain_options import BandpassOptions
from dsa110_resources.archive import path_form
from dsa110_resources.caltables import read_caltable
from dsa110_resources.casa import CasaSession
from dsa110_resources.catalogues import read_component_catalogue
from dsa110_resources.conversion import convert_group
from dsa110_resources.flagging import FlaggingOptions, flag_measurement_set
from dsa110_resources.measurement_set import read_layout
from dsa110_resources.solvers import apply_tables, create_solver
from tests.benchmarks.bench_conversion import first_group

SOLVE_LIMIT_CPU_S = 12.0
APPLY_LIMIT_S = 5.0
SUFFIXES = ("bpcal", "gpcal", "kcal", "prebp")


@dataclass(frozen=True)
class Cost:
    """Seconds of wall clock and of CPU, children included."""

    wall_s: float
    cpu_s: float


def run(data_dir: Path) -> list[dict[str, Any]]:
    """Rows: bandpass and gain with the model's prediction, the fast preset, and applying the tables."""
    with tempfile.TemporaryDirectory(prefix="bench-calibration-", dir=data_dir) as directory:
        scratch = Path(directory)
        ms = prepare(data_dir, scratch)
        sky = read_component_catalogue(data_dir / "catalogue.csv")
        tables = {name: {s: scratch / f"{name}.{s}" for s in SUFFIXES} for name in ("warm", "native", "fast", "casa")}
        solve(ms, sky, "native", tables["warm"], BandpassOptions())  # compiles, and warms the page cache
        solve(ms, sky, "native", tables["warm"], BandpassOptions(preset="fast"))
        apply_tables(ms, tables["warm"]["bpcal"], tables["warm"]["gpcal"])
        cost = {
            "native": measure(lambda: solve(ms, sky, "native", tables["native"], BandpassOptions())),
            "fast": measure(lambda: solve(ms, sky, "native", tables["fast"], BandpassOptions(preset="fast"))),
        }
        cost["apply"] = measure(lambda: apply_tables(ms, tables["native"]["bpcal"], tables["native"]["gpcal"]))
        cost["casa"] = measure(lambda: solve(ms, sky, "casa", tables["casa"], BandpassOptions(), scratch))
        chain = [tables["native"]["bpcal"], tables["native"]["gpcal"]]
        cost["applycal"] = measure(lambda: applycal(ms, chain))
        notes = {name: compare(ms, data_dir, tables[name]["bpcal"]) for name in ("native", "fast", "casa")}
    return rows(cost, notes)


def prepare(data_dir: Path, scratch: Path) -> Path:
    """A flagged Measurement Set of our own."""
    ms = scratch / "group.ms"
    found = sorted(data_dir.glob("*.ms"))
    if found:
        shutil.copytree(found[0], ms)
    else:
        convert_group(first_group(data_dir), ms)
    flag_measurement_set(ms, options=FlaggingOptions())
    return ms


def solve(
    ms: Path, sky: Components, name: str, out: dict[str, Path], options: BandpassOptions, scratch: Path | None = None
) -> None:
    """One bandpass-and-gain solve."""
    solver = create_solver("casa" if name == "casa" else "native", scratch=scratch)
    solver.solve_bandpass(ms, sky, options=options, out=out)


def applycal(ms: Path, chain: list[Path]) -> None:
    """CASA's apply, as CASA does it."""
    with CasaSession() as casa:
        casa.run("applycal", vis=ms, gaintable=chain, interp=["nearest", "linear"], calwt=False, flagbackup=False)


def measure(work: Callable[[], object]) -> Cost:
    """Cost of some work."""
    wall, cpu = time.perf_counter(), _cpu_s()
    work()
    return Cost(time.perf_counter() - wall, _cpu_s() - cpu)


def _cpu_s() -> float:
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def compare(ms: Path, data_dir: Path, bandpass: Path) -> str:
    """Errors against the injected gains: amplitude and phase, 1.4826 MAD, and median bias."""
    truth = data_dir / "truth" / "instrument" / f"{path_form(read_layout(ms).group_id)}.npz"
    if not truth.is_file():
        return "no truth beside the data"
    injected = np.load(truth)
    names = tuple(str(name) for name in injected["stations"])
    table = read_caltable(bandpass).for_antennas(names)
    phasor = np.mean(injected["gains"] / np.abs(injected["gains"]), axis=0)[:, None]
    gains = np.mean(np.abs(injected["gains"]), axis=0)[:, None] * np.exp(1j * np.angle(phasor)) * injected["bandpass"]
    reference = names.index(table.refant)
    gains = gains * np.exp(-1j * np.angle(gains[reference]))[None]
    good = ~table.flags[0] & ~injected["dead"][:, None, :]
    ratio = table.gains[0][good] / gains[good]
    phase = np.degrees(np.angle(ratio))
    return (
        f"error {_scatter(np.abs(ratio)):.2%}, {_scatter(phase):.2f} deg; median bias "
        f"{np.median(np.abs(ratio)) - 1:+.3%}, {np.median(phase):+.3f} deg"
    )


def _scatter(values: npt.NDArray[np.float64]) -> float:
    return float(1.4826 * np.median(np.abs(values - np.median(values))))


def rows(cost: dict[str, Cost], notes: dict[str, str]) -> list[dict[str, Any]]:
    """The table."""
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    native, fast, casa = cost["native"], cost["fast"], cost["casa"]
    return [
        {
            "stage": "calibration: B + G, model predicted once",
            "ours_s": native.wall_s,
            "peer": "CASA gaincal + bandpass (model by our predictor)",
            "peer_s": casa.wall_s,
            "ratio": casa.wall_s / native.wall_s,
            "limit_s": SOLVE_LIMIT_CPU_S,
            "note": f"{native.cpu_s:.1f} CPU-s (limit {SOLVE_LIMIT_CPU_S:g}) against {casa.cpu_s:.1f}; "
            f"native {notes['native']}; CASA {notes['casa']}; peak {peak_gb:.1f} GB",
        },
        {
            "stage": "calibration: preset fast",
            "ours_s": fast.wall_s,
            "peer": "the full native solve",
            "peer_s": native.wall_s,
            "ratio": native.wall_s / fast.wall_s,
            "limit_s": SOLVE_LIMIT_CPU_S,
            "note": f"{fast.cpu_s:.1f} CPU-s; {notes['fast']}",
        },
        {
            "stage": "apply B and G to CORRECTED_DATA",
            "ours_s": cost["apply"].wall_s,
            "peer": "CASA applycal (import included)",
            "peer_s": cost["applycal"].wall_s,
            "ratio": cost["applycal"].wall_s / cost["apply"].wall_s,
            "limit_s": APPLY_LIMIT_S,
            "note": f"{cost['apply'].cpu_s:.1f} CPU-s against {cost['applycal'].cpu_s:.1f}",
        },
    ]
