"""A member's ear and mouth: what it says goes to the board, what all say comes back in the board's order, each once.

Two threads talk to the store, so that a slow or absent one never keeps the member from looking after its programs. A run of one
host needs no store: what it says is what it hears.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from typing import Protocol, TypeVar

import msgspec

from ergates.errors import ErgatesError, StoreFullError, StoreUnavailableError
from ergates.experiment.conduct_state import Heard
from ergates.experiment.messages import Message, Said, decode_said, encode_said
from ergates.units import SECOND_NS, Nanoseconds

T = TypeVar("T")
_PAUSE_S_MIN, _PAUSE_S_MAX = 0.02, 1.0
_LISTEN_NS = Nanoseconds(60 * SECOND_NS)
_LAST_WORDS_S = 5.0
"""How long the end of a member waits for what it has said to arrive."""


class TalkingBoard(Protocol):
    """A board (taskqueue/store.py) of which a call that waits can be ended from outside."""

    def say(self, gang: str, message: bytes) -> None: ...
    def hear(self, gang: str, after: str, wait_ns: Nanoseconds) -> tuple[tuple[str, bytes], ...]: ...
    def interrupt(self) -> None: ...
    def close(self) -> None: ...


class LoneBoard:
    """Of a run of one host."""

    def __init__(self, rank: int) -> None:
        self._rank = rank
        self._heard: deque[Heard] = deque()
        self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def fileno(self) -> int:
        """Readable while there is something to hear."""
        return self._event

    def say(self, message: Message) -> None:
        self._heard.append(Heard(rank=self._rank, message=message))
        os.eventfd_write(self._event, 1)

    def hear(self) -> list[Heard]:
        """What is new; waits for nothing."""
        _clear(self._event)
        heard = list(self._heard)
        self._heard.clear()
        return heard

    def close(self) -> None:
        os.close(self._event)


class SharedBoard:
    """Of a gang.

    Args:
        board: in the store; closed with this one.
        gang: names the attempt, and no other.
        rank: ours.
    """

    def __init__(self, board: TalkingBoard, gang: str, rank: int) -> None:
        self._board, self._gang, self._rank = board, gang, rank
        self._number = 0
        self._mouth: SimpleQueue[bytes | None] = SimpleQueue()
        self._heard: deque[Heard] = deque()
        self._broken: ErgatesError | None = None
        self._closed = threading.Event()
        self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._threads = [
            threading.Thread(target=self._speak, name="erg-board-says", daemon=True),
            threading.Thread(target=self._listen, name="erg-board-hears", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def fileno(self) -> int:
        """Readable while there is something to hear, or nothing will be any more."""
        return self._event

    def say(self, message: Message) -> None:
        """Returns at once; messages arrive in the order in which they were said."""
        self._number += 1
        self._mouth.put(encode_said(Said(rank=self._rank, number=self._number, message=message)))

    def hear(self) -> list[Heard]:
        """What is new; waits for nothing.

        Raises:
            ErgatesError: the store does not let us in, or somebody of another version talks here.
        """
        _clear(self._event)
        heard = []
        while self._heard:
            heard.append(self._heard.popleft())
        if not heard and self._broken is not None:
            raise self._broken
        return heard

    def close(self) -> None:
        """What was said arrives first, if the store is there."""
        self._mouth.put(None)
        self._threads[0].join(_LAST_WORDS_S)
        self._closed.set()
        self._mouth.put(None)
        while any(thread.is_alive() for thread in self._threads):
            self._board.interrupt()
            for thread in self._threads:
                thread.join(0.05)
        self._board.close()
        os.close(self._event)

    # --- the two threads --------------------------------------------------------------------------

    def _speak(self) -> None:
        while (message := self._mouth.get()) is not None:
            if self._patiently(partial(self._said, message)) is None:
                return

    def _said(self, message: bytes) -> bool:
        self._board.say(self._gang, message)
        return True

    def _listen(self) -> None:
        place = ""
        numbers: dict[int, int] = {}
        while not self._closed.is_set():
            found = self._patiently(partial(self._board.hear, self._gang, place, _LISTEN_NS))
            if found is None:
                return
            for place, data in found:  # noqa: B007 - the last place counts
                try:
                    said = decode_said(data)
                except msgspec.DecodeError as error:
                    self._break(ErgatesError(f"a member of another version of Ergates is on the board: {error}"))
                    return
                if said.number > numbers.get(said.rank, 0):
                    numbers[said.rank] = said.number
                    self._heard.append(Heard(rank=said.rank, message=said.message))
            if found:
                os.eventfd_write(self._event, 1)

    def _patiently(self, call: Callable[[], T]) -> T | None:
        """Call until the store is there; None when it was for nothing."""
        pause_s = _PAUSE_S_MIN
        while not self._closed.is_set():
            try:
                return call()
            except (StoreUnavailableError, StoreFullError):
                self._closed.wait(pause_s)
                pause_s = min(_PAUSE_S_MAX, 2 * pause_s)
            except ErgatesError as error:
                self._break(error)
                return None
            except Exception as error:  # a bug of ours must not leave the member deaf
                self._break(ErgatesError(f"the board cannot be used: {type(error).__name__}: {error}"))
                return None
        return None

    def _break(self, error: ErgatesError) -> None:
        self._broken = error
        os.eventfd_write(self._event, 1)


def _clear(event: int) -> None:
    with suppress(BlockingIOError):
        os.eventfd_read(event)
