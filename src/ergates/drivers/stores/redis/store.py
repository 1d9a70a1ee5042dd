"""The store of many machines: one queue on a Redis or Valkey server.

This class only hands each call to the file that does it. Several threads may use one object; each has its own connection,
which is opened at its first call and opened again when it broke. How the keys lie: docs/decisions/0008-redis-layout.md.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import redis

from ergates.cluster.attempt import Attempt, Kept
from ergates.cluster.job import JobSpec, JobStatus
from ergates.cluster.node import WorkerInfo, WorkerLoad, WorkerOrders, WorkerStatus
from ergates.cluster.task import JobId, TaskId, TaskSpec
from ergates.cluster.task_state import TaskState
from ergates.drivers.stores.redis import (
    changing,
    draining,
    editing,
    extending,
    gangs,
    history,
    holding,
    ledger_place,
    membership,
    reading,
    retention,
    submitting,
)
from ergates.drivers.stores.redis.bell import RedisBell
from ergates.drivers.stores.redis.board import RedisBoard
from ergates.drivers.stores.redis.exchanging import Exchanging
from ergates.drivers.stores.redis.ledger_place import LedgerPlace
from ergates.drivers.stores.redis.session import Session
from ergates.taskqueue.ledger import DrainBatch
from ergates.taskqueue.retention import Forgetting
from ergates.taskqueue.store import (
    Changes,
    Commit,
    Exchanged,
    HeldTask,
    Lease,
    Offer,
    PastPeak,
    Seat,
    Submitted,
    TaskView,
    Want,
)
from ergates.units import SECOND_NS, Nanoseconds

LEASE_NS = Nanoseconds(30 * SECOND_NS)


class RedisStore:
    """Submitter, Exchanger, Reader, History, Roster, Editor, Drainable and Retention over one queue.

    Args:
        client_factory: makes clients of the library, without retries of their own and with `decode_responses` off; called
            for each thread and to connect again.
        queue: queues of one server do not see each other.
        lease_ns: how long a worker may be silent before its tasks are taken away.
        host: name of this host, as workers give it; by default the kernel's.
        proc: where processes of this host are seen.
        server_time: beats and delays by the server's clock; False: by the callers' clocks, of which the highest counts.
    """

    def __init__(
        self,
        client_factory: Callable[[], redis.Redis],
        *,
        queue: str = "default",
        lease_ns: int = LEASE_NS,
        host: str = "",
        proc: Path = Path("/proc"),
        server_time: bool = True,
    ) -> None:
        self.queue = queue
        self._client_factory = client_factory
        self._session = Session(client_factory, queue, lease_ns, server_time=server_time)
        self._exchanging = Exchanging(self._session)
        self._host = host or os.uname().nodename
        self._proc = proc

    def close(self) -> None:
        """Close the connections of all threads. No call may be under way."""
        self._session.close()

    # --- Submitter --------------------------------------------------------------------------------

    def submit(self, job: JobSpec, tasks: Iterable[TaskSpec], now_ns: Nanoseconds, *, again: bool = False) -> Submitted:
        return submitting.submit(self._session, job, tasks, now_ns, again=again)

    def set_phase(self, job: JobId, phase: str, now_ns: Nanoseconds) -> None:
        editing.set_phase(self._session, job, phase, now_ns)

    def cancel(self, job: JobId, tasks: Sequence[tuple[int, int]], reason: str, now_ns: Nanoseconds) -> int:
        return editing.cancel(self._session, job, tasks, reason, now_ns)

    def retry(self, job: JobId, tasks: Sequence[tuple[int, int]], now_ns: Nanoseconds) -> int:
        return editing.retry(self._session, job, tasks, now_ns)

    # --- Exchanger --------------------------------------------------------------------------------

    def register(self, worker: WorkerInfo, now_ns: Nanoseconds) -> None:
        self._exchanging.register(worker, now_ns)

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
        return self._exchanging.exchange(worker, commits, want, now_ns, jobs, unfit, load, orders_seen)

    def expired(self, now_ns: Nanoseconds, live_boot_id: str = "") -> tuple[Lease, ...]:
        return membership.expired(self._session, now_ns, live_boot_id, self._host, self._proc)

    def leave(self, worker: str, now_ns: Nanoseconds) -> None:
        self._exchanging.leave(worker, now_ns)

    # --- Reader -----------------------------------------------------------------------------------

    def jobs(self) -> tuple[JobStatus, ...]:
        return reading.jobs(self._session)

    def spec(self, job: JobId) -> JobSpec:
        return reading.spec(self._session, job)

    def status(self, job: JobId) -> JobStatus:
        return reading.status(self._session, job)

    def waiting(self, job: JobId) -> tuple[Offer, ...]:
        return reading.waiting(self._session, job)

    def tasks(
        self,
        job: JobId,
        *,
        states: Sequence[TaskState] = (),
        ids: Sequence[tuple[int, int]] = (),
        limit: int | None = None,
    ) -> Iterator[TaskView]:
        return reading.tasks(self._session, job, states, ids, limit)

    def attempts(
        self, job: JobId, *, ids: Sequence[tuple[int, int]] = (), since_row: int = 0
    ) -> Iterator[tuple[int, TaskId, Attempt]]:
        return reading.attempts(self._session, job, ids, since_row)

    # --- History ----------------------------------------------------------------------------------

    def remember_peaks(self, peaks: Sequence[PastPeak]) -> None:
        history.remember_peaks(self._session, peaks)

    def recall_peaks(self) -> tuple[PastPeak, ...]:
        return history.recall_peaks(self._session)

    # --- Roster and bell --------------------------------------------------------------------------

    def workers(self) -> tuple[WorkerStatus, ...]:
        return membership.workers(self._session)

    def order(self, worker: str, orders: WorkerOrders) -> WorkerOrders:
        return membership.order(self._session, worker, orders)

    def assembling(self) -> Seat | None:
        return gangs.assembling(self._session)

    def held(self, most: int) -> tuple[HeldTask, ...]:
        return holding.held(self._session, most)

    def bell(self, worker: str) -> RedisBell:
        """Rings when there may be something for this worker. Close it before the store."""
        return RedisBell(self._session.another_connection(), f"{self._session.prefix}wake:{worker}")

    def board(self) -> RedisBoard:
        """On which the members of a gang talk. Close it yourself."""
        return RedisBoard(self._client_factory, self.queue)

    # --- Editor -----------------------------------------------------------------------------------

    def extend(self, job: JobId, tasks: Iterable[TaskSpec], now_ns: Nanoseconds, *, first: TaskId | None = None) -> int:
        return extending.extend(self._session, job, tasks, now_ns, first)

    def close_job(self, job: JobId, now_ns: Nanoseconds) -> None:
        extending.close_job(self._session, job, now_ns)

    def edit(
        self, job: JobId, changes: Sequence[tuple[TaskId, Changes]], now_ns: Nanoseconds, *, rerun: bool = False
    ) -> tuple[TaskId, ...]:
        return changing.edit(self._session, job, changes, now_ns, rerun=rerun)

    # --- Retention --------------------------------------------------------------------------------

    def with_history(self) -> frozenset[JobId]:
        return retention.with_history(self._session)

    def forget_job(self, job: JobId, *, history: bool = False) -> Forgetting:
        return retention.forget_job(self._session, job, history=history)

    # --- Drainable --------------------------------------------------------------------------------

    def undrained(self, most: int) -> DrainBatch:
        return draining.undrained(self._session, most)

    def forget(self, batch: DrainBatch) -> None:
        draining.forget(self._session, batch)

    def note_ledger(self, place: LedgerPlace) -> None:
        """Remember where this queue is drained to, for `ledger_noted` on other machines."""
        ledger_place.note(self._session, place)

    def ledger_noted(self) -> LedgerPlace | None:
        """Where it was drained to last; None: nowhere so far."""
        return ledger_place.noted(self._session)

    def job_uid(self, job: JobId) -> str:
        """Under which the ledger knows it."""
        return draining.job_uid(self._session, job)

    def log(self, job: JobId, since_row: int = 0) -> Iterator[tuple[int, TaskId, Attempt, Kept | None]]:
        """Like `attempts`, with what is kept of each."""
        return draining.log(self._session, job, since_row)

    def kept(self, job: JobId, ids: Sequence[tuple[int, int]] = ()) -> Iterator[tuple[int, int, Kept]]:
        """(task, number of the attempt, what is kept of its output and result), of attempts that were not drained yet."""
        return draining.kept(self._session, job, ids)
