"""Between store and ledger: one batch a step, and what was seen so far, for metrics and the log of whoever drains."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ergates.clock import Clock
from ergates.errors import StoreFullError, StoreUnavailableError
from ergates.taskqueue.draining import DrainPace, move, output_bytes
from ergates.taskqueue.ledger import Drainable, Ledger, LedgerRow
from ergates.units import SECOND_NS

SAY_AGAIN_NS = 600 * SECOND_NS
"""A failure that goes on is told once, and again after this."""


@dataclass(slots=True, kw_only=True)
class DrainSeen:
    """What was seen since the start.

    Args:
        rows: moved into the ledger; with two controllers both may count the same rows.
        failures: batches that could not be moved, to be tried again.
        oldest_ns: when the oldest attempt ended that was still in the store at the last look; None: there was none.
        trouble: why the last try failed, empty when it did not.
    """

    rows: int = 0
    failures: int = 0
    oldest_ns: int | None = None
    trouble: str = ""


class Drainer:
    """Peeks, writes, forgets. A failure is told and tried again later; anything but an absent or full server is raised."""

    def __init__(self, store: Drainable, ledger: Ledger, clock: Clock, say: Callable[[str], None]) -> None:
        self._store, self._ledger, self._clock, self._say = store, ledger, clock, say
        self._pace = DrainPace()
        self._told_ns = 0
        self.seen = DrainSeen()

    @property
    def due_ns(self) -> int:
        """When the next step is due."""
        return self._pace.due_ns

    def step(self, *, at_once: bool = False) -> int:
        """Move one batch if it is due (or `at_once`) and both sides are there; returns how many rows were moved.

        Raises:
            StoreError: the ledger needs a person (a wrong password, a newer schema).
        """
        if not at_once and self._clock.now_ns() < self._pace.due_ns:
            return 0
        try:
            return len(self._move())
        except (StoreUnavailableError, StoreFullError) as error:
            now = self._clock.now_ns()
            self._pace = self._pace.after_failure(now)
            self.seen.failures += 1
            if str(error) != self.seen.trouble or now >= self._told_ns + SAY_AGAIN_NS:
                self.seen.trouble, self._told_ns = str(error), now
                self._say(f"drain: waiting, nothing is lost: {error}")
            return 0

    def drain_all(self) -> int:
        """Move all there was when this was called, and a little more; returns how many rows.

        Raises:
            StoreError: either side is away, full, or needs a person. What was moved so far stays moved.
        """
        begun_ns, rows = self._clock.now_ns(), 0
        while batch := self._move():
            rows += len(batch)
            if min(row.attempt.ended_ns for row in batch) > begun_ns:  # others add faster than we can say "all"
                break
        return rows

    def _move(self) -> tuple[LedgerRow, ...]:
        batch = self._store.undrained(self._pace.most)
        rows = batch.rows
        self.seen.oldest_ns = min((row.attempt.ended_ns for row in rows), default=None)
        self.seen.rows += move(batch, self._store, self._ledger)
        if self.seen.trouble:
            self._say("drain: goes on")
            self.seen.trouble = ""
        now = self._clock.now_ns()
        self._pace = self._pace.after(len(rows), output_bytes(batch), now)
        if self._pace.due_ns > now:  # that was all
            self.seen.oldest_ns = None
        return rows
