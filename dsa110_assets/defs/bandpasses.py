"""The day's delay, pre-bandpass phase and bandpass tables, on the best calibrator transit of each strip."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import dagster as dg
import numpy as np

from dsa110_assets.defs.calibrated import relative, require_ms
from dsa110_assets.defs.failures import typed_failures
from dsa110_assets.defs.gains import groups_by_strip, groups_with_ms
from dsa110_assets.defs.metadata import OWNERS, Check, Finding, check_results, check_specs, numeric_metadata
from dsa110_assets.defs.platform import Platform
from dsa110_assets.defs.sky import field_components
from dsa110_assets.defs.tiles import DAYS, require_dec
from dsa110_assets.science.beam import airy_power
from dsa110_assets.science.calibrators import CalibratorTransit, anchor_components, find_transits
from dsa110_assets.science.components import Components
from dsa110_assets.science.delay import DelayPlane, fit_delay_plane
from dsa110_assets.science.errors import ScienceError
from dsa110_assets.science.gain_options import BandpassOptions
from dsa110_assets.science.geometry import separation_deg
from dsa110_assets.science.instrument import GROUP_SPACING_S, REFERENCE_FREQUENCY_HZ
from dsa110_resources.caltables import read_caltable
from dsa110_resources.errors import MissingCalibrationError
from dsa110_resources.measurement_set import read_layout
from dsa110_resources.operations import CaltableRecord, Group, measure_checksum, validity_mjd
from dsa110_resources.solvers import SolveReport, create_solver

TABLE_SUFFIXES = {"delay_table": "kcal", "prebandpass_table": "prebp", "bandpass_table": "bpcal"}
CHECKS = (
    Check("bandpass_solutions_exist", "few enough solutions of working receptors are flagged", blocking=True),
    Check("delay_plane_is_flat", "no delay gradient across the array: the phase centre is right", blocking=True),
    Check("flux_anchor_is_steady", "the flux scale rests on a calibrator, not on the catalogue field"),
)
MIN_CALIBRATOR_RESPONSE = 0.5


@dataclass(frozen=True)
class CalibratorGroup:
    """A group to solve on; ``transit`` is None when the field's catalogue stands in for a calibrator."""

    group: Group
    transit: CalibratorTransit | None


@dataclass(frozen=True)
class StripSolution:
    """The tables of one strip on one day."""

    chosen: CalibratorGroup
    report: SolveReport
    plane: DelayPlane | None
    anchor: str
    findings: tuple[Finding, ...]


@dg.multi_asset(
    specs=[
        dg.AssetSpec(
            name,
            partitions_def=DAYS,
            group_name="calibration",
            kinds={"casa"},
            owners=OWNERS,
            tags={"stage": "calibration"},
            description=description,
            deps=[dg.AssetDep("measurement_set", partition_mapping=dg.TimeWindowPartitionMapping())],
        )
        for name, description in (
            ("delay_table", "K of the day: residual delays, solved for QA and applied only when switched on."),
            ("prebandpass_table", "Phases every 30 s that keep the bandpass solve coherent; never applied to targets."),
            ("bandpass_table", "B of the day: complex bandpass per receptor and channel, carrying the flux scale."),
        )
    ],
    partitions_def=DAYS,
    check_specs=check_specs("bandpass_table", CHECKS),
)
def bandpass_tables(
    context: dg.AssetExecutionContext, platform: Platform
) -> tuple[dg.MaterializeResult, dg.MaterializeResult, dg.MaterializeResult]:
    """Solve each strip of the day on its best calibrator transit; refused tables are kept and never used."""
    with typed_failures(context, context.partition_key):
        strips = groups_by_strip(groups_with_ms(context.partition_key, platform))
        if not strips:
            raise MissingCalibrationError(
                "no Measurement Set starts on this day", cure="process the day's groups first (job process_tile)"
            )
        solutions = [solve_strip(groups, platform) for groups in strips]
        for solution in solutions:
            register(solution, platform, run_id=context.run.run_id)
    delay, prebandpass, bandpass = (
        dg.MaterializeResult[None](asset_key=name, metadata=bandpass_metadata(solutions, platform, suffix))
        for name, suffix in TABLE_SUFFIXES.items()
    )
    checked = check_results("bandpass_table", worst_findings(solutions))
    return delay, prebandpass, bandpass._replace(check_results=checked)


