"""Running the Dagster jobs in this process: what `dsa110 process` and `make demo ARGS=--once` do."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import dagster as dg

from dsa110_assets.cli.instance import prepare_dagster_home
from dsa110_assets.defs.platform import Platform
from dsa110_assets.defs.tiles import TILE_STAGES
from dsa110_resources.intake import IntakeOptions, take_arrivals
from dsa110_resources.operations import Group, GroupState
from dsa110_resources.settings import Settings

logger = logging.getLogger(__name__)

CONVERSION_STAGES = TILE_STAGES[:2]
IMAGING_STAGES = TILE_STAGES[2:]
DONE = frozenset({GroupState.COMPLETED})


@dataclass
class ProcessingReport:
    """What became of the groups of a folder.

    Attributes
    ----------
    groups
        Every group of the folder, as the ledger has it at the end.
    failures
        First error line by ``job partition``.
    red_checks
        ``asset/check [partition]: message`` of checks that did not pass, errors only.
    """

    groups: list[Group] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    red_checks: list[str] = field(default_factory=list)

    @property
    def is_complete(self) -> bool:
        """Whether every group has all its products and nothing failed."""
        return bool(self.groups) and not self.failures and all(group.state in DONE for group in self.groups)


class HeadlessRunner:
    """Runs jobs one after the other on the deployment's own Dagster instance.

    Parameters
    ----------
    settings
        The deployment.
    """

    def __init__(self, settings: Settings) -> None:
        from dsa110_assets.definitions import build_definitions

        self.settings = settings
        self.definitions = build_definitions(settings)
        self.platform = Platform.from_settings(settings)
        self.report = ProcessingReport()

    def process(self, incoming: Path) -> ProcessingReport:
        """Take what lies in a folder through photometry, with B and G solved from what is there."""
        with self._instance() as instance:
            self._run(instance, "build_catalogue", None)
            self.take_in(incoming)
            pending = [g for g in self._groups() if g.state is GroupState.PENDING]
            for group in pending:
                self._run(instance, "process_tile", group.partition_key, CONVERSION_STAGES)
            self.calibrate(instance, pending)
            for group in self._groups():
                if group.state in {GroupState.IN_PROGRESS, GroupState.PENDING, GroupState.WAITING_CALIBRATION}:
                    self._run(instance, "process_tile", group.partition_key, IMAGING_STAGES)
        self.report.groups = self._groups()
        return self.report

    def run_stages(self, partition: str, stages: Sequence[str]) -> dg.ExecuteInProcessResult:
        """Run some stages of one tile."""
        with self._instance() as instance:
            return self._run(instance, "process_tile", partition, stages)

    def build_catalogue(self) -> None:
        """Materialise the master catalogue."""
        with self._instance() as instance:
            self._run(instance, "build_catalogue", None)

    def take_in(self, incoming: Path) -> None:
        """Take every file of a folder into the ledger now: nothing more is waited for."""
        settings = self.settings.model_copy(update={"group_wait_s": 0.0})
        options = IntakeOptions.from_settings(settings, settle_s=0.0)
        while take_arrivals(self.platform.operations, self.platform.archive, incoming, options=options).n_unread:
            logger.info("reading more headers of %s", incoming)

    def calibrate(self, instance: dg.DagsterInstance, groups: Sequence[Group]) -> None:
        """Solve the bandpass of each day and the gains of each hour that the groups touch."""
        for day in sorted({group.partition_key[:10] for group in groups}):
            self._run(instance, "solve_bandpass", day)
        for hour in sorted({group.partition_key[:13] for group in groups}):
            self._run(instance, "solve_gains", hour)

    def _groups(self) -> list[Group]:
        return self.platform.operations.ledger.groups_between(0.0, 1e6)

    def _run(
        self, instance: dg.DagsterInstance, job: str, partition: str | None, stages: Sequence[str] | None = None
    ) -> dg.ExecuteInProcessResult:
        definition = self.definitions.resolve_job_def(job)
        result = definition.execute_in_process(
            instance=instance,
            partition_key=partition,
            asset_selection=None if stages is None else [dg.AssetKey(stage) for stage in stages],
            raise_on_error=False,
        )
        self._note_checks(result, partition)
        if not result.success:
            self._note_failure(result, job, partition)
        return result

    def _note_checks(self, result: dg.ExecuteInProcessResult, partition: str | None) -> None:
        for evaluation in result.get_asset_check_evaluations():
            if not evaluation.passed and evaluation.severity is dg.AssetCheckSeverity.ERROR:
                name = f"{evaluation.asset_key.to_user_string()}/{evaluation.check_name}"
                self.report.red_checks.append(f"{name} [{partition}]: {evaluation.description}")

    def _note_failure(self, result: dg.ExecuteInProcessResult, job: str, partition: str | None) -> None:
        lines = [
            event.step_failure_data.error_display_string.strip().splitlines()[0]
            for event in result.all_node_events
            if event.is_step_failure
        ]
        message = lines[0] if lines else "the run failed; see its log in the Dagster UI"
        self.report.failures[f"{job} {partition or ''}".strip()] = message
        if job != "process_tile" or partition is None:
            return
        group = self.platform.operations.ledger.find_window(partition)
        if group is not None and group.run_id is not None:
            self.platform.operations.ledger.fail(group.group_id, group.run_id, message)

    @contextmanager
    def _instance(self) -> Iterator[dg.DagsterInstance]:
        home = prepare_dagster_home(self.settings)
        with dg.DagsterInstance.from_config(str(home)) as instance:
            yield instance
