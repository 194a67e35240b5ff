"""Registration, readiness and requests, on SQLite and PostgreSQL."""

from datetime import timedelta
from pathlib import Path

import pytest
from ledger_rows import GROUP, NOW, START, WAIT, arrival, complete_group, make_group, register, settle

from dsa110_assets.science.subbands import GroupingOptions, jd_of
from dsa110_resources.operations import GroupState, OperationsStore

SECOND = 1.0 / 86400.0


def test_sixteen_subbands_in_any_order_are_one_pending_group(store: OperationsStore) -> None:
    order = [5, 0, 15, 3, 8, 1, 2, 4, 6, 7, 9, 10, 11, 12, 14]
    assert register(store, *[arrival(i) for i in order]) == ["taken"] * 15
    assert settle(store) == []
    assert store.ledger.require(GROUP).state is GroupState.COLLECTING
    assert register(store, arrival(13)) == ["taken"]
    assert settle(store) == [(GROUP, "pending", None)]
    group = store.ledger.require(GROUP)
    assert (group.n_subbands, group.attempt, group.partition_key) == (16, 1, "2026-02-11T16:00")
    assert list(group.files) == list(range(16))
    assert group.start_jd == jd_of(START)
    assert (group.end_mjd - group.start_mjd) * 86400.0 == pytest.approx(302.8, abs=1e-4)


def test_membership_is_by_time_difference_and_the_first_seen_start_names_the_group(store: OperationsStore) -> None:
    start_jd = jd_of(START)
    later = arrival(1, start_jd=start_jd + 0.05 * SECOND)
    earlier = arrival(2, start_jd=start_jd - 0.05 * SECOND)
    assert register(store, arrival(0), later, earlier) == ["taken"] * 3
    assert store.ledger.require(GROUP).n_subbands == 3
    assert store.ledger.require(GROUP).start_jd == start_jd


def test_a_start_in_the_same_second_but_beyond_the_tolerance_is_a_duplicate(store: OperationsStore) -> None:
    register(store, arrival(0))
    assert register(store, arrival(1, start_jd=jd_of(START) + 0.3 * SECOND)) == ["duplicate"]
    (refused,) = store.arrivals.rejected().values()
    assert (refused.reason, refused.group_id, refused.subband_idx) == ("duplicate", GROUP, 1)
    assert "starts 0.300 s from this file" in refused.message


@pytest.mark.parametrize(
    ("changes", "words"), [({}, "of the same size and shape"), ({"size": 97341016}, "of another size or shape")]
)
def test_the_same_subband_under_another_name_is_a_duplicate(
    store: OperationsStore, changes: dict[str, object], words: str
) -> None:
    register(store, arrival(4))
    other = arrival(4, path=Path("/in/2026-02-11T16:04:38_sb04.hdf5"), **changes)
    assert register(store, other) == ["duplicate"]
    refused = store.arrivals.rejected()["/in/2026-02-11T16:04:38_sb04.hdf5"]
    assert words in refused.message
    assert "/in/2026-02-11T16:03:16_sb04.hdf5" in refused.message
    assert store.ledger.require(GROUP).n_subbands == 1


def test_registering_twice_changes_nothing(store: OperationsStore) -> None:
    register(store, arrival(0))
    assert register(store, arrival(0)) == ["known"]
    assert store.ledger.require(GROUP).n_subbands == 1
    assert store.arrivals.known_paths() == {"/in/2026-02-11T16:03:16_sb00.hdf5"}


@pytest.mark.parametrize(
    ("n_subbands", "state", "reason"),
    [(14, "pending", None), (15, "pending", None), (13, "quarantined", "incomplete"), (1, "quarantined", "incomplete")],
)
def test_an_incomplete_group_is_partial_or_quarantined_after_the_wait(
    store: OperationsStore, n_subbands: int, state: str, reason: str | None
) -> None:
    register(store, *[arrival(i) for i in range(n_subbands)])
    assert settle(store, now=NOW + WAIT - timedelta(seconds=1)) == []
    assert settle(store, now=NOW + WAIT) == [(GROUP, state, reason)]
    group = store.ledger.require(GROUP)
    assert group.is_partial
    if reason:
        assert group.error_message == f"{n_subbands} of 16 subbands after 600 s (at least 14 are needed)"
        assert "DSA110_MIN_SUBBANDS" in (group.cure or "")


def test_the_wait_runs_from_the_last_arrival(store: OperationsStore) -> None:
    register(store, *[arrival(i) for i in range(13)])
    register(store, arrival(13), now=NOW + timedelta(seconds=500))
    assert settle(store, now=NOW + WAIT) == []
    assert settle(store, now=NOW + WAIT + timedelta(seconds=500)) == [(GROUP, "pending", None)]


