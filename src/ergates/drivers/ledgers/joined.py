"""A cluster's store and its ledger as one: attempts that were drained, and those that were not yet.

The store is always looked at first. An attempt that leaves it in between was written into the ledger before, so looking there
afterwards finds it; the other way round it could be missed.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Protocol

from ergates.cluster.attempt import Attempt, Kept
from ergates.cluster.job import JobSpec, JobStatus
from ergates.cluster.task import JobId, TaskId
from ergates.cluster.task_state import TaskState
from ergates.drivers.ledgers.rows import clean
from ergates.taskqueue.ledger import Ledger, LedgerJob, LedgerRow
from ergates.taskqueue.store import Reader, TaskView

ROWS_AT_ONCE = 5000
Entry = tuple[int, TaskId, Attempt]


class QueueReader(Reader, Protocol):
    """A cluster's store as a report needs it."""

    @property
    def queue(self) -> str: ...


class Store(QueueReader, Protocol):
    """The same with what tasks printed."""

    def kept(self, job: JobId, ids: Sequence[tuple[int, int]] = ()) -> Iterable[tuple[int, int, Kept]]:
        """(task, number of the attempt, what is kept of it)."""
        ...


class JoinedReader:
    """Reads like the store, with the attempts and outputs that are only in the ledger among them."""

    def __init__(self, store: Store, ledger: Ledger) -> None:
        self._store, self._ledger = store, ledger
        self._uids: dict[JobId, str] = {}

    def jobs(self) -> tuple[JobStatus, ...]:
        """See Reader.jobs: the counters of a job stay in the store whatever was drained."""
        return self._store.jobs()

    def spec(self, job: JobId) -> JobSpec:
        """See Reader.spec."""
        return self._store.spec(job)

    def status(self, job: JobId) -> JobStatus:
        """See Reader.status."""
        return self._store.status(job)

    def tasks(
        self,
        job: JobId,
        *,
        states: Sequence[TaskState] = (),
        ids: Sequence[tuple[int, int]] = (),
        limit: int | None = None,
    ) -> Iterator[TaskView]:
        """See Reader.tasks."""
        return self._store.tasks(job, states=states, ids=ids, limit=limit)

    def attempts(
        self, job: JobId, *, ids: Sequence[tuple[int, int]] = (), since_row: int = 0
    ) -> Iterator[tuple[int, TaskId, Attempt]]:
        """See Reader.attempts."""
        return self._joined(self._store.attempts(job, ids=ids, since_row=since_row), job, ids, since_row)

    def kept(self, job: JobId, ids: Sequence[tuple[int, int]] = ()) -> Iterator[tuple[int, int, Kept]]:
        """What is kept of attempts of these tasks: (task, number, what)."""
        seen = set()
        for task, number, kept in self._store.kept(job, ids):
            seen.add((task, number))
            yield task, number, kept
        for row in self._drained(job, ids, 0, kept=True):
            if row.kept is not None and (row.task, row.attempt.number) not in seen:
                yield row.task, row.attempt.number, row.kept

    def _joined(
        self, entries: Iterator[Entry], job: JobId, ids: Sequence[tuple[int, int]], since_row: int
    ) -> Iterator[Entry]:
        while True:
            here = list(islice(entries, ROWS_AT_ONCE))
            last = here[-1][0] if len(here) == ROWS_AT_ONCE else None
            seen = {(task, attempt.number) for _, task, attempt in here}
            drained = self._entries(self._drained(job, ids, since_row, kept=False), last, seen)
            yield from heapq.merge(here, drained, key=lambda entry: entry[0])
            if last is None:
                return
            since_row = last

    @staticmethod
    def _entries(rows: Iterator[LedgerRow], last: int | None, seen: set[tuple[TaskId, int]]) -> Iterator[Entry]:
        for row in rows:
            if last is not None and row.row > last:
                return
            if (row.task, row.attempt.number) not in seen:
                yield row.row, row.task, row.attempt

    def _drained(
        self, job: JobId, ids: Sequence[tuple[int, int]], since_row: int, *, kept: bool
    ) -> Iterator[LedgerRow]:
        uid = self._uids.get(job) or ledger_uids(self._store.queue, [self._store.status(job)], self._ledger.jobs()).get(
            job
        )
        if uid is None:  # nothing of this job was drained yet
            return iter(())
        self._uids[job] = uid
        return self._ledger.attempts(uid, ids=ids, since_row=since_row, kept=kept)


def ledger_uids(queue: str, statuses: Iterable[JobStatus], known: Iterable[LedgerJob]) -> dict[JobId, str]:
    """Under which uid the ledger knows jobs of a queue; those it does not know are left out.

    Ids such as `j7` begin anew when a queue is made anew, so the time of submission has to agree, too.
    """
    uids = {(job.id, job.submitted_ns, job.spec.key): job.uid for job in known if job.queue == clean(queue)}
    found = {job.id: uids.get((job.id, job.submitted_ns, clean(job.key))) for job in statuses}
    return {job: uid for job, uid in found.items() if uid is not None}
