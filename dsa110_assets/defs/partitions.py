"""Tile, hour and day partitions, and the lineage between them (DECISIONS 6, 7, 9).

``TimeWindowPartitionMapping`` offsets count DOWNSTREAM units. A mapping is lineage only: the table or tile actually
used is chosen at run time from the registry or the ledger and recorded with the product.
"""

import warnings
from datetime import UTC, datetime, timedelta

import dagster as dg

TILE_FORMAT = "%Y-%m-%dT%H:%M"
HOUR_FORMAT = "%Y-%m-%dT%H"
DAY_FORMAT = "%Y-%m-%d"
TILES_PER_HOUR = 12
TILES_PER_DAY = 288
PERIOD_LENGTHS = {"hour": timedelta(hours=1), "day": timedelta(days=1)}


def tile_partitions(start: datetime) -> dg.TimeWindowPartitionsDefinition:
    """5-minute windows of group starts since the campaign start, today's running one included.

    Parameters
    ----------
    start
        Campaign start (UTC), from settings.
    """
    return _windows(start, "*/5 * * * *", TILE_FORMAT)


def hour_partitions(start: datetime) -> dg.TimeWindowPartitionsDefinition:
    """UTC hours since the campaign start, the running one included."""
    return _windows(start, "0 * * * *", HOUR_FORMAT)


def day_partitions(start: datetime) -> dg.TimeWindowPartitionsDefinition:
    """UTC days since the campaign start, today included."""
    return _windows(start, "0 0 * * *", DAY_FORMAT)


def custom_mosaic_partitions() -> dg.DynamicPartitionsDefinition:
    """Mosaics that people ask for, by name."""
    return dg.DynamicPartitionsDefinition(name="custom_mosaic")


def period_bounds(key: str) -> tuple[datetime, datetime]:
    """First and last moment (half-open, UTC) of a tile, hour or day partition key.

    Raises
    ------
    ValueError
        If the key is none of the three.
    """
    lengths = {TILE_FORMAT: timedelta(minutes=5), HOUR_FORMAT: timedelta(hours=1), DAY_FORMAT: timedelta(days=1)}
    for text, length in lengths.items():
        try:
            start = datetime.strptime(key, text).replace(tzinfo=UTC)
        except ValueError:
            continue
        return start, start + length
    raise ValueError(f"{key!r} is not a tile, hour or day partition key")


def _windows(start: datetime, cron: str, text: str) -> dg.TimeWindowPartitionsDefinition:
    # end_offset=1: without it the running window (today, this hour) does not exist until it has ended
    aware = start.replace(tzinfo=UTC) if start.tzinfo is None else start.astimezone(UTC)
    midnight = aware.replace(hour=0, minute=0, second=0, microsecond=0)
    return dg.TimeWindowPartitionsDefinition(start=midnight, cron_schedule=cron, fmt=text, timezone="UTC", end_offset=1)


def _offsets(first: int, last: int) -> dg.TimeWindowPartitionMapping:
    # allow_nonexistent_upstream_partitions is beta in Dagster 1.13; a campaign's first and newest tiles need it
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)
        return dg.TimeWindowPartitionMapping(
            start_offset=first, end_offset=last, allow_nonexistent_upstream_partitions=True
        )


BANDPASS_TO_TILE = _offsets(-TILES_PER_DAY, TILES_PER_DAY)
"""Day tables of yesterday, today and tomorrow, downstream a tile (the registry chooses)."""
GAIN_TO_TILE = _offsets(-TILES_PER_HOUR, TILES_PER_HOUR)
"""Hour tables of the last, this and the next hour, downstream a tile (the registry chooses)."""
TILE_TO_MOSAIC = _offsets(-1, 1)
"""Tiles of the hour and of its neighbours, downstream an hourly mosaic (overlap tiles are chosen at run time)."""
TILE_TO_HOUR = dg.TimeWindowPartitionMapping()
"""Tiles that start in the hour."""
TILE_TO_DAY = _offsets(-1, 1)
"""Tiles of the day; three beyond either midnight belong to transits of this day."""
HOUR_TO_DAY = dg.TimeWindowPartitionMapping()
"""Hours of the day."""
BANDPASS_TO_HOUR = _offsets(-24, 24)
"""Day tables of yesterday, today and tomorrow, downstream an hourly gain."""
PREVIOUS_DAY = _offsets(-1, 0)
"""A day and the day before it."""
