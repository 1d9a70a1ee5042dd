"""Which calls of a job on a cluster are over: told by the store, and by the ledger where a controller drained them.

The store is looked at first: an attempt that leaves it in between was written into the ledger before, so that looking there
afterwards finds it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
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
        self._cancelled_told = 0
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
            _keep_last(seen, task, (attempt, kept))
        if self._ledger is not None:
            for found in self._ledger.attempts(self._uid(), since_row=drained_row):
                drained_row = found.row
                _keep_last(seen, found.task, (found.attempt, found.kept))
        seen = {task: end for task, end in seen.items() if task not in self._told}
        unsure = {task: end[0] for task, end in seen.items() if end[0].outcome is not Outcome.SUCCEEDED}
        back = unsure.keys() - self._settled(unsure)
        over = {task: end for task, end in seen.items() if task not in back} or self._cancelled()
        self._row, self._drained_row = row, drained_row
        self._told |= over.keys()
        return over

    def _uid(self) -> str:
        return self._store.job_uid(self._job)

    def _settled(self, tried: Mapping[TaskId, Attempt]) -> set[TaskId]:
        """Of tasks and tries that did not succeed, those for which this was the last one."""
        if not tried:
            return set()
        views = self._store.tasks(self._job, states=tuple(TERMINAL), ids=[(task, task) for task in tried])
        return {view.task for view in views if view.attempts == tried[view.task].number}

    def _cancelled(self) -> dict[TaskId, End]:
        """Single calls that somebody cancelled before they were tried: no attempt ever tells of them."""
        status = self._store.status(self._job)
        if status.phase == "cancelled" or status.counts.get("cancelled", 0) <= self._cancelled_told:
            return {}
        found: dict[TaskId, End] = {}
        for view in self._store.tasks(self._job, states=(TaskState.CANCELLED,)):
            if view.task not in self._told:
                found[view.task] = Attempt(number=view.attempts, outcome=Outcome.CANCELLED, reason=view.reason), None
        self._cancelled_told = status.counts["cancelled"]
        return found


def _keep_last(seen: dict[TaskId, End], task: TaskId, end: End) -> None:
    """Of several tries of a call the last one counts, wherever it was found."""
    if task not in seen or seen[task][0].number < end[0].number:
        seen[task] = end


def _named_ledger() -> OpenLedger | None:
    named = os.environ.get("ERGATES_LEDGER")
    if not named:
        return None
    from ergates.drivers.ledgers.address import ledger_address
    from ergates.drivers.ledgers.open_ledger import open_ledger

    return open_ledger(ledger_address(named, origin="ERGATES_LEDGER", in_argument=False))
