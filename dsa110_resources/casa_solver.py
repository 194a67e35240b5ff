"""The CASA solver: gaincal and bandpass on a working copy whose MODEL_DATA our own predictor fills."""

import logging
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dsa110_assets.science.antenna_solution import AntennaSolution
from dsa110_assets.science.bandpass_solve import shape_gains
from dsa110_assets.science.beam import airy_power
from dsa110_assets.science.components import Components
from dsa110_assets.science.errors import ScienceError
from dsa110_assets.science.gain_options import BandpassOptions, GainOptions
from dsa110_assets.science.gains import GainTable
from dsa110_assets.science.geometry import separation_deg
from dsa110_assets.science.model import Beam, ModelPredictor
from dsa110_assets.science.referencing import rank_reference_antennas, refer_phases
from dsa110_resources.caltables import read_caltable, write_caltable
from dsa110_resources.casa import CasaSession
from dsa110_resources.casacore_tables import open_table
from dsa110_resources.errors import PermanentError
from dsa110_resources.measurement_set import Layout, open_ms, read_layout, require_consistent
from dsa110_resources.native_solver import name_rogues
from dsa110_resources.rephasing import rephase_measurement_set
from dsa110_resources.solvers import SolveReport, report_table, require_products

logger = logging.getLogger(__name__)

_BLOCK = 4
_N_REFANTS = 8


@dataclass(frozen=True)
class _WorkingCopy:
    """A copy of the Measurement Set with MODEL_DATA, and a running CASA."""

    ms: Path
    layout: Layout
    casa: CasaSession

    def table(self, suffix: str) -> Path:
        return self.ms.with_name(f"work.{suffix}")


