"""`erg export`: the tasks of a job as a table for other programs, and their outputs as files."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, BinaryIO

import click

from ergates.cli.chosen import Row, chosen_rows, condition_of, where_option
from ergates.cli.drained import Missing
from ergates.cli.export_rows import COLUMNS, OUTPUT_COLUMNS, Record, label_columns, record_of
from ergates.cli.ledger_option import NamedLedger, ledger_option
from ergates.cli.opened import opened_store, past_of
from ergates.cli.options import common_options, examples
from ergates.cli.selected import all_of, selected
from ergates.cli.task_output import TaskOutput, task_output
from ergates.cli.wording import plural
from ergates.cluster.attempt import Attempt, Output
from ergates.cluster.job import JobStatus
from ergates.cluster.task_state import TaskState
from ergates.errors import UsageError
from ergates.taskqueue.store import Reader, TaskView

Ranges = tuple[tuple[int, int], ...]


@click.command(
    epilog=examples(
        "erg export > results.csv                    the newest job",
        "erg export j3 --format jsonl --with-output",
        "erg export j3/1-100 --outputs results/      results/17.out, results/17.err",
        "erg export j3 --only failed",
        "erg export j3 --where 'label.size > 4 and wall > 1m'",
    )
)
@click.argument("tasks", nargs=-1, metavar="[JOB|TASK]...")
@click.option("--format", "shape", type=click.Choice(["csv", "jsonl"]), default="csv", show_default=True)
@click.option("--to", metavar="FILE", help="Write to this file.  [default: standard output]")
@click.option("--with-output", is_flag=True, help="Add what each task printed as columns stdout and stderr.")
@click.option("--outputs", "outputs_dir", metavar="DIR", help="Also write what each task printed to files in DIR.")
@click.option(
    "--only",
    type=click.Choice([state.value for state in TaskState]),
    multiple=True,
    help="Only tasks in this state.",
)
@where_option
@ledger_option
@common_options
def command(
    tasks: tuple[str, ...],
    shape: str,
    to: str | None,
    with_output: bool,
    outputs_dir: str | None,
    only: tuple[str, ...],
    condition: str | None,
    ledger: NamedLedger | None,
    state_dir: str | None,
    as_json: bool,
) -> None:
    """Tasks with parameters, outcome, time, memory and cost: one row a task, about its last attempt.

    --json is the same as --format jsonl.
    """
    states, where = tuple(TaskState(name) for name in only), condition_of(condition)
    with ExitStack() as stack:
        store, folder = stack.enter_context(opened_store(state_dir))
        status, ranges = selected(store, tasks)
        past = past_of(store, ledger)
        output = task_output(past, folder, status.id) if with_output or outputs_dir is not None else None
        gather = None if output is None else output.gather
        missing = Missing(store)
        rows = _looked_at(chosen_rows(past, status, ranges, states, where, gather=gather), missing)
        if outputs_dir is not None and output is not None:
            rows = _saving(rows, output, Path(outputs_dir))
        target = sys.stdout if to is None else stack.enter_context(_text_file(to))
        printed = output if with_output else None
        if as_json or shape == "jsonl":
            number = _write_jsonl(rows, store.spec(status.id).labels, printed, target)
        else:
            number = _write_csv(rows, _label_names(store, status, ranges, states), printed, target)
    missing.tell()
    if to is not None:
        click.echo(f"{status.id}: {plural(number, 'task')} written to {to}", err=True)


def _looked_at(rows: Iterator[Row], missing: Missing) -> Iterator[Row]:
    for view, attempt in rows:
        missing.looked(view, attempt)
        yield view, attempt


def _label_names(store: Reader, status: JobStatus, ranges: Ranges, states: tuple[TaskState, ...]) -> dict[str, str]:
    names = dict.fromkeys(store.spec(status.id).labels, "")
    for view in store.tasks(status.id, states=states, ids=all_of(status, ranges)):
        names |= view.spec.labels
    return label_columns(names)


def _write_csv(rows: Iterator[Row], labels: dict[str, str], printed: TaskOutput | None, target: IO[str]) -> int:
    import csv

    names = [*COLUMNS, *labels.values(), *(OUTPUT_COLUMNS if printed else ())]
    writer = csv.DictWriter(target, names, lineterminator="\n")
    writer.writeheader()
    number = 0
    for view, attempt in rows:
        number += 1
        shown = {labels[name]: value for name, value in view.spec.labels.items()}
        writer.writerow(record_of(view, attempt, shown) | _printed(printed, view, attempt))
    return number


def _write_jsonl(rows: Iterator[Row], job_labels: dict[str, str], printed: TaskOutput | None, target: IO[str]) -> int:
    import json

    number = 0
    for view, attempt in rows:
        number += 1
        labels = {**job_labels, **view.spec.labels}
        columns = label_columns(labels)
        shown = {columns[name]: value for name, value in labels.items()}
        target.write(json.dumps(record_of(view, attempt, shown) | _printed(printed, view, attempt)) + "\n")
    return number


def _printed(output: TaskOutput | None, view: TaskView, attempt: Attempt | None) -> Record:
    if output is None:
        return {}
    pair = (b"", b"") if attempt is None else output.read(view.task, attempt)
    texts = (data.decode("utf-8", "surrogateescape") for data in pair)
    return dict(zip(OUTPUT_COLUMNS, texts, strict=True))


def _saving(rows: Iterator[Row], output: TaskOutput, target: Path) -> Iterator[Row]:
    """Write `<task>.out` and `<task>.err` (where there is something) on the way."""
    if target.exists() and not target.is_dir():
        raise UsageError(f"--outputs {target}: not a directory")
    target.mkdir(parents=True, exist_ok=True)
    for view, attempt in rows:
        if attempt is not None and attempt.output != Output():
            with ExitStack() as stack:
                streams: list[BinaryIO] = [
                    stack.enter_context(open(target / f"{view.task}.{ending}", "wb")) for ending in ("out", "err")
                ]
                output.copy(view.task, attempt, *streams)
            if not attempt.output.stderr_bytes:
                (target / f"{view.task}.err").unlink()
        yield view, attempt


def _text_file(path: str) -> IO[str]:
    return open(path, "w", encoding="utf-8", errors="surrogateescape", newline="")
