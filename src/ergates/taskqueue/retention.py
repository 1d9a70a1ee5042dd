"""Which jobs may be forgotten, and when: only what is finished, and nothing whose records are nowhere else.

A store keeps a finished job until somebody says that it may go. `history` is what would be lost with it: in the embedded store,
which is its own ledger, all attempts; in a cluster's those that no ledger has yet.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from enum import StrEnum
from typing import Protocol

from msgspec import Struct

from ergates.cluster.job import JobStatus
from ergates.cluster.task import JobId
from ergates.units import Nanoseconds


class Forgetting(StrEnum):
    """What became of one job: `forgotten`, or why not."""

    FORGOTTEN = "forgotten"
    UNKNOWN = "unknown"
    UNFINISHED = "not finished"
    HISTORY = "history"
    """Its attempts, or some of them, are nowhere else."""
    RECENT = "recent"
    """It has not been finished for long enough."""


class Retention(Protocol):
    """The store's side. A job that is being removed is seen by nobody from the first moment on."""

    def with_history(self) -> frozenset[JobId]:
        """Jobs of which the store holds attempts that are nowhere else."""
        ...

    def forget_job(self, job: JobId, *, history: bool = False) -> Forgetting:
        """Remove a finished job and everything that belongs to it; what an interrupted call left behind is removed, too.

        Args:
            job: which.
            history: also when the store has the only records of its attempts, which are lost then.
        """
        ...


class Judged(Struct, frozen=True, kw_only=True):
    """A job, and whether it may be forgotten: FORGOTTEN says that it may."""

    job: JobStatus
    verdict: Forgetting


def judge(
    jobs: Iterable[JobStatus],
    with_history: Collection[JobId],
    now_ns: Nanoseconds,
    *,
    older_than_ns: int = 0,
    history: bool = False,
) -> tuple[Judged, ...]:
    """What may become of each of these jobs; see Retention.forget_job.

    Args:
        jobs: as they were seen a moment ago; the store decides again.
        with_history: Retention.with_history.
        now_ns: by the caller's clock.
        older_than_ns: how long a job must have been finished.
        history: whether what is nowhere else may go, too.
    """
    return tuple(
        Judged(job=job, verdict=_verdict(job, with_history, now_ns, older_than_ns, history=history)) for job in jobs
    )


def due(
    jobs: Sequence[JobStatus], with_history: Collection[JobId], now_ns: Nanoseconds, after_ns: Nanoseconds
) -> tuple[JobId, ...]:
    """Jobs that were finished so long ago, and are in the ledger; the oldest first."""
    judged = judge(jobs, with_history, now_ns, older_than_ns=after_ns)
    return tuple(each.job.id for each in reversed(judged) if each.verdict is Forgetting.FORGOTTEN)


def _verdict(
    job: JobStatus, with_history: Collection[JobId], now_ns: int, older_than_ns: int, *, history: bool
) -> Forgetting:
    if job.finished_ns is None:
        return Forgetting.UNFINISHED
    if now_ns - job.finished_ns < older_than_ns:
        return Forgetting.RECENT
    if job.id in with_history and not history:
        return Forgetting.HISTORY
    return Forgetting.FORGOTTEN
