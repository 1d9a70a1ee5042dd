"""Which runs have ended for good, as the store tells it: read on from the attempt that was seen last.

A success ends a run. Any other end may be followed by another try: then the store is asked what became of the task. Attempts that
somebody moved into a ledger meanwhile are not missed: now and then all tasks that have ended are looked at.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from ergates.cluster.attempt import Attempt
from ergates.cluster.task import JobId
from ergates.cluster.task_state import TERMINAL, TaskState
from ergates.taskqueue.store import Reader, TaskView


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedRun:
    """A run that is not tried again.

    Args:
        number: of the run and its task.
        state: done, failed or cancelled.
        attempts: all that are known, in their order; the last one is how it ended.
        tries: how often it was tried.
        reason: the store's, of a failure.
    """

    number: int
    state: TaskState
    attempts: tuple[Attempt, ...]
    tries: int
    reason: str = ""


@dataclass(slots=True)
class Watch:
    """Args: the store, and the job whose tasks are the runs."""

    store: Reader
    job: JobId
    _row: int = 0
    _known: dict[int, list[Attempt]] = field(default_factory=dict)

    def ended(self, open_runs: Collection[int], *, all_of_them: bool = False) -> list[EndedRun]:
        """Of these runs, those that have ended since the last look.

        Args:
            open_runs: numbers of the runs that were not told before.
            all_of_them: look at every task, too.

        Raises:
            StoreUnavailableError: the store cannot be reached now; nothing is forgotten.
        """
        fresh: dict[int, Attempt] = {}
        row = self._row
        for number, task, attempt in self.store.attempts(self.job, since_row=self._row):
            row = number
            known = self._known.setdefault(task, [])
            if all(attempt.number != before.number or attempt.outcome != before.outcome for before in known):
                known.append(attempt)
            fresh[task] = attempt
        asked = [task for task in fresh if task in open_runs]
        found = self._terminal(sorted(open_runs) if all_of_them else asked)
        self._row = row
        return [self._ended_run(view) for view in found]

    def _terminal(self, tasks: Sequence[int]) -> list[TaskView]:
        if not tasks:
            return []
        ids = [(task, task) for task in tasks]
        return list(self.store.tasks(self.job, states=tuple(sorted(TERMINAL)), ids=ids))

    def _ended_run(self, view: TaskView) -> EndedRun:
        attempts = tuple(sorted(self._known.get(view.task, ()), key=lambda attempt: attempt.number))
        return EndedRun(number=view.task, state=view.state, attempts=attempts, tries=view.attempts, reason=view.reason)
