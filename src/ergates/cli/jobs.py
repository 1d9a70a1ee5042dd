"""Which job a command means, and in which state people see it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, cast

from ergates.cluster.job import JobStatus
from ergates.errors import UnknownJobError
from ergates.taskqueue.store import Reader

_KNOWN_SHOWN = 5


def choose_job(store: Reader, word: str | None) -> JobStatus:
    """The job called `word`: its id (`j3` or `3`), else the newest with that key or name; None is the newest of all.

    Raises:
        UnknownJobError: there is none; the message names some that exist.
    """
    jobs = store.jobs()
    if not jobs and word is not None and (hint := _of_forgotten(store, word)):
        raise UnknownJobError(f"no job {word!r}: the store has none{hint}")
    if not jobs:
        raise UnknownJobError("no jobs here yet\n  hint: erg run commands.txt, or name another place with --state DIR")
    if word is None:
        return jobs[0]
    wanted = f"j{word}" if word.isdigit() else word
    for name_of, name in (("id", wanted), ("key", word), ("name", word)):
        for job in jobs:
            if getattr(job, name_of) == name:
                return job
    raise UnknownJobError(f"no job {word!r}\n  expected: one of {_shown(jobs)}{_of_forgotten(store, word)}")


def open_count(status: JobStatus) -> int:
    """Tasks that are not settled."""
    settled = sum(status.counts.get(state, 0) for state in ("done", "failed", "cancelled"))
    return status.total - settled


def shown_phase(status: JobStatus, work_phase: Callable[[JobStatus], str]) -> str:
    """`running`, `waiting` (for busy workers), `stopped` (nobody does it), `paused`, `open`, `done`, `failed`, `cancelled`.

    `open`: nothing is left to do, but more tasks may come.

    Args:
        status: of the job.
        work_phase: asked about a job with work left, see opened.work_phase.
    """
    if status.phase == "cancelled":
        return "cancelled"
    if open_count(status) == 0 and status.takes_more:
        return "open"
    if open_count(status) == 0:
        return "failed" if status.counts.get("failed", 0) else "done"
    if status.phase == "paused":
        return "paused"
    return work_phase(status)


class _Drained(Protocol):
    """A cluster's store: it knows where it was drained to."""

    def ledger_noted(self) -> object: ...


def _of_forgotten(store: Reader, word: str) -> str:
    """Where to look for a job that a cluster's store has forgotten; empty where it was never drained into a ledger."""
    if not hasattr(store, "ledger_noted"):
        return ""
    place = cast(_Drained, store).ledger_noted()
    return (
        ""
        if place is None
        else f"\n  hint: of forgotten jobs the ledger has the attempts: {place}; erg report {word} --ledger URL|FILE"
    )


def _shown(jobs: Sequence[JobStatus]) -> str:
    names = [f"{job.id} ({job.name})" if job.name else str(job.id) for job in jobs[:_KNOWN_SHOWN]]
    more = f" and {len(jobs) - _KNOWN_SHOWN} more" if len(jobs) > _KNOWN_SHOWN else ""
    return ", ".join(names) + more
