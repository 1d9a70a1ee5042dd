"""`erg submit`: put a job into the store without running it."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import click

from ergates.cli.input_files import InputFiles
from ergates.cli.jobs import open_count
from ergates.cli.opened import opened_store
from ergates.cli.options import common_options, examples
from ergates.cli.run_options import ListsCommand, input_options, job_options, task_options
from ergates.cli.submission import announcement, print_dry_run, submit_input


@click.command(
    cls=ListsCommand,
    epilog=examples(
        "erg submit commands.txt; erg run --job j1",
        "erg submit 'sim --seed {seed}' -p seed=1..1000 --priority 5",
        "generate | erg submit - --json",
    ),
)
@input_options
@task_options
@job_options
@click.option("-q", "--quiet", is_flag=True, help="Print only the job's name.")
@common_options
@click.pass_context
def command(ctx: click.Context, /, words: tuple[str, ...], **options: Any) -> int:
    """Put a job into the store without running it. `erg run --job JOB` runs it."""
    words = (*words, *ctx.meta["ergates.lists"])
    with ExitStack() as stack:
        files = stack.enter_context(InputFiles())
        if options["dry_run"]:
            return print_dry_run(words, options, files)
        store, _ = stack.enter_context(opened_store(options["state_dir"], create=True))
        submitted = submit_input(store, words, options, files)
        status = store.status(submitted.id)
    if options["as_json"]:
        from ergates.cli.json_output import plain, print_json

        print_json({**plain(status), "resumed": submitted.resumed, "open": open_count(status)})
    elif options["quiet"]:
        click.echo(status.id)
    elif not open_count(status):
        click.echo(f"job {status.id} ({status.name}): cached, {status.total:,} tasks are settled already")
    else:
        click.echo(f"{announcement(status, resumed=submitted.resumed)}; run it: erg run --job {status.id}")
    return 0
