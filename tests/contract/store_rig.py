"""Words for testing a store: a handle on it, another handle as a second process would have it, and a worker that asks
for the most urgent work first, as a real one does.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ergates.cluster.attempt import Attempt, Outcome, Output
from ergates.cluster.job import JobSpec
from ergates.cluster.node import NodeCapacity, WorkerInfo
from ergates.cluster.task import JobId, Requirement, TaskId, TaskSpec
from ergates.cluster.task_state import TERMINAL
from ergates.cluster.usage import Usage
from ergates.taskqueue.store import (
    Cancelled,
    Commit,
    Done,
    Editor,
    Exchanged,
    Exchanger,
    Failed,
    History,
    Holdings,
    Lease,
    PastFailures,
    Reader,
    Returned,
    Submitted,
    Submitter,
    Verdict,
    Waiting,
    Want,
)
from ergates.units import Bytes, MilliCpus, Nanoseconds, UsdMicros

SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND
LEASE_NS = 30 * SECOND
BOOT = "boot-1"


class Store(Submitter, Exchanger, Editor, Reader, Waiting, Holdings, History, Protocol):
    """All these protocols, as one object has them."""


@dataclass
class Rig:
    """A fresh store under test.

    Args:
        store: the handle that most tests use.
        open: another handle on the same store, as another process would have it.
        proc: a stand-in for /proc that tests fill with processes.
        host: what the store takes for the name of this host.
    """

    store: Store
    open: Callable[[], Store]
    proc: Path
    host: str

    def process(self, pid: int, start_ticks: int, state: str = "S") -> None:
        """Let a process appear in the stand-in for /proc."""
        folder = self.proc / str(pid)
        folder.mkdir(parents=True, exist_ok=True)
        fields = [state, *["0"] * 18, str(start_ticks), *["0"] * 30]
        (folder / "stat").write_text(f"{pid} (name with ) in it) {' '.join(fields)}\n")


def at(seconds: float) -> Nanoseconds:
    """Seconds after the tests' beginning of time."""
    return Nanoseconds(START + round(seconds * SECOND))


def requirement(memory_bytes: int = 0, cpus_milli: int = 1000) -> Requirement:
    return Requirement(cpus_milli=MilliCpus(cpus_milli), memory_bytes=Bytes(memory_bytes))


def lines(count: int, priority: int = 0) -> list[TaskSpec]:
    return [TaskSpec(command=f"echo {number}", priority=priority) for number in range(1, count + 1)]


def submit(
    store: Store, tasks: Iterable[TaskSpec] | int, key: str = "key", now: float = 0, **spec: object
) -> Submitted:
    chosen = lines(tasks) if isinstance(tasks, int) else tasks
    return store.submit(JobSpec(key=key, **spec), chosen, at(now), again=True)  # type: ignore[arg-type]


def info(worker: str, host: str, pid: int = 0, start_ticks: int = 0, boot_id: str = "") -> WorkerInfo:
    return WorkerInfo(
        id=worker,
        host=host,
        pid=pid,
        pid_start_ticks=start_ticks,
        boot_id=boot_id,
        capacity=NodeCapacity(cpus_milli=MilliCpus(2000), memory_bytes=Bytes(2**30)),
    )


def register(store: Store, worker: str = "w1", host: str = "alpha", now: float = 0, **process: object) -> None:
    store.register(info(worker, host, **process), at(now))  # type: ignore[arg-type]


def look(store: Store, worker: str = "w1", now: float = 0, jobs: Sequence[JobId] = ()) -> Exchanged:
    return store.exchange(worker, [], [], at(now), jobs)


def take(store: Store, count: int = 1, worker: str = "w1", now: float = 0) -> tuple[Lease, ...]:
    """Lease up to `count` tasks, the most urgent offers first."""
    wants = []
    left = count
    for offer in look(store, worker, now).offers:
        if left:
            number = min(left, offer.waiting)
            left -= number
            wants.append(Want(job=offer.job, class_id=offer.class_id, priority=offer.priority, count=number))
    return store.exchange(worker, [], wants, at(now)).leases


