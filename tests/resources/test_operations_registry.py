"""Selection of calibration tables: the fallback chain, brackets, and the registry's own rules."""

from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ledger_rows import NOW, START, table

from dsa110_assets.science.subbands import jd_of, mjd_of
from dsa110_resources.errors import PermanentError
from dsa110_resources.operations import CaltableRecord, OperationsStore, measure_checksum, validity_mjd
from dsa110_resources.operations.selection import find_bracket, select_table

T0 = mjd_of(jd_of(START)) + 151.4 / 86400.0
"""Mid-time of the group that `table(hours=0)` was solved on."""


def choose(records: list[CaltableRecord], hours: float, *, live: bool = False, **options: object) -> tuple[str, float]:
    choice = select_table(records, dec_deg=16.27, mjd=T0 + hours / 24.0, live=live, **options)  # type: ignore[arg-type]
    return ("none", 0.0) if choice is None else (choice.step, choice.age_h)


@pytest.mark.parametrize(("table_type", "window_h"), [("K", 24.0), ("BP", 24.0), ("BA", 24.0), ("G", 1.0), ("GP", 1.0)])
def test_validity_is_first_minus_w_to_last_plus_w(table_type: str, window_h: float) -> None:
    start, end = validity_mjd(table_type, 61000.0, 61000.5)
    assert ((61000.0 - start) * 24.0, (end - 61000.5) * 24.0) == pytest.approx((window_h, window_h))
    assert validity_mjd(table_type, 61000.0, 61000.5, window_h=12.0) == pytest.approx((60999.5, 61001.0))
    with pytest.raises(PermanentError, match="runs backwards"):
        validity_mjd(table_type, 61001.0, 61000.0)


def test_live_takes_the_past_and_reprocessing_the_nearest() -> None:
    records = [table("BP", hours=-20.0), table("BP", hours=2.0)]
    assert choose(records, 0.0, live=True) == ("active", pytest.approx(20.0))
    assert choose(records, 0.0, live=False) == ("active", pytest.approx(-2.0))
    assert choose(records[1:], 0.0, live=True) == ("none", 0.0)


def test_the_fallback_chain_names_its_step_and_the_age() -> None:
    old, older = table("BP", hours=-50.0), table("BP", hours=-80.0)
    assert choose([old, older], 0.0, live=True) == ("nearest", pytest.approx(50.0))
    inactive = [table("BP", hours=-50.0, active=False), table("BP", hours=-30.0, active=False, quality="doubtful")]
    assert choose(inactive, 0.0, live=True) == ("last_known_good", pytest.approx(50.0))
    assert choose([table("BP", hours=-1.0, active=False, quality="refused")], 0.0) == ("none", 0.0)
    # an active table beats a nearer inactive one
    assert choose([old, table("BP", hours=-2.0, active=False)], 0.0) == ("nearest", pytest.approx(50.0))
    # and a valid one beats a nearer one that is not valid
    short = table("BP", hours=-2.0, valid_end_mjd=T0 - 1.5 / 24.0)
    assert choose([short, table("BP", hours=-20.0)], 0.0) == ("active", pytest.approx(20.0))


def test_tables_of_another_strip_are_never_borrowed() -> None:
    assert choose([table("BP", dec_deg=21.3)], 1.0) == ("none", 0.0)
    assert choose([table("BP", dec_deg=21.2)], 1.0)[0] == "active"
    assert choose([table("BP", hours=-2.0, dec_deg=54.6), table("BP", hours=-23.0)], 0.0)[1] == pytest.approx(23.0)


def test_beyond_the_window_is_said_and_may_be_forbidden() -> None:
    inside = select_table([table("G")], dec_deg=16.0, mjd=T0 + 1.0 / 24.0, live=True)
    beyond = select_table([table("G")], dec_deg=16.0, mjd=T0 + 1.1 / 24.0, live=True)
    assert inside is not None
    assert beyond is not None
    assert (inside.beyond_window, beyond.beyond_window) == (False, True)
    assert choose([table("G")], 30.0, max_age_h=24.0) == ("none", 0.0)


@given(
    st.lists(
        st.tuples(st.floats(-200, 200), st.booleans(), st.sampled_from(["good", "doubtful", "refused"])), max_size=12
    ),
    st.booleans(),
)
def test_selection_keeps_its_promises(rows: list[tuple[float, bool, str]], live: bool) -> None:
    records = [table("BP", hours=h, name=str(i), active=a, quality=q) for i, (h, a, q) in enumerate(rows)]
    choice = select_table(records, dec_deg=16.0, mjd=T0, live=live)
    allowed = [r for r in records if r.quality != "refused" and not (live and r.solved_mjd > T0)]
    usable = [r for r in allowed if r.active or r.quality == "good"]
    assert (choice is None) == (not usable)
    if choice is None:
        return
    assert choice.record in usable
    rivals = [r for r in allowed if r.active]
    if any(r.covers(T0) for r in rivals):
        assert choice.step == "active"
        assert not choice.beyond_window
        rivals = [r for r in rivals if r.covers(T0)]
    nearest = min((abs(r.solved_mjd - T0) for r in rivals or usable), default=None)
    assert abs(choice.age_h) / 24.0 == pytest.approx(nearest, abs=1e-9)


