"""What a store that forgets finished jobs must do. A driver's test file subclasses `RetentionContract`; see store_contract.py."""

from __future__ import annotations

from typing import Protocol, cast

import pytest
from store_rig import (
    Rig,
    Store,
    at,
    back,
    commit,
    end,
    finish,
    lines,
    look,
    recount,
    register,
    requirement,
    submit,
    take,
)

from ergates.cluster.job import JobSpec
from ergates.cluster.task import JobId, TaskId, TaskSpec
from ergates.errors import UnknownJobError, UsageError
from ergates.taskqueue.retention import Forgetting, Retention
from ergates.taskqueue.store import Changes, Failed


class ForgettingStore(Store, Retention, Protocol):
    """A store that forgets."""


def forgetting(rig: Rig) -> ForgettingStore:
    return cast(ForgettingStore, rig.store)


def tangled_job(store: Store) -> JobId:
    """A finished job that used all a job can use: lanes, dependencies, setbacks, edits, cancelled ranges, failures."""
    tasks = [
        *lines(3),
        TaskSpec(command="urgent", priority=7, requirement=requirement(cpus_milli=500)),
        TaskSpec(command="after", after=((1, 2),)),
        TaskSpec(command="never", after=((3, 3),)),
        *lines(3),
    ]
    job = submit(store, tasks, key="tangled").id
    store.edit(job, [(TaskId(2), Changes(command="changed", labels={"a": "b"}))], at(0))
    register(store)
    store.cancel(job, [(8, 9)], "not these", at(0))
    first = take(store, 9)
    by_task = {lease.task: lease for lease in first}
    end(store, commit(by_task.pop(TaskId(3)), Failed(reason="broken")), back(by_task.pop(TaskId(1)), delay=5))
    finish(store, by_task.values())
    while leases := take(store, 9, now=10):
        finish(store, leases, now=10)
    status = store.status(job)
    assert status.finished_ns is not None, status.counts
    return job


class RetentionContract:
    """Forgetting finished jobs."""

    def test_a_forgotten_job_is_gone_and_the_others_are_as_they_were(self, rig: Rig) -> None:
        store = forgetting(rig)
        gone = tangled_job(store)
        other = submit(store, 2, key="other").id
        finish(store, take(store, 1))
        before = store.status(other), list(store.tasks(other)), list(store.attempts(other))
        assert store.forget_job(gone, history=True) is Forgetting.FORGOTTEN
        seen = cast(ForgettingStore, rig.open())
        assert [job.id for job in seen.jobs()] == [other]
        assert (seen.status(other), list(seen.tasks(other)), list(seen.attempts(other))) == before
        for read in (seen.status, seen.spec, seen.waiting):
            with pytest.raises(UnknownJobError):
                read(gone)
        with pytest.raises(UnknownJobError):
            list(seen.tasks(gone))
        with pytest.raises(UnknownJobError):
            list(seen.attempts(gone))
        assert seen.forget_job(gone, history=True) is Forgetting.UNKNOWN
        assert seen.with_history() == {other}
        recount(store)

    def test_what_is_not_finished_stays(self, rig: Rig) -> None:
        store = forgetting(rig)
        waiting = submit(store, 1, key="a").id
        opened = store.submit(JobSpec(key="b", open=True), [], at(0)).id
        for job in (waiting, opened):
            assert store.forget_job(job, history=True) is Forgetting.UNFINISHED
        assert store.forget_job(JobId("j99"), history=True) is Forgetting.UNKNOWN
        assert store.forget_job(JobId("no job"), history=True) is Forgetting.UNKNOWN
        assert {job.id for job in store.jobs()} == {waiting, opened}

    def test_a_cancelled_job_stays_until_its_last_lease_has_ended(self, rig: Rig) -> None:
        store = forgetting(rig)
        register(store)
        job = submit(store, 2).id
        (lease,) = take(store, 1)
        store.set_phase(job, "cancelled", at(1))
        assert store.forget_job(job, history=True) is Forgetting.UNFINISHED
        finish(store, [lease])
        assert store.forget_job(job, history=True) is Forgetting.FORGOTTEN

    def test_attempts_that_are_nowhere_else_keep_their_job(self, rig: Rig) -> None:
        store = forgetting(rig)
        register(store)
        tried, untried = submit(store, 1, key="tried").id, submit(store, 1, key="untried", now=1).id
        finish(store, take(store, 1))
        store.set_phase(untried, "cancelled", at(1))
        assert store.with_history() == {tried}
        assert store.forget_job(tried) is Forgetting.HISTORY
        assert len(list(store.attempts(tried))) == 1
        assert store.forget_job(untried) is Forgetting.FORGOTTEN
        assert store.forget_job(tried, history=True) is Forgetting.FORGOTTEN
        assert store.with_history() == frozenset()

    def test_a_key_that_is_forgotten_is_free_again(self, rig: Rig) -> None:
        store = forgetting(rig)
        register(store)
        old = submit(store, 1, key="same").id
        finish(store, take(store, 1))
        going_on = submit(store, 2, key="same").id
        assert store.forget_job(old, history=True) is Forgetting.FORGOTTEN
        found = store.submit(JobSpec(key="same"), lines(5), at(2))
        assert (found.id, found.resumed) == (going_on, True)
        finish(store, take(store, 2))
        assert store.forget_job(going_on, history=True) is Forgetting.FORGOTTEN
        new = store.submit(JobSpec(key="same"), lines(3), at(3))
        assert (new.resumed, new.total) == (False, 3)
        assert new.id not in (old, going_on)
        recount(store)

    def test_who_still_means_a_forgotten_job_is_told_so(self, rig: Rig) -> None:
        store = forgetting(rig)
        register(store)
        job = submit(store, 2).id
        leases = take(store, 2)
        finish(store, leases)
        store.forget_job(job, history=True)
        answer = finish(store, leases[:1])
        assert answer.refused == ((job, leases[0].task, leases[0].fence),)
        assert look(store, jobs=[job]).open_tasks == 0
        for change in (
            lambda: store.cancel(job, [(1, 2)], "", at(5)),
            lambda: store.retry(job, [(1, 2)], at(5)),
            lambda: store.set_phase(job, "cancelled", at(5)),
            lambda: store.extend(job, lines(1), at(5)),
            lambda: store.close_job(job, at(5)),
            lambda: store.edit(job, [(TaskId(1), Changes(priority=1))], at(5), rerun=True),
        ):
            with pytest.raises(UsageError):
                change()
        assert store.jobs() == ()
        recount(store)
