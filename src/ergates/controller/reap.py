"""Takes back the tasks of workers that went away: judged by the same rules as a worker does, and committed as lost."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from typing import Protocol

from ergates.clock import Clock
from ergates.cluster.node import NodeCapacity, WorkerInfo
from ergates.drivers import machine
from ergates.errors import StoreFullError, StoreUnavailableError
from ergates.taskqueue.reaping import lost_commits
from ergates.taskqueue.store import Exchanger, Lease, Reader
from ergates.units import SECOND_NS, Bytes, MilliCpus

REAP_NS = 10 * SECOND_NS
AFTER_TROUBLE_NS = 15 * SECOND_NS
"""Workers that could not reach the store either are not condemned before they could beat again (their pauses are 5 s at most)."""
LATE_NS = SECOND_NS
"""An answer that took so long says that the server, or we, stood still: beats of others may have waited behind our question."""
COMMITS_AT_ONCE = 256
CONTROLLER = "controller"
"""`placed_by` of a controller while it reaps: only members of a store may commit."""


class Store(Exchanger, Reader, Protocol):
    """The sides of the store that reaping uses."""


class Reaper:
    """Looks every REAP_NS. It is a member of the store only while it has something to commit, so nobody sees an idle one."""

    def __init__(self, store: Store, clock: Clock, member: WorkerInfo, say: Callable[[str], None]) -> None:
        self._store, self._clock, self._member, self._say = store, clock, member, say
        self._random = random.Random(f"{member.id}/reap")
        self.due_ns = 0
        self.reaped = 0

    def step(self) -> None:
        """Look if it is due. An absent or full store is looked at again later."""
        now = self._clock.now_ns()
        if now < self.due_ns:
            return
        self.due_ns = now + REAP_NS
        try:
            self.reap()
        except (StoreUnavailableError, StoreFullError) as error:
            self.due_ns = self._clock.now_ns() + AFTER_TROUBLE_NS
            self._say(f"reap: looking again in {AFTER_TROUBLE_NS // SECOND_NS} s: {error}")

    def reap(self) -> int:
        """Commit all that expired as lost; returns how many leases were ended. Whoever comes first wins.

        Raises:
            StoreError: the store is away or full. What was not committed is found again at the next look.
        """
        asked_ns = self._clock.now_ns()
        leases = self._store.expired(asked_ns, self._member.boot_id)
        if not leases:
            return 0
        now = self._clock.now_ns()
        if now - asked_ns > LATE_NS:
            self.due_ns = now + AFTER_TROUBLE_NS
            self._say(f"reap: looking again in {AFTER_TROUBLE_NS // SECOND_NS} s: the store's answer was late")
            return 0
        self._store.register(self._member, self._clock.now_ns())
        try:
            ended = sum(
                self._commit(leases[start : start + COMMITS_AT_ONCE])
                for start in range(0, len(leases), COMMITS_AT_ONCE)
            )
        finally:
            self._store.leave(self._member.id, self._clock.now_ns())
        self.reaped += ended
        self._say(f"reap: {ended} of {len(leases)} leases of absent workers ended as lost")
        return ended

    def _commit(self, leases: tuple[Lease, ...]) -> int:
        now = self._clock.now_ns()
        specs = {job: self._store.spec(job) for job in {lease.job for lease in leases}}
        commits = lost_commits(leases, lambda job: specs[job].retry_limits, now, self._random)
        answer = self._store.exchange(self._member.id, commits, [], now)
        return len(commits) - len(answer.refused)


def reaping_member(identity: str, clock: Clock) -> WorkerInfo:
    """How a controller shows up in the store while it reaps: a worker that has nothing to give."""
    return WorkerInfo(
        id=identity,
        host=machine.host_name(),
        pid=os.getpid(),
        pid_start_ticks=machine.pid_start_ticks(os.getpid()),
        boot_id=machine.boot_id(),
        capacity=NodeCapacity(cpus_milli=MilliCpus(0), memory_bytes=Bytes(0)),
        started_ns=clock.now_ns(),
        placed_by=CONTROLLER,
    )