class CasaSolver:
    """Solves gains with CASA; see :class:`dsa110_resources.solvers.Solver`.

    CASA averages data and model over a solution interval before it compares them, so for a bandpass the working copy is
    moved to the brightest component, lest the calibrator's fringes average away. Row weights come from the
    autocorrelations (radiometer equation), since CASA's solver takes them and raw data have none.

    Parameters
    ----------
    scratch
        Directory for the working copy (three times the size of DATA); by default beside the Measurement Set.
    beam
        Primary beam of the sky model, drifting with it.
    """

    def __init__(self, *, scratch: Path | None = None, beam: Beam | None = airy_power) -> None:
        self._scratch = scratch
        self._beam = beam

    def solve_bandpass(
        self, ms: Path, components: Components, *, options: BandpassOptions, out: Mapping[str, Path]
    ) -> SolveReport:
        """Solve delay, pre-bandpass phase and bandpass; write those whose suffix is in ``out``.

        CASA's bandpass leaves the phases in the pre-bandpass table; their mean is put back here, so that a table of
        either solver means the same.
        """
        require_products(out)
        started = time.monotonic()
        centre = _brightest_direction(read_layout(ms), components, self._beam)
        with self._working_copy(ms, components, centre) as copy:
            refants = self._solve_phases(copy, options)
            applied = ["kcal", "prebp"] if options.apply_delay else ["prebp"]
            self._run(copy, "bandpass", "bpcal", options, refants, {
                "solint": "inf", "combine": "scan", "bandtype": "B", "solnorm": False, "fillgaps": options.fill_gaps,
                "gaintable": [str(copy.table(suffix)) for suffix in applied],
            })  # fmt: skip
            tables = {suffix: read_caltable(copy.table(suffix)) for suffix in ("prebp", "bpcal", "kcal")}
            tables["prebp"], bandpass = move_mean_phase(tables["prebp"], tables["bpcal"])
            tables["bpcal"] = replace(bandpass, delay_removed=options.apply_delay)
            n_observed = len(copy.layout.antennas_with_data)
            for suffix, path in out.items():
                if suffix != "gpcal":
                    write_caltable(path, replace(tables[suffix], n_observed=n_observed), ms=ms)
            report = report_table(tables["bpcal"], copy.layout, "casa", dict(out))
            if "gpcal" in out:
                write_caltable(copy.table("final"), tables["bpcal"], ms=copy.ms)
                delay = [copy.table("kcal")] if options.apply_delay else []
                ask = GainOptions(calmode=options.gain_calmode, minsnr=options.minsnr, uvrange=options.uvrange)
                gain, ratio = self._solve_gain(copy, [*delay, copy.table("final")], ask, tables["bpcal"].refant)
                write_caltable(out["gpcal"], replace(gain, n_observed=n_observed), ms=ms)
                report = replace(report, flux_ratio=ratio)
        rogues = name_rogues(tables["kcal"])
        return replace(report, rogue_delays_ns=rogues, times_s={"total": time.monotonic() - started})

    def solve_gains(
        self, ms: Path, components: Components, bandpass: Path, *, options: GainOptions, out: Path
    ) -> SolveReport:
        """Solve a gain table with a bandpass applied; amplitudes are made relative to the array's median."""
        started = time.monotonic()
        with self._working_copy(ms, components) as copy:
            refant = options.refant or read_caltable(bandpass).refant
            table, ratio = self._solve_gain(copy, [bandpass], options, refant)
            write_caltable(out, replace(table, n_observed=len(copy.layout.antennas_with_data)), ms=ms)
            report = report_table(table, copy.layout, "casa", {"gpcal": out})
        return replace(report, flux_ratio=ratio, times_s={"total": time.monotonic() - started})

    def _solve_gain(
        self, copy: _WorkingCopy, applied: list[Path], options: GainOptions, refant: str
    ) -> tuple[GainTable, float]:
        self._run(copy, "gaincal", "gpcal", options, [refant], {
            "solint": "inf" if options.solint_s is None else f"{options.solint_s}s",
            "combine": "scan" if options.solint_s is None else "",
            "gaintype": "G", "calmode": "ap", "gaintable": [str(path) for path in applied],
        })  # fmt: skip
        return _shape_table(read_caltable(copy.table("gpcal")), amplitudes=options.amplitudes)

    @contextmanager
    def _working_copy(
        self, ms: Path, components: Components, centre: tuple[float, float] | None = None
    ) -> Iterator[_WorkingCopy]:
        require_consistent(ms)
        parent = self._scratch or ms.parent
        parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".casa-solve-", dir=parent) as directory:
            path = Path(directory) / "work.ms"
            if centre is None:
                shutil.copytree(ms, path)
            else:
                rephase_measurement_set(ms, path, ra_deg=centre[0], dec_deg=centre[1])
            layout = read_layout(path)
            _write_model(layout, components, self._beam)
            _write_weights(layout)
            with CasaSession() as casa:
                yield _WorkingCopy(path, layout, casa)

    def _solve_phases(self, copy: _WorkingCopy, options: BandpassOptions) -> list[str]:
        """Delays, then pre-bandpass phases with them applied (else a delay decorrelates the band).

        Both are solved again if the first reference antenna turns out to have no solutions. Returns the ranking.
        """
        ranked = [options.refant] if options.refant else [_central_antenna(copy.layout)]
        for _ in range(2):
            self._run(copy, "gaincal", "kcal", options, ranked, {"solint": "inf", "combine": "scan", "gaintype": "K"})
            phases = options.model_copy(update={"minsnr": options.prebp_minsnr})
            self._run(copy, "gaincal", "prebp", phases, ranked, {
                "solint": f"{options.prebp_solint_s}s", "gaintype": "G", "calmode": "p", "combine": "",
                "gaintable": [str(copy.table("kcal"))],
            })  # fmt: skip
            best = _rank_by_table(read_caltable(copy.table("prebp")), copy.layout)
            if ranked[0] in best:
                return [ranked[0], *(name for name in best if name != ranked[0])]
            ranked = best
        return ranked

    def _run(
        self,
        copy: _WorkingCopy,
        task: str,
        suffix: str,
        options: BandpassOptions | GainOptions,
        refants: list[str],
        parameters: Mapping[str, Any],
    ) -> None:
        table = copy.table(suffix)
        if table.exists():
            shutil.rmtree(table)
        copy.casa.run(
            task,
            vis=copy.ms,
            caltable=table,
            refant=",".join(refants),
            minsnr=options.minsnr,
            minblperant=options.min_baselines,
            uvrange=options.uvrange,
            **parameters,
        )
        if not table.is_dir():
            raise PermanentError(
                f"CASA {task} found no solution", path=copy.layout.path, cure="check flags and model of the group"
            )


def move_mean_phase(phases: GainTable, bandpass: GainTable) -> tuple[GainTable, GainTable]:
    """Put the mean over time of the pre-bandpass phases into the bandpass, and refer both to one antenna.

    Parameters
    ----------
    phases
        G table of several times and one channel.
    bandpass
        B table solved with it applied.
    """
    reference = bandpass.antenna_names.index(bandpass.refant)
    unit = np.where(phases.flags, 0.0, phases.gains)[:, :, 0]
    unit = unit * np.exp(-1j * np.angle(np.where(unit[:, [reference]] == 0, 1.0, unit[:, [reference]])))
    mean = unit.sum(axis=0)
    mean = np.where(mean == 0, 1.0, mean / np.maximum(np.abs(mean), 1e-30))
    relative = np.where(phases.flags, 1.0, (unit * np.conj(mean))[:, :, None])
    gains = np.where(bandpass.flags[0], 0.0, bandpass.gains[0] * mean[:, None])
    gains = refer_phases(gains, bandpass.flags[0], reference)
    return (
        replace(phases, gains=relative, refant=bandpass.refant),
        replace(bandpass, gains=np.where(bandpass.flags, 1.0, gains[None])),
    )


