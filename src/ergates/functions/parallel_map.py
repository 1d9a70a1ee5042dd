"""`ergates.map`: a function over an iterable, in warm worker processes; with `job=` durable and resumable."""

from __future__ import annotations

import sys
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from operator import length_hint
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from ergates.errors import UsageError
from ergates.functions.call_pool import CallPool
from ergates.functions.call_stream import CallStream
from ergates.functions.options import count_of, cpus_of, duration_of, size_of, workers_for

if TYPE_CHECKING:
    from ergates.functions.cluster_map import ClusterMap
    from ergates.functions.durable_map import DurableMap

T = TypeVar("T")


def parallel_map(
    function: Callable[..., T],
    iterable: Iterable[Any],
    *,
    workers: int | None = None,
    chunk: int | Literal["auto"] = "auto",
    ordered: bool = True,
    cpus: float = 1,
    memory: str | int | None = None,
    retries: int = 0,
    time_limit: str | float | None = None,
    job: str | None = None,
    store: str | None = None,
    state_dir: str | Path | None = None,
    progress: bool = False,
    return_errors: bool = False,
    show_output: bool = True,
) -> Results[T]:
    """Call `function(item)` for every item in worker processes; yields the results.

    Work begins at once; items are taken from the iterable as there is room, so it may be endless. A call runs at least
    once: one whose worker process dies is run again. Close the iterator, or let it go, to end what still runs.

    Args:
        function: anything that can be called: also a lambda, a closure, a function of the running script.
        iterable: the items.
        workers: how many calls run at once; None: as many as cores admit.
        chunk: calls a worker holds at once; "auto" adapts it to how long they take (some 30 ms of work).
        ordered: results in the order of the items; False: as they come.
        cpus: cores that one call uses.
        memory: what one call needs at most ("2GiB", or bytes): no more run at once than fit into the machine.
        retries: how often a call that raises is tried again.
        time_limit: of one call, in seconds or as "90s"; then it is ended (CallTimedOutError).
        job: a name. The calls become the tasks of a job in `state_dir`, with everything `erg` does for tasks; the same
            line run again, after a crash or Ctrl-C, runs only what has no result yet. All items are taken at once.
        store: URL or store file of a cluster: its workers (`erg worker start`) run the calls, and `workers`, `chunk` are
            theirs to decide. All items are taken at once.
        state_dir: where durable jobs live; None: `.ergates` of the working directory.
        progress: one live line on stderr, when it is a terminal.
        return_errors: yield the exception of a call that failed; else it is raised, and everything ends.
        show_output: pass on what calls print; False drops it (of a job it is kept anyway: `erg logs`).

    Raises:
        UsageError: an argument makes no sense.
        LaunchError: this machine cannot start tasks.
        CallNotSentError: the function or an item cannot be pickled.
        Exception: what a call raised, with the traceback of the worker process as its cause.
    """
    count_of("retries", retries, 0)
    time_limit_ns = duration_of("time_limit", time_limit)
    batch = None if chunk == "auto" else count_of("chunk", chunk, 1)
    if job is not None and (not job or not isinstance(job, str)):
        raise UsageError(f"job={job!r}: expected a name")
    if job is not None or store is not None:
        options = {
            "job": job,
            "cpus_milli": cpus_of(cpus),
            "memory_bytes": size_of("memory", memory) or 0,
            "retries": retries,
            "time_limit_ns": time_limit_ns,
            "ordered": ordered,
            "return_errors": return_errors,
            "show_output": show_output,
        }
        place = None if state_dir is None else Path(state_dir)
        run = _of_tasks(function, iterable, store, lambda: workers_for(workers, cpus, memory), place, options)
        return Results(run.results(), run.close, length_hint(iterable), progress)
    slots = workers_for(workers, cpus, memory)
    stream, pool = _started(
        function,
        iterable,
        CallPool(slots, batch=batch, show_output=show_output),
        workers=slots,
        ordered=ordered,
        retries=retries,
        time_limit_ns=time_limit_ns,
        return_errors=return_errors,
    )
    return Results(stream.results(), partial(pool.close, finish=False), length_hint(iterable), progress)


def _of_tasks(
    function: Callable[..., Any],
    iterable: Iterable[Any],
    store: str | None,
    slots: Callable[[], int],
    state_dir: Path | None,
    options: dict[str, Any],
) -> ClusterMap | DurableMap:
    """Calls as tasks: of a cluster's store, or of a job here. Loads what it needs, 50 ms that others do without."""
    if store is not None:
        from ergates.functions.cluster_map import ClusterMap

        return ClusterMap(function, iterable, store=store, **options)
    from ergates.functions.durable_map import DurableMap

    return DurableMap(function, iterable, workers=slots(), state_dir=state_dir, **options)


def _started(
    function: Callable[..., T], iterable: Iterable[Any], pool: CallPool, **options: Any
) -> tuple[CallStream, CallPool]:
    """The stream with its first calls under way; the pool is closed when the function or an item cannot be sent."""
    try:
        return CallStream(pool, function, zip(iterable, strict=False), **options), pool
    except BaseException:
        pool.close(finish=False)
        raise


class Results(Iterator[T]):
    """The results of a `map`. To let go of it, to close it, or to be interrupted in it ends the calls that still run.

    Args:
        results: what to hand on.
        close: ends the calls; `wait=False` in a garbage collection, which may happen in any thread.
        total: how many there will be; 0 when nobody knows.
        progress: show how far it is.
    """

    def __init__(self, results: Iterator[T], close: Callable[..., None], total: int, progress: bool) -> None:
        self._results = results
        self._close = close
        self._let_go = weakref.finalize(self, close, wait=False)
        self._line = ProgressLine(total) if progress and sys.stderr is not None and sys.stderr.isatty() else None

    def __next__(self) -> T:
        try:
            value = next(self._results)
        except BaseException:  # the end, an error of a call, Ctrl-C: nothing runs on behind anybody's back
            self.close()
            raise
        if self._line is not None:
            self._line.step()
        return value

    def close(self) -> None:
        """End what still runs. Of a durable job, finished calls are kept."""
        if self._let_go.detach() is not None:
            if self._line is not None:
                self._line.end()
            self._close()

    def __enter__(self) -> Results[T]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class ProgressLine:
    """One line on stderr that is written again at most ten times a second: done, of how many, how fast."""

    def __init__(self, total: int) -> None:
        self._total, self._done = total, 0
        self._began_s = self._shown_s = time.monotonic()

    def step(self) -> None:
        """One more result."""
        self._done += 1
        if time.monotonic() - self._shown_s >= 0.1:
            self._show()

    def end(self) -> None:
        """The last state stays on the screen."""
        self._show()
        sys.stderr.write("\n")

    def _show(self) -> None:
        self._shown_s = time.monotonic()
        rate = self._done / max(1e-9, self._shown_s - self._began_s)
        of = f"/{self._total}" if self._total else ""
        sys.stderr.write(f"\r{self._done}{of} calls, {rate:.3g}/s\x1b[K")
        sys.stderr.flush()
