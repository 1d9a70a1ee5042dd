"""Waiting for workers to appear in the store or to leave it: one look at the roster serves all hosts that wait.

The roster has no bell for people who look on, so it is read twice a second, and only while somebody waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from ergates.cluster.node import WorkerOrders, WorkerStatus
from ergates.errors import StoreError
from ergates.taskqueue.store import Roster

POLL_S = 0.5
PRESENT = ("live", "silent")
"""Standings of workers that may still hold tasks."""


class RosterWatch:
    """Several may wait at once; the store is called by one thread only. Close it before the store.

    `trouble` is why the roster could not be read the last time, empty when it could.
    """

    def __init__(self, roster: Roster) -> None:
        self._roster = roster
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="roster")
        self._reading: asyncio.Future[tuple[WorkerStatus, ...]] | None = None
        self.trouble = ""

    def close(self) -> None:
        """Wait for a call that is under way."""
        self._thread.shutdown(cancel_futures=True)

    async def look(self) -> tuple[WorkerStatus, ...]:
        """The workers now. Who comes while somebody reads shares that reading. Raises StoreError."""
        if self._reading is None or self._reading.done():
            loop = asyncio.get_running_loop()
            self._reading = loop.run_in_executor(self._thread, self._roster.workers)
        return await asyncio.shield(self._reading)

    async def until(self, holds: Callable[[tuple[WorkerStatus, ...]], bool]) -> None:
        """Return when `holds` is true of the workers. A store that is away for a while is waited for."""
        while True:
            try:
                workers = await self.look()
                self.trouble = ""
                if holds(workers):
                    return
            except StoreError as error:
                self.trouble = str(error).splitlines()[0]
            await asyncio.sleep(POLL_S)

    async def order(self, worker: str, orders: WorkerOrders) -> None:
        """As `Roster.order`."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._thread, self._roster.order, worker, orders)
