"""What distComp's verbs mean here, on the jobs that they loaded (those with the label `distcomp`) and on nothing else."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ergates.cli.opened import past_of
from ergates.cli.task_output import task_output
from ergates.cli.wording import plural
from ergates.clock import SystemClock
from ergates.cluster.job import JobSpec, JobStatus, RetryLimits
from ergates.cluster.task import JobId, TaskId
from ergates.cluster.task_state import TaskState
from ergates.errors import UsageError
from ergates.taskqueue.inputs.distcomp_lines import line_of
from ergates.taskqueue.inputs.request import InputRequest
from ergates.taskqueue.inputs.source import read_tasks
from ergates.taskqueue.store import TaskView

if TYPE_CHECKING:
    from ergates.cli.opened import AnyStore

LABEL = "distcomp"
RETRIES = 3
"""distComp tries a task four times."""
GIVE_BACK_PATIENCE_S = 60
_GIB = 2**30
_RULE = "##" * 24

TODO = (TaskState.BLOCKED, TaskState.READY, TaskState.DELAYED)
ENDED_BADLY = (TaskState.FAILED, TaskState.CANCELLED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """distComp's filters: a task is shown when its line holds `include`, or (without one) does not hold `exclude`."""

    include: str = ""
    exclude: str = ""
    todo: bool = True
    in_progress: bool = True
    finished: bool = True
    failed: bool = True
    failed_reason: bool = True
    print_result: bool = True

    def passes(self, text: str) -> bool:
        if self.include:
            return self.include in text
        return not self.exclude or self.exclude not in text


@dataclass(frozen=True, slots=True)
class Context:
    """What every verb works on."""

    store: AnyStore
    folder: Path
    task_file: str
    shown: Shown

    def jobs(self) -> list[JobStatus]:
        """Ours alone, oldest first."""
        return [job for job in reversed(self.store.jobs()) if LABEL in self.store.spec(job.id).labels]

    def views(self, *states: TaskState) -> Iterator[TaskView]:
        for job in self.jobs():
            yield from self.store.tasks(job.id, states=states)

    def passing(self, *states: TaskState) -> dict[JobId, list[TaskId]]:
        """Tasks by job that the filters let through."""
        found: dict[JobId, list[TaskId]] = {}
        for job in self.jobs():
            views = self.store.tasks(job.id, states=states)
            ids = [view.task for view in views if self.shown.passes(line_of(view.spec))]
            if ids:
                found[job.id] = ids
        return found


def init_redis(context: Context) -> None:
    """Where distComp flushes the whole server, this cancels what these verbs loaded and is not finished."""
    now, cancelled = SystemClock().now_ns(), 0
    for job in context.jobs():
        if job.finished_ns is None and job.phase != "cancelled":
            cancelled += sum(job.counts[state.value] for state in (*TODO, TaskState.LEASED))
            context.store.set_phase(job.id, "cancelled", now)
    click.echo(f"initialised: {plural(cancelled, 'task')} of earlier loads cancelled, nothing else was touched")


def load_task(context: Context) -> None:
    """Add the lines of the task file that are not there yet. A line that stands there twice is two tasks."""
    from ergates.cli.input_files import InputFiles

    here = Counter(line_of(view.spec) for job in _alive(context) for view in context.store.tasks(job.id))
    with InputFiles() as files:
        request = InputRequest(files=(context.task_file,), format="distcomp", cwd=os.getcwd())
        tasks = list(read_tasks(request, files.open).tasks)
    new = []
    for task in tasks:
        line = line_of(task)
        if here[line] > 0:
            here[line] -= 1
        else:
            new.append(task)
    if new:
        joined = "\n".join(map(line_of, new)).encode("utf-8", "surrogateescape")
        job = JobSpec(
            key=f"distcomp/{hashlib.sha256(joined).hexdigest()[:32]}",
            name=Path(context.task_file).name,
            cwd=os.getcwd(),
            source=context.task_file,
            retry_limits=RetryLimits(failures=RETRIES),
            labels={LABEL: "load"},
        )
        context.store.submit(job, new, SystemClock().now_ns(), again=True)
    click.echo(f"load {len(tasks)} tasks, add {len(new)} task")


def check_task(context: Context) -> None:
    """Counts, then the lists that were asked for."""
    counts: Counter[str] = Counter()
    for job in context.jobs():
        counts.update(job.counts)
    failed = sum(counts[state] for state in ENDED_BADLY)
    todo = sum(counts[state] for state in TODO)
    click.echo(
        f"{todo} todo tasks, {counts[TaskState.LEASED]} in_progress tasks, {counts[TaskState.DONE]} finished tasks,"
        f" {failed} failed tasks\n"
    )
    shown = context.shown
    if shown.todo:
        _section(context, "todo task", TODO, lambda _view: "")
    if shown.in_progress:
        hosts = _hosts(context)
        _section(context, "in_progress task", (TaskState.LEASED,), lambda view: hosts.get(view.worker, view.worker))
    if shown.finished:
        _finished(context)
    if shown.failed:
        _section(context, "failed task", ENDED_BADLY, lambda view: plural(view.attempts, "attempt"))
    if shown.failed_reason and (failed or todo):
        states = (*TODO, *ENDED_BADLY)
        _section(context, "task fail reason", states, lambda view: view.reason, only_with_text=True)


