"""`ergates.map(..., store="store.toml")`: every call is a task of a job in a cluster's store, run by its workers.

Results come back through the store (or the ledger, when a controller has drained them there). A job with a name goes on where
it stopped when the same line is run again; one without is cancelled when nobody wants its results any more. Functions,
arguments and results are pickles, and whoever can write a pickle can run code: so the store must ask for a password, a
certificate, or be a socket that only its owner can open.
"""

from __future__ import annotations

import os
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any

from ergates.clock import SystemClock
from ergates.cluster.attempt import KEPT_BYTES_MAX, Kept, Outcome
from ergates.cluster.job import JobSpec, RetryLimits
from ergates.cluster.task import JobId, Requirement, TaskId, TaskSpec
from ergates.drivers.stores.address import store_address
from ergates.drivers.stores.open_cluster import open_cluster_store
from ergates.errors import ErgatesError, StoreUnavailableError, UsageError
from ergates.functions.ended_calls import End, EndedCalls
from ergates.functions.errors import CallNotSentError, CallTimedOutError, WorkerDiedError
from ergates.functions.payload import encode_payload
from ergates.functions.same_calls import check_same, shown_call
from ergates.functions.serialise import dump_arguments, dump_function, load_result, name_of, raised
from ergates.units import MilliCpus, Nanoseconds, format_bytes

FUNCTION_BYTES_MAX = 16 * 1024
"""Travels with each call, packed together with its neighbours'."""
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
        carried = _carried(function)
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
        address = store_address(store, origin="store=")
        if not address.authenticated:
            raise UsageError(
                f"store={address}: functions and results are pickles, so only a store with a password will do\n"
                "  hint: `erg store up` makes one; name its file, .ergates/store.toml"
            )
        self._store = open_cluster_store(address)
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
        attempt, kept = end
        if self._show_output and kept is not None:
            _show(kept)
        if kept is not None and kept.result is not None:
            value = load_result(kept.result)
            if not raised(kept.result):
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


def _carried(function: Callable[..., Any]) -> bytes:
    data = dump_function(function)
    if len(data) > FUNCTION_BYTES_MAX:
        raise CallNotSentError(
            f"{name_of(function)} holds {format_bytes(len(data))}; on a cluster at most {format_bytes(FUNCTION_BYTES_MAX)}"
            " go along\n  hint: read large data inside the function, from a file that every node sees"
        )
    return data


def _show(kept: Kept) -> None:
    for data, stream in ((kept.stdout, sys.stdout), (kept.stderr, sys.stderr)):
        if data and stream is not None:
            cut = f"[the last {format_bytes(KEPT_BYTES_MAX)}]\n" if len(data) >= KEPT_BYTES_MAX else ""
            with suppress(ValueError, OSError):  # ours was closed, or its reader went away: results still count
                stream.write(cut + data.decode(errors="backslashreplace"))
                stream.flush()
