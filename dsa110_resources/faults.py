"""What goes wrong at the telescope: the failures seen in real data, each switchable by name.

A fault is asked for as ``NAME[:GROUP[:SUBBAND]]``, GROUP counted from 0. Without numbers, faults spread over the groups
after the first (which usually holds the calibrator) and choose their subband by the seed.
"""

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy as np

from dsa110_assets.science.instrument import CORRELATOR_RESTART_S, GROUP_SPACING_S, GROUPS_PER_RESTART, N_SUBBANDS
from dsa110_assets.science.instrument_model import Instrument
from dsa110_assets.science.simulation_schedule import RESTART_NAME_LEAD_S, PlannedGroup, accumulate_times
from dsa110_assets.science.wander import seeded_generator
from dsa110_resources.errors import PermanentError
from dsa110_resources.uvh5_writer import RawHeader

FAULTS = {
    "missing": "one subband never arrives",
    "missing_many": "five subbands never arrive",
    "late": "one node opens its file 59-82 s late; with --watch the file appears last, after a pause",
    "truncated": "one file is cut at 67 % of its bytes",
    "zero_byte": "one file is empty",
    "zero_byte_flood": "sixteen empty files named 01:00:00 besides",
    "incomplete": "one file keeps its _incomplete name",
    "wrong_shape": "the data of one file lack the last integration that its header counts",
    "foreign": "one file is another telescope's",
    "unreadable": "one file is without read permission (which root does not notice)",
    "duplicate": "the whole group is there a second time, named 7 s later",
    "mjd55000": "header times count from MJD 55000 (no etcd at the start): all subbands, or the one named",
    "clock": "one node's clock is a minute fast, in every group",
    "zero_delays": "applied_delays_ns is 0 for an active antenna",
    "dead_antenna": "an antenna dies (2 % of its amplitude, no sky) from this group on",
    "dead_polarization": "one receptor of an antenna dies from this group on",
    "rogue_delay": "an antenna's delay is off by 426 ns from this group on",
    "restart": "the correlator restarts: 708.6 s from the last group's start, names 102 s ahead of the data",
    "outage": "nothing for 6 h 33 min before this group",
    "pointing_change": "the telescope moves by 2 degrees from this group on",
    "stale_fringestop": "the telescope points 1 degree off the phase centre from this group on",
}
"""Name and what happens (TELESCOPE.md 1.10)."""

FOREIGN_TELESCOPE = "ATA"
TRUNCATED_FRACTION = 0.67
"""97,341,016 of 145,348,600 bytes were left of a file of 2026-01-25."""
OUTAGE_S = 6.55 * 3600.0
POINTING_CHANGE_DEG = 2.0
STALE_OFFSET_DEG = 1.0
ROGUE_DELAY_S = 426e-9
DUPLICATE_LAG_S = 7.0
CLOCK_ERROR_S = 60.0
ETCD_DEFAULT_JD = 2455000.5
N_MISSING_MANY = 5


@dataclass(frozen=True)
class Fault:
    """One failure.

    Attributes
    ----------
    kind
        Key of :data:`FAULTS`.
    group
        Index of the (first) group it strikes.
    subband
        The subband it strikes, where it strikes one.
    is_explicit
        The subband was named by the user.
    """

    kind: str
    group: int
    subband: int
    is_explicit: bool = False

    def __str__(self) -> str:
        return f"{self.kind}:{self.group}:{self.subband}"


def parse_faults(specifications: Iterable[str], *, n_groups: int, seed: int) -> tuple[Fault, ...]:
    """Read fault specifications ``NAME[:GROUP[:SUBBAND]]``.

    Raises
    ------
    PermanentError
        For an unknown name or a number out of range.
    """
    faults = []
    for k, text in enumerate(specifications):
        kind, *numbers = text.strip().split(":")
        if kind not in FAULTS:
            raise PermanentError(f"no fault is called {kind!r}", cure=f"choose from {', '.join(FAULTS)}")
        try:
            group, subband = [int(n) for n in numbers] + [None] * (2 - len(numbers))
        except ValueError:
            raise PermanentError(f"cannot read the fault {text!r}", cure="write NAME[:GROUP[:SUBBAND]]") from None
        if group is None:
            group = 1 + k % (n_groups - 1) if n_groups > 1 else 0
        drawn = int(seeded_generator(seed, "fault", kind, abs(group)).integers(1, N_SUBBANDS))
        fault = Fault(kind, group, drawn if subband is None else subband, subband is not None)
        if not (0 <= fault.group < n_groups and 0 <= fault.subband < N_SUBBANDS):
            raise PermanentError(
                f"the fault {text!r} is outside {n_groups} groups of {N_SUBBANDS} subbands", cure="count from 0"
            )
        faults.append(fault)
    return tuple(faults)


def _strikes(faults: Sequence[Fault], kind: str, group: int, *, onwards: bool = False) -> list[Fault]:
    return [f for f in faults if f.kind == kind and (f.group == group or (onwards and f.group < group))]


def disturb_schedule(groups: list[PlannedGroup], faults: Sequence[Fault]) -> list[PlannedGroup]:
    """Restarts, outages and pointing changes: they move all groups after them."""
    disturbed = []
    gap_s = CORRELATOR_RESTART_S - GROUPS_PER_RESTART * GROUP_SPACING_S
    for k, planned in enumerate(groups):
        restarts = _strikes(faults, "restart", k, onwards=True)
        outages = _strikes(faults, "outage", k, onwards=True)
        moved = planned.shifted(len(restarts) * gap_s + len(outages) * OUTAGE_S)
        if _strikes(faults, "restart", k):
            moved = replace(moved, name_times_jd=moved.name_times_jd - RESTART_NAME_LEAD_S / 86400.0)
        dec = moved.pointing_dec_rad
        dec += len(_strikes(faults, "pointing_change", k, onwards=True)) * np.radians(POINTING_CHANGE_DEG)
        stale = len(_strikes(faults, "stale_fringestop", k, onwards=True)) * np.radians(STALE_OFFSET_DEG)
        disturbed.append(replace(moved, phase_dec_rad=dec, pointing_dec_rad=dec + stale))
    return disturbed


