"""`erg status`: all jobs in a table, or one job in words. Reads counters, never scans a million tasks."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ergates.cli.jobs import choose_job, open_count, shown_phase
from ergates.cli.opened import AnyStore, how_to_run, opened_store, past_of, work_phase
from ergates.cli.options import DURATION, common_options, examples
from ergates.cli.status_lines import job_lines, jobs_lines
from ergates.cli.terminal import LiveArea, width_of
from ergates.clock import SystemClock
from ergates.cluster.job import JobStatus
from ergates.cluster.task_state import TaskState
from ergates.taskqueue.store import Reader

if TYPE_CHECKING:
    from ergates.taskqueue.eta import Pace

REASONS_READ = 1000
"""So many failed tasks are looked at for their reasons; the outcomes of all attempts are counters."""


@click.command(
    epilog=examples(
        "erg status              all jobs, newest first",
        "erg status j3           one job",
        "erg status j3 --watch   again and again until it is settled",
        "erg status --json",
        "erg status j3 --where 'state == failed and peak > 4G'    its tasks of which that holds",
    )
)
@click.argument("job", required=False)
@click.option("--watch", is_flag=True, help="Show it again every second, until all work is settled.")
@click.option("--interval", type=DURATION, default="1s", show_default=True, metavar="TIME", help="For --watch.")
@click.option("--where", "condition", metavar="EXPR", help="List the tasks of JOB of which this holds; reads them all.")
@common_options
def command(
    job: str | None, watch: bool, interval: int, condition: str | None, state_dir: str | None, as_json: bool
) -> None:
    """All jobs, or one JOB (j3, 3, its key or its name): counts, rate, failures by reason."""
    with opened_store(state_dir) as (store, folder):
        if condition is not None:
            _print_matching(store, job, condition, as_json=as_json)
            return
        if as_json:
            from ergates.cli.json_output import print_json

            print_json(_facts(store, folder, job))
            return
        if not watch:
            click.echo("\n".join(_lines(store, folder, job)[0]))
            return
        _watch(store, folder, job, interval)


def _print_matching(store: AnyStore, job: str | None, condition: str, *, as_json: bool) -> None:
    from ergates.cli.chosen import condition_of  # a look at the counters needs none of it
    from ergates.cli.status_tasks import matching_facts, matching_lines

    where = condition_of(condition)
    status = choose_job(store, job)
    assert where is not None
    past = past_of(store)
    if as_json:
        from ergates.cli.json_output import print_json

        print_json(matching_facts(past, status, where))
    else:
        click.echo("\n".join(matching_lines(past, status, where, width_of(sys.stdout, 100))))


def _watch(store: AnyStore, folder: Path, job: str | None, interval_ns: int) -> None:
    from ergates.taskqueue.eta import Pace

    live = LiveArea(sys.stdout) if sys.stdout.isatty() else None
    pace = Pace()
    while True:
        lines, settled = _lines(store, folder, job, pace)
        if live is not None:
            live.draw(lines)
        else:
            click.echo("\n".join(lines))
        if settled:
            break
        time.sleep(interval_ns / 1e9)
    if live is not None:
        click.echo()


def _lines(store: AnyStore, folder: Path, job: str | None, pace: Pace | None = None) -> tuple[list[str], bool]:
    now_ns = SystemClock().now_ns()
    width = width_of(sys.stdout, 100)
    if job is None:
        statuses = store.jobs()
        work = work_phase(store, folder)
        phases = [shown_phase(status, work) for status in statuses]
        return jobs_lines(statuses, phases, now_ns, width), all(open_count(status) == 0 for status in statuses)
    status = choose_job(store, job)
    phase = shown_phase(status, work_phase(store, folder))
    if pace is not None:
        pace.looked(now_ns, status.total - open_count(status))
    lines = job_lines(status, phase, _reasons(store, status), now_ns, width, how_to_run(store, status.id), pace)
    return lines, open_count(status) == 0


def _reasons(store: Reader, status: JobStatus) -> list[tuple[str, int]]:
    """Why tasks failed, most frequent first, of the first REASONS_READ failed tasks."""
    if not status.counts.get("failed", 0):
        return []
    counted: dict[str, int] = {}
    for view in store.tasks(status.id, states=(TaskState.FAILED,), limit=REASONS_READ):
        counted[view.reason] = counted.get(view.reason, 0) + 1
    return sorted(counted.items(), key=lambda item: -item[1])


def _facts(store: AnyStore, folder: Path, job: str | None) -> object:
    from ergates.cli.json_output import plain

    work = work_phase(store, folder)

    def one(status: JobStatus) -> dict[str, object]:
        return {**plain(status), "shown_phase": shown_phase(status, work), "open": open_count(status)}

    if job is None:
        return [one(status) for status in store.jobs()]
    status = choose_job(store, job)
    reasons = [{"reason": reason, "tasks": number} for reason, number in _reasons(store, status)]
    return {**one(status), "failures": reasons}
