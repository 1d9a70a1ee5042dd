"""Lets finished jobs leave the store some time after their end, once all their attempts are in the ledger."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Protocol

from ergates.clock import Clock
from ergates.errors import StoreFullError, StoreUnavailableError
from ergates.taskqueue.retention import Forgetting, Retention, due
from ergates.taskqueue.store import Reader
from ergates.units import SECOND_NS, Nanoseconds

LOOK_NS = 60 * SECOND_NS
AFTER_TROUBLE_NS = 15 * SECOND_NS
AT_ONCE = 100
"""Jobs of one step; the others come with the next one, after the drain had its turn."""
NAMED = 5


class Store(Reader, Retention, Protocol):
    """The sides of the store that forgetting uses."""


class Forgetter:
    """Looks every minute, or as often as jobs may go if that is more often.

    Args:
        store: the cluster's.
        after_ns: how long a job must have been finished.
        clock: for when to look; ages are judged by it, too.
        say: told which jobs went.
    """

    def __init__(self, store: Store, after_ns: Nanoseconds, clock: Clock, say: Callable[[str], None]) -> None:
        self._store, self._after_ns, self._clock, self._say = store, after_ns, clock, say
        self._pause_ns = max(SECOND_NS, min(LOOK_NS, after_ns))
        self.due_ns = 0
        self.forgotten = 0

    def step(self) -> None:
        """Look if it is due. An absent store is looked at again later; the other parts of the controller tell that it is away."""
        now = self._clock.now_ns()
        if now < self.due_ns:
            return
        self.due_ns = now + self._pause_ns
        try:
            if self.forget(AT_ONCE) == AT_ONCE:
                self.due_ns = now
        except (StoreUnavailableError, StoreFullError):
            self.due_ns = self._clock.now_ns() + AFTER_TROUBLE_NS

    def forget(self, most: int | None = None) -> int:
        """Forget what may go now, at most so many jobs; returns how many.

        Raises:
            StoreError: the store is away. What is left goes another time.
        """
        chosen = due(self._store.jobs(), self._store.with_history(), self._clock.now_ns(), self._after_ns)
        gone = [job for job in islice(chosen, most) if self._store.forget_job(job) is Forgetting.FORGOTTEN]
        self.forgotten += len(gone)
        if gone:
            more = f" and {len(gone) - NAMED} more" if len(gone) > NAMED else ""
            self._say(f"forget: {', '.join(gone[:NAMED])}{more}: finished, and all attempts drained")
        return len(gone)
