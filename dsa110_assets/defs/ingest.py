"""From the incoming folder to runs: the subband sensor and the asset that stands for a group's raw files."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg

from dsa110_assets.defs.calibrated import LIVE_TAG
from dsa110_assets.defs.failures import typed_failures
from dsa110_assets.defs.metadata import OWNERS, Check, Finding, check_results, check_specs, numeric_metadata
from dsa110_assets.defs.platform import Platform
from dsa110_assets.defs.tiles import TILES
from dsa110_assets.science.schema import OPERATIONS
from dsa110_assets.science.subbands import jd_of, mjd_of, unix_time_of
from dsa110_resources.incoming import FolderMemory, read_name
from dsa110_resources.intake import IntakeOptions, IntakeReport, renew_files, take_arrivals
from dsa110_resources.operations import Group, OperationsStore

TILE_JOB = "process_tile"
WINDOW_TAG = "dsa110/window"
GROUP_TAG = "dsa110/group"
ATTEMPT_TAG = "dsa110/attempt"
PRIORITY_TAG = "dagster/priority"
LIVE_PRIORITY, BACKLOG_PRIORITY = 10, 5
"""Both above a backfill's 0."""
LIVE_WITHIN = timedelta(hours=2)
"""A first attempt at a group that ends within this of the data clock is live."""

RUN_LIMIT = timedelta(hours=3)
"""Run monitoring ends a run after 2 h: a group held for longer has lost its run."""

CHECKS = (
    Check("files_unchanged", "every file is there with the size it was taken with", blocking=True),
    Check("all_subbands_arrived", "no subband is missing"),
    Check("names_near_header_time", "file names lie within 180 s of the header time"),
    Check("pointing_unchanged", "the declination is that of the previous group"),
)
NAME_LIMIT_S = 180.0
POINTING_LIMIT_DEG = 0.05


def run_request_of(group: Group, *, data_clock_mjd: float) -> dg.RunRequest:
    """The run of one attempt at one group.

    Parameters
    ----------
    group
        Pending.
    data_clock_mjd
        End of the newest group, MJD (UTC): decides between live and backlog, so that nights of the past are live too.
    """
    is_live = group.attempt == 1 and (data_clock_mjd - group.end_mjd) * 86400.0 <= LIVE_WITHIN.total_seconds()
    tags = {
        WINDOW_TAG: group.partition_key,
        GROUP_TAG: group.group_id,
        ATTEMPT_TAG: str(group.attempt),
        PRIORITY_TAG: str(LIVE_PRIORITY if is_live else BACKLOG_PRIORITY),
    }
    tags |= {LIVE_TAG: "true"} if is_live else {}
    return dg.RunRequest(run_key=group.run_key, partition_key=group.partition_key, tags=tags)


def request_runs(store: OperationsStore, limit: int, *, now: datetime) -> list[dg.RunRequest]:
    """Requests for pending groups, newest first; only for windows that have begun (others have no partition yet)."""
    clock = store.latest_group_end()
    groups = store.arrivals.take_requests(limit, now=now, before_mjd=mjd_of(jd_of(now)))
    return [run_request_of(group, data_clock_mjd=group.end_mjd if clock is None else clock) for group in groups]


@dg.sensor(
    job_name=TILE_JOB,
    name="subband_sensor",
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Takes arriving subbands into the ledger, groups them by header time and requests one run per group.",
)
def subband_sensor(context: dg.SensorEvaluationContext, platform: Platform) -> dg.SensorResult:
    """Look at the incoming folder once; the cursor only saves a look at files that are still growing."""
    settings = platform.settings
    report = take_arrivals(
        platform.operations,
        platform.archive,
        settings.incoming_dir,
        options=IntakeOptions.from_settings(settings),
        previous=read_cursor(context.cursor),
    )
    expired = platform.operations.ledger.expire_runs(datetime.now(UTC) - RUN_LIMIT)
    if expired:
        context.log.warning("runs of %s ended without a word: failed", ", ".join(expired))
    requests = request_runs(platform.operations, settings.sensor_max_requests, now=datetime.now(UTC))
    summary = describe_report(report, len(requests))
    context.log.info(summary)
    skip = None if requests else dg.SkipReason(summary)
    return dg.SensorResult(run_requests=requests, skip_reason=skip, cursor=write_cursor(report.memory))


def read_cursor(cursor: str | None) -> FolderMemory:
    """What the last tick left; a lost or foreign cursor is an empty one."""
    try:
        values = json.loads(cursor or "{}")
        growing = {str(name): (int(size), int(mtime)) for name, (size, mtime) in values["growing"].items()}
        counts = {name: int(values[name]) for name in ("folder_mtime_ns", "n_known", "n_entries", "n_unfinished")}
        return FolderMemory(growing=growing, **counts)
    except (ValueError, TypeError, KeyError, AttributeError):
        return FolderMemory()


def write_cursor(memory: FolderMemory) -> str:
    """What the next tick may use."""
    return json.dumps(asdict(memory))


def describe_report(report: IntakeReport, n_requests: int) -> str:
    """One line for the tick's page."""
    outcomes = ", ".join(f"{count} {name}" for name, count in sorted(report.outcomes.items())) or "nothing new"
    parts = [f"{report.memory.n_entries} entries in {report.seconds:.2f} s: {outcomes}; {n_requests} runs requested"]
    parts += [f"{len(report.memory.growing)} growing"] if report.memory.growing else []
    parts += [f"{report.memory.n_unfinished} unfinished"] if report.memory.n_unfinished else []
    parts += [f"{report.n_unread} left for the next tick"] if report.n_unread else []
    parts += [f"{len(report.unreachable)} cannot be read: check rights"] if report.unreachable else []
    parts += [f"{group.group_id} quarantined: {group.reason}" for group in report.changed if group.reason]
    return "; ".join(parts)


