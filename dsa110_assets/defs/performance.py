"""What each stage of a group cost: one row of ``performance_metrics``, filled stage by stage."""

import resource
from datetime import UTC, datetime

import numpy as np
import pandas as pd

from dsa110_assets.defs.platform import Platform
from dsa110_assets.defs.tiles import utc_now
from dsa110_resources.operations import Group
from dsa110_resources.tables import read_partition, write_partition

STAGE_COLUMNS = (
    "conversion_time", "flagging_time", "apply_time", "imaging_time", "photometry_time",
)  # fmt: skip


def record_times(platform: Platform, group: Group, run_id: str, **seconds: float) -> None:
    """Write the times of a stage into the group's row; a new attempt starts a new row.

    Parameters
    ----------
    seconds
        Column of ``performance_metrics`` = wall-clock seconds.
    """
    row = read_partition(platform.archive, "performance_metrics", group.partition_key)
    known: dict[str, object] = {}
    if row is not None and not row.empty:
        known = {str(name): value for name, value in row.iloc[0].items()}
    if known.get("attempt") != group.attempt:
        known = {"writer_type": known.get("writer_type")}
    known |= seconds
    spent = [float(str(known[name])) for name in STAGE_COLUMNS if _is_number(known.get(name))]
    now = datetime.now(UTC)
    known |= {
        "group_id": group.group_id,
        "attempt": group.attempt,
        "run_id": run_id,
        "total_time": float(np.sum(spent)),
        "latency_sec": (now - group.last_arrival_at).total_seconds(),
        "peak_memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
        "recorded_at": utc_now(),
    }
    write_partition(platform.archive, "performance_metrics", group.partition_key, pd.DataFrame([known]))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and bool(np.isfinite(value))
