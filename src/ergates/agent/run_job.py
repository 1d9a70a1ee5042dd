"""Runs one job to its end on this machine: lock, worker, signals, halt rule, result.

The first Ctrl-C (or TERM) drains: what runs may end, nothing new starts. The second gives back at once. Either way
every task is kept, and the same command resumes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ergates.agent.build_worker import build_worker
from ergates.agent.exchanging import Store
from ergates.agent.observer import Observer
from ergates.agent.settings import RunSettings
from ergates.agent.signals import Caught, caught_signals
from ergates.agent.worker import Worker
from ergates.cluster.attempt import Attempt
from ergates.cluster.job import JobStatus
from ergates.cluster.task import JobId
from ergates.cluster.task_state import TERMINAL
from ergates.drivers.job_lock import JobLock
from ergates.taskqueue.halt import HaltRule, Stop, halt_reached
from ergates.taskqueue.store import Cancelled, Done, Failed, Lease, Verdict

Why = Literal["finished", "drained", "given_back", "halted", "max_fails"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """How a run ended. `why` is `finished` when every task reached a terminal state."""

    status: JobStatus
    why: Why


class StopRule:
    """Counts tasks that reached their end and says when `--halt` or `--max-fails` asks to stop.

    Args:
        rule: `--halt`; counts this run only.
        max_failed: `--max-fails`; None for no limit.
        failed_before: tasks that had failed when the run began.
    """

    def __init__(self, rule: HaltRule | None, max_failed: int | None, failed_before: int) -> None:
        self._rule, self._max_failed, self._failed_before = rule, max_failed, failed_before
        self._succeeded = self._failed = 0
        self.halted = False

    def attempt_started(self, lease: Lease, at_ns: int) -> None:
        """Starts do not count."""

    def attempt_ended(self, lease: Lease, attempt: Attempt, verdict: Verdict, result: bytes | None) -> None:
        self._succeeded += isinstance(verdict, Done)
        self._failed += isinstance(verdict, Failed | Cancelled)

    def looked(self, snapshot: object) -> None:
        """Snapshots do not count."""

    def stop(self) -> Stop | None:
        """Whether to stop now, and how."""
        halt = halt_reached(self._rule, self._succeeded, self._failed)
        self.halted = self.halted or halt is not None
        too_many = self._max_failed is not None and self._failed_before + self._failed >= self._max_failed
        return halt or ("soon" if too_many else None)


def run_job(
    store: Store,
    job: JobId,
    settings: RunSettings,
    observers: Sequence[Observer] = (),
    *,
    on_signal: Callable[[int], None] | None = None,
    catch_signals: bool = True,
    until_empty: bool = False,
) -> RunResult:
    """Run until every task of `job` is terminal, or until told to stop.

    `on_signal` is called with 1 when a drain begins and with 2 when everything is given back; `catch_signals` is False
    outside the main thread. An open job is waited for until it is closed, unless `until_empty`.

    Raises:
        UsageError: another process runs this job.
        LaunchError: this machine cannot start tasks.
    """
    state_dir = Path(settings.state_dir)
    lock = JobLock(state_dir / "jobs" / job)
    lock.take(job)
    max_failed = store.spec(job).max_failed_tasks
    rule = StopRule(settings.halt, max_failed, store.status(job).counts["failed"])
    watched = settings.halt is not None or max_failed is not None
    try:
        with caught_signals(catch_signals) as signals:
            worker = build_worker(
                store, settings, jobs=(job,), observers=(*observers, rule), stop_rule=rule.stop if watched else None
            )
            try:
                worker.register()
                why = _loop(worker, signals, rule, on_signal, lambda: not until_empty and _more_may_come(store, job))
            finally:
                worker.close()
        return RunResult(status=store.status(job), why=why)
    finally:
        lock.release()


def _more_may_come(store: Store, job: JobId) -> bool:
    """Whether the job is open, or got tasks since the worker looked."""
    status = store.status(job)
    return status.takes_more or sum(status.counts[state] for state in TERMINAL) < status.total


def _loop(
    worker: Worker,
    signals: Caught,
    rule: StopRule,
    on_signal: Callable[[int], None] | None,
    more_may_come: Callable[[], bool],
) -> Why:
    told = 0
    if rule.stop() is not None:
        worker.drain()
    while True:
        worker.step()
        if signals.count > told:
            told = min(2, signals.count)
            worker.drain(give_back=told == 2)
            if on_signal is not None:
                on_signal(told)
        if worker.busy and not (told == 2 and worker.stuck):
            continue
        if worker.open_tasks == 0 and not more_may_come():
            return "halted" if rule.halted else "finished"
        if worker.draining and told:
            return "given_back" if told == 2 else "drained"
        if worker.draining:
            return "halted" if rule.halted else "max_fails"
