"""How a worker puts questions to its store: at once, when the store is a file here; from a thread, when it is far away.

A server that does not answer may hold a question up for seconds. Memory does not wait that long, so the loop that samples
it must not wait either: a far store is asked from a thread of its own, one question at a time, and the answer rings.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Protocol, TypeVar

from ergates.drivers.alarm import Alarm
from ergates.errors import StoreError

T = TypeVar("T")


class StoreLink(Protocol):
    """One question at a time; `then` or `failed` is called by the loop's own thread, once."""

    @property
    def busy(self) -> bool:
        """Whether a question is open: another one must wait."""
        ...

    def ask(self, call: Callable[[], T], then: Callable[[T], None], failed: Callable[[StoreError], None]) -> None:
        """Let `call` talk to the store. Errors that are no StoreError come out of `ask` or `deliver`."""
        ...

    def deliver(self) -> None:
        """Hand over the answer that has come, if one has."""
        ...

    def close(self, timeout_s: float) -> bool:
        """No more questions. False: the open one was not answered in time, and the store must not be used."""
        ...


class NearStore:
    """Asks at once; the answer is there when `ask` returns."""

    busy = False

    def ask(self, call: Callable[[], T], then: Callable[[T], None], failed: Callable[[StoreError], None]) -> None:
        """See StoreLink."""
        try:
            answer = call()
        except StoreError as error:
            failed(error)
        else:
            then(answer)

    def deliver(self) -> None:
        """See StoreLink: nothing is ever open."""

    def close(self, timeout_s: float) -> bool:
        """See StoreLink."""
        return True


class FarStore:
    """Asks from a thread.

    Args:
        alarm: rings when an answer is there.
    """

    def __init__(self, alarm: Alarm) -> None:
        self._alarm = alarm
        self._questions: SimpleQueue[Callable[[], Any] | None] = SimpleQueue()
        self._answers: deque[tuple[Any, BaseException | None]] = deque()
        self._open: tuple[Callable[[Any], None], Callable[[StoreError], None]] | None = None
        self._thread = threading.Thread(target=self._work, name="ergates-store", daemon=True)
        self._thread.start()

    @property
    def busy(self) -> bool:
        """See StoreLink."""
        return self._open is not None

    def ask(self, call: Callable[[], T], then: Callable[[T], None], failed: Callable[[StoreError], None]) -> None:
        """See StoreLink."""
        assert self._open is None, "one question at a time"
        self._open = (then, failed)
        self._questions.put(call)

    def deliver(self) -> None:
        """See StoreLink."""
        if self._open is None or not self._answers:
            return
        (then, failed), self._open = self._open, None
        answer, error = self._answers.popleft()
        if error is None:
            then(answer)
        elif isinstance(error, StoreError):
            failed(error)
        else:
            raise error

    def close(self, timeout_s: float) -> bool:
        """See StoreLink."""
        self._questions.put(None)
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _work(self) -> None:
        while (call := self._questions.get()) is not None:
            try:
                self._answers.append((call(), None))
            except BaseException as error:  # it belongs to the loop, whatever it is
                self._answers.append((None, error))
            self._alarm.ring()
