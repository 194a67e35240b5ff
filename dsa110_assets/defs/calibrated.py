"""Calibrated visibilities: tables are chosen at run time from the registry, applied, and recorded with the product."""

import json
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
from pydantic import BaseModel

from dsa110_assets.defs.failures import typed_failures
from dsa110_assets.defs.metadata import OWNERS, Check, Finding, check_results, check_specs, numeric_metadata
from dsa110_assets.defs.partitions import BANDPASS_TO_TILE, GAIN_TO_TILE
from dsa110_assets.defs.performance import record_times
from dsa110_assets.defs.platform import Platform
from dsa110_assets.defs.tiles import TILES, hold_group, require_dec, utc_now
from dsa110_resources.archive import Archive, atomic_file
from dsa110_resources.errors import PermanentError
from dsa110_resources.operations import Group, TableChoice
from dsa110_resources.solvers import ApplyReport, apply_tables
from dsa110_resources.tables import read_partition, write_partition

CHECKS = (
    Check("calibration_in_force", "the tables applied are within their validity; red while the group waits for one"),
)


LIVE_TAG = "dsa110/live"
"""Run tag of groups that the subband sensor requests as they arrive."""


class AppliedCalibration(BaseModel, frozen=True):
    """What was applied to a group: saved as ``qa/GROUP/calibration.json`` and copied into every later product."""

    bandpass_table: str
    """Path relative to the data root."""
    gain_tables: tuple[str, ...]
    """One, or the two that bracket the group in time."""
    bandpass_age_h: float
    """Group mid-time minus the time the bandpass was solved on, hours."""
    gain_age_h: float
    """The same for the nearest gain table, hours."""
    step: str
    """Where in the fallback chain they were found: active, nearest or last_known_good."""
    beyond_window: bool
    """Whether a table lies outside its validity: a WARN on the product."""
    flux_anchor: str
    """What the absolute scale rests on."""
    table_set: str
    """Names of both, joined by +."""


@dg.asset(
    partitions_def=TILES,
    deps=[
        "measurement_set",
        dg.AssetDep("bandpass_table", partition_mapping=BANDPASS_TO_TILE),
        dg.AssetDep("gain_table", partition_mapping=GAIN_TO_TILE),
    ],
    group_name="visibilities",
    kinds={"casa"},
    owners=OWNERS,
    tags={"stage": "calibration"},
    output_required=False,
    check_specs=check_specs("calibrated_visibilities", CHECKS),
)
def calibrated_visibilities(
    context: dg.AssetExecutionContext, platform: Platform
) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
    """CORRECTED_DATA = DATA / (g_i conj g_j) with the bandpass and gains in force; waits if there are none."""
    with typed_failures(context, context.partition_key):
        group = hold_group(context, platform)
        choices = choose_tables(group, platform, live=LIVE_TAG in context.run.tags)
        missing = [table_type for table_type, choice in choices.items() if not choice]
        if missing:
            platform.operations.ledger.wait_for_calibration(group.group_id, context.run.run_id, missing)
            context.log.warning("%s waits for %s", group.group_id, " and ".join(missing))
            yield from check_results("calibrated_visibilities", [waiting_finding(missing)])
            return
        ms = require_ms(platform.archive, group.group_id)
        applied = describe_tables(choices, platform.archive)
        report = apply_choices(ms, choices, group, platform)
        write_applied(platform.archive, group.group_id, applied)
        mark_calibrated(platform.archive, context.partition_key, applied)
        record_times(platform, group, context.run.run_id, apply_time=report.wall_s)
    yield dg.MaterializeResult(
        metadata=applied_metadata(applied, report),
        check_results=check_results("calibrated_visibilities", [in_force_finding(applied)]),
    )


def choose_tables(group: Group, platform: Platform, *, live: bool) -> dict[str, list[TableChoice]]:
    """The tables in force for a group: one BP, and one G or the two that bracket it.

    A live group takes past tables (later ones only where there is no past one); a backfilled or reprocessed group
    takes the nearest and interpolates between the gains either side (DECISIONS 6).
    """
    registry, dec_deg = platform.operations.registry, require_dec(group)
    mid_mjd = 0.5 * (group.start_mjd + group.end_mjd)
    chosen: dict[str, list[TableChoice]] = {}
    for table_type in ("BP", "G"):
        choice = registry.select(table_type, dec_deg, mid_mjd, live=live)
        if choice is None and live:
            choice = registry.select(table_type, dec_deg, mid_mjd, live=False)
        chosen[table_type] = [] if choice is None else [choice]
    if chosen["G"] and not live:
        bracket = registry.bracket("G", dec_deg, mid_mjd)
        if bracket.before is not None and bracket.after is not None and bracket.before.path != bracket.after.path:
            nearest = chosen["G"][0]
            chosen["G"] = [
                TableChoice(r, nearest.step, 24.0 * (mid_mjd - r.solved_mjd), nearest.beyond_window)
                for r in (bracket.before, bracket.after)
            ]
    return chosen


