"""From a subband group to a flagged Measurement Set."""

import math
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path

import dagster as dg
import pandas as pd
from astropy.time import Time

from dsa110_assets.defs.failures import typed_failures
from dsa110_assets.defs.metadata import (
    OWNERS,
    Check,
    Finding,
    check_results,
    check_specs,
    column_schema,
    numeric_metadata,
    worst_quality,
)
from dsa110_assets.defs.performance import record_times
from dsa110_assets.defs.platform import Platform
from dsa110_assets.defs.tiles import TILES, hold_group, require_dec, utc_now
from dsa110_assets.science.calibrators import find_transits
from dsa110_assets.science.flagging import FlaggingOptions, FlagReport
from dsa110_assets.science.geometry import altitude_azimuth_deg, local_sidereal_time_deg
from dsa110_assets.science.instrument import GROUP_SPACING_S
from dsa110_resources.conversion import ConversionOptions, convert_group
from dsa110_resources.conversion_report import ConversionReport
from dsa110_resources.flagging import flag_measurement_set
from dsa110_resources.measurement_set import has_column
from dsa110_resources.operations import Group
from dsa110_resources.settings import Settings
from dsa110_resources.tables import write_partition

CHECKS = (
    Check("required_columns_exist", "DATA, FLAG, UVW and WEIGHT are in the table", blocking=True),
    Check("uvw_matches_header", "recomputed uvw agree with the header's to 1 cm at hour angle 0"),
    Check("flagged_fraction_within_limit", "not too much is flagged", blocking=True),
    Check("zeros_within_limit", "not too many visibilities are exactly zero", blocking=True),
    Check("all_subbands_present", "the group has all its subbands"),
)
REQUIRED_COLUMNS = ("DATA", "FLAG", "UVW", "WEIGHT")


@dataclass(frozen=True)
class ConvertedGroup:
    """What conversion and flagging say of a Measurement Set."""

    conversion: ConversionReport
    flags: FlagReport


@dg.asset(
    partitions_def=TILES,
    deps=["subband_group"],
    group_name="visibilities",
    kinds={"casa"},
    owners=OWNERS,
    tags={"stage": "conversion"},
    metadata=column_schema("ms_index"),
    check_specs=check_specs("measurement_set", CHECKS),
)
def measurement_set(context: dg.AssetExecutionContext, platform: Platform) -> dg.MaterializeResult:
    """One Measurement Set per subband group: one phase centre, one ascending spectral window, flagged."""
    with typed_failures(context, context.partition_key):
        group = hold_group(context, platform)
        calibrators = name_calibrators(group, platform)
        path = platform.archive.ms_path(group.group_id, calibrator=bool(calibrators))
        made = convert_and_flag(group, path, platform.settings)
        findings = check_measurement_set(made, group, platform.settings)
        kind = "calibrators" if calibrators else "science"
        row = index_row(made, group, findings, kind=kind, run_id=context.run.run_id, root=platform.archive.root)
        write_partition(platform.archive, "ms_index", context.partition_key, row)
        write_partition(platform.archive, "pointing_history", context.partition_key, pointing_row(made.conversion))
        record_times(
            platform,
            group,
            context.run.run_id,
            conversion_time=made.conversion.timings_s["total"],
            flagging_time=made.flags.seconds,
        )
    return dg.MaterializeResult(
        metadata=measurement_set_metadata(made), check_results=check_results("measurement_set", findings)
    )


def convert_and_flag(group: Group, path: Path, settings: Settings) -> ConvertedGroup:
    """Convert a group's files into ``path`` and flag it."""
    options = ConversionOptions(writer=settings.writer, staging=settings.staging, tmpfs_dir=settings.tmpfs)
    conversion = convert_group(list(group.files.values()), path, options=options, partition=group.group_id)
    flags = flag_measurement_set(path, options=FlaggingOptions(strategy=settings.flagging_strategy))
    return ConvertedGroup(conversion, flags)


