"""Sensors and schedules: data ask for calibration; failures reach the ledger; schedules are the safety net."""

import dagster as dg

from dsa110_assets.defs.automation import process_tile, solve_bandpass, solve_gains
from dsa110_assets.defs.ingest import LIVE_PRIORITY, PRIORITY_TAG
from dsa110_assets.defs.platform import Platform
from dsa110_assets.defs.requests import Request, bandpass_requests, gain_requests, overdue_groups

CALIBRATION_PRIORITY = {PRIORITY_TAG: str(LIVE_PRIORITY + 5)}
"""Groups wait for tables: tables go first."""


@dg.sensor(
    jobs=[solve_bandpass, solve_gains],
    name="calibration_sensor",
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Requests a bandpass where a calibrator transit was observed and gains where an hour has tiles.",
)
def calibration_sensor(context: dg.SensorEvaluationContext, platform: Platform) -> dg.SensorResult:
    """Ask for tables that the data call for; a request is made once per content."""
    requests = [
        *(run_request(request, "solve_bandpass") for request in bandpass_requests(platform)),
        *(run_request(request, "solve_gains") for request in gain_requests(platform)),
    ]
    for group in overdue_groups(platform):
        context.log.warning("%s still waits for %s", group.group_id, " and ".join(group.waiting_for))
    return dg.SensorResult(run_requests=requests, skip_reason=None if requests else dg.SkipReason("nothing is missing"))


def run_request(request: Request, job_name: str) -> dg.RunRequest:
    """A request as Dagster takes it."""
    return dg.RunRequest(
        run_key=request.run_key,
        job_name=job_name,
        partition_key=request.partition,
        tags=CALIBRATION_PRIORITY | {"dsa110/reason": request.reason},
    )


@dg.run_failure_sensor(
    name="failed_group_sensor",
    monitored_jobs=[process_tile],
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Tells the ledger that a group's run failed, with the first line of its error.",
)
def failed_group_sensor(context: dg.RunFailureSensorContext, platform: Platform) -> None:
    """Mark the group failed, unless a later run holds it already."""
    run = context.dagster_run
    group = platform.operations.ledger.find_window(run.tags.get("dagster/partition", ""))
    if group is not None:
        platform.operations.ledger.fail(group.group_id, run.run_id, first_error_line(context))


def first_error_line(context: dg.RunFailureSensorContext) -> str:
    """What the operator reads first: the failing step's own message."""
    for event in context.get_step_failure_events():
        data = event.step_failure_data
        text = data.user_failure_data.description if data.user_failure_data is not None else None
        return (text or data.error_display_string).strip().splitlines()[0]
    return context.failure_event.message or "the run failed without an error message (its worker died?)"


@dg.schedule(
    job=solve_gains,
    name="hourly_gains",
    cron_schedule="10 * * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Safety net of calibration_sensor: gains of closed hours that have none.",
)
def hourly_gains(context: dg.ScheduleEvaluationContext, platform: Platform) -> list[dg.RunRequest] | dg.SkipReason:  # noqa: ARG001
    """Repeat the sensor's request; the run key keeps it from being made twice."""
    requests = [run_request(request, "solve_gains") for request in gain_requests(platform)]
    return requests or dg.SkipReason("no data: every hour with tiles has its gains")


@dg.schedule(
    job=solve_bandpass,
    name="daily_bandpass",
    cron_schedule="30 0 * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Safety net of calibration_sensor: bandpasses of observed calibrator transits that have none.",
)
def daily_bandpass(context: dg.ScheduleEvaluationContext, platform: Platform) -> list[dg.RunRequest] | dg.SkipReason:  # noqa: ARG001
    """Repeat the sensor's request; report no data where no group holds a calibrator transit."""
    requests = [run_request(request, "solve_bandpass") for request in bandpass_requests(platform)]
    return requests or dg.SkipReason("no data: no group without a bandpass holds a calibrator transit")


SCHEDULES = (hourly_gains, daily_bandpass)