def test_a_group_with_unread_files_is_not_given_up(store: OperationsStore) -> None:
    register(store, *[arrival(i) for i in range(10)])
    assert settle(store, now=NOW + WAIT, held={GROUP}) == []
    assert settle(store, now=NOW + WAIT, held=()) == [(GROUP, "quarantined", "incomplete")]


@pytest.mark.parametrize("state", ["completed", "failed", "waiting_calibration"])
def test_a_late_subband_returns_a_processed_group_to_pending(store: OperationsStore, state: str) -> None:
    group_id = make_group(store, subbands=14)
    store.ledger.begin(group_id, "run")
    {
        "completed": lambda: store.ledger.complete(group_id, "run"),
        "failed": lambda: store.ledger.fail(group_id, "run", "imager crashed"),
        "waiting_calibration": lambda: store.ledger.wait_for_calibration(group_id, "run", ["BP"]),
    }[state]()
    assert store.ledger.require(group_id).state == state
    assert register(store, arrival(14), now=NOW + 2 * WAIT) == ["late"]
    group = store.ledger.require(group_id)
    assert (group.state, group.attempt, group.n_subbands) == (GroupState.PENDING, 2, 15)
    assert (group.run_key, group.waiting_for) == (f"{GROUP}:2", ())
    (requested,) = store.arrivals.take_requests(25, now=NOW)
    assert requested.run_key == f"{GROUP}:2"


def test_late_subbands_revive_a_quarantined_group_once_it_has_enough(store: OperationsStore) -> None:
    register(store, *[arrival(i) for i in range(12)])
    settle(store, now=NOW + WAIT)
    store.arrivals.set_record(Path("/records/a.json"), group_id=GROUP)
    assert register(store, arrival(12)) == ["late"]
    group = store.ledger.require(GROUP)
    assert (group.state, group.attempt, group.record_due) == (GroupState.QUARANTINED, 1, True)
    assert group.error_message == "13 of 16 subbands after 600 s (at least 14 are needed)"
    assert register(store, arrival(13)) == ["late"]
    group = store.ledger.require(GROUP)
    assert (group.state, group.attempt, group.reason) == (GroupState.PENDING, 2, None)
    assert [g.group_id for g in store.arrivals.taken_up_again()] == [GROUP]


def test_a_subband_that_arrives_during_the_run_gives_the_next_attempt_when_it_ends(store: OperationsStore) -> None:
    group_id = make_group(store, subbands=15)
    begun = store.ledger.begin(group_id, "run")
    assert begun.missing_subbands == (15,)
    assert register(store, arrival(15)) == ["late"]
    assert store.ledger.require(group_id).state is GroupState.IN_PROGRESS
    assert store.ledger.complete(group_id, "run")
    group = store.ledger.require(group_id)
    assert (group.state, group.attempt) == (GroupState.PENDING, 2)
    assert store.ledger.begin(group_id, "again").missing_subbands == ()
    assert store.ledger.complete(group_id, "again")
    assert store.ledger.require(group_id).state is GroupState.COMPLETED


def test_a_subband_that_arrives_before_the_run_begins_joins_that_run(store: OperationsStore) -> None:
    group_id = make_group(store, subbands=15)
    assert register(store, arrival(15)) == ["taken"]
    assert store.ledger.require(group_id).attempt == 1
    assert len(store.ledger.begin(group_id, "run").files) == 16


def test_two_groups_in_one_window(store: OperationsStore) -> None:
    make_group(store)
    intruder_jd = jd_of(START) + 60.0 * SECOND
    intruder = [arrival(i, start_jd=intruder_jd, path=Path(f"/in/b{i}.hdf5")) for i in range(16)]
    register(store, *intruder)
    assert settle(store) == [("2026-02-11T16:04:16", "quarantined", "window_occupied")]
    group = store.ledger.require("2026-02-11T16:04:16")
    assert group.error_message == f"window 2026-02-11T16:00 already belongs to group {GROUP}"
    assert store.ledger.find_window("2026-02-11T16:00").group_id == GROUP  # type: ignore[union-attr]


def test_a_stump_does_not_occupy_the_window_of_a_whole_group(store: OperationsStore) -> None:
    register(store, arrival(0))
    settle(store, now=NOW + WAIT)
    whole = [arrival(i, start_jd=jd_of(START) + 60.0 * SECOND, path=Path(f"/in/b{i}.hdf5")) for i in range(16)]
    register(store, *whole)
    assert settle(store) == [("2026-02-11T16:04:16", "pending", None)]
    # the stump's other subbands come late: the window stays with the group that was whole first
    assert register(store, *[arrival(i) for i in range(1, 16)]) == ["late"] * 15
    assert settle(store, now=NOW + WAIT) == []
    assert store.ledger.require(GROUP).state is GroupState.QUARANTINED