def check_worker(context: Context) -> None:
    """One line a worker: seconds since it was heard of, cores and memory in use and in all, tasks."""
    click.echo("worker  last_update_from_now  cores_used  cores_total  mem_used (GB)  mem_total (GB)  n_current_task")
    roster = getattr(context.store, "workers", None)
    if roster is None:
        click.echo("(no cluster's store: `erg run` works here, see `erg status`)")
        return
    for worker in roster():
        if worker.standing in ("live", "silent") and context.shown.passes(worker.info.host):
            capacity, load = worker.info.capacity, worker.load
            click.echo(
                f"{worker.info.host:12} {worker.beat_age_ns // 10**9:>12} {load.cpus_milli_held / 1000:>12g}"
                f" {capacity.cpus_milli / 1000:>12g} {load.used_bytes / _GIB:>12.2f} {capacity.memory_bytes / _GIB:>12.2f}"
                f" {worker.leases:>12}"
            )


def cleanup(_context: Context) -> None:
    """Tasks of workers that are gone go back by themselves, 30 s after a worker's last beat."""
    click.echo("nothing to do: tasks of dead workers go back by themselves as soon as any worker or controller looks")


def remove_finished(_context: Context) -> None:
    """Finished tasks cost no time of a claim here, so they stay in the record."""
    click.echo("nothing to do: finished tasks slow nothing down here and stay in the record (erg report, erg export)")


def move_in_progress(context: Context) -> None:
    """End what runs and let it wait again. Its workers are told, and the tasks go back once they have ended."""
    moved = 0
    for job, ids in context.passing(TaskState.LEASED).items():
        ranges = [(task, task) for task in ids]
        context.store.cancel(job, ranges, "moved back by erg distcomp", SystemClock().now_ns())
        waited_until = time.monotonic() + GIVE_BACK_PATIENCE_S
        while any(True for _ in context.store.tasks(job, states=(TaskState.LEASED,), ids=ranges)):
            if time.monotonic() > waited_until:
                raise UsageError(
                    f"{job}: its workers have not ended these tasks within {GIVE_BACK_PATIENCE_S} s; they are cancelled"
                    " once they do\n  hint: try moveFailedTaskToTodo later"
                )
            time.sleep(0.1)
        moved += context.store.retry(job, ranges, SystemClock().now_ns())
    click.echo(f"{plural(moved, 'task')} moved to todo")


def move_failed(context: Context) -> None:
    """What failed waits again, its count of failures cleared."""
    moved = 0
    for job, ids in context.passing(*ENDED_BADLY).items():
        moved += context.store.retry(job, [(task, task) for task in ids], SystemClock().now_ns())
    click.echo(f"{plural(moved, 'task')} moved to todo")


VERBS: Mapping[str, Callable[[Context], None]] = {
    "initRedis": init_redis,
    "loadTask": load_task,
    "checkTask": check_task,
    "checkWorker": check_worker,
    "cleanup": cleanup,
    "removeFinishedTask": remove_finished,
    "moveInProgressTaskToTodo": move_in_progress,
    "moveFailedTaskToTodo": move_failed,
}


def _alive(context: Context) -> list[JobStatus]:
    """Loads that `initRedis` has not ended."""
    return [job for job in context.jobs() if job.phase != "cancelled"]


def _hosts(context: Context) -> dict[str, str]:
    roster = getattr(context.store, "workers", None)
    return {} if roster is None else {worker.info.id: worker.info.host for worker in roster()}


def _section(
    context: Context,
    title: str,
    states: tuple[TaskState, ...],
    tail: Callable[[TaskView], str],
    *,
    only_with_text: bool = False,
) -> None:
    click.echo(f"{_RULE}  {title}  {_RULE}")
    for view in context.views(*states):
        line, text = line_of(view.spec), tail(view)
        if context.shown.passes(line) and (text or not only_with_text):
            click.echo(f"{line}:         {text}" if text else line)


def _finished(context: Context) -> None:
    click.echo(f"{_RULE}  finished task  {_RULE}")
    for job in context.jobs():
        views = [
            view
            for view in context.store.tasks(job.id, states=(TaskState.DONE,))
            if context.shown.passes(line_of(view.spec))
        ]
        if not context.shown.print_result:
            for view in views:
                click.echo(line_of(view.spec))
            continue
        ids = [(view.task, view.task) for view in views]
        past = past_of(context.store)
        last = {task: attempt for _, task, attempt in past.attempts(job.id, ids=ids)} if ids else {}
        output = task_output(past, context.folder, job.id)
        output.gather(ids)
        for view in views:
            attempt = last.get(view.task)
            stdout, _ = output.read(view.task, attempt) if attempt is not None else (b"", b"")
            host = attempt.host if attempt is not None else ""
            click.echo(f"{line_of(view.spec)}:         {host}: {json.dumps(stdout.decode(errors='replace').strip())}")
