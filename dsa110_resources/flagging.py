"""Flagging a Measurement Set in place: stream the data once, write FLAG and FLAG_ROW, report.

Order: reset, zeros and NaN, missing subbands, dead receptors, autocorrelations, the array-wide detector; then, for the
thorough strategies, a detector per baseline on top.
"""

from __future__ import annotations

import logging
import os
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dsa110_assets.science.flagging import (
    FlaggingOptions,
    FlagReport,
    find_array_wide,
    find_dead_receptors,
    measure_fractions,
)
from dsa110_assets.science.flagging_baseline import find_baseline_interference
from dsa110_assets.science.flagging_kernels import Tally, combine_flags, measure_integration
from dsa110_resources.casa import run_casa_task
from dsa110_resources.casacore_tables import open_table
from dsa110_resources.measurement_set import Layout, iter_times, open_ms, read_layout, rewriting

logger = logging.getLogger(__name__)

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

Floats32 = npt.NDArray[np.float32]
Complexes = npt.NDArray[np.complex64]
Packed = npt.NDArray[np.uint8]

BLOCK_TIMES = 4
"""Integrations held in memory at once."""


@dataclass(frozen=True)
class _Survey:
    """What one pass over the data found.

    Attributes
    ----------
    amplitude : (n_time, n_chan, n_pol) float
        The array's mean amplitude, baselines normalised; NaN without data.
    roughness : (n_time, n_chan, n_pol) float
        The array's mean second difference over channels, squared; NaN without data.
    level : (n_bl, n_pol) float
        Mean amplitude of each baseline; 0 without data.
    bad
        Per integration the packed zeros and NaN, or None where there are none.
    n_bad
        Their number outside missing subbands.
    """

    amplitude: Floats
    roughness: Floats
    level: Floats
    bad: list[Packed | None]
    n_bad: int


@dataclass(frozen=True)
class _Masks:
    """What is bad as a whole: (n_time, n_chan, n_pol) by interference, (n_bl, n_pol) by receptor, (n_chan,) missing."""

    interference: Bools
    receptors: Bools
    missing: Bools


def flag_measurement_set(ms: Path, *, options: FlaggingOptions) -> FlagReport:
    """Flag a Measurement Set in place.

    Parameters
    ----------
    ms
        The table; its DATA column is read, FLAG and FLAG_ROW are written.
    options
        Strategy and limits.

    Raises
    ------
    ExternalToolMissingError, ExternalToolError
        AOFlagger or CASA is missing or failed.
    LockedError
        Another process is writing the Measurement Set.
    """
    started = time.monotonic()
    layout = read_layout(ms)
    with rewriting(ms, step="flag"):
        survey = _survey_data(layout)
        dead = _find_dead(layout, survey, options)
        masks = _make_masks(layout, survey, dead, options)
        counts = _write_flags(layout, survey, masks, keep=not options.reset)
        if options.strategy != "array_wide":
            run_strategy(layout, options)
            counts = _write_flags(layout, survey, masks, keep=True)
    report = _report(layout, survey, (dead, masks, counts), options, time.monotonic() - started)
    logger.info("flagged %.2f %% of %s (%s)", 100 * report.flagged_fraction, ms.name, options.strategy)
    return report


def run_strategy(layout: Layout, options: FlaggingOptions) -> None:
    """Add the flags of a per-baseline strategy to FLAG; the caller holds the Measurement Set."""
    if options.strategy == "baseline":
        _flag_baselines(layout, options)
    elif options.strategy == "aoflagger":
        from dsa110_resources.aoflagger import run_aoflagger

        run_aoflagger(layout.path, timeout_s=options.timeout_s)
    elif options.strategy == "flagdata":
        run_casa_task(
            "flagdata",
            vis=layout.path,
            mode="tfcrop",
            datacolumn="DATA",
            action="apply",
            flagbackup=False,
            timeout_s=options.timeout_s,
        )


