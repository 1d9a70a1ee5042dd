"""`erg forget`: finished jobs leave the store, and take all that the store keeps of them along.

Nothing is lost without being told: attempts that no ledger has keep their job, unless `--with-history` lets them go.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from ergates.cli.jobs import choose_job
from ergates.cli.opened import AnyStore, job_holder, opened_store
from ergates.cli.options import DURATION, common_options, examples
from ergates.cli.wording import plural
from ergates.clock import SystemClock
from ergates.cluster.job import JobStatus
from ergates.drivers.stores.sqlite import SqliteStore
from ergates.errors import UsageError
from ergates.taskqueue.retention import Forgetting, Judged, judge
from ergates.units import format_duration

_EMBEDDED_HINT = "erg export and erg report show them now; --with-history removes them together with what tasks printed"


@click.command(
    epilog=examples(
        "erg forget j3 j5",
        "erg forget --all-finished --older-than 7d --dry-run",
        "erg forget --all-finished --older-than 7d      on a cluster with a ledger: for cron",
        "erg forget j3 --with-history                   its attempts and outputs, too",
    )
)
@click.argument("jobs", nargs=-1, metavar="JOB...")
@click.option("--all-finished", is_flag=True, help="Every job that is finished.")
@click.option("--older-than", type=DURATION, metavar="TIME", help="Only jobs that were finished so long ago: 7d, 12h.")
@click.option(
    "--with-history",
    "--undrained-too",
    "history",
    is_flag=True,
    help="Also attempts that are nowhere else: those no ledger has; on one machine all, and what tasks printed.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be forgotten, and do nothing.")
@click.option("--yes", is_flag=True, help="Do not ask before --all-finished --with-history.")
@common_options
def command(
    jobs: tuple[str, ...], all_finished: bool, older_than: int | None, history: bool, dry_run: bool, yes: bool,
    state_dir: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Remove finished or cancelled JOBs from the store. What a ledger has of them stays there.

    A job that is not finished is refused, and so is one whose attempts are in no ledger. The same input under the same key is
    a new job afterwards, which runs from its beginning.
    """
    if all_finished == bool(jobs):
        raise UsageError("which jobs shall be forgotten?\n  expected: JOBs such as j3, or --all-finished, and not both")
    with opened_store(state_dir) as (store, folder):
        found = _named(store, jobs) if jobs else [job for job in reversed(store.jobs()) if job.finished_ns is not None]
        judged = judge(
            found, store.with_history(), SystemClock().now_ns(), older_than_ns=older_than or 0, history=history
        )
        _refuse(store, judged, named=bool(jobs))
        chosen = [each.job for each in judged if each.verdict is Forgetting.FORGOTTEN]
        if not dry_run:
            if all_finished and history and chosen and not yes:
                _ask(chosen)
            judged = _forget(store, folder, judged, history=history)
        hint = _how_to_drain(store)
    _tell(judged, older_than, hint, dry_run=dry_run, as_json=as_json)


def _named(store: AnyStore, words: Sequence[str]) -> list[JobStatus]:
    """Each once, however it was called."""
    found = [choose_job(store, word) for word in words]
    return list({status.id: status for status in found}.values())


def _refuse(store: AnyStore, judged: Sequence[Judged], *, named: bool) -> None:
    """Raise UsageError before anything is done: for jobs that were named and must stay, or when one machine's all must."""
    embedded = isinstance(store, SqliteStore)
    for each in judged:
        if named and each.verdict is Forgetting.UNFINISHED:
            raise UsageError(
                f"{each.job.id} is not finished\n  hint: `erg cancel {each.job.id}` ends it; then it may go"
            )
    kept = [each.job.id for each in judged if each.verdict is Forgetting.HISTORY]
    if not kept or not (named or embedded):
        return
    names = ", ".join(kept[:5]) + (f" and {len(kept) - 5} more" if len(kept) > 5 else "")
    if embedded:
        raise UsageError(
            f"this directory's store has the only records of what was run in {names}\n  hint: {_EMBEDDED_HINT}"
        )
    raise UsageError(f"attempts of {names} are in no ledger yet\n  hint: {_how_to_drain(store)}")


def _how_to_drain(store: AnyStore) -> str:
    """With the ledger it was drained into before, if there was one."""
    place = None if isinstance(store, SqliteStore) else store.ledger_noted()
    where = "URL|FILE" if place is None else place.where
    on = f" on {place.host}" if place is not None and place.host else ""
    return f"`erg controller --once --ledger {where}`{on} moves them into a ledger; --with-history loses them"


def _forget(store: AnyStore, folder: Path, judged: Sequence[Judged], *, history: bool) -> tuple[Judged, ...]:
    """Forget those that may be; the store decides again, and what it says counts."""
    if not isinstance(store, SqliteStore):
        return tuple(_done(store, each, history=history) for each in judged)
    from ergates.drivers.output.forget import remove_set_aside, set_aside

    remove_set_aside(folder)  # what a call left that was killed
    gone = [each.job.id for each in judged if each.verdict is Forgetting.FORGOTTEN]
    for job in gone:
        holder = job_holder(folder, job)
        if holder is not None:
            raise UsageError(f"{job} is held by another process (pid {holder})\n  hint: try again when it has ended")
    for job in gone:
        set_aside(folder, job)
    done = tuple(_done(store, each, history=history) for each in judged)
    remove_set_aside(folder)
    return done


def _done(store: AnyStore, each: Judged, *, history: bool) -> Judged:
    if each.verdict is not Forgetting.FORGOTTEN:
        return each
    return Judged(job=each.job, verdict=store.forget_job(each.job.id, history=history))


def _ask(chosen: Sequence[JobStatus]) -> None:
    if not sys.stdin.isatty():
        raise UsageError(
            "--with-history loses the records of every finished job, and nobody can be asked\n  hint: --yes"
        )
    click.confirm(f"Forget {plural(len(chosen), 'job')} and the only records of them?", abort=True)


def _tell(judged: Sequence[Judged], older_than: int | None, hint: str, *, dry_run: bool, as_json: bool) -> None:
    gone = [each for each in judged if each.verdict is Forgetting.FORGOTTEN]
    kept = [each for each in judged if each.verdict in (Forgetting.HISTORY, Forgetting.UNFINISHED)]
    if as_json:
        from ergates.cli.json_output import print_json

        rows = [
            {"job": each.job.id, "name": each.job.name, "total": each.job.total, "verdict": each.verdict.value}
            for each in judged
        ]
        print_json({"dry_run": dry_run, "jobs": rows})
        return
    for each in gone:
        name = f" ({each.job.name})" if each.job.name else ""
        click.echo(
            f"{each.job.id}{name}: {'would be forgotten' if dry_run else 'forgotten'}, {plural(each.job.total, 'task')}"
        )
    if not gone:
        age = f" that finished more than {format_duration(older_than)} ago" if older_than else ""
        click.echo(f"no job to forget{age}")
    for each in kept:
        why = "its attempts are in no ledger yet" if each.verdict is Forgetting.HISTORY else "it runs again"
        click.echo(f"erg: {each.job.id} stays: {why}", err=True)
    if any(each.verdict is Forgetting.HISTORY for each in kept):
        click.echo(f"  hint: {hint}", err=True)