def require_ms(archive: Archive, group_id: str) -> Path:
    """The group's Measurement Set.

    Raises
    ------
    PermanentError
        If it was not made, or was removed.
    """
    ms = archive.find_ms(group_id)
    if ms is None:
        raise PermanentError(
            "there is no Measurement Set", partition=group_id, cure="materialise measurement_set for this partition"
        )
    return ms


def apply_choices(ms: Path, choices: dict[str, list[TableChoice]], group: Group, platform: Platform) -> ApplyReport:
    """Apply the chosen tables; K too when the setting says so."""
    bandpass = choices["BP"][0].record.path
    delay = bandpass.with_suffix(".kcal") if platform.settings.apply_delay_table else None
    gains = [choice.record.path for choice in choices["G"]]
    return apply_tables(ms, bandpass, gains, delay=delay, partition=group.group_id)


def describe_tables(choices: dict[str, list[TableChoice]], archive: Archive) -> AppliedCalibration:
    """What will be applied, as recorded with every product."""
    bandpass, gains = choices["BP"][0], choices["G"]
    nearest = min(gains, key=lambda choice: abs(choice.age_h))
    both = (bandpass, nearest)
    return AppliedCalibration(
        bandpass_table=relative(bandpass.record.path, archive),
        gain_tables=tuple(relative(choice.record.path, archive) for choice in gains),
        bandpass_age_h=bandpass.age_h,
        gain_age_h=nearest.age_h,
        step=max((choice.step for choice in both), key=("active", "nearest", "last_known_good").index),
        beyond_window=any(choice.beyond_window for choice in both),
        flux_anchor=bandpass.record.flux_anchor or "",
        table_set="+".join([bandpass.record.path.name, *(choice.record.path.name for choice in gains)]),
    )


def relative(path: Path, archive: Archive) -> str:
    """Path below the data root as text, or whole if it lies elsewhere."""
    return str(path.relative_to(archive.root)) if path.is_relative_to(archive.root) else str(path)


def calibration_record(archive: Archive, group_id: str) -> Path:
    """Where a group's :class:`AppliedCalibration` is kept."""
    return archive.qa_dir(group_id) / "calibration.json"


def write_applied(archive: Archive, group_id: str, applied: AppliedCalibration) -> None:
    """Keep what was applied."""
    with atomic_file(calibration_record(archive, group_id)) as staged:
        staged.write_text(applied.model_dump_json(indent=1), encoding="utf-8")


def read_applied(archive: Archive, group_id: str) -> AppliedCalibration:
    """What was applied to a group.

    Raises
    ------
    PermanentError
        If nothing was.
    """
    path = calibration_record(archive, group_id)
    if not path.is_file():
        raise PermanentError(
            "no calibration was applied", partition=group_id, path=path, cure="materialise calibrated_visibilities"
        )
    return AppliedCalibration.model_validate(json.loads(path.read_text(encoding="utf-8")))


def mark_calibrated(archive: Archive, partition: str, applied: AppliedCalibration) -> None:
    """Tell ``ms_index`` that CORRECTED_DATA exists and of which tables."""
    row = read_partition(archive, "ms_index", partition)
    if row is None:
        raise PermanentError(
            "the group has no row in ms_index", partition=partition, cure="materialise measurement_set again"
        )
    row["cal_applied"], row["table_set"] = True, applied.table_set
    row["stage"], row["stage_updated_at"] = "calibrated_visibilities", utc_now()
    write_partition(archive, "ms_index", partition, row)


def waiting_finding(missing: list[str]) -> Finding:
    """The check of a group without tables: WARN, since the run ends well and the group goes on by itself."""
    return Finding(
        "calibration_in_force",
        passed=False,
        is_error=False,
        message=f"waiting for {' and '.join(missing)} on this declination strip; the group is released when one is "
        "registered. If none comes: materialise bandpass_table for a day with a calibrator transit, then gain_table",
    )


def in_force_finding(applied: AppliedCalibration) -> Finding:
    """The check of applied tables: WARN beyond their validity."""
    return Finding(
        "calibration_in_force",
        passed=not applied.beyond_window,
        value=max(abs(applied.bandpass_age_h), abs(applied.gain_age_h)),
        is_error=False,
        message=f"{applied.step}: bandpass {applied.bandpass_age_h:+.1f} h, gain {applied.gain_age_h:+.2f} h old",
    )


def applied_metadata(applied: AppliedCalibration, report: ApplyReport) -> dict[str, dg.MetadataValue]:
    """Numbers of the calibration worth a plot."""
    return numeric_metadata(
        {
            **applied.model_dump(),
            "flagged_fraction": report.flagged_fraction,
            "newly_flagged_fraction": report.newly_flagged_fraction,
            "median_amplitude_jy": report.median_amplitude_jy,
            "apply_seconds": report.wall_s,
        }
    )
