"""`erg explain`: why a task waits, came back or failed; or, for a whole job, which resource blocks how many tasks."""

from __future__ import annotations

from collections.abc import Sequence

import click

from ergates.cli.drained import Missing
from ergates.cli.joblog import shown_command
from ergates.cli.opened import AnyStore, opened_store, past_of
from ergates.cli.options import common_options, examples
from ergates.cli.selected import selected
from ergates.cli.tables import clean
from ergates.clock import SystemClock
from ergates.cluster.job import JobStatus
from ergates.cluster.node import NodeCapacity, WorkerLoad, WorkerOrders, WorkerStatus
from ergates.cluster.task_state import TaskState
from ergates.drivers.stores.sqlite import SqliteStore
from ergates.taskqueue.explain import explain
from ergates.taskqueue.explain_job import blocked, explain_job
from ergates.taskqueue.memory import MemoryModel
from ergates.taskqueue.node_settings import NodeSettings
from ergates.taskqueue.orders import ordered
from ergates.taskqueue.store import Offer, TaskView
from ergates.units import MilliCpus, Nanoseconds

_TASKS_MAX = 100
_JOBS_MAX = 100
"""Of so many unfinished jobs it is looked at what goes first."""


@click.command(epilog=examples("erg explain j3          the whole job", "erg explain 17", "erg explain j3/17 j3/20-22"))
@click.argument("tasks", nargs=-1, required=True, metavar="JOB|TASK...")
@common_options
def command(tasks: tuple[str, ...], state_dir: str | None, as_json: bool) -> None:
    """Why a TASK waits, came back or failed, and what its memory was predicted from.

    Of a whole JOB: which resource blocks how many of its tasks, and on which nodes.
    """
    with opened_store(state_dir) as (store, _):
        status, ranges = selected(store, tasks)
        if not ranges:
            _explain_job(store, status, as_json=as_json)
            return
        views = list(store.tasks(status.id, ids=ranges, limit=_TASKS_MAX))
        workers = workers_of(store)
        missing = Missing(store)
        told = [(view, sentences(store, status, view, workers, missing)) for view in views]
    missing.tell()
    if as_json:
        from ergates.cli.json_output import print_json

        print_json([{"task": int(view.task), "state": view.state.value, "sentences": text} for view, text in told])
        return
    for view, text in told:
        click.echo(f"{status.id}/{view.task}  {clean(shown_command(view.spec))}")
        for sentence in text:
            click.echo(f"  {clean(sentence)}")


def _explain_job(store: AnyStore, status: JobStatus, *, as_json: bool) -> None:
    offers = store.waiting(status.id)
    seat = None if isinstance(store, SqliteStore) else store.assembling()
    found = blocked(offers, workers_of(store), SystemClock().now_ns(), gangs=not isinstance(store, SqliteStore))
    most = max((offer.priority for offer in offers), default=0)
    ahead = sum(
        offer.waiting for offer in _waiting_everywhere(store) if offer.job != status.id and offer.priority > most
    )
    text = explain_job(status, found, ahead=ahead, assembling=seat)
    if as_json:
        from ergates.cli.json_output import print_json

        print_json({"job": status.id, "counts": status.counts, "sentences": text, "blocked": found})
        return
    click.echo(f"{status.id} {clean(status.name)}".rstrip())
    for sentence in text:
        click.echo(f"  {clean(sentence)}")


def sentences(
    store: AnyStore, status: JobStatus, view: TaskView, workers: Sequence[WorkerStatus], missing: Missing
) -> list[str]:
    """Everything there is to say about one task."""
    attempts = [attempt for _, _, attempt in past_of(store).attempts(status.id, ids=((view.task, view.task),))]
    missing.looked(view, attempts[-1] if attempts else None)
    live = [_capacity(worker) for worker in workers if worker.standing == "live"]
    one_machine = isinstance(store, SqliteStore)
    memory = None
    peaks = store.recall_peaks()
    if peaks and workers:  # what was learned is worth telling after the run, too
        largest = max(capacity.memory_bytes for capacity in live or map(_capacity, workers))
        memory = MemoryModel(largest, NodeSettings())
        memory.recall(peaks)
    return explain(
        view,
        attempts,
        _waiting_everywhere(store) if view.state is TaskState.READY else (),
        live[0] if one_machine and live else None,
        memory,
        now_ns=SystemClock().now_ns(),
        limits=store.spec(status.id).retry_limits,
        paused=status.phase == "paused",
        workers=() if one_machine else workers,
    )


def workers_of(store: AnyStore) -> tuple[WorkerStatus, ...]:
    """The workers, newest first; of an embedded store what they hold is counted from their leases."""
    if not isinstance(store, SqliteStore):
        return tuple(reversed(store.workers()))
    from ergates.drivers.stores.sqlite_report import SqliteReport

    running = [status.id for status in store.jobs() if status.counts.get("leased", 0)][:_JOBS_MAX]
    held: dict[str, int] = {}
    for job in running:
        for view in store.tasks(job, states=(TaskState.LEASED,)):
            held[view.worker] = held.get(view.worker, 0) + view.spec.requirement.cpus_milli
    return tuple(
        WorkerStatus(
            info=worker.info,
            standing=worker.standing,
            beat_age_ns=Nanoseconds(0),
            leases=worker.leases,
            orders=WorkerOrders(),
            load=WorkerLoad(
                running=worker.leases,  # some of them are only staged
                cpus_milli_held=MilliCpus(min(held.get(worker.info.id, 0), worker.info.capacity.cpus_milli)),
            ),
        )
        for worker in SqliteReport(store.connection()).workers()
    )


def _capacity(worker: WorkerStatus) -> NodeCapacity:
    return ordered(worker.info.capacity, worker.orders)


def _waiting_everywhere(store: AnyStore) -> tuple[Offer, ...]:
    """What is ready in all jobs that offer anything."""
    offering = [status.id for status in store.jobs() if status.phase == "active" and status.counts.get("ready", 0)]
    return tuple(offer for job in offering[:_JOBS_MAX] for offer in store.waiting(job))
