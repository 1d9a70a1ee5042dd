"""`erg cancel`: a whole job or some of its tasks; what runs is ended by its worker within a second or so."""

from __future__ import annotations

import click

from ergates.cli.opened import opened_store
from ergates.cli.options import common_options, examples
from ergates.cli.selected import selected
from ergates.cli.wording import plural
from ergates.clock import SystemClock


@click.command(
    epilog=examples("erg cancel j3", "erg cancel j3/17 j3/20-30", "erg cancel j3/1-100 --reason 'wrong seed'")
)
@click.argument("tasks", nargs=-1, required=True, metavar="JOB|TASK...")
@click.option("--reason", default="", metavar="TEXT", help="Kept with the tasks; erg explain shows it.")
@common_options
def command(tasks: tuple[str, ...], reason: str, state_dir: str | None, as_json: bool) -> None:
    """Cancel a JOB, or TASKs of one. `erg retry` takes them back."""
    now_ns = SystemClock().now_ns()
    with opened_store(state_dir) as (store, _):
        status, ranges = selected(store, tasks)
        if ranges:
            number = store.cancel(status.id, ranges, reason or "cancelled by the user", now_ns)
        else:
            before = status.counts.get("cancelled", 0)
            store.set_phase(status.id, "cancelled", now_ns)
            number = store.status(status.id).counts.get("cancelled", 0) - before
    if as_json:
        from ergates.cli.json_output import print_json

        print_json({"job": status.id, "cancelled": number, "whole_job": not ranges})
    else:
        click.echo(f"{status.id}: {plural(number, 'task')} cancelled")
