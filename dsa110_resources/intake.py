"""One look at the incoming folder: from new files to groups that are ready, without Dagster.

The subband sensor and ``dsa110 process`` both call :func:`take_arrivals`. It may be killed anywhere and run twice at
once: everything it decides is in the ledger, and it repeats what is not.
"""

import logging
import math
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pydantic import BaseModel, Field

from dsa110_assets.science.errors import ShapeError
from dsa110_assets.science.subbands import GroupingOptions, group_start_of, subband_index_of, unix_time_of
from dsa110_resources.archive import Archive
from dsa110_resources.errors import CorruptInputError, PermanentError
from dsa110_resources.incoming import (
    SETTLE_S,
    Candidate,
    FolderMemory,
    Scan,
    folder_mtime_ns,
    is_unchanged,
    read_name,
    scan_folder,
)
from dsa110_resources.operations import Arrival, Group, OperationsStore, RejectedFile, SentAlert
from dsa110_resources.quarantine import reason_of, resolve_record, write_file_record, write_group_record
from dsa110_resources.settings import Settings
from dsa110_resources.uvh5 import SubbandHeader, read_header

_LOG = logging.getLogger(__name__)
_BATCH = 64
_NAME_SKEW = timedelta(seconds=180)
"""Names of one group lie within this of its header time (82 s spread, 102 s at a restart)."""
_DAY_S = 86400.0
_MTIME_GRAIN_S = 2.0
"""A folder changed less than this before the look may change again without another modification time."""


class IntakeOptions(BaseModel, frozen=True):
    """How files are taken in."""

    grouping: GroupingOptions = GroupingOptions()
    """When a group is ready."""
    campaign_start: datetime = datetime(2025, 1, 1, tzinfo=UTC)
    """Groups that start earlier are quarantined."""
    settle_s: float = Field(default=SETTLE_S, ge=0)
    """A file modified more recently than this may still grow, s."""
    budget_s: float = Field(default=20.0, gt=0)
    """Time after which no further header is read in one look, s (a sensor tick may take 60 s)."""

    @classmethod
    def from_settings(cls, settings: Settings, *, settle_s: float = SETTLE_S) -> "IntakeOptions":
        """Options of a deployment."""
        grouping = GroupingOptions(
            expected_subbands=settings.expected_subbands,
            min_subbands=settings.min_subbands,
            wait_s=settings.group_wait_s,
        )
        return cls(grouping=grouping, campaign_start=settings.partitions_start, settle_s=settle_s)


@dataclass(frozen=True)
class IntakeReport:
    """What one look did.

    Attributes
    ----------
    outcomes
        Files by outcome: taken, late, duplicate, or the reason they were refused for.
    changed
        Groups that became pending or quarantined.
    memory
        To be handed to the next look.
    n_unread
        Files left for the next look because the time was up.
    unreachable
        Names of files that could not be read now.
    seconds
        How long it took.
    """

    outcomes: Mapping[str, int]
    changed: tuple[Group, ...]
    memory: FolderMemory
    n_unread: int
    unreachable: tuple[str, ...]
    seconds: float