def _flag_baselines(layout: Layout, options: FlaggingOptions) -> None:
    """Run our own per-baseline detector on top of FLAG; amplitudes of the whole group are held (0.7 GB for full)."""
    shape = layout.n_baselines, layout.n_times, layout.n_channels, len(layout.polarizations)
    amplitude, flags = np.empty(shape, np.float32), np.empty(shape, dtype=bool)
    for times, block in iter_times(layout, ("DATA", "FLAG"), block=BLOCK_TIMES):
        np.abs(block["DATA"].swapaxes(0, 1), out=amplitude[:, times])
        flags[:, times] = block["FLAG"].swapaxes(0, 1)
    cross = np.flatnonzero(~layout.autocorrelations)
    shares = [slice(int(part[0]), int(part[-1]) + 1) for part in np.array_split(cross, 16 * _n_threads()) if len(part)]
    with ThreadPoolExecutor(_n_threads()) as pool:
        futures = [
            pool.submit(find_baseline_interference, amplitude[s], flags[s], options.base_threshold, options.rank_eta)
            for s in shares
        ]
        for future in futures:
            future.result()
    with open_ms(layout, write=True) as opened:
        for start in range(0, layout.n_times, BLOCK_TIMES):
            times = slice(start, min(start + BLOCK_TIMES, layout.n_times))
            opened.write("FLAG", flags[:, times].swapaxes(0, 1), times=times)


def _survey_data(layout: Layout) -> _Survey:
    """Read DATA once; a block is measured by threads while the next one is read."""
    tallies: list[Tally] = []
    bad: list[Packed | None] = []
    weight: Floats32 | None = None
    waiting: list[Future[tuple[Tally, Packed | None]]] = []
    with open_ms(layout) as opened, ThreadPoolExecutor(_n_threads()) as pool:
        for start in range(0, layout.n_times, BLOCK_TIMES):
            data = opened.read("DATA", times=slice(start, start + BLOCK_TIMES))
            if weight is None or not weight.any():
                weight = _baseline_weights(data, layout)
            _collect(waiting, tallies, bad)
            waiting = [pool.submit(_measure, one, weight) for one in data]
        _collect(waiting, tallies, bad)
    level = _mean(sum(t.level for t in tallies), sum(t.level_number for t in tallies))
    return _Survey(
        amplitude=_spectrum([_mean(t.amplitude, t.number) for t in tallies], layout),
        roughness=_spectrum([_mean(t.roughness, t.rough_number) for t in tallies], layout),
        level=np.nan_to_num(level),
        bad=bad,
        n_bad=sum(_count_bad(packed, layout) for packed in bad if packed is not None),
    )


def _measure(data: Complexes, weight: Floats32) -> tuple[Tally, Packed | None]:
    """Measure one integration: its sums, and packed zeros and NaN."""
    spectrum, level = data.shape[1:], weight.shape[:2]
    tally = Tally(
        np.zeros(spectrum),
        np.zeros(spectrum),
        np.zeros(spectrum, np.int64),
        np.zeros(spectrum, np.int64),
        np.zeros(level),
        np.zeros(level, np.int64),
        np.zeros(level),
    )
    bad = np.empty(data.shape, dtype=bool)
    any_bad = measure_integration(data, weight, bad, tally)
    return tally, np.packbits(bad) if any_bad else None


def _collect(
    waiting: list[Future[tuple[Tally, Packed | None]]], tallies: list[Tally], bad: list[Packed | None]
) -> None:
    for future in waiting:
        tally, packed = future.result()
        tallies.append(tally)
        bad.append(packed)


def _baseline_weights(data: Complexes, layout: Layout) -> Floats32:
    """Weights (n_bl, n_pol, 2): 1 / mean amplitude and 1 / (mean roughness)^2 over a block.

    0 for autocorrelations and where there is no data.
    """
    none = np.zeros((layout.n_baselines, data.shape[3], 2), np.float32)
    tallies = [_measure(one, none)[0] for one in data]
    number = sum(t.level_number for t in tallies)
    level = np.stack(
        [_mean(sum(t.level for t in tallies), number), _mean(sum(t.rough_level for t in tallies), number) ** 2], axis=-1
    )
    level[layout.autocorrelations] = np.nan
    return np.nan_to_num(1.0 / np.where(level > 0, level, np.nan)).astype(np.float32)


def _mean(total: Floats | int, number: Ints | int) -> Floats:
    """Quotient; NaN where nothing was counted."""
    counted = np.asarray(number)
    return np.where(counted > 0, np.asarray(total) / np.maximum(counted, 1), np.nan)


def _spectrum(parts: list[Floats], layout: Layout) -> Floats:
    spectrum = np.stack(parts)
    spectrum[:, layout.missing_channels] = np.nan
    return spectrum


def _count_bad(packed: Packed, layout: Layout) -> int:
    return int(np.count_nonzero(_unpack(packed, layout)[:, ~layout.missing_channels]))


def _unpack(packed: Packed | None, layout: Layout) -> Bools:
    shape = layout.n_baselines, layout.n_channels, len(layout.polarizations)
    if packed is None:
        return np.zeros(shape, dtype=bool)
    return np.unpackbits(packed, count=int(np.prod(shape))).astype(bool).reshape(shape)


