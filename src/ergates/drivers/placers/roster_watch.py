"""Waiting for workers to appear in the store or to leave it: one look at the roster serves all hosts that wait.

The roster has no bell for people who look on, so it is read twice a second, and only while somebody waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from ergates.cluster.node import WorkerStatus
from ergates.errors import StoreError
from ergates.taskqueue.store import Roster

POLL_S = 0.5
PRESENT = ("live", "silent")
"""Standings of workers that may still hold tasks."""


class RosterWatch:
    """Several may wait at once. `trouble` is why the roster could not be read the last time, empty when it could."""

    def __init__(self, roster: Roster) -> None:
        self.roster = roster
        self._reading = asyncio.Lock()
        self._seen: tuple[WorkerStatus, ...] = ()
        self._looks = 0
        self.trouble = ""

    async def look(self) -> tuple[WorkerStatus, ...]:
        """The workers now. Who comes while somebody reads waits for a reading that began later, shared by all of them."""
        begun = self._looks
        async with self._reading:
            if self._looks == begun:
                self._seen = await asyncio.to_thread(self.roster.workers)
                self._looks += 1
            return self._seen

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

    async def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call the store without holding the loop up; never two calls at the same time."""
        async with self._reading:
            return await asyncio.to_thread(function, *arguments)
