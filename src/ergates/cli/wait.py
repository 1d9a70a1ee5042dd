"""`erg wait`: return when jobs are settled, with the exit code their runs would have had."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import click

from ergates.cli.jobs import choose_job, open_count, shown_phase
from ergates.cli.opened import AnyStore, how_to_run, opened_store, work_phase
from ergates.cli.options import DURATION, common_options, examples
from ergates.cli.phase_change import all_option
from ergates.cli.wording import count, plural
from ergates.clock import SystemClock
from ergates.cluster.job import JobStatus
from ergates.errors import UsageError

_LOOK_S = 0.05
_LOOK_S_MAX = 1.0


@click.command(
    epilog=examples(
        "erg wait j3 && erg export j3 > results.csv",
        "erg wait j3 j4 j5              until all three are settled",
        "erg wait --any --all           until one of them is",
        "erg wait --timeout 10m         exit code 1 if work is left then",
    )
)
@click.argument("jobs", nargs=-1, metavar="[JOB]...")
@all_option("Every job that is not finished now.")
@click.option("--any", "first", is_flag=True, help="Until one of them is settled.")
@click.option("--timeout", type=DURATION, metavar="TIME", help="Give up after this long.")
@common_options
def command(
    jobs: tuple[str, ...], everything: bool, first: bool, timeout: int | None, state_dir: str | None, as_json: bool
) -> int:
    """Wait until JOBs (default: the newest) are settled. Exit code 0 when all their tasks are done, 1 when some are not.

    An open job is settled when it is closed and nothing of it is left. With --any the exit code is about those that are
    settled.
    """
    if everything and jobs:
        raise UsageError("--all means every job: name no others with it")
    clock = SystemClock()
    deadline_ns = None if timeout is None else clock.now_ns() + timeout
    with opened_store(state_dir) as (store, folder):
        if everything:
            ids = [status.id for status in reversed(store.jobs()) if status.finished_ns is None]
        else:
            ids = list(dict.fromkeys(choose_job(store, job).id for job in jobs or (None,)))
        look = _LOOK_S
        told: set[str] = set()
        while True:
            statuses = [store.status(job) for job in ids]
            settled = [status for status in statuses if _is_settled(status)]
            if len(settled) == len(statuses) or (first and settled):
                break
            if deadline_ns is not None and clock.now_ns() >= deadline_ns:
                break
            _tell(statuses, told, lambda status: shown_phase(status, work_phase(store, folder)), store)
            time.sleep(look)
            look = min(_LOOK_S_MAX, look * 1.5)
    shown = statuses if not (first and settled) else settled
    _print(shown, as_json=as_json, one=len(ids) == 1 and not everything)
    return 0 if all(_is_settled(s) and s.counts.get("done", 0) == s.total for s in shown) else 1


def _is_settled(status: JobStatus) -> bool:
    return status.phase == "cancelled" or not (open_count(status) or status.takes_more)


def _tell(statuses: Sequence[JobStatus], told: set[str], phase: Callable[[JobStatus], str], store: AnyStore) -> None:
    """Say once of each job why waiting may take for ever."""
    for status in statuses:
        if status.id in told or _is_settled(status):
            continue
        if status.takes_more and not open_count(status):
            told.add(status.id)
            click.echo(f"erg: {status.id} is open, more tasks may come; it ends after: erg close {status.id}", err=True)
        elif open_count(status) and (what := phase(status)) in ("stopped", "paused"):
            told.add(status.id)
            how = f"erg resume {status.id}" if what == "paused" else how_to_run(store, status.id)
            what = "is paused" if what == "paused" else "is run by nobody now"
            click.echo(f"erg: {status.id} {what}; it goes on after: {how}", err=True)


def _print(statuses: Sequence[JobStatus], *, as_json: bool, one: bool) -> None:
    if as_json:
        from ergates.cli.json_output import plain, print_json

        facts = [{**plain(status), "open": open_count(status)} for status in statuses]
        print_json(facts[0] if one else facts)
        return
    for status in statuses:
        counts = [f"{count(n)} {state}" for state in ("done", "failed", "cancelled") if (n := status.counts.get(state))]
        left = [f"{plural(n, 'task')} left"] if (n := open_count(status)) else []
        more = ["open"] if status.takes_more else []
        click.echo(f"{status.id}: " + (", ".join(counts + left + more) or "no tasks"))
    if not statuses:
        click.echo("nothing to wait for: every job is settled")