def _shape_table(raw: GainTable, *, amplitudes: bool) -> tuple[GainTable, float]:
    gains, ratios = [], []
    noise = np.ones(raw.gains.shape[1::2], np.float32)
    for k in range(len(raw.times_mjd)):
        values = np.where(raw.flags[k], 0, raw.gains[k]).astype(np.complex64)
        solution = AntennaSolution(values, raw.flags[k], raw.snr[k].astype(np.float32), noise)
        shaped, ratio = shape_gains(solution, amplitudes=amplitudes)
        gains.append(shaped.gains)
        ratios.append(ratio)
    stacked = np.where(raw.flags, 1.0, np.stack(gains).astype(np.complex128))
    return replace(raw, gains=stacked), float(np.nanmedian(ratios))


def _brightest_direction(layout: Layout, components: Components, beam: Beam | None) -> tuple[float, float] | None:
    """ICRS position of the component with most apparent flux; None for tables that cannot be moved."""
    if layout.rows is not None or not len(components):
        return None
    middle = np.array([float(np.mean(layout.frequencies_hz))])
    flux = components.flux_at(middle)[:, 0]
    if beam is not None:
        offset = separation_deg(components.ra_deg, components.dec_deg, *layout.phase_center_deg)
        flux = flux * beam(np.radians(offset), middle)
    best = int(np.argmax(flux))
    return float(components.ra_deg[best]), float(components.dec_deg[best])


def _write_model(layout: Layout, components: Components, beam: Beam | None) -> None:
    geometry: Any = layout
    predictor = ModelPredictor.from_layout(components, geometry, beam=beam)
    with open_ms(layout, write=True) as opened:
        for start in range(0, layout.n_times, _BLOCK):
            times = slice(start, min(start + _BLOCK, layout.n_times))
            model = predictor.predict(times, slice(None))
            opened.write("MODEL_DATA", np.repeat(model[..., None], len(layout.polarizations), axis=3), times=times)


def _write_weights(layout: Layout) -> None:
    """Row weights 1 / (A_i A_j) from the autocorrelations A, median 1; left alone where there are none."""
    auto = layout.autocorrelations
    if not auto.any():
        return
    with open_ms(layout, write=True) as opened:
        middle = slice(layout.n_times // 2, layout.n_times // 2 + 1)
        power = np.abs(opened.read("DATA", times=middle)[0, auto])
        typical = np.full((len(layout.antenna_names), power.shape[2]), np.nan)
        typical[layout.antenna1[auto]] = np.median(power, axis=1)
        good = np.isfinite(typical) & (typical > 0)
        typical = np.where(good, typical, np.nanmedian(typical))
        weight = 1.0 / (typical[layout.antenna1] * typical[layout.antenna2])
        weight = (weight / np.median(weight, axis=0)).astype(np.float32)
    with open_table(layout.path, write=True) as table:
        if layout.rows is not None:
            logger.warning("%s: irregular rows keep their weights", layout.path)
            return
        every = np.tile(weight, (layout.n_times, 1))
        table.putcol("WEIGHT", every)
        table.putcol("SIGMA", 1.0 / np.sqrt(every))


def _central_antenna(layout: Layout) -> str:
    rows = layout.antennas_with_data
    positions = layout.antenna_positions_itrf_m[rows]
    nearest = np.argmin(np.linalg.norm(positions - np.median(positions, axis=0), axis=1))
    return str(layout.antenna_names[int(rows[int(nearest)])])


def _rank_by_table(table: GainTable, layout: Layout) -> list[str]:
    flags: npt.NDArray[np.bool_] = table.flags[:, :, 0].transpose(1, 0, 2)
    try:
        order = rank_reference_antennas(flags, table.snr[:, :, 0].transpose(1, 0, 2), table.antenna_positions_m)
    except ScienceError as error:
        cure = "check flags and model of the group"
        raise PermanentError(str(error), path=layout.path, cure=cure) from error
    return [table.antenna_names[i] for i in order[:_N_REFANTS]]
