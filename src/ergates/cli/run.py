"""`erg run`: submit (or resume) a job and run it here, with progress, output and a summary."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ergates.agent.observer import Observer
from ergates.cli.input_files import InputFiles
from ergates.cli.joblog import JobLog
from ergates.cli.jobs import choose_job, open_count
from ergates.cli.line_printer import LinePrinter
from ergates.cli.opened import AnyStore, named_store, opened_store, past_of
from ergates.cli.options import common_options, examples
from ergates.cli.output_order import tagged
from ergates.cli.output_printer import OutputPrinter, tag_of
from ergates.cli.progress_display import ProgressDisplay
from ergates.cli.requests import run_settings
from ergates.cli.resume_command import resume_command
from ergates.cli.run_options import (
    ListsCommand,
    input_options,
    job_options,
    node_options,
    shown_options,
    task_options,
)
from ergates.cli.run_tally import RunTally
from ergates.cli.submission import announcement, print_dry_run, submit_input
from ergates.cli.summary import Ending, ShownFailure, last_lines, summary_lines
from ergates.cli.task_output import PackedOutput, task_output
from ergates.cli.terminal import tell, width_of
from ergates.clock import SystemClock
from ergates.cluster.job import JobStatus
from ergates.cluster.task_state import TERMINAL
from ergates.drivers.output.read import output_folder, read_output
from ergates.drivers.stores.sqlite import SqliteStore
from ergates.errors import ErgatesError, UsageError

if TYPE_CHECKING:
    from ergates.agent.run_job import RunResult

_STOPPED = {
    "drained": "interrupted: what ran was let end, the rest waits",
    "given_back": "interrupted: what ran was given back unharmed",
    "halted": "stopped early by --halt",
    "max_fails": "stopped: too many tasks failed (--max-fails)",
}
_NOTES = {
    1: "draining: nothing new starts; Ctrl-C again gives back what runs",
    2: "giving back what runs; every task is kept",
}


@click.command(
    cls=ListsCommand,
    epilog=examples(
        "erg run commands.txt                           one command a line",
        "erg run 'sim --seed {seed} --size {n}' -p seed=1..1000 -p n=1,2,4",
        "erg run 'convert {} {.}.png' ::: *.jpg         as with GNU parallel",
        "erg run --params grid.csv 'train --lr {lr}'    one task for each row",
        "erg run commands.txt -j 4 --memory 8GiB --retries 2",
        "cat words | erg run --pipe --block 10MiB wc -l",
        "erg run --job j3                               go on with a job that is there",
    ),
)
@input_options
@click.option("--job", metavar="JOB", help="Run a job that is in the store already, instead of reading input.")
@click.option("--until-empty", is_flag=True, help="Of an open job: end when nothing waits, though it is not closed.")
@task_options
@job_options
@node_options
@shown_options
@common_options
@click.pass_context
def command(ctx: click.Context, /, words: tuple[str, ...], **options: Any) -> int:
    """Run a file of commands, or a TEMPLATE with its parameters, here and now.

    An unfinished job with the same input goes on where it stopped. Ctrl-C lets what runs end; a second one gives it
    back at once. Nothing is lost either way.

    With --store (or ERGATES_STORE) the cluster's workers run it; here it is followed to its end. Ctrl-C then ends the
    following, not the job. `erg submit` does not wait.
    """
    words = (*words, *ctx.meta["ergates.lists"])
    _check(words, options)
    with ExitStack() as stack:
        files = stack.enter_context(InputFiles())
        if options["dry_run"]:
            return print_dry_run(words, options, files)
        if named_store() is not None:
            from ergates.cli.cluster_run import refuse_node_options

            refuse_node_options(ctx)
        store, folder = stack.enter_context(opened_store(options["state_dir"], create=options["job"] is None))
        status, resumed = _job(store, words, options, files)
        if not open_count(status) and (options["until_empty"] or not status.takes_more):
            return _nothing_to_run(store, folder, status, options)
        if not isinstance(store, SqliteStore):
            from ergates.cli.cluster_run import follow_job

            return follow_job(store, folder, status, options, resumed=resumed)
        again = resume_command(ctx, str(status.id), reads_once=files.reads_once)
        return _run(store, folder, status, options, resumed=resumed, again=again)


def _check(words: tuple[str, ...], options: dict[str, Any]) -> None:
    if options["as_json"] and _shows_output(options):
        raise UsageError("--json and the output of tasks do not go together on standard output\n  hint: erg logs")
    if options["line_buffer"] and (options["keep_order"] or options["group"]):
        raise UsageError("--line-buffer prints lines as they come; it cannot keep an order or group them")
    if options["job"] is not None and (words or options["param"] or options["params"] or options["pipe"]):
        raise UsageError("--job runs what is in the store; leave the input out")


def _shows_output(options: dict[str, Any]) -> bool:
    return any(options[name] for name in ("output", "group", "keep_order", "line_buffer", "tag"))


def _job(store: AnyStore, words: tuple[str, ...], options: dict[str, Any], files: InputFiles) -> tuple[JobStatus, bool]:
    """The job to run, submitted now or found; and whether it is a resumed one."""
    quiet = options["quiet"] or options["as_json"]
    if options["job"] is not None:
        status, resumed = choose_job(store, options["job"]), True
    else:
        submitted = submit_input(store, words, options, files)
        status, resumed = store.status(submitted.id), submitted.resumed
    if status.phase == "paused":
        store.set_phase(status.id, "active", SystemClock().now_ns())
    if not quiet and open_count(status):
        tell(announcement(status, resumed=resumed))
    if not quiet and status.takes_more and not options["until_empty"]:
        tell(f"job {status.id} is open: this waits for more tasks until: erg close {status.id}")
    return status, resumed


def _nothing_to_run(store: AnyStore, folder: Path, status: JobStatus, options: dict[str, Any]) -> int:
    if _shows_output(options):
        _print_again(store, folder, status, tag=options["tag"])
    if options["as_json"]:
        _print_json(status, "cached", None)
    elif not options["quiet"]:
        failed = status.counts.get("failed", 0) + status.counts.get("cancelled", 0)
        hint = f"; erg retry {status.id} takes {failed:,} failed or cancelled back" if failed else ""
        how = "cached, " if options["cached"] else ""
        hint = hint or f"; output: erg logs {status.id}"
        done = status.counts.get("done", 0)
        click.echo(
            f"job {status.id} ({status.name}): {how}nothing to run, {done:,} of {status.total:,} done{hint}", err=True
        )
    return 0 if status.counts.get("done", 0) == status.total else 1


def _print_again(store: AnyStore, folder: Path, status: JobStatus, *, tag: bool) -> None:
    """What the tasks of a settled job printed, in the order of the input."""
    past = past_of(store)
    last = {task: attempt for _, task, attempt in past.attempts(status.id)}
    output, labels = task_output(past, folder, status.id), store.spec(status.id).labels
    output.gather(((1, status.total),))
    for view in store.tasks(status.id):
        attempt = last.get(view.task)
        if attempt is None or not (attempt.output.stdout_bytes or attempt.output.stderr_bytes):
            continue
        before = tag_of(view.task, view.spec, labels) if tag else None
        for stream, data in zip((sys.stdout, sys.stderr), output.read(view.task, attempt), strict=True):
            stream.buffer.write(data if before is None else tagged(data, before))
            stream.flush()


def _run(
    store: SqliteStore, folder: Path, status: JobStatus, options: dict[str, Any], *, resumed: bool, again: str
) -> int:
    from ergates.agent.run_job import run_job  # launchers and policies: help and wrong usage need none of them

    clock = SystemClock()
    started_ns = clock.now_ns()
    settings = run_settings(options, str(folder))
    live = not (options["quiet"] or options["no_progress"])
    display, tally = ProgressDisplay(sys.stderr, enabled=live), RunTally()
    with ExitStack() as stack:
        stack.callback(display.close)
        observers: list[Observer] = [tally, display]
        if options["joblog"]:
            log = JobLog(options["joblog"], resumed=resumed)
            stack.callback(log.close)
            observers.append(log)
        printer = _printer(store, folder, status, options, display, resumed=resumed)
        if printer is not None:
            stack.callback(printer.close)
            observers.append(printer)
        try:
            result = run_job(
                store,
                status.id,
                settings,
                observers,
                on_signal=lambda number: display.note(_NOTES[number]),
                until_empty=options["until_empty"],
            )
        except BrokenPipeError:
            if not options["quiet"]:
                display.say(f"nobody reads the output any more: stopped; go on with: {again}")
            raise
    if (
        result.why == "max_fails"
    ):  # the limit counts what failed in earlier runs, too: the same command alone would stop again
        again = f"erg retry {status.id} && {again}"
    ending = Ending(
        elapsed_ns=clock.now_ns() - started_ns,
        stopped=_STOPPED.get(result.why, ""),
        resume_command=again,
        together_bytes=tally.used_bytes_max,
        capacity_bytes=tally.capacity_bytes,
        confined=settings.memory_bytes is not None,
        failures=_failures(folder, status, tally),
    )
    if options["as_json"]:
        _print_json(result.status, result.why, ending)
    elif not options["quiet"] or tally.failed:
        tell("\n".join(summary_lines(result.status, ending, width_of(sys.stderr, 100))))
    return _exit_code(result, options["halt"])


def _printer(
    store: SqliteStore,
    folder: Path,
    status: JobStatus,
    options: dict[str, Any],
    display: ProgressDisplay,
    *,
    resumed: bool,
) -> OutputPrinter | LinePrinter | None:
    if not _shows_output(options):
        return None
    packs, streams, labels = (
        output_folder(folder, status.id),
        (sys.stdout.buffer, sys.stderr.buffer),
        store.spec(status.id).labels,
    )
    if options["line_buffer"]:
        return LinePrinter(packs, display, *streams, tag=options["tag"], given_labels=labels)
    skipped: list[int] = []
    if options["keep_order"] and resumed:
        skipped = [view.task for view in store.tasks(status.id, states=tuple(sorted(TERMINAL)))]
    return OutputPrinter(
        PackedOutput(packs),
        display,
        *streams,
        tag=options["tag"],
        keep_order=options["keep_order"],
        given_labels=labels,
        skipped=skipped,
    )


def _failures(folder: Path, status: JobStatus, tally: RunTally) -> tuple[ShownFailure, ...]:
    shown = []
    for failure in tally.first_failures:
        try:
            lines = last_lines(read_output(output_folder(folder, status.id), failure.output)[1])
        except ErgatesError as error:  # the summary still has to come
            lines = (str(error),)
        shown.append(ShownFailure(task=failure.task, reason=failure.reason, command=failure.command, last_lines=lines))
    return tuple(shown)


def _exit_code(result: RunResult, halt: str | None) -> int:
    """130 when interrupted; 0 when all is done, or when `--halt` was to stop at a success and did."""
    if result.why in ("drained", "given_back"):
        return 130
    if result.why == "halted" and halt is not None and "success" in halt:
        return 0
    counts = result.status.counts
    if result.why == "halted" and halt is not None and "done" in halt:
        return 1 if counts.get("failed", 0) else 0
    return 0 if counts.get("done", 0) == result.status.total else 1


def _print_json(status: JobStatus, why: str, ending: Ending | None) -> None:
    from ergates.cli.json_output import plain, print_json

    facts = {**plain(status), "why": why, "open": open_count(status)}
    if ending is not None:
        failures = [
            {"task": each.task, "reason": each.reason, "command": each.command, "last_lines": each.last_lines}
            for each in ending.failures
        ]
        facts |= {
            "elapsed_ns": ending.elapsed_ns,
            "together_bytes": ending.together_bytes,
            "capacity_bytes": ending.capacity_bytes,
            "first_failures": failures,
            "resume_command": ending.resume_command if open_count(status) else "",
        }
    print_json(facts)
