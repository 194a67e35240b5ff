"""Which calibration table a group gets: pure functions over registry records (DECISIONS 6).

The fallback chain is *active* (its validity covers the group) → *nearest* in time on the same declination strip →
*last known good*; each step is named on the product with the table's age. Observation time decides, never the clock.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from dsa110_resources.errors import PermanentError
from dsa110_resources.operations.strips import STRIP_DEG, family_of, order_index_of

DEFAULT_WINDOWS_H = {"K": 24.0, "BP": 24.0, "G": 1.0, "FLUX": 24.0}
"""Validity either side of the observation by family, h."""


@dataclass(frozen=True)
class CaltableRecord:
    """One row of the calibration registry.

    Attributes
    ----------
    set_name
        Tables solved together (the group or hour they come from).
    path
        CASA table directory.
    table_type
        One of ``K BA BP GA G GP 2G FLUX``.
    valid_start_mjd, valid_end_mjd
        First integration − w and last integration + w, MJD (UTC).
    solved_mjd
        Mid-time of the data it was solved on, MJD (UTC).
    dec_deg
        Apparent declination of that pointing, deg.
    group_ids
        The groups it was solved on.
    quality
        ``good``, ``doubtful`` (used, with a WARN) or ``refused`` (kept, never used).
    checksum
        SHA-256 over the table's files.
    """

    set_name: str
    path: Path
    table_type: str
    valid_start_mjd: float
    valid_end_mjd: float
    solved_mjd: float
    dec_deg: float
    group_ids: tuple[str, ...]
    quality: str = "good"
    active: bool = True
    refant: str | None = None
    solver: str | None = None
    flux_anchor: str | None = None
    checksum: str | None = None
    run_id: str | None = None
    note: str | None = None
    created_at: datetime | None = None

    def covers(self, mjd: float) -> bool:
        """Whether a time (MJD, UTC) is inside the validity."""
        return self.valid_start_mjd <= mjd <= self.valid_end_mjd


@dataclass(frozen=True)
class TableChoice:
    """The table a group gets and how it came to it.

    Attributes
    ----------
    record
        The table.
    step
        ``active``, ``nearest`` or ``last_known_good``.
    age_h
        Group time minus the time the table was solved on, h; negative for a later table.
    beyond_window
        Whether the group lies outside the table's validity: a WARN on the product.
    """

    record: CaltableRecord
    step: str
    age_h: float
    beyond_window: bool


@dataclass(frozen=True)
class Bracket:
    """Tables before and after a time, with the weight of the later one for linear interpolation in time."""

    before: CaltableRecord | None
    after: CaltableRecord | None
    weight_after: float


def validity_mjd(
    table_type: str, first_mjd: float, last_mjd: float, *, window_h: float | None = None
) -> tuple[float, float]:
    """Validity of a table solved on integrations from ``first_mjd`` to ``last_mjd`` (MJD, UTC).

    Parameters
    ----------
    window_h
        Half-width w, h; default by family: 24 (K, BP), 1 (G).

    Raises
    ------
    PermanentError
        If the type is unknown or the times are in the wrong order.
    """
    order_index_of(table_type)
    if last_mjd < first_mjd:
        raise PermanentError(f"validity from {first_mjd} to {last_mjd} runs backwards", cure="give first before last")
    window = (DEFAULT_WINDOWS_H[family_of(table_type)] if window_h is None else window_h) / 24.0
    return first_mjd - window, last_mjd + window


def select_table(
    records: Iterable[CaltableRecord],
    *,
    dec_deg: float,
    mjd: float,
    live: bool,
    max_age_h: float | None = None,
) -> TableChoice | None:
    """Choose among the tables of one type.

    Parameters
    ----------
    records
        Candidates of one table type, any strip.
    dec_deg, mjd
        Declination (deg) and mid-time (MJD, UTC) of the group.
    live
        Only tables solved on data not later than the group.
    max_age_h
        Tables further away in time than this are no answer at all; default: no limit.

    Returns
    -------
    TableChoice or None
        None: the group must wait. Ties in time go to the newest row.
    """
    near = [
        record
        for record in records
        if abs(record.dec_deg - dec_deg) <= STRIP_DEG
        and record.quality != "refused"
        and (not live or record.solved_mjd <= mjd)
        and (max_age_h is None or abs(mjd - record.solved_mjd) * 24.0 <= max_age_h)
    ]
    active = [record for record in near if record.active]
    steps: tuple[tuple[str, Sequence[CaltableRecord]], ...] = (
        ("active", [record for record in active if record.covers(mjd)]),
        ("nearest", active),
        ("last_known_good", [record for record in near if record.quality == "good"]),
    )
    for step, candidates in steps:
        if candidates:
            record = min(candidates, key=lambda record: _distance(record, mjd))
            return TableChoice(record, step, (mjd - record.solved_mjd) * 24.0, not record.covers(mjd))
    return None


def find_bracket(records: Iterable[CaltableRecord], *, dec_deg: float, mjd: float) -> Bracket:
    """Nearest active tables before and after a time whose validity covers it (hourly G when reprocessing).

    Returns
    -------
    Bracket
        ``weight_after`` = (t − t_before) / (t_after − t_before); 0 or 1 when there is one side only.
    """
    valid = [
        record
        for record in records
        if record.active
        and record.quality != "refused"
        and abs(record.dec_deg - dec_deg) <= STRIP_DEG
        and record.covers(mjd)
    ]
    earlier = [record for record in valid if record.solved_mjd <= mjd]
    later = [record for record in valid if record.solved_mjd > mjd]
    before = min(earlier, key=lambda record: _distance(record, mjd), default=None)
    after = min(later, key=lambda record: _distance(record, mjd), default=None)
    if before is None or after is None:
        return Bracket(before, after, 0.0 if after is None else 1.0)
    return Bracket(before, after, (mjd - before.solved_mjd) / (after.solved_mjd - before.solved_mjd))


def _distance(record: CaltableRecord, mjd: float) -> tuple[float, float, str]:
    made = record.created_at.timestamp() if record.created_at else 0.0
    return abs(record.solved_mjd - mjd), -made, str(record.path)
