"""Attempts that were moved into a ledger which nobody named here: say so, instead of "nothing ran"."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ergates.cli.wording import plural
from ergates.cluster.task_state import TERMINAL
from ergates.drivers.stores.sqlite import SqliteStore

if TYPE_CHECKING:
    from ergates.cli.opened import AnyStore
    from ergates.cluster.attempt import Attempt
    from ergates.taskqueue.store import TaskView


class Missing:
    """Counts settled tasks that were tried and of which no attempt was found."""

    def __init__(self, store: AnyStore) -> None:
        self._counting = not isinstance(store, SqliteStore)  # that one is its own ledger
        self.tasks = 0

    def looked(self, view: TaskView, found: Attempt | None) -> None:
        """Told of each task that is shown."""
        if self._counting and found is None and view.attempts and view.state in TERMINAL:
            self.tasks += 1

    def tell(self) -> bool:
        """One line on standard error, and True, when something is missing."""
        if self.tasks:
            tell_drained(f"the records of {plural(self.tasks, 'task')}")
        return self.tasks > 0


def tell_drained(what: str) -> None:
    """On standard error, so that tables stay tables."""
    click.echo(
        f"erg: the store no longer holds {what}: they were moved into the ledger"
        "\n  hint: name that ledger in ERGATES_LEDGER, as for `erg controller` or the workers",
        err=True,
    )
