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
    from ergates.drivers.stores.redis.ledger_place import LedgerPlace
    from ergates.taskqueue.store import TaskView


class Missing:
    """Counts settled tasks that were tried and of which no attempt was found."""

    def __init__(self, store: AnyStore) -> None:
        self._store = None if isinstance(store, SqliteStore) else store  # that one is its own ledger
        self._place: LedgerPlace | None = None
        self.tasks = 0

    def looked(self, view: TaskView, found: Attempt | None) -> None:
        """Told of each task that is shown."""
        if self._store is not None and found is None and view.attempts and view.state in TERMINAL:
            if not self.tasks:
                self._place = self._store.ledger_noted()
            self.tasks += 1

    def tell(self) -> bool:
        """One line on standard error, and True, when something is missing."""
        if self.tasks:
            tell_drained(f"the records of {plural(self.tasks, 'task')}", self._place)
        return self.tasks > 0


def tell_drained(what: str, place: LedgerPlace | None) -> None:
    """On standard error, so that tables stay tables.

    Args:
        what: is missing.
        place: where the store was drained to, if it knows.
    """
    there = "" if place is None else f" {place}"
    name = "that ledger" if place is None else "it"
    click.echo(
        f"erg: the store no longer holds {what}: they were moved into the ledger{there}"
        f"\n  hint: name {name} in ERGATES_LEDGER, as for `erg controller` or the workers",
        err=True,
    )
