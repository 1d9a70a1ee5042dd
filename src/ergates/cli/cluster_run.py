"""`erg run --store`: the job is in the cluster's store, workers run it; here it is followed to its end, with progress and output.

Ctrl-C ends the following, not the job.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from ergates.agent.observer import NodeSnapshot, Observer
from ergates.cli.export_rows import last_attempts
from ergates.cli.joblog import JobLog, shown_command
from ergates.cli.jobs import open_count
from ergates.cli.opened import Past, past_of
from ergates.cli.output_printer import OutputPrinter
from ergates.cli.progress_display import ProgressDisplay
from ergates.cli.run_options import node_options
from ergates.cli.summary import Ending, ShownFailure, last_lines, summary_lines
from ergates.cli.task_output import TaskOutput, task_output
from ergates.cli.terminal import tell, width_of
from ergates.clock import SystemClock
from ergates.cluster.attempt import Attempt
from ergates.cluster.job import JobStatus
from ergates.cluster.task import TaskId
from ergates.cluster.task_state import TERMINAL, TaskState
from ergates.errors import ErgatesError, UsageError
from ergates.taskqueue.store import Cancelled, Done, Failed, Lease, TaskView, Verdict
from ergates.units import Bytes, Nanoseconds

if TYPE_CHECKING:
    from pathlib import Path

    from ergates.drivers.stores.redis.store import RedisStore

_LOOK_S, _LOOK_S_MAX = 0.1, 1.0
_ATTEMPTS_AT_ONCE = 500
_FAILURES_SHOWN = 3
_INTERRUPTED = 130
_NOBODY = "no worker is there: erg worker start, on any machine that reaches the store"


def refuse_node_options(ctx: click.Context) -> None:
    """What is about one machine cannot be said of a whole cluster. Raises UsageError."""

    @node_options
    def listed() -> None: ...

    names = {parameter.name: parameter.opts[-1] for parameter in getattr(listed, "__click_params__")}  # noqa: B009
    for name, option in names.items():
        if name is not None and ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise UsageError(
                f"{option} is about one machine, and --store runs the job on the cluster's workers"
                "\n  hint: each worker has limits of its own: erg worker start, erg worker set"
            )
    if ctx.params["line_buffer"]:
        raise UsageError(
            "--line-buffer shows output as it grows, which is on other machines\n  hint: --group, as tasks end"
        )


def follow_job(store: RedisStore, folder: Path, status: JobStatus, options: dict[str, Any], *, resumed: bool) -> int:
    """Until the job is settled, or nobody may go on with it. Returns the exit code."""
    clock = SystemClock()
    started_ns = clock.now_ns()
    live = not (options["quiet"] or options["no_progress"])
    display = ProgressDisplay(sys.stderr, enabled=live)
    follower = _Follower(store, status, display, until_empty=options["until_empty"])
    with ExitStack() as stack:
        stack.callback(display.close)
        if options["joblog"]:
            log = JobLog(options["joblog"], resumed=resumed)
            stack.callback(log.close)
            follower.observers.append(log)
        output = task_output(follower.past, folder, status.id)
        printer = _printer(store, output, status, options, display, resumed=resumed)
        if printer is not None:
            stack.callback(printer.close)
            follower.observers.append(printer)
        try:
            stopped = follower.follow(since_end=resumed)
        except KeyboardInterrupt:
            display.close()
            tell(f"{status.id} goes on without you; follow it: erg wait {status.id}   end it: erg cancel {status.id}")
            return _INTERRUPTED
    ending = Ending(
        elapsed_ns=clock.now_ns() - started_ns,
        stopped=stopped,
        resume_command=f"erg retry {status.id}, or erg cancel {status.id}",
        failures=_failures(follower.past, output, follower.status),
    )
    _tell_end(follower.status, ending, options)
    return 0 if follower.status.counts.get("done", 0) == follower.status.total else 1


class _Follower:
    """Looks at the job again and again, and tells observers what ended since."""

    def __init__(self, store: RedisStore, status: JobStatus, display: ProgressDisplay, *, until_empty: bool) -> None:
        self.status = status
        self._until_empty = until_empty
        self.observers: list[Observer] = []
        self._store, self._display = store, display
        self.past = past_of(store)
        self._clock = SystemClock()
        self._most_failed = store.spec(status.id).max_failed_tasks

    def follow(self, *, since_end: bool) -> str:
        """Why it stopped early, in words; empty when all is settled. `since_end` leaves out what ended before."""
        row, pause_s = 0, _LOOK_S
        if since_end and self.observers:
            row = max((each for each, _, _ in self.past.attempts(self.status.id)), default=0)
        while True:
            before = self.status
            self.status = self._store.status(before.id)
            if self.observers:
                row = self._tell_ends(row)
            self._show()
            counts = self.status.counts
            if not open_count(self.status) and (self._until_empty or not self.status.takes_more):
                return ""
            if self._most_failed is not None and counts["failed"] >= self._most_failed and not counts["leased"]:
                return "stopped: too many tasks failed (--max-fails)"
            pause_s = _LOOK_S if counts != before.counts else min(_LOOK_S_MAX, pause_s * 1.3)
            time.sleep(pause_s)

    def _show(self) -> None:
        workers = [worker for worker in self._store.workers() if worker.standing == "live"]
        waiting_for = "" if workers else _NOBODY
        if self.status.phase == "paused":
            waiting_for = f"paused; go on with: erg resume {self.status.id}"
        leased = self.status.counts.get("leased", 0)
        running = min(leased, sum(worker.load.running for worker in workers))  # workers hold some more ready
        snapshot = NodeSnapshot(
            at_ns=Nanoseconds(self._clock.now_ns()),
            running=running,
            frozen=sum(worker.load.frozen for worker in workers),
            staged=leased - running,
            used_bytes=Bytes(sum(worker.load.used_bytes for worker in workers)),
            capacity_bytes=Bytes(sum(worker.info.capacity.memory_bytes for worker in workers)),
            cpus_milli_held=sum(worker.load.cpus_milli_held for worker in workers),
            cpus_milli=sum(worker.info.capacity.cpus_milli for worker in workers),
            job=self.status,
            waiting_for=waiting_for if open_count(self.status) else "",
        )
        for observer in (*self.observers, self._display):
            observer.looked(snapshot)

    def _tell_ends(self, row: int) -> int:
        found: dict[TaskId, Attempt] = {}
        for next_row, task, attempt in self.past.attempts(self.status.id, since_row=row):
            row = next_row
            found[task] = attempt
            if len(found) >= _ATTEMPTS_AT_ONCE:
                self._tell(found)
                found = {}
        self._tell(found)
        return row

    def _tell(self, found: dict[TaskId, Attempt]) -> None:
        for lease, attempt, verdict in self._settled(found):
            for observer in self.observers:
                observer.attempt_ended(lease, attempt, verdict, None)

    def _is_last(self, view: TaskView, attempt: Attempt) -> bool:
        """Whether a task that is at an end had no attempt after this one."""
        if view.attempts == attempt.number:
            return True
        # Of two that ran at a time the one with the smaller number may be the last (a copy that failed before it).
        *_, last = self.past.attempts(self.status.id, ids=[(view.task, view.task)])
        return last[2].number == attempt.number

    def _settled(self, found: dict[TaskId, Attempt]) -> Iterator[tuple[Lease, Attempt, Verdict]]:
        """Those attempts that settled their task, in the order of their ends."""
        if not found:
            return
        job = self.status.id
        views = {view.task: view for view in self._store.tasks(job, ids=[(task, task) for task in sorted(found)])}
        for task, attempt in found.items():
            view = views[task]
            if view.state not in TERMINAL or not self._is_last(view, attempt):
                continue
            ends: dict[TaskState, Verdict] = {TaskState.DONE: Done(), TaskState.FAILED: Failed(view.reason)}
            verdict = ends.get(view.state, Cancelled(view.reason))
            lease = Lease(job=job, task=task, fence=0, attempt=attempt.number, spec=view.spec, past=view.past)
            yield lease, attempt, verdict


def _printer(
    store: RedisStore,
    output: TaskOutput,
    status: JobStatus,
    options: dict[str, Any],
    display: ProgressDisplay,
    *,
    resumed: bool,
) -> OutputPrinter | None:
    if not any(options[name] for name in ("output", "group", "keep_order", "tag")):
        return None
    settled: Sequence[int] = ()
    if options["keep_order"] and resumed:
        settled = [view.task for view in store.tasks(status.id, states=tuple(sorted(TERMINAL)))]
    return OutputPrinter(
        output,
        display,
        sys.stdout.buffer,
        sys.stderr.buffer,
        tag=options["tag"],
        keep_order=options["keep_order"],
        given_labels=store.spec(status.id).labels,
        skipped=settled,
    )


def _failures(past: Past, output: TaskOutput, status: JobStatus) -> tuple[ShownFailure, ...]:
    """The first tasks that failed, with the last lines they wrote."""
    if not status.counts.get("failed", 0):
        return ()
    views = list(past.tasks(status.id, states=(TaskState.FAILED,), limit=_FAILURES_SHOWN))
    attempts = last_attempts(past.attempts(status.id, ids=[(view.task, view.task) for view in views]))
    shown = []
    for view in views:
        lines: tuple[str, ...] = ()
        if view.task in attempts:
            try:
                lines = last_lines(output.read(view.task, attempts[view.task])[1])
            except ErgatesError as error:  # the summary still has to come
                lines = (str(error),)
        shown.append(
            ShownFailure(task=view.task, reason=view.reason, command=shown_command(view.spec), last_lines=lines)
        )
    return tuple(shown)


def _tell_end(status: JobStatus, ending: Ending, options: dict[str, Any]) -> None:
    if options["as_json"]:
        from ergates.cli.json_output import plain, print_json

        facts = {**plain(status), "why": "max_fails" if ending.stopped else "finished", "open": open_count(status)}
        failures = [
            {"task": each.task, "reason": each.reason, "command": each.command, "last_lines": each.last_lines}
            for each in ending.failures
        ]
        print_json({**facts, "elapsed_ns": ending.elapsed_ns, "first_failures": failures})
    elif not options["quiet"] or status.counts.get("failed", 0):
        tell("\n".join(summary_lines(status, ending, width_of(sys.stderr, 100))))
