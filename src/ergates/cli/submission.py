"""From the words and options of `erg run` and `erg submit` to a job in the store, or to a list of what it would be."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from ergates.cli.input_files import InputFiles
from ergates.cli.joblog import shown_command
from ergates.cli.jobs import open_count
from ergates.cli.requests import job_of, read_input
from ergates.cli.wording import count, plural
from ergates.clock import SystemClock
from ergates.cluster.job import JobStatus
from ergates.cluster.task import TaskSpec
from ergates.drivers.stores.sqlite import SqliteStore
from ergates.errors import InputError
from ergates.taskqueue.inputs.lines import Problems
from ergates.taskqueue.inputs.source import ParsedInput
from ergates.taskqueue.store import Submitted, Submitter

_PROBLEMS_SHOWN = 5


def submit_input(store: Submitter, words: tuple[str, ...], options: dict[str, Any], files: InputFiles) -> Submitted:
    """Read the input and put it into the store, all of it or (at the first bad line) nothing.

    Raises:
        InputError, UsageError: bad input; nothing was submitted.
    """
    request, parsed, key = read_input(words, options, files)
    job = job_of(parsed, key, request, options)
    submitted = store.submit(job, tasks_for(store, parsed), SystemClock().now_ns(), again=not options["cached"])
    tell_problems(parsed.problems)
    return submitted


def tasks_for(store: Submitter, parsed: ParsedInput) -> Iterator[TaskSpec]:
    """The tasks of the input, refused where this store cannot have them run."""
    return _of_one_machine(parsed) if isinstance(store, SqliteStore) else parsed.tasks


def _of_one_machine(parsed: ParsedInput) -> Iterator[TaskSpec]:
    """The tasks, none of which may need several nodes at once."""
    for number, task in enumerate(parsed.tasks, 1):
        if task.requirement.nodes > 1:
            raise InputError(
                f"task {number} needs {task.requirement.nodes} nodes at once, and this store serves one machine",
                source=parsed.source,
                expected="tasks that run on one node",
                hint="submit it to a cluster's store: erg submit --store redis://...",
            )
        yield task


def announcement(status: JobStatus, *, resumed: bool) -> str:
    """One line that says whether the job is new or resumed."""
    name = f"job {status.id} ({status.name})" if status.name else f"job {status.id}"
    if not resumed:
        more = ", open for more" if status.takes_more else ""
        return f"{name}: new, {plural(status.total, 'task')}{more}"
    settled = status.total - open_count(status)
    failed = status.counts.get("failed", 0) + status.counts.get("cancelled", 0)
    done = f"{count(settled - failed)} of {count(status.total)} done"
    return f"{name}: resuming, {done}" + (f", {count(failed)} failed or cancelled" if failed else "")


def print_dry_run(words: tuple[str, ...], options: dict[str, Any], files: InputFiles) -> int:
    """Print the commands, numbered, and how many there are; nothing is submitted."""
    _, parsed, key = read_input(words, options, files)
    number = 0
    for number, task in enumerate(parsed.tasks, 1):
        if options["as_json"]:
            from ergates.cli.json_output import plain, print_json_line

            print_json_line({"task": number, **plain(task)})
        else:
            click.echo(f"{number}\t{shown_command(task)}")
    tell_problems(parsed.problems)
    if not options["quiet"]:
        click.echo(f"{plural(number, 'task')}, key {key}; nothing was submitted", err=True)
    return 0


def tell_problems(problems: Problems) -> None:
    """What was skipped with --keep-going."""
    if not problems.count:
        return
    for error in problems.first[:_PROBLEMS_SHOWN]:
        click.echo(f"erg: skipped {error}", err=True)
    if problems.count > _PROBLEMS_SHOWN:
        click.echo(f"erg: skipped {plural(problems.count - _PROBLEMS_SHOWN, 'more line')}", err=True)
