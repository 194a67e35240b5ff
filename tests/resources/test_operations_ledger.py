"""Life of groups, the data clock, closed periods, and two daemons on one database."""

import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from ledger_rows import GROUP, NOW, START, WAIT, arrival, complete_group, make_group, register, settle, table

from dsa110_assets.science.subbands import jd_of, mjd_of
from dsa110_resources.errors import PermanentError
from dsa110_resources.operations import GroupState, OperationsStore

QUIET = timedelta(seconds=1801)


def test_a_run_takes_a_group_through_its_states(store: OperationsStore) -> None:
    group_id = make_group(store)
    begun = store.ledger.begin(group_id, "run", now=NOW)
    assert (begun.state, begun.run_id, begun.n_subbands_used) == (GroupState.IN_PROGRESS, "run", 16)
    assert store.ledger.begin(group_id, "run", now=NOW).state is GroupState.IN_PROGRESS
    assert store.ledger.complete(group_id, "run", now=NOW)
    done = store.ledger.require(group_id)
    assert (done.state, done.completed_at, done.is_partial) == (GroupState.COMPLETED, NOW, False)
    assert not store.ledger.complete(group_id, "run")


def test_transitions_are_compare_and_set(store: OperationsStore) -> None:
    group_id = make_group(store)
    assert not store.ledger.complete(group_id, "run")
    assert not store.ledger.fail(group_id, "run", "crash")
    store.ledger.begin(group_id, "first")
    store.ledger.begin(group_id, "second")
    assert not store.ledger.complete(group_id, "first")
    assert not store.ledger.wait_for_calibration(group_id, "first", ["G"])
    assert store.ledger.complete(group_id, "second")


def test_failure_counts_and_retry_gives_the_next_attempt(store: OperationsStore) -> None:
    group_id = make_group(store)
    store.ledger.begin(group_id, "run")
    assert store.ledger.fail(group_id, "run", "imager crashed")
    failed = store.ledger.require(group_id)
    assert (failed.state, failed.retry_count, failed.error_message) == (GroupState.FAILED, 1, "imager crashed")
    assert store.ledger.retry(group_id)
    assert not store.ledger.retry(group_id)
    again = store.ledger.require(group_id)
    assert (again.state, again.run_key) == (GroupState.PENDING, f"{group_id}:2")
    store.ledger.begin(group_id, "again")
    store.ledger.complete(group_id, "again")
    assert store.ledger.require(group_id).error_message is None


def test_what_may_not_be_run_says_why(store: OperationsStore) -> None:
    with pytest.raises(PermanentError, match="knows no such group"):
        store.ledger.begin(GROUP, "run")
    register(store, arrival(0))
    with pytest.raises(PermanentError, match=r"is collecting.*wait until its subbands arrived"):
        store.ledger.begin(GROUP, "run")
    settle(store, now=NOW + WAIT)
    with pytest.raises(PermanentError, match=r"quarantined \(incomplete: 1 of 16 subbands.*DSA110_MIN_SUBBANDS"):
        store.ledger.begin(GROUP, "run")
    with pytest.raises(PermanentError, match=r"\[2001-01-01T00:00:00\] the ledger knows no such group"):
        store.ledger.require("2001-01-01T00:00:00")


def test_a_new_table_releases_the_waiting_groups_of_its_strip(store: OperationsStore) -> None:
    group_id = make_group(store)
    store.ledger.begin(group_id, "run", now=NOW)
    assert store.ledger.wait_for_calibration(group_id, "run", ["BP", "G"], now=NOW)
    waiting = store.ledger.require(group_id)
    assert (waiting.state, waiting.waiting_for, waiting.waiting_since) == ("waiting_calibration", ("BP", "G"), NOW)
    assert waiting.error_message == "no usable BP and G table on this declination strip yet"
    assert store.registry.register(table("BP", dec_deg=22.0)).released == ()  # another strip
    assert store.registry.register(table("BP", quality="refused")).released == ()
    assert store.registry.register(table("BP", hours=1.0)).released == ()
    assert store.ledger.require(group_id).waiting_for == ("G",)
    assert store.registry.register(table("G")).released == (group_id,)
    released = store.ledger.require(group_id)
    assert (released.state, released.attempt, released.waiting_for) == (GroupState.PENDING, 2, ())


