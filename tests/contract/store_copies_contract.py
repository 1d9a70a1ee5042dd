"""What a store of many machines must do with copies: a second lease of a task that another worker runs. The first to commit
success wins; whatever becomes of one of them while the other goes on harms nothing.
A test file of a driver subclasses `CopiesContract` next to `StoreContract`; the rig is the same.
"""

from __future__ import annotations

import pytest
from store_rig import (
    LEASE_NS,
    SECOND,
    Rig,
    Store,
    at,
    attempt,
    commit,
    end,
    look,
    recount,
    register,
    states,
    submit,
    take,
)

from ergates.cluster.attempt import Outcome
from ergates.cluster.task import JobId, Requirement, TaskId, TaskSpec
from ergates.taskqueue.store import Cancelled, Changes, Commit, Done, Failed, Lease, PastFailures, Returned, Want

SILENT = LEASE_NS / SECOND + 10


def copy_of(store: Store, lease: Lease, worker: str = "w2", now: float = 1) -> tuple[Lease, ...]:
    want = Want(job=lease.job, class_id=0, priority=0, count=0, copy_of=(lease.task, lease.fence))
    return store.exchange(worker, [], [want], at(now)).leases


def pair(store: Store, *, tasks: int = 1) -> tuple[Lease, Lease]:
    """A task of j1 leased to w1 on alpha, and its copy, leased to w2 on beta."""
    register(store, "w1", "alpha")
    register(store, "w2", "beta")
    submit(store, tasks, copies=True)
    (original,) = take(store)
    (copy,) = copy_of(store, original)
    return original, copy


def lost(lease: Lease) -> Commit:
    made = attempt(lease, Outcome.LOST, worker="", host="")
    verdict = Returned(past=PastFailures(losses=lease.past.losses + 1))
    return Commit(job=lease.job, task=lease.task, fence=lease.fence, attempt=made, verdict=verdict)


def ledger(store: Store) -> list[tuple[int, str]]:
    return [(made.number, made.outcome.value) for _, _, made in store.attempts(JobId("j1"))]


def held_by(store: Store) -> list[str]:
    return sorted(lease.worker for lease in store.held(10))


def key(lease: Lease) -> tuple[JobId, TaskId, int]:
    return lease.job, lease.task, lease.fence


