"""A worker that was told of a ledger drains into it beside its work, so that all gets there without a controller.

In a thread of its own: a slow ledger must never keep a worker from watching its tasks. Any number of workers may do so at once.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable

from ergates.clock import Clock
from ergates.drivers.ledgers.drain import Drainer
from ergates.errors import ErgatesError
from ergates.taskqueue.ledger import Drainable, Ledger

PAUSE_S_MIN, PAUSE_S_MAX = 2.0, 6.0
"""Spread, so that of many workers mostly one finds something to do."""


class LedgerThread:
    """Drains until it is closed; what it cannot move it leaves to others and to later.

    Args:
        store: the cluster's; every thread has a connection of its own in it.
        open_ledger: called in the thread: a connection belongs to the thread that made it.
        worker_id: seeds the spread of the pauses.
        say: where failures go.
    """

    def __init__(
        self,
        store: Drainable,
        open_ledger: Callable[[], Ledger],
        clock: Clock,
        worker_id: str,
        say: Callable[[str], None],
    ) -> None:
        self._store, self._open, self._clock, self._say = store, open_ledger, clock, say
        self._random = random.Random(f"{worker_id}/draining")
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._work, name="ergates-ledger", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """One more batch, so that the last worker to go leaves little behind; then the end."""
        self._closed.set()
        self._thread.join()

    def _work(self) -> None:
        try:
            drainer = Drainer(self._store, self._open(), self._clock, self._say)
            while True:
                last = self._closed.wait(self._random.uniform(PAUSE_S_MIN, PAUSE_S_MAX))
                while not last and drainer.step():
                    last = self._closed.is_set()
                if last:
                    drainer.step(at_once=True)
                    return
        except ErgatesError as error:  # a wrong password, a newer schema: a person has to look
            self._say(f"drain: given up: {error}")
