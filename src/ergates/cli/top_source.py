"""Reads what `erg top` shows: counters of jobs, workers, leases. One object, used by one thread at a time."""

from __future__ import annotations

from pathlib import Path

from ergates.cli.joblog import shown_command
from ergates.cli.jobs import shown_phase
from ergates.cli.opened import AnyStore, work_phase
from ergates.cli.top_state import HeldLook, Look, of_interest
from ergates.clock import SystemClock
from ergates.cluster.node import WorkerLoad, WorkerOrders, WorkerStatus
from ergates.drivers import machine
from ergates.drivers.stores.sqlite import SqliteStore
from ergates.drivers.stores.sqlite_report import SqliteReport
from ergates.taskqueue.store import HeldTask
from ergates.units import SECOND_NS, Nanoseconds

TASKS_SHOWN = 12
JOBS_SHOWN = 200
LEASES_A_SECOND = 2000
"""Where more are out, they are looked at less often than every second."""
FORGET_AFTER_NS = Nanoseconds(60 * SECOND_NS)


class TopSource:
    """Looks at one store.

    Args:
        store: the embedded one or a cluster's.
        folder: the state directory.
        name: of the store, for people.
    """

    def __init__(self, store: AnyStore, folder: Path, name: str) -> None:
        self.store = store
        self._folder, self._name = folder, name
        self._clock = SystemClock()
        self._held: tuple[HeldTask, ...] = ()
        self._next_held_ns = 0
        self._commands: dict[tuple[str, int, int], str] = {}

    def look(self) -> Look:
        """Raises StoreError when it cannot be read."""
        now_ns = self._clock.now_ns()
        work = work_phase(self.store, self._folder)
        statuses = self.store.jobs()[:JOBS_SHOWN]
        workers = of_interest(self._workers(), FORGET_AFTER_NS)
        leases = sum(status.counts.get("leased", 0) for status in statuses)
        if now_ns >= self._next_held_ns:
            self._held = self.store.held(TASKS_SHOWN) if leases else ()
            self._next_held_ns = now_ns + leases * SECOND_NS // LEASES_A_SECOND
        hosts = {worker.info.id: worker.info.host for worker in workers}
        return Look(
            at_ns=now_ns,
            store=self._name,
            jobs=tuple((status, shown_phase(status, work)) for status in statuses),
            workers=workers,
            held=tuple(self._held_look(held, hosts) for held in self._held),
            machine=self._machine() if isinstance(self.store, SqliteStore) else None,
        )

    def _workers(self) -> tuple[WorkerStatus, ...]:
        if not isinstance(self.store, SqliteStore):
            return self.store.workers()
        now_ns = self._clock.now_ns()
        return tuple(
            WorkerStatus(
                info=view.info,
                standing=view.standing,
                beat_age_ns=Nanoseconds(max(0, now_ns - view.beat_ns)),
                leases=view.leases,
                orders=WorkerOrders(),
                load=WorkerLoad(),
            )
            for view in SqliteReport(self.store.connection()).workers()
        )

    def _machine(self) -> tuple[int, int]:
        total = machine.memory_total_bytes()
        return total - machine.memory_available_bytes(), total

    def _held_look(self, held: HeldTask, hosts: dict[str, str]) -> HeldLook:
        key = str(held.job), int(held.task), held.fence
        if key not in self._commands:
            if len(self._commands) > 50 * TASKS_SHOWN:
                self._commands.clear()
            views = self.store.tasks(held.job, ids=((held.task, held.task),))
            self._commands[key] = next((shown_command(view.spec) for view in views), "")
        return HeldLook(
            job=key[0],
            task=key[1],
            fence=held.fence,
            worker=held.worker,
            host=hosts.get(held.worker, ""),
            command=self._commands[key],
            since_ns=held.since_ns,
        )
