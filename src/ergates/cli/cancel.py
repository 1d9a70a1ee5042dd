"""`erg cancel`: whole jobs or some of their tasks; what runs is ended by its worker within a second or so."""

from __future__ import annotations

import sys

import click

from ergates.cli.chosen import matching_ids, where_option
from ergates.cli.opened import AnyStore, opened_store, past_of
from ergates.cli.options import common_options, examples
from ergates.cli.phase_change import all_option
from ergates.cli.selected import Ranges, several
from ergates.cli.wording import plural
from ergates.clock import SystemClock
from ergates.cluster.job import JobStatus
from ergates.cluster.task_state import TERMINAL, TaskState
from ergates.errors import UsageError

_STATES = tuple(state for state in TaskState if state not in TERMINAL)


@click.command(
    epilog=examples(
        "erg cancel j3",
        "erg cancel j3/17 j3/20-30 j4",
        "erg cancel j3/1-100 --reason 'wrong seed'",
        "erg cancel j3 --where 'label.seed > 50'",
        "erg cancel --all --yes",
    )
)
@click.argument("tasks", nargs=-1, metavar="JOB|TASK...")
@all_option("Every job that is not finished.")
@where_option
@click.option("--reason", default="", metavar="TEXT", help="Kept with the tasks; erg explain shows it.")
@click.option("--yes", is_flag=True, help="Do not ask before --all.")
@common_options
def command(
    tasks: tuple[str, ...],
    everything: bool,
    condition: str | None,
    reason: str,
    yes: bool,
    state_dir: str | None,
    as_json: bool,
) -> None:
    """Cancel JOBs, or TASKs of them. `erg retry` takes them back."""
    if not (tasks or everything):
        raise UsageError("nothing named to cancel\n  expected: a job such as j3, tasks such as j3/1-100, or --all")
    with opened_store(state_dir) as (store, _):
        found = several(store, tasks, everything=everything, wanted=lambda job: job.finished_ns is None)
        if everything and condition is None and found and not yes:
            _ask(found)
        facts = [_cancel(store, status, ranges, condition, reason) for status, ranges in found]
    if as_json:
        from ergates.cli.json_output import print_json

        print_json(facts[0] if len(facts) == 1 and not everything else facts)
        return
    for fact in facts:
        click.echo(f"{fact['job']}: {plural(int(str(fact['cancelled'])), 'task')} cancelled")
    if not facts:
        click.echo("no job to cancel")


def _cancel(
    store: AnyStore, status: JobStatus, ranges: Ranges, condition: str | None, reason: str
) -> dict[str, object]:
    now_ns = SystemClock().now_ns()
    whole = not ranges and condition is None
    if whole:
        before = status.counts.get("cancelled", 0)
        store.set_phase(status.id, "cancelled", now_ns)
        number = store.status(status.id).counts.get("cancelled", 0) - before
    else:
        meant = matching_ids(past_of(store), status, ranges, _STATES, condition)
        number = store.cancel(status.id, meant, reason or "cancelled by the user", now_ns) if meant else 0
    return {"job": status.id, "cancelled": number, "whole_job": whole}


def _ask(found: list[tuple[JobStatus, Ranges]]) -> None:
    if not sys.stdin.isatty():
        raise UsageError("--all cancels every job, and nobody can be asked\n  hint: --yes")
    click.confirm(f"Cancel {', '.join(status.id for status, _ in found)}?", abort=True)
