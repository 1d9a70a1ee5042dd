"""The store's rules as plainly as they can be said: dictionaries and loops, no I/O, no counters. A store must agree with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from ergates.cluster.task_state import TERMINAL, TaskState, may_become

LEASE_S = 30
OPEN = (TaskState.BLOCKED, TaskState.READY, TaskState.DELAYED)
BAD = (TaskState.FAILED, TaskState.CANCELLED)
Key = tuple[str, int]
NewTask = tuple[int, int, frozenset[int]]
"""(priority, memory, what it comes after)."""
Word = Literal["done", "failed", "ready", "delayed", "cancelled", "untried", "lost"]


@dataclass
class ModelTask:
    """`cause` is the task whose end cancelled it, 0 when the user did."""

    priority: int
    memory: int
    after: frozenset[int]
    state: TaskState
    attempts: int = 0
    failures: int = 0
    due_s: int = 0
    holder: str = ""
    fence: int = 0
    revoked: bool = False
    cause: int = 0

    def become(self, state: TaskState) -> None:
        assert may_become(self.state, state), f"{self.state} -> {state}"
        self.state = state


@dataclass
class ModelJob:
    tasks: dict[int, ModelTask]
    max_failed: int | None
    phase: str = "active"
    attempts: int = 0
    open: bool = False

    def unfinished(self) -> int:
        return sum(task.state not in TERMINAL for task in self.tasks.values())

    def finished(self) -> bool:
        return not self.open and not self.unfinished()

    def leases(self) -> bool:
        failed = sum(task.state == TaskState.FAILED for task in self.tasks.values())
        return self.phase == "active" and (self.max_failed is None or failed < self.max_failed)

    def done(self, number: int) -> bool:
        return self.tasks[number].state == TaskState.DONE


@dataclass
class ModelWorker:
    host: str
    beat_s: int
    standing: str = "live"


@dataclass
class ModelAnswer:
    stale: bool = False
    refused: list[tuple[str, int, int]] = field(default_factory=list)
    leased: list[Key] = field(default_factory=list)
    offers: list[tuple[str, int, int, int]] = field(default_factory=list)
    """(job, memory, priority, waiting)"""
    revoked: list[tuple[str, int, int]] = field(default_factory=list)
    next_s: int | None = None
    open_tasks: int = 0


class StoreModel:
    """What a store must do. Fences are the real store's, learned from its answers."""

    def __init__(self) -> None:
        self.now_s = 0
        self.jobs: dict[str, ModelJob] = {}
        self.again: set[tuple[str, int]] = set()
        """Tasks that were done and run again."""
        self.workers: dict[str, ModelWorker] = {}

    # --- what the user does -----------------------------------------------------------------------

    def submit(self, job: str, tasks: Sequence[NewTask], max_failed: int | None, is_open: bool) -> None:
        self.jobs[job] = ModelJob({}, max_failed, open=is_open)
        self._add(self.jobs[job], tasks)

    def extend(self, name: str, tasks: Sequence[NewTask]) -> int | None:
        """How many tasks it has then; None when it takes no more."""
        job = self.jobs[name]
        if not job.open:
            return None
        self._add(job, tasks)
        return len(job.tasks)

    def close(self, name: str) -> None:
        self.jobs[name].open = False

    def _add(self, job: ModelJob, tasks: Sequence[NewTask]) -> None:
        for number, (priority, memory, after) in enumerate(tasks, len(job.tasks) + 1):
            job.tasks[number] = ModelTask(priority, memory, after, TaskState.BLOCKED)
        self._free_dependents(job)
        self._cancel_dependents(job)

    def edit(self, name: str, numbers: Sequence[int], priority: int, rerun: bool) -> list[int]:
        """Another priority; those that were changed."""
        job = self.jobs[name]
        changed = [n for n in sorted(set(numbers)) if n in job.tasks and job.tasks[n].state in (*OPEN, *BAD)]
        if rerun:
            ended = {n for n in numbers if n in job.tasks and job.tasks[n].state in TERMINAL}
            back = self._revivable(job, ended)
            changed = sorted({n for n in changed if n not in ended} | (ended & back))
            undone = {n for n in back if job.done(n)}
            self.again |= {(name, n) for n in undone}
            self._run_again(job, back)
            for task in job.tasks.values():
                if task.state in (TaskState.READY, TaskState.DELAYED) and task.after & undone:
                    task.become(TaskState.BLOCKED)
        for number in changed:
            job.tasks[number].priority = priority
        return changed

    def cancel(self, name: str, first: int, last: int) -> int:
        job = self.jobs[name]
        count = 0
        chosen = [number for number in job.tasks if first <= number <= last]
        for number in chosen:
            task = job.tasks[number]
            if task.state in OPEN:
                task.become(TaskState.CANCELLED)
                task.cause = 0
                count += 1
            elif task.state == TaskState.LEASED and not task.revoked:
                task.revoked = True
                count += 1
        self._cancel_dependents(job)
        return count

    def set_phase(self, name: str, phase: str) -> None:
        job = self.jobs[name]
        if job.finished() or job.phase == "cancelled":
            return
        job.phase = phase
        if phase == "cancelled":
            job.open = False
            self.cancel(name, 1, len(job.tasks))

    def retry(self, name: str, first: int, last: int) -> int:
        job = self.jobs[name]
        asked = {number for number, task in job.tasks.items() if first <= number <= last and task.state in BAD}
        chosen = self._revivable(job, asked)
        self._run_again(job, chosen)
        return len(chosen & asked)

    def _revivable(self, job: ModelJob, asked: set[int]) -> set[int]:
        chosen = set(asked)
        grew = True
        while grew:
            more = {
                number
                for number, task in job.tasks.items()
                if task.state == TaskState.CANCELLED and task.cause and task.after & chosen and number not in chosen
            }
            chosen |= more
            grew = bool(more)
        while held := {
            n for n in chosen if any(job.tasks[a].state in BAD and a not in chosen for a in job.tasks[n].after)
        }:
            chosen -= held
        return chosen

    def _run_again(self, job: ModelJob, chosen: set[int]) -> None:
        for number in chosen:
            task = job.tasks[number]
            free = all(job.done(other) and other not in chosen for other in task.after)
            task.become(TaskState.READY if free else TaskState.BLOCKED)
            task.failures = task.cause = 0
        if chosen and job.phase == "cancelled":
            job.phase = "active"

    # --- what workers do --------------------------------------------------------------------------

    def register(self, worker: str, host: str) -> None:
        if worker in self.workers:
            self._give_back(worker)
        self.workers[worker] = ModelWorker(host, self.now_s)

    def leave(self, worker: str) -> None:
        self._give_back(worker)
        self.workers[worker].standing = "left"

    def expired(self) -> list[Key]:
        found = []
        for key, task in self._leased():
            holder = self.workers[task.holder]
            if holder.standing == "live" and holder.beat_s + LEASE_S < self.now_s:
                holder.standing = "condemned"
            if holder.standing in ("condemned", "reaped"):
                found.append(key)
        return found

    def exchange(
        self,
        worker: str,
        commits: Sequence[tuple[str, int, int, Word, int]],
        wants: Sequence[tuple[str, int, int, int]],
        asked: Sequence[str],
    ) -> ModelAnswer:
        """Commits are (job, task, fence, what becomes of it, seconds or memory); wants (job, memory, priority, count)."""
        answer = ModelAnswer()
        member = self.workers.get(worker)
        if member is None or member.standing not in ("live", "condemned"):
            answer.stale = True
            answer.refused = [commit[:3] for commit in commits]
            return answer
        member.beat_s, member.standing = self.now_s, "live"
        for job, number, fence, word, value in commits:
            task = self.jobs[job].tasks.get(number) if job in self.jobs else None
            if task is None or not self._may_commit(worker, task, fence):
                answer.refused.append((job, number, fence))
            else:
                self._commit(self.jobs[job], number, task, word, value)
        self._wake()
        for want in wants:
            self._lease(worker, want, answer)
        self._describe(worker, asked, answer)
        return answer

    def _may_commit(self, worker: str, task: ModelTask, fence: int) -> bool:
        if task.state != TaskState.LEASED or task.fence != fence:
            return False
        holder = self.workers[task.holder]
        if task.holder != worker:
            if holder.standing not in ("condemned", "reaped"):
                return False
            holder.standing = "reaped"
        return True

    def _commit(self, job: ModelJob, number: int, task: ModelTask, word: Word, value: int) -> None:
        if word != "untried":
            task.attempts += 1
            job.attempts += 1
        goes_back = word in ("ready", "delayed", "untried", "lost")
        if goes_back and task.revoked:
            word = "cancelled"
        elif goes_back:
            task.failures += word != "untried"
        self._release(task)
        if word == "delayed" and value > self.now_s:
            task.due_s = value
            task.become(TaskState.DELAYED)
        elif word in ("done", "failed", "cancelled"):
            task.become(TaskState(word))
            task.cause = 0
            self._free_dependents(job)
            self._cancel_dependents(job)
        else:
            if word == "ready":
                task.memory = value
            task.become(TaskState.READY)

    def _release(self, task: ModelTask) -> None:
        task.holder, task.revoked = "", False

    def _give_back(self, worker: str) -> None:
        for (name, _), task in self._leased():
            if task.holder == worker:
                cancelled = task.revoked
                self._release(task)
                task.become(TaskState.CANCELLED if cancelled else TaskState.READY)
                task.cause = 0
                self._cancel_dependents(self.jobs[name])

    def _wake(self) -> None:
        for job in self.jobs.values():
            for task in job.tasks.values():
                if task.state == TaskState.DELAYED and task.due_s <= self.now_s:
                    task.become(TaskState.READY)

    def _lease(self, worker: str, want: tuple[str, int, int, int], answer: ModelAnswer) -> None:
        name, memory, priority, count = want
        if not self.jobs[name].leases():
            return
        for number, task in self.jobs[name].tasks.items():
            if count and task.state == TaskState.READY and (task.memory, task.priority) == (memory, priority):
                task.become(TaskState.LEASED)
                task.holder = worker
                answer.leased.append((name, number))
                count -= 1

    def _describe(self, worker: str, asked: Sequence[str], answer: ModelAnswer) -> None:
        shown = {name: job for name, job in self.jobs.items() if not asked or name in asked}
        answer.open_tasks = sum(job.unfinished() for job in shown.values())
        answer.revoked = [(*key, task.fence) for key, task in self._leased() if task.holder == worker and task.revoked]
        leasing = {name: job for name, job in shown.items() if job.leases()}
        due = [t.due_s for job in leasing.values() for t in job.tasks.values() if t.state == TaskState.DELAYED]
        answer.next_s = min(due, default=None)
        answer.offers = self.offers(leasing)

    def offers(self, jobs: dict[str, ModelJob]) -> list[tuple[str, int, int, int]]:
        waiting: dict[tuple[int, str, int], int] = {}
        for name, job in jobs.items():
            for task in job.tasks.values():
                if task.state == TaskState.READY:
                    key = (-task.priority, name, task.memory)
                    waiting[key] = waiting.get(key, 0) + 1
        return [(name, memory, -minus, count) for (minus, name, memory), count in sorted(waiting.items())]

    # --- dependencies -----------------------------------------------------------------------------

    def _free_dependents(self, job: ModelJob) -> None:
        for task in job.tasks.values():
            if task.state == TaskState.BLOCKED and all(map(job.done, task.after)):
                task.become(TaskState.READY)

    def _cancel_dependents(self, job: ModelJob) -> None:
        changed = True
        while changed:
            changed = False
            for task in job.tasks.values():
                causes = [number for number in sorted(task.after) if job.tasks[number].state in BAD]
                if task.state == TaskState.BLOCKED and causes:
                    task.become(TaskState.CANCELLED)
                    task.cause = causes[0]
                    changed = True

    def _leased(self) -> list[tuple[Key, ModelTask]]:
        return [
            ((name, number), task)
            for name, job in self.jobs.items()
            for number, task in job.tasks.items()
            if task.state == TaskState.LEASED
        ]