def attempt(lease: Lease, outcome: Outcome = Outcome.SUCCEEDED, **fields: object) -> Attempt:
    """An attempt with some use in every field that is summed."""
    values: dict[str, object] = {
        "number": lease.attempt,
        "outcome": outcome,
        "worker": "w1",
        "host": "alpha",
        "started_ns": at(1),
        "ended_ns": at(3),
        "exit_code": 0 if outcome == Outcome.SUCCEEDED else 1,
        "usage": Usage(
            wall_ns=Nanoseconds(2 * SECOND),
            cpu_ns=Nanoseconds(SECOND),
            peak_bytes=Bytes(1000),
            peak_label="sampled",
            cost_usd_micros=UsdMicros(7),
        ),
        "output": Output(pack="p-1", offset=10, stdout_bytes=5, stderr_bytes=2),
    }
    return Attempt(**(values | fields))  # type: ignore[arg-type]


def commit(lease: Lease, verdict: Verdict | None = None, outcome: Outcome | None = None, **fields: object) -> Commit:
    """A commit with a fitting attempt; `outcome` RETURNED hands the lease back untried."""
    verdict = Done() if verdict is None else verdict
    if outcome is None:
        outcome = _OUTCOMES[type(verdict)]
    made = None if outcome == Outcome.RETURNED else attempt(lease, outcome, **fields)
    return Commit(job=lease.job, task=lease.task, fence=lease.fence, attempt=made, verdict=verdict)


_OUTCOMES: dict[type[object], Outcome] = {
    Done: Outcome.SUCCEEDED,
    Failed: Outcome.FAILED,
    Returned: Outcome.EVICTED,
    Cancelled: Outcome.CANCELLED,
}


def back(lease: Lease, *, delay: float | None = None, **fields: object) -> Commit:
    """Return a lease with one more memory failure; `delay` is the moment it may come again, in seconds."""
    past = PastFailures(memory=lease.past.memory + 1, last_peak_bytes=999)
    not_before = Nanoseconds(0) if delay is None else at(delay)
    verdict = Returned(past=past, not_before_ns=not_before, **fields)  # type: ignore[arg-type]
    return commit(lease, verdict, reason="memory was short")


def end(store: Store, *commits: Commit, worker: str = "w1", now: float = 0) -> Exchanged:
    return store.exchange(worker, commits, [], at(now))


def finish(store: Store, leases: Iterable[Lease], worker: str = "w1", now: float = 0) -> Exchanged:
    return end(store, *(commit(lease) for lease in leases), worker=worker, now=now)


def states(store: Store, job: JobId) -> dict[int, str]:
    return {view.task: view.state.value for view in store.tasks(job)}


def ids(leases: Iterable[Lease]) -> list[TaskId]:
    return [lease.task for lease in leases]


def recount(store: Store, again: Container[tuple[JobId, int]] = ()) -> None:
    """Every counter equals what counting tasks and attempts one by one gives.

    `again` are tasks that the user let run again; only they may have succeeded more than once.
    """
    for job in store.jobs():
        views = list(store.tasks(job.id))
        for state, count in job.counts.items():
            assert count == sum(view.state == state for view in views), f"{job.id}: {state}"
        assert [view.task for view in views] == list(range(1, job.total + 1))
        unfinished = [view for view in views if view.state not in TERMINAL]
        assert (job.finished_ns is None) == bool(unfinished or job.takes_more)
        _recount_ledger(store, job.id, again)


def _recount_ledger(store: Store, job_id: JobId, again: Container[tuple[JobId, int]]) -> None:
    job = store.status(job_id)
    rows = list(store.attempts(job_id))
    assert [row for row, _, _ in rows] == sorted({row for row, _, _ in rows})
    ledger = [made for _, _, made in rows]
    wasted = [made for made in ledger if made.outcome != Outcome.SUCCEEDED]
    costs = [made.usage.cost_usd_micros for made in ledger if made.usage.cost_usd_micros is not None]
    for outcome, count in job.outcomes.items():
        assert count == sum(made.outcome == outcome for made in ledger), outcome
    assert sum(job.outcomes.values()) == len(ledger)
    assert job.wall_ns == sum(made.usage.wall_ns for made in ledger)
    assert job.cpu_ns == sum(made.usage.cpu_ns for made in ledger)
    assert job.wasted_wall_ns == sum(made.usage.wall_ns for made in wasted)
    assert job.wasted_cpu_ns == sum(made.usage.cpu_ns for made in wasted)
    assert job.peak_bytes == max((made.usage.peak_bytes for made in ledger), default=0)
    assert job.cost_usd_micros == (sum(costs) if costs else None)
    succeeded = [(task, made.number) for _, task, made in rows if made.outcome == Outcome.SUCCEEDED]
    assert len(succeeded) == len(set(succeeded)), "an attempt succeeded twice"
    once = [task for task, _ in succeeded if (job_id, task) not in again]
    assert len(once) == len(set(once)), "a task succeeded twice"