def check_measurement_set(made: ConvertedGroup, group: Group, settings: Settings) -> list[Finding]:
    """Judge a Measurement Set; the order is that of :data:`CHECKS`."""
    conversion, flags = made.conversion, made.flags
    absent = [name for name in REQUIRED_COLUMNS if not has_column(conversion.ms_path, name)]
    flagged_limit, zeros_limit = settings.qa_ms_max_flagged, settings.qa_ms_max_zeros
    return [
        Finding("required_columns_exist", not absent, len(absent), 0, message=f"absent: {absent or 'none'}"),
        Finding(
            "uvw_matches_header",
            not conversion.uvw_suspect,
            conversion.uvw_max_discrepancy_m,
            ConversionOptions().uvw_warn_m,
            is_error=False,
            message=f"largest difference {conversion.uvw_max_discrepancy_m:.4f} m; if red, compare the antenna table "
            "and phase_center_dec of the header with the pointing",
        ),
        Finding(
            "flagged_fraction_within_limit",
            flags.flagged_fraction_working <= flagged_limit,
            flags.flagged_fraction_working,
            flagged_limit,
            message=f"{flags.flagged_fraction_working:.1%} of working receptors flagged; if red, see flags per subband",
        ),
        Finding(
            "zeros_within_limit",
            flags.zero_fraction <= zeros_limit,
            flags.zero_fraction,
            zeros_limit,
            message=f"{flags.zero_fraction:.1%} exactly zero; if red, a correlator node sent nothing",
        ),
        Finding(
            "all_subbands_present",
            not conversion.missing_subbands,
            conversion.n_subbands,
            group.expected_subbands,
            is_error=False,
            message=f"missing: {list(conversion.missing_subbands) or 'none'}; a late file reprocesses the group",
        ),
    ]


def name_calibrators(group: Group, platform: Platform) -> tuple[str, ...]:
    """Names of the calibrators that cross the meridian in the group's window, the best first; kept in the ledger."""
    transits = find_transits(
        group.start_mjd,
        max(group.end_mjd, group.start_mjd + GROUP_SPACING_S / 86400.0),
        require_dec(group),
        min_flux_jy=platform.settings.calibrator_min_flux_jy,
    )
    names = tuple(transit.calibrator.name for transit in transits)
    platform.operations.ledger.set_calibrators(group.group_id, names)
    return names


def index_row(
    made: ConvertedGroup, group: Group, findings: list[Finding], *, kind: str, run_id: str, root: Path
) -> pd.DataFrame:
    """The group's row of ``ms_index``."""
    conversion, now = made.conversion, utc_now()
    row = {
        "path": str(conversion.ms_path.relative_to(root)),
        "group_id": group.group_id,
        "start_mjd": conversion.start_mjd,
        "end_mjd": conversion.end_mjd,
        "mid_mjd": conversion.mid_mjd,
        "processed_at": now,
        "status": "partial" if conversion.missing_subbands else "completed",
        "stage": "measurement_set" if worst_quality(findings) != "bad" else "failed",
        "stage_updated_at": now,
        "cal_applied": False,
        "field_name": f"drift_{conversion.dec_app_deg:+.2f}",
        "pointing_ra_deg": conversion.phase_center_deg[0],
        "pointing_dec_deg": conversion.phase_center_deg[1],
        "n_rows": conversion.n_rows,
        "n_antennas": conversion.n_antennas,
        "n_channels": conversion.n_channels,
        "n_subbands": conversion.n_subbands,
        "flagged_fraction": made.flags.flagged_fraction_working,
        "zero_fraction": made.flags.zero_fraction,
        "kind": kind,
        "writer_type": conversion.writer_type,
        "attempt": group.attempt,
        "run_id": run_id,
    }
    return pd.DataFrame([row])


def pointing_row(conversion: ConversionReport) -> pd.DataFrame:
    """Where the telescope pointed in the middle of the group."""
    mid_jd = conversion.mid_mjd + 2400000.5
    altitude, azimuth = altitude_azimuth_deg(math.radians(conversion.dec_app_deg))
    row = {
        "group_id": conversion.group_id,
        "timestamp": Time(conversion.mid_mjd, format="mjd", scale="utc").to_datetime(timezone=UTC),
        "mjd": conversion.mid_mjd,
        "ra_deg": conversion.phase_center_deg[0],
        "dec_deg": conversion.phase_center_deg[1],
        "alt_deg": altitude,
        "az_deg": azimuth,
        "lst_hours": float(local_sidereal_time_deg(mid_jd)[0]) / 15.0,
        "field_name": f"drift_{conversion.dec_app_deg:+.2f}",
    }
    return pd.DataFrame([row])


def measurement_set_metadata(made: ConvertedGroup) -> dict[str, dg.MetadataValue]:
    """Numbers of a Measurement Set worth a plot, and where it is."""
    conversion, flags = made.conversion, made.flags
    return numeric_metadata(
        {
            "group_id": conversion.group_id,
            "path": conversion.ms_path,
            "n_subbands": conversion.n_subbands,
            "n_antennas": conversion.n_antennas,
            "flagged_fraction": flags.flagged_fraction_working,
            "zero_fraction": flags.zero_fraction,
            "uvw_max_discrepancy_m": conversion.uvw_max_discrepancy_m,
            "gigabytes_written": conversion.bytes_written / 1e9,
            "conversion_seconds": conversion.timings_s["total"],
            "dead_receptors": list(flags.dead_receptors),
            "flagged_per_antenna": dict(flags.per_antenna),
            "flagged_per_subband": [float(value) for value in flags.per_subband],
            "writer_type": conversion.writer_type,
        }
    )
