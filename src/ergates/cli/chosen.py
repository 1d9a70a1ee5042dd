"""The tasks a command is about, with their last attempts, some thousand at a time: a million tasks need little memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import click

from ergates.cli.export_rows import last_attempts
from ergates.cli.selected import Ranges, all_of
from ergates.cli.task_names import merged
from ergates.cluster.attempt import Attempt
from ergates.cluster.job import JobStatus
from ergates.cluster.task_state import TaskState
from ergates.taskqueue.store import Reader, TaskView
from ergates.taskqueue.where import Where, parse_where

_TASKS_AT_ONCE = 2000
Row = tuple[TaskView, Attempt | None]

where_option = click.option(
    "--where",
    "condition",
    metavar="EXPR",
    help="Only tasks of which this holds: 'command ~ \"cachesim\" and memory >= 8G'; see docs/operating.md.",
)


def condition_of(text: str | None) -> Where | None:
    """Raises InputError with a caret under what cannot be read."""
    return None if text is None else parse_where(text)


def chosen_rows(
    store: Reader,
    status: JobStatus,
    ranges: Ranges,
    states: Sequence[TaskState] = (),
    where: Where | None = None,
    *,
    attempts: bool = True,
    gather: Callable[[Ranges], None] | None = None,
) -> Iterator[Row]:
    """Tasks in the order of their numbers; the attempt is None when there was none.

    Args:
        store: to read.
        status: of their job.
        ranges: of ids; none for all.
        states: only these; none for all.
        where: only those it holds for.
        attempts: whether the caller looks at them; else they are read only when `where` asks about them.
        gather: told which tasks come next.
    """
    job_labels = store.spec(status.id).labels if where is not None else {}
    early = where is not None and not where.needs_attempts
    for first, last in all_of(status, ranges):
        for start in range(first, min(last, status.total) + 1, _TASKS_AT_ONCE):
            part = (start, min(last, start + _TASKS_AT_ONCE - 1))
            views = list(store.tasks(status.id, states=states, ids=(part,)))
            if early and where is not None:
                views = [view for view in views if where.matches(view, None, job_labels)]
            if not views:
                continue
            ids = merged([(view.task, view.task) for view in views])
            if gather is not None:
                gather(ids)
            tried: dict[int, Attempt] = {}
            if attempts or not (where is None or early):
                tried = last_attempts(store.attempts(status.id, ids=ids))
            for view in views:
                last_one = tried.get(view.task)
                if early or where is None or where.matches(view, last_one, job_labels):
                    yield view, last_one


def matching_ids(
    store: Reader, status: JobStatus, ranges: Ranges, states: Sequence[TaskState], condition: str | None
) -> Ranges:
    """Id ranges of the tasks that are meant; without a condition those that were named, unread."""
    where = condition_of(condition)
    if where is None:
        return ranges
    rows = chosen_rows(store, status, ranges, states, where, attempts=False)
    return merged([(view.task, view.task) for view, _ in rows])
