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
from dsa110_assets.science.flagging_kernels import combine_flags, measure_amplitudes
from dsa110_resources.casa import run_casa_task
from dsa110_resources.casacore_tables import open_table
from dsa110_resources.measurement_set import Layout, open_ms, read_layout, rewriting

logger = logging.getLogger(__name__)

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

Floats32 = npt.NDArray[np.float32]
Complexes = npt.NDArray[np.complex64]
Packed = npt.NDArray[np.uint8]
_Measured = tuple[tuple[Floats, Ints], Packed | None]
"""Amplitude sums and counts (n_bl, n_pol), and packed zeros and NaN or None."""

BLOCK_TIMES = 4
"""Integrations held in memory at once."""


@dataclass(frozen=True)
class _Survey:
    """What one pass over the data found.

    Attributes
    ----------
    amplitude : (n_time, n_chan, n_pol) float
        The array's mean amplitude, baselines normalised; NaN without data.
    level : (n_bl, n_pol) float
        Mean amplitude of each baseline; 0 without data.
    bad
        Per integration the packed zeros and NaN, or None where there are none.
    n_bad
        Their number outside missing subbands.
    """

    amplitude: Floats
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
    if options.strategy == "aoflagger":
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


def _survey_data(layout: Layout) -> _Survey:
    """Read DATA once; a block is measured by threads while the next one is read."""
    shape = layout.n_times, layout.n_channels, len(layout.polarizations)
    sums, numbers = np.zeros(shape), np.zeros(shape, np.int64)
    level = np.zeros((layout.n_baselines, shape[2])), np.zeros((layout.n_baselines, shape[2]), np.int64)
    bad: list[Packed | None] = []
    weight: Floats32 | None = None
    waiting: list[Future[_Measured]] = []
    with open_ms(layout) as opened, ThreadPoolExecutor(_n_threads()) as pool:
        for start in range(0, layout.n_times, BLOCK_TIMES):
            data = opened.read("DATA", times=slice(start, start + BLOCK_TIMES))
            if weight is None:
                weight = _baseline_weights(data, layout)
            _collect(waiting, level, bad)
            waiting = [
                pool.submit(_measure, one, layout, weight, (sums[start + k], numbers[start + k]))
                for k, one in enumerate(data)
            ]
            if not weight.any():
                weight = None
        _collect(waiting, level, bad)
    amplitude = np.where(numbers > 0, sums / np.maximum(numbers, 1), np.nan)
    amplitude[:, layout.missing_channels] = np.nan
    n_bad = sum(_count_bad(packed, layout) for packed in bad if packed is not None)
    return _Survey(amplitude, level[0] / np.maximum(level[1], 1), bad, n_bad)


def _measure(data: Complexes, layout: Layout, weight: Floats32, spectrum: tuple[Floats, Ints]) -> _Measured:
    """Measure one integration: its spectrum in place, its levels, and packed zeros and NaN."""
    level = np.zeros(weight.shape), np.zeros(weight.shape, np.int64)
    bad = np.empty(data.shape, dtype=bool)
    measure_amplitudes(data, layout.autocorrelations, weight, bad, spectrum, level)
    return level, np.packbits(bad) if bad.any() else None


def _collect(waiting: list[Future[_Measured]], level: tuple[Floats, Ints], bad: list[Packed | None]) -> None:
    for future in waiting:
        (amplitude, number), packed = future.result()
        level[0][:] += amplitude
        level[1][:] += number
        bad.append(packed)


def _baseline_weights(data: Complexes, layout: Layout) -> Floats32:
    """1 / mean amplitude of each baseline over the first block that has data; 0 where it has none."""
    none = np.zeros((layout.n_baselines, data.shape[3]), np.float32)
    shape = data.shape[2:]
    total, number = np.zeros(none.shape), np.zeros(none.shape, np.int64)
    for one in data:
        (amplitude, n), _ = _measure(one, layout, none, (np.zeros(shape), np.zeros(shape, np.int64)))
        total += amplitude
        number += n
    return np.divide(number, total, out=np.zeros(none.shape), where=total > 0).astype(np.float32)


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
        interference = find_array_wide(survey.amplitude, layout.channel_width_hz, options=options)
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
