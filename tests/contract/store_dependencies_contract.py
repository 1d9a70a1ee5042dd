"""What every store must do with tasks that come after others. See store_contract.py."""

from __future__ import annotations

import pytest
from store_rig import Rig, at, back, commit, end, finish, ids, look, recount, register, states, submit, take

from ergates.cluster.task import TaskSpec
from ergates.errors import UsageError
from ergates.taskqueue.store import Cancelled, Failed, TaskView


def after(*ranges: tuple[int, int]) -> TaskSpec:
    return TaskSpec(command="c", after=ranges)


FREE = TaskSpec(command="c")


class DependenciesContract:
    """Blocking, letting go, cancelling along the chain, retrying it."""

    def test_a_task_waits_until_all_it_comes_after_are_done(self, rig: Rig) -> None:
        job = submit(rig.store, [FREE, FREE, after((1, 1), (2, 2)), after((1, 3))]).id
        register(rig.store)
        assert states(rig.store, job) == {1: "ready", 2: "ready", 3: "blocked", 4: "blocked"}
        assert [view.blocked_by for view in rig.store.tasks(job)] == [0, 0, 2, 3]
        assert [offer.waiting for offer in look(rig.store).offers] == [2]
        one, two = take(rig.store, 4)
        assert finish(rig.store, [one]).offers == ()
        assert [view.blocked_by for view in rig.store.tasks(job, ids=[(3, 4)])] == [1, 2]
        assert [offer.waiting for offer in finish(rig.store, [two]).offers] == [1]
        finish(rig.store, take(rig.store, 4))
        (last,) = take(rig.store, 4)
        assert last.task == 4
        finish(rig.store, [last])
        assert rig.store.status(job).phase == "finished"
        recount(rig.store)

    def test_a_task_waits_for_each_of_several_ranges(self, rig: Rig) -> None:
        job = submit(rig.store, [FREE, FREE, FREE, FREE, FREE, after((1, 1), (3, 3), (5, 5))]).id
        register(rig.store)
        leases = take(rig.store, 5)
        for number, left in ((0, 2), (2, 1), (1, 1), (3, 1)):
            finish(rig.store, [leases[number]])
            (view,) = rig.store.tasks(job, ids=[(6, 6)])
            assert (view.state, view.blocked_by) == ("blocked", left)
        finish(rig.store, [leases[4]])
        assert states(rig.store, job)[6] == "ready"

    def test_a_returned_task_does_not_let_go(self, rig: Rig) -> None:
        job = submit(rig.store, [FREE, after((1, 1))]).id
        register(rig.store)
        end(rig.store, back(*take(rig.store, 1)))
        assert states(rig.store, job) == {1: "ready", 2: "blocked"}
        finish(rig.store, take(rig.store, 1))
        assert states(rig.store, job) == {1: "done", 2: "ready"}

    def test_a_barrier_and_pairs_and_a_chain(self, rig: Rig) -> None:
        """Three usual shapes, driven to the end in batches; order is checked at every lease."""
        width = 60
        tasks = [FREE] * width
        tasks += [after((number, number)) for number in range(1, width + 1)]
        tasks += [after((1, 2 * width))] * width
        tasks += [after((3 * width + number, 3 * width + number)) for number in range(width)]
        job = submit(rig.store, tasks).id
        register(rig.store)
        done: set[int] = set()
        while leases := take(rig.store, 7):
            for lease in leases:
                assert all(set(range(first, last + 1)) <= done for first, last in lease.spec.after)
            finish(rig.store, leases)
            done |= set(ids(leases))
        assert len(done) == len(tasks)
        assert rig.store.status(job).phase == "finished"

    def test_a_failure_cancels_what_comes_after_it(self, rig: Rig) -> None:
        tasks = [FREE, FREE, FREE, after((3, 3)), after((4, 4)), after((1, 1))]
        job = submit(rig.store, tasks).id
        register(rig.store)
        leases = take(rig.store, 3)
        end(rig.store, commit(leases[2], Failed(reason="exit 1")))
        views: dict[int, TaskView] = {view.task: view for view in rig.store.tasks(job)}
        assert states(rig.store, job) == {
            1: "leased",
            2: "leased",
            3: "failed",
            4: "cancelled",
            5: "cancelled",
            6: "blocked",
        }
        assert views[4].reason == "task 3, which it comes after, failed"
        assert views[5].reason == "task 4, which it comes after, was cancelled"
        finish(rig.store, leases[:2])
        finish(rig.store, take(rig.store, 1))
        assert rig.store.status(job).phase == "finished"
        recount(rig.store)

    def test_cancelling_cancels_what_comes_after(self, rig: Rig) -> None:
        job = submit(rig.store, [FREE, FREE, after((1, 1)), after((2, 2)), after((4, 4))]).id
        register(rig.store)
        (lease,) = take(rig.store, 1)
        assert rig.store.cancel(job, [(1, 2)], "no", at(0)) == 2
        assert states(rig.store, job) == {1: "leased", 2: "cancelled", 3: "blocked", 4: "cancelled", 5: "cancelled"}
        end(rig.store, commit(lease, Cancelled()))
        assert states(rig.store, job)[3] == "cancelled"
        assert rig.store.status(job).phase == "finished"
        recount(rig.store)

    def test_retry_blocks_again_what_was_cancelled_because_of_it(self, rig: Rig) -> None:
        job = submit(rig.store, [FREE, after((1, 1)), after((2, 2)), after((1, 1))]).id
        register(rig.store)
        rig.store.cancel(job, [(4, 4)], "by hand", at(0))
        (lease,) = take(rig.store, 1)
        end(rig.store, commit(lease, Failed(reason="x")))
        assert rig.store.status(job).phase == "finished"
        assert rig.store.retry(job, [(1, 1)], at(1)) == 1
        assert states(rig.store, job) == {1: "ready", 2: "blocked", 3: "blocked", 4: "cancelled"}
        for _ in range(3):
            finish(rig.store, take(rig.store, 1))
        assert states(rig.store, job) == {1: "done", 2: "done", 3: "done", 4: "cancelled"}
        assert rig.store.retry(job, [(4, 4)], at(2)) == 1
        assert states(rig.store, job)[4] == "ready"
        recount(rig.store)

    def test_retry_of_a_task_whose_prerequisite_stays_failed(self, rig: Rig) -> None:
        job = submit(rig.store, [FREE, FREE, after((1, 2)), after((3, 3))]).id
        register(rig.store)
        end(rig.store, *(commit(lease, Failed(reason="x")) for lease in take(rig.store, 2)))
        assert rig.store.retry(job, [(3, 4)], at(1)) == 0
        assert rig.store.retry(job, [(1, 1)], at(1)) == 1
        assert states(rig.store, job) == {1: "ready", 2: "failed", 3: "cancelled", 4: "cancelled"}
        assert rig.store.retry(job, [(2, 2)], at(1)) == 1
        assert states(rig.store, job) == {1: "ready", 2: "ready", 3: "blocked", 4: "blocked"}
        recount(rig.store)

    def test_cancelling_and_retrying_a_whole_job(self, rig: Rig) -> None:
        job = submit(rig.store, [FREE, after((1, 1)), FREE]).id
        register(rig.store)
        rig.store.set_phase(job, "cancelled", at(0))
        assert set(states(rig.store, job).values()) == {"cancelled"}
        assert rig.store.retry(job, [(1, 3)], at(1)) == 3
        assert states(rig.store, job) == {1: "ready", 2: "blocked", 3: "ready"}

    def test_a_later_task_may_be_named(self, rig: Rig) -> None:
        job = submit(rig.store, [after((2, 3)), FREE, after((4, 4)), FREE]).id
        register(rig.store)
        order = []
        while leases := take(rig.store, 1):
            order += ids(leases)
            finish(rig.store, leases)
        assert order == [2, 4, 3, 1]
        assert rig.store.status(job).phase == "finished"

    @pytest.mark.parametrize(
        ("tasks", "message"),
        [
            ([FREE, after((1, 3))], "task 2 comes after tasks 1-3, so it would wait for itself"),
            ([FREE, after((1, 1), (7, 9))], "task 2 comes after task 9, but the job has only 2 tasks"),
            ([after((2, 2)), after((1, 1))], "task 1, which comes after task 2, which comes after task 1"),
            ([after((2, 2)), after((3, 4)), FREE, after((1, 1))], "wait for each other"),
            ([FREE, after((0, 1))], "expected ids of this job"),
            ([FREE, FREE, after((2, 1))], "expected ids of this job"),
        ],
    )
    def test_impossible_dependencies_are_refused(self, rig: Rig, tasks: list[TaskSpec], message: str) -> None:
        with pytest.raises(UsageError, match=message):
            submit(rig.store, tasks)
        assert rig.store.jobs() == ()
