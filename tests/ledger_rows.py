"""Arrivals and tables as the ledger sees them, without files, for tests of the operations database."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from dsa110_assets.science.instrument import GROUP_SPACING_S, N_SUBBANDS
from dsa110_assets.science.subbands import GroupingOptions, group_id_of, jd_of, mjd_of
from dsa110_resources.operations import Arrival, CaltableRecord, OperationsStore, validity_mjd

START = datetime(2026, 2, 11, 16, 3, 16, 500000, tzinfo=UTC)
GROUP = "2026-02-11T16:03:16"
CAMPAIGN = datetime(2026, 1, 1, tzinfo=UTC)
NOW = datetime(2026, 2, 11, 18, 0, tzinfo=UTC)
WAIT = timedelta(seconds=600)
OPTIONS = GroupingOptions()


def arrival(subband: int, *, group: int = 0, shape: str = "24 x 4656 x 48 x 2", **changes: object) -> Arrival:
    """File of one subband of the n-th group since START."""
    start_jd = jd_of(START) + group * GROUP_SPACING_S / 86400.0
    values: dict[str, object] = {
        "path": Path(f"/in/{group_id_of(start_jd)}_sb{subband:02d}.hdf5"),
        "size": 145348600,
        "mtime_ns": 1,
        "start_jd": start_jd,
        "end_jd": start_jd + 302.8 / 86400.0,
        "subband_idx": subband,
        "dec_deg": 16.27,
        "shape": shape,
    }
    return Arrival(**(values | changes))  # type: ignore[arg-type]


def register(store: OperationsStore, *arrivals: Arrival, now: datetime = NOW) -> list[str]:
    return [r.outcome for r in store.arrivals.register(list(arrivals), options=OPTIONS, now=now)]


def settle(store: OperationsStore, *, now: datetime = NOW, **options: object) -> list[tuple[str, str, str | None]]:
    changed = store.arrivals.settle(
        options=options.pop("options", OPTIONS),  # type: ignore[arg-type]
        campaign_start=options.pop("campaign_start", CAMPAIGN),  # type: ignore[arg-type]
        now=now,
        **options,  # type: ignore[arg-type]
    )
    return [(group.group_id, str(group.state), group.reason) for group in changed]


def make_group(store: OperationsStore, *, group: int = 0, subbands: int = N_SUBBANDS, now: datetime = NOW) -> str:
    """A pending group; returns its id."""
    register(store, *[arrival(i, group=group) for i in range(subbands)], now=now)
    settle(store, now=now if subbands == N_SUBBANDS else now + WAIT)
    return group_id_of(arrival(0, group=group).start_jd)


def complete_group(store: OperationsStore, *, group: int = 0, subbands: int = N_SUBBANDS, now: datetime = NOW) -> str:
    group_id = make_group(store, group=group, subbands=subbands, now=now)
    store.ledger.begin(group_id, f"run-{group}", now=now)
    assert store.ledger.complete(group_id, f"run-{group}", now=now)
    return group_id


def table(
    table_type: str = "BP", *, hours: float = 0.0, dec_deg: float = 16.0, name: str = "", **changes: object
) -> CaltableRecord:
    """A table solved `hours` after START on one group."""
    first = mjd_of(jd_of(START)) + hours / 24.0
    last = first + 302.8 / 86400.0
    start, end = validity_mjd(table_type, first, last)
    values: dict[str, object] = {
        "set_name": f"set{hours}",
        "path": Path(f"/caltables/{name or f'{hours:+.2f}_{dec_deg:.1f}'}.{table_type}"),
        "table_type": table_type,
        "valid_start_mjd": start,
        "valid_end_mjd": end,
        "solved_mjd": 0.5 * (first + last),
        "dec_deg": dec_deg,
        "group_ids": (GROUP,),
    }
    return CaltableRecord(**(values | changes))  # type: ignore[arg-type]
