"""`erg retry`: failed and cancelled tasks become ready again, their counts of failures cleared."""

from __future__ import annotations

import click

from ergates.cli.opened import how_to_run, opened_store, work_phase
from ergates.cli.options import common_options, examples
from ergates.cli.selected import all_of, selected
from ergates.cli.wording import plural
from ergates.clock import SystemClock


@click.command(
    epilog=examples(
        "erg retry            what failed in the newest job",
        "erg retry j3",
        "erg retry j3/17 j3/20-30",
    )
)
@click.argument("tasks", nargs=-1, metavar="[JOB|TASK]...")
@common_options
def command(tasks: tuple[str, ...], state_dir: str | None, as_json: bool) -> None:
    """Take failed and cancelled tasks back into the queue. Tasks that are done stay done."""
    with opened_store(state_dir) as (store, folder):
        status, ranges = selected(store, tasks)
        number = store.retry(status.id, all_of(status, ranges), SystemClock().now_ns())
        idle = work_phase(store, folder)(status) == "stopped"
        how = f"; run it: {how_to_run(store, status.id)}" if idle else ""
    if as_json:
        from ergates.cli.json_output import print_json

        print_json({"job": status.id, "retried": number})
    elif not number:
        click.echo(f"{status.id}: nothing to try again, no task of these is failed or cancelled")
    else:
        click.echo(f"{status.id}: {plural(number, 'task')} back in the queue{how}")
