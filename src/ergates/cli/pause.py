"""`erg pause`: no more tasks of a job start until `erg resume`."""

from __future__ import annotations

import click

from ergates.cli.opened import opened_store
from ergates.cli.options import common_options, examples
from ergates.cli.phase_change import all_option, change_phase, print_changed


@click.command(epilog=examples("erg pause", "erg pause j3 j5", "erg pause --all"))
@click.argument("jobs", nargs=-1, metavar="[JOB]...")
@all_option("Every job that is not finished.")
@common_options
def command(jobs: tuple[str, ...], everything: bool, state_dir: str | None, as_json: bool) -> None:
    """Start no more tasks of JOBs (default: the newest); what runs may end."""
    with opened_store(state_dir) as (store, _):
        changed = change_phase(store, jobs, "paused", everything=everything)
    if as_json:
        print_changed(changed, "paused", one=len(jobs) < 2 and not everything)
        return
    for status in changed:
        click.echo(f"{status.id}: paused; what runs may end. Go on with: erg resume {status.id}")
    if not changed:
        click.echo("no job to pause")
