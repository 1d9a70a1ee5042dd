"""Several workers, a user and a reaper do what they like, crash and come back; a store must agree with store_model.py.

After every step: the same state of every task, the same answer to every call, counters equal to a recount. `StoreMachine` lets
Hypothesis choose the steps (it finds the shortest story that goes wrong); `run_story` chooses them from a seed (longer
stories, in which more happens).
"""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from store_model import ModelAnswer, NewTask, StoreModel, Word
from store_rig import Store, at, attempt, info, recount, requirement

from ergates.cluster.attempt import Outcome
from ergates.cluster.job import JobSpec
from ergates.cluster.task import JobId, TaskId, TaskSpec
from ergates.cluster.task_state import TaskState
from ergates.errors import UsageError
from ergates.taskqueue.store import (
    Cancelled,
    Changes,
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
JOBS_MAX = 4
T = TypeVar("T")


class OpenedStore(Store, Protocol):
    def close(self) -> None: ...


class Pick(Protocol):
    """Where choices come from."""

    def number(self, low: int, high: int) -> int: ...

    def one(self, of: Sequence[T]) -> T: ...


class Story:
    """A store, its model, and everything that can happen to both."""

    def __init__(self, open_store: Callable[[Path], OpenedStore]) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="ergates-story-"))
        self.open_store = open_store
        self.store = open_store(self.folder)
        self.model = StoreModel()
        self.known: list[Lease] = []
        self.fences: set[int] = set()
        self.classes: dict[int, int] = {}
        for worker in WORKERS:
            self.register(worker)

    def close(self) -> None:
        self.store.close()
        shutil.rmtree(self.folder)

    @property
    def now(self) -> Nanoseconds:
        return at(self.model.now_s)

    def step(self, pick: Pick) -> None:
        """One of the things that can happen, the usual ones more often."""
        steps = [self.work] * 5 + [self.work_well] * 3 + [self.reap] * 3 + [self.edit, self.change] * 2
        steps += [
            self.submit,
            self.submit_again,
            self.grow_or_close,
            self.set_phase,
            self.register_again,
            self.leave,
            self.wait,
            self.crash,
        ]
        pick.one(steps)(pick)

    # --- the user ---------------------------------------------------------------------------------

    def submit(self, pick: Pick) -> None:
        if len(self.model.jobs) == JOBS_MAX:
            return
        name = f"j{len(self.model.jobs) + 1}"
        tasks, specs = self._new_tasks(pick, 0)
        max_failed, is_open = pick.one((None, None, 1, 3)), pick.number(0, 2) == 0
        spec = JobSpec(key=name, max_failed_tasks=max_failed, open=is_open)
        made = self.store.submit(spec, specs, self.now)
        assert (made.id, made.total, made.resumed) == (name, len(tasks), False)
        self.model.submit(name, tasks, max_failed, is_open)

    def _new_tasks(self, pick: Pick, before: int) -> tuple[list[NewTask], list[TaskSpec]]:
        """Some tasks, each perhaps after some that are before it, for the model and for the store."""
        tasks = []
        for number in range(before + 1, before + pick.number(0, 8) + 1):
            after = frozenset(pick.number(1, number - 1) for _ in range(pick.number(0, 3)) if number > 1)
            tasks.append((pick.number(0, 2), pick.one(MEMORIES), after))
        specs = [
            TaskSpec(
                command=f"c{number}",
                priority=priority,
                requirement=requirement(memory),
                after=tuple((other, other) for other in sorted(after)),
            )
            for number, (priority, memory, after) in enumerate(tasks, before + 1)
        ]
        return tasks, specs

    def grow_or_close(self, pick: Pick) -> None:
        name = self._job(pick)
        if name is None:
            return
        if pick.number(0, 4) == 0:
            self.store.close_job(JobId(name), self.now)
            self.model.close(name)
            return
        tasks, specs = self._new_tasks(pick, len(self.model.jobs[name].tasks))
        try:
            total = self.store.extend(JobId(name), specs, self.now)
        except UsageError:
            assert not self.model.jobs[name].open
        else:
            assert total == self.model.extend(name, tasks)

    def change(self, pick: Pick) -> None:
        """Another priority for some tasks, which perhaps run again."""
        name = self._job(pick)
        if name is None:
            return
        numbers = [pick.number(1, 9) for _ in range(pick.number(0, 4))]
        priority, rerun = pick.number(0, 2), pick.number(0, 1) == 0
        asked = [(TaskId(number), Changes(priority=priority)) for number in numbers]
        changed = self.store.edit(JobId(name), asked, self.now, rerun=rerun)
        assert list(changed) == self.model.edit(name, numbers, priority, rerun)

    def submit_again(self, pick: Pick) -> None:
        name = self._job(pick)
        if name is None:
            return
        job = self.model.jobs[name]
        max_failed = pick.one((None, 1, 3))
        made = self.store.submit(JobSpec(key=name, max_failed_tasks=max_failed), [], self.now)
        assert made.id == name and made.total == len(job.tasks)
        assert made.resumed == (not job.finished() and job.phase != "cancelled")
        if made.resumed:
            job.max_failed = max_failed
        assert made.done == sum(task.state == TaskState.DONE for task in job.tasks.values())

    def edit(self, pick: Pick) -> None:
        name = self._job(pick)
        if name is None:
            return
        first = pick.number(1, 8)
        last = pick.number(first, 9)
        if pick.number(0, 2) == 0:
            count = self.store.cancel(JobId(name), [(first, last)], "by hand", self.now)
            assert count == self.model.cancel(name, first, last)
        else:
            count = self.store.retry(JobId(name), [(first, last)], self.now)
            assert count == self.model.retry(name, first, last)

    def set_phase(self, pick: Pick) -> None:
        name = self._job(pick)
        if name is None:
            return
        phase = pick.one(("paused", "active", "active", "active", "cancelled"))
        try:
            self.store.set_phase(JobId(name), phase, self.now)
        except UsageError:
            assert self.model.jobs[name].phase == "cancelled"
        self.model.set_phase(name, phase)

    def _job(self, pick: Pick) -> str | None:
        return pick.one(sorted(self.model.jobs)) if self.model.jobs else None

    # --- workers ----------------------------------------------------------------------------------

    def register_again(self, pick: Pick) -> None:
        self.register(pick.one(WORKERS))

    def register(self, worker: str) -> None:
        self.store.register(info(worker, HOSTS[worker]), self.now)
        self.model.register(worker, HOSTS[worker])

    def leave(self, pick: Pick) -> None:
        worker = pick.one(WORKERS)
        self.model.leave(worker)
        self.store.leave(worker, self.now)

    def work(self, pick: Pick) -> None:
        """Commit some of what is held (or what is long over, or somebody else's), then ask for more."""
        worker = pick.one(WORKERS)
        known = self.known if pick.number(0, 3) == 0 else self._held(worker)
        commits: list[tuple[Lease, Word, int]] = []
        for _ in range(pick.number(0, 3) if known else 0):
            word = pick.one(WORDS)
            value = pick.one(MEMORIES) if word == "ready" else self.model.now_s + pick.one((5, 25, 0))
            commits.append((pick.one(known), word, value))
        asked: tuple[str, ...] = pick.one(((), ("j1",), ("j1", "j2")))
        self._exchange(worker, commits, pick.number(0, 4), pick.number(0, 3) == 0, asked)

    def work_well(self, pick: Pick) -> None:
        """Do everything one holds, take the most urgent; come back when one was taken for dead."""
        worker = pick.one(WORKERS)
        if self.model.workers[worker].standing in ("reaped", "left"):
            self.register(worker)
        held: list[tuple[Lease, Word, int]] = [(lease, "done", 0) for lease in self._held(worker)]
        self._exchange(worker, held, 3, False, ())

    def reap(self, pick: Pick) -> None:
        """Time passes, and a worker commits some leases of the dead as lost."""
        self.model.now_s += pick.number(0, 40)
        found = self.store.expired(self.now)
        assert sorted((lease.job, lease.task) for lease in found) == sorted(self.model.expired())
        for lease in found:
            task = self._task(lease)
            assert (lease.fence, lease.attempt) == (task.fence, task.attempts + 1)
        lost: list[tuple[Lease, Word, int]] = [(lease, "lost", 0) for lease in found[: pick.number(0, 5)]]
        self._exchange(pick.one(WORKERS), lost, 0, False, ())

    def wait(self, pick: Pick) -> None:
        self.model.now_s += pick.number(1, 10)

    def crash(self, pick: Pick) -> None:
        """The process dies between two calls; another one opens the store."""
        self.store.close()
        self.store = self.open_store(self.folder)

    def _held(self, worker: str) -> list[Lease]:
        tasks = [(lease, self._task(lease)) for lease in self.known]
        return [lease for lease, task in tasks if task.holder == worker and task.fence == lease.fence]

    # --- the comparison ---------------------------------------------------------------------------

    def _exchange(
        self, worker: str, commits: list[tuple[Lease, Word, int]], greed: int, late: bool, asked: tuple[str, ...]
    ) -> None:
        jobs = [JobId(name) for name in asked if name in self.model.jobs]
        class_of = {memory: number for number, memory in self.classes.items()}
        wants = [want for want in self._wants(greed, late) if want[1] in class_of]
        answer = self.store.exchange(
            worker,
            [self._commit(*commit) for commit in commits],
            [Want(job=JobId(j), class_id=class_of[m], priority=p, count=c) for j, m, p, c in wants],
            self.now,
            jobs,
        )
        for offer in answer.offers:
            memory = offer.requirement.memory_bytes
            assert self.classes.setdefault(offer.class_id, memory) == memory
        assert len(set(self.classes.values())) == len(self.classes), "equal requirements in two classes"
        plain = [(lease.job, lease.task, lease.fence, word, value) for lease, word, value in commits]
        self._compare(answer, self.model.exchange(worker, plain, wants, jobs))

    def _wants(self, greed: int, late: bool) -> list[tuple[str, int, int, int]]:
        """As a worker makes them: from what it last saw, the most urgent first (or, `late`, the least)."""
        offers = self.model.offers({name: job for name, job in self.model.jobs.items() if job.leases()})
        wants = []
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

    def check(self) -> None:
        for name, job in self.model.jobs.items():
            views = {int(view.task): view for view in self.store.tasks(JobId(name))}
            assert {number: view.state for number, view in views.items()} == {
                number: task.state for number, task in job.tasks.items()
            }
            for number, task in job.tasks.items():
                view = views[number]
                assert (view.attempts, view.worker) == (task.attempts, task.holder)
                missing = sum(not job.done(other) for other in task.after)
                assert view.blocked_by == (missing if task.state == TaskState.BLOCKED else 0)
            status = self.store.status(JobId(name))
            ended = job.finished() and job.phase != "cancelled"
            assert status.takes_more == job.open
            assert status.phase == ("finished" if ended else job.phase)
            assert sum(status.outcomes.values()) == job.attempts
        recount(self.store, {(JobId(name), number) for name, number in self.model.again})


