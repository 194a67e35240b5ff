"""What work the data ask for: bandpasses where a transit was observed, gains where an hour has tiles (DECISIONS 4)."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from dsa110_assets.defs.platform import Platform
from dsa110_assets.defs.tiles import require_dec
from dsa110_resources.operations import CaltableRecord, Group, GroupState
from dsa110_resources.operations.strips import STRIP_DEG

LOOK_BACK_D = 3.0
"""Days before the data clock in which missing tables are asked for; older ones are a backfill's business."""
CONVERTED = (GroupState.IN_PROGRESS, GroupState.WAITING_CALIBRATION, GroupState.COMPLETED, GroupState.FAILED)


@dataclass(frozen=True)
class Request:
    """One partition to be made; the key makes the same request once."""

    partition: str
    run_key: str
    reason: str


def recent_groups(platform: Platform) -> list[Group]:
    """Groups of the last days that have a Measurement Set and are not being worked on, oldest first."""
    ledger = platform.operations.ledger
    clock = ledger.latest_group_end()
    if clock is None:
        return []
    groups = ledger.groups_between(clock - LOOK_BACK_D, clock + 1.0, CONVERTED)
    return [g for g in groups if g.state is not GroupState.IN_PROGRESS and platform.archive.find_ms(g.group_id)]


def bandpass_requests(platform: Platform) -> Iterator[Request]:
    """Days whose observed calibrator transits have no bandpass; and closed days whose groups wait without one.

    The second kind is solved on the catalogue field, with a warning: a strip without any calibrator.
    """
    groups, records = recent_groups(platform), platform.operations.registry.tables("BP")
    solved = {group_id for record in records for group_id in record.group_ids}
    closed = {
        period.key for period in platform.operations.periods.closed_days(quiet_s=platform.settings.period_quiet_s)
    }
    for group in groups:
        day = group.group_id[:10]
        if group.has_calibrator and group.group_id not in solved:
            best = ",".join(group.calibrators)
            yield Request(
                day, f"bandpass:{day}:{group.group_id}:{group.attempt}", f"{best} transits in {group.group_id}"
            )
        elif "BP" in group.waiting_for and day in closed and not _has_table(group, records):
            dec = require_dec(group)
            yield Request(day, f"bandpass:{day}:strip{dec:+.0f}", f"no calibrator transit on strip {dec:+.2f} deg")


def gain_requests(platform: Platform) -> Iterator[Request]:
    """Hours with tiles that no gain table covers, once the hour is closed or a group waits for gains."""
    registry, periods = platform.operations.registry, platform.operations.periods
    bandpasses, gains = registry.tables("BP"), registry.tables("G")
    covered = {group_id for record in gains for group_id in record.group_ids}
    closed = {period.key for period in periods.closed_hours(quiet_s=platform.settings.period_quiet_s)}
    hours: dict[str, list[Group]] = {}
    for group in recent_groups(platform):
        if _has_table(group, bandpasses):
            hours.setdefault(group.group_id[:13], []).append(group)
    for hour, groups in hours.items():
        missing = [group for group in groups if group.group_id not in covered]
        waiting = [group for group in missing if "G" in group.waiting_for]
        if waiting or (missing and hour in closed):
            yield Request(hour, f"gains:{hour}:{len(groups)}", f"{len(missing)} tiles without gains")


def overdue_groups(platform: Platform) -> list[Group]:
    """Groups that have waited for calibration for longer than the setting says."""
    limit = timedelta(hours=platform.settings.waiting_calibration_warn_h)
    clock = platform.operations.ledger.latest_group_end()
    waiting = platform.operations.ledger.find_waiting()
    return [g for g in waiting if clock is not None and (clock - g.end_mjd) * 86400.0 > limit.total_seconds()]


def _has_table(group: Group, records: list[CaltableRecord]) -> bool:
    dec = require_dec(group)
    return any(record.active and abs(record.dec_deg - dec) <= STRIP_DEG for record in records)
