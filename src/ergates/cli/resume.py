"""`erg resume`: a paused job goes on."""

from __future__ import annotations

import click

from ergates.cli.jobs import choose_job
from ergates.cli.opened import how_to_run, opened_store, work_phase
from ergates.cli.options import common_options, examples
from ergates.clock import SystemClock
from ergates.errors import UsageError


@click.command(epilog=examples("erg resume", "erg resume j3"))
@click.argument("job", required=False)
@common_options
def command(job: str | None, state_dir: str | None, as_json: bool) -> None:
    """Let a paused JOB (default: the newest) go on."""
    with opened_store(state_dir) as (store, folder):
        status = choose_job(store, job)
        if status.phase in ("finished", "cancelled"):
            raise UsageError(f"{status.id} is {status.phase}, there is nothing to resume")
        store.set_phase(status.id, "active", SystemClock().now_ns())
        idle = work_phase(store, folder)(status) == "stopped"
        how = f"; run it: {how_to_run(store, status.id)}" if idle else ""
    if as_json:
        from ergates.cli.json_output import print_json

        print_json({"job": status.id, "phase": "active"})
    else:
        click.echo(f"{status.id}: goes on{how}")
