"""`ergates.Executor`: the standard library's Executor over warm, watched worker processes.

Differences from ProcessPoolExecutor: lambdas, closures and functions of the running script can be sent; a call that
kills its process fails alone (WorkerDiedError) and the executor goes on; calls can have a time limit and retries; what
calls print comes out whole, when they have ended; nothing is left running when this process dies, even by SIGKILL.
"""

from __future__ import annotations

import concurrent.futures
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import Any, Literal, ParamSpec, TypeVar

from ergates.functions.call_pool import Call, CallPool
from ergates.functions.call_stream import CallStream
from ergates.functions.options import count_of, duration_of, workers_for
from ergates.functions.payload import encode_payload
from ergates.functions.serialise import dump_arguments, dump_function, load_result, name_of, raised, save_function

P = ParamSpec("P")
T = TypeVar("T")

INLINE_BYTES_MAX = 16 * 1024
"""A smaller function travels with each call that is submitted by itself; a larger one through a file, once."""


class Executor(concurrent.futures.Executor):
    """Run calls in worker processes of this machine.

    Args:
        workers: how many calls run at once; None: as many as cores admit.
        cpus: cores that one call uses.
        memory: what one call needs at most ("2GiB", or bytes): no more run at once than fit into the machine.
        retries: how often a call that raises is tried again.
        time_limit: of one call, in seconds or as "90s"; then it is ended (CallTimedOutError).
        chunk: calls a worker holds at once; "auto" adapts it to how long they take.
        show_output: pass on what calls print; False drops it.

    Raises:
        UsageError: an argument makes no sense.
        LaunchError: this machine cannot start tasks.
    """

    def __init__(
        self,
        workers: int | None = None,
        *,
        cpus: float = 1,
        memory: str | int | None = None,
        retries: int = 0,
        time_limit: str | float | None = None,
        chunk: int | Literal["auto"] = "auto",
        show_output: bool = True,
    ) -> None:
        self._retries = count_of("retries", retries, 0)
        self._time_limit_ns = duration_of("time_limit", time_limit)
        self.workers = workers_for(workers, cpus, memory)
        batch = None if chunk == "auto" else count_of("chunk", chunk, 1)
        self._pool = CallPool(self.workers, batch=batch, show_output=show_output)
        self._futures: weakref.WeakSet[Future[Any]] = weakref.WeakSet()
        # An executor that is forgotten lets what it was given finish; then its processes go.
        self._forgotten = weakref.finalize(self, self._pool.close, wait=False)
        self._forgotten.atexit = False

    def submit(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run `function(*args, **kwargs)` in a worker process. What cannot be sent fails its future, not this line."""
        future: Future[T] = Future()

        def settle(call: Call) -> None:
            _settle(future, call)

        try:
            carried: str | bytes = dump_function(function)
            if len(carried) > INLINE_BYTES_MAX:
                carried = save_function(function, self._pool.folder)
            payload = encode_payload(carried, dump_arguments(function, args, kwargs))
        except Exception as error:  # CallNotSentError, or whatever a __reduce__ of the user's raised
            future.set_exception(error)
            return future
        call = Call(
            name_of(function),
            payload,
            settle,
            retries=self._retries,
            time_limit_ns=self._time_limit_ns,
            begin=future.set_running_or_notify_cancel,
        )
        self._futures.add(future)
        self._pool.submit([call])
        return future

    def map(
        self,
        function: Callable[..., T],
        /,
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,  # noqa: ARG002 - of the standard library's signature
    ) -> Iterator[T]:
        """As the standard library's: all items are taken now, results come in order.

        Args:
            function: called with one item of each iterable.
            iterables: the shortest ends it.
            timeout: seconds from now until the last result must be there.
            chunksize: ignored: how many calls a worker holds at once is adapted while they run.
        """
        until_s = None if timeout is None else time.monotonic() + timeout
        stream = CallStream(
            self._pool,
            function,
            zip(*iterables, strict=False),
            workers=self.workers,
            eager=True,
            retries=self._retries,
            time_limit_ns=self._time_limit_ns,
        )
        return stream.results(until_s)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """No more calls; those in hand finish, unless they are cancelled before they began."""
        if cancel_futures:
            for future in tuple(self._futures):
                future.cancel()
        self._forgotten.detach()
        self._pool.close(wait=wait)


def _settle(future: Future[Any], call: Call) -> None:
    if call.error is not None:
        if call.begin is not None and not future.set_running_or_notify_cancel():
            return
        future.set_exception(call.error)
        return
    assert call.result is not None
    try:
        value = load_result(call.result)
    except Exception as error:  # it could be pickled there but cannot be loaded here
        future.set_exception(error)
        return
    if raised(call.result):
        future.set_exception(value)
    else:
        future.set_result(value)
