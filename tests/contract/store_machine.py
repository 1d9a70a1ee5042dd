"""Several workers, a user and a reaper do what they like, crash and come back; a store must agree with store_model.py.

After every step: the same state of every task, the same answer to every call, counters equal to a recount.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any, ClassVar, Protocol

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from store_model import ModelAnswer, StoreModel, Word
from store_rig import Store, at, attempt, info, recount, requirement

from ergates.cluster.attempt import Outcome
from ergates.cluster.job import JobSpec
from ergates.cluster.task import JobId, TaskSpec
from ergates.cluster.task_state import TaskState
from ergates.errors import UsageError
from ergates.taskqueue.store import (
    Cancelled,
    Commit,
    Done,
    Exchanged,
    Failed,
    Lease,
    PastFailures,
    Returned,
    Verdict,
    Want,
)
from ergates.units import Nanoseconds

WORKERS = ("w1", "w2", "w3")
HOSTS = {"w1": "alpha", "w2": "alpha", "w3": "beta"}
MEMORIES = (0, 10, 20)
WORDS: tuple[Word, ...] = ("done", "done", "failed", "ready", "delayed", "cancelled", "untried")


class OpenedStore(Store, Protocol):
    def close(self) -> None: ...


class StoreMachine(RuleBasedStateMachine):
    """A driver's test file sets `open_store` to a function from an empty directory to a handle on the store in it."""

    open_store: ClassVar[Any]

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="ergates-machine-"))
        self.store: OpenedStore = type(self).open_store(self.folder)
        self.model = StoreModel()
        self.known: list[Lease] = []
        self.fences: set[int] = set()
        self.classes: dict[int, int] = {}
        for worker in WORKERS:
            self.register(worker)

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
            shutil.rmtree(self.folder)

    @property
    def now(self) -> Nanoseconds:
        return at(self.model.now_s)

    # --- the user ---------------------------------------------------------------------------------

    @rule(data=st.data(), max_failed=st.none() | st.integers(1, 3))
    @precondition(lambda self: len(self.model.jobs) < 3)
    def submit(self, data: st.DataObject, max_failed: int | None) -> None:
        count = data.draw(st.integers(0, 8))
        tasks = []
        for number in range(1, count + 1):
            ids = st.integers(1, number - 1) if number > 1 else st.nothing()
            after = data.draw(st.frozensets(ids, max_size=2) if number > 1 else st.just(frozenset()))
            tasks.append((data.draw(st.integers(0, 2)), data.draw(st.sampled_from(MEMORIES)), after))
        name = f"j{len(self.model.jobs) + 1}"
        specs = [
            TaskSpec(
                command=f"c{number}",
                priority=priority,
                requirement=requirement(memory),
                after=tuple((other, other) for other in sorted(after)),
            )
            for number, (priority, memory, after) in enumerate(tasks, 1)
        ]
        spec = JobSpec(key=name, max_failed_tasks=max_failed)
        assert self.store.submit(spec, specs, self.now).id == name
        self.model.submit(name, tasks, max_failed)

    @rule(data=st.data())
    @precondition(lambda self: self.model.jobs)
    def submit_again(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.model.jobs)))
        job = self.model.jobs[name]
        made = self.store.submit(JobSpec(key=name), [], self.now)
        assert made.id == name and made.total == len(job.tasks)
        assert made.resumed == (job.unfinished() > 0 and job.phase != "cancelled")
        assert made.done == sum(task.state == TaskState.DONE for task in job.tasks.values())

    @rule(data=st.data(), what=st.sampled_from(["cancel", "retry", "retry"]))
    @precondition(lambda self: self.model.jobs)
    def edit(self, data: st.DataObject, what: str) -> None:
        name = data.draw(st.sampled_from(sorted(self.model.jobs)))
        first = data.draw(st.integers(1, 8))
        last = data.draw(st.integers(first, 9))
        if what == "cancel":
            count = self.store.cancel(JobId(name), [(first, last)], "by hand", self.now)
            assert count == self.model.cancel(name, first, last)
        else:
            count = self.store.retry(JobId(name), [(first, last)], self.now)
            assert count == self.model.retry(name, first, last)

    @rule(data=st.data(), phase=st.sampled_from(["paused", "active", "active", "cancelled"]))
    @precondition(lambda self: self.model.jobs)
    def set_phase(self, data: st.DataObject, phase: str) -> None:
        name = data.draw(st.sampled_from(sorted(self.model.jobs)))
        try:
            self.store.set_phase(JobId(name), phase, self.now)
        except UsageError:
            assert self.model.jobs[name].phase == "cancelled"
        self.model.set_phase(name, phase)

    # --- workers ----------------------------------------------------------------------------------

    @rule(worker=st.sampled_from(WORKERS))
    def register_again(self, worker: str) -> None:
        self.register(worker)

    def register(self, worker: str) -> None:
        self.store.register(info(worker, HOSTS[worker]), self.now)
        self.model.register(worker, HOSTS[worker])

    @rule(worker=st.sampled_from(WORKERS), really=st.integers(0, 2))
    def leave(self, worker: str, really: int) -> None:
        if really:
            return
        self.model.leave(worker)
        self.store.leave(worker, self.now)

    @rule(data=st.data(), worker=st.sampled_from(WORKERS), greed=st.integers(0, 4))
    def work(self, data: st.DataObject, worker: str, greed: int) -> None:
        """Commit some of what is held (or what is long over, or somebody else's), then ask for more."""
        known = self.known if data.draw(st.integers(0, 3)) == 0 else self._held(worker)
        chosen = data.draw(st.lists(st.sampled_from(known), max_size=3)) if known else []
        commits: list[tuple[Lease, Word, int]] = []
        for lease in chosen:
            word = data.draw(st.sampled_from(WORDS))
            value = (
                data.draw(st.sampled_from(MEMORIES))
                if word == "ready"
                else self.model.now_s + data.draw(st.sampled_from([5, 25, 0]))
            )
            commits.append((lease, word, value))
        asked = data.draw(st.sampled_from([(), ("j1",), ("j1", "j2")]))
        self._exchange(worker, commits, greed, data.draw(st.booleans()), asked)

    @rule(worker=st.sampled_from(WORKERS))
    def work_well(self, worker: str) -> None:
        """Do everything one holds, take the most urgent; come back when one was taken for dead."""
        if self.model.workers[worker].standing in ("reaped", "left"):
            self.register(worker)
        self._exchange(worker, [(lease, "done", 0) for lease in self._held(worker)], 3, False, ())

    def _held(self, worker: str) -> list[Lease]:
        tasks = [(lease, self._task(lease)) for lease in self.known]
        return [lease for lease, task in tasks if task.holder == worker and task.fence == lease.fence]

    @rule(worker=st.sampled_from(WORKERS), seconds=st.integers(0, 40), upto=st.integers(0, 5))
    def reap(self, worker: str, seconds: int, upto: int) -> None:
        """Time passes, and `worker` commits some leases of the dead as lost."""
        self.model.now_s += seconds
        found = self.store.expired(self.now)
        assert sorted((lease.job, lease.task) for lease in found) == sorted(self.model.expired())
        for lease in found:
            task = self._task(lease)
            assert (lease.fence, lease.attempt) == (task.fence, task.attempts + 1)
        self._exchange(worker, [(lease, "lost", 0) for lease in found[:upto]], 0, False, ())

    @rule(seconds=st.integers(1, 10))
    def wait(self, seconds: int) -> None:
        self.model.now_s += seconds

    @rule()
    def crash(self) -> None:
        """The process dies between two calls; another one opens the store."""
        self.store.close()
        self.store = type(self).open_store(self.folder)

    # --- the comparison ---------------------------------------------------------------------------

    def _exchange(
        self, worker: str, commits: list[tuple[Lease, Word, int]], greed: int, late: bool, asked: tuple[str, ...]
    ) -> None:
        jobs = [JobId(name) for name in asked if name in self.model.jobs]
        wants = self._wants(greed, late)
        class_of = {memory: number for number, memory in self.classes.items()}
        answer = self.store.exchange(
            worker,
            [self._commit(*commit) for commit in commits],
            [Want(job=JobId(j), class_id=class_of.get(m, 0), priority=p, count=c) for j, m, p, c in wants],
            self.now,
            jobs,
        )
        self._learn_classes(answer)
        plain = [(lease.job, lease.task, lease.fence, word, value) for lease, word, value in commits]
        wants = [want for want in wants if want[1] in class_of]
        self._compare(answer, self.model.exchange(worker, plain, wants, jobs))

    def _wants(self, greed: int, late: bool) -> list[tuple[str, int, int, int]]:
        """As a worker makes them: from what it last saw, the most urgent first (or, `late`, the least)."""
        leasing = {name: job for name, job in self.model.jobs.items() if job.leases()}
        wants = []
        offers = self.model.offers(leasing)
        for job, memory, priority, waiting in reversed(offers) if late else offers:
            if greed:
                count = min(greed, waiting)
                greed -= count
                wants.append((job, memory, priority, count))
        return wants

    def _commit(self, lease: Lease, word: Word, value: int) -> Commit:
        verdict: Verdict
        past = PastFailures(losses=lease.past.losses + (word != "untried"))
        match word:
            case "done":
                verdict, outcome = Done(), Outcome.SUCCEEDED
            case "failed":
                verdict, outcome = Failed(reason="it failed"), Outcome.FAILED
            case "cancelled":
                verdict, outcome = Cancelled(), Outcome.CANCELLED
            case "delayed":
                verdict, outcome = Returned(past=past, not_before_ns=at(value)), Outcome.TIMED_OUT
            case "ready":
                # A host where no worker is: it splits lanes, which nobody may notice.
                verdict, outcome = (
                    Returned(past=past, requirement=requirement(value), avoid_host="gone"),
                    Outcome.EVICTED,
                )
            case _:
                verdict, outcome = Returned(past=past), Outcome.LOST
        made = None if word == "untried" else attempt(lease, outcome)
        return Commit(job=lease.job, task=lease.task, fence=lease.fence, attempt=made, verdict=verdict)

    def _learn_classes(self, answer: Exchanged) -> None:
        for offer in answer.offers:
            assert (
                self.classes.setdefault(offer.class_id, offer.requirement.memory_bytes)
                == offer.requirement.memory_bytes
            )
        assert len(set(self.classes.values())) == len(self.classes)

    def _compare(self, answer: Exchanged, expected: ModelAnswer) -> None:
        assert answer.stale == expected.stale
        assert list(answer.refused) == expected.refused
        assert [(lease.job, lease.task) for lease in answer.leases] == expected.leased
        for lease in answer.leases:
            task = self._task(lease)
            assert lease.fence not in self.fences
            self.fences.add(lease.fence)
            task.fence = lease.fence
            self.known.append(lease)
            assert (lease.attempt, lease.past.losses) == (task.attempts + 1, task.failures)
            assert (lease.spec.priority, lease.spec.requirement.memory_bytes) == (task.priority, task.memory)
        assert list(answer.revoked) == expected.revoked
        offers = [(o.job, o.requirement.memory_bytes, o.priority, o.waiting) for o in answer.offers]
        assert sorted(offers) == sorted(expected.offers)
        assert [(-row[2], row[0]) for row in offers] == sorted((-row[2], row[0]) for row in offers), "not by priority"
        assert answer.next_ready_ns == (None if expected.next_s is None else at(expected.next_s))
        assert answer.open_tasks == expected.open_tasks

    def _task(self, lease: Lease) -> Any:
        return self.model.jobs[lease.job].tasks[lease.task]

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "store"):
            return
        for name, job in self.model.jobs.items():
            views = {int(view.task): view for view in self.store.tasks(JobId(name))}
            assert {number: view.state for number, view in views.items()} == {
                number: task.state for number, task in job.tasks.items()
            }
            for number, task in job.tasks.items():
                view = views[number]
                assert (view.attempts, view.worker) == (task.attempts, task.holder)
                assert view.blocked_by == (
                    sum(not job.done(other) for other in task.after) if task.state == TaskState.BLOCKED else 0
                )
            status = self.store.status(JobId(name))
            expected = "finished" if not job.unfinished() and job.phase != "cancelled" else job.phase
            assert status.phase == expected
            assert sum(status.outcomes.values()) == job.attempts
        recount(self.store)
