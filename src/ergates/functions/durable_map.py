"""`ergates.map(..., job="name")`: every call is a task of a job in `.ergates`, run by the same worker as `erg run`.

So calls are packed by the memory they are seen to use, given back when it runs short, metered, and kept in the ledger;
`erg status`, `erg logs` and `erg explain` know them. The result of each lies in the job's output packs. The same line run
again, after a crash or Ctrl-C, runs only the calls that have no result; with the function as it is now, so that one
that failed can be mended first.
"""

from __future__ import annotations

import hashlib
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from ergates.agent.build_worker import build_worker
from ergates.agent.observer import NodeSnapshot
from ergates.agent.settings import RunSettings
from ergates.clock import SystemClock
from ergates.cluster.attempt import Attempt, Outcome, Output
from ergates.cluster.job import JobSpec, RetryLimits
from ergates.cluster.task import JobId, Requirement, TaskSpec
from ergates.drivers.job_lock import JobLock
from ergates.drivers.output.read import read_output
from ergates.drivers.stores.state_dir import StateDir, make_state_dir
from ergates.errors import ErgatesError
from ergates.functions.errors import CallTimedOutError, WorkerDiedError
from ergates.functions.payload import encode_payload, read_kept_result
from ergates.functions.same_calls import check_same, shown_call
from ergates.functions.serialise import dump_arguments, load_result, name_of, raised, save_function
from ergates.taskqueue.store import Lease, Returned, Verdict
from ergates.units import MilliCpus, Nanoseconds

End = tuple[int, Attempt] | BaseException | None
"""A task that is over (0-based), what ended the worker, or None: it is through."""


