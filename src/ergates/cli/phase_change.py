"""Pausing and resuming one job, several, or all of them: checked first, then done."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol, TypeVar

import click

from ergates.cli.jobs import choose_job
from ergates.clock import SystemClock
from ergates.cluster.job import JobStatus
from ergates.errors import UsageError
from ergates.taskqueue.store import Reader, Submitter

F = TypeVar("F", bound=Callable[..., Any])
_VERBS = {"paused": "pause", "active": "resume"}


class Store(Reader, Submitter, Protocol):
    """The sides of the store that are needed."""


def all_option(text: str) -> Callable[[F], F]:
    """`--all`, with what it means here."""
    return click.option("--all", "everything", is_flag=True, help=text)


def change_phase(
    store: Store, words: Sequence[str], phase: Literal["paused", "active"], *, everything: bool
) -> list[JobStatus]:
    """Set the phase of the jobs that were named (of none the newest), or of all it makes a difference to.

    Raises:
        UsageError: no such job, or one that is finished or cancelled; nothing was changed.
    """
    if everything:
        if words:
            raise UsageError("--all means every job: name no others with it")
        before = "active" if phase == "paused" else "paused"
        found = [status for status in reversed(store.jobs()) if status.phase == before]
    else:
        found = [choose_job(store, word) for word in words] or [choose_job(store, None)]
        for status in found:
            if status.phase in ("finished", "cancelled"):
                raise UsageError(f"{status.id} is {status.phase}, there is nothing to {_VERBS[phase]}")
    for status in found:
        store.set_phase(status.id, phase, SystemClock().now_ns())
    return found


def print_changed(changed: Sequence[JobStatus], phase: str, *, one: bool) -> None:
    """An object for one job that was named, else a list."""
    from ergates.cli.json_output import print_json

    facts = [{"job": status.id, "phase": phase} for status in changed]
    print_json(facts[0] if one and facts else facts)
