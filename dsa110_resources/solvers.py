"""Calibration solvers behind one protocol: native (StefCal) and CASA; both write genuine CASA tables."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from dsa110_assets.science.components import Components
from dsa110_assets.science.gain_options import BandpassOptions, GainOptions
from dsa110_assets.science.gains import GainTable
from dsa110_resources.calibration_apply import ApplyReport, apply_tables
from dsa110_resources.errors import PermanentError
from dsa110_resources.measurement_set import Layout

__all__ = [
    "ApplyReport",
    "BandpassOptions",
    "GainOptions",
    "SolveReport",
    "Solver",
    "apply_tables",
    "create_solver",
    "report_table",
    "require_products",
]

SolverName = Literal["native", "casa"]
BANDPASS_PRODUCTS = ("bpcal", "kcal", "prebp", "gpcal")
"""Keys of ``out`` of a bandpass solve, as the suffixes of the tables' paths; ``bpcal`` is required. ``gpcal`` is the
gain of the same group on that bandpass: the data are read, and their model predicted, once for both."""


@dataclass(frozen=True)
class SolveReport:
    """What a solve made.

    Attributes
    ----------
    solver
        ``native`` or ``casa``.
    tables
        Written tables by suffix (``bpcal``, ``kcal``, ``prebp``, ``gpcal``).
    refant
        Antenna whose phase is zero.
    n_receptors
        Receptors (antenna and polarization) that work.
    dead_receptors
        Receptors with data and without a solution, as ``101 XX``.
    flagged_fraction
        Flagged part of the solutions of working receptors, 0 to 1.
    median_snr
        Of the unflagged solutions.
    flux_ratio
        Observed over model flux density on the bandpass's scale (gains only).
    rogue_delays_ns
        Antennas farther than 50 ns from the array's delay plane, with their residual (bandpass only).
    times_s
        Seconds spent per step.
    """

    solver: SolverName
    tables: dict[str, Path]
    refant: str
    n_receptors: int
    dead_receptors: tuple[str, ...]
    flagged_fraction: float
    median_snr: float
    flux_ratio: float | None = None
    rogue_delays_ns: dict[str, float] = field(default_factory=dict)
    times_s: dict[str, float] = field(default_factory=dict)


class Solver(Protocol):
    """Solves tables from a Measurement Set and a component model (MODEL_DATA need not exist)."""

    def solve_bandpass(
        self, ms: Path, components: Components, *, options: BandpassOptions, out: Mapping[str, Path]
    ) -> SolveReport:
        """Solve delay, pre-bandpass phase, bandpass and gain; write those whose suffix is a key of ``out``."""
        ...

    def solve_gains(
        self, ms: Path, components: Components, bandpass: Path, *, options: GainOptions, out: Path
    ) -> SolveReport:
        """Solve a gain table with a bandpass applied."""
        ...


def create_solver(name: SolverName, *, scratch: Path | None = None) -> Solver:
    """The solver of a name.

    Parameters
    ----------
    name
        ``native`` or ``casa``.
    scratch
        Directory for CASA's working copy; by default beside the Measurement Set.
    """
    if name == "native":
        from dsa110_resources.native_solver import NativeSolver

        return NativeSolver()
    from dsa110_resources.casa_solver import CasaSolver

    return CasaSolver(scratch=scratch)


def require_products(out: Mapping[str, Path]) -> None:
    """Refuse a bandpass solve without a bandpass table, or with a product nobody knows.

    Raises
    ------
    PermanentError
        Naming the key.
    """
    unknown = sorted(set(out) - set(BANDPASS_PRODUCTS))
    if unknown or "bpcal" not in out:
        raise PermanentError(
            f"a bandpass solve cannot write {unknown or 'nothing'}",
            cure=f"give paths for bpcal and, if wanted, kcal, prebp and gpcal (got {sorted(out)})",
        )


def report_table(table: GainTable, layout: Layout, solver: SolverName, tables: dict[str, Path]) -> SolveReport:
    """Report of a solved table: receptors with data that work, that do not, flags and SNR."""
    rows = [table.antenna_names.index(layout.antenna_names[i]) for i in layout.antennas_with_data]
    flags = table.flags[:, rows].transpose(1, 3, 0, 2).reshape(len(rows), table.flags.shape[3], -1)
    dead = np.asarray(flags.all(axis=2))
    snr = table.snr[~table.flags]
    names = (f"{table.antenna_names[rows[a]]} {layout.polarizations[p]}" for a, p in np.argwhere(dead))
    return SolveReport(
        solver=solver,
        tables=tables,
        refant=table.refant,
        n_receptors=int(np.count_nonzero(~dead)),
        dead_receptors=tuple(names),
        flagged_fraction=float(np.mean(flags[~dead])) if not dead.all() else 1.0,
        median_snr=float(np.median(snr)) if snr.size else 0.0,
    )
