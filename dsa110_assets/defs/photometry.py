"""Forced photometry of one tile, in two ways whose agreement is a check."""

import logging
import resource
import time
from dataclasses import dataclass

import dagster as dg
import numpy as np
import pandas as pd

from dsa110_assets.defs.calibrated import AppliedCalibration, read_applied, relative, require_ms
from dsa110_assets.defs.failures import typed_failures
from dsa110_assets.defs.imaging import image_paths, imaging_options, shared_residual_imager
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
from dsa110_assets.defs.sky import field_components, sky_model
from dsa110_assets.defs.tiles import TILES, hold_group, utc_now
from dsa110_assets.science.background import measure_background
from dsa110_assets.science.components import Components
from dsa110_assets.science.flags import PhotometryFlag
from dsa110_assets.science.joint import Agreement, JointResult, check_agreement, solve_joint
from dsa110_assets.science.measurements import (
    ImageContext,
    clean_rows,
    median_flux_ratio,
    recovered_fraction,
    residual_rows,
)
from dsa110_resources.images import read_fits
from dsa110_resources.operations import Group
from dsa110_resources.tables import write_partition

logger = logging.getLogger(__name__)

CHECKS = (
    Check("sources_recovered", "catalogue sources expected at 20 sigma are measured", blocking=True),
    Check("flux_scale_near_catalogue", "the median of measured over catalogue flux is near 1"),
    Check("methods_agree", "photometry on the residual and on the restored image agree"),
    Check("joint_solve_converged", "fluxes and positions settled"),
)
MIN_RECOVERED = 0.9
MAX_SCALE_OFFSET = 0.2
MIN_SCALE_SNR = 20.0


@dataclass(frozen=True)
class TilePhotometry:
    """What was measured on one tile."""

    rows: pd.DataFrame
    joint: JointResult
    agreement: Agreement
    seconds: float


@dg.asset(
    partitions_def=TILES,
    deps=["tile_image"],
    group_name="photometry",
    kinds={"parquet"},
    owners=OWNERS,
    tags={"stage": "photometry"},
    metadata=column_schema("photometry"),
    check_specs=check_specs("photometry", CHECKS),
)
def photometry(context: dg.AssetExecutionContext, platform: Platform) -> dg.MaterializeResult:
    """Fluxes of every catalogue source in the tile, non-detections included; ends the group in the ledger."""
    with typed_failures(context, context.partition_key):
        group = hold_group(context, platform)
        applied = read_applied(platform.archive, group.group_id)
        measured = measure_tile(group, applied, platform)
        findings = check_photometry(measured)
        rows = measured.rows.assign(
            table_set=applied.table_set,
            quality=worst_quality(findings),
            catalogue_version=sky_model(platform).name,
            measured_at=utc_now(),
            run_id=context.run.run_id,
        )
        path = write_partition(platform.archive, "photometry", context.partition_key, rows)
        record_times(platform, group, context.run.run_id, photometry_time=measured.seconds)
        if worst_quality(findings) != "bad":
            platform.operations.ledger.complete(group.group_id, context.run.run_id)
    return dg.MaterializeResult(
        metadata=photometry_metadata(measured) | {"path": dg.MetadataValue.path(path)},
        check_results=check_results("photometry", findings),
    )


def measure_tile(group: Group, applied: AppliedCalibration, platform: Platform) -> TilePhotometry:
    """Measure every catalogue source of a tile on the residual and on the restored image."""
    start, settings, archive = time.perf_counter(), platform.settings, platform.archive
    ms = require_ms(archive, group.group_id)
    catalogue = field_components(platform, ms, min_mjy=settings.photometry_min_mjy)
    imager = shared_residual_imager(ms, imaging_options(settings), applied.table_set)
    joint = solve_joint(imager.image, catalogue)
    context = image_context(group, applied, joint, imager.layout.phase_center_deg)
    residual = residual_rows(joint, catalogue, context)
    clean = measure_restored(group, joint, catalogue, context, platform)
    rows = pd.concat([residual, clean], ignore_index=True)
    rows = rows[(rows["flags"] & int(PhotometryFlag.NO_COVERAGE)) == 0].reset_index(drop=True)
    rows["group_id"] = group.group_id
    rows["image_path"] = relative(image_paths(archive, group.group_id).image, archive)
    return TilePhotometry(rows, joint, check_agreement(residual, clean), time.perf_counter() - start)