class CopiesContract:
    """Second leases."""

    def test_a_copy_is_a_lease_of_its_own(self, rig: Rig) -> None:
        original, copy = pair(rig.store)
        assert (copy.job, copy.task, copy.spec) == (original.job, original.task, original.spec)
        assert copy.fence != original.fence and (original.attempt, copy.attempt) == (1, 2)
        assert (original.copy_of_host, copy.copy_of_host) == ("", "alpha")
        assert held_by(rig.store) == ["w1", "w2"]
        status = rig.store.status(original.job)
        assert status.counts["leased"] == 1 and look(rig.store).open_tasks == 1
        recount(rig.store)

    @pytest.mark.parametrize("first", [0, 1])
    def test_the_first_to_succeed_wins(self, rig: Rig, first: int) -> None:
        both = pair(rig.store)
        names = ("w1", "w2")
        winner, loser = both[first], both[1 - first]
        assert not end(rig.store, commit(winner), worker=names[first], now=2).refused
        assert states(rig.store, winner.job) == {1: "done"}
        assert rig.store.status(winner.job).phase == "finished"
        assert held_by(rig.store) == []
        # It is named until its worker says that it ended it.
        assert look(rig.store, names[1 - first], 3).revoked == (key(loser),)
        assert look(rig.open(), names[1 - first], 4).revoked == (key(loser),)
        made = commit(loser, Cancelled(), Outcome.CANCELLED)
        assert end(rig.store, made, worker=names[1 - first], now=5).refused == (key(loser),)
        assert look(rig.store, names[1 - first], 6).revoked == ()
        assert ledger(rig.store) == [(first + 1, "succeeded")]
        (view,) = rig.store.tasks(winner.job)
        assert view.attempts == first + 1
        recount(rig.store)

    @pytest.mark.parametrize("first", [0, 1])
    def test_a_second_success_is_refused(self, rig: Rig, first: int) -> None:
        both = pair(rig.store)
        names = ("w1", "w2")
        end(rig.store, commit(both[first]), worker=names[first], now=2)
        late = end(rig.store, commit(both[1 - first]), worker=names[1 - first], now=2)
        assert late.refused == (key(both[1 - first]),) and late.revoked == ()
        assert ledger(rig.store) == [(first + 1, "succeeded")]
        assert look(rig.store, "w1", 3).revoked == look(rig.store, "w2", 3).revoked == ()
        recount(rig.store)

    @pytest.mark.parametrize("first", [0, 1])
    @pytest.mark.parametrize("how", ["failed", "evicted", "untried"])
    def test_one_that_ends_badly_harms_nothing_while_the_other_runs(self, rig: Rig, first: int, how: str) -> None:
        both = pair(rig.store)
        names = ("w1", "w2")
        ended, other = both[first], both[1 - first]
        back = Returned(past=PastFailures(memory=1, last_peak_bytes=999), not_before_ns=at(100))
        verdicts = {
            "failed": commit(ended, Failed(reason="exit code 1")),
            "evicted": commit(ended, back),
            "untried": commit(ended, Returned(past=ended.past), Outcome.RETURNED),
        }
        assert not end(rig.store, verdicts[how], worker=names[first], now=2).refused
        assert states(rig.store, ended.job) == {1: "leased"} and held_by(rig.store) == [names[1 - first]]
        assert look(rig.store, names[1 - first], 3).revoked == ()
        recount(rig.store)
        assert not end(rig.store, commit(other), worker=names[1 - first], now=4).refused
        (view,) = rig.store.tasks(ended.job)
        assert (view.state.value, view.past) == ("done", PastFailures())
        tried = [] if how == "untried" else [(first + 1, how)]
        assert ledger(rig.store) == [*tried, (2 - first, "succeeded")]
        recount(rig.store)

    @pytest.mark.parametrize("first", [0, 1])
    def test_when_both_fail_the_second_decides(self, rig: Rig, first: int) -> None:
        both = pair(rig.store)
        names = ("w1", "w2")
        end(rig.store, commit(both[first], Failed(reason="one")), worker=names[first], now=2)
        end(rig.store, commit(both[1 - first], Failed(reason="two")), worker=names[1 - first], now=3)
        (view,) = rig.store.tasks(both[0].job)
        assert (view.state.value, view.reason) == ("failed", "two")
        assert ledger(rig.store) == [(first + 1, "failed"), (2 - first, "failed")]
        assert rig.store.retry(both[0].job, [(1, 1)], at(4)) == 1
        (again,) = take(rig.store, now=5)
        assert again.attempt > 2, "the number of an attempt is used twice"
        end(rig.store, commit(again), now=6)
        recount(rig.store)

    @pytest.mark.parametrize("first", [0, 1])
    def test_a_lost_worker_gives_back_only_its_own(self, rig: Rig, first: int) -> None:
        both = pair(rig.store, tasks=2)
        names = ("w1", "w2")
        alive, dead = names[1 - first], both[first]
        look(rig.store, alive, SILENT)
        (found,) = rig.store.expired(at(SILENT))
        assert (key(found), found.attempt, found.host) == (key(dead), dead.attempt, ("alpha", "beta")[first])
        assert not end(rig.store, lost(found), worker=alive, now=SILENT).refused
        assert rig.store.expired(at(SILENT)) == ()
        assert held_by(rig.store) == [alive] and look(rig.store, alive, SILENT).revoked == ()
        end(rig.store, commit(both[1 - first]), worker=alive, now=SILENT)
        assert ledger(rig.store) == [(first + 1, "lost"), (2 - first, "succeeded")]
        assert look(rig.store, names[first], SILENT + 1).stale
        recount(rig.store)

    def test_both_workers_are_lost(self, rig: Rig) -> None:
        pair(rig.store)
        register(rig.store, "w3", "gamma", now=SILENT)
        found = rig.store.expired(at(SILENT))
        assert sorted(lease.attempt for lease in found) == [1, 2]
        end(rig.store, *map(lost, found), worker="w3", now=SILENT)
        assert sorted(ledger(rig.store)) == [(1, "lost"), (2, "lost")]
        (again,) = take(rig.store, worker="w3", now=SILENT)
        assert again.past.losses == 1, "the copy's loss counts against the task"
        assert again.attempt > 2 and states(rig.store, again.job) == {1: "leased"}
        recount(rig.store)

    @pytest.mark.parametrize("first", [0, 1])
    @pytest.mark.parametrize("how", ["leave", "register"])
    def test_a_worker_that_goes_leaves_the_other_one_alone(self, rig: Rig, first: int, how: str) -> None:
        both = pair(rig.store)
        names, hosts = ("w1", "w2"), ("alpha", "beta")
        if how == "leave":
            rig.store.leave(names[first], at(2))
        else:
            register(rig.store, names[first], hosts[first], now=2)
        assert states(rig.store, both[0].job) == {1: "leased"} and held_by(rig.store) == [names[1 - first]]
        end(rig.store, commit(both[1 - first]), worker=names[1 - first], now=3)
        assert ledger(rig.store) == [(2 - first, "succeeded")]
        recount(rig.store)

    def test_an_overtaken_worker_that_starts_anew_is_told_nothing(self, rig: Rig) -> None:
        _, copy = pair(rig.store)
        end(rig.store, commit(copy), worker="w2", now=2)
        register(rig.store, "w1", "alpha", now=3)
        assert look(rig.store, now=4).revoked == ()

    @pytest.mark.parametrize("first", [0, 1])
    def test_cancelling_revokes_both(self, rig: Rig, first: int) -> None:
        both = pair(rig.store)
        names = ("w1", "w2")
        assert rig.store.cancel(both[0].job, [(1, 1)], "by hand", at(2)) == 1
        for place in (first, 1 - first):
            assert states(rig.store, both[0].job) == {1: "leased"}
            answer = look(rig.store, names[place], 3)
            assert answer.revoked == (key(both[place]),)
            end(rig.store, commit(both[place], Cancelled()), worker=names[place], now=4)
        (view,) = rig.store.tasks(both[0].job)
        assert (view.state.value, view.reason) == ("cancelled", "by hand")
        assert sorted(ledger(rig.store)) == [(1, "cancelled"), (2, "cancelled")]
        recount(rig.store)

    def test_a_cancelled_one_that_succeeds_all_the_same_wins(self, rig: Rig) -> None:
        original, copy = pair(rig.store)
        rig.store.cancel(original.job, [(1, 1)], "by hand", at(2))
        end(rig.store, commit(copy), worker="w2", now=3)
        assert states(rig.store, original.job) == {1: "done"}
        assert look(rig.store, now=4).revoked == (key(original),)
        end(rig.store, commit(original, Cancelled()), now=5)
        assert look(rig.store, now=6).revoked == ()
        recount(rig.store)

    def test_a_task_that_runs_again_has_nothing_to_do_with_who_was_overtaken(self, rig: Rig) -> None:
        original, copy = pair(rig.store)
        end(rig.store, commit(copy), worker="w2", now=2)
        assert rig.store.edit(original.job, [(TaskId(1), Changes(priority=1))], at(3), rerun=True) == (1,)
        (again,) = take(rig.store, now=4)
        assert again.attempt == 3
        assert look(rig.store, now=5).revoked == (key(original),)
        end(rig.store, commit(original, Cancelled()), commit(again), now=6)
        assert ledger(rig.store) == [(2, "succeeded"), (3, "succeeded")]
        recount(rig.store, {(again.job, 1)})

    def test_a_copy_of_a_task_that_came_back_before(self, rig: Rig) -> None:
        register(rig.store, "w1", "alpha")
        register(rig.store, "w2", "beta")
        submit(rig.store, 1, copies=True)
        (lease,) = take(rig.store)
        end(rig.store, commit(lease, Returned(past=PastFailures(failures=1))), now=1)
        (original,) = take(rig.store, now=2)
        (copy,) = copy_of(rig.store, original, now=3)
        assert (copy.attempt, copy.past) == (3, PastFailures(failures=1))
        end(rig.store, commit(copy, Returned(past=PastFailures(failures=2))), worker="w2", now=4)
        end(rig.store, commit(original, Returned(past=PastFailures(failures=2))), now=5)
        (view,) = rig.store.tasks(lease.job)
        assert (view.state.value, view.past) == ("ready", PastFailures(failures=2))
        recount(rig.store)

    def test_what_gets_no_copy(self, rig: Rig) -> None:
        original, _ = pair(rig.store, tasks=3)
        store = rig.store
        register(store, "w3", "gamma")
        assert copy_of(store, original, "w3") == (), "it has one"
        (second,) = take(store, now=1)
        assert copy_of(store, second, "w1") == (), "its own worker"
        (free,) = [view.task for view in store.tasks(JobId("j1")) if view.state.value == "ready"]
        want = Want(job=JobId("j1"), class_id=0, priority=0, count=0, copy_of=(free, second.fence))
        assert store.exchange("w3", [], [want], at(1)).leases == (), "nobody runs it"
        want = Want(job=JobId("j1"), class_id=0, priority=0, count=0, copy_of=(second.task, second.fence + 99))
        assert store.exchange("w3", [], [want], at(1)).leases == (), "another fence"
        store.set_phase(JobId("j1"), "paused", at(1))
        assert copy_of(store, second, "w3") == (), "its job is paused"
        store.set_phase(JobId("j1"), "active", at(1))
        store.cancel(JobId("j1"), [(second.task, second.task)], "by hand", at(1))
        assert copy_of(store, second, "w3") == (), "it was cancelled"
        want = Want(job=JobId("j9"), class_id=0, priority=0, count=0, copy_of=(TaskId(1), 1))
        assert store.exchange("w3", [], [want], at(1)).leases == (), "no such job"
        submit(store, 1, key="not twice", now=2)
        (*_, lease) = take(store, 2, now=2)
        assert lease.job == "j2" and copy_of(store, lease, "w3") == (), "its tasks may not run twice at a time"
        recount(store)

    def test_a_gang_gets_no_copy(self, rig: Rig) -> None:
        for name in ("w1", "w2", "w3"):
            register(rig.store, name, f"h-{name}")
        submit(rig.store, [TaskSpec(command="mpi", requirement=Requirement(nodes=2))], copies=True)
        (offer,) = look(rig.store).offers
        seat = Want(job=offer.job, class_id=offer.class_id, priority=offer.priority, count=1)
        leases = [lease for name in ("w1", "w2", "w1") for lease in rig.store.exchange(name, [], [seat], at(1)).leases]
        assert len(leases) == 2
        assert copy_of(rig.store, leases[0], "w3", now=2) == ()

    def test_done_tasks_free_what_comes_after_them_once(self, rig: Rig) -> None:
        register(rig.store, "w1", "alpha")
        register(rig.store, "w2", "beta")
        submit(rig.store, [TaskSpec(command="one"), TaskSpec(command="two", after=((1, 1),))], copies=True)
        (original,) = take(rig.store)
        (copy,) = copy_of(rig.store, original)
        end(rig.store, commit(copy, Done()), worker="w2", now=2)
        end(rig.store, commit(original, Done()), now=2)
        assert states(rig.store, original.job) == {1: "done", 2: "ready"}
        recount(rig.store)
