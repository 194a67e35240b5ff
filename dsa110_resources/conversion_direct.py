"""The production writer: raw subbands straight into the columns of one Measurement Set.

A few threads read and rephase subbands (both release the interpreter lock) while this one writes the tiles of the one
before: memory stays at a few subbands, and the time is that of moving the bytes.
"""

import logging
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue

import numpy as np
import numpy.typing as npt

from dsa110_assets.science import geometry, instrument
from dsa110_assets.science.phasing import Floats, antenna_phasors, rephase, thermal_sigma_jy
from dsa110_resources.casacore_tables import open_table
from dsa110_resources.ms_creation import add_data_column, create_measurement_set
from dsa110_resources.ms_subtables import SECONDS_PER_DAY
from dsa110_resources.subband_group import SubbandGroup
from dsa110_resources.uvh5 import SubbandHeader
from dsa110_resources.uvh5_tiles import read_tiles

logger = logging.getLogger(__name__)

Bools = npt.NDArray[np.bool_]


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
    """Buffers of one subband; they are used again and again (touching fresh memory costs as much as the work)."""

    visibilities: npt.NDArray[np.complex64]
    flags: Bools
    nsamples: Floats = field(default_factory=lambda: np.empty(0))
    any_flag: bool = False


@dataclass(frozen=True, eq=False)
class _Geometry:
    """What the rephasing and the UVW column share."""

    axes: Floats
    shift: Floats
    uvw_m: Floats


def _group_geometry(group: SubbandGroup) -> _Geometry:
    header = group.first
    axes = geometry.uvw_axes(*group.phase_center_deg, header.times_jd)
    positions, order = header.antenna_positions_m, group.order
    vectors = positions[order.antenna1] - positions[order.antenna2]
    shift = axes[:, 2] - geometry.meridian_direction(header.dec_app_rad)
    return _Geometry(axes, shift, np.einsum("tij,bj->tbi", axes, vectors))


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
    with watch.step("write"):
        create_measurement_set(ms, **shape)
    sky = _group_geometry(group)
    with open_table(ms, write=True) as table:
        nsamples = np.zeros(header.n_blts)
        for subband, slab in _rephased_subbands(group, sky, _Plan(group, threads, flag_autos), watch):
            channels = group.channels_of(subband)
            with watch.step("write"):
                corner, end = [channels.start, 0], [channels.stop - 1, n_pol - 1]
                table.putcolslice("DATA", slab.visibilities, corner, end)
                if slab.any_flag:
                    table.putcolslice("FLAG", slab.flags, corner, end)
            nsamples += slab.nsamples / len(group.headers)
        with watch.step("write"):
            _flag_missing(table, group)
            _write_rows(table, group, sky, nsamples)


class _Plan:
    """What all subbands of a group share."""

    def __init__(self, group: SubbandGroup, threads: int, flag_autos: bool) -> None:
        order, header = group.order, group.first
        self.threads = threads
        starts = np.arange(header.n_times) * header.n_baselines
        self.raw_rows = (starts[:, None] + np.argsort(order.destination)).reshape(-1)
        """Raw row of each Measurement Set row."""
        autos = np.tile(order.antenna1 == order.antenna2, header.n_times)
        self.fixed_flags: Bools = autos & flag_autos
        """Rows flagged in all channels, (n_row,)."""


