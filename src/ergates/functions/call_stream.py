"""One function over many arguments: items in, results out, with a bounded number of calls in between.

The next item is taken from the iterable only when there is room, so an endless generator is fine, and a slow consumer
does not fill the memory with results.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import islice
from queue import Empty, SimpleQueue
from typing import Any

from ergates.functions.call_pool import Call, CallPool
from ergates.functions.payload import encode_payload
from ergates.functions.serialise import dump_arguments, load_result, name_of, raised, save_function
from ergates.units import Nanoseconds

_HANDED_IN_AT_ONCE = 256
_AHEAD_PER_WORKER = 64
"""Calls begun ahead of the one whose result is wanted next, at least: one slow call does not stop the others soon."""


class CallStream:
    """The calls of one `map`.

    Args:
        items: tuples of positional arguments.
        ordered: results in the order of the items, else as they come.
        eager: take all items now, however many.
        return_errors: an exception of a call is a result like others, else it is raised.
    """

    def __init__(
        self,
        pool: CallPool,
        function: Callable[..., Any],
        items: Iterator[tuple[Any, ...]],
        *,
        workers: int,
        ordered: bool = True,
        eager: bool = False,
        retries: int = 0,
        time_limit_ns: Nanoseconds | None = None,
        return_errors: bool = False,
    ) -> None:
        self._pool, self._function, self._items = pool, function, items
        self._workers, self._ordered, self._eager = workers, ordered, eager
        self._retries, self._time_limit_ns = retries, time_limit_ns
        self._return_errors = return_errors
        self._name = name_of(function)
        self._path = save_function(function, pool.folder)
        self._ended: SimpleQueue[Call] = SimpleQueue()
        self._taken = self._given = 0  # items taken from the iterable, results handed out
        self._exhausted = False
        self._fill()

    def results(self, until_s: float | None = None) -> Iterator[Any]:
        """The results; raises TimeoutError when one is not there at `until_s` of the monotonic clock."""
        early: dict[int, Call] = {}
        while True:
            self._fill()
            if self._given == self._taken:
                return
            call = self._next(until_s)
            if not self._ordered:
                self._given += 1
                yield self._value(call)
                continue
            early[call.index] = call
            while self._given in early:
                call = early.pop(self._given)
                self._given += 1
                yield self._value(call)

    def _fill(self) -> None:
        ahead = max(_AHEAD_PER_WORKER, 3 * self._pool.batch) * self._workers
        while not self._exhausted:
            room = _HANDED_IN_AT_ONCE if self._eager else min(_HANDED_IN_AT_ONCE, ahead - (self._taken - self._given))
            if room < min(_HANDED_IN_AT_ONCE, ahead // 4):
                return
            calls = []
            try:
                for item in islice(self._items, room):
                    calls.append(self._call(item))
            finally:  # an error of the iterable comes after the calls before it
                self._pool.submit(calls)
            self._exhausted = len(calls) < room

    def _call(self, item: tuple[Any, ...]) -> Call:
        payload = encode_payload(self._path, dump_arguments(self._function, item, {}))
        call = Call(
            self._name,
            payload,
            self._ended.put,
            index=self._taken,
            retries=self._retries,
            time_limit_ns=self._time_limit_ns,
        )
        self._taken += 1
        return call

    def _next(self, until_s: float | None) -> Call:
        if until_s is None:
            return self._ended.get()
        try:
            return self._ended.get(timeout=max(0.0, until_s - time.monotonic()))
        except Empty:
            raise TimeoutError(f"a result of {self._name} was not there in time") from None

    def _value(self, call: Call) -> Any:
        if call.error is not None:
            value: Any = call.error
        else:
            assert call.result is not None
            value = load_result(call.result)
            if not raised(call.result):
                return value
        if self._return_errors:
            return value
        raise value