def _find_dead(layout: Layout, survey: _Survey, options: FlaggingOptions) -> Bools:
    pairs = np.stack([layout.antenna1, layout.antenna2], axis=1)
    return find_dead_receptors(survey.level, pairs, len(layout.antenna_names), dead_below=options.dead_below)


def _make_masks(layout: Layout, survey: _Survey, dead: Bools, options: FlaggingOptions) -> _Masks:
    interference = np.zeros(survey.amplitude.shape, dtype=bool)
    if options.array_wide:
        interference = find_array_wide(survey.amplitude, survey.roughness, layout.channel_width_hz, options=options)
    receptors = dead[layout.antenna1] | dead[layout.antenna2]
    if options.autocorrelations:
        receptors |= layout.autocorrelations[:, None]
    return _Masks(interference, receptors, layout.missing_channels)


def _write_flags(layout: Layout, survey: _Survey, masks: _Masks, *, keep: bool) -> Ints:
    """Write FLAG and FLAG_ROW; returns the flagged samples (n_bl, n_chan), summed over time and polarisation."""
    counts = np.zeros((layout.n_baselines, layout.n_channels), np.int64)
    row_flags = np.zeros((layout.n_times, layout.n_baselines), dtype=bool)
    with open_ms(layout, write=True) as opened:
        for start in range(0, layout.n_times, BLOCK_TIMES):
            times = slice(start, min(start + BLOCK_TIMES, layout.n_times))
            flags = np.stack([_unpack(packed, layout) for packed in survey.bad[times]])
            if keep:
                flags |= opened.read("FLAG", times=times)
            for t, mine in enumerate(flags, start):
                channels = masks.interference[t] | masks.missing[:, None]
                combine_flags(mine, channels, masks.receptors, counts, row_flags[t])
            opened.write("FLAG", flags, times=times)
    _write_row_flags(layout, row_flags)
    return counts


def _write_row_flags(layout: Layout, row_flags: Bools) -> None:
    with open_table(layout.path, write=True) as table:
        if layout.rows is None:
            table.putcol("FLAG_ROW", row_flags.reshape(-1))
            return
        stored = np.ones(table.nrows(), dtype=bool)
        present = layout.rows >= 0
        stored[layout.rows[present]] = row_flags[present]
        table.putcol("FLAG_ROW", stored)


def _report(
    layout: Layout, survey: _Survey, found: tuple[Bools, _Masks, Ints], options: FlaggingOptions, seconds: float
) -> FlagReport:
    dead, masks, counts = found
    cross = ~layout.autocorrelations
    n_pol = len(layout.polarizations)
    per_baseline = counts.sum(axis=1) / (layout.n_times * layout.n_channels * n_pol)
    names = layout.antenna_names
    present = ~layout.missing_channels
    n_present = layout.n_times * layout.n_baselines * int(present.sum()) * n_pol
    return FlagReport(
        flagged_fraction=float(per_baseline[cross].mean()) if cross.any() else 1.0,
        flagged_fraction_working=_working_fraction(layout, masks, counts),
        per_antenna={
            names[a]: float(per_baseline[cross & ((layout.antenna1 == a) | (layout.antenna2 == a))].mean())
            for a in np.union1d(layout.antenna1[cross], layout.antenna2[cross])
        },
        per_subband=measure_fractions(counts, layout.n_times * n_pol, cross=cross),
        dead_receptors=[f"{names[a]} {layout.polarizations[p]}" for a, p in np.argwhere(dead)],
        zero_fraction=survey.n_bad / n_present if n_present else 1.0,
        array_wide_fraction=float(masks.interference[:, present].mean()) if present.any() else 0.0,
        strategy=options.strategy,
        seconds=seconds,
    )


def _working_fraction(layout: Layout, masks: _Masks, counts: Ints) -> float:
    """Flagged share of the samples that neither a dead receptor nor a missing subband takes away."""
    cross, present = ~layout.autocorrelations, ~layout.missing_channels
    lost = masks.receptors[cross].sum(axis=1)
    n_pol = len(layout.polarizations)
    n_all = layout.n_times * int(present.sum()) * (n_pol * int(cross.sum()) - int(lost.sum()))
    n_lost = layout.n_times * int(present.sum()) * int(lost.sum())
    flagged = int(counts[cross][:, present].sum()) - n_lost
    return flagged / n_all if n_all else 1.0


def _n_threads() -> int:
    return len(os.sched_getaffinity(0))
