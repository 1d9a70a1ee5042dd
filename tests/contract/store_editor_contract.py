"""What every store must do with open jobs and with edits of tasks that nobody runs. See store_contract.py."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from store_rig import (
    Rig,
    at,
    back,
    commit,
    end,
    finish,
    ids,
    lines,
    look,
    recount,
    register,
    requirement,
    states,
    submit,
    take,
)

from ergates.cluster.attempt import Outcome
from ergates.cluster.job import JobSpec
from ergates.cluster.task import JobId, TaskId, TaskSpec
from ergates.errors import JobGrewError, UnknownJobError, UsageError
from ergates.taskqueue.store import Changes, Failed, PastFailures
from ergates.units import Bytes, Nanoseconds


def after(*ranges: tuple[int, int]) -> TaskSpec:
    return TaskSpec(command="c", after=ranges)


FREE = TaskSpec(command="c")


def open_job(rig: Rig, tasks: int | list[TaskSpec] = 0) -> JobId:
    chosen = lines(tasks) if isinstance(tasks, int) else tasks
    return rig.store.submit(JobSpec(key="open", open=True), chosen, at(0)).id


def changes(*tasks: int, **fields: object) -> list[tuple[TaskId, Changes]]:
    return [(TaskId(task), Changes(**fields)) for task in tasks]  # type: ignore[arg-type]


class EditorContract:
    """Extending and closing open jobs, editing what waits, running again what ended."""

    # --- open jobs --------------------------------------------------------------------------------

    def test_an_open_job_is_not_finished_until_it_is_closed(self, rig: Rig) -> None:
        job = open_job(rig, 1)
        register(rig.store)
        finish(rig.store, take(rig.store, 1))
        status = rig.open().status(job)
        assert (status.phase, status.finished_ns, status.takes_more) == ("active", None, True)
        rig.store.close_job(job, at(9))
        status = rig.open().status(job)
        assert (status.phase, status.finished_ns, status.takes_more) == ("finished", at(9), False)
        assert not rig.store.spec(job).open
        rig.store.close_job(job, at(20))
        assert rig.store.status(job).finished_ns == at(9)

    def test_an_open_job_may_begin_empty_and_grow(self, rig: Rig) -> None:
        job = open_job(rig)
        assert rig.store.status(job).finished_ns is None
        assert rig.store.extend(job, lines(3), at(1)) == 3
        assert rig.open().extend(job, [TaskSpec(command="urgent", priority=5)], at(2)) == 4
        register(rig.store)
        assert [offer.waiting for offer in look(rig.store).offers] == [1, 3]
        assert ids(take(rig.store, 4)) == [4, 1, 2, 3]
        recount(rig.store)

    def test_a_job_that_was_closed_with_work_left_is_finished_with_its_last_task(self, rig: Rig) -> None:
        job = open_job(rig, 2)
        register(rig.store)
        rig.store.close_job(job, at(1))
        assert rig.store.status(job).phase == "active"
        finish(rig.store, take(rig.store, 2), now=3)
        assert rig.store.status(job).finished_ns == at(3)

    def test_only_an_open_job_takes_more(self, rig: Rig) -> None:
        closed, cancelled = submit(rig.store, 1).id, open_job(rig, 1)
        rig.store.set_phase(cancelled, "cancelled", at(1))
        assert not rig.store.status(cancelled).takes_more
        for job in (closed, cancelled):
            with pytest.raises(UsageError, match="takes no more tasks"):
                rig.store.extend(job, lines(1), at(1))
        for ask in (lambda job: rig.store.extend(job, [], at(1)), lambda job: rig.store.close_job(job, at(1))):
            with pytest.raises(UnknownJobError):
                ask(JobId("j9"))
        recount(rig.store)

    def test_cancelling_a_settled_open_job_ends_it(self, rig: Rig) -> None:
        job = open_job(rig)
        rig.store.set_phase(job, "cancelled", at(4))
        status = rig.store.status(job)
        assert (status.phase, status.finished_ns) == ("cancelled", at(4))

    def test_an_extension_that_breaks_leaves_nothing(self, rig: Rig) -> None:
        def broken() -> Iterator[TaskSpec]:
            yield from lines(25_000)
            raise ValueError("bad line")

        job = open_job(rig, 2)
        with pytest.raises(ValueError, match="bad line"):
            rig.store.extend(job, broken(), at(1))
        assert states(rig.store, job) == {1: "ready", 2: "ready"}
        assert rig.store.extend(job, lines(1), at(1)) == 3
        recount(rig.store)

    def test_submitting_an_open_job_again_finds_it(self, rig: Rig) -> None:
        job = open_job(rig, 1)
        register(rig.store)
        finish(rig.store, take(rig.store, 1))
        made = rig.store.submit(JobSpec(key="open", open=True), lines(1), at(1))
        assert (made.id, made.resumed, made.total) == (job, True, 1)

    def test_new_tasks_come_after_old_ones(self, rig: Rig) -> None:
        job = open_job(rig, [FREE, FREE, FREE, after((3, 3))])
        register(rig.store)
        one, two, three = take(rig.store, 3)
        finish(rig.store, [one])
        end(rig.store, commit(three, Failed("exit code 1")))
        more = [after((1, 1)), after((1, 2)), after((3, 3)), after((7, 7)), after((4, 4)), after((6, 6), (5, 5)), FREE]
        assert rig.store.extend(job, more, at(1)) == 11
        assert states(rig.store, job) == {
            1: "done", 2: "leased", 3: "failed", 4: "cancelled", 5: "ready", 6: "blocked", 7: "cancelled",
            8: "cancelled", 9: "cancelled", 10: "blocked", 11: "ready",
        }  # fmt: skip
        views = {view.task: view for view in rig.store.tasks(job)}
        assert views[TaskId(7)].reason == "task 3, which it comes after, failed"
        assert views[TaskId(8)].reason == "task 7, which it comes after, was cancelled"
        assert views[TaskId(6)].blocked_by == 1
        finish(rig.store, [two])
        assert states(rig.store, job)[6] == "ready"
        finish(rig.store, take(rig.store, 3))
        assert ids(take(rig.store, 3)) == [10]
        recount(rig.store)

    def test_new_tasks_that_wait_for_what_cannot_be_are_refused(self, rig: Rig) -> None:
        job = open_job(rig, 2)
        for bad, message in (
            ([after((4, 4))], "only 3 tasks"),
            ([after((3, 3))], "wait for itself"),
            ([after((4, 4)), after((3, 3))], "wait for each other"),
        ):
            with pytest.raises(UsageError, match=message):
                rig.store.extend(job, bad, at(1))
        assert rig.store.status(job).total == 2
        recount(rig.store)

    def test_tasks_that_know_their_numbers_are_refused_when_others_came_first(self, rig: Rig) -> None:
        job = open_job(rig, 2)
        new = [FREE, after((3, 3))]
        with pytest.raises(JobGrewError):
            rig.store.extend(job, new, at(1), first=TaskId(2))
        assert rig.store.status(job).total == 2
        assert rig.store.extend(job, new, at(1), first=TaskId(3)) == 4
        recount(rig.store)

    # --- edits ------------------------------------------------------------------------------------

    def test_everything_that_can_be_changed(self, rig: Rig) -> None:
        job = submit(rig.store, lines(3)).id
        wanted = {
            "priority": 9, "requirement": requirement(100, 500), "time_limit_ns": Nanoseconds(7), "retries": 2,
            "command": ("a", "caf\udce9"), "labels": {"x": "1"},
        }  # fmt: skip
        assert rig.store.edit(job, changes(2, **wanted), at(1)) == (2,)
        one, two, _ = rig.open().tasks(job)
        assert one.spec == lines(3)[0]
        assert two.spec == TaskSpec(**wanted)  # type: ignore[arg-type]
        assert rig.store.edit(job, changes(2, time_limit_ns=Nanoseconds(0), labels={}), at(1)) == (2,)
        spec = list(rig.open().tasks(job))[1].spec
        assert (spec.time_limit_ns, spec.labels, spec.retries, spec.priority) == (None, {}, 2, 9)
        register(rig.store)
        assert [(o.priority, o.waiting, o.requirement.memory_bytes) for o in look(rig.store).offers] == [
            (9, 1, 100),
            (0, 2, 0),
        ]
        (lease,) = take(rig.store, 1)
        assert (lease.task, lease.spec) == (2, spec)
        recount(rig.store)

    def test_edits_follow_edits(self, rig: Rig) -> None:
        job = submit(rig.store, 3).id
        assert rig.store.edit(job, changes(2, command="new"), at(1)) == (2,)
        assert rig.store.edit(job, changes(2, 3, priority=5), at(2)) == (2, 3)
        assert rig.store.edit(job, changes(1, 2, labels={"a": "b"}), at(3)) == (1, 2)
        assert rig.store.edit(job, changes(3), at(4)) == (3,)
        specs = [view.spec for view in rig.open().tasks(job)]
        assert [(spec.command, spec.priority, spec.labels) for spec in specs] == [
            ("echo 1", 0, {"a": "b"}),
            ("new", 5, {"a": "b"}),
            ("echo 3", 5, {}),
        ]
        register(rig.store)
        assert ids(take(rig.store, 3)) == [2, 3, 1]
        recount(rig.store)

    def test_what_nobody_asked_to_change_stays(self, rig: Rig) -> None:
        spec = TaskSpec(
            command="c", kind="container", image="i", mounts=("/a:/b",), env={"A": "1"}, cwd="/tmp", payload=b"\0",
            input_bytes=Bytes(3), labels={"l": "1"}, retries=1, after=((2, 2),),
        )  # fmt: skip
        job = submit(rig.store, [spec, FREE]).id
        assert rig.store.edit(job, changes(1, priority=3, retries=5), at(1)) == (1,)
        changed = next(iter(rig.store.tasks(job))).spec
        assert (changed.priority, changed.retries) == (3, 5)
        assert TaskSpec(**{**_fields(changed), "priority": 0, "retries": 1}) == spec  # type: ignore[arg-type]
        assert states(rig.store, job) == {1: "blocked", 2: "ready"}

    def test_what_runs_or_is_done_is_left_alone(self, rig: Rig) -> None:
        job = submit(rig.store, lines(6)).id
        register(rig.store)
        one, two, three, four = take(rig.store, 4)
        end(rig.store, commit(one), commit(two, Failed("exit code 1")), back(three, delay=60))
        rig.store.cancel(job, [(5, 5)], "no", at(0))
        asked = changes(1, 2, 3, 4, 5, 6, 7, 0, priority=4)
        assert rig.store.edit(job, asked, at(1)) == (2, 3, 5, 6)
        assert [view.spec.priority for view in rig.store.tasks(job)] == [0, 4, 4, 0, 4, 4]
        assert states(rig.store, job) == {1: "done", 2: "failed", 3: "delayed", 4: "leased", 5: "cancelled", 6: "ready"}
        assert list(rig.store.tasks(job))[2].past.memory == 1
        finish(rig.store, [four])
        assert [(o.priority, o.waiting) for o in look(rig.store, now=70).offers] == [(4, 2)]
        recount(rig.store)

    def test_the_last_change_of_a_task_counts_and_no_job_is_an_error(self, rig: Rig) -> None:
        job = submit(rig.store, 1).id
        assert rig.store.edit(job, [*changes(1, priority=1), *changes(1, retries=2)], at(1)) == (1,)
        spec = next(iter(rig.store.tasks(job))).spec
        assert (spec.priority, spec.retries) == (0, 2)
        assert rig.store.edit(job, [], at(1)) == ()
        with pytest.raises(UnknownJobError):
            rig.store.edit(JobId("j7"), changes(1, priority=1), at(1))

    def test_the_last_edit_of_many_different_tasks(self, rig: Rig) -> None:
        job = submit(rig.store, 300).id
        asked = [(TaskId(n), Changes(command=f"new {n}", priority=n % 7, labels={"n": str(n)})) for n in range(1, 301)]
        assert len(rig.store.edit(job, asked, at(1))) == 300
        found = {view.task: view.spec for view in rig.open().tasks(job)}
        assert all(found[n].command == c.command and found[n].priority == c.priority for n, c in asked)
        assert all(found[n].labels == c.labels for n, c in asked)
        recount(rig.store)

    # --- again ------------------------------------------------------------------------------------

    def test_finished_tasks_run_again_and_the_ledger_keeps_both(self, rig: Rig) -> None:
        job = submit(rig.store, 3).id
        register(rig.store)
        one, two, three = take(rig.store, 3)
        end(rig.store, back(two))
        (two,) = take(rig.store, 1)
        end(rig.store, commit(one), commit(two, Failed("exit code 1")), commit(three))
        assert rig.store.status(job).phase == "finished"
        assert rig.store.edit(job, changes(1, 2, command="better"), at(5), rerun=True) == (1, 2)
        assert states(rig.store, job) == {1: "ready", 2: "ready", 3: "done"}
        assert rig.store.status(job).finished_ns is None
        assert all(view.past == PastFailures() and not view.reason for view in rig.store.tasks(job))
        leases = take(rig.store, 3)
        assert [(lease.task, lease.attempt, lease.spec.command) for lease in leases] == [
            (1, 2, "better"),
            (2, 3, "better"),
        ]
        finish(rig.store, leases)
        assert rig.store.status(job).phase == "finished"
        tried = [(int(task), made.number, made.outcome) for _, task, made in rig.store.attempts(job)]
        assert tried.count((1, 1, Outcome.SUCCEEDED)) == tried.count((1, 2, Outcome.SUCCEEDED)) == 1
        recount(rig.store, [(job, 1)])

    def test_what_waits_for_a_task_that_runs_again_is_blocked_again(self, rig: Rig) -> None:
        job = submit(rig.store, [FREE, FREE, after((1, 1)), after((1, 2)), after((1, 1)), after((3, 3))]).id
        register(rig.store)
        finish(rig.store, take(rig.store, 2))
        three, four, _ = take(rig.store, 3)
        end(rig.store, commit(three), back(four, delay=60))
        (five,) = [view for view in rig.store.tasks(job) if view.task == 5]
        assert five.state == "leased"
        assert rig.store.edit(job, changes(1), at(1), rerun=True) == (1,)
        assert states(rig.store, job) == {1: "ready", 2: "done", 3: "done", 4: "blocked", 5: "leased", 6: "ready"}
        assert look(rig.store, now=90).next_ready_ns is None
        recount(rig.store)
        finish(rig.store, [lease for lease in take(rig.store, 1, now=90) if lease.task == 1], now=90)
        assert states(rig.store, job)[4] == "ready"
        recount(rig.store, [(job, 1)])

    def test_a_chain_runs_again_in_its_order(self, rig: Rig) -> None:
        job = submit(rig.store, [FREE, after((1, 1)), after((2, 2)), after((1, 1))]).id
        register(rig.store)
        while leases := take(rig.store, 4):
            finish(rig.store, leases)
        assert rig.store.edit(job, changes(1, 2, 3), at(1), rerun=True) == (1, 2, 3)
        assert states(rig.store, job) == {1: "ready", 2: "blocked", 3: "blocked", 4: "done"}
        for number in (1, 2, 3):
            leases = take(rig.store, 4)
            assert ids(leases) == [number]
            finish(rig.store, leases)
        assert rig.store.status(job).phase == "finished"
        recount(rig.store, [(job, number) for number in (1, 2, 3)])

    def test_what_was_cancelled_for_a_failed_task_comes_back_with_it(self, rig: Rig) -> None:
        job = submit(rig.store, [FREE, after((1, 1)), FREE, after((3, 3))]).id
        register(rig.store)
        end(rig.store, *(commit(lease, Failed("exit code 1")) for lease in take(rig.store, 2)))
        assert rig.store.edit(job, changes(1, 4, retries=1), at(1), rerun=True) == (1,)
        assert states(rig.store, job) == {1: "ready", 2: "blocked", 3: "failed", 4: "cancelled"}
        recount(rig.store)

    def test_a_done_task_behind_a_failed_one_cannot_run_again(self, rig: Rig) -> None:
        job = submit(rig.store, [FREE, after((1, 1))]).id
        register(rig.store)
        finish(rig.store, take(rig.store, 1))
        finish(rig.store, take(rig.store, 1))
        rig.store.edit(job, changes(1), at(1), rerun=True)
        end(rig.store, *(commit(lease, Failed("exit code 1")) for lease in take(rig.store, 1)))
        assert rig.store.edit(job, changes(2), at(2), rerun=True) == ()
        assert rig.store.edit(job, changes(1, 2), at(2), rerun=True) == (1, 2)
        assert states(rig.store, job) == {1: "ready", 2: "blocked"}
        recount(rig.store)

    def test_a_cancelled_job_goes_on_when_tasks_run_again(self, rig: Rig) -> None:
        job = submit(rig.store, 2).id
        rig.store.set_phase(job, "cancelled", at(1))
        assert rig.store.edit(job, changes(2), at(2), rerun=True) == (2,)
        register(rig.store)
        assert ids(take(rig.store, 2)) == [2]
        assert rig.store.status(job).phase == "active"


def _fields(spec: TaskSpec) -> dict[str, object]:
    return {name: getattr(spec, name) for name in spec.__struct_fields__}
