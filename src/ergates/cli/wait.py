"""`erg wait`: return when a job is settled, with the exit code its run would have had."""

from __future__ import annotations

import time

import click

from ergates.cli.jobs import choose_job, open_count, shown_phase
from ergates.cli.opened import how_to_run, opened_store, work_phase
from ergates.cli.options import DURATION, common_options, examples
from ergates.cli.wording import count, plural
from ergates.clock import SystemClock
from ergates.cluster.job import JobStatus

_LOOK_S = 0.05
_LOOK_S_MAX = 1.0


@click.command(
    epilog=examples(
        "erg wait j3 && erg export j3 > results.csv",
        "erg wait --timeout 10m         exit code 1 if work is left then",
    )
)
@click.argument("job", required=False)
@click.option("--timeout", type=DURATION, metavar="TIME", help="Give up after this long.")
@common_options
def command(job: str | None, timeout: int | None, state_dir: str | None, as_json: bool) -> int:
    """Wait until JOB (default: the newest) is settled. Exit code 0 when all tasks are done, 1 when some are not."""
    clock = SystemClock()
    started_ns = clock.now_ns()
    with opened_store(state_dir) as (store, folder):
        status = choose_job(store, job)
        pause_s, warned = _LOOK_S, False
        while open_count(status) and status.phase != "cancelled":
            if timeout is not None and clock.now_ns() - started_ns >= timeout:
                break
            if not warned and shown_phase(status, work_phase(store, folder)) in ("stopped", "paused"):
                warned = True
                _warn(status, how_to_run(store, status.id))
            time.sleep(pause_s)
            pause_s = min(_LOOK_S_MAX, pause_s * 1.5)
            status = store.status(status.id)
    if as_json:
        from ergates.cli.json_output import plain, print_json

        print_json({**plain(status), "open": open_count(status)})
    else:
        counts = [f"{count(n)} {state}" for state in ("done", "failed", "cancelled") if (n := status.counts.get(state))]
        left = open_count(status)
        click.echo(f"{status.id}: " + ", ".join(counts + ([f"{plural(left, 'task')} left"] if left else [])))
    return 0 if status.counts.get("done", 0) == status.total else 1


def _warn(status: JobStatus, how_to_run: str) -> None:
    how = f"erg resume {status.id}" if status.phase == "paused" else how_to_run
    what = "is paused" if status.phase == "paused" else "is run by nobody now"
    click.echo(f"erg: {status.id} {what}; it goes on after: {how}", err=True)