def choose_calibrator_group(groups: Sequence[Group], platform: Platform) -> CalibratorGroup:
    """The best calibrator whose transit one of the strip's groups holds, else the group with most model flux."""
    found: list[CalibratorGroup] = []
    for group in groups:
        end_mjd = max(group.end_mjd, group.start_mjd + GROUP_SPACING_S / 86400.0)
        transits = find_transits(
            group.start_mjd,
            end_mjd,
            require_dec(group),
            min_flux_jy=platform.settings.calibrator_min_flux_jy,
            min_response=MIN_CALIBRATOR_RESPONSE,
        )
        found.extend(CalibratorGroup(group, transit) for transit in transits[:1])
    if found:
        primary_first = sorted(found, key=lambda c: (not _scale_name(c), -_apparent_jy(c)))
        return primary_first[0]
    return CalibratorGroup(max(groups, key=lambda group: model_flux_jy(group, platform)), None)


def model_flux_jy(group: Group, platform: Platform) -> float:
    """Catalogue flux density times primary beam over the field of a group, Jy."""
    ms = require_ms(platform.archive, group.group_id)
    components = field_components(platform, ms, min_mjy=platform.settings.seed_min_mjy)
    ra_deg, dec_deg = read_layout(ms).phase_center_deg
    offset = np.radians(separation_deg(components.ra_deg, components.dec_deg, ra_deg, dec_deg))
    return float(np.sum(components.flux_jy * airy_power(offset, REFERENCE_FREQUENCY_HZ)))


def solve_strip(groups: Sequence[Group], platform: Platform) -> StripSolution:
    """Choose, solve and judge one strip of the day."""
    archive, settings = platform.archive, platform.settings
    chosen = choose_calibrator_group(groups, platform)
    ms = require_ms(archive, chosen.group.group_id)
    components, anchor = calibrator_model(chosen, platform)
    out = {suffix: archive.caltable_path(chosen.group.group_id, suffix) for suffix in TABLE_SUFFIXES.values()}
    solver = create_solver(settings.solver, scratch=archive.scratch)
    report = solver.solve_bandpass(ms, components, options=BandpassOptions(preset=settings.calibration_preset), out=out)
    plane = measure_delay_plane(report)
    findings = judge_bandpass(report, plane, anchor, platform)
    return StripSolution(chosen, report, plane, anchor, tuple(findings))


def calibrator_model(chosen: CalibratorGroup, platform: Platform) -> tuple[Components, str]:
    """Sky model of the field, its calibrator on the flux scale, and what that scale rests on."""
    ms = require_ms(platform.archive, chosen.group.group_id)
    field = field_components(platform, ms, min_mjy=platform.settings.seed_min_mjy)
    if chosen.transit is None:
        return field, "catalogue_field"
    return anchor_components(chosen.transit.calibrator, field, trust_catalogue=platform.settings.catalogue is not None)


def measure_delay_plane(report: SolveReport) -> DelayPlane | None:
    """Plane of the residual delays across the array; None if there are too few delays."""
    table = read_caltable(report.tables["kcal"])
    try:
        return fit_delay_plane(table.delays_ns[0], table.antenna_positions_m)
    except ScienceError:
        return None


