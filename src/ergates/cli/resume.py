"""`erg resume`: a paused job goes on."""

from __future__ import annotations

import click

from ergates.cli.opened import how_to_run, opened_store, work_phase
from ergates.cli.options import common_options, examples
from ergates.cli.phase_change import all_option, change_phase, print_changed


@click.command(epilog=examples("erg resume", "erg resume j3 j5", "erg resume --all"))
@click.argument("jobs", nargs=-1, metavar="[JOB]...")
@all_option("Every job that is paused.")
@common_options
def command(jobs: tuple[str, ...], everything: bool, state_dir: str | None, as_json: bool) -> None:
    """Let paused JOBs (default: the newest) go on."""
    with opened_store(state_dir) as (store, folder):
        changed = change_phase(store, jobs, "active", everything=everything)
        work = work_phase(store, folder)
        hints = [f"; run it: {how_to_run(store, s.id)}" if work(s) == "stopped" else "" for s in changed]
    if as_json:
        print_changed(changed, "active", one=len(jobs) < 2 and not everything)
        return
    for status, hint in zip(changed, hints, strict=True):
        click.echo(f"{status.id}: goes on{hint}")
    if not changed:
        click.echo("no job is paused")
