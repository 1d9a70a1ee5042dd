"""One job of the store in memory: its tasks, the one place where they change state, and the counters that follow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from ergates.cluster.attempt import Attempt, Outcome
from ergates.cluster.job import JobPhase, JobSpec, JobStatus
from ergates.cluster.task import JobId, Requirement, TaskId, TaskSpec
from ergates.cluster.task_state import TERMINAL, TaskState, may_become
from ergates.errors import UsageError
from ergates.taskqueue.dependency_order import find_circle
from ergates.taskqueue.store import Changes, PastFailures, Returned, TaskView, edited
from ergates.units import Nanoseconds

Ranges = Sequence[tuple[int, int]]


@dataclass(slots=True)
class StoredLease:
    """Who holds a task, under which fence, as which attempt; `revoked` when the user cancelled it meanwhile."""

    fence: int
    worker: str
    number: int = 0
    revoked: bool = False
    reason: str = ""


@dataclass(slots=True)
class StoredTask:
    """A task and everything that became of it. `caused`: cancelled only because of another task."""

    job: JobId
    id: TaskId
    spec: TaskSpec
    class_id: int
    state: TaskState
    past: PastFailures = field(default_factory=PastFailures)
    attempts: int = 0
    not_before_ns: int = 0
    reason: str = ""
    avoid_host: str = ""
    ready_since_ns: int = 0
    lease: StoredLease | None = None
    copy: StoredLease | None = None
    """Another worker's lease of it, beside the first."""
    caused: bool = False


