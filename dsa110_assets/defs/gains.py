"""The hourly gain table: phases and relative amplitudes on the catalogue sky model, one solution per tile."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import dagster as dg
import numpy as np

from dsa110_assets.defs.calibrated import relative, require_ms
from dsa110_assets.defs.failures import typed_failures
from dsa110_assets.defs.metadata import OWNERS, Check, Finding, check_results, check_specs, numeric_metadata
from dsa110_assets.defs.partitions import BANDPASS_TO_HOUR, TILE_TO_HOUR, period_bounds
from dsa110_assets.defs.platform import Platform
from dsa110_assets.defs.sky import field_components
from dsa110_assets.defs.tiles import HOURS, require_dec
from dsa110_assets.science.gain_options import GainOptions
from dsa110_assets.science.gain_series import join_gain_tables
from dsa110_assets.science.gains import GainTable
from dsa110_resources.caltables import read_caltable, write_caltable
from dsa110_resources.errors import MissingCalibrationError
from dsa110_resources.operations import CaltableRecord, Group, measure_checksum, validity_mjd
from dsa110_resources.solvers import SolveReport, create_solver

CHECKS = (
    Check("gain_solutions_exist", "few enough solutions of working receptors are flagged", blocking=True),
    Check("flux_ratio_near_unity", "the field is as bright as the catalogue says, to 20 %"),
)
STRIP_DEG = 0.5
"""Groups whose pointings differ by less share a strip (DECISIONS 12)."""
MJD_UNIX_EPOCH = 40587.0
FLUX_RATIO_LIMIT = 0.2


@dataclass(frozen=True)
class HourSolution:
    """The gain table of one strip in one hour."""

    record: CaltableRecord
    reports: tuple[SolveReport, ...]


@dg.asset(
    partitions_def=HOURS,
    deps=[
        dg.AssetDep("measurement_set", partition_mapping=TILE_TO_HOUR),
        dg.AssetDep("bandpass_table", partition_mapping=BANDPASS_TO_HOUR),
    ],
    group_name="calibration",
    kinds={"casa"},
    owners=OWNERS,
    tags={"stage": "calibration"},
    check_specs=check_specs("gain_table", CHECKS),
)
def gain_table(context: dg.AssetExecutionContext, platform: Platform) -> dg.MaterializeResult:
    """G of the hour: phase per receptor and amplitude relative to the array's median, solved on the sky model."""
    with typed_failures(context, context.partition_key):
        strips = groups_by_strip(groups_with_ms(context.partition_key, platform))
        if not strips:
            raise MissingCalibrationError(
                "no Measurement Set starts in this hour", cure="process the hour's groups first (job process_tile)"
            )
        solutions = [solve_strip(groups, platform, run_id=context.run.run_id) for groups in strips]
        findings = judge_gains(solutions, platform.settings.qa_cal_max_flagged)
        register(solutions, findings, platform)
    return dg.MaterializeResult(
        metadata=gain_metadata(solutions, platform), check_results=check_results("gain_table", findings)
    )


def groups_with_ms(period: str, platform: Platform) -> list[Group]:
    """Groups that start in an hour or a day and have a Measurement Set, oldest first."""
    start, end = (moment.timestamp() / 86400.0 + MJD_UNIX_EPOCH for moment in period_bounds(period))
    groups = platform.operations.ledger.groups_between(start, end)
    return [group for group in groups if platform.archive.find_ms(group.group_id) is not None]


def groups_by_strip(groups: Sequence[Group]) -> list[list[Group]]:
    """Split groups by declination strip, in order of declination."""
    strips: list[list[Group]] = []
    for group in sorted(groups, key=require_dec):
        if strips and abs(require_dec(group) - require_dec(strips[-1][0])) <= STRIP_DEG:
            strips[-1].append(group)
        else:
            strips.append([group])
    return [sorted(strip, key=lambda g: g.start_jd) for strip in strips]


