"""`ergates.ClusterExecutor`: the standard library's Executor over the workers of a cluster.

All calls are tasks of one open job, added in batches as they are submitted; what they return comes back through the store.
The payloads are pickles, so the store must be one that only its users get into (see cluster_map.py).
"""

from __future__ import annotations

import concurrent.futures
import os
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, ParamSpec, TypeVar

from ergates.clock import SystemClock
from ergates.cluster.job import JobSpec, RetryLimits
from ergates.cluster.task import Requirement, TaskId, TaskSpec
from ergates.errors import ErgatesError, JobGrewError, StoreUnavailableError, UnknownJobError
from ergates.functions.call_end import value_of
from ergates.functions.cluster_store import carried_function, open_trusted_store
from ergates.functions.ended_calls import End, EndedCalls
from ergates.functions.options import count_of, cpus_of, duration_of, size_of
from ergates.functions.payload import encode_payload
from ergates.functions.same_calls import shown_call
from ergates.functions.serialise import dump_arguments, name_of
from ergates.units import Bytes

P = ParamSpec("P")
T = TypeVar("T")
_LOOK_S_MIN, _LOOK_S_MAX = 0.002, 0.25
_AWAY_S_MAX = 2.0
_AT_ONCE = 4096


class ClusterExecutor(concurrent.futures.Executor):
    """Run calls on the workers of a cluster's store (`erg worker start`).

    Args:
        store: URL or store file.
        cpus: cores that one call uses.
        memory: what one call needs at least ("2GiB", or bytes).
        retries: how often a call that raises is tried again.
        time_limit: of one call, in seconds or as "90s"; then it is ended (CallTimedOutError).
        name: of the job, for `erg status`.

    Raises:
        UsageError: an argument makes no sense, or the store asks for no password.
        StoreError: the store cannot be reached.
    """

    def __init__(
        self,
        store: str,
        *,
        cpus: float = 1,
        memory: str | int | None = None,
        retries: int = 0,
        time_limit: str | float | None = None,
        name: str = "calls",
    ) -> None:
        self._requirement = Requirement(cpus_milli=cpus_of(cpus), memory_bytes=Bytes(size_of("memory", memory) or 0))
        self._retries = count_of("retries", retries, 0)
        self._time_limit_ns = duration_of("time_limit", time_limit)
        self._store = open_trusted_store(store)
        self._name = name
        self._lost = False  # the job is not in the store any more
        try:
            self._begin_job()
        except BaseException:
            self._store.close()
            raise
        self._arrived: list[tuple[TaskSpec, Future[Any]]] = []
        self._sent: dict[TaskId, tuple[TaskSpec, Future[Any]]] = {}
        self._pending: list[tuple[TaskSpec, Future[Any]]] = []
        self._open = True
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="ergates-cluster-calls", daemon=True)
        self._thread.start()

    @property
    def workers(self) -> int:
        """Calls that the live workers could run at once now; at least 1."""
        cores = sum(each.info.capacity.cpus_milli for each in self._store.workers() if each.standing == "live")
        return max(1, cores // max(1, self._requirement.cpus_milli))

    def submit(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run `function(*args, **kwargs)` on a worker. What cannot be sent fails its future, not this line."""
        future: Future[T] = Future()
        try:
            payload = encode_payload(carried_function(function), dump_arguments(function, args, kwargs))
        except Exception as error:  # CallNotSentError, or whatever a __reduce__ of the user's raised
            future.set_exception(error)
            return future
        spec = TaskSpec(
            command=shown_call(
                name_of(function), args[0] if len(args) == 1 and not kwargs else (*args, *kwargs.items())
            ),
            kind="python",
            requirement=self._requirement,
            time_limit_ns=self._time_limit_ns,
            retries=self._retries,
            payload=payload,
        )
        with self._changed:
            if not self._open:
                raise RuntimeError("cannot run a function after shutdown")
            self._arrived.append((spec, future))
            self._changed.notify()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """No more calls; those in hand finish, unless they are cancelled before they were sent."""
        with self._changed:
            self._open = False
            if cancel_futures:
                for _, future in self._arrived:
                    future.cancel()
            self._changed.notify()
        if wait and threading.current_thread() is not self._thread:
            self._thread.join()

    # --- the thread that talks to the store -----------------------------------------------------

    def _work(self) -> None:
        try:
            self._loop()
            self._store.close_job(self._job, SystemClock().now_ns())
        except BaseException as error:
            self._fail_all(error)
        finally:
            self._ended.close()
            self._store.close()

    def _loop(self) -> None:
        wait_s = _LOOK_S_MIN
        while True:
            with self._changed:
                if not self._arrived and not self._pending and not self._sent:
                    if not self._open:
                        return
                    self._changed.wait()
                if not self._pending:
                    batch, self._arrived = self._arrived[:_AT_ONCE], self._arrived[_AT_ONCE:]
                    self._pending = [each for each in batch if each[1].set_running_or_notify_cancel()]
            sent, ended = bool(self._pending), dict[TaskId, End]()
            try:
                if self._lost:
                    self._ended.close()
                    self._begin_job()
                if self._pending:
                    self._send()
                if self._sent:
                    ended = self._ended.new()
                    if not ended and wait_s >= _LOOK_S_MAX:
                        self._check_job()
                wait_s = _LOOK_S_MIN if sent or ended else min(_LOOK_S_MAX, 1.5 * wait_s)
            except StoreUnavailableError:  # it comes back, and nothing is lost meanwhile
                wait_s = min(_AWAY_S_MAX, 2 * wait_s)
            except UnknownJobError:  # the server died within a second of getting it, and had not written it down
                self._send_again(0)
                self._lost = True
            for task, end in ended.items():
                self._settle(task, end)
            with self._changed:
                if (self._sent or self._pending) and not ended and not self._arrived:
                    self._changed.wait(wait_s)

    def _send(self) -> None:
        """Add what is pending. Said again, because an answer was lost, it is not added again: it has its numbers."""
        first = self._total + 1
        with suppress(JobGrewError):  # only we extend this job: these were added, and the answer was lost
            specs = [spec for spec, _ in self._pending]
            self._store.extend(self._job, specs, SystemClock().now_ns(), first=TaskId(first))
        for number, (spec, future) in enumerate(self._pending, first):
            self._sent[TaskId(number)] = spec, future
        self._total += len(self._pending)
        self._pending = []

    def _begin_job(self) -> None:
        spec = JobSpec(
            key=f"executor:{uuid.uuid4()}",
            name=self._name,
            cwd=os.getcwd(),
            source="ergates.ClusterExecutor",
            retry_limits=RetryLimits(failures=self._retries),
            open=True,
        )
        self._total = 0
        self._job = self._store.submit(spec, [], SystemClock().now_ns()).id
        self._ended = EndedCalls(self._store, self._job)
        self._lost = False

    def _check_job(self) -> None:
        """Nothing ended for a while: perhaps a server that died took the last calls along, or somebody cancelled the job.

        Raises:
            ErgatesError: it was cancelled.
        """
        status = self._store.status(self._job)
        if status.phase == "cancelled":
            raise ErgatesError(f"job {self._job} was cancelled")
        if status.total < self._total:
            self._send_again(status.total)

    def _send_again(self, kept: int) -> None:
        """Calls after number `kept` are not in the store any more."""
        lost = [(task, found) for task, found in self._sent.items() if task > kept]
        for task, _ in lost:
            del self._sent[task]
        self._pending = [(spec, future) for _, (spec, future) in lost] + self._pending
        self._total = kept

    def _settle(self, task: TaskId, end: End) -> None:
        if task not in self._sent:
            return
        spec, future = self._sent.pop(task)
        try:
            value, failed = value_of(str(spec.command), end)
        except Exception as error:  # it could be pickled there but cannot be loaded here
            value, failed = error, True
        if failed:
            future.set_exception(value)
        else:
            future.set_result(value)

    def _fail_all(self, error: BaseException) -> None:
        with self._changed:
            self._open = False
            left = [future for _, future in (*self._arrived, *self._pending, *self._sent.values())]
        for future in left:
            if not future.done():
                future.set_exception(error)
