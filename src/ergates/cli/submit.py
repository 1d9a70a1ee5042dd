"""`erg submit`: put a job into the store without running it."""

from __future__ import annotations

import os
import uuid
from contextlib import ExitStack
from typing import Any

import click

from ergates.cli.extending import extend_job
from ergates.cli.input_files import InputFiles
from ergates.cli.jobs import open_count
from ergates.cli.opened import how_to_run, opened_store, work_phase
from ergates.cli.options import common_options, examples
from ergates.cli.run_options import ListsCommand, input_options, job_options, task_options
from ergates.cli.submission import announcement, print_dry_run, submit_input
from ergates.cli.wording import plural
from ergates.clock import SystemClock
from ergates.cluster.job import JobSpec, JobStatus
from ergates.errors import UsageError
from ergates.taskqueue.store import Submitted, Submitter


@click.command(
    cls=ListsCommand,
    epilog=examples(
        "erg submit commands.txt; erg run --job j1",
        "erg submit 'sim --seed {seed}' -p seed=1..1000 --priority 5",
        "generate | erg submit - --json",
        "erg submit --open --key nightly; erg submit --to nightly more.txt; erg close nightly",
        "erg submit --to j3 --after all ./gather results/",
    ),
)
@input_options
@task_options
@job_options
@click.option(
    "--open",
    "open_job",
    is_flag=True,
    help="More tasks may be added (--to) until `erg close JOB`; without input it begins empty.",
)
@click.option("--to", metavar="JOB", help="Add the tasks to this open job instead of making one.")
@click.option("--after", multiple=True, metavar="TASKS|all", help="With --to: they come after these tasks of the job.")
@click.option("-q", "--quiet", is_flag=True, help="Print only the job's name.")
@common_options
@click.pass_context
def command(ctx: click.Context, /, words: tuple[str, ...], **options: Any) -> int:
    """Put a job into the store without running it. `erg run --job JOB` runs it; of a cluster, whatever workers are there."""
    words = (*words, *ctx.meta["ergates.lists"])
    _check(options)
    with ExitStack() as stack:
        files = stack.enter_context(InputFiles())
        if options["dry_run"]:
            return print_dry_run(words, options, files)
        store, folder = stack.enter_context(opened_store(options["state_dir"], create=options["to"] is None))
        if options["to"] is not None:
            return _tell_added(*extend_job(store, words, options, files), options)
        if options["open_job"] and not words and not options["params"] and not options["pipe"]:
            submitted = _empty_job(store, options)
        else:
            submitted = submit_input(store, words, options, files)
        status = store.status(submitted.id)
        idle = work_phase(store, folder)(status) == "stopped"
        how = f"; run it: {how_to_run(store, status.id)}" if idle else ""
    if options["as_json"]:
        from ergates.cli.json_output import plain, print_json

        print_json({**plain(status), "resumed": submitted.resumed, "open": open_count(status)})
    elif options["quiet"]:
        click.echo(status.id)
    elif not open_count(status) and not status.takes_more:
        click.echo(f"job {status.id} ({status.name}): cached, {status.total:,} tasks are settled already")
    elif status.takes_more and submitted.resumed:
        added = "nothing was added" if words else "there already"
        click.echo(f"{announcement(status, resumed=True)}; {added}; add tasks: erg submit --to {status.id} ...")
    else:
        click.echo(f"{announcement(status, resumed=submitted.resumed)}{how}")
    return 0


def _check(options: dict[str, Any]) -> None:
    if options["to"] is None:
        if options["after"]:
            raise UsageError("--after names tasks of a job that is there\n  expected: --to JOB with it")
        return
    for name, shown in (("open_job", "--open"), ("key", "--key"), ("name", "--name"), ("cached", "--cached"),
                        ("max_fails", "--max-fails"), ("aging", "--aging"), ("data", "--data"),
                        ("copies", "--copies")):  # fmt: skip
        if options[name]:
            raise UsageError(f"{shown} is about a whole job; --to adds tasks to one that is there")


def _empty_job(store: Submitter, options: dict[str, Any]) -> Submitted:
    """An open job to which all its tasks are added later."""
    key = options["key"] or uuid.uuid4().hex
    spec = JobSpec(
        key=key,
        name=options["name"] or options["key"] or "open",
        cwd=os.path.abspath(options["cwd"] or "."),
        max_failed_tasks=options["max_fails"],
        aging_ns=options["aging"],
        labels=dict(options["label"]),
        data=options["data"] or "",
        open=True,
        copies=options["copies"],
    )
    return store.submit(spec, (), SystemClock().now_ns(), again=True)


def _tell_added(status: JobStatus, added: int, options: dict[str, Any]) -> int:
    if options["as_json"]:
        from ergates.cli.json_output import plain, print_json

        print_json({**plain(status), "added": added, "open": open_count(status)})
    elif options["quiet"]:
        click.echo(status.id)
    else:
        click.echo(f"job {status.id} ({status.name}): {plural(added, 'task')} added, {status.total:,} now")
    return 0
