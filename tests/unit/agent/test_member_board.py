"""A member's ear and mouth, with a board in memory that fails when it is told to."""

from __future__ import annotations

import select
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ergates.agent.member_board import LoneBoard, SharedBoard
from ergates.errors import ErgatesError, StoreError, StoreUnavailableError
from ergates.experiment.conduct_state import Heard
from ergates.experiment.messages import MemberClosed, ProgramReady, Said, encode_said
from ergates.units import Nanoseconds

PATIENCE_S = 30.0


class Memory:
    """One board; `lost` answers are lost after the message arrived, as when a connection breaks."""

    def __init__(self) -> None:
        self.said: list[bytes] = []
        self.lost = 0
        self.wrong: ErgatesError | None = None
        self._changed = threading.Condition()
        self._interrupted = False

    def say(self, gang: str, message: bytes) -> None:
        with self._changed:
            self.said.append(message)
            self._changed.notify_all()
            if self.lost:
                self.lost -= 1
                raise StoreUnavailableError("the server cannot be reached")

    def hear(self, gang: str, after: str, wait_ns: Nanoseconds) -> tuple[tuple[str, bytes], ...]:
        with self._changed:
            if self.wrong is not None:
                raise self.wrong
            place = int(after or 0)
            self._changed.wait_for(lambda: len(self.said) > place or self._interrupted, wait_ns / 1e9)
            if self._interrupted:
                self._interrupted = False
                raise StoreUnavailableError("interrupted")
            return tuple((str(place + n + 1), message) for n, message in enumerate(self.said[place:]))

    def interrupt(self) -> None:
        with self._changed:
            self._interrupted = True
            self._changed.notify_all()

    def close(self) -> None: ...


@contextmanager
def shared(memory: Memory, rank: int = 0) -> Iterator[SharedBoard]:
    board = SharedBoard(memory, "j1.1.1.1", rank)
    try:
        yield board
    finally:
        board.close()


def heard(board: LoneBoard | SharedBoard, count: int) -> list[Heard]:
    found: list[Heard] = []
    while len(found) < count:
        assert select.select([board.fileno()], [], [], PATIENCE_S)[0], f"heard only {found}"
        found += board.hear()
    return found


def test_alone_one_hears_what_one_says() -> None:
    board = LoneBoard(0)
    board.say(MemberClosed())
    board.say(ProgramReady("p"))
    assert heard(board, 2) == [Heard(rank=0, message=MemberClosed()), Heard(rank=0, message=ProgramReady("p"))]
    assert board.hear() == []
    board.close()


def test_all_hear_the_same() -> None:
    memory = Memory()
    with shared(memory, 0) as first, shared(memory, 1) as second:
        first.say(ProgramReady("a"))
        assert heard(second, 1) == [Heard(rank=0, message=ProgramReady("a"))]
        second.say(ProgramReady("b"))
        assert heard(first, 2) == [Heard(rank=0, message=ProgramReady("a")), Heard(rank=1, message=ProgramReady("b"))]


def test_what_is_said_again_because_nobody_knew_whether_it_arrived_counts_once() -> None:
    memory = Memory()
    memory.lost = 2
    with shared(memory) as board:
        board.say(ProgramReady("a"))
        board.say(ProgramReady("b"))
        assert heard(board, 2) == [Heard(rank=0, message=ProgramReady(name)) for name in "ab"]
        assert len(memory.said) == 4
        assert board.hear() == []


def test_what_was_said_last_arrives_although_one_goes() -> None:
    memory = Memory()
    with shared(memory) as board:
        for n in range(50):
            board.say(ProgramReady(str(n)))
    assert memory.said[-1] == encode_said(Said(rank=0, number=50, message=ProgramReady("49")))


@pytest.mark.parametrize("error", [StoreError("does not let us in"), None])
def test_a_board_that_cannot_be_used_says_so(error: StoreError | None) -> None:
    memory = Memory()
    memory.wrong = error
    if error is None:
        memory.said.append(b'{"of": "another version"}')
    with shared(memory) as board:
        assert select.select([board.fileno()], [], [], PATIENCE_S)[0]
        with pytest.raises(ErgatesError, match=r"does not let us in|another version"):
            board.hear()
