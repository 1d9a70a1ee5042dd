"""What waits in a store, by requirement, as the sizing of allocations wants it: counters, no scan of tasks.

How long a task takes is estimated from its job's attempts so far.
"""

from __future__ import annotations

from typing import Protocol

from ergates.cluster.attempt import Outcome
from ergates.cluster.job import JobStatus
from ergates.cluster.task_state import TaskState
from ergates.taskqueue.placement_demand import WaitingClass
from ergates.taskqueue.store import Reader, Waiting
from ergates.units import Nanoseconds

JOBS_MAX = 100
"""Ready tasks of more jobs than that call for no more workers than those do: older jobs are not asked about."""
SUCCEEDED_MIN = 3
"""After so many the mean of their wall time is taken for an estimate."""


class WaitingReader(Reader, Waiting, Protocol):
    """What is asked of the store."""


def waiting_classes(store: WaitingReader) -> tuple[WaitingClass, ...]:
    """Ready tasks of active jobs that nobody holds."""
    jobs = [status for status in store.jobs() if status.phase == "active" and status.counts.get(TaskState.READY, 0)]
    return tuple(
        WaitingClass(requirement=offer.requirement, count=offer.waiting, expected_ns=_expected_ns(status))
        for status in jobs[:JOBS_MAX]
        for offer in store.waiting(status.id)
    )


def _expected_ns(status: JobStatus) -> Nanoseconds | None:
    """Mean wall time of this job's attempts, those that did not succeed included; None while too few did."""
    if status.outcomes.get(Outcome.SUCCEEDED, 0) < SUCCEEDED_MIN:
        return None
    return Nanoseconds(status.wall_ns // sum(status.outcomes.values()))