class StoredJob:
    """Tasks 1..n of one submission.

    Raises:
        UsageError: tasks that come after themselves, after unknown tasks, or wait for each other in a circle.
    """

    def __init__(
        self,
        job_id: JobId,
        spec: JobSpec,
        tasks: Sequence[TaskSpec],
        now_ns: int,
        class_id: Callable[[Requirement], int],
    ) -> None:
        self.id, self.spec, self._class_id = job_id, spec, class_id
        self.phase = "active"
        self.submitted_ns = now_ns
        self.finished_ns: int | None = None
        self.counts: Counter[TaskState] = Counter()
        self.lanes: dict[tuple[int, int], dict[int, StoredTask]] = {}
        """Ready tasks by (class, priority)."""
        self._delayed: dict[int, StoredTask] = {}
        self._sums: dict[Outcome, list[int]] = {}
        self._costs: list[int] = []
        self._waiters: dict[int, list[StoredTask]] = {}
        self.tasks: list[StoredTask] = []
        self.add(tasks, now_ns)
        self._note_end(now_ns)

    # --- asked ------------------------------------------------------------------------------------

    @property
    def open_tasks(self) -> int:
        return len(self.tasks) - sum(self.counts[state] for state in TERMINAL)

    @property
    def leases_out(self) -> bool:
        """Whether its tasks may be leased: active, unfinished, and not stopped by too many failures."""
        most = self.spec.max_failed_tasks
        stopped = most is not None and self.counts[TaskState.FAILED] >= most
        return self.phase == "active" and self.finished_ns is None and not stopped

    def aged(self, now_ns: int) -> int:
        """Steps of priority its tasks have gained by waiting."""
        return max(0, now_ns - self.submitted_ns) // self.spec.aging_ns if self.spec.aging_ns else 0

    def next_ready_ns(self) -> int | None:
        return min((task.not_before_ns for task in self._delayed.values()), default=None)

    def blocked_by(self, task: StoredTask) -> int:
        """How many tasks it comes after are not done."""
        before = {number for first, last in task.spec.after for number in range(first, last + 1)}
        return sum(1 for number in before if self.tasks[number - 1].state is not TaskState.DONE)

    def numbers(self, ranges: Ranges) -> Iterator[int]:
        """Task ids within inclusive ranges, ascending, each once."""
        inside = {n for first, last in ranges for n in range(max(1, first), min(len(self.tasks), last) + 1)}
        return iter(sorted(inside))

    # --- changed ----------------------------------------------------------------------------------

    def add(self, specs: Sequence[TaskSpec], now_ns: int) -> None:
        """More tasks, all or none."""
        _check_dependencies(specs, len(self.tasks))
        new = [
            StoredTask(self.id, TaskId(number), spec, self._class_id(spec.requirement), TaskState.BLOCKED)
            for number, spec in enumerate(specs, len(self.tasks) + 1)
        ]
        self.tasks += new
        self.counts[TaskState.BLOCKED] += len(new)
        for task in new:
            task.ready_since_ns = now_ns
            for first, last in task.spec.after:
                for number in range(first, last + 1):
                    self._waiters.setdefault(number, []).append(task)
            if not self.blocked_by(task):
                self._move(task, TaskState.READY)
        for state in (TaskState.FAILED, TaskState.CANCELLED):
            for task in [task for task in self.tasks if task.state is state]:
                self._cancel_waiters(task)

    def close(self, now_ns: int) -> None:
        """No more tasks will come."""
        self.spec = msgspec.structs.replace(self.spec, open=False)
        self._note_end(now_ns)

    def wake(self, at_ns: int) -> None:
        """Delayed tasks whose time has come are ready."""
        for task in [task for task in self._delayed.values() if task.not_before_ns <= at_ns]:
            task.not_before_ns = 0
            task.ready_since_ns = at_ns
            self._move(task, TaskState.READY)

    def lease(self, task: StoredTask, lease: StoredLease) -> None:
        task.lease = lease
        self._move(task, TaskState.LEASED)

    def put_back(self, task: StoredTask, lease: StoredLease) -> None:
        """A lease that was forgotten stands again, whatever the task waits for."""
        task.not_before_ns = 0
        if task.state is not TaskState.READY:
            self._move(task, TaskState.READY)
        self.lease(task, lease)

    def finish(self, task: StoredTask, now_ns: int) -> None:
        """Done; those that waited only for it are ready."""
        task.reason = ""
        self._move(task, TaskState.DONE)
        for waiter in self._waiters.get(task.id, ()):
            if waiter.state is TaskState.BLOCKED and self.blocked_by(waiter) == 0:
                waiter.ready_since_ns = now_ns
                self._move(waiter, TaskState.READY)
        self._note_end(now_ns)

    def end_badly(self, task: StoredTask, state: TaskState, reason: str, now_ns: int) -> None:
        """Failed or cancelled; what comes after it is cancelled, and what comes after that."""
        task.reason, task.caused, task.not_before_ns = reason, False, 0
        self._move(task, state)
        self._cancel_waiters(task)
        self._note_end(now_ns)

    def take_back(self, task: StoredTask, verdict: Returned, reason: str, at_ns: int) -> None:
        task.past, task.avoid_host, task.reason = verdict.past, verdict.avoid_host, reason
        if verdict.requirement is not None:
            task.class_id = self._class_id(verdict.requirement)
        task.ready_since_ns = at_ns
        if verdict.not_before_ns > at_ns:
            task.not_before_ns = verdict.not_before_ns
            self._move(task, TaskState.DELAYED)
        else:
            self._move(task, TaskState.READY)

    def cancel(self, ranges: Ranges, reason: str, now_ns: int, *, cascade: bool = True) -> int:
        """Cancel what waits, revoke what is leased; returns how many, without those that only follow."""
        count = 0
        for number in self.numbers(ranges):
            task = self.tasks[number - 1]
            if task.lease is not None and not task.lease.revoked:
                task.lease.revoked, task.lease.reason = True, reason
                if task.copy is not None:
                    task.copy.revoked, task.copy.reason = True, reason
                count += 1
            elif task.state in (TaskState.BLOCKED, TaskState.READY, TaskState.DELAYED):
                count += 1
                task.reason, task.caused, task.not_before_ns = reason, False, 0
                self._move(task, TaskState.CANCELLED)
        if cascade:
            for number in self.numbers(ranges):
                if self.tasks[number - 1].state is TaskState.CANCELLED:
                    self._cancel_waiters(self.tasks[number - 1])
        self._note_end(now_ns)
        return count

    def retry(self, ranges: Ranges) -> int:
        """Failed and cancelled tasks wait again, with those that were cancelled only because of them."""
        ended = (TaskState.FAILED, TaskState.CANCELLED)
        asked = {number for number in self.numbers(ranges) if self.tasks[number - 1].state in ended}
        back = self._revivable(asked)
        self._run_again(back)
        return len(back & asked)

    def edit(self, changes: Mapping[int, Changes], rerun: bool) -> list[TaskId]:
        """Change tasks that nobody runs; with `rerun` what ended runs again."""
        done = TaskState.DONE
        chosen = {n for n in changes if 1 <= n <= len(self.tasks) and self.tasks[n - 1].lease is None}
        ended = {n for n in chosen if self.tasks[n - 1].state in TERMINAL}
        back: set[int] = set()
        if rerun:
            back = self._revivable(ended)
            chosen = (chosen - ended) | (back & chosen)
        else:
            chosen = {n for n in chosen if self.tasks[n - 1].state is not done}
        for number in sorted(chosen):
            self._change(self.tasks[number - 1], changes[number])
        again = [self.tasks[n - 1] for n in sorted(back) if self.tasks[n - 1].state is done]
        self._run_again(back)
        for waiter in [waiter for task in again for waiter in self._waiters.get(task.id, ())]:
            if waiter.state in (TaskState.READY, TaskState.DELAYED):
                waiter.not_before_ns = 0
                self._move(waiter, TaskState.BLOCKED)
        return [TaskId(number) for number in sorted(chosen)]

    def add_to_sums(self, attempt: Attempt) -> None:
        row = self._sums.setdefault(attempt.outcome, [0, 0, 0, 0])
        usage = attempt.usage
        for place, amount in enumerate((1, usage.wall_ns, usage.cpu_ns)):
            row[place] += amount
        row[3] = max(row[3], usage.peak_bytes)
        if usage.cost_usd_micros is not None:
            self._costs.append(usage.cost_usd_micros)

    # --- shown ------------------------------------------------------------------------------------

    def status(self) -> JobStatus:
        wasted = [row for outcome, row in self._sums.items() if outcome is not Outcome.SUCCEEDED]
        phase: JobPhase = "active" if self.phase == "active" else "paused"
        if self.phase == "cancelled":
            phase = "cancelled"
        elif self.finished_ns is not None:
            phase = "finished"
        return JobStatus(
            id=self.id,
            key=self.spec.key,
            name=self.spec.name,
            phase=phase,
            submitted_ns=Nanoseconds(self.submitted_ns),
            finished_ns=None if self.finished_ns is None else Nanoseconds(self.finished_ns),
            total=len(self.tasks),
            counts={state.value: self.counts[state] for state in TaskState},
            outcomes={outcome.value: row[0] for outcome, row in self._sums.items()},
            wall_ns=sum(row[1] for row in self._sums.values()),
            cpu_ns=sum(row[2] for row in self._sums.values()),
            wasted_cpu_ns=sum(row[2] for row in wasted),
            wasted_wall_ns=sum(row[1] for row in wasted),
            peak_bytes=max((row[3] for row in self._sums.values()), default=0),
            cost_usd_micros=sum(self._costs) if self._costs else None,
            takes_more=self.spec.open,
        )

    def view(self, task: StoredTask, ahead_ns: int) -> TaskView:
        return TaskView(
            job=self.id,
            task=task.id,
            state=task.state,
            spec=task.spec,
            past=task.past,
            attempts=task.attempts,
            not_before_ns=Nanoseconds(task.not_before_ns - ahead_ns if task.not_before_ns else 0),
            reason=task.reason,
            worker="" if task.lease is None else task.lease.worker,
            blocked_by=self.blocked_by(task) if task.state is TaskState.BLOCKED else 0,
        )

    def check_invariants(self) -> None:
        """Raises AssertionError when a counter or a list differs from a recount of the tasks."""
        recount = Counter(task.state for task in self.tasks)
        for state in TaskState:
            assert self.counts[state] == recount[state], (
                f"{self.counts[state]} counted as {state}, {recount[state]} are"
            )
        ready = [task.id for lane in self.lanes.values() for task in lane.values()]
        really = [task.id for task in self.tasks if task.state is TaskState.READY]
        assert sorted(ready) == really, f"{ready} are offered, {really} are ready"
        really = [task.id for task in self.tasks if task.state is TaskState.DELAYED]
        assert sorted(self._delayed) == really, f"{sorted(self._delayed)} are to be woken, {really} are delayed"
        for task in self.tasks:
            assert (task.lease is not None) == (task.state is TaskState.LEASED), f"{task.id}: {task.state} and lease"
            if task.state is TaskState.BLOCKED:
                assert self.blocked_by(task) > 0, f"{task.id} is blocked by nothing"
        assert (self.finished_ns is not None) == (self.open_tasks == 0 and not self.spec.open), (
            "finished, but not all its tasks, or open (or the reverse)"
        )

    # --- inside -----------------------------------------------------------------------------------

    def _change(self, task: StoredTask, changes: Changes) -> None:
        ready = task.state is TaskState.READY
        if ready:
            del self._lane(task)[task.id]
        task.spec = edited(task.spec, changes)
        if changes.requirement is not None:
            task.class_id = self._class_id(changes.requirement)
        if ready:
            self._lane(task)[task.id] = task

    def _revivable(self, asked: set[int]) -> set[int]:
        """Which of these ended tasks can run again, with those that were cancelled only because of them."""
        back = set(asked)
        frontier = list(back)
        while frontier:
            following = {task.id for number in frontier for task in self._waiters.get(number, ()) if task.caused}
            frontier = sorted(following - back)
            back |= following
        while lost := {number for number in back if self._held_back(number, back)}:
            back -= lost
        return back

    def _run_again(self, back: set[int]) -> None:
        waiting = {number for number in back if self._comes_after(number, back)}
        for number in sorted(back):
            task = self.tasks[number - 1]
            task.past, task.reason, task.caused, task.not_before_ns = PastFailures(), "", False, 0
            self._move(task, TaskState.BLOCKED if number in waiting or self.blocked_by(task) else TaskState.READY)
        if back:
            self.finished_ns = None
            self.phase = "active" if self.phase == "cancelled" else self.phase

    def _comes_after(self, number: int, others: set[int]) -> bool:
        return any(
            before in others for first, last in self.tasks[number - 1].spec.after for before in range(first, last + 1)
        )

    def _move(self, task: StoredTask, state: TaskState) -> None:
        """The only place where a task's state changes."""
        assert may_become(task.state, state), f"{task.id}: {task.state} cannot become {state}"
        self.counts[task.state] -= 1
        self.counts[state] += 1
        if task.state is TaskState.READY:
            del self._lane(task)[task.id]
        elif task.state is TaskState.DELAYED:
            del self._delayed[task.id]
        task.state = state
        if state is TaskState.READY:
            self._lane(task)[task.id] = task
        elif state is TaskState.DELAYED:
            self._delayed[task.id] = task

    def _lane(self, task: StoredTask) -> dict[int, StoredTask]:
        return self.lanes.setdefault((task.class_id, task.spec.priority), {})

    def _cancel_waiters(self, task: StoredTask) -> None:
        frontier = [task]
        while frontier:
            cause = frontier.pop(0)
            word = "failed" if cause.state is TaskState.FAILED else "was cancelled"
            for waiter in self._waiters.get(cause.id, ()):
                if waiter.state is TaskState.BLOCKED:
                    waiter.reason, waiter.caused = f"task {cause.id}, which it comes after, {word}", True
                    self._move(waiter, TaskState.CANCELLED)
                    frontier.append(waiter)

    def _held_back(self, number: int, back: set[int]) -> bool:
        """Whether something it comes after stays failed or cancelled."""
        return any(
            self.tasks[before - 1].state in (TaskState.FAILED, TaskState.CANCELLED) and before not in back
            for first, last in self.tasks[number - 1].spec.after
            for before in range(first, last + 1)
        )

    def _note_end(self, now_ns: int) -> None:
        if self.open_tasks == 0 and self.finished_ns is None and not self.spec.open:
            self.finished_ns = now_ns


def _check_dependencies(tasks: Sequence[TaskSpec], there: int) -> None:
    """`there` tasks are in the job already; those come after nothing that is new."""
    after: dict[int, tuple[tuple[int, int], ...]] = {}
    total = there + len(tasks)
    for number, task in enumerate(tasks, there + 1):
        for first, last in task.after:
            if not 1 <= first <= last:
                raise UsageError(
                    f"task {number} comes after {first}-{last}: expected ids of this job, first to last, from 1"
                )
            if first <= number <= last:
                shown = f"task {first}" if first == last else f"tasks {first}-{last}"
                raise UsageError(f"task {number} comes after {shown}, so it would wait for itself")
            if last > total:
                raise UsageError(f"task {number} comes after task {last}, but the job has only {total} tasks")
        if task.after:
            after[number] = task.after
    circle = find_circle(after)
    if circle:
        chain = ", which comes after ".join(f"task {number}" for number in (*circle[:10], circle[0]))
        raise UsageError(f"these tasks wait for each other and could never start: {chain}")
