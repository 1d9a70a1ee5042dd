"""An idle worker looks whether an attempt elsewhere deserves a second run here, and asks the store for it (docs/workers.md).

It looks only while it has room, nothing is on offer and tasks are open of a job with `copies` that it has met; seldom, and the
more workers there are the more seldom.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from ergates.clock import Clock
from ergates.cluster.job import JobSpec
from ergates.cluster.node import WorkerStatus
from ergates.cluster.task import JobId, Requirement, TaskId
from ergates.taskqueue.copying import LOOK_EVERY_NS, choose_copy, look_pause_ns
from ergates.taskqueue.store import History, Reader, Roster, Want
from ergates.taskqueue.stragglers import CopyRecord, Duplicate


class CopyStore(Reader, History, Roster, Protocol):
    """The sides of a cluster's store that are asked."""


@dataclass(frozen=True, slots=True)
class Looked:
    """What one look came to: how many workers live, and the attempt to copy with what it needs."""

    live: int
    chosen: Duplicate | None = None
    requirement: Requirement | None = None


class Copying:
    """Args:
    store: of the cluster.
    host: ours.
    worker_id: ours.
    has_room: whether this worker could start one such task now; called in the worker's own thread.
    say: told of each copy that is asked for: its key and why.
    """

    def __init__(
        self,
        store: CopyStore,
        host: str,
        worker_id: str,
        clock: Clock,
        has_room: Callable[[Requirement], bool],
        say: Callable[[Duplicate], None],
    ) -> None:
        self._store, self._host, self._clock = store, host, clock
        self._has_room, self._say = has_room, say
        self._random = random.Random(f"{worker_id}/copies")
        self._next_ns = clock.now_ns() + LOOK_EVERY_NS
        self.record = CopyRecord()
        self.wants: tuple[Want, ...] = ()

    def due(self, now_ns: int) -> bool:
        """Whether to look now; then the caller does."""
        if now_ns < self._next_ns:
            return False
        self._next_ns = now_ns + LOOK_EVERY_NS
        return True

    @property
    def next_ns(self) -> int:
        """When to look again."""
        return self._next_ns

    def ask(self) -> Looked:
        """In the store's thread."""
        workers: tuple[WorkerStatus, ...] = self._store.workers()
        live = sum(worker.standing == "live" for worker in workers)
        if not any(worker.load.longest for worker in workers if worker.info.host != self._host):
            return Looked(live)
        chosen = choose_copy(workers, self._store.recall_peaks(), self._host, self.record, self._clock.now_ns())
        if chosen is None:
            return Looked(live)
        task = TaskId(chosen.key[1])
        (view,) = self._store.tasks(JobId(chosen.key[0]), ids=[(task, task)])
        return Looked(live, chosen, view.spec.requirement)

    def heard(self, looked: Looked) -> None:
        """What `ask` returned."""
        self._next_ns = self._clock.now_ns() + int(look_pause_ns(looked.live) * self._random.uniform(0.8, 1.2))
        chosen = looked.chosen
        if chosen is None or looked.requirement is None or not self._has_room(looked.requirement):
            return
        job, task, fence = chosen.key
        self.wants = (Want(job=JobId(job), class_id=0, priority=0, count=0, copy_of=(TaskId(task), fence)),)
        self._say(chosen)

    def take_wants(self) -> tuple[Want, ...]:
        """What to ask for with the next exchange, once."""
        wants, self.wants = self.wants, ()
        return wants

    def ended(self, *, won: bool) -> None:
        """A copy that ran here was first, or was not."""
        record = self.record
        self.record = replace(record, won=record.won + 1) if won else replace(record, lost=record.lost + 1)


def any_copies(specs: dict[JobId, JobSpec]) -> bool:
    """Whether any of these jobs lets its tasks run twice."""
    return any(spec.copies for spec in specs.values())