def is_restart(planned: PlannedGroup, faults: Sequence[Fault]) -> bool:
    """Whether a restart fault falls on a group."""
    return bool(_strikes(faults, "restart", planned.index))


def disturb_names(planned: PlannedGroup, faults: Sequence[Fault], seed: int) -> PlannedGroup:
    """Late nodes and wrong clocks: they change the names only."""
    names = planned.name_times_jd.copy()
    for fault in _strikes(faults, "late", planned.index):
        names[fault.subband] += seeded_generator(seed, "late", planned.index).integers(59, 83) / 86400.0
    for fault in faults:
        if fault.kind == "clock":
            names[fault.subband] += CLOCK_ERROR_S / 86400.0
    return replace(planned, name_times_jd=names)


def disturb_instrument(instrument: Instrument, faults: Sequence[Fault], group: int, seed: int) -> Instrument:
    """Receptors that die and delays that are misset, from their group on."""
    for kind in ("dead_antenna", "dead_polarization", "rogue_delay"):
        for fault in _strikes(faults, kind, group, onwards=True):
            generator = seeded_generator(seed, kind, fault.group)
            alive = np.flatnonzero(~instrument.dead.any(axis=1) & (instrument.stations != 103))
            antenna = int(generator.choice(alive))
            if kind == "rogue_delay":
                instrument = instrument.with_delay(antenna, ROGUE_DELAY_S)
            else:
                struck = slice(None) if kind == "dead_antenna" else slice(fault.subband % 2, fault.subband % 2 + 1)
                instrument = instrument.with_dead(antenna, struck)
    return instrument


def disturb_header(header: RawHeader, faults: Sequence[Fault], group: int, subband: int) -> RawHeader:
    """Headers that lie: MJD 55000, a foreign telescope, forgotten delays."""
    for fault in _strikes(faults, "mjd55000", group):
        if fault.subband == subband or not fault.is_explicit:
            first = ETCD_DEFAULT_JD + (group * GROUP_SPACING_S) / 86400.0
            header = replace(header, times_jd=accumulate_times(first, len(header.times_jd)))
    if any(fault.subband == subband for fault in _strikes(faults, "foreign", group)):
        header = replace(header, telescope_name=FOREIGN_TELESCOPE)
    if _strikes(faults, "zero_delays", group):
        delays = header.applied_delays_ns.copy()
        delays[header.array.antenna_order[0]] = 0
        header = replace(header, applied_delays_ns=delays)
    return header


def missing_subbands(faults: Sequence[Fault], group: int) -> set[int]:
    """Subbands of a group that never arrive."""
    missing = {fault.subband for fault in _strikes(faults, "missing", group)}
    for fault in _strikes(faults, "missing_many", group):
        missing |= {(fault.subband + 3 * k) % N_SUBBANDS for k in range(N_MISSING_MANY)}
    return missing


def late_subbands(faults: Sequence[Fault], group: int) -> set[int]:
    """Subbands of a group that arrive after the others."""
    return {fault.subband for fault in _strikes(faults, "late", group)}


def stays_incomplete(faults: Sequence[Fault], group: int, subband: int) -> bool:
    """Whether a file keeps its ``_incomplete`` name."""
    return any(fault.subband == subband for fault in _strikes(faults, "incomplete", group))


def damage_file(path: Path, faults: Sequence[Fault], group: int, subband: int) -> None:
    """Truncate, empty, reshape or lock a finished file, as asked for."""
    kinds = {f.kind for f in faults if f.group == group and f.subband == subband}
    if "wrong_shape" in kinds:
        _drop_last_integration(path)
    if "truncated" in kinds:
        with path.open("r+b") as handle:
            handle.truncate(int(path.stat().st_size * TRUNCATED_FRACTION))
    if "zero_byte" in kinds:
        path.write_bytes(b"")
    if "unreadable" in kinds:
        path.chmod(0)


def _drop_last_integration(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        n_rows = int(file["Header/Nblts"][()]) - int(file["Header/Nbls"][()])
        for name in ("visdata", "flags", "nsamples"):
            file[f"Data/{name}"].resize(n_rows, axis=0)


def extra_files(paths: Sequence[Path], faults: Sequence[Fault], planned: PlannedGroup) -> list[Path]:
    """Write what should not be there: duplicates of the group, and empty files."""
    extra = []
    if _strikes(faults, "duplicate", planned.index):
        for path in paths:
            stamp, _, rest = path.name.partition("_")
            later = np.datetime64(stamp, "s") + np.timedelta64(int(DUPLICATE_LAG_S), "s")
            extra.append(path.with_name(f"{later}_{rest}"))
            shutil.copyfile(path, extra[-1])
    if _strikes(faults, "zero_byte_flood", planned.index):
        day = paths[0].name.partition("T")[0]
        for subband in range(N_SUBBANDS):
            extra.append(paths[0].with_name(f"{day}T01:00:00_sb{subband:02d}.hdf5"))
            extra[-1].touch()
    return extra


def faults_of_group(faults: Sequence[Fault], group: int) -> list[str]:
    """Faults that a group suffers from, as text for the truth."""
    lasting = {"dead_antenna", "dead_polarization", "rogue_delay", "pointing_change", "stale_fringestop", "clock"}
    return [
        str(f) for f in faults if f.group == group or (f.kind in lasting and (f.group < group or f.kind == "clock"))
    ]