def judge_bandpass(report: SolveReport, plane: DelayPlane | None, anchor: str, platform: Platform) -> Iterator[Finding]:
    """Judge one strip's table; the order is that of :data:`CHECKS`."""
    settings = platform.settings
    yield Finding(
        "bandpass_solutions_exist",
        report.flagged_fraction <= settings.qa_cal_max_flagged,
        report.flagged_fraction,
        settings.qa_cal_max_flagged,
        message=f"{report.n_receptors} receptors work; dead: {', '.join(report.dead_receptors) or 'none'}",
    )
    gradient = float("nan") if plane is None else plane.gradient_ns_m
    yield Finding(
        "delay_plane_is_flat",
        bool(gradient <= settings.qa_cal_max_delay_gradient),
        gradient,
        settings.qa_cal_max_delay_gradient,
        message=f"rogue delays: {report.rogue_delays_ns or 'none'}; if red, the phase centre was wrong at conversion: "
        "check phase_center_dec, convert the group again and solve again",
    )
    yield Finding(
        "flux_anchor_is_steady",
        anchor != "catalogue_field" or platform.settings.catalogue is not None,
        is_error=False,
        message=f"flux scale rests on {anchor}",
    )


def worst_findings(solutions: Sequence[StripSolution]) -> list[Finding]:
    """Each check of the strip where it is worst."""
    by_check = zip(*(solution.findings for solution in solutions), strict=True)
    return [min(findings, key=lambda finding: finding.passed) for findings in by_check]


def register(solution: StripSolution, platform: Platform, *, run_id: str) -> None:
    """Enter K and BP in the registry; a refused table is kept, inactive, and releases nobody."""
    group, report, settings = solution.chosen.group, solution.report, platform.settings
    refused = any(finding.is_error and not finding.passed for finding in solution.findings)
    start, end = validity_mjd("BP", group.start_mjd, group.end_mjd, window_h=settings.bandpass_validity_h)
    record = CaltableRecord(
        set_name=group.group_id,
        path=report.tables["bpcal"],
        table_type="BP",
        valid_start_mjd=start,
        valid_end_mjd=end,
        solved_mjd=0.5 * (group.start_mjd + group.end_mjd),
        dec_deg=require_dec(group),
        group_ids=(group.group_id,),
        quality="refused" if refused else "good",
        active=not refused,
        refant=report.refant,
        solver=report.solver,
        flux_anchor=solution.anchor,
        checksum=measure_checksum(report.tables["bpcal"]),
        run_id=run_id,
    )
    delay = report.tables["kcal"]
    platform.operations.registry.register(replace(record, path=delay, table_type="K", checksum=measure_checksum(delay)))
    platform.operations.registry.register(record)


def bandpass_metadata(
    solutions: Sequence[StripSolution], platform: Platform, suffix: str
) -> dict[str, dg.MetadataValue]:
    """Numbers of the day worth a plot."""
    first = solutions[0]
    plane = first.plane
    return numeric_metadata(
        {
            "tables": [relative(solution.report.tables[suffix], platform.archive) for solution in solutions],
            "calibrators": [_name(solution.chosen) for solution in solutions],
            "group_ids": [solution.chosen.group.group_id for solution in solutions],
            "flux_anchor": first.anchor,
            "n_receptors": first.report.n_receptors,
            "dead_receptors": list(first.report.dead_receptors),
            "flagged_fraction": first.report.flagged_fraction,
            "median_snr": first.report.median_snr,
            "delay_gradient_ns_per_m": None if plane is None else plane.gradient_ns_m,
            "rogue_delays_ns": first.report.rogue_delays_ns,
            "solve_seconds": sum(first.report.times_s.values()),
            "refant": first.report.refant,
        }
    )


def _scale_name(chosen: CalibratorGroup) -> str:
    return "" if chosen.transit is None else chosen.transit.calibrator.scale_name


def _apparent_jy(chosen: CalibratorGroup) -> float:
    return 0.0 if chosen.transit is None else chosen.transit.apparent_jy


def _name(chosen: CalibratorGroup) -> str:
    return "catalogue field" if chosen.transit is None else chosen.transit.calibrator.name
