"""`ergates.map(..., store="store.toml")`: every call is a task of a job in a cluster's store, run by its workers.

Results come back through the store (or the ledger, when a controller has drained them there). A job with a name goes on where
it stopped when the same line is run again; one without is cancelled when nobody wants its results any more.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ergates.clock import SystemClock
from ergates.cluster.job import JobSpec, RetryLimits
from ergates.cluster.task import JobId, Requirement, TaskId, TaskSpec
from ergates.errors import ErgatesError, StoreUnavailableError
from ergates.functions.call_end import show_output as show
from ergates.functions.call_end import value_of
from ergates.functions.cluster_store import carried_function, open_trusted_store
from ergates.functions.ended_calls import End, EndedCalls
from ergates.functions.payload import encode_payload
from ergates.functions.same_calls import check_same, shown_call
from ergates.functions.serialise import dump_arguments, name_of
from ergates.units import MilliCpus, Nanoseconds

_LOOK_S_MIN, _LOOK_S_MAX = 0.002, 0.25
_AWAY_S_MAX = 2.0


class ClusterMap:
    """One `map` on a cluster.

    Args:
        store: URL or store file.
        job: a name to go on under later; None for a job that ends with its results.

    Raises:
        UsageError: the store asks for no password, or the job was made of other items.
        CallNotSentError: the function or an item cannot be pickled, or the function holds too much.
        StoreError: the store cannot be reached.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        items: Iterable[Any],
        *,
        store: str,
        job: str | None,
        cpus_milli: MilliCpus,
        memory_bytes: int,
        retries: int,
        time_limit_ns: Nanoseconds | None,
        ordered: bool,
        return_errors: bool,
        show_output: bool,
    ) -> None:
        self._name, self._ordered, self._return_errors = name_of(function), ordered, return_errors
        self._show_output = show_output
        carried = carried_function(function)
        requirement = Requirement(cpus_milli=cpus_milli, memory_bytes=memory_bytes)  # type: ignore[arg-type]
        tasks = (
            TaskSpec(
                command=shown_call(self._name, item),
                kind="python",
                requirement=requirement,
                time_limit_ns=time_limit_ns,
                retries=retries,
                payload=encode_payload(carried, dump_arguments(function, (item,), {})),
            )
            for item in items
        )
        self._store = open_trusted_store(store)
        self._named = job is not None
        self._open = True
        try:
            self._job = self._submit(job, tasks, retries)
            self._total = self._store.status(self._job).total
            self._ended = EndedCalls(self._store, self._job)
        except BaseException:
            self._store.close()
            raise

    def _submit(self, name: str | None, tasks: Iterable[TaskSpec], retries: int) -> JobId:
        spec = JobSpec(
            key=f"map:{name if name is not None else uuid.uuid4()}",
            name=name or self._name,
            cwd=os.getcwd(),
            source="ergates.map",
            retry_limits=RetryLimits(failures=retries),
        )
        now_ns = SystemClock().now_ns()
        if name is None:
            return self._store.submit(spec, tasks, now_ns).id
        listed = list(tasks)
        known = any(status.key == spec.key for status in self._store.jobs())
        job = self._store.submit(spec, listed, now_ns).id
        if known:
            check_same(self._store, job, name, listed)
            self._store.retry(job, [(1, max(1, len(listed)))], now_ns)
        return job

    # --- results ------------------------------------------------------------------------------

    def results(self) -> Iterator[Any]:
        """What the calls returned."""
        early: dict[int, End] = {}
        given, wait_s = 0, _LOOK_S_MIN
        while given < self._total:
            ended = self._look()
            wait_s = _LOOK_S_MIN if ended else min(_LOOK_S_MAX, wait_s * 1.5)
            for task, end in ended.items():
                if self._ordered:
                    early[task] = end
                else:
                    given += 1
                    yield self._value(end)
            while given + 1 in early:
                given += 1
                yield self._value(early.pop(given))
            if not ended:
                time.sleep(wait_s)

    def _look(self) -> dict[TaskId, End]:
        """Calls that are over for good since the last look."""
        wait_s = _LOOK_S_MIN
        while True:
            try:
                ended = self._ended.new()
                if not ended and self._store.status(self._job).phase == "cancelled":
                    raise ErgatesError(
                        f"job {self._job} was cancelled\n  hint: erg retry {self._job} takes its tasks back"
                    )
                return ended
            except StoreUnavailableError:  # it comes back, and nothing is lost meanwhile
                wait_s = min(_AWAY_S_MAX, 2 * wait_s)
                time.sleep(wait_s)

    def _value(self, end: End) -> Any:
        _, kept = end
        if self._show_output and kept is not None:
            show(kept)
        value, failed = value_of(self._name, end)
        if failed and not self._return_errors:
            raise value
        return value

    def close(self, *, wait: bool = True) -> None:  # noqa: ARG002 - as its brother on one machine
        """Let go. What a job without a name has not finished is cancelled."""
        if not self._open:
            return
        self._open = False
        try:
            if not self._named and self._store.status(self._job).finished_ns is None:
                self._store.set_phase(self._job, "cancelled", SystemClock().now_ns())
        finally:
            self._ended.close()
            self._store.close()
