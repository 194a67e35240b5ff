"""The tile image: catalogue subtracted, imaged, restored; judged, and published in the run whose checks pass."""

from functools import lru_cache
from pathlib import Path

import dagster as dg
import pandas as pd

from dsa110_assets.defs.calibrated import AppliedCalibration, read_applied, relative, require_ms
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
from dsa110_assets.defs.sky import field_components, sky_model
from dsa110_assets.defs.tiles import TILES, hold_group, utc_now
from dsa110_resources.archive import Archive
from dsa110_resources.imager import (
    ImagePaths,
    ImagingOptions,
    ImagingReport,
    Provenance,
    ResidualImager,
    choose_imager,
)
from dsa110_resources.images import publish_image, read_header
from dsa110_resources.operations import Group
from dsa110_resources.settings import Settings
from dsa110_resources.tables import write_partition

CHECKS = (
    Check("dynamic_range_sufficient", "the brightest pixel stands far enough above the rms", blocking=True),
    Check("peak_detected", "something is detected", blocking=True),
    Check("rms_within_expectation", "the rms is near the thermal expectation"),
    Check("calibration_was_in_force", "the tables applied were within their validity"),
)


@dg.asset(
    partitions_def=TILES,
    deps=["calibrated_visibilities"],
    group_name="imaging",
    kinds={"fits"},
    owners=OWNERS,
    tags={"stage": "imaging"},
    pool="imaging",
    metadata=column_schema("images"),
    check_specs=check_specs("tile_image", CHECKS),
)
def tile_image(context: dg.AssetExecutionContext, platform: Platform) -> dg.MaterializeResult:
    """FITS images of one tile: restored, primary beam, corrected, residual, rms and model; PNG preview."""
    with typed_failures(context, context.partition_key):
        group = hold_group(context, platform)
        applied = read_applied(platform.archive, group.group_id)
        paths = image_paths(platform.archive, group.group_id)
        report = make_image(group, applied, paths, platform, run_id=context.run.run_id)
        findings = check_image(report, applied, platform.settings)
        for path in product_paths(paths).values():
            publish_image(path, "published" if worst_quality(findings) != "bad" else "staged")
        rows = image_rows(group, applied, paths, report, findings, archive=platform.archive, run_id=context.run.run_id)
        write_partition(platform.archive, "images", context.partition_key, rows)
        record_times(platform, group, context.run.run_id, imaging_time=sum(report.seconds.values()))
    return dg.MaterializeResult(
        metadata=image_metadata(report, paths), check_results=check_results("tile_image", findings)
    )


def imaging_options(settings: Settings) -> ImagingOptions:
    """Imaging options of a deployment; a quick look makes no CLEAN image."""
    imager = "native" if settings.imaging_tier == "quicklook" else settings.imager
    return ImagingOptions(tier=settings.imaging_tier, imager=imager, seed_min_mjy=settings.seed_min_mjy)


def shared_residual_imager(ms: Path, options: ImagingOptions, table_set: str) -> ResidualImager:
    """The residual imager of a group, kept for the next step of the same run: its data are read once."""
    stamp = max(file.stat().st_mtime_ns for file in ms.iterdir())
    return _residual_imager(ms, options.model_dump_json(), f"{table_set}:{stamp}")


@lru_cache(maxsize=1)
def _residual_imager(ms: Path, options_json: str, state: str) -> ResidualImager:  # noqa: ARG001 - part of the key
    return ResidualImager(ms, ImagingOptions.model_validate_json(options_json))


def make_image(
    group: Group, applied: AppliedCalibration, paths: ImagePaths, platform: Platform, *, run_id: str
) -> ImagingReport:
    """Image a group's calibrated visibilities."""
    settings, archive = platform.settings, platform.archive
    ms, options = require_ms(archive, group.group_id), imaging_options(platform.settings)
    components = field_components(platform, ms, min_mjy=settings.photometry_min_mjy)
    provenance = Provenance(
        object_name=group.group_id,
        run_id=run_id,
        bandpass_table=Path(applied.bandpass_table).name,
        bandpass_age_h=applied.bandpass_age_h,
        gain_table="+".join(Path(table).name for table in applied.gain_tables),
        gain_age_h=applied.gain_age_h,
        catalogue=sky_model(platform).name,
    )
    return choose_imager(options.imager).clean(
        ms,
        components,
        options=options,
        out=paths,
        provenance=provenance,
        residual=shared_residual_imager(ms, options, applied.table_set),
    )


def image_paths(archive: Archive, group_id: str) -> ImagePaths:
    """Where a tile's images go."""
    return ImagePaths.beside(archive.image_path(group_id), thumbnail=archive.thumbnail_path(group_id))


def product_paths(paths: ImagePaths) -> dict[str, Path]:
    """The FITS files that an imager wrote, by the type that ``images`` calls them."""
    named = {
        "image": paths.image,
        "pb": paths.primary_beam,
        "pbcor": paths.pbcor,
        "residual": paths.residual,
        "rms": paths.rms,
        "model": paths.model,
    }
    return {kind: path for kind, path in named.items() if path.is_file()}