def solve_strip(groups: Sequence[Group], platform: Platform, *, run_id: str) -> HourSolution:
    """Solve one strip's tiles of the hour and join them into one table, named by the first of them."""
    settings, archive = platform.settings, platform.archive
    target = archive.caltable_path(groups[0].group_id, "gpcal")
    solver = create_solver(settings.solver, scratch=archive.scratch)
    options = GainOptions(preset=settings.calibration_preset)
    archive.scratch.mkdir(parents=True, exist_ok=True)
    reports: list[SolveReport] = []
    tables: list[GainTable] = []
    with TemporaryDirectory(dir=archive.scratch, prefix="gains-") as scratch:
        for group in groups:
            ms, bandpass = require_ms(archive, group.group_id), require_bandpass(group, platform)
            components = field_components(platform, ms, min_mjy=settings.seed_min_mjy)
            out = Path(scratch) / f"{len(tables)}.gpcal"
            reports.append(solver.solve_gains(ms, components, bandpass.path, options=options, out=out))
            tables.append(read_caltable(out))
    write_caltable(target, join_gain_tables(tables), ms=require_ms(archive, groups[0].group_id))
    start, end = validity_mjd("G", groups[0].start_mjd, groups[-1].end_mjd, window_h=settings.gain_validity_h)
    record = CaltableRecord(
        set_name=groups[0].group_id,
        path=target,
        table_type="G",
        valid_start_mjd=start,
        valid_end_mjd=end,
        solved_mjd=float(np.mean([0.5 * (g.start_mjd + g.end_mjd) for g in groups])),
        dec_deg=require_dec(groups[0]),
        group_ids=tuple(group.group_id for group in groups),
        refant=reports[0].refant,
        solver=reports[0].solver,
        flux_anchor=bandpass.flux_anchor,
        checksum=measure_checksum(target),
        run_id=run_id,
    )
    return HourSolution(record, tuple(reports))


def require_bandpass(group: Group, platform: Platform) -> CaltableRecord:
    """The bandpass nearest in time to a group, on its strip.

    Raises
    ------
    MissingCalibrationError
        If there is none.
    """
    mid_mjd = 0.5 * (group.start_mjd + group.end_mjd)
    choice = platform.operations.registry.select("BP", require_dec(group), mid_mjd, live=False)
    if choice is None:
        raise MissingCalibrationError(
            f"no bandpass table on the strip at declination {require_dec(group):.2f} deg",
            partition=group.group_id,
            cure="materialise bandpass_table for a day with a calibrator transit on this strip",
        )
    return choice.record


def judge_gains(solutions: Sequence[HourSolution], max_flagged: float) -> list[Finding]:
    """Judge an hour's tables; the worst strip speaks."""
    reports = [report for solution in solutions for report in solution.reports]
    flagged = max(report.flagged_fraction for report in reports)
    ratios = np.array([report.flux_ratio for report in reports if report.flux_ratio is not None], dtype=np.float64)
    ratio = float(np.median(ratios)) if len(ratios) else float("nan")
    return [
        Finding(
            "gain_solutions_exist",
            flagged <= max_flagged,
            flagged,
            max_flagged,
            message=f"{flagged:.1%} of working receptors' solutions flagged in the worst tile",
        ),
        Finding(
            "flux_ratio_near_unity",
            bool(abs(ratio - 1.0) <= FLUX_RATIO_LIMIT),
            ratio,
            FLUX_RATIO_LIMIT,
            is_error=False,
            message=f"observed / catalogue {ratio:.3f}; reported, never applied (ensemble normalisation removes it)",
        ),
    ]


def register(solutions: Sequence[HourSolution], findings: Sequence[Finding], platform: Platform) -> None:
    """Enter the tables in the registry; refused ones are kept and never used."""
    refused = any(finding.is_error and not finding.passed for finding in findings)
    for solution in solutions:
        quality = "refused" if refused else "good"
        record = solution.record
        platform.operations.registry.register(
            CaltableRecord(**{**record.__dict__, "quality": quality, "active": not refused})
        )


def gain_metadata(solutions: Sequence[HourSolution], platform: Platform) -> dict[str, dg.MetadataValue]:
    """Numbers of the hour worth a plot."""
    reports = [report for solution in solutions for report in solution.reports]
    return numeric_metadata(
        {
            "tables": [relative(solution.record.path, platform.archive) for solution in solutions],
            "n_tiles": len(reports),
            "n_receptors": min(report.n_receptors for report in reports),
            "flagged_fraction": max(report.flagged_fraction for report in reports),
            "median_snr": float(np.median([report.median_snr for report in reports])),
            "flux_ratio": float(np.median([r.flux_ratio for r in reports if r.flux_ratio is not None])),
            "solve_seconds": float(sum(sum(report.times_s.values()) for report in reports)),
            "refant": reports[0].refant,
        }
    )
