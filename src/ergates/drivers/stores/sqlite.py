"""The embedded store: one SQLite file that holds jobs, tasks, leases and the ledger.

This class only hands each call to the file that does it, on the connection of the calling thread. Several processes and
threads may use one store at once; an object must not be used across `fork`. What only some calls need is imported by
them: `erg status` reads, and should start at once.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ergates.cluster.attempt import Attempt
from ergates.cluster.job import JobSpec, JobStatus
from ergates.cluster.node import WorkerInfo, WorkerLoad
from ergates.cluster.task import JobId, TaskId, TaskSpec
from ergates.cluster.task_state import TaskState
from ergates.drivers.stores import sqlite_read
from ergates.drivers.stores.sqlite_connection import Journal, StoreConnection
from ergates.taskqueue.retention import Forgetting
from ergates.taskqueue.store import (
    Changes,
    Commit,
    Exchanged,
    HeldTask,
    Lease,
    Offer,
    PastPeak,
    Submitted,
    TaskView,
    Want,
)
from ergates.units import SECOND_NS, Nanoseconds

LEASE_NS = Nanoseconds(30 * SECOND_NS)


class SqliteStore:
    """Submitter, Exchanger, Editor, Reader, Retention and History over one file.

    Args:
        path: the file; created with rights 0600. Its directory must exist.
        journal: `wal`; `delete` (a rollback journal) where the file lies on a network file system.
        lease_ns: how long a worker may be silent before its tasks are taken away.
        host: name of this host, as workers give it; by default the kernel's.
        proc: where processes of this host are seen.

    Raises:
        StoreError: the file is not ours, is of a newer schema, or cannot be opened.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        journal: Journal = "wal",
        lease_ns: int = LEASE_NS,
        host: str = "",
        proc: Path = Path("/proc"),
    ) -> None:
        self.path = Path(path)
        self._journal: Journal = journal
        self._lease_ns = lease_ns
        self._host = host or os.uname().nodename
        self._proc = proc
        self._threads = threading.local()
        self._opened: list[StoreConnection] = []
        self._lock = threading.Lock()
        self.connection()

    def close(self) -> None:
        """Close the connections of all threads. No call may be under way."""
        with self._lock:
            for connection in self._opened:
                connection.close()
            self._opened.clear()
            self._threads = threading.local()

    def connection(self) -> StoreConnection:
        """The calling thread's connection, for what reads the tables directly (`sqlite_report`)."""
        found: StoreConnection | None = getattr(self._threads, "connection", None)
        if found is None:
            found = self._threads.connection = StoreConnection(self.path, self._journal, self._lease_ns)
            with self._lock:
                self._opened.append(found)
        return found

    # --- Submitter ----------------------------------------------------------------------------

    def submit(self, job: JobSpec, tasks: Iterable[TaskSpec], now_ns: Nanoseconds, *, again: bool = False) -> Submitted:
        """The store is locked while `tasks` after the first 10,000 are read: read slow sources beforehand."""
        from ergates.drivers.stores import sqlite_submit

        return sqlite_submit.submit(self.connection(), job, tasks, now_ns, again=again)

    def set_phase(self, job: JobId, phase: str, now_ns: Nanoseconds) -> None:
        from ergates.drivers.stores import sqlite_edit

        sqlite_edit.set_phase(self.connection(), job, phase, now_ns)

    def cancel(self, job: JobId, tasks: Sequence[tuple[int, int]], reason: str, now_ns: Nanoseconds) -> int:
        from ergates.drivers.stores import sqlite_edit

        return sqlite_edit.cancel(self.connection(), job, tasks, reason, now_ns)

    def retry(self, job: JobId, tasks: Sequence[tuple[int, int]], now_ns: Nanoseconds) -> int:
        from ergates.drivers.stores import sqlite_edit

        return sqlite_edit.retry(self.connection(), job, tasks, now_ns)

    # --- Editor -------------------------------------------------------------------------------

    def extend(self, job: JobId, tasks: Iterable[TaskSpec], now_ns: Nanoseconds, *, first: TaskId | None = None) -> int:
        """The store is locked while `tasks` after the first 10,000 are read: read slow sources beforehand."""
        from ergates.drivers.stores import sqlite_submit

        return sqlite_submit.extend(self.connection(), job, tasks, now_ns, first)

    def close_job(self, job: JobId, now_ns: Nanoseconds) -> None:
        from ergates.drivers.stores import sqlite_edit

        sqlite_edit.close_job(self.connection(), job, now_ns)

    def edit(
        self, job: JobId, changes: Sequence[tuple[TaskId, Changes]], now_ns: Nanoseconds, *, rerun: bool = False
    ) -> tuple[TaskId, ...]:
        from ergates.drivers.stores import sqlite_change

        return sqlite_change.edit(self.connection(), job, changes, now_ns, rerun=rerun)

    # --- Exchanger ----------------------------------------------------------------------------

    def register(self, worker: WorkerInfo, now_ns: Nanoseconds) -> None:
        from ergates.drivers.stores import sqlite_workers

        sqlite_workers.register(self.connection(), worker, now_ns)

    def exchange(
        self,
        worker: str,
        commits: Sequence[Commit],
        want: Sequence[Want],
        now_ns: Nanoseconds,
        jobs: Sequence[JobId] = (),
        *,
        unfit: Sequence[int] = (),
        load: WorkerLoad | None = None,
        orders_seen: int = 0,
    ) -> Exchanged:
        """One machine's workers are directed by signals: `load` is not kept and no orders come."""
        from ergates.drivers.stores import sqlite_exchange

        return sqlite_exchange.exchange(self.connection(), worker, commits, want, now_ns, jobs, unfit)

    def expired(self, now_ns: Nanoseconds, live_boot_id: str = "") -> tuple[Lease, ...]:
        from ergates.drivers.stores import sqlite_workers

        return sqlite_workers.expired(self.connection(), now_ns, live_boot_id, self._host, self._proc)

    def leave(self, worker: str, now_ns: Nanoseconds) -> None:
        from ergates.drivers.stores import sqlite_workers

        sqlite_workers.leave(self.connection(), worker, now_ns)

    # --- Reader -------------------------------------------------------------------------------

    def jobs(self) -> tuple[JobStatus, ...]:
        return sqlite_read.jobs(self.connection())

    def spec(self, job: JobId) -> JobSpec:
        return sqlite_read.spec(self.connection(), job)

    def status(self, job: JobId) -> JobStatus:
        return sqlite_read.status(self.connection(), job)

    def waiting(self, job: JobId) -> tuple[Offer, ...]:
        return sqlite_read.waiting(self.connection(), job)

    def tasks(
        self,
        job: JobId,
        *,
        states: Sequence[TaskState] = (),
        ids: Sequence[tuple[int, int]] = (),
        limit: int | None = None,
    ) -> Iterator[TaskView]:
        return sqlite_read.tasks(self.connection(), job, states, ids, limit)

    def attempts(
        self, job: JobId, *, ids: Sequence[tuple[int, int]] = (), since_row: int = 0
    ) -> Iterator[tuple[int, TaskId, Attempt]]:
        return sqlite_read.attempts(self.connection(), job, ids, since_row)

    def held(self, most: int) -> tuple[HeldTask, ...]:
        return sqlite_read.held(self.connection(), most)

    # --- Retention ----------------------------------------------------------------------------

    def with_history(self) -> frozenset[JobId]:
        from ergates.drivers.stores import sqlite_forget

        return sqlite_forget.with_history(self.connection())

    def forget_job(self, job: JobId, *, history: bool = False) -> Forgetting:
        """What its tasks printed lies beside the store, and stays."""
        from ergates.drivers.stores import sqlite_forget

        return sqlite_forget.forget_job(self.connection(), job, history=history)

    # --- History ------------------------------------------------------------------------------

    def remember_peaks(self, peaks: Sequence[PastPeak]) -> None:
        from ergates.drivers.stores import sqlite_history

        sqlite_history.remember_peaks(self.connection(), peaks)

    def recall_peaks(self) -> tuple[PastPeak, ...]:
        from ergates.drivers.stores import sqlite_history

        return sqlite_history.recall_peaks(self.connection())