@dataclass(frozen=True)
class RawGroup:
    """A group's files as they are now.

    Attributes
    ----------
    sizes
        Bytes by path; None where the file is gone.
    taken_sizes
        Bytes when the ledger took them.
    name_error_s
        Largest distance of a name from the header time, s.
    previous
        The group before it, if any.
    """

    group: Group
    sizes: dict[Path, int | None]
    taken_sizes: dict[Path, int]
    name_error_s: float
    previous: Group | None

    @property
    def pointing_change_deg(self) -> float:
        """Change of declination since the previous group, deg; 0 where one of the two is unknown."""
        before = None if self.previous is None else self.previous.dec_deg
        return 0.0 if before is None or self.group.dec_deg is None else abs(self.group.dec_deg - before)

    @property
    def gap_s(self) -> float | None:
        """Time since the previous group's start, s (309.24 without a restart)."""
        return None if self.previous is None else (self.group.start_mjd - self.previous.start_mjd) * 86400.0


def operations_columns(table: str) -> dict[str, dg.TableSchema]:
    """Definition metadata of an asset whose rows are in the operations database."""
    columns = [dg.TableColumn(c.name, c.dtype, c.description) for c in OPERATIONS[table].columns]
    return {"dagster/column_schema": dg.TableSchema(columns=columns)}


@dg.asset(
    partitions_def=TILES,
    output_required=False,
    group_name="ingest",
    kinds={"hdf5"},
    owners=OWNERS,
    tags={"stage": "ingest"},
    metadata=operations_columns("subband_files"),
    check_specs=check_specs("subband_group", CHECKS),
)
def subband_group(
    context: dg.AssetExecutionContext, platform: Platform
) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
    """The raw subbands of the group that started in this window; nothing, and nothing downstream, if none did."""
    with typed_failures(context, context.partition_key):
        group = platform.operations.ledger.find_window(context.partition_key)
        if group is None:
            context.log.info("no group owns window %s: nothing to do", context.partition_key)
            yield from check_results("subband_group", findings_without_group(context.partition_key))
            return
        begun = platform.operations.ledger.begin(group.group_id, context.run.run_id)
        renew_files(platform.operations, begun)
        raw = read_raw_group(platform.operations, begun)
        findings = check_raw_group(raw)
    yield dg.MaterializeResult(
        metadata=raw_group_metadata(raw),
        check_results=check_results("subband_group", findings),
        data_version=dg.DataVersion(version_of(raw)),
    )


def read_raw_group(store: OperationsStore, group: Group) -> RawGroup:
    """Look at a group's files and its predecessor."""
    sizes = {path: path.stat().st_size if path.is_file() else None for path in group.files.values()}
    start_s = unix_time_of(group.start_jd)
    hints = [read_name(path.name) for path in group.files.values()]
    errors = [abs(hint.moment.timestamp() - start_s) for hint in hints if hint is not None]
    return RawGroup(
        group=group,
        sizes=sizes,
        taken_sizes=store.arrivals.file_sizes(group.group_id),
        name_error_s=max(errors, default=0.0),
        previous=store.ledger.find_previous(group),
    )


def check_raw_group(raw: RawGroup) -> list[Finding]:
    """Judge a group's files; the order is that of :data:`CHECKS`."""
    changed = [str(path) for path, size in raw.sizes.items() if size != raw.taken_sizes.get(path)]
    missing = list(raw.group.missing_subbands)
    moved = raw.pointing_change_deg
    return [
        Finding(
            "files_unchanged",
            not changed,
            len(changed),
            0,
            message=f"gone or changed: {changed or 'none'}; if red, copy them again from their nodes",
        ),
        Finding(
            "all_subbands_arrived",
            not missing,
            len(missing),
            0,
            is_error=False,
            message=f"missing: {missing or 'none'}",
        ),
        Finding(
            "names_near_header_time",
            raw.name_error_s <= NAME_LIMIT_S,
            raw.name_error_s,
            NAME_LIMIT_S,
            is_error=False,
            message="if red, a node's clock is wrong (the header time is used)",
        ),
        Finding(
            "pointing_unchanged",
            moved <= POINTING_LIMIT_DEG,
            moved,
            POINTING_LIMIT_DEG,
            is_error=False,
            message="if red, the telescope moved to another strip: calibration of the new strip is needed",
        ),
    ]


def findings_without_group(window: str) -> list[Finding]:
    """Nothing to judge: about 3 % of windows hold no group start by arithmetic, more with restarts."""
    return [Finding(check.name, True, is_error=False, message=f"no group owns window {window}") for check in CHECKS]


def raw_group_metadata(raw: RawGroup) -> dict[str, dg.MetadataValue]:
    """Numbers of a group worth a plot, and its files."""
    group = raw.group
    present = [size for size in raw.sizes.values() if size is not None]
    return numeric_metadata(
        {
            "group_id": group.group_id,
            "attempt": group.attempt,
            "n_subbands": group.n_subbands,
            "start_mjd": group.start_mjd,
            "dec_deg": group.dec_deg,
            "gigabytes": sum(present) / 1e9,
            "name_error_s": raw.name_error_s,
            "gap_s": raw.gap_s,
            "collecting_s": (group.last_arrival_at - group.received_at).total_seconds(),
            "missing_subbands": list(group.missing_subbands),
            "files": [str(path) for path in group.files.values()],
        }
    )


def version_of(raw: RawGroup) -> str:
    """What downstream staleness depends on: which files, how large."""
    text = json.dumps([[str(path), size] for path, size in sorted(raw.taken_sizes.items())])
    return hashlib.sha256(text.encode()).hexdigest()[:16]