def take_arrivals(
    store: OperationsStore,
    archive: Archive,
    folder: Path,
    *,
    options: IntakeOptions,
    previous: FolderMemory | None = None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> IntakeReport:
    """Take new subbands into the ledger, decide about groups, write quarantine records.

    Parameters
    ----------
    store, archive, folder
        Where groups are kept, where records go, where files arrive.
    options
        Policy.
    previous
        ``memory`` of the last report; it may be lost.
    now
        The clock.

    Returns
    -------
    IntakeReport
        One bad file never keeps the others from being taken.
    """
    began = time.monotonic()
    folder, memory = folder.absolute(), previous or FolderMemory()
    reader = _Reader(store, options, store.arrivals.rejected(), began + options.budget_s)
    if is_unchanged(folder, memory, rejected=reader.rejected, n_known=store.arrivals.count_known()):
        unread: list[str] = []
    else:
        mtime_ns = folder_mtime_ns(folder)  # before the look: what comes meanwhile changes it
        scan = reader.scan(folder, memory, now())
        unread = reader.read(scan.ready, now)
        quiet = not (unread or scan.growing or reader.unreachable)
        trusted = quiet and now().timestamp() - mtime_ns * 1e-9 > _MTIME_GRAIN_S
        memory = FolderMemory(
            growing=scan.growing,
            folder_mtime_ns=mtime_ns if trusted else 0,
            n_known=store.arrivals.count_known(),
            n_entries=scan.n_entries,
            n_unfinished=len(scan.unfinished),
        )
    held = _held_groups(store, [*unread, *memory.growing])
    changed = store.arrivals.settle(
        options=options.grouping, campaign_start=options.campaign_start, now=now(), held=held
    )
    _report_changes(store, changed, now())
    write_records(store, archive, now=now())
    return IntakeReport(
        outcomes=dict(reader.outcomes),
        changed=tuple(changed),
        memory=memory,
        n_unread=len(unread),
        unreachable=tuple(reader.unreachable),
        seconds=time.monotonic() - began,
    )


def arrival_of(candidate: Candidate, header: SubbandHeader) -> Arrival:
    """What the ledger keeps of a header."""
    dec_deg = math.degrees(header.dec_app_rad)
    n_polarizations = len(header.polarizations)
    shape = f"{header.n_times} x {header.n_baselines} x {header.n_channels} x {n_polarizations} at Dec {dec_deg:.6f}"
    return Arrival(
        path=candidate.path,
        size=candidate.size,
        mtime_ns=candidate.mtime_ns,
        start_jd=header.time_start_jd,
        end_jd=float(header.times_jd[-1]) + 0.5 * header.integration_s / _DAY_S,
        subband_idx=subband_index_of(header.frequencies_hz),
        dec_deg=dec_deg,
        shape=shape,
    )


def renew_files(store: OperationsStore, group: Group) -> list[Path]:
    """Take the group's files that were copied again since (another size, the same subband); returns them."""
    taken = store.arrivals.file_sizes(group.group_id)
    renewed = []
    for path, size in taken.items():
        if not path.is_file() or path.stat().st_size == size:
            continue
        found = path.stat()
        arrival = arrival_of(Candidate(path, found.st_size, found.st_mtime_ns), read_header(path))
        if store.arrivals.renew(arrival):
            _LOG.warning("%s was copied again: %d B instead of %d B", path, found.st_size, size)
            renewed.append(path)
    return renewed


def write_records(store: OperationsStore, archive: Archive, *, now: datetime) -> list[Path]:
    """Write every quarantine record that is still missing, and close those whose group was taken up again."""
    groups, files = store.arrivals.unrecorded()
    written = []
    for group in groups:
        written.append(write_group_record(archive, group, now=now))
        store.arrivals.set_record(written[-1], group_id=group.group_id)
    for file in files:
        written.append(write_file_record(archive, file, now=now))
        store.arrivals.set_record(written[-1], file=file.path)
    for group in store.arrivals.taken_up_again():
        resolve_record(Path(group.record_path or ""), f"taken up again as attempt {group.attempt}", now=now)
        store.arrivals.set_record(None, group_id=group.group_id)
    return written


class _Reader:
    """Reads headers of new files and registers them, batch by batch until the time is up."""

    def __init__(
        self, store: OperationsStore, options: IntakeOptions, rejected: Mapping[str, RejectedFile], deadline: float
    ) -> None:
        self.rejected = rejected
        self.outcomes: Counter[str] = Counter()
        self.unreachable: list[str] = []
        self._store = store
        self._options = options
        self._deadline = deadline

    def scan(self, folder: Path, memory: FolderMemory, now: datetime) -> Scan:
        """Look at the folder."""
        return scan_folder(
            folder,
            known=self._store.arrivals.known_paths(),
            rejected=self.rejected,
            previous=memory.growing,
            now=now,
            settle_s=self._options.settle_s,
        )

    def read(self, candidates: Sequence[Candidate], now: Callable[[], datetime]) -> list[str]:
        """Take the candidates in; returns the names of those that there was no time for."""
        for start in range(0, len(candidates), _BATCH):
            if time.monotonic() > self._deadline:
                return [candidate.path.name for candidate in candidates[start:]]
            self._take(candidates[start : start + _BATCH], now())
        return []

    def _take(self, batch: Sequence[Candidate], now: datetime) -> None:
        arrivals: list[Arrival] = []
        refused: list[RejectedFile] = []
        for candidate in batch:
            try:
                arrivals.append(arrival_of(candidate, read_header(candidate.path)))
            except (PermanentError, ShapeError) as error:
                if os.access(candidate.path, os.R_OK):
                    refused.append(_refused(candidate, error))
                else:
                    self.unreachable.append(candidate.path.name)  # gone, or not ours to read: not the file's fault
            except OSError as error:
                _LOG.warning("%s cannot be read now: %s", candidate.path, error)
                self.unreachable.append(candidate.path.name)
        self._store.arrivals.reject(refused, now=now)
        arrivals.sort(key=_name_error_s)
        registered = self._store.arrivals.register(arrivals, options=self._options.grouping, now=now)
        for registration in registered:
            _close_file_record(self.rejected.get(str(registration.path)), registration.outcome, now)
        self.outcomes.update([file.reason for file in refused] + [item.outcome for item in registered])


def _name_error_s(arrival: Arrival) -> float:
    """How far a name is from its header: of two copies found at once the honestly named one is taken."""
    hint = read_name(arrival.path.name)
    return math.inf if hint is None else abs(hint.moment.timestamp() - unix_time_of(arrival.start_jd))


def _refused(candidate: Candidate, error: PermanentError | ShapeError) -> RejectedFile:
    told = error if isinstance(error, PermanentError) else CorruptInputError(str(error))
    file = RejectedFile(
        path=candidate.path,
        size=candidate.size,
        mtime_ns=candidate.mtime_ns,
        reason=reason_of(told),
        message=told.message,
        cure=told.cure or "copy it again from its node",
    )
    _LOG.warning("%s refused (%s): %s", file.path, file.reason, file.message)
    return file


def _close_file_record(refused: RejectedFile | None, outcome: str, now: datetime) -> None:
    if refused is not None and refused.record_path and outcome in {"taken", "late"}:
        resolve_record(Path(refused.record_path), f"the file changed and was {outcome}", now=now)


def _held_groups(store: OperationsStore, names: Sequence[str]) -> set[str]:
    """Collecting groups of which a file that was not read may be a member, judged by its name."""
    moments = [hint.moment for name in names if (hint := read_name(name)) is not None]
    if not moments:
        return set()
    return {
        group_id
        for group_id in store.arrivals.collecting()
        if any(abs(moment - group_start_of(group_id)) <= _NAME_SKEW for moment in moments)
    }


def _report_changes(store: OperationsStore, changed: Sequence[Group], now: datetime) -> None:
    for group in changed:
        if group.reason is None:
            continue
        _LOG.warning("group %s quarantined (%s): %s", group.group_id, group.reason, group.error_message)
        if group.reason == "window_occupied":
            message = f"{group.error_message} Cure: {group.cure}"
            store.alerts.record_sent(
                SentAlert(group.group_id, group.reason, "warning", message, channel="log"), now=now
            )
