"""What every tile asset needs: its partitions, the group that owns the window, and how a run ends in the ledger."""

from datetime import UTC, datetime

import dagster as dg

from dsa110_assets.defs.partitions import day_partitions, hour_partitions, tile_partitions
from dsa110_assets.defs.platform import Platform
from dsa110_resources.errors import PermanentError
from dsa110_resources.operations import Group, GroupState
from dsa110_resources.settings import load_settings

# The exception that DECISIONS 20 makes to "importing does nothing": partitions start where the campaign starts.
CAMPAIGN_START = load_settings().partitions_start
TILES = tile_partitions(CAMPAIGN_START)
HOURS = hour_partitions(CAMPAIGN_START)
DAYS = day_partitions(CAMPAIGN_START)

TILE_STAGES = ("subband_group", "measurement_set", "calibrated_visibilities", "tile_image", "photometry")
"""Assets of one group, in order."""


def hold_group(context: dg.AssetExecutionContext, platform: Platform) -> Group:
    """Take the window's group into this run and return it with its files.

    Raises
    ------
    PermanentError
        If no group started in the window, or it may not be run.
    """
    ledger = platform.operations.ledger
    group = ledger.find_window(context.partition_key)
    if group is None:
        raise PermanentError(
            "no subband group started in this window (about 3 % of windows are empty by arithmetic)",
            partition=context.partition_key,
            cure="nothing to do; `dsa110 sql -c 'SELECT group_id FROM ingest_queue'` lists what arrived",
        )
    if group.run_id == context.run.run_id and group.state is GroupState.IN_PROGRESS:
        return group
    return ledger.begin(group.group_id, context.run.run_id)


def require_dec(group: Group) -> float:
    """Apparent declination of a group, degrees.

    Raises
    ------
    PermanentError
        If the ledger does not know it.
    """
    if group.dec_deg is None:
        raise PermanentError(
            "the ledger holds no declination for this group",
            partition=group.group_id,
            cure="materialise subband_group again",
        )
    return group.dec_deg


def utc_now() -> datetime:
    """Now, for the columns that say when a row was written; never for deciding anything."""
    return datetime.now(UTC)
