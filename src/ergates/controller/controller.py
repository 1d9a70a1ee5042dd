"""The controller's loop: drain, reap, forget, look, and wait until one of them is due again.

It keeps nothing that matters. Started anew, killed at any moment, or running twice it does the same work or finds it done:
every step can be repeated, and whatever it does a worker can do as well.
"""

from __future__ import annotations

from threading import Event

from ergates.clock import Clock
from ergates.controller.forget import Forgetter
from ergates.controller.reap import Reaper
from ergates.controller.watch import Watch
from ergates.drivers.ledgers.drain import Drainer


class Controller:
    """Joins the parts. Without a ledger nothing is drained, without metrics nothing looked at, without a forgetter jobs stay."""

    def __init__(
        self,
        *,
        drainer: Drainer | None,
        reaper: Reaper,
        watch: Watch | None,
        clock: Clock,
        forgetter: Forgetter | None = None,
    ) -> None:
        parts = (drainer, reaper, forgetter, watch)  # drained first: that is what makes room in a full store
        self._drainer, self._reaper, self._forgetter, self._clock = drainer, reaper, forgetter, clock
        self._parts = tuple(part for part in parts if part is not None)

    def run(self, stop: Event) -> None:
        """Until `stop` is set; the step at hand is finished first.

        Raises:
            StoreError: something that waiting does not mend.
        """
        while not stop.is_set():
            for part in self._parts:
                part.step()
                if stop.is_set():
                    return
            due_ns = min(part.due_ns for part in self._parts)
            stop.wait(max(0.0, (due_ns - self._clock.now_ns()) / 1e9))

    def once(self) -> tuple[int, int, int]:
        """Reap, drain and forget what there is now; returns (rows drained, leases reaped, jobs forgotten).

        Raises:
            StoreError: store or ledger is away, full, or needs a person.
        """
        reaped = self._reaper.reap()
        drained = 0 if self._drainer is None else self._drainer.drain_all()
        return drained, reaped, 0 if self._forgetter is None else self._forgetter.forget()