def image_context(
    group: Group, applied: AppliedCalibration, joint: JointResult, center_deg: tuple[float, float]
) -> ImageContext:
    """What all rows of the tile share."""
    flags = PhotometryFlag(0)
    if group.is_partial:
        flags |= PhotometryFlag.PARTIAL_GROUP
    if applied.beyond_window:
        flags |= PhotometryFlag.WARN_INPUT
    return ImageContext(
        center_deg=center_deg,
        frequency_hz=joint.residual.frequency_hz,
        mid_mjd=0.5 * (group.start_mjd + group.end_mjd),
        common_flags=int(flags),
    )


def measure_restored(
    group: Group, joint: JointResult, catalogue: Components, context: ImageContext, platform: Platform
) -> pd.DataFrame:
    """Forced photometry on the tile's restored image."""
    fits = read_fits(image_paths(platform.archive, group.group_id).image)
    beam = fits.header.beam or joint.residual.beam
    return clean_rows(
        fits.data, measure_background(fits.data), fits.wcs, beam, joint, catalogue=catalogue, context=context
    )


def check_photometry(measured: TilePhotometry) -> list[Finding]:
    """Judge a tile's photometry; the order is that of :data:`CHECKS`."""
    residual = measured.rows[measured.rows["method"] == "residual"]
    recovered, ratio = recovered_fraction(residual), median_flux_ratio(residual, min_snr=MIN_SCALE_SNR)
    agreement, joint = measured.agreement, measured.joint
    return [
        Finding(
            "sources_recovered",
            not recovered < MIN_RECOVERED,
            recovered,
            MIN_RECOVERED,
            message="if red, positions or calibration are wrong: compare the image with the catalogue",
        ),
        Finding(
            "flux_scale_near_catalogue",
            not abs(ratio - 1.0) > MAX_SCALE_OFFSET,
            ratio,
            MAX_SCALE_OFFSET,
            is_error=False,
            message="if red, the calibrator varied or the bandpass is of another scale: see flux_anchor",
        ),
        Finding(
            "methods_agree",
            agreement.passed,
            agreement.median_ratio,
            is_error=False,
            message=agreement.message,
        ),
        Finding(
            "joint_solve_converged",
            joint.converged,
            joint.rounds,
            is_error=False,
            message=f"{joint.n_new} new sources, condition number {joint.condition_number:.3g}",
        ),
    ]


def photometry_metadata(measured: TilePhotometry) -> dict[str, dg.MetadataValue]:
    """Numbers of the tile worth a plot."""
    residual = measured.rows[measured.rows["method"] == "residual"]
    return numeric_metadata(
        {
            "n_sources": len(residual),
            "n_detected": int((residual["snr"] >= 5.0).sum()),
            "n_new": measured.joint.n_new,
            "flux_ratio": median_flux_ratio(residual, min_snr=MIN_SCALE_SNR),
            "recovered_fraction": recovered_fraction(residual),
            "clean_over_residual": measured.agreement.median_ratio,
            "median_error_mjy": 1e3 * float(np.nanmedian(residual["err_stat_jyb"])),
            "residual_rms_mjy": 1e3 * measured.joint.rms_jyb,
            "rounds": measured.joint.rounds,
            "condition_number": measured.joint.condition_number,
            "seconds": measured.seconds,
            "peak_memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
            "dagster/row_count": len(measured.rows),
        }
    )
