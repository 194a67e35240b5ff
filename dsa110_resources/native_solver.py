"""The native solver: one streaming pass over the Measurement Set, model predicted once, StefCal."""

import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dsa110_assets.science.antenna_solution import AntennaSolution, solve_antennas
from dsa110_assets.science.bandpass_solve import BandpassSolution, BandpassStream, shape_gains, solve_gain
from dsa110_assets.science.beam import airy_power
from dsa110_assets.science.block_averaging import average_bandpass, expand_bandpass
from dsa110_assets.science.components import Components
from dsa110_assets.science.delay import fit_delay_plane, measure_delays
from dsa110_assets.science.errors import ScienceError
from dsa110_assets.science.gain_options import BandpassOptions, GainOptions
from dsa110_assets.science.gains import GainTable
from dsa110_assets.science.instrument import SEFD_JY
from dsa110_assets.science.model import Beam
from dsa110_assets.science.normal_sums import NormalSums, collapse_data
from dsa110_assets.science.referencing import choose_reference_antenna, rank_reference_antennas, refer_phases
from dsa110_resources.caltables import read_caltable, write_caltable
from dsa110_resources.errors import PermanentError
from dsa110_resources.measurement_set import Layout, read_layout, require_consistent
from dsa110_resources.modelled_visibilities import Complex64s, ModelledVisibilities, Solved
from dsa110_resources.solvers import SolveReport, report_table, require_products

logger = logging.getLogger(__name__)

SECONDS_PER_DAY = 86400.0
DELAY_SNR = 5.0
"""Coherence times sqrt(channels) below which a delay is not believed: noise alone reaches 3."""


class NativeSolver:
    """Solves gains in process; see :class:`dsa110_resources.solvers.Solver`.

    Parameters
    ----------
    beam
        Primary beam of the sky model, drifting with it; None if the components hold apparent fluxes.
    """

    def __init__(self, *, beam: Beam | None = airy_power) -> None:
        self._beam = beam

    def solve_bandpass(
        self, ms: Path, components: Components, *, options: BandpassOptions, out: Mapping[str, Path]
    ) -> SolveReport:
        """Solve delay, pre-bandpass phase and bandpass from one group; write those whose suffix is in ``out``."""
        require_products(out)
        started = time.monotonic()
        layout = _read_consistent(ms)
        source = ModelledVisibilities(layout, components, options, self._beam)
        stream = BandpassStream(source.antennas, source.positions_m, source.names, len(source.frequencies_hz), options)
        middles = []
        try:
            for interval in source.intervals(options.prebp_solint_s):
                stream.add_interval(interval.data, interval.flags, interval.model)
                middles.append(float(np.mean(interval.times_mjd)))
            streamed = time.monotonic()
            _require_flux(stream, source, options)
            solution = stream.finish()
            gain = _gain_of_group(source, solution, options) if "gpcal" in out else None
        except ScienceError as error:
            raise _unsolvable(ms, error) from error
        solved = time.monotonic()
        tables = _bandpass_tables(source, solution, np.array(middles), options)
        if gain is not None:
            tables["gpcal"] = gain[0]
        for suffix, path in out.items():
            write_caltable(path, tables[suffix], ms=ms)
        times = {"stream": streamed - started, "solve": solved - streamed, "write": time.monotonic() - solved}
        report = report_table(tables["bpcal"].for_antennas(layout.antenna_names), layout, "native", dict(out))
        ratio = None if gain is None else gain[1]
        return replace(report, flux_ratio=ratio, rogue_delays_ns=name_rogues(tables["kcal"]), times_s=times)

    def solve_gains(
        self, ms: Path, components: Components, bandpass: Path, *, options: GainOptions, out: Path
    ) -> SolveReport:
        """Solve a gain table with a bandpass applied."""
        started = time.monotonic()
        layout = _read_consistent(ms)
        source = ModelledVisibilities(layout, components, options, self._beam)
        table = read_caltable(bandpass).for_antennas(source.names)
        values, flags = table.at_frequencies(layout.frequencies_hz)
        applied = average_bandpass(np.where(flags, 0, values)[0], options.averaging[1])
        try:
            middles, sums = _sum_gain_intervals(source, applied, options)
            solutions = [
                solve_antennas(s, source.antennas, len(source.names), minimum=(options.minsnr, options.min_baselines))
                for s in sums
            ]
            shaped = [shape_gains(solution, amplitudes=options.amplitudes) for solution in solutions]
            gain = _gain_table(source, [s for s, _ in shaped], middles, options.refant or table.refant)
        except ScienceError as error:
            raise _unsolvable(ms, error) from error
        write_caltable(out, gain, ms=ms)
        return replace(
            report_table(gain.for_antennas(layout.antenna_names), layout, "native", {"gpcal": out}),
            flux_ratio=float(np.nanmedian([ratio for _, ratio in shaped])),
            times_s={"total": time.monotonic() - started},
        )


def _read_consistent(ms: Path) -> Layout:
    require_consistent(ms)
    layout = read_layout(ms)
    if len(layout.polarizations) != 2:
        message = f"{len(layout.polarizations)} polarisations; the solver takes the two parallel hands"
        raise PermanentError(message, path=ms, cure="convert the parallel hands only")
    return layout


def _require_flux(stream: BandpassStream, source: ModelledVisibilities, options: BandpassOptions) -> None:
    """Stop before a solve on a field too faint for it: StefCal makes gains of an SNR near 3 from noise alone."""
    layout, (n_time, n_channel) = source.layout, options.averaging
    samples = layout.channel_width_hz * n_channel * layout.interval_s * n_time
    predicted = stream.predict_snr(SEFD_JY / np.sqrt(2.0 * samples))
    if 0.0 < predicted < options.minsnr:
        raise PermanentError(
            f"the model's flux allows an SNR of {predicted:.1f} per channel, less than {options.minsnr:g}",
            path=layout.path,
            cure="solve on a calibrator transit or on the group with most catalogue flux",
        )


