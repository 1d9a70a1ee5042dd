"""`erg close`: an open job takes no more tasks, and is finished when those it has are settled."""

from __future__ import annotations

import click

from ergates.cli.jobs import choose_job, open_count
from ergates.cli.opened import opened_store
from ergates.cli.options import common_options, examples
from ergates.cli.wording import plural
from ergates.clock import SystemClock


@click.command(epilog=examples("erg close j3", "erg close nightly      by its key or name"))
@click.argument("jobs", nargs=-1, required=True, metavar="JOB...")
@common_options
def command(jobs: tuple[str, ...], state_dir: str | None, as_json: bool) -> None:
    """No more tasks will come to an open JOB (`erg submit --open`). It cannot be opened again."""
    with opened_store(state_dir) as (store, _):
        before = [choose_job(store, job) for job in jobs]
        for status in before:
            store.close_job(status.id, SystemClock().now_ns())
        after = [store.status(status.id) for status in before]
    if as_json:
        from ergates.cli.json_output import plain, print_json

        facts = [{**plain(status), "open": open_count(status)} for status in after]
        print_json(facts if len(facts) > 1 else facts[0])
        return
    for old, new in zip(before, after, strict=True):
        left = open_count(new)
        how = "closed" if old.takes_more else "was closed already"
        click.echo(f"{new.id}: {how}, " + (f"{plural(left, 'task')} left" if left else new.phase))