def test_a_table_that_lands_while_the_run_looks_is_not_missed(store: OperationsStore) -> None:
    group_id = make_group(store)
    store.ledger.begin(group_id, "run", now=NOW)
    store.registry.register(table("BP"), now=NOW + timedelta(seconds=5))
    store.ledger.wait_for_calibration(group_id, "run", ["BP"], now=NOW + timedelta(seconds=6))
    assert store.ledger.require(group_id).run_key == f"{group_id}:2"
    # a table that was there before the run began, and was of no use to it, does not make it run for ever
    store.ledger.begin(group_id, "again", now=NOW + timedelta(seconds=10))
    store.ledger.wait_for_calibration(group_id, "again", ["BP"], now=NOW + timedelta(seconds=11))
    assert store.ledger.require(group_id).state is GroupState.WAITING_CALIBRATION


def test_activation_releases_too_and_long_waits_are_found(store: OperationsStore) -> None:
    store.registry.register(table("BP", active=False), now=NOW)
    group_id = make_group(store)
    store.ledger.begin(group_id, "run", now=NOW + timedelta(seconds=1))
    store.ledger.wait_for_calibration(group_id, "run", ["BP"], now=NOW + timedelta(seconds=2))
    assert [g.group_id for g in store.ledger.find_waiting()] == [group_id]
    assert store.ledger.find_waiting(since=NOW) == []
    assert len(store.ledger.find_waiting(since=NOW + timedelta(hours=48))) == 1
    assert store.registry.set_active(table("BP").path, True)
    assert store.ledger.require(group_id).state is GroupState.PENDING


def test_groups_are_found_by_start_and_state(store: OperationsStore) -> None:
    ids = [complete_group(store, group=n) for n in range(3)] + [make_group(store, group=3)]
    first = mjd_of(jd_of(START))
    spacing = 309.2376 / 86400.0
    found = store.groups_between(first, first + 2.5 * spacing)
    assert [group.group_id for group in found] == ids[:3]
    assert [g.group_id for g in store.groups_between(first + spacing, first + 9)] == ids[1:]
    assert [g.group_id for g in store.groups_between(first, first + 9, ["pending"])] == ids[3:]
    assert store.groups_between(first, first) == []
    assert store.ledger.find_previous(found[2]).group_id == ids[1]  # type: ignore[union-attr]
    assert store.ledger.find_previous(found[0]) is None
    assert store.ledger.count_states()[GroupState.COMPLETED] == 3
    assert store.ledger.count_states()[GroupState.FAILED] == 0


def test_the_data_clock_ignores_quarantined_groups(store: OperationsStore) -> None:
    assert store.latest_group_end() is None
    make_group(store)
    register(store, arrival(0, group=50))
    settle(store, now=NOW + timedelta(days=1))
    assert store.latest_group_end() == pytest.approx(mjd_of(jd_of(START)) + 302.8 / 86400.0, abs=1e-9)


def test_an_hour_closes_when_a_later_group_is_seen_and_all_of_its_own_are_settled(store: OperationsStore) -> None:
    for n in range(12):  # 16:03:16 to 16:59:58
        complete_group(store, group=n)
    assert store.closed_hours(now=NOW) == []  # more may come
    register(store, arrival(0, group=12))
    (hour,) = store.closed_hours(now=NOW)
    assert (hour.key, hour.n_completed, hour.revision) == ("2026-02-11T16", 12, 12)
    assert store.closed_days(now=NOW) == []


def test_a_night_closes_when_nothing_arrives_any_more(store: OperationsStore) -> None:
    complete_group(store)
    (hour,), (day,) = store.closed_hours(now=NOW + QUIET), store.closed_days(now=NOW + QUIET)
    assert (hour.key, day.key, day.n_completed) == ("2026-02-11T16", "2026-02-11", 1)
    assert store.closed_days(now=NOW + QUIET, since="2026-02-12") == []


def test_work_in_hand_keeps_a_period_open_and_waiting_groups_as_the_caller_says(store: OperationsStore) -> None:
    complete_group(store)
    waiting = make_group(store, group=1)
    assert store.closed_hours(now=NOW + QUIET) == []
    store.ledger.begin(waiting, "run")
    assert store.closed_hours(now=NOW + QUIET) == []
    store.ledger.wait_for_calibration(waiting, "run", ["G"])
    (hour,) = store.closed_hours(now=NOW + QUIET)
    assert (hour.n_completed, hour.n_waiting) == (1, 1)
    assert store.closed_hours(now=NOW + QUIET, waiting_is_settled=False) == []