def _unsolvable(ms: Path, error: ScienceError) -> PermanentError:
    cure = "check the flagged fraction and the model flux of the group; solve on a brighter calibrator"
    return PermanentError(str(error), path=ms, cure=cure)


def _sum_gain_intervals(
    source: ModelledVisibilities, bandpass: Complex64s, options: GainOptions
) -> tuple[npt.NDArray[np.float64], list[NormalSums]]:
    middles: list[float] = []
    sums: list[NormalSums] = []
    for interval in source.intervals(options.solint_s):
        part = collapse_data(interval.data, interval.flags, interval.model, bandpass, source.antennas)
        if sums and options.solint_s is None:
            sums[0] = sums[0] + part
            continue
        sums.append(part)
        middles.append(float(np.mean(interval.times_mjd)))
    if options.solint_s is None:
        middles = [source.layout.mid_mjd]
    return np.array(middles), sums


def _gain_of_group(
    source: ModelledVisibilities, solution: BandpassSolution, options: BandpassOptions
) -> tuple[GainTable, float]:
    """Gain of the calibrator group on its own bandpass, from the same sums, and the flux ratio."""
    gain, ratio = solve_gain(
        solution.sums,
        source.antennas,
        solution.bandpass,
        minimum=(options.minsnr, options.min_baselines),
        amplitudes=options.gain_calmode == "ap",
    )
    middle = np.array([source.layout.mid_mjd])
    return _gain_table(source, [gain], middle, source.names[solution.reference]), ratio


def _bandpass_tables(
    source: ModelledVisibilities, solution: BandpassSolution, middles: npt.NDArray[np.float64], options: BandpassOptions
) -> dict[str, GainTable]:
    layout = source.layout
    bandpass = solution.bandpass
    gains, flags, snr = bandpass.gains, bandpass.flags, bandpass.snr
    delays, coherence = measure_delays(gains, flags, source.frequencies_hz)
    delay_snr = coherence * np.sqrt(np.sum(~flags, axis=1))
    no_delay = delay_snr < max(options.minsnr, DELAY_SNR)
    factor = options.averaging[1]
    if factor > 1:
        gains = expand_bandpass(gains, delays, source.frequencies_hz, layout.frequencies_hz)
        flags, snr = np.repeat(flags, factor, axis=1), np.repeat(snr, factor, axis=1)
    whole = {
        "times_mjd": np.array([layout.mid_mjd]),
        "interval_s": (layout.end_mjd - layout.start_mjd) * SECONDS_PER_DAY,
        "refant": source.names[solution.reference],
    }
    step_s = float(np.median(np.diff(middles))) * SECONDS_PER_DAY if len(middles) > 1 else whole["interval_s"]
    delay_values = np.where(no_delay, 0.0, np.nan_to_num(delays))
    if options.apply_delay:
        offset = layout.frequencies_hz - np.mean(layout.frequencies_hz)
        gains = gains * np.exp(-2e-9j * np.pi * offset[None, :, None] * delay_values[:, None])
        flags = flags | no_delay[:, None]
    phases = (solution.phases, solution.phase_flags, solution.phase_snr)
    return {
        "bpcal": replace(
            source.make_table("B", (gains[None], flags[None], snr[None]), **whole), delay_removed=options.apply_delay
        ),
        "kcal": source.make_table("K", _as_one_channel((delay_values[None], no_delay[None], delay_snr[None])), **whole),
        "prebp": source.make_table(
            "G", _as_one_channel(phases), **{**whole, "times_mjd": middles, "interval_s": step_s}
        ),
    }


def _as_one_channel(solution: Solved) -> Solved:
    """(n_time, n_ant, n_pol) arrays with a channel axis of one."""
    return solution[0][:, :, None], solution[1][:, :, None], solution[2][:, :, None]


def name_rogues(delays: GainTable) -> dict[str, float]:
    """Antennas off the array's delay plane with their residual (of the polarization farther off), ns."""
    try:
        plane = fit_delay_plane(delays.delays_ns[0], delays.antenna_positions_m)
    except ScienceError as error:
        logger.warning("no delay plane: %s", error)
        return {}
    worst = np.nanargmax(np.abs(np.nan_to_num(plane.residual_ns)), axis=1)
    return {delays.antenna_names[a]: float(plane.residual_ns[a, worst[a]]) for a in np.flatnonzero(plane.rogue)}


def _gain_table(
    source: ModelledVisibilities, solutions: list[AntennaSolution], middles: npt.NDArray[np.float64], wanted: str
) -> GainTable:
    gains = np.stack([s.gains for s in solutions]).astype(np.complex128)
    flags = np.stack([s.flags for s in solutions])
    snr = np.stack([s.snr for s in solutions])
    order = rank_reference_antennas(flags[:, :, 0].transpose(1, 0, 2), snr[:, :, 0].transpose(1, 0, 2),
                                    source.positions_m)  # fmt: skip
    reference = choose_reference_antenna(order, source.names, wanted)
    fallback = next((int(i) for i in order if i != reference), None)
    referred = refer_phases(gains[:, :, 0].transpose(1, 0, 2), flags[:, :, 0].transpose(1, 0, 2), reference, fallback)
    layout = source.layout
    whole_s = (layout.end_mjd - layout.start_mjd) * SECONDS_PER_DAY
    return source.make_table(
        "G",
        (np.where(flags, 1.0, referred.transpose(1, 0, 2)[:, :, None]), flags, snr),
        times_mjd=middles,
        interval_s=whole_s / len(middles),
        refant=source.names[reference],
    )
