"""`erg explain`: why a task waits, came back or failed, and what its memory was predicted from."""

from __future__ import annotations

from collections import Counter

import click

from ergates.cli.joblog import shown_command
from ergates.cli.opened import opened_store
from ergates.cli.options import common_options, examples
from ergates.cli.selected import selected
from ergates.cli.tables import clean
from ergates.clock import SystemClock
from ergates.cluster.job import JobStatus
from ergates.cluster.task import Requirement
from ergates.cluster.task_state import TaskState
from ergates.drivers.stores.sqlite import SqliteStore
from ergates.drivers.stores.sqlite_report import SqliteReport
from ergates.errors import UsageError
from ergates.taskqueue.explain import explain
from ergates.taskqueue.memory import MemoryModel
from ergates.taskqueue.node_settings import NodeSettings
from ergates.taskqueue.store import Offer, TaskView

_TASKS_MAX = 100
_READY_READ = 10_000
"""To say how many go first, at most so many ready tasks are looked at."""


@click.command(epilog=examples("erg explain 17", "erg explain j3/17 j3/20-22"))
@click.argument("tasks", nargs=-1, required=True, metavar="TASK...")
@common_options
def command(tasks: tuple[str, ...], state_dir: str | None, as_json: bool) -> None:
    """Why a TASK waits, came back or failed, and what its memory was predicted from."""
    with opened_store(state_dir) as (store, _):
        status, ranges = selected(store, tasks)
        if not ranges:
            raise UsageError(f"{status.id} is a whole job\n  expected: a task of it, such as {status.id}/1")
        views = list(store.tasks(status.id, ids=ranges, limit=_TASKS_MAX))
        told = [(view, sentences(store, status, view)) for view in views]
    if as_json:
        from ergates.cli.json_output import print_json

        print_json([{"task": int(view.task), "state": view.state.value, "sentences": text} for view, text in told])
        return
    for view, text in told:
        click.echo(f"{status.id}/{view.task}  {clean(shown_command(view.spec))}")
        for sentence in text:
            click.echo(f"  {clean(sentence)}")


def sentences(store: SqliteStore, status: JobStatus, view: TaskView) -> list[str]:
    """Everything there is to say about one task."""
    attempts = [attempt for _, _, attempt in store.attempts(status.id, ids=((view.task, view.task),))]
    workers = SqliteReport(store.connection()).workers()  # newest first
    live = next((worker.info.capacity for worker in workers if worker.standing == "live"), None)
    memory = None
    peaks = store.recall_peaks()
    if peaks and workers:  # what was learned is worth telling after the run, too
        memory = MemoryModel((live or workers[0].info.capacity).memory_bytes, NodeSettings())
        memory.recall(peaks)
    return explain(
        view,
        attempts,
        _offers(store, status) if view.state is TaskState.READY else (),
        live,
        memory,
        now_ns=SystemClock().now_ns(),
        limits=store.spec(status.id).retry_limits,
        paused=status.phase == "paused",
    )


def _offers(store: SqliteStore, status: JobStatus) -> tuple[Offer, ...]:
    ready = store.tasks(status.id, states=(TaskState.READY,), limit=_READY_READ)
    waiting: Counter[tuple[int, Requirement]] = Counter((view.spec.priority, view.spec.requirement) for view in ready)
    return tuple(
        Offer(job=status.id, class_id=0, requirement=requirement, priority=priority, waiting=number)
        for (priority, requirement), number in waiting.items()
    )
