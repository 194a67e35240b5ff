"""A telescope to plug in: observes a simulated campaign and writes raw subband files as the real one does."""

import logging
import os
import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from dsa110_assets.science.instrument import (
    GROUPS_PER_RESTART,
    INTEGRATION_S,
    N_SUBBANDS,
    array_configuration,
)
from dsa110_assets.science.simulation_campaign import Campaign, plan_campaign
from dsa110_assets.science.simulation_group import GroupSimulator
from dsa110_assets.science.simulation_options import SimulationOptions
from dsa110_assets.science.simulation_schedule import PlannedGroup, skew_names
from dsa110_assets.science.subbands import group_id_of
from dsa110_assets.science.wander import seeded_generator
from dsa110_resources.catalogues import read_component_catalogue
from dsa110_resources.errors import DiskFullError
from dsa110_resources.faults import (
    Fault,
    damage_file,
    disturb_header,
    disturb_instrument,
    disturb_names,
    disturb_schedule,
    extra_files,
    faults_of_group,
    is_restart,
    late_subbands,
    missing_subbands,
    parse_faults,
    stays_incomplete,
)
from dsa110_resources.simulated_truth import TRUTH_NAME, TruthWriter, write_catalogues
from dsa110_resources.uvh5_writer import RawHeader, write_subband

logger = logging.getLogger(__name__)

BYTES_PER_SAMPLE = 13
"""complex64 + float32 nsamples + one flag."""
BYTES_PER_ROW = 44
"""uvw, time, integration and antennas in the header."""
PUSH_SPREAD_S = 15.0
"""The nodes push their finished files one by one; with a pace they land within so many seconds."""
PACIFIC_DAYS = -8.0 / 24.0
"""``history`` tells local time at the observatory."""


@dataclass(frozen=True)
class SimulatedObservation:
    """What a run of the simulator left on disk.

    Attributes
    ----------
    groups
        Group id and the subband files written, in order.
    truth_dir
        Tables of the truth.
    catalogue_path, nvss_path
        The catalogue that is believed, as component CSV and as NVSS-format FITS.
    """

    groups: list[tuple[str, list[Path]]]
    truth_dir: Path
    catalogue_path: Path
    nvss_path: Path


@dataclass(frozen=True)
class Pace:
    """Writing in scaled real time.

    Attributes
    ----------
    speed
        Seconds of the sky per second of the clock.
    sleep, clock
        Replaced in tests.
    """

    speed: float = 1.0
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic


