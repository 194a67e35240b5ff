"""The production writer: raw subbands straight into the columns of one Measurement Set.

A few threads read and rephase blocks of integrations, all subbands of each (both release the interpreter lock), while
this one writes the block before. Blocks follow each other in the file, so every tile is written once and memory stays
at a few blocks.
"""

import logging
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import numpy.typing as npt

from dsa110_assets.science import geometry, instrument
from dsa110_assets.science.phasing import Floats, antenna_phasors, rephase, thermal_sigma_jy
from dsa110_resources.ms_creation import add_data_column, new_measurement_set
from dsa110_resources.ms_subtables import SECONDS_PER_DAY
from dsa110_resources.subband_group import SubbandGroup
from dsa110_resources.uvh5 import SubbandHeader
from dsa110_resources.uvh5_tiles import SubbandReader

logger = logging.getLogger(__name__)

Bools = npt.NDArray[np.bool_]
_BLOCK_BYTES = 60_000_000
"""About one integration of the full array."""


class Stopwatch:
    """Seconds per step, summed over threads."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Add the time spent inside to a step."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - start


@dataclass(eq=False)
class _Slab:
    """Buffers of one block; they are used again and again (touching fresh memory costs as much as the work)."""

    visibilities: npt.NDArray[np.complex64]
    flags: Bools
    times: slice = field(default_factory=lambda: slice(0))
    nsamples: Floats = field(default_factory=lambda: np.empty(0))
    n_bad: int = 0


class _Plan:
    """What all blocks of a group share: sky, rows, and what is flagged whatever the data."""

    def __init__(self, group: SubbandGroup, readers: dict[int, SubbandReader], flag_autos: bool) -> None:
        header, order = group.first, group.order
        self.group, self.readers = group, readers
        axes = geometry.uvw_axes(*group.phase_center_deg, header.times_jd)
        vectors = header.antenna_positions_m[order.antenna1] - header.antenna_positions_m[order.antenna2]
        self.uvw_m: Floats = np.einsum("tij,bj->tbi", axes, vectors)
        self.shift: Floats = axes[:, 2] - geometry.meridian_direction(header.dec_app_rad)
        self.raw_baselines = np.argsort(order.destination)
        """Raw baseline of each row of an integration."""
        self.fixed_flags: Bools = (order.antenna1 == order.antenna2) & flag_autos
        """Baselines flagged in all channels."""
        row_bytes = 8 * header.n_baselines * group.n_channels * len(header.polarizations)
        self.block = max(1, min(header.n_times, _BLOCK_BYTES // row_bytes))

    def blocks(self) -> list[slice]:
        """Integrations of each block."""
        n_times = self.group.first.n_times
        return [slice(start, min(start + self.block, n_times)) for start in range(0, n_times, self.block)]

    def new_slab(self) -> _Slab:
        """Buffers for one block; channels of missing subbands are zero and flagged from the start."""
        group = self.group
        shape = (self.block * group.first.n_baselines, group.n_channels, len(group.first.polarizations))
        slab = _Slab(np.empty(shape, np.complex64), np.empty(shape, np.bool_))
        for subband in group.missing:
            slab.visibilities[:, group.channels_of(subband)] = 0.0
        return slab


def write_direct(group: SubbandGroup, ms: Path, *, threads: int, flag_autos: bool, watch: Stopwatch) -> None:
    """Write the main table of a group's Measurement Set at a path that does not exist yet.

    Parameters
    ----------
    group
        From :func:`dsa110_resources.subband_group.read_group`.
    ms
        Where; the caller publishes it.
    threads
        Threads that read and rephase.
    flag_autos
        Whether autocorrelations are flagged.
    watch
        Gets the seconds of ``read``, ``rephase`` and ``write``.
    """
    header = group.first
    n_baseline, n_pol = header.n_baselines, len(header.polarizations)
    shape = {"n_baseline": n_baseline, "n_time": header.n_times, "n_channel": group.n_channels, "n_pol": n_pol}
    with ExitStack() as stack:
        with watch.step("read"):
            readers = {k: stack.enter_context(SubbandReader(member)) for k, member in group.headers.items()}
        plan = _Plan(group, readers, flag_autos)
        table = stack.enter_context(new_measurement_set(ms, **shape))
        if group.missing:
            add_data_column(table, "WEIGHT_SPECTRUM", "float", n_baseline=n_baseline)
        nsamples = np.zeros(header.n_blts)
        for slab in _rephased_blocks(plan, threads, watch):
            with watch.step("write"):
                _write_block(table, slab, group)
            nsamples[slab.times.start * n_baseline : slab.times.stop * n_baseline] = slab.nsamples
            if slab.n_bad:
                logger.warning("%s: %d values are not finite; zeroed and flagged", ms.name, slab.n_bad)
        with watch.step("write"):
            _write_rows(table, plan, nsamples)


def _rephased_blocks(plan: _Plan, threads: int, watch: Stopwatch) -> Iterator[_Slab]:
    """Blocks in order of time; a slab is only valid until the next one is asked for.

    There are as many slabs as jobs under way, counting the one in the consumer's hands, so none is ever waited for.
    """
    free: SimpleQueue[_Slab] = SimpleQueue()
    waiting = plan.blocks()
    for _ in range(min(threads + 1, len(waiting))):
        free.put(plan.new_slab())
    pool = ThreadPoolExecutor(threads, thread_name_prefix="convert")
    try:
        running: list[Future[_Slab]] = []
        while waiting or running:
            while waiting and len(running) <= threads:
                running.append(pool.submit(_prepare, plan, waiting.pop(0), free.get(), watch))
            slab = running.pop(0).result()
            yield slab
            free.put(slab)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _prepare(plan: _Plan, times: slice, slab: _Slab, watch: Stopwatch) -> _Slab:
    group, header = plan.group, plan.group.first
    n_times = times.stop - times.start
    n_rows = n_times * header.n_baselines
    starts = np.arange(n_times)[:, None] * header.n_baselines
    raw_rows = (starts + plan.raw_baselines).reshape(-1)
    flags = slab.flags[:n_rows]
    flags[...] = np.tile(plan.fixed_flags, n_times)[:, None, None]
    for subband in group.missing:
        flags[:, group.channels_of(subband)] = True
    slab.times, slab.n_bad, slab.nsamples = times, 0, np.zeros(n_rows)
    for subband, member in group.headers.items():
        with watch.step("read"):
            tiles = plan.readers[subband].read(times.start, times.stop)
        channels = group.channels_of(subband)
        with watch.step("rephase"):
            slab.n_bad += rephase(
                tiles.visibilities,
                antenna_phasors(header.antenna_positions_m, plan.shift[times], member.frequencies_hz),
                order=group.order,
                out=slab.visibilities[:n_rows],
                flags=flags,
                first_channel=channels.start,
            )
        counts = tiles.nsamples[raw_rows]
        if tiles.flags is not None:
            flags[:, channels] |= tiles.flags[raw_rows, :: -1 if tiles.visibilities.descending else 1]
        if not counts.all():
            flags[counts == 0, channels] = True
        slab.nsamples += counts / len(group.headers)
    return slab


def _write_block(table: Any, slab: _Slab, group: SubbandGroup) -> None:
    n_baselines = group.first.n_baselines
    row, n_rows = slab.times.start * n_baselines, (slab.times.stop - slab.times.start) * n_baselines
    table.putcol("DATA", slab.visibilities[:n_rows], row, n_rows)
    table.putcol("FLAG", slab.flags[:n_rows], row, n_rows)
    if group.missing:
        weight = np.full(slab.flags[:n_rows].shape, visibility_weight(group.first, 1.0), np.float32)
        weight *= (slab.nsamples / instrument.SAMPLES_PER_INTEGRATION).astype(np.float32)[:, None, None]
        for subband in group.missing:
            weight[:, group.channels_of(subband)] = 0.0
        table.putcol("WEIGHT_SPECTRUM", weight, row, n_rows)


def visibility_weight(header: SubbandHeader, share: float) -> float:
    """Thermal weight, 1 / Jy^2, of a calibrated visibility that got ``share`` of an integration's samples."""
    sigma = thermal_sigma_jy(instrument.SEFD_JY, header.channel_width_hz, header.integration_s)
    return share / sigma**2


