"""What waits in a store, by requirement, as the sizing of allocations wants it.

Counters say how many tasks of a job are ready. Which requirements they have is read from the first few hundred of them, and
taken to be the same of the rest; jobs beyond the newest hundred with ready tasks are left out: they would call for no more
workers than are allowed. How long a task takes is estimated from its job's attempts so far.
"""

from __future__ import annotations

from collections import Counter

from ergates.cluster.attempt import Outcome
from ergates.cluster.job import JobStatus
from ergates.cluster.task_state import TaskState
from ergates.taskqueue.placement_demand import WaitingClass
from ergates.taskqueue.store import Reader
from ergates.units import Nanoseconds

SAMPLE = 512
JOBS_MAX = 100
SUCCEEDED_MIN = 3
"""After so many the mean of their wall time is taken for an estimate."""


def waiting_classes(store: Reader) -> tuple[WaitingClass, ...]:
    """Ready tasks of active jobs that nobody holds."""
    found: list[WaitingClass] = []
    jobs = [status for status in store.jobs() if status.phase == "active" and status.counts.get(TaskState.READY, 0)]
    for status in jobs[:JOBS_MAX]:
        ready = status.counts[TaskState.READY]
        sample = Counter(
            view.spec.requirement for view in store.tasks(status.id, states=(TaskState.READY,), limit=SAMPLE)
        )
        expected_ns = _expected_ns(status)
        seen = sum(sample.values())
        for requirement, count in sample.items():
            share = count if seen >= ready else max(1, round(count * ready / seen))
            found.append(WaitingClass(requirement=requirement, count=share, expected_ns=expected_ns))
    return tuple(found)


def _expected_ns(status: JobStatus) -> Nanoseconds | None:
    """Mean wall time of this job's attempts, those that did not succeed included; None while too few did."""
    if status.outcomes.get(Outcome.SUCCEEDED, 0) < SUCCEEDED_MIN:
        return None
    return Nanoseconds(status.wall_ns // sum(status.outcomes.values()))