def test_before_the_campaign_and_in_the_future(store: OperationsStore) -> None:
    register(store, *[arrival(i) for i in range(16)])
    assert settle(store, campaign_start=START + timedelta(days=1)) == [(GROUP, "quarantined", "before_campaign")]
    assert settle(store, campaign_start=START + timedelta(days=1)) == []
    # an earlier campaign start cures it
    assert settle(store) == [(GROUP, "pending", None)]
    register(store, *[arrival(i, group=500) for i in range(16)])
    ((ahead, state, reason),) = settle(store)
    assert (state, reason) == ("quarantined", "in_future")
    # and so does time
    assert settle(store, now=NOW + timedelta(days=2)) == [(ahead, "pending", None)]


def test_a_lower_limit_cures_incomplete_groups(store: OperationsStore) -> None:
    register(store, *[arrival(i) for i in range(12)])
    settle(store, now=NOW + WAIT)
    assert settle(store, now=NOW + WAIT, options=GroupingOptions(min_subbands=12)) == [(GROUP, "pending", None)]


def test_members_of_another_shape_are_refused_by_the_majority(store: OperationsStore) -> None:
    register(store, arrival(0, shape="16 x 4656 x 48 x 2"), *[arrival(i) for i in range(1, 16)])
    assert settle(store) == []
    group = store.ledger.require(GROUP)
    assert (group.n_subbands, list(group.files)) == (15, list(range(1, 16)))
    (refused,) = store.arrivals.rejected().values()
    assert (refused.reason, refused.subband_idx) == ("wrong_shape", 0)
    assert "16 x 4656 x 48 x 2, the others" in refused.message
    assert settle(store, now=NOW + WAIT) == [(GROUP, "pending", None)]


def test_a_late_subband_of_another_shape_is_refused(store: OperationsStore) -> None:
    group_id = complete_group(store, subbands=15)
    assert register(store, arrival(15, shape="16 x 4656 x 48 x 2")) == ["wrong_shape"]
    assert store.ledger.require(group_id).state is GroupState.COMPLETED


def test_requests_are_newest_first_limited_and_made_once(store: OperationsStore) -> None:
    ids = [make_group(store, group=n) for n in range(30)]
    first = store.arrivals.take_requests(25, now=NOW)
    assert [group.group_id for group in first] == ids[::-1][:25]
    assert [group.group_id for group in store.arrivals.take_requests(25, now=NOW)] == ids[::-1][25:]
    assert store.arrivals.take_requests(25, now=NOW) == []


def test_a_request_that_died_is_made_again_after_the_fresh_ones(store: OperationsStore) -> None:
    old = make_group(store, group=5)
    assert len(store.arrivals.take_requests(25, now=NOW)) == 1
    fresh = make_group(store, group=0)
    later = NOW + timedelta(seconds=601)
    assert [group.group_id for group in store.arrivals.take_requests(25, now=later)] == [fresh, old]
    store.ledger.begin(old, "run")
    assert [g.group_id for g in store.arrivals.take_requests(25, now=later + timedelta(seconds=601))] == [fresh]


def test_groups_without_a_partition_yet_are_not_requested(store: OperationsStore) -> None:
    make_group(store)
    start_mjd = store.ledger.require(GROUP).start_mjd
    assert store.arrivals.take_requests(25, now=NOW, before_mjd=start_mjd) == []
    assert len(store.arrivals.take_requests(25, now=NOW, before_mjd=start_mjd + 1e-4)) == 1


def test_permanent_failures_can_be_quarantined(store: OperationsStore) -> None:
    group_id = make_group(store)
    assert store.arrivals.quarantine(group_id, "unusable", "all flagged", "look at the correlator")
    groups, _ = store.arrivals.unrecorded()
    assert [(g.group_id, g.reason, g.cure) for g in groups] == [(group_id, "unusable", "look at the correlator")]
    assert not store.arrivals.quarantine("2001-01-01T00:00:00", "x", "y", "z")


def test_a_file_copied_again_is_renewed_only_if_it_is_the_same_subband(store: OperationsStore) -> None:
    register(store, arrival(3))
    assert store.arrivals.renew(arrival(3, size=99))
    assert list(store.arrivals.file_sizes(GROUP).values()) == [99]
    path = arrival(3).path
    assert not store.arrivals.renew(arrival(4, path=path))
    assert not store.arrivals.renew(arrival(3, path=path, start_jd=jd_of(START) + SECOND))
    assert not store.arrivals.renew(arrival(3, path=path, shape="another"))


def test_a_file_lost_for_good_can_be_dropped(store: OperationsStore) -> None:
    group_id = make_group(store)
    assert store.arrivals.drop(arrival(9).path)
    assert not store.arrivals.drop(arrival(9).path)
    assert store.ledger.begin(group_id, "run").missing_subbands == (9,)
