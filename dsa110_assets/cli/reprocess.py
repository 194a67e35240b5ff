"""`dsa110 reprocess`: make a group's or a day's products again, from a stage on."""

import re
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console

from dsa110_resources.archive import GROUP_ID
from dsa110_resources.errors import PermanentError
from dsa110_resources.operations import GroupState, Ledger
from dsa110_resources.settings import load_settings

DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
MJD_UNIX_EPOCH = 40587.0

console = Console()


def reprocess(
    what: Annotated[str, typer.Argument(help="Group id YYYY-MM-DDTHH:MM:SS, or day YYYY-MM-DD.")],
    from_stage: Annotated[
        str, typer.Option("--from", help="First stage: subband_group … photometry.")
    ] = "subband_group",
) -> None:
    """Run the stages of a group, or of every group of a day, again in this process; exits non-zero if one failed."""
    from dsa110_assets.cli.headless import HeadlessRunner
    from dsa110_assets.defs.tiles import TILE_STAGES

    if from_stage not in TILE_STAGES:
        raise PermanentError(f"no stage is called {from_stage!r}", cure=f"one of {', '.join(TILE_STAGES)}")
    runner = HeadlessRunner(load_settings())
    stages = TILE_STAGES[TILE_STAGES.index(from_stage) :]
    failed = 0
    for group_id in find_groups(runner.platform.operations.ledger, what):
        group = runner.platform.operations.ledger.require(group_id)
        success = runner.run_stages(group.partition_key, stages).success
        state = runner.platform.operations.ledger.require(group_id).state
        failed += not success or state is not GroupState.COMPLETED
        console.print(f"{group_id}: {state.value}")
    for name, line in runner.report.failures.items():
        console.print(f"[red]failed[/] {name}: {line}", soft_wrap=True)
    raise typer.Exit(1 if failed else 0)


def find_groups(ledger: Ledger, what: str) -> list[str]:
    """Group ids of a group or a day, oldest first.

    Raises
    ------
    PermanentError
        If it is neither, or the ledger knows none.
    """
    if GROUP_ID.fullmatch(what):
        return [what]
    if not DAY.fullmatch(what):
        raise PermanentError(f"{what!r} is neither a group id nor a day", cure="YYYY-MM-DDTHH:MM:SS or YYYY-MM-DD")
    start = datetime.strptime(what, "%Y-%m-%d").replace(tzinfo=UTC).timestamp() / 86400.0 + MJD_UNIX_EPOCH
    groups = ledger.groups_between(start, start + 1.0)
    if not groups:
        raise PermanentError(f"no group started on {what}", cure="`dsa110 sql -c 'SELECT group_id FROM ingest_queue'`")
    return [group.group_id for group in groups]