def test_the_bracket_interpolates_linearly_between_its_tables() -> None:
    records = [table("G", hours=h) for h in (-2.0, -0.75, 0.25, 0.9)]
    bracket = find_bracket(records, dec_deg=16.0, mjd=T0)
    assert (bracket.before, bracket.after) == (records[1], records[2])
    assert bracket.weight_after == pytest.approx(0.75)
    early = find_bracket(records, dec_deg=16.0, mjd=T0 - 3.0 / 24.0)
    assert (early.before, early.after, early.weight_after) == (None, records[0], 1.0)
    late = find_bracket(records, dec_deg=16.0, mjd=T0 + 1.5 / 24.0)
    assert (late.before, late.after, late.weight_after) == (records[3], None, 0.0)
    nothing = find_bracket(records, dec_deg=40.0, mjd=T0)
    assert (nothing.before, nothing.after) == (None, None)


def test_the_registry_keeps_every_column(store: OperationsStore) -> None:
    record = table(
        "BP", refant="103", solver="native", flux_anchor="perley_butler_2017", checksum="ab12", run_id="r1", note="n",
        group_ids=("2026-02-11T16:03:16", "2026-02-11T16:08:25"),
    )  # fmt: skip
    made = store.registry.register(record, now=NOW).record
    assert store.registry.find(record.path) == made
    assert made.created_at == NOW
    assert store.registry.find(Path("/nowhere")) is None
    columns, (row,) = store.read_rows("caltables")
    values = dict(zip(columns, row, strict=True))
    assert values["order_index"] == 20
    assert values["group_ids"] == "2026-02-11T16:03:16,2026-02-11T16:08:25"


def test_registering_a_path_again_replaces_its_row(store: OperationsStore) -> None:
    store.registry.register(table("BP", checksum="old"))
    store.registry.register(table("BP", checksum="new"))
    (record,) = store.registry.tables("BP")
    assert record.checksum == "new"


def test_tables_come_in_apply_order(store: OperationsStore) -> None:
    for name in ("FLUX", "G", "2G", "BP", "K", "GP", "BA", "GA"):
        store.registry.register(table(name))
    order = [record.table_type for record in store.registry.tables()]
    assert order == ["K", "BA", "BP", "GA", "G", "GP", "2G", "FLUX"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"table_type": "D"}, "unknown calibration table type 'D'"),
        ({"quality": "fine"}, "unknown quality 'fine'"),
        ({"solved_mjd": 60000.0}, "solved at MJD 60000.0"),
    ],
)
def test_what_cannot_be_a_table_is_refused(store: OperationsStore, changes: dict[str, object], words: str) -> None:
    with pytest.raises(PermanentError, match=words):
        store.registry.register(table(**({"table_type": "BP"} | changes)))  # type: ignore[arg-type]
    assert store.registry.tables() == []


def test_selection_through_the_database(store: OperationsStore) -> None:
    for hours in (-30.0, -3.0, 4.0):
        store.registry.register(table("BP", hours=hours))
    store.registry.register(table("G", hours=-0.5))
    store.registry.register(table("G", hours=0.5))
    live = store.registry.select("BP", 16.27, T0, live=True)
    assert live is not None
    assert (live.age_h, live.step) == (pytest.approx(3.0), "active")
    assert store.registry.set_active(live.record.path, False, quality="refused", note="delay plane of 0.4 ns/m")
    again = store.registry.select("BP", 16.27, T0, live=True)
    assert again is not None
    assert (again.age_h, again.step, again.beyond_window) == (pytest.approx(30.0), "nearest", True)
    assert not store.registry.set_active(Path("/nowhere"), True)
    bracket = store.registry.bracket("G", 16.27, T0)
    assert bracket.weight_after == pytest.approx(0.5)
    previous = store.registry.previous("BP", 16.27, T0 + 1.0)
    assert previous is not None
    assert (T0 - previous.solved_mjd) * 24.0 == pytest.approx(-4.0)
    assert store.registry.select("K", 16.27, T0, live=False) is None


def test_a_refused_table_is_kept_but_never_active(store: OperationsStore) -> None:
    made = store.registry.register(table("BP", quality="refused")).record
    assert not made.active
    assert not store.registry.tables(active_only=True)
    assert store.registry.select("BP", 16.27, T0, live=False) is None


def test_the_checksum_is_of_names_and_bytes_but_not_of_locks(tmp_path: Path) -> None:
    caltable = tmp_path / "a.bpcal"
    (caltable / "ANTENNA").mkdir(parents=True)
    (caltable / "table.dat").write_bytes(b"one")
    (caltable / "ANTENNA" / "table.f0").write_bytes(b"two")
    first = measure_checksum(caltable)
    (caltable / "table.lock").write_bytes(b"lock")
    assert measure_checksum(caltable) == first
    (caltable / "ANTENNA" / "table.f0").write_bytes(b"twa")
    assert measure_checksum(caltable) != first
    assert len(first) == 64


def test_times_are_aware(store: OperationsStore) -> None:
    with pytest.raises(Exception, match="naive datetime"):
        store.registry.register(table("BP"), now=NOW.replace(tzinfo=None))
    store.registry.register(table("BP"), now=NOW + timedelta(hours=1))
    (record,) = store.registry.tables()
    assert record.created_at == NOW + timedelta(hours=1)
