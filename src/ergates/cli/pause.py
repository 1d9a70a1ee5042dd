"""`erg pause`: no more tasks of a job start until `erg resume`."""

from __future__ import annotations

import click

from ergates.cli.jobs import choose_job
from ergates.cli.opened import opened_store
from ergates.cli.options import common_options, examples
from ergates.clock import SystemClock
from ergates.errors import UsageError


@click.command(epilog=examples("erg pause", "erg pause j3"))
@click.argument("job", required=False)
@common_options
def command(job: str | None, state_dir: str | None, as_json: bool) -> None:
    """Start no more tasks of JOB (default: the newest); what runs may end."""
    with opened_store(state_dir) as (store, _):
        status = choose_job(store, job)
        if status.phase in ("finished", "cancelled"):
            raise UsageError(f"{status.id} is {status.phase}, there is nothing to pause")
        store.set_phase(status.id, "paused", SystemClock().now_ns())
    if as_json:
        from ergates.cli.json_output import print_json

        print_json({"job": status.id, "phase": "paused"})
    else:
        click.echo(f"{status.id}: paused; what runs may end. Go on with: erg resume {status.id}")