def _rephased_subbands(
    group: SubbandGroup, sky: _Geometry, plan: _Plan, watch: Stopwatch
) -> Iterator[tuple[int, _Slab]]:
    """Subbands in ascending frequency; a slab is only valid until the next one is asked for.

    There are as many slabs as jobs under way and one is in the consumer's hands, so no job ever waits for a slab that
    is not coming back.
    """
    header = group.first
    shape = (header.n_blts, header.n_channels, len(header.polarizations))
    free: SimpleQueue[_Slab] = SimpleQueue()
    for _ in range(plan.threads + 1):
        free.put(_Slab(np.empty(shape, np.complex64), np.empty(shape, np.bool_)))
    waiting = sorted(group.headers, reverse=True)
    pool = ThreadPoolExecutor(plan.threads, thread_name_prefix="convert")
    try:
        running: list[tuple[int, Future[_Slab]]] = []
        while waiting or running:
            while waiting and len(running) <= plan.threads:
                subband = waiting.pop(0)
                job = pool.submit(_prepare, group, group.headers[subband], sky, plan, free.get(), watch)
                running.append((subband, job))
            subband, job = running.pop(0)
            slab = job.result()
            yield subband, slab
            free.put(slab)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _prepare(
    group: SubbandGroup, header: SubbandHeader, sky: _Geometry, plan: _Plan, slab: _Slab, watch: Stopwatch
) -> _Slab:
    with watch.step("read"):
        tiles = read_tiles(header)
    descending = bool(header.frequencies_hz[0] > header.frequencies_hz[-1])
    with watch.step("rephase"):
        slab.flags[...] = plan.fixed_flags[:, None, None]
        n_bad = rephase(
            tiles.visibilities,
            antenna_phasors(header.antenna_positions_m, sky.shift, header.frequencies_hz),
            group.baselines.antenna1,
            group.baselines.antenna2,
            order=group.order,
            reverse_channels=descending,
            out=slab.visibilities,
            flags=slab.flags,
        )
    slab.nsamples = tiles.nsamples[plan.raw_rows]
    empty = slab.nsamples == 0
    if tiles.flags is not None:
        slab.flags |= tiles.flags[plan.raw_rows, :: -1 if descending else 1]
    slab.flags[empty] = True
    recorded = bool(n_bad) or tiles.flags is not None or bool(empty.any())
    slab.any_flag = recorded or bool(plan.fixed_flags.any())
    if n_bad:
        logger.warning("%s: %d values are not finite; zeroed and flagged", header.path.name, n_bad)
    return slab


def _flag_missing(table: object, group: SubbandGroup) -> None:
    """Channels of missing subbands exist: zero, flagged, and of weight zero (which needs a weight per channel)."""
    if not group.missing:
        return
    header = group.first
    n_pol = len(header.polarizations)
    shape = (header.n_blts, header.n_channels, n_pol)
    add_data_column(table, "WEIGHT_SPECTRUM", "float", n_baseline=header.n_baselines)
    weight = np.full(shape, visibility_weight(header, 1.0), np.float32)
    flags, zeros, no_weight = np.ones(shape, bool), np.zeros(shape, np.complex64), np.zeros(shape, np.float32)
    for subband in range(instrument.N_SUBBANDS):
        channels = group.channels_of(subband)
        corner, end = [channels.start, 0], [channels.stop - 1, n_pol - 1]
        missing = subband in group.missing
        table.putcolslice("WEIGHT_SPECTRUM", no_weight if missing else weight, corner, end)  # type: ignore[attr-defined]
        if missing:
            table.putcolslice("FLAG", flags, corner, end)  # type: ignore[attr-defined]
            table.putcolslice("DATA", zeros, corner, end)  # type: ignore[attr-defined]


def visibility_weight(header: SubbandHeader, share: float) -> float:
    """Thermal weight, 1 / Jy^2, of a calibrated visibility that got ``share`` of an integration's samples."""
    sigma = thermal_sigma_jy(instrument.SEFD_JY, header.channel_width_hz, header.integration_s)
    return share / sigma**2


def _write_rows(table: object, group: SubbandGroup, sky: _Geometry, nsamples: Floats) -> None:
    """Every column but DATA and FLAG.

    SIGMA is the noise of DATA (raw units, at the nominal gain) and WEIGHT that of CORRECTED_DATA (1 / Jy^2), both
    thermal: CASA solves with the one and images with the other.
    """
    header, order = group.first, group.order
    n_times, n_pol = header.n_times, len(header.polarizations)
    share = nsamples / instrument.SAMPLES_PER_INTEGRATION
    full = visibility_weight(header, 1.0)
    weight = np.repeat((full * share)[:, None], n_pol, axis=1).astype(np.float32)
    sigma_jy = np.divide(1.0, np.sqrt(full * share), out=np.zeros_like(share), where=share > 0)
    sigma = np.repeat((sigma_jy * instrument.RAW_GAIN**2)[:, None], n_pol, axis=1).astype(np.float32)
    seconds = np.repeat((header.times_jd - 2400000.5) * SECONDS_PER_DAY, header.n_baselines)
    zero, one = np.zeros(header.n_blts, np.int32), np.ones(header.n_blts, np.int32)
    columns = {
        "UVW": sky.uvw_m.reshape(-1, 3),
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
        table.putcol(name, values)  # type: ignore[attr-defined]
