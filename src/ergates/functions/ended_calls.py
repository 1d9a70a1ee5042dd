"""Which calls of a job on a cluster are over: told by the store, and by the ledger where a controller drained them.

The store is looked at first: an attempt that leaves it in between was written into the ledger before, so that looking there
afterwards finds it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

from ergates.cluster.attempt import Attempt, Kept, Outcome
from ergates.cluster.task import JobId, TaskId
from ergates.cluster.task_state import TERMINAL, TaskState

if TYPE_CHECKING:
    from ergates.drivers.ledgers.open_ledger import OpenLedger
    from ergates.drivers.stores.redis.store import RedisStore

End = tuple[Attempt, Kept | None]


class EndedCalls:
    """Reads on from where it stopped.

    Args:
        store: of the job.
        job: whose calls.
    """

    def __init__(self, store: RedisStore, job: JobId) -> None:
        self._store, self._job = store, job
        self._row = self._drained_row = 0
        self._told: set[TaskId] = set()
        self._ledger = _named_ledger()

    def close(self) -> None:
        if self._ledger is not None:
            self._ledger.close()

    def new(self) -> dict[TaskId, End]:
        """Calls that are over for good and were not told before.

        Raises:
            StoreUnavailableError: store or ledger cannot be reached now; nothing is forgotten.
        """
        row, drained_row, seen = self._row, self._drained_row, dict[TaskId, End]()
        for number, task, attempt, kept in self._store.log(self._job, self._row):
            row = number
            seen[task] = attempt, kept
        if self._ledger is not None:
            for found in self._ledger.attempts(self._uid(), since_row=drained_row):
                drained_row = found.row
                seen.setdefault(found.task, (found.attempt, found.kept))
        unsure = [task for task, (attempt, _) in seen.items() if attempt.outcome is not Outcome.SUCCEEDED]
        back = set(unsure) - self._settled(unsure)
        self._row, self._drained_row = row, drained_row
        over = {task: end for task, end in seen.items() if task not in back and task not in self._told}
        self._told |= over.keys()
        return over

    def _uid(self) -> str:
        return self._store.job_uid(self._job)

    def _settled(self, tasks: Iterable[TaskId]) -> set[TaskId]:
        """Of tasks whose last try did not succeed, those that will not be tried again."""
        ranges = [(task, task) for task in tasks]
        if not ranges:
            return set()
        states: tuple[TaskState, ...] = tuple(TERMINAL)
        return {view.task for view in self._store.tasks(self._job, states=states, ids=ranges)}


def _named_ledger() -> OpenLedger | None:
    named = os.environ.get("ERGATES_LEDGER")
    if not named:
        return None
    from ergates.drivers.ledgers.address import ledger_address
    from ergates.drivers.ledgers.open_ledger import open_ledger

    return open_ledger(ledger_address(named, origin="ERGATES_LEDGER", in_argument=False))