def simulate(options: SimulationOptions, out_dir: Path, *, pace: Pace | None = None) -> SimulatedObservation:
    """Observe a campaign and write its raw files, its truth and its catalogue.

    Parameters
    ----------
    options
        What to simulate.
    out_dir
        Where the subband files go; ``truth/``, ``catalogue.csv`` and ``nvss.fits`` are written beside them.
    pace
        None: as fast as it goes. Else a group appears when its last integration is over, in scaled time.

    Returns
    -------
    SimulatedObservation
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    require_space(options, out_dir)
    catalogue = None if options.catalogue is None else read_component_catalogue(options.catalogue)
    faults = parse_faults(options.faults, n_groups=options.n_groups * options.n_days, seed=options.seed)
    campaign = plan_campaign(options, catalogue, disturb=lambda groups: disturb_schedule(groups, faults))
    catalogue_path, nvss_path = write_catalogues(out_dir, campaign)
    truth = TruthWriter(out_dir / TRUTH_NAME, campaign)
    truth.write_campaign()
    observer = Observer(campaign, out_dir, faults=faults, pace=pace)
    with threadpool_limits(1), ThreadPoolExecutor(os.cpu_count() or 1) as threads:
        groups = []
        for planned in campaign.groups:
            simulator = observer.point(planned)
            paths = observer.record(simulator, threads)
            group_id = group_id_of(float(planned.times_jd[0]))
            truth.add_group(group_id, simulator, paths, faults_of_group(faults, planned.index))
            groups.append((group_id, paths))
            logger.info("wrote group %s: %d files, %d sources", group_id, len(paths), len(simulator.sources))
    return SimulatedObservation(groups, truth.directory, catalogue_path, nvss_path)


def require_space(options: SimulationOptions, out_dir: Path) -> None:
    """Refuse to begin what the disk cannot hold.

    Raises
    ------
    DiskFullError
        If less is free than the campaign will write.
    """
    array = array_configuration(options.array)
    n_antennas = len(array.antenna_order)
    n_rows = n_antennas * (n_antennas + 1) // 2 * array.n_integrations
    group = N_SUBBANDS * n_rows * (BYTES_PER_ROW + BYTES_PER_SAMPLE * array.n_channels * 2)
    need = options.n_groups * options.n_days * group
    free = shutil.disk_usage(out_dir).free
    if need > free:
        raise DiskFullError(
            f"{need / 1e9:.1f} GB are needed and {free / 1e9:.1f} GB are free",
            path=out_dir,
            cure="free space, or simulate fewer groups or the small array",
        )


class Observer:
    """Writes the groups of a campaign, one after the other.

    Parameters
    ----------
    campaign
        What is simulated.
    out_dir
        Where files go.
    faults
        What goes wrong.
    pace
        Scaled real time, or None.
    """

    def __init__(
        self, campaign: Campaign, out_dir: Path, *, faults: Sequence[Fault] = (), pace: Pace | None = None
    ) -> None:
        self._campaign = campaign
        self._out_dir = out_dir
        self._faults = faults
        self._pace = pace
        self._started = pace.clock() if pace else 0.0
        self._delays_ns = draw_applied_delays(campaign)

    def point(self, planned: PlannedGroup) -> GroupSimulator:
        """The group as it will be observed: names skewed, receptors broken as asked for."""
        options = self._campaign.options
        if options.name_skew:
            is_first = options.restart_cadence and planned.index % options.n_groups % GROUPS_PER_RESTART == 0
            planned = skew_names(planned, options.seed, is_restart=is_first or is_restart(planned, self._faults))
        planned = disturb_names(planned, self._faults, options.seed)
        instrument = disturb_instrument(self._campaign.instrument, self._faults, planned.index, options.seed)
        return GroupSimulator(self._campaign, planned, instrument)

    def record(self, simulator: GroupSimulator, threads: ThreadPoolExecutor) -> list[Path]:
        """Write one group's files, hidden until the group is over, and publish them; returns what arrived."""
        planned, index = simulator.planned, simulator.planned.index
        missing, late = missing_subbands(self._faults, index), late_subbands(self._faults, index)
        order = [s for s in range(N_SUBBANDS) if s not in missing]
        targets = {s: self._out_dir / subband_name(float(planned.name_times_jd[s]), s) for s in order}
        for subband, target in targets.items():
            staged = incomplete_name(target)
            write_subband(staged, self._header(planned, subband), simulator.visibilities(subband, threads))
            damage_file(staged, self._faults, index, subband)
        arrived = []
        for due_s, subband in sorted((self._arrival_s(planned, s, s in late), s) for s in order):
            self._wait_until(float(planned.times_jd[-1]), due_s)
            if not stays_incomplete(self._faults, index, subband):
                arrived.append(incomplete_name(targets[subband]).replace(targets[subband]))
        arrived.sort(key=lambda path: path.stem[-2:])
        return arrived + extra_files(arrived, self._faults, planned)

    def _header(self, planned: PlannedGroup, subband: int) -> RawHeader:
        array = self._campaign.array
        header = RawHeader(
            array=array,
            frequencies_hz=array.frequencies_hz(subband),
            times_jd=planned.times_jd,
            dec_app_rad=planned.phase_dec_rad,
            applied_delays_ns=self._delays_ns,
            written_at=group_id_of(float(planned.name_times_jd[subband]) + PACIFIC_DAYS),
        )
        return disturb_header(header, self._faults, planned.index, subband)

    def _arrival_s(self, planned: PlannedGroup, subband: int, is_late: bool) -> float:
        """Seconds from the middle of the last integration until a node has pushed its file to the storage host."""
        name_lag_s = float(planned.name_times_jd[subband] - planned.name_times_jd.min()) * 86400.0
        pushed = seeded_generator(self._campaign.options.seed, "arrival", planned.index, subband).random()
        return INTEGRATION_S + pushed * PUSH_SPREAD_S + (name_lag_s if is_late else 0.0)

    def _wait_until(self, time_jd: float, seconds: float) -> None:
        """Sleep until so many seconds after a moment of the sky, counted from the beginning of the campaign."""
        if self._pace is None:
            return
        first = float(self._campaign.groups[0].times_jd[0])
        due_s = (time_jd - first) * 86400.0 + seconds
        left_s = due_s / self._pace.speed - (self._pace.clock() - self._started)
        if left_s > 0:
            self._pace.sleep(left_s)


def subband_name(name_jd: float, subband: int) -> str:
    """``YYYY-MM-DDTHH:MM:SS_sbNN.hdf5``."""
    return f"{group_id_of(name_jd)}_sb{subband:02d}.hdf5"


def incomplete_name(target: Path) -> Path:
    """Name of a subband file while it is being written: ``…_sbNN_incomplete.hdf5``."""
    return target.with_name(f"{target.stem}_incomplete{target.suffix}")


def draw_applied_delays(campaign: Campaign) -> np.ndarray:
    """Delays set in the correlator, even ns, shape (117, 2); the polarisations differ by at most 2 ns."""
    delays = np.zeros((len(campaign.array.antenna_names), 2), dtype=np.int64)
    for antenna in campaign.array.antenna_order:
        generator = seeded_generator(campaign.options.seed, "applied delays", int(antenna))
        delays[antenna] = 2 * int(generator.integers(7600, 8180)) + 2 * generator.integers(0, 2, 2)
    return delays
