"""A report's sums over a cluster: what the ledger has, and what is still in the store, each attempt once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

from msgspec.structs import replace

from ergates.cluster.attempt import Attempt
from ergates.cluster.job import JobStatus
from ergates.cluster.task import JobId, TaskId
from ergates.drivers.ledgers.joined import QueueReader, ledger_uids
from ergates.drivers.ledgers.rows import clean
from ergates.errors import UnknownJobError
from ergates.taskqueue.ledger import Ledger, LedgerJob, LedgerRow
from ergates.taskqueue.ledger_sums import (
    LABEL_PREFIX,
    LedgerSums,
    Sums,
    added,
    checked_group,
    merged_sums,
    sums_of,
)
from ergates.units import Nanoseconds

UNDRAINED_MOST = 200_000
"""So many attempts that are not drained yet are compared with the ledger's; they are held in memory for that."""
TASKS_AT_ONCE = 2000
"""Labels are looked up for so many tasks at once."""


class SummedLedger(Ledger, Sums, Protocol):
    """A ledger that can be summed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportJob:
    """A job of the ledger, of the store, or of both. `uid` is made up where only the store knows it."""

    uid: str
    queue: str
    id: JobId
    key: str
    name: str
    submitted_ns: Nanoseconds
    in_store: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterReport:
    """Sums, sorted by group; `left_out` says that more attempts wait to be drained than were looked at."""

    sums: tuple[LedgerSums, ...]
    left_out: bool = False


def report_jobs(store: QueueReader | None, ledger: Ledger | None) -> tuple[ReportJob, ...]:
    """All jobs there are, newest first."""
    statuses = () if store is None else store.jobs()
    known = () if ledger is None else ledger.jobs()
    uids = {} if store is None else ledger_uids(store.queue, statuses, known)
    found = {job.uid: _of_ledger(job) for job in known}
    for status in statuses:
        assert store is not None
        uid = uids.get(status.id, f"store/{status.id}")
        found[uid] = _of_store(status, uid, store.queue)
    return tuple(sorted(found.values(), key=lambda job: (-job.submitted_ns, job.uid)))


def chosen_jobs(jobs: Sequence[ReportJob], word: str) -> tuple[ReportJob, ...]:
    """The job called `word`: its id (`j3` or `3`), else the newest with that key or name.

    Raises:
        UnknownJobError: there is none.
    """
    wanted = f"j{word}" if word.isdigit() else word
    for name_of, name in (("id", wanted), ("key", word), ("name", word)):
        for job in jobs:
            if getattr(job, name_of) == name:
                return (job,)
    shown = ", ".join(f"{job.id} ({job.name})" if job.name else job.id for job in jobs[:5])
    raise UnknownJobError(f"no job {word!r} in this ledger\n  expected: one of {shown or '(there is none)'}")


def cluster_sums(
    store: QueueReader | None, ledger: SummedLedger | None, by: str, jobs: Sequence[ReportJob], *, all_jobs: bool
) -> ClusterReport:
    """Sums by one of LEDGER_GROUPS or by `label:KEY`.

    Args:
        store: the cluster's, None when only the ledger is asked.
        ledger: None when there is none, so that the store has all attempts.
        by: what to group by.
        jobs: the ones to sum; what of them the store has is added to what the ledger has.
        all_jobs: these are all jobs, so that the ledger needs no list of them.

    Raises:
        UsageError: it cannot be grouped by that.
    """
    checked_group(by)
    there = [job for job in jobs if job.in_store]
    if ledger is None:
        assert store is not None
        return ClusterReport(sums=_named(by, jobs, _of_rows(store, by, there, _rows(store, there))))
    waiting = [] if store is None else list(islice(_rows(store, there), UNDRAINED_MOST + 1))
    left_out = len(waiting) > UNDRAINED_MOST
    summed = ledger.sums(by, () if all_jobs else [job.uid for job in jobs], waiting[:UNDRAINED_MOST])
    more = () if store is None else _of_rows(store, by, there, summed.missing)
    return ClusterReport(sums=_named(by, jobs, [*summed.sums, *more]), left_out=left_out)


def _rows(store: QueueReader, jobs: Iterable[ReportJob]) -> Iterator[LedgerRow]:
    for job in jobs:
        for row, task, attempt in store.attempts(job.id):
            yield LedgerRow(job_uid=job.uid, row=row, task=task, attempt=attempt)


def _of_rows(store: QueueReader, by: str, jobs: Iterable[ReportJob], rows: Iterable[LedgerRow]) -> Iterable[LedgerSums]:
    known = {job.uid: job for job in jobs}
    sums: dict[str, LedgerSums] = {}
    for group, attempt in _grouped(store, by, known, iter(rows)):
        one = sums_of(attempt, group)
        sums[group] = added(sums[group], one) if group in sums else one
    return sums.values()


def _grouped(
    store: QueueReader, by: str, jobs: dict[str, ReportJob], rows: Iterator[LedgerRow]
) -> Iterator[tuple[str, Attempt]]:
    while part := list(islice(rows, TASKS_AT_ONCE)):
        if by.startswith(LABEL_PREFIX):
            labels = _labels(store, by.removeprefix(LABEL_PREFIX), jobs, part)
            yield from ((labels[row.job_uid, row.task], row.attempt) for row in part)
        elif by in ("job", "queue"):
            yield from ((row.job_uid if by == "job" else jobs[row.job_uid].queue, row.attempt) for row in part)
        else:
            yield from ((clean(str(getattr(row.attempt, by))), row.attempt) for row in part)


def _labels(
    store: QueueReader, key: str, jobs: dict[str, ReportJob], rows: Sequence[LedgerRow]
) -> dict[tuple[str, TaskId], str]:
    found: dict[tuple[str, TaskId], str] = {}
    for uid in {row.job_uid for row in rows}:
        job = jobs[uid].id
        ids = [(row.task, row.task) for row in rows if row.job_uid == uid]
        common = store.spec(job).labels.get(key, "")
        for view in store.tasks(job, ids=ids):
            found[uid, view.task] = clean(view.spec.labels.get(key, common))
    return found


def _named(by: str, jobs: Sequence[ReportJob], sums: Iterable[LedgerSums]) -> tuple[LedgerSums, ...]:
    """Uids become names people know, and those are in the order the jobs came."""
    merged = merged_sums(sums)
    if by != "job":
        return merged
    entries = {entry.group: entry for entry in merged}
    names = job_names(jobs)
    return tuple(replace(entries[job.uid], group=names[job.uid]) for job in reversed(jobs) if job.uid in entries)


def job_names(jobs: Sequence[ReportJob]) -> dict[str, str]:
    """What to call each job: `j3`; `queue/j3` where there are several queues; with its uid where even that is not one job."""
    several = len({job.queue for job in jobs}) > 1
    names = {job.uid: f"{job.queue}/{job.id}" if several else str(job.id) for job in jobs}
    counted: dict[str, int] = {}
    for name in names.values():
        counted[name] = counted.get(name, 0) + 1
    return {uid: name if counted[name] == 1 else f"{name} ({uid[:8]})" for uid, name in names.items()}


def _of_ledger(job: LedgerJob) -> ReportJob:
    return ReportJob(
        uid=job.uid, queue=job.queue, id=job.id, key=job.spec.key, name=job.spec.name, submitted_ns=job.submitted_ns
    )


def _of_store(status: JobStatus, uid: str, queue: str) -> ReportJob:
    return ReportJob(
        uid=uid,
        queue=queue,
        id=status.id,
        key=status.key,
        name=status.name,
        submitted_ns=status.submitted_ns,
        in_store=True,
    )
