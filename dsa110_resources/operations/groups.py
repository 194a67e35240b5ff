"""Rows of the ledger as values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import sqlalchemy as sa

from dsa110_resources.operations.schema import GroupState


@dataclass(frozen=True)
class Group:
    """One subband group of the ledger.

    Attributes
    ----------
    group_id, partition_key
        Its name and its 5-minute window.
    state, attempt, n_subbands, expected_subbands
        Where it stands; *partial* is completed with fewer subbands than expected.
    start_mjd, end_mjd
        Mid-time of the first integration (``time_array[0]``) and end of the last one, MJD (UTC).
    start_jd
        The header's ``time_array[0]`` bit for bit, Julian date (UTC).
    dec_deg
        Apparent declination of the meridian point, deg; None if unknown.
    files
        Path by subband index; filled by the calls that say so.
    """

    group_id: str
    state: GroupState
    n_subbands: int
    attempt: int
    expected_subbands: int
    partition_key: str
    start_jd: float
    start_mjd: float
    end_mjd: float
    dec_deg: float | None
    received_at: datetime
    last_update: datetime
    last_arrival_at: datetime
    retry_count: int = 0
    has_calibrator: bool | None = None
    calibrators: tuple[str, ...] = ()
    error_message: str | None = None
    reason: str | None = None
    cure: str | None = None
    record_path: str | None = None
    record_due: bool = False
    run_id: str | None = None
    started_at: datetime | None = None
    n_subbands_used: int | None = None
    waiting_for: tuple[str, ...] = ()
    waiting_since: datetime | None = None
    requested_attempt: int = 0
    requested_at: datetime | None = None
    completed_at: datetime | None = None
    refined: bool = False
    files: Mapping[int, Path] = field(default_factory=dict)

    @property
    def run_key(self) -> str:
        """What makes a run of this attempt unique: ``group_id:attempt``."""
        return f"{self.group_id}:{self.attempt}"

    @property
    def is_partial(self) -> bool:
        """Whether subbands are missing."""
        return self.n_subbands < self.expected_subbands

    @property
    def missing_subbands(self) -> tuple[int, ...]:
        """Indices without a file (needs ``files``)."""
        return tuple(index for index in range(self.expected_subbands) if index not in self.files)


@dataclass(frozen=True)
class Arrival:
    """A subband file whose header was read.

    Attributes
    ----------
    start_jd, end_jd
        ``time_array[0]`` and the end of the last integration, Julian dates (UTC).
    subband_idx
        From the channel frequencies, 0 the highest.
    shape
        Integrations, baselines, channels and declination as one text: equal in all files of a group.
    """

    path: Path
    size: int
    mtime_ns: int
    start_jd: float
    end_jd: float
    subband_idx: int
    dec_deg: float | None
    shape: str


@dataclass(frozen=True)
class RejectedFile:
    """A file that can never be part of a group as it is now; it is looked at again when it changes."""

    path: Path
    size: int
    mtime_ns: int
    reason: str
    message: str
    cure: str
    group_id: str | None = None
    subband_idx: int | None = None
    record_path: str | None = None


@dataclass(frozen=True)
class Registration:
    """What became of one arrival: ``taken``, ``late``, ``known`` or ``duplicate``."""

    path: Path
    outcome: str
    group_id: str


def split_list(text: str | None) -> tuple[str, ...]:
    """Items of a comma-separated column."""
    return tuple(item for item in (text or "").split(",") if item)


def group_of_row(row: sa.RowMapping, files: Mapping[int, Path] | None = None) -> Group:
    """Build a group from its ``ingest_queue`` row."""
    values = dict(row)
    values["state"] = GroupState(values["state"])
    values["calibrators"] = split_list(values["calibrators"])
    values["waiting_for"] = split_list(values["waiting_for"])
    return Group(**values, files=files or {})
