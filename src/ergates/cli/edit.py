"""`erg edit`: change many queued tasks at once; what runs meanwhile is left alone and said so."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

import click

from ergates.cli.chosen import chosen_rows, condition_of, where_option
from ergates.cli.edit_rules import EditRules, change_lines, edit_rules
from ergates.cli.opened import AnyStore, how_to_run, opened_store, past_of, work_phase
from ergates.cli.options import common_options, examples
from ergates.cli.selected import Ranges, several
from ergates.cli.tables import clean
from ergates.cli.terminal import width_of
from ergates.cli.wording import plural, shortened
from ergates.clock import SystemClock
from ergates.cluster.job import JobStatus
from ergates.cluster.task import TaskId, TaskSpec
from ergates.cluster.task_state import TaskState
from ergates.errors import UsageError
from ergates.taskqueue.store import Changes
from ergates.taskqueue.where import Where

SHOWN = 10
_AT_ONCE = 2000
"""Tasks of one call to the store, which is locked for no longer."""
_RERUN = {
    None: frozenset[TaskState](),
    "finished": frozenset({TaskState.DONE}),
    "failed": frozenset({TaskState.FAILED, TaskState.CANCELLED}),
    "all": frozenset({TaskState.DONE, TaskState.FAILED, TaskState.CANCELLED}),
}


@dataclass(slots=True)
class Plan:
    """What an edit of one job comes to.

    Args:
        change: tasks that stay as they are but for what was asked.
        again: tasks that run again, changed or not.
        running, settled: that were meant, but run now, or are done and not to run again.
        same: that are as asked for already.
        first: (its name, the spec before, what changes, whether it runs again) of the first few.
    """

    status: JobStatus
    change: list[tuple[TaskId, Changes]] = field(default_factory=list)
    again: list[tuple[TaskId, Changes]] = field(default_factory=list)
    running: int = 0
    settled: int = 0
    same: int = 0
    first: list[tuple[str, TaskSpec, Changes, bool]] = field(default_factory=list)

    @property
    def number(self) -> int:
        return len(self.change) + len(self.again)


@click.command(
    epilog=examples(
        "erg edit j3 --where 'command ~ \"cachesim\"' --set priority=9 --dry-run",
        "erg edit j3 --where 'state == failed and reason ~ memory' --set memory=16G --rerun failed",
        "erg edit --all --replace /old/data=/new/data --rerun finished --yes",
        "erg edit j3/1-100 --set time_limit=2h --set label.study=second",
    )
)
@click.argument("tasks", nargs=-1, metavar="[JOB|TASK]...")
@click.option("--all", "everything", is_flag=True, help="Tasks of all jobs.")
@where_option
@click.option(
    "--set", "settings", multiple=True, metavar="NAME=VALUE",
    help="priority, cpus, memory, time_limit (or none), retries, command, label.NAME (empty: away), resource.NAME.",
)  # fmt: skip
@click.option("--replace", "replacements", multiple=True, metavar="OLD=NEW", help="Other text in the commands.")
@click.option(
    "--rerun", type=click.Choice(["finished", "failed", "all"]),
    help="Run again what is done, what failed or was cancelled, or both. Else what failed is changed and stays failed.",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Show what would change; change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@common_options
def command(
    tasks: tuple[str, ...],
    everything: bool,
    condition: str | None,
    settings: tuple[str, ...],
    replacements: tuple[str, ...],
    rerun: str | None,
    dry_run: bool,
    yes: bool,
    state_dir: str | None,
    as_json: bool,
) -> None:
    """Change tasks that wait, failed or were cancelled, of a JOB (or some TASKs of it).

    What runs now is left alone, and so is what is done, unless --rerun takes it back into the queue.
    """
    rules, where = edit_rules(settings, replacements), condition_of(condition)
    if not (settings or replacements or rerun):
        raise UsageError("nothing to change\n  expected: --set NAME=VALUE, --replace OLD=NEW or --rerun")
    if not (tasks or everything):
        raise UsageError("no tasks named\n  expected: a job such as j3, tasks such as j3/1-100, or --all")
    with opened_store(state_dir) as (store, folder):
        plans = [
            _plan(store, status, ranges, where, rules, rerun)
            for status, ranges in several(store, tasks, everything=everything, wanted=lambda _: True)
        ]
        if dry_run or not as_json:
            _show(plans, dry_run=dry_run, as_json=as_json, full=dry_run or not yes)
        total = sum(plan.number for plan in plans)
        if dry_run or (not total and not as_json):
            return
        if total and not yes:
            _ask(total)
        done = [(plan, _perform(store, plan)) for plan in plans if plan.number or not everything]
        work = work_phase(store, folder)
        idle = [plan.status.id for plan, _ in done if plan.again and work(store.status(plan.status.id)) == "stopped"]
        hints = [how_to_run(store, job) for job in idle]
    if as_json:
        from ergates.cli.json_output import print_json

        facts = [{**_facts(plan), "changed": changed, "left_alone": plan.number - changed} for plan, changed in done]
        print_json(facts if everything or len(facts) != 1 else facts[0])
        return
    for plan, changed in done:
        left = plan.number - changed
        late = f"; {plural(left, 'task')} left alone: began or ended meanwhile, or cannot run" if left else ""
        click.echo(f"{plan.status.id}: {plural(changed, 'task')} changed{late}")
    for hint in dict.fromkeys(hints):
        click.echo(f"run it: {hint}")


def _plan(
    store: AnyStore, status: JobStatus, ranges: Ranges, where: Where | None, rules: EditRules, rerun: str | None
) -> Plan:
    plan = Plan(status)
    for view, _ in chosen_rows(past_of(store), status, ranges, where=where, attempts=False):
        again = view.state in _RERUN[rerun]
        if view.state == TaskState.LEASED:
            plan.running += 1
            continue
        if view.state == TaskState.DONE and not again:
            plan.settled += 1
            continue
        name = f"{status.id}/{view.task}"
        changes = rules.of(view.spec, name)
        if changes == Changes() and not again:
            plan.same += 1
            continue
        (plan.again if again else plan.change).append((view.task, changes))
        if plan.number <= SHOWN:
            plan.first.append((name, view.spec, changes, again))
    return plan


def _perform(store: AnyStore, plan: Plan) -> int:
    """How many were changed. What runs again goes in one call: tasks that come after one another come back together."""
    now_ns, job = SystemClock().now_ns(), plan.status.id
    changed = len(store.edit(job, plan.again, now_ns, rerun=True)) if plan.again else 0
    for start in range(0, len(plan.change), _AT_ONCE):
        changed += len(store.edit(job, plan.change[start : start + _AT_ONCE], now_ns))
    return changed


def _show(plans: Sequence[Plan], *, dry_run: bool, as_json: bool, full: bool) -> None:
    if as_json:
        from ergates.cli.json_output import print_json

        print_json([{**_facts(plan), "dry_run": True, "first": _first(plan)} for plan in plans])
        return
    width = width_of(sys.stdout, 100)
    for plan in plans:
        left = [
            f"{plural(number, 'task')} {why}"
            for number, why in (
                (plan.running, "run now"),
                (plan.settled, "done already (--rerun finished takes them back)"),
                (plan.same, "so already"),
            )
            if number
        ]
        if full:
            for name, spec, changes, again in plan.first:
                for line in change_lines(name + (" (runs again)" if again else ""), spec, changes):
                    click.echo(shortened(clean(line), width))
            if plan.number > len(plan.first):
                click.echo(f"... and {plural(plan.number - len(plan.first), 'more task')}")
        verb = "would change" if dry_run else "to change"
        alone = f"; left alone: {', '.join(left)}" if left else ""
        if full or left or not plan.number:
            click.echo(f"{plan.status.id}: {plural(plan.number, 'task')} {verb}{alone}")


def _ask(total: int) -> None:
    if not sys.stdin.isatty():
        raise UsageError(
            f"{plural(total, 'task')} would be changed, and nobody can be asked\n  hint: --yes, or --dry-run"
        )
    click.confirm(f"Change {plural(total, 'task')}?", abort=True)


def _facts(plan: Plan) -> dict[str, object]:
    return {
        "job": plan.status.id,
        "matched": plan.number + plan.running + plan.settled + plan.same,
        "to_change": plan.number,
        "to_run_again": len(plan.again),
        "running": plan.running,
        "done": plan.settled,
        "already_so": plan.same,
    }


def _first(plan: Plan) -> list[dict[str, object]]:
    from ergates.cli.json_output import plain

    rows: list[dict[str, object]] = []
    for name, spec, changes, again in plan.first:
        before = {key: getattr(spec, key) for key in changes.__struct_fields__ if getattr(changes, key) is not None}
        after = {key: getattr(changes, key) for key in before}
        rows.append({"task": name, "runs_again": again, "before": plain(before), "after": plain(after)})
    return rows
