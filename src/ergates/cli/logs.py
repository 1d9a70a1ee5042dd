"""`erg logs`: what tasks printed, byte for byte when one task and one stream are asked for."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import click

from ergates.cli.drained import Missing
from ergates.cli.jobs import open_count
from ergates.cli.ledger_option import NamedLedger, ledger_option
from ergates.cli.opened import AnyStore, Past, opened_store, past_of, work_phase
from ergates.cli.options import common_options, examples
from ergates.cli.selected import Ranges, selected
from ergates.cli.tables import clean
from ergates.cli.task_names import merged
from ergates.cli.task_output import TaskOutput, task_output
from ergates.cluster.attempt import Attempt, Outcome
from ergates.cluster.job import JobStatus
from ergates.cluster.task import TaskId
from ergates.cluster.task_state import TaskState
from ergates.taskqueue.store import Reader

_FOLLOW_S = 0.2
_TASKS_AT_ONCE = 500


@click.command(
    epilog=examples(
        "erg logs 17              task 17 of the newest job",
        "erg logs --failed        all that failed, with why",
        "erg logs j3/1-20         with a heading for each task",
        "erg logs -f              everything that ends from now on",
        "erg logs 17 --stdout > result.bin",
    )
)
@click.argument("tasks", nargs=-1, metavar="[JOB|TASK]...")
@click.option("--failed", is_flag=True, help="Only tasks that failed.")
@click.option("-f", "--follow", is_flag=True, help="Print attempts as they end, until the job is settled or stopped.")
@click.option("--stdout", "only", flag_value="stdout", help="Only what went to standard output.")
@click.option("--stderr", "only", flag_value="stderr", help="Only what went to standard error.")
@click.option("--attempts", "all_attempts", is_flag=True, help="Every attempt, not only the last of each task.")
@ledger_option
@common_options
def command(
    tasks: tuple[str, ...],
    failed: bool,
    follow: bool,
    only: str | None,
    all_attempts: bool,
    ledger: NamedLedger | None,
    state_dir: str | None,
    as_json: bool,
) -> None:
    """What TASKs printed (default: all of the newest job). A single task is printed as it is, several with headings.

    Of a cluster's job the last 64 KiB of each stream are kept, in the store or, once they were drained, in its ledger.
    """
    with opened_store(state_dir) as (store, folder):
        status, ranges = selected(store, tasks)
        past = past_of(store, ledger)
        output = task_output(past, folder, status.id)
        missing = Missing(store)
        printer = _Printer(output, only, as_json, headings=not _is_single(ranges))
        if follow:
            found = _following(store, past, folder, status, ranges)
            found = (pair for pair in found if not failed or pair[1].outcome is not Outcome.SUCCEEDED)
        else:
            found = _there(past, output, status, ranges, missing, failed=failed, all_attempts=all_attempts)
        number = 0
        for task, attempt in found:
            number += 1
            printer.print(task, attempt)
        if not missing.tell() and not number and not as_json:
            what = "no task failed" if failed else "nothing ran yet"
            click.echo(f"{status.id}: {what}", err=True)


def _is_single(ranges: Ranges) -> bool:
    return len(ranges) == 1 and ranges[0][0] == ranges[0][1]


def _there(
    store: Reader,
    output: TaskOutput,
    status: JobStatus,
    ranges: Ranges,
    missing: Missing,
    *,
    failed: bool,
    all_attempts: bool,
) -> Iterator[tuple[TaskId, Attempt]]:
    """Attempts by task, then by number."""
    states = (TaskState.FAILED,) if failed else ()
    tasks = store.tasks(status.id, states=states, ids=ranges)
    while part := list(islice(tasks, _TASKS_AT_ONCE)):
        wanted = merged([(view.task, view.task) for view in part])
        output.gather(wanted)
        kept: dict[TaskId, list[Attempt]] = {}
        for _, task, attempt in store.attempts(status.id, ids=wanted):
            attempts = kept.setdefault(task, [])
            if not all_attempts:
                attempts.clear()
            attempts.append(attempt)
        for view in part:
            attempts = kept.get(view.task, [])
            missing.looked(view, attempts[-1] if attempts else None)
            for attempt in attempts:
                yield view.task, attempt


def _following(
    store: AnyStore, past: Past, folder: Path, status: JobStatus, ranges: Ranges
) -> Iterator[tuple[TaskId, Attempt]]:
    """Attempts in the order they end, those that are there first."""
    row = 0
    while True:
        status = store.status(status.id)
        settled = not open_count(status) or work_phase(store, folder)(status) == "stopped"
        for next_row, task, attempt in past.attempts(status.id, ids=ranges, since_row=row):
            row = next_row
            yield task, attempt
        if settled:  # was so before the last look, so nothing can have been missed
            return
        sys.stdout.flush()
        time.sleep(_FOLLOW_S)


class _Printer:
    def __init__(self, output: TaskOutput, only: str | None, as_json: bool, *, headings: bool) -> None:
        self._output, self._only, self._as_json, self._headings = output, only, as_json, headings

    def print(self, task: TaskId, attempt: Attempt) -> None:
        if self._as_json:
            self._print_json(task, attempt)
            return
        if self._headings:
            why = f": {clean(attempt.reason)}" if attempt.reason else ""
            click.echo(f"== task {task}, attempt {attempt.number}, {attempt.outcome.value}{why}")
        sys.stdout.flush()
        if self._only is None:
            self._output.copy(task, attempt, sys.stdout.buffer, sys.stderr.buffer)
        else:
            data = self._output.read(task, attempt)[self._only == "stderr"]
            sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        sys.stderr.buffer.flush()

    def _print_json(self, task: TaskId, attempt: Attempt) -> None:
        from ergates.cli.json_output import plain, print_json_line

        stdout, stderr = self._output.read(task, attempt)
        texts = {"stdout": stdout, "stderr": stderr}
        shown = {name: data.decode("utf-8", "surrogateescape") for name, data in texts.items()}
        if self._only is not None:
            shown = {self._only: shown[self._only]}
        facts = plain(attempt)
        facts.pop("output", None)
        print_json_line({"task": int(task), **facts, **shown})
