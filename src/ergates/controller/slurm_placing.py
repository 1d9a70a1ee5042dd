"""Keeps allocations of Slurm sized to the queue: look at queue, workers and Slurm; decide; submit or take back.

What was asked for is known from Slurm itself and from a word written down before each submission (drivers/placers/
slurm_pool.py), so it may be killed at any moment and started again. It acts only on a complete look: when Slurm or the store
does not answer, nothing is done until both do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, assert_never

from ergates.clock import Clock
from ergates.cluster.node import NodeCapacity, WorkerStatus
from ergates.controller.slurm_waiting import WaitingReader, waiting_classes
from ergates.drivers.placers.slurm import Slurm
from ergates.drivers.placers.slurm_array import Shape
from ergates.drivers.placers.slurm_pool import PoolFolder
from ergates.drivers.placers.slurm_records import PLACED_BY, SlurmAllocation
from ergates.drivers.placers.slurm_words import SlurmError
from ergates.errors import StoreError
from ergates.taskqueue.placement import (
    Action,
    Allocation,
    CancelPending,
    Decision,
    Ended,
    GiveUp,
    PlacementLimits,
    PlacementState,
    Refused,
    Seen,
    Submit,
    after_submission,
    decide,
)
from ergates.taskqueue.store import Roster
from ergates.units import Nanoseconds

Say = Callable[[str], None]


class WatchedStore(WaitingReader, Roster, Protocol):
    """What is asked of the store."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """What one submission is made of: the shape of an allocation, its script, what a worker in it would have."""

    shape: Shape
    script: str
    capacity: NodeCapacity


class SlurmPlacing:
    """The shell around taskqueue/placement.py.

    Args:
        slurm: the cluster.
        folder: of the pool; `hold` is its lock, which sbatch holds, too.
        store: whose queue is watched.
        asking: what to submit.
        limits: see PlacementLimits.
        clock: for everything.
        say: told in words what is done, and why nothing is.
    """

    def __init__(
        self, slurm: Slurm, folder: PoolFolder, hold: int, store: WatchedStore, asking: Asking, limits: PlacementLimits,
        clock: Clock, say: Say,
    ) -> None:  # fmt: skip
        self._slurm, self._folder, self._hold, self._store = slurm, folder, hold, store
        self._asking, self._limits, self._clock, self._say = asking, limits, clock, say
        self.state = PlacementState()
        self._joined: dict[str, Nanoseconds] = {}
        self._running: frozenset[str] = frozenset()
        self._judged: frozenset[str] | None = None
        self._said: tuple[str, ...] = ()

    def look(self) -> None:
        """One look, and what follows from it."""
        try:
            decision = self.decide()
        except (SlurmError, StoreError) as error:
            self._say_once((f"cannot look: {str(error).splitlines()[0]}",))
            return
        self.state = decision.state
        self._say_once(decision.notes)
        for action in decision.actions:
            self._perform(action)

    def decide(self) -> Decision:
        """One look, and what would follow from it.

        Raises:
            SlurmError, StoreError: one of them does not answer.
        """
        rows = self._slurm.allocations(self._folder.pool)
        workers = self._store.workers()
        waiting = waiting_classes(self._store)
        now_ns = self._clock.now_ns()
        intent = self._folder.open_intent(rows, now_ns)
        ours = self._folder.ours(rows)
        self._note_joined(workers, ours, now_ns)
        seen = Seen(
            waiting=waiting,
            allocations=tuple(
                Allocation(id=row.id, running=row.running, joined_ns=self._joined.get(row.id))
                for row in ours
                if not row.over
            ),
            unconfirmed=0 if intent is None else intent.count,
            live=tuple(worker.info.capacity for worker in workers if takes_tasks(worker)),
            capacity=self._capacity(workers),
            ended=self._ended(ours),
        )
        stuck = tuple(f"{row.id} waits in vain: {row.never_starts}" for row in ours if row.never_starts)
        decision = decide(self._limits, self.state, seen, now_ns)
        return replace(decision, notes=(*decision.notes, *stuck))

    # --- doing it ------------------------------------------------------------------------------------

    def _perform(self, action: Action) -> None:
        match action:
            case Submit(count=count):
                self._submit(count)
            case CancelPending(ids=ids):
                self._say(f"takes back {_count(len(ids), 'waiting allocation')}: {', '.join(ids)}")
                try:
                    self._slurm.cancel(ids, pending_only=True)
                except SlurmError as error:
                    self._say(error.reason)
            case GiveUp(reason=reason):
                self._say(f"gives up: {reason}")
            case _:
                assert_never(action)

    def _submit(self, count: int) -> None:
        folder, asking = self._folder, self._asking
        token = folder.intend(count, self._clock.now_ns())
        refused = None
        try:
            job = self._slurm.submit(
                folder.pool, asking.shape, count, token, asking.script, str(folder.logs()), hold=self._hold
            )
            folder.settle(job)
            self._say(f"asked Slurm for {_count(count, 'worker')}: job {job}")
        except SlurmError as error:
            self._say(error.reason)
            if error.outcome_unknown:
                return  # it stays open until squeue shows it, or does not for a while
            folder.settle()
            refused = Refused(reason=error.reason, for_good=error.for_good)
        self.state, actions = after_submission(self._limits, self.state, refused, self._clock.now_ns())
        for action in actions:
            self._perform(action)

    def _say_once(self, notes: tuple[str, ...]) -> None:
        for note in notes:
            if note not in self._said:
                self._say(note)
        self._said = notes

    # --- what is seen --------------------------------------------------------------------------------

    def _note_joined(
        self, workers: Sequence[WorkerStatus], ours: Sequence[SlurmAllocation], now_ns: Nanoseconds
    ) -> None:
        """Kept as long as the allocation or its worker is to be seen: the roster forgets workers that left."""
        here = {name for worker in workers if (name := allocation_of(worker))}
        known = {name: at_ns for name, at_ns in self._joined.items() if name in here or name in self._running}
        known |= {row.id: self._joined[row.id] for row in ours if row.id in self._joined}
        self._joined = dict.fromkeys(sorted(here), now_ns) | known

    def _ended(self, ours: Sequence[SlurmAllocation]) -> tuple[Ended, ...]:
        """Those that ran and are over since the last look; the first look only learns what is over already."""
        over = frozenset(row.id for row in ours if row.over)
        known = frozenset(row.id for row in ours)
        fresh = frozenset() if self._judged is None else over - self._judged
        ended = [
            Ended(id=row.id, joined_ns=self._joined.get(row.id), words=row.words)
            for row in ours
            if row.id in fresh and row.started_s and row.state != "CANCELLED"
        ]
        ended += [
            Ended(id=gone, joined_ns=self._joined.get(gone), words=f"{gone} is gone; Slurm does not tell how it ended")
            for gone in sorted(self._running - known)
        ]
        self._judged, self._running = over, frozenset(row.id for row in ours if row.running)
        return tuple(ended)

    def _capacity(self, workers: Sequence[WorkerStatus]) -> NodeCapacity:
        """Of the smallest worker that this pool has, for that is what the next one may be; else what was told before."""
        own = [worker.info.capacity for worker in workers if allocation_of(worker) in self._running]
        if not own:
            return self._asking.capacity
        least = min(own, key=lambda one: (one.cpus_milli, one.memory_bytes))
        return NodeCapacity(
            cpus_milli=least.cpus_milli, memory_bytes=min(one.memory_bytes for one in own), resources=least.resources,
            labels={name: value for name, value in least.labels.items() if name != "node"},
        )  # fmt: skip


def allocation_of(worker: WorkerStatus) -> str:
    """The allocation a worker runs in, `JOB_TASK`; empty when Slurm did not place it."""
    placed_by = worker.info.placed_by
    return placed_by.removeprefix(PLACED_BY) if placed_by.startswith(PLACED_BY) else ""


def takes_tasks(worker: WorkerStatus) -> bool:
    """Whether it starts new tasks now."""
    return worker.standing == "live" and not worker.orders.drain


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