class DurableMap:
    """One `map` with a name.

    Args:
        job: the name; the same one later means the same calls.
        workers: how many calls run at once.
        state_dir: None: `.ergates` of the working directory.

    Raises:
        UsageError: the job was made of other items, or is being run by another process.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        items: Iterable[Any],
        *,
        job: str,
        workers: int,
        cpus_milli: MilliCpus,
        memory_bytes: int,
        retries: int,
        time_limit_ns: Nanoseconds | None,
        state_dir: Path | None,
        ordered: bool,
        return_errors: bool,
        show_output: bool,
    ) -> None:
        self._name = name_of(function)
        self._ordered, self._return_errors, self._show_output = ordered, return_errors, show_output
        self._place: StateDir = make_state_dir(Path.cwd(), state=state_dir)
        path = save_function(
            function, self._place.root / "functions", f"job-{hashlib.sha256(job.encode()).hexdigest()[:32]}.pickle"
        )
        requirement = Requirement(cpus_milli=cpus_milli, memory_bytes=memory_bytes)  # type: ignore[arg-type]
        tasks = [
            TaskSpec(
                command=shown_call(self._name, item),
                kind="python",
                requirement=requirement,
                time_limit_ns=time_limit_ns,
                retries=retries,
                payload=encode_payload(path, dump_arguments(function, (item,), {}), keep=True),
            )
            for item in items
        ]
        self._settings = RunSettings(
            jobs=workers, cpus_milli=MilliCpus(workers * cpus_milli), state_dir=str(self._place.root)
        )
        self._ended: SimpleQueue[End] = SimpleQueue()
        self._stop = threading.Event()
        self._store = self._place.open_store()
        try:
            self._job = self._submit(job, tasks, retries)
            self._total = len(tasks)
            self._lock = JobLock(self._place.root / "jobs" / self._job)
            self._lock.take(self._job)
        except BaseException:
            self._store.close()
            raise
        self._thread = threading.Thread(target=self._work, name="ergates-job", daemon=True)
        self._thread.start()

    def _submit(self, job: str, tasks: list[TaskSpec], retries: int) -> JobId:
        spec = JobSpec(
            key=f"map:{job}",
            name=job,
            cwd=os.getcwd(),
            source="ergates.map",
            retry_limits=RetryLimits(failures=retries),
        )
        now_ns = SystemClock().now_ns()
        before = {status.key for status in self._store.jobs()}
        submitted = self._store.submit(spec, tasks, now_ns)
        if spec.key in before:
            check_same(self._store, submitted.id, job, tasks)
            self._store.retry(submitted.id, [(1, max(1, len(tasks)))], now_ns)
        return submitted.id

    # --- results ------------------------------------------------------------------------------

    def results(self) -> Iterator[Any]:
        """What the calls returned."""
        early: dict[int, Attempt] = {}
        given = 0
        while given < self._total:
            end = self._ended.get()
            if end is None:
                raise ErgatesError(
                    f"job {self._job} stopped with {self._total - given} calls open: run it again, it will go on\n"
                    f"  hint: erg status {self._job} says how it stands"
                )
            if isinstance(end, BaseException):
                raise end
            index, attempt = end
            if not self._ordered:
                given += 1
                yield self._value(attempt)
                continue
            early[index] = attempt
            while given in early:
                attempt = early.pop(given)
                given += 1
                yield self._value(attempt)

    def _value(self, attempt: Attempt) -> Any:
        folder = self._place.output(self._job)
        if self._show_output and attempt.output.pack:
            _show(folder, attempt.output)
        if attempt.output.pack and attempt.outcome in (Outcome.SUCCEEDED, Outcome.FAILED):
            result = read_kept_result(folder, attempt.output)
            value = load_result(result)
            if not raised(result):
                return value
        elif attempt.outcome is Outcome.TIMED_OUT:
            value = CallTimedOutError(f"{self._name} {attempt.reason}")
        elif attempt.outcome in (Outcome.LOST, Outcome.SIGNALLED, Outcome.OOM_KILLED, Outcome.FAILED):
            value = WorkerDiedError(f"{self._name} ended its worker process: {attempt.reason}")
        else:
            value = ErgatesError(f"{self._name}: {attempt.outcome.value}: {attempt.reason}")
        if self._return_errors:
            return value
        raise value

    def close(self, *, wait: bool = True) -> None:
        """Give back what runs; everything finished is kept, and the same line goes on later."""
        self._stop.set()
        if wait and threading.current_thread() is not self._thread:
            self._thread.join()

    # --- the worker's thread ------------------------------------------------------------------

    def _work(self) -> None:
        try:
            self._run()
            self._ended.put(None)
        except BaseException as error:
            self._ended.put(error)
        finally:
            self._lock.release()

    def _run(self) -> None:
        """The worker's loop, until every call is over or nobody wants the results any more."""
        finished: dict[int, Attempt] = {}
        for _, task, attempt in self._store.attempts(self._job):
            if attempt.outcome is Outcome.SUCCEEDED:
                finished[task - 1] = attempt
        for index, attempt in sorted(finished.items()):
            self._ended.put((index, attempt))
        if len(finished) == self._total:
            return
        worker = build_worker(self._store, self._settings, jobs=(self._job,), observers=(self,))
        try:
            worker.register()
            while worker.busy or not (worker.open_tasks == 0 or worker.draining):
                worker.step()
                if self._stop.is_set() and not worker.draining:
                    worker.drain(give_back=True)
        finally:
            worker.close()

    def attempt_started(self, lease: Lease, at_ns: Nanoseconds) -> None:
        """Nobody asks for starts."""

    def attempt_ended(self, lease: Lease, attempt: Attempt, verdict: Verdict, _result: bytes | None) -> None:
        """See Observer. The result itself is read from the pack when it is its turn: a queue of results could be large."""
        if not isinstance(verdict, Returned):
            self._ended.put((lease.task - 1, attempt))

    def looked(self, snapshot: NodeSnapshot) -> None:
        """Nobody asks for snapshots."""


def _show(folder: Path, output: Output) -> None:
    out, err = read_output(folder, output)
    for data, stream in ((out, sys.stdout), (err, sys.stderr)):
        if data and stream is not None:
            with suppress(ValueError, OSError):  # ours was closed, or its reader went away: results still count
                stream.write(data.decode(errors="backslashreplace"))
                stream.flush()