def test_a_reprocessed_group_gives_its_hour_a_new_revision(store: OperationsStore) -> None:
    group_id = complete_group(store, subbands=15)
    (before,) = store.closed_hours(now=NOW + QUIET)
    register(store, arrival(15))
    store.ledger.begin(group_id, "again")
    store.ledger.complete(group_id, "again")
    (after,) = store.closed_hours(now=NOW + QUIET)
    assert (before.revision, after.revision) == (1, 2)


def test_calibrators_and_refinement_are_recorded(store: OperationsStore) -> None:
    group_id = complete_group(store)
    store.ledger.set_calibrators(group_id, ["2253+161", "0137+331"])
    store.ledger.mark_refined([group_id])
    group = store.ledger.require(group_id)
    assert (group.has_calibrator, group.calibrators, group.refined) == (True, ("2253+161", "0137+331"), True)
    store.ledger.set_calibrators(group_id, [])
    assert store.ledger.require(group_id).has_calibrator is False


def test_a_group_whose_run_vanished_is_failed(store: OperationsStore) -> None:
    group_id = make_group(store)
    store.ledger.begin(group_id, "run", now=NOW)
    assert store.ledger.expire_runs(NOW) == []
    assert store.ledger.expire_runs(NOW + timedelta(hours=3)) == [group_id]
    assert store.ledger.require(group_id).state is GroupState.FAILED
    assert store.ledger.expire_runs(NOW + timedelta(hours=3)) == []


def test_tiles_are_refined_once_when_both_bracketing_gains_are_there(store: OperationsStore) -> None:
    group_id = complete_group(store, now=NOW)
    other_strip = complete_group(store, group=1, now=NOW)
    store.registry.register(table("G", hours=-0.5), now=NOW - timedelta(hours=1))
    assert store.groups_to_refine(0.0, 1e6) == []  # one side only
    store.registry.register(table("G", hours=0.5, dec_deg=54.6), now=NOW + timedelta(hours=1))
    assert store.groups_to_refine(0.0, 1e6) == []  # another strip
    store.registry.register(table("G", hours=0.5), now=NOW + timedelta(hours=1))
    assert [group.group_id for group in store.groups_to_refine(0.0, 1e6)] == [group_id, other_strip]
    store.ledger.mark_refined([group_id, other_strip])
    assert store.groups_to_refine(0.0, 1e6) == []


def test_tiles_made_with_both_gains_need_no_refinement(store: OperationsStore) -> None:
    for hours in (-0.5, 0.5):
        store.registry.register(table("G", hours=hours), now=NOW - timedelta(hours=1))
    complete_group(store, now=NOW)
    assert store.groups_to_refine(0.0, 1e6) == []


_DAEMON = """
import sys
from ledger_rows import NOW, arrival, register, settle
from dsa110_resources.operations import OperationsStore
store = OperationsStore(sys.argv[1])
store.migrate()
runs = []
for group in range(12):
    for subband in range(16):
        register(store, arrival(subband, group=group))
    settle(store)
    runs += [request.run_key for request in store.arrivals.take_requests(25, now=NOW)]
print("\\n".join(runs))
"""


def test_two_daemons_take_and_request_every_group_once(operations_url: str) -> None:
    command = [sys.executable, "-c", _DAEMON, operations_url]
    path = {"PYTHONPATH": str(Path(__file__).parents[1]), "PATH": ""}
    daemons = [subprocess.Popen(command, stdout=subprocess.PIPE, env=path, text=True) for _ in range(2)]
    outputs = [daemon.communicate(timeout=120)[0] for daemon in daemons]
    assert [daemon.returncode for daemon in daemons] == [0, 0]
    requested = [line for output in outputs for line in output.split()]
    assert len(requested) == len(set(requested)) == 12
    store = OperationsStore(operations_url)
    assert store.ledger.count_states()[GroupState.PENDING] == 12
    groups = store.groups_between(0.0, 1e6)
    assert [group.n_subbands for group in groups] == [16] * 12
    store.close()