def check_image(report: ImagingReport, applied: AppliedCalibration, settings: Settings) -> list[Finding]:
    """Judge a tile; the order is that of :data:`CHECKS`."""
    snr = report.peak_jyb / report.rms_jyb
    return [
        Finding(
            "dynamic_range_sufficient",
            report.dynamic_range >= settings.qa_img_min_dynamic_range,
            report.dynamic_range,
            settings.qa_img_min_dynamic_range,
            message="if red, the calibration is wrong for this strip: look at the gain table and its age",
        ),
        Finding(
            "peak_detected",
            snr >= settings.qa_img_min_peak_snr,
            snr,
            settings.qa_img_min_peak_snr,
            message=f"peak {report.peak_jyb:.3f} Jy/beam",
        ),
        Finding(
            "rms_within_expectation",
            report.thermal_ratio <= settings.qa_img_max_rms_ratio,
            report.thermal_ratio,
            settings.qa_img_max_rms_ratio,
            is_error=False,
            message=f"rms {1e3 * report.rms_jyb:.2f} mJy/beam, thermal {1e3 * report.thermal_jyb:.2f}; if red, look at "
            "the rms map: bad gains spread over the field, an unmodelled source stays local",
        ),
        Finding(
            "calibration_was_in_force",
            not applied.beyond_window,
            max(abs(applied.bandpass_age_h), abs(applied.gain_age_h)),
            is_error=False,
            message=f"{applied.step}: {applied.table_set}",
        ),
    ]


def image_rows(
    group: Group,
    applied: AppliedCalibration,
    paths: ImagePaths,
    report: ImagingReport,
    findings: list[Finding],
    *,
    archive: Archive,
    run_id: str,
) -> pd.DataFrame:
    """One row of ``images`` per FITS file."""
    header = read_header(paths.image)
    quality = worst_quality(findings)
    common = {
        "ms_path": relative(require_ms(archive, group.group_id), archive),
        "group_id": group.group_id,
        "created_at": utc_now(),
        "format": "fits",
        "beam_major_arcsec": report.beam_arcsec[0],
        "beam_minor_arcsec": report.beam_arcsec[1],
        "beam_pa_deg": report.beam_pa_deg,
        "noise_jy": report.rms_jyb,
        "noise_ratio": report.thermal_ratio,
        "dynamic_range": report.dynamic_range,
        "peak_jy": report.peak_jyb,
        "field_name": header.object_name,
        "imsize_x": report.size_pixels[0],
        "imsize_y": report.size_pixels[1],
        "cellsize_arcsec": report.cell_arcsec,
        "freq_ghz": report.frequency_hz / 1e9,
        "bandwidth_mhz": report.bandwidth_hz / 1e6,
        "integration_sec": (group.end_mjd - group.start_mjd) * 86400.0,
        "mid_mjd": 0.5 * (group.start_mjd + group.end_mjd),
        "imager": report.imager,
        "tier": report.tier,
        "state": "published" if quality != "bad" else "staged",
        "bp_table": applied.bandpass_table,
        "bp_age_hours": applied.bandpass_age_h,
        "g_table": "+".join(applied.gain_tables),
        "g_age_hours": applied.gain_age_h,
        "flux_anchor": applied.flux_anchor,
        "n_subbands": group.n_subbands,
        "table_set": applied.table_set,
        "quality": quality,
        "run_id": run_id,
    }
    return pd.DataFrame(
        [
            {**common, "path": relative(path, archive), "type": kind, "pbcor": kind == "pbcor"}
            for kind, path in product_paths(paths).items()
        ]
    )


def image_metadata(report: ImagingReport, paths: ImagePaths) -> dict[str, dg.MetadataValue]:
    """Numbers of a tile worth a plot, and its preview."""
    metadata = numeric_metadata(
        {
            "path": paths.image,
            "rms_mjy": 1e3 * report.rms_jyb,
            "thermal_mjy": 1e3 * report.thermal_jyb,
            "rms_over_thermal": report.thermal_ratio,
            "peak_jy": report.peak_jyb,
            "dynamic_range": report.dynamic_range,
            "beam_major_arcsec": report.beam_arcsec[0],
            "beam_minor_arcsec": report.beam_arcsec[1],
            "n_seeded": report.n_seeded,
            "n_clean_components": report.n_clean_components,
            "imager": report.imager,
            "tier": report.tier,
            "seconds": report.seconds,
        }
    )
    if paths.thumbnail is not None and paths.thumbnail.is_file():
        metadata["preview"] = thumbnail_metadata(paths.thumbnail)
    return metadata


def thumbnail_metadata(path: Path) -> dg.MetadataValue:
    """A PNG shown inside the Dagster UI."""
    import base64

    encoded = base64.b64encode(path.read_bytes()).decode("ascii")
    return dg.MetadataValue.md(f"![{path.parent.name}](data:image/png;base64,{encoded})")
