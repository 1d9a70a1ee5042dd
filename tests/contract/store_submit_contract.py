"""What every store must do with submissions, listings and edits by the user. See store_contract.py."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from msgspec.structs import replace
from store_rig import (
    Rig,
    at,
    attempt,
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

from ergates.cluster.job import JobSpec, RetryLimits
from ergates.cluster.task import Alternative, JobId, Requirement, Stdin, TaskId, TaskSpec
from ergates.cluster.task_state import TaskState
from ergates.errors import UnknownJobError, UsageError
from ergates.taskqueue.store import Cancelled, Done, Failed, PastPeak, Returned
from ergates.units import Bytes, MilliCpus, Nanoseconds

EVERYTHING = [
    TaskSpec(command="echo 'a: ü' # \t\0 nul"),
    TaskSpec(command=("printf", "%s", "ü", "")),
    TaskSpec(command="caf\udce9 not text"),
    TaskSpec(command=("caf\udce9", "x")),
    TaskSpec(command="x" * 2_000_000),
    TaskSpec(
        command="full",
        kind="container",
        priority=-3,
        requirement=requirement(12345, 50),
        time_limit_ns=Nanoseconds(5),
        retries=0,
        env={"A": "1", "B": ""},
        cwd="/tmp",
        labels={"seed": "1"},
        after=((1, 2), (4, 4)),
        stdin=Stdin(data=b"\x00\xff"),
        image="img:1",
        mounts=("/a:/b:ro",),
        payload=b"\x80\x00",
        input_bytes=Bytes(9),
    ),
    TaskSpec(command="file in", stdin=Stdin(path="in.txt"), input_bytes=Bytes(0)),
    TaskSpec(
        command=("simulate", "--all"),
        requirement=Requirement(
            cpus_milli=MilliCpus(2000),
            resources=(("gpus", 1), ("licences", 2)),
            alternatives=(Alternative(cpus_milli=MilliCpus(500), resources=(("gpus", 2),)), Alternative()),
            labels=(("arch", "x86"), ("zone", "ü")),
            paths=("/data/traces", "/opt/ü"),
            min_time_ns=Nanoseconds(1_800_000_000_000),
        ),
        inputs=("traces/1.gz", "s3://bucket/two words"),
        outputs=("out/*.csv",),
    ),
    TaskSpec(
        command="client {x}",
        requirement=Requirement(nodes=3, roles=(("server", 1), ("client", 2))),
        role_commands=(("server", "serve --port 1"), ("client", ("client", ""))),
    ),
    TaskSpec(
        command="client",
        requirement=Requirement(
            nodes=3,
            roles=(("server", 1), ("client", 2)),
            role_labels=(("server", (("group", "big"), ("zone", "ü"))), ("client", (("group", "a,b:c"),))),
        ),
    ),
]


class SubmitContract:
    """Submitting, reading back, pausing, cancelling, retrying."""

    def test_a_task_comes_back_as_it_was_submitted(self, rig: Rig) -> None:
        job = submit(rig.store, EVERYTHING).id
        assert [view.spec for view in rig.open().tasks(job)] == EVERYTHING
        register(rig.store)
        leases = {lease.task: lease for lease in take(rig.store, 20)}
        assert [leases[TaskId(number)].spec for number in (1, 2, 3, 4, 5, 7, 8)] == EVERYTHING[:5] + EVERYTHING[6:8]
        finish(rig.store, leases.values())
        assert [lease.spec for lease in take(rig.store, 1)] == [EVERYTHING[5]]

    def test_a_job_comes_back_as_it_was_submitted(self, rig: Rig) -> None:
        spec = JobSpec(
            key="k", name="n", cwd="/x", retry_limits=RetryLimits(failures=3), max_failed_tasks=4, env={"A": "b"},
            data="s3://bucket/folder",
        )  # fmt: skip
        made = rig.store.submit(spec, lines(2), at(0))
        assert rig.open().spec(made.id) == spec
        status = rig.open().status(made.id)
        assert (status.key, status.name, status.total, status.submitted_ns) == ("k", "n", 2, at(0))

    def test_job_ids_are_short_and_in_order(self, rig: Rig) -> None:
        assert [submit(rig.store, 1, key=key).id for key in "abc"] == ["j1", "j2", "j3"]
        assert [status.id for status in rig.store.jobs()] == ["j3", "j2", "j1"]

    def test_many_different_labels(self, rig: Rig) -> None:
        tasks = [TaskSpec(command="c", labels={"n": str(number)}) for number in range(5000)]
        job = submit(rig.store, tasks).id
        assert [view.spec for view in rig.store.tasks(job)] == tasks

    def test_an_unfinished_job_is_resumed_and_no_task_is_read(self, rig: Rig) -> None:
        job = submit(rig.store, 3).id
        register(rig.store)
        finish(rig.store, take(rig.store, 1))

        tasks = iter(lines(1))
        for again in (False, True):
            made = rig.open().submit(JobSpec(key="key"), tasks, at(5), again=again)
            assert (made.id, made.resumed, made.total, made.done) == (job, True, 3, 1)
        assert len(list(tasks)) == 1, "a task was read"

    def test_who_resumes_a_job_says_anew_how_many_failures_are_too_many(self, rig: Rig) -> None:
        job = rig.store.submit(JobSpec(key="key", max_failed_tasks=1), lines(3), at(0)).id
        register(rig.store)
        end(rig.store, *(commit(lease, Failed("exit code 1")) for lease in take(rig.store, 1)))
        assert not take(rig.store, 1)
        rig.store.submit(JobSpec(key="key", max_failed_tasks=5), [], at(1))
        assert rig.store.spec(job).max_failed_tasks == 5
        assert len(take(rig.store, 2)) == 2

    def test_a_finished_job_is_returned_or_runs_again(self, rig: Rig) -> None:
        job = submit(rig.store, 2).id
        register(rig.store)
        finish(rig.store, take(rig.store, 2))
        made = rig.store.submit(JobSpec(key="key"), lines(2), at(5), again=False)
        assert (made.id, made.resumed, made.total, made.done) == (job, False, 2, 2)
        made = rig.store.submit(JobSpec(key="key"), lines(2), at(5), again=True)
        assert (made.id, made.resumed, made.done) == ("j2", False, 0)
        assert len(rig.store.jobs()) == 2

    def test_a_cancelled_job_is_not_resumed(self, rig: Rig) -> None:
        job = submit(rig.store, 2).id
        register(rig.store)
        take(rig.store, 1)
        rig.store.set_phase(job, "cancelled", at(1))
        made = submit(rig.store, 2)
        assert made.id != job and not made.resumed

    def test_a_submission_that_breaks_leaves_nothing(self, rig: Rig) -> None:
        def broken() -> Iterator[TaskSpec]:
            yield from lines(25_000)
            raise ValueError("bad line")

        with pytest.raises(ValueError, match="bad line"):
            submit(rig.store, broken())
        assert rig.store.jobs() == ()
        assert submit(rig.store, 1).total == 1
        recount(rig.store)

    def test_an_empty_job_is_finished(self, rig: Rig) -> None:
        job = submit(rig.store, []).id
        assert rig.store.status(job).phase == "finished"
        assert rig.store.status(job).finished_ns == at(0)

    @pytest.mark.parametrize("name", ["j9", "x", "", "j", "j-1", "j1 ", "j٣", "j99999999999999999999"])
    def test_an_unknown_job(self, rig: Rig, name: str) -> None:
        submit(rig.store, 1)
        job = JobId(name)
        for ask in (rig.store.status, rig.store.spec, rig.store.tasks, rig.store.attempts):
            with pytest.raises(UnknownJobError, match="erg status"):
                ask(job)
        with pytest.raises(UnknownJobError):
            rig.store.cancel(job, [(1, 1)], "", at(0))
        with pytest.raises(UnknownJobError):
            rig.store.retry(job, [(1, 1)], at(0))
        with pytest.raises(UnknownJobError):
            rig.store.set_phase(job, "paused", at(0))

    def test_listing_by_state_ids_and_limit(self, rig: Rig) -> None:
        job = submit(rig.store, 1203).id
        submit(rig.store, 5, key="other")
        register(rig.store)
        finish(rig.store, take(rig.store, 2))
        everything = [view.task for view in rig.store.tasks(job)]
        assert everything == list(range(1, 1204))
        assert [view.task for view in rig.store.tasks(job, states=[TaskState.DONE])] == [1, 2]
        found = rig.store.tasks(job, ids=[(1200, 9999), (2, 3), (3, 3), (0, 0)], limit=4)
        assert [view.task for view in found] == [2, 3, 1200, 1201]
        assert list(rig.store.tasks(job, ids=[(5000, 6000)])) == []
        assert len(list(rig.store.tasks(job, limit=0))) == 0
        assert len(list(rig.store.tasks(job, limit=1000))) == 1000

    def test_a_listing_may_go_on_while_the_store_changes(self, rig: Rig) -> None:
        job = submit(rig.store, 1100).id
        register(rig.store)
        seen = 0
        for view in rig.store.tasks(job):
            if view.task in (1, 600):
                finish(rig.open(), take(rig.store, 1))
            seen += 1
        assert seen == 1100

    # --- pause and cancel -------------------------------------------------------------------------

    def test_a_paused_job_leases_nothing(self, rig: Rig) -> None:
        job = submit(rig.store, 2).id
        register(rig.store)
        offers = look(rig.store).offers
        rig.store.set_phase(job, "paused", at(1))
        assert rig.store.status(job).phase == "paused"
        assert look(rig.store).offers == ()
        assert look(rig.store).open_tasks == 2
        assert take(rig.store, 2) == ()
        rig.store.set_phase(job, "active", at(2))
        assert look(rig.store).offers == offers

    def test_cancelling_a_job(self, rig: Rig) -> None:
        job = submit(rig.store, 3).id
        register(rig.store)
        (lease,) = take(rig.store, 1)
        rig.store.set_phase(job, "cancelled", at(1))
        answer = look(rig.store)
        assert answer.revoked == ((job, 1, lease.fence),)
        assert answer.offers == ()
        assert states(rig.store, job) == {1: "leased", 2: "cancelled", 3: "cancelled"}
        assert rig.store.status(job).finished_ns is None
        end(rig.store, commit(lease, Cancelled()), now=2)
        status = rig.store.status(job)
        assert (status.phase, status.finished_ns) == ("cancelled", at(2))
        assert look(rig.store).revoked == ()
        with pytest.raises(UsageError, match="erg retry"):
            submitted = submit(rig.store, 2, key="second").id
            take(rig.store, 1)
            rig.store.set_phase(submitted, "cancelled", at(3))
            rig.store.set_phase(submitted, "active", at(3))
        recount(rig.store)

    def test_a_phase_that_does_not_exist(self, rig: Rig) -> None:
        job = submit(rig.store, 1).id
        with pytest.raises(UsageError, match="finished"):
            rig.store.set_phase(job, "finished", at(0))

    def test_cancelling_ranges(self, rig: Rig) -> None:
        job = submit(rig.store, 8).id
        register(rig.store)
        finish(rig.store, take(rig.store, 1))
        (lease,) = take(rig.store, 1)
        assert rig.store.cancel(job, [(1, 4), (4, 4), (7, 99)], "not needed", at(1)) == 5
        assert states(rig.store, job) == {
            1: "done", 2: "leased", 3: "cancelled", 4: "cancelled", 5: "ready", 6: "ready", 7: "cancelled", 8: "cancelled",
        }  # fmt: skip
        assert [view.reason for view in rig.store.tasks(job, ids=[(3, 3)])] == ["not needed"]
        assert look(rig.store).revoked == ((job, 2, lease.fence),)
        assert rig.store.cancel(job, [(1, 4)], "again", at(1)) == 0
        assert look(rig.store).offers[0].waiting == 2
        recount(rig.store)

    def test_a_revoked_task_does_not_go_back(self, rig: Rig) -> None:
        job = submit(rig.store, 3).id
        register(rig.store)
        returned, done, failed = take(rig.store, 3)
        rig.store.cancel(job, [(1, 3)], "enough", at(1))
        answer = end(
            rig.store,
            commit(returned, Returned(past=returned.past, not_before_ns=at(90))),
            commit(done, Done()),
            commit(failed, Failed(reason="exit 1")),
        )
        assert answer.refused == ()
        assert states(rig.store, job) == {1: "cancelled", 2: "done", 3: "failed"}
        assert [view.reason for view in rig.store.tasks(job)] == ["enough", "", "exit 1"]
        recount(rig.store)

    # --- retry ------------------------------------------------------------------------------------

    def test_retry_of_failed_and_cancelled_tasks(self, rig: Rig) -> None:
        job = submit(rig.store, 4).id
        register(rig.store)
        leases = take(rig.store, 3)
        end(
            rig.store,
            commit(leases[0], Failed(reason="bad")),
            commit(leases[1]),
            commit(leases[2], Failed(reason="bad")),
        )
        rig.store.cancel(job, [(4, 4)], "no", at(1))
        assert rig.store.status(job).phase == "finished"
        assert rig.store.retry(job, [(1, 2), (4, 4)], at(2)) == 2
        assert states(rig.store, job) == {1: "ready", 2: "done", 3: "failed", 4: "ready"}
        status = rig.store.status(job)
        assert (status.phase, status.finished_ns) == ("active", None)
        again = take(rig.store, 2)
        assert [(lease.task, lease.attempt, lease.past.failures) for lease in again] == [(1, 2, 0), (4, 1, 0)]
        assert {lease.fence for lease in again}.isdisjoint(lease.fence for lease in leases)
        finish(rig.store, again)
        assert rig.store.retry(job, [(1, 2)], at(2)) == 0
        recount(rig.store)

    def test_retry_forgets_what_went_wrong(self, rig: Rig) -> None:
        job = submit(rig.store, 2).id
        register(rig.store)
        end(rig.store, *(back(lease) for lease in take(rig.store, 2)))
        leases = take(rig.store, 2)
        assert [lease.past.memory for lease in leases] == [1, 1]
        end(rig.store, *(commit(lease, Failed(reason="bad")) for lease in leases))
        rig.store.retry(job, [(1, 1)], at(1))
        views = list(rig.store.tasks(job))
        assert [(view.past.memory, view.reason, view.attempts) for view in views] == [(0, "", 2), (1, "bad", 2)]
        assert [(lease.past.memory, lease.attempt) for lease in take(rig.store, 1)] == [(0, 3)]

    def test_a_job_that_was_taken_back_is_resumed_before_a_newer_finished_one(self, rig: Rig) -> None:
        old = submit(rig.store, 1).id
        register(rig.store)
        end(rig.store, *(commit(lease, Failed(reason="bad")) for lease in take(rig.store, 1)))
        assert submit(rig.store, 1).id != old
        finish(rig.store, take(rig.store, 1))
        rig.store.retry(old, [(1, 1)], at(1))
        made = submit(rig.store, 1)
        assert made.id == old and made.resumed

    def test_retry_takes_a_cancelled_job_back(self, rig: Rig) -> None:
        job = submit(rig.store, 2).id
        register(rig.store)
        rig.store.set_phase(job, "cancelled", at(1))
        assert rig.store.retry(job, [(1, 1)], at(1)) == 1
        assert rig.store.status(job).phase == "active"
        assert ids(take(rig.store, 5)) == [1]
        assert [view.reason for view in rig.store.tasks(job, ids=[(2, 2)])] == ["its job was cancelled"]

    def test_what_waits_is_counted_by_class_and_priority(self, rig: Rig) -> None:
        small, large = requirement(), requirement(2**40)
        tasks = [
            TaskSpec(command="c", requirement=large if number % 3 else small, priority=9 * (number < 4))
            for number in range(10)
        ]
        tasks.append(TaskSpec(command="later", after=((1, 1),)))
        job = submit(rig.store, tasks).id
        submit(rig.store, 5, key="other")

        def waiting() -> list[tuple[int, int, int]]:
            offers = rig.open().waiting(job)
            assert {offer.job for offer in offers} == {job}
            assert [offer.priority for offer in offers] == sorted((offer.priority for offer in offers), reverse=True)
            return sorted((-offer.priority, offer.requirement.memory_bytes, offer.waiting) for offer in offers)

        assert waiting() == [(-9, 0, 2), (-9, 2**40, 2), (0, 0, 2), (0, 2**40, 4)]
        register(rig.store)
        take(rig.store, 4)
        rig.store.set_phase(job, "paused", at(1))
        assert waiting() == [(0, 0, 2), (0, 2**40, 4)]
        with pytest.raises(UnknownJobError):
            rig.store.waiting(JobId("j99"))

    # --- the ledger -------------------------------------------------------------------------------

    def test_the_ledger_keeps_every_attempt_as_it_was(self, rig: Rig) -> None:
        job = submit(rig.store, 2).id
        submit(rig.store, 1, key="other")
        register(rig.store)
        one, two, other = take(rig.store, 3)
        made = attempt(one, exit_code=None, signal=9, reason="killed \udcff ü", predicted_bytes=77)
        end(rig.store, commit(two), commit(other))
        end(rig.store, commit(one, exit_code=None, signal=9, reason="killed \udcff ü", predicted_bytes=77))
        rows = list(rig.open().attempts(job))
        assert [task for _, task, _ in rows] == [2, 1]
        kept = rows[1][2]
        assert kept.reason == "killed \\udcff ü"
        assert kept == replace(made, reason=kept.reason)
        assert list(rig.store.attempts(job, since_row=rows[0][0])) == rows[1:]
        assert list(rig.store.attempts(job, ids=[(2, 2)])) == rows[:1]
        assert list(rig.store.attempts(job, since_row=rows[1][0])) == []
        recount(rig.store)

    def test_a_long_ledger_of_one_job_beside_others(self, rig: Rig) -> None:
        first, second = submit(rig.store, 900).id, submit(rig.store, 800, key="b").id
        register(rig.store)
        while leases := take(rig.store, 100):
            finish(rig.store, leases)
        assert len(list(rig.store.attempts(first))) == 900
        assert [task for _, task, _ in rig.store.attempts(second)] == list(range(1, 801))
        assert len(list(rig.store.attempts(second, ids=[(1, 700)]))) == 700

    def test_peaks_are_remembered_up_to_a_bound(self, rig: Rig) -> None:
        def peak(shape: str, number: int) -> PastPeak:
            return PastPeak(shape=shape, peak_bytes=number, input_bytes=-1, wall_ns=1, at_ns=number)

        rig.store.remember_peaks([])
        rig.store.remember_peaks([peak("a", number) for number in range(300)] + [peak("b", 1)])
        rig.store.remember_peaks([peak("a", 300)])
        recalled = rig.open().recall_peaks()
        assert [row.peak_bytes for row in recalled if row.shape == "a"] == list(range(45, 301))
        assert [row for row in recalled if row.shape == "b"] == [peak("b", 1)]