def _write_rows(table: Any, plan: _Plan, nsamples: Floats) -> None:
    """Every column but DATA and FLAG.

    SIGMA is the noise of DATA (raw units, at the nominal gain) and WEIGHT that of CORRECTED_DATA (1 / Jy^2), both
    thermal: CASA solves with the one and images with the other.
    """
    header, order = plan.group.first, plan.group.order
    n_times, n_pol = header.n_times, len(header.polarizations)
    share = nsamples / instrument.SAMPLES_PER_INTEGRATION
    full = visibility_weight(header, 1.0)
    weight = np.repeat((full * share)[:, None], n_pol, axis=1).astype(np.float32)
    sigma_jy = np.divide(1.0, np.sqrt(full * share), out=np.zeros_like(share), where=share > 0)
    sigma = np.repeat((sigma_jy * instrument.RAW_GAIN**2)[:, None], n_pol, axis=1).astype(np.float32)
    seconds = np.repeat((header.times_jd - 2400000.5) * SECONDS_PER_DAY, header.n_baselines)
    zero, one = np.zeros(header.n_blts, np.int32), np.ones(header.n_blts, np.int32)
    columns = {
        "UVW": plan.uvw_m.reshape(-1, 3),
        "ANTENNA1": np.tile(order.antenna1, n_times).astype(np.int32),
        "ANTENNA2": np.tile(order.antenna2, n_times).astype(np.int32),
        "TIME": seconds,
        "TIME_CENTROID": seconds,
        "INTERVAL": np.full(header.n_blts, header.integration_s),
        "EXPOSURE": header.integration_s * share,
        "WEIGHT": weight,
        "SIGMA": sigma,
        "SCAN_NUMBER": one,
        "FLAG_ROW": np.zeros(header.n_blts, bool),
    }
    columns |= dict.fromkeys(("ARRAY_ID", "DATA_DESC_ID", "FEED1", "FEED2", "FIELD_ID", "OBSERVATION_ID"), zero)
    columns |= dict.fromkeys(("PROCESSOR_ID", "STATE_ID"), zero)
    for name, values in columns.items():
        table.putcol(name, values)
