"""Flagging of a full-array group by every strategy, beside AOFlagger and CASA flagdata, in one run.

``data_dir`` holds a simulated group (raw files, or a Measurement Set) and, beside it, ``truth/rfi.parquet``; the notes
then state what each strategy caught.
"""

from __future__ import annotations

import resource
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dsa110_assets.science.flagging import FlaggingOptions
from dsa110_assets.science.instrument import ARRAY_NAMES, array_configuration
from dsa110_resources.aoflagger import run_aoflagger
from dsa110_resources.conversion import convert_group
from dsa110_resources.errors import ExternalToolMissingError
from dsa110_resources.flagging import flag_measurement_set, run_strategy
from dsa110_resources.measurement_set import Layout, read_column, read_layout, rewriting, write_column

LIMIT_S = 10.0


def run(data_dir: Path) -> list[dict[str, Any]]:
    """Array-wide detector and own per-baseline detector against the peers; FLAG starts the same for each."""
    with tempfile.TemporaryDirectory(prefix="bench-flagging-", dir=data_dir) as scratch:
        ms = copy_or_convert(data_dir, Path(scratch))
        flag_measurement_set(ms, options=FlaggingOptions(array_wide=False))  # compiles, and warms the page cache
        truth = read_truth(data_dir, read_layout(ms))
        cost: dict[str, tuple[float, float]] = {}
        caught: dict[str, str] = {}
        cost["array_wide"] = measure(lambda: flag_measurement_set(ms, options=FlaggingOptions()))
        caught["array_wide"] = describe(ms, truth)
        layout, before = read_layout(ms), read_column(ms, "FLAG")
        for name, work in thorough(layout).items():
            with rewriting(ms):
                write_column(layout, "FLAG", before)
            try:
                cost[name] = measure(work)
            except ExternalToolMissingError:
                continue
            caught[name] = describe(ms, truth)
    return rows(cost, caught)


def thorough(layout: Layout) -> dict[str, Callable[[], object]]:
    """What adds per-baseline flags to FLAG."""
    return {
        "baseline": lambda: run_strategy(layout, FlaggingOptions(strategy="baseline")),
        "AOFlagger": lambda: run_aoflagger(layout.path, timeout_s=1800),
        "CASA flagdata tfcrop": lambda: run_strategy(layout, FlaggingOptions(strategy="flagdata")),
    }


def rows(cost: dict[str, tuple[float, float]], caught: dict[str, str]) -> list[dict[str, Any]]:
    """One row for each of our two detectors against each peer that ran."""
    table = []
    for ours in ("array_wide", "baseline"):
        for peer in ("AOFlagger", "CASA flagdata tfcrop"):
            if peer in cost:
                seconds = f"{cost[ours][1]:.1f} against {cost[peer][1]:.1f} CPU-s"
                table.append(
                    {
                        "stage": f"flagging, {ours}",
                        "ours_s": cost[ours][0],
                        "peer": peer,
                        "peer_s": cost[peer][0],
                        "ratio": cost[peer][0] / cost[ours][0],
                        "limit_s": LIMIT_S if ours == "array_wide" else 4 * LIMIT_S,
                        "note": f"{seconds}; ours: {caught[ours]}; peer: {caught[peer]}",
                    }
                )
    return table


def measure(work: Callable[[], object]) -> tuple[float, float]:
    """Wall and CPU seconds, children included."""
    started, cpu = time.perf_counter(), cpu_seconds()
    work()
    return time.perf_counter() - started, cpu_seconds() - cpu


def cpu_seconds() -> float:
    """User and system time of this process and of its finished children."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def copy_or_convert(data_dir: Path, scratch: Path) -> Path:
    """A Measurement Set of our own."""
    found = sorted(data_dir.glob("*.ms"))
    if found:
        return Path(shutil.copytree(found[0], scratch / found[0].name))
    ms = scratch / "bench.ms"
    files = sorted(data_dir.glob("*_sb*.hdf5"))
    convert_group([path for path in files if path.name[:16] == files[0].name[:16]], ms)
    return ms


def read_truth(data_dir: Path, layout: Layout) -> tuple[np.ndarray, np.ndarray] | None:
    """Array-wide (n_time, n_chan) and baseline-local (n_time, n_bl, n_chan) interference, None without truth."""
    path = data_dir / "truth" / "rfi.parquet"
    if not path.exists():
        return None
    rfi = pd.read_parquet(path)
    rfi = rfi[rfi["group_id"] == layout.group_id]
    known = {16 * array.n_channels: array for array in map(array_configuration, ARRAY_NAMES)}
    if layout.n_channels not in known:
        return None
    array = known[layout.n_channels]
    pairs = [frozenset(array.antenna_names[a] for a in pair) for pair in zip(*array.baselines(), strict=True)]
    names = layout.antenna_names
    ends = zip(layout.antenna1, layout.antenna2, strict=True)
    place = {frozenset((names[a], names[b])): k for k, (a, b) in enumerate(ends)}
    everywhere = np.zeros((layout.n_times, layout.n_channels), bool)
    local = np.zeros((layout.n_times, layout.n_baselines, layout.n_channels), bool)
    for row in rfi.itertuples():
        times = np.array([bit == "1" for bit in str(row.integrations)])
        if row.scope == "array":
            everywhere[times, row.channel] = True
        elif len(pairs[row.baseline]) == 2:
            local[times, place[pairs[row.baseline]], row.channel] = True
    return everywhere, local


def describe(ms: Path, truth: tuple[np.ndarray, np.ndarray] | None) -> str:
    """What was caught of which interference, and what was flagged besides, among living receptors."""
    if truth is None:
        return "no truth beside the data"
    everywhere, local = truth
    layout = read_layout(ms)
    flags = read_column(layout, "FLAG").all(axis=3)
    alive = ~layout.autocorrelations & ~flags.all(axis=(0, 2))
    flags, local = flags[:, alive], local[:, alive] & ~everywhere[:, None]
    quiet = ~everywhere.any(axis=0)
    strong = flags.transpose(0, 2, 1)[everywhere].mean() if everywhere.any() else np.nan
    weak = flags[local].mean() if local.any() else np.nan
    false = (flags & ~local)[:, :, quiet].mean()
    return f"{strong:.1%} of array-wide, {weak:.0%} of baseline-local, {false:.2%} false"
