"""What becomes of the tasks of workers that went away. Workers and the controller both find them; whoever commits first wins."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable

from msgspec.structs import replace

from ergates.cluster.attempt import Attempt, Outcome
from ergates.cluster.job import RetryLimits
from ergates.cluster.task import JobId
from ergates.taskqueue.retry import judge
from ergates.taskqueue.store import Commit, Lease
from ergates.units import Nanoseconds

LOSSES_OF_WORKERS = 10
"""A worker that died took everything it held along, most of it innocent: so many such losses quarantine a task, while
a slot that dies of one task is held against that task by the job's own, smaller limit."""
REASON = "its worker went away"


def lost_commits(
    leases: Iterable[Lease],
    limits_of: Callable[[JobId], RetryLimits],
    now_ns: Nanoseconds,
    rng: random.Random | None = None,
) -> list[Commit]:
    """Commits that end leases as lost, each under its own fence.

    Args:
        leases: what `Exchanger.expired` returned; the host each names is the one to avoid, not the host of who reaps.
        limits_of: the retry limits of a job.
        now_ns: tasks return some time after this.
        rng: spreads the returns; None: no spread.
    """
    commits = []
    for lease in leases:
        limits = limits_of(lease.job)
        if limits.losses < LOSSES_OF_WORKERS:
            limits = replace(limits, losses=LOSSES_OF_WORKERS)
        # A gang avoids no host: it wants many, and would wait for one more than there are.
        avoid = lease.host if lease.spec.requirement.nodes == 1 else ""
        verdict = judge(lease, Outcome.LOST, REASON, 0, limits, now_ns, avoid, rng)
        attempt = Attempt(number=lease.attempt, outcome=Outcome.LOST, ended_ns=now_ns, reason=REASON)
        seat = None
        if lease.gang is not None and lease.gang.rank > 0:  # a gang's leader goes on; without it the gang is over
            seat, attempt = lease.gang.rank, replace(attempt, host=lease.host)
        commits.append(
            Commit(job=lease.job, task=lease.task, fence=lease.fence, attempt=attempt, verdict=verdict, seat=seat)
        )
    return commits
