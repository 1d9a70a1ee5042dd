"""`erg retry`: failed and cancelled tasks become ready again, their counts of failures cleared."""

from __future__ import annotations

import click

from ergates.cli.chosen import matching_ids, where_option
from ergates.cli.opened import how_to_run, opened_store, past_of, work_phase
from ergates.cli.options import common_options, examples
from ergates.cli.phase_change import all_option
from ergates.cli.selected import all_of, several
from ergates.cli.wording import plural
from ergates.clock import SystemClock
from ergates.cluster.job import JobStatus
from ergates.cluster.task_state import TaskState

_STATES = (TaskState.FAILED, TaskState.CANCELLED)


@click.command(
    epilog=examples(
        "erg retry            what failed in the newest job",
        "erg retry j3 j5",
        "erg retry j3/17 j3/20-30",
        "erg retry j3 --where 'reason ~ memory or host == node7'",
        "erg retry --all",
    )
)
@click.argument("tasks", nargs=-1, metavar="[JOB|TASK]...")
@all_option("Every job in which something failed or was cancelled.")
@where_option
@common_options
def command(
    tasks: tuple[str, ...], everything: bool, condition: str | None, state_dir: str | None, as_json: bool
) -> None:
    """Take failed and cancelled tasks back into the queue. Tasks that are done stay done."""
    with opened_store(state_dir) as (store, folder):
        done: list[tuple[JobStatus, int]] = []
        for status, ranges in several(store, tasks, everything=everything, wanted=_has_failed):
            meant = all_of(status, ranges)
            if condition is not None:
                meant = matching_ids(past_of(store), status, ranges, _STATES, condition)
            done.append((status, store.retry(status.id, meant, SystemClock().now_ns()) if meant else 0))
        work = work_phase(store, folder)
        hints = {s.id: f"; run it: {how_to_run(store, s.id)}" if work(s) == "stopped" else "" for s, _ in done}
    if as_json:
        from ergates.cli.json_output import print_json

        facts = [{"job": status.id, "retried": number} for status, number in done]
        print_json(facts[0] if len(facts) == 1 and not everything else facts)
        return
    for status, number in done:
        if number:
            click.echo(f"{status.id}: {plural(number, 'task')} back in the queue{hints[status.id]}")
        else:
            click.echo(f"{status.id}: nothing to try again, no task of these is failed or cancelled")
    if not done:
        click.echo("nothing to try again")


def _has_failed(status: JobStatus) -> bool:
    return bool(status.counts.get("failed", 0) or status.counts.get("cancelled", 0))
