"""Adding tasks to an open job: `erg submit --to JOB`.

What the input says of tasks by number or name (`after`) means tasks of this input; `--after` means tasks that are in the job.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from msgspec.structs import replace

from ergates.cli.input_files import InputFiles
from ergates.cli.jobs import choose_job
from ergates.cli.opened import AnyStore
from ergates.cli.requests import read_input
from ergates.cli.selected import Ranges
from ergates.cli.submission import tasks_for, tell_problems
from ergates.cli.task_names import parse_selection
from ergates.clock import SystemClock
from ergates.cluster.job import JobSpec, JobStatus
from ergates.cluster.task import TaskId, TaskSpec
from ergates.errors import JobGrewError, UsageError

_TRIES = 20
"""Others may add tasks at the same moment; then the numbers are given anew."""


def extend_job(
    store: AnyStore, words: tuple[str, ...], options: dict[str, Any], files: InputFiles
) -> tuple[JobStatus, int]:
    """Read the input and add it to the job `--to`, all of it or nothing; returns the job and how many were added.

    Raises:
        InputError, UsageError: bad input, or a job that takes no more; nothing was added.
    """
    status = choose_job(store, options["to"])
    job = store.spec(status.id)
    request, parsed, _ = read_input(words, options, files)
    after = _ranges(options["after"], status)
    tasks = list(_placed(tasks_for(store, parsed), job, request.cwd))
    bound = bool(after) or any(task.after for task in tasks)
    for _ in range(_TRIES):
        before = store.status(status.id).total
        numbered = list(_numbered(tasks, before, after)) if bound else tasks
        try:
            now_ns = SystemClock().now_ns()
            store.extend(status.id, numbered, now_ns, first=TaskId(before + 1) if bound else None)
        except JobGrewError:
            continue
        tell_problems(parsed.problems)
        return store.status(status.id), len(tasks)
    raise UsageError(f"{status.id}: others kept adding tasks at the same moment\n  hint: nothing was added, try again")


def _ranges(words: Sequence[str], status: JobStatus) -> Ranges:
    """What `--after` names: `all` that is there now, or tasks of the job."""
    if "all" in words:
        return ((1, status.total),) if status.total else ()
    ranges = parse_selection(words).ids if words else ()
    for first, last in ranges:
        if last > status.total:
            raise UsageError(f"--after {first}-{last}: {status.id} has {status.total:,} tasks so far")
    return ranges


def _placed(tasks: Iterable[TaskSpec], job: JobSpec, cwd: str) -> Iterator[TaskSpec]:
    """Tasks run where they were submitted, not where the job was."""
    for task in tasks:
        yield replace(task, cwd=cwd) if task.cwd is None and cwd != job.cwd else task


def _numbered(tasks: Iterable[TaskSpec], before: int, after: Ranges) -> Iterator[TaskSpec]:
    """With the numbers they get behind `before` others."""
    for task in tasks:
        moved = tuple((first + before, last + before) for first, last in task.after)
        yield replace(task, after=(*after, *moved))