# --- who chooses ------------------------------------------------------------------------------------


class _DrawnPick:
    """Hypothesis chooses."""

    def __init__(self, data: st.DataObject) -> None:
        self._data = data

    def number(self, low: int, high: int) -> int:
        return self._data.draw(st.integers(low, high))

    def one(self, of: Sequence[T]) -> T:
        return of[self.number(0, len(of) - 1)]


class _SeededPick:
    """A seed chooses."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(f"{seed}/story")

    def number(self, low: int, high: int) -> int:
        return self._random.randint(low, high)

    def one(self, of: Sequence[T]) -> T:
        return self._random.choice(of)


class StoreMachine(RuleBasedStateMachine):
    """A driver's test file sets `open_store` to a function from an empty directory to a handle on the store in it."""

    open_store: ClassVar[Any]

    @initialize()
    def begin(self) -> None:
        self.story = Story(type(self).open_store)

    @rule(data=st.data())
    def step(self, data: st.DataObject) -> None:
        self.story.step(_DrawnPick(data))

    @invariant()
    def agrees(self) -> None:
        if hasattr(self, "story"):
            self.story.check()

    def teardown(self) -> None:
        if hasattr(self, "story"):
            self.story.close()


def run_story(open_store: Callable[[Path], OpenedStore], seed: int, steps: int) -> None:
    """A story from a seed; the seed is in the message when it goes wrong."""
    story = Story(open_store)
    pick = _SeededPick(seed)
    taken = 0
    try:
        while taken < steps:
            story.step(pick)
            story.check()
            taken += 1
    except AssertionError as error:
        error.add_note(f"seed {seed}, step {taken}")
        raise
    finally:
        story.close()
