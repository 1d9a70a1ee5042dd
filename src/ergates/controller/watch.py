"""What the controller knows of the cluster: looked up by itself every few seconds, so that a scrape costs the store nothing.

Everything here comes from counters and from the list of workers; no task and no attempt is read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from ergates.clock import Clock
from ergates.cluster.job import JobStatus
from ergates.cluster.node import WorkerStatus
from ergates.errors import StoreError
from ergates.taskqueue.store import Reader, Roster
from ergates.units import SECOND_NS

LOOK_NS = 5 * SECOND_NS


class Store(Reader, Roster, Protocol):
    """The sides of the store that are looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """The cluster at one moment. `memory` is (used, limit) bytes of the store's server; a limit of 0 is none."""

    at_ns: int
    jobs: tuple[JobStatus, ...] = ()
    workers: tuple[WorkerStatus, ...] = ()
    memory: tuple[int, int] | None = None


class Watch:
    """Keeps the newest look. `last` may be read by any thread."""

    def __init__(self, store: Store, memory: Callable[[], tuple[int, int]] | None, clock: Clock) -> None:
        self._store, self._memory, self._clock = store, memory, clock
        self.due_ns = 0
        self.last: Look | None = None
        self.reached = False
        """Whether the last try to look succeeded."""

    def step(self) -> None:
        """Look again if it is due; an absent store leaves the last look as it was."""
        now = self._clock.now_ns()
        if now < self.due_ns:
            return
        self.due_ns = now + LOOK_NS
        try:
            self.last = Look(
                at_ns=now,
                jobs=self._store.jobs(),
                workers=self._store.workers(),
                memory=None if self._memory is None else self._memory(),
            )
            self.reached = True
        except StoreError:  # the other steps meet it, too, and tell; figures are never a reason to end
            self.reached = False
