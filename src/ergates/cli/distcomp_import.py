"""`erg distcomp import`: takes the waiting tasks of a live distComp queue over into a job of ours.

Its workers may go on meanwhile: each waiting line is claimed the way they claim it, so that it runs there or here, never both.
A take-over that was killed is finished by the next one.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, replace
from typing import Any

import click

from ergates.cli.distcomp_verbs import LABEL
from ergates.cli.opened import how_to_run, opened_store
from ergates.cli.options import common_options, examples
from ergates.cli.wording import count, plural
from ergates.clock import SystemClock
from ergates.cluster.job import JobSpec, RetryLimits
from ergates.cluster.task import JobId
from ergates.drivers.stores.distcomp_queue import DistcompQueue
from ergates.errors import StoreError, UsageError
from ergates.taskqueue.inputs.distcomp_lines import is_task_line, tasks_of_lines
from ergates.taskqueue.store import Submitter
from ergates.units import SECOND_NS, Nanoseconds

PASSWORD_VARIABLE = "ERGATES_DISTCOMP_PASSWORD"
RETRIES = 3
"""distComp tries a task four times."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenOver:
    """What a take-over did. `job` is None when nothing waited; `strange` are lines that are no tasks and stay there."""

    job: JobId | None
    taken: int
    strange: int
    given_back: int


def take_over(queue: DistcompQueue, store: Submitter, now_ns: Nanoseconds, source: str) -> TakenOver:
    """Claim what waits, submit it, mark it as moved; every step may be the last one before a crash."""
    given_back = queue.give_back_silent(now_ns // SECOND_NS)
    waiting = list(queue.waiting())
    tasks = [line for line in waiting if is_task_line(line)]
    tasks_of_lines(tasks, source)  # a line that cannot run is found before anything is touched
    queue.claim(tasks)
    lines = queue.claimed()
    strange = len(waiting) - len(tasks)
    if not lines:
        return TakenOver(job=None, taken=0, strange=strange, given_back=given_back)
    digest = hashlib.sha256(b"\n".join(lines)).hexdigest()[:32]
    job = JobSpec(
        key=f"distcomp-import/{digest}",
        name=f"distComp at {source}",
        cwd=os.getcwd(),
        source=source,
        retry_limits=RetryLimits(failures=RETRIES),
        labels={LABEL: "import"},
    )
    submitted = store.submit(job, tasks_of_lines(lines, source), now_ns, again=True)
    queue.mark_moved(lines, submitted.id)
    return TakenOver(job=submitted.id, taken=len(lines), strange=strange, given_back=given_back)


@click.command(
    name="import",
    epilog=examples(
        "erg distcomp import redis://manager:6379/0 --dry-run",
        "ERGATES_DISTCOMP_PASSWORD=... erg distcomp import redis://manager --store .ergates/store.toml",
    ),
)
@click.argument("url", metavar="URL")
@click.option("--dry-run", is_flag=True, help="Only say what is there.")
@common_options
def command(url: str, dry_run: bool, state_dir: str | None, as_json: bool) -> None:
    """Take the waiting tasks of a live distComp queue over. Its workers may go on: what they hold stays theirs.

    The password of its server is read from ERGATES_DISTCOMP_PASSWORD.
    """
    queue, source = _connected(url)
    import redis

    try:
        if dry_run:
            _print_counts(queue, as_json)
            return
        with opened_store(state_dir, create=True) as (store, _):
            taken = take_over(queue, store, SystemClock().now_ns(), source)
            how = how_to_run(store, taken.job) if taken.job else ""
    except redis.RedisError as error:
        raise StoreError(
            f"{source}: {error}\n  expected: distComp's Redis, its password in {PASSWORD_VARIABLE}\n  hint: what was claimed"
            " so far is kept under the name `ergates` in in_progress_tasks; the same command finishes the take-over"
        ) from error
    if as_json:
        from ergates.cli.json_output import plain, print_json

        print_json(plain(taken))
        return
    if taken.given_back:
        click.echo(f"{plural(taken.given_back, 'task')} of silent workers went back to those that wait")
    if taken.strange:
        click.echo(f"{plural(taken.strange, 'line')} of todo_tasks left there: no tasks", err=True)
    if taken.job is None:
        click.echo("nothing waits there")
    else:
        click.echo(f"job {taken.job}: {plural(taken.taken, 'task')} taken over; run them: {how}")


def _connected(url: str) -> tuple[DistcompQueue, str]:
    from ergates.drivers.stores.address import parse_url
    from ergates.drivers.stores.open_cluster import client_factory

    address = parse_url(url, origin="URL", may_hold_password=False)
    if address.service:
        raise UsageError(f"{url}: distComp's queue is on one server\n  expected: redis://HOST[:PORT][/DB]")
    address = replace(address, password=os.environ.get(PASSWORD_VARIABLE, ""))
    client: Any = client_factory(address)()
    return DistcompQueue(client), address.url


def _print_counts(queue: DistcompQueue, as_json: bool) -> None:
    counts = queue.counts()
    if as_json:
        from ergates.cli.json_output import plain, print_json

        print_json(plain(counts))
        return
    for name, number in (
        ("wait", counts.todo),
        ("are run by its workers (they stay theirs)", counts.in_progress),
        ("were claimed by a take-over that did not finish", counts.claimed),
        ("are in jobs of ours", counts.moved),
        ("are finished", counts.finished),
        ("have failed at least once", counts.failed),
    ):
        click.echo(f"{count(number):>10} {name}")
