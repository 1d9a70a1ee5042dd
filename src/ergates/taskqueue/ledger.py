"""The ledger: every attempt ever made, wasted ones included, in SQL, long after the store has forgotten the job.

On one machine the store's own attempts are the ledger. On a cluster they are *drained*: whoever drains (a controller, or any
worker) reads a batch from the store, writes it, and only then lets the store forget it. Writing twice changes nothing, so two
may drain at once and any of them may die at any moment.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from msgspec import Struct

from ergates.cluster.attempt import Attempt, Kept
from ergates.cluster.job import JobSpec
from ergates.cluster.task import JobId, TaskId
from ergates.units import Nanoseconds


class LedgerJob(Struct, frozen=True, kw_only=True):
    """A job as the ledger knows it. `uid` is random and never used again; `id` (`j7`) is only unique in its queue's life."""

    uid: str
    queue: str
    id: JobId
    spec: JobSpec
    submitted_ns: Nanoseconds
    total: int


class LedgerRow(Struct, frozen=True, kw_only=True):
    """One attempt. (job_uid, task, attempt.number) is unique; of successes there is one for each (job_uid, task)."""

    job_uid: str
    row: int
    """Position in the store: increases within a job."""
    task: TaskId
    attempt: Attempt
    labels: dict[str, str] = {}
    kept: Kept | None = None


class DrainBatch(Struct, frozen=True, kw_only=True):
    """What the store has that the ledger may not have yet. `token` is the store's own mark of it."""

    jobs: tuple[LedgerJob, ...]
    rows: tuple[LedgerRow, ...]
    token: bytes


class Drainable(Protocol):
    """The store's side."""

    def undrained(self, most: int) -> DrainBatch:
        """The oldest attempts that are still here, at most `most` and whole exchanges; the same again until forgotten."""
        ...

    def forget(self, batch: DrainBatch) -> None:
        """The ledger has these: drop them. What was added since stays. Doing it twice does nothing."""
        ...


class Ledger(Protocol):
    """PostgreSQL or SQLite."""

    def write(self, batch: DrainBatch) -> int:
        """In one transaction; returns how many rows were new. Raises StoreFullError, StoreUnavailableError."""
        ...

    def jobs(self) -> tuple[LedgerJob, ...]:
        """Newest first."""
        ...

    def attempts(
        self, job_uid: str, *, ids: Sequence[tuple[int, int]] = (), since_row: int = 0, kept: bool = True
    ) -> Iterator[LedgerRow]:
        """In the order of their rows; with `kept` False without what their tasks printed, which may be much."""
        ...
