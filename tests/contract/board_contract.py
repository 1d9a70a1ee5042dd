"""What every board must do."""

from __future__ import annotations

import threading
from collections.abc import Callable

from ergates.taskqueue.store import Board
from ergates.units import SECOND_NS, Nanoseconds

SOON = Nanoseconds(20_000_000)
LONG = Nanoseconds(30 * SECOND_NS)


class BoardContract:
    """`open_board` makes another board of the same store, as another member would have."""

    def test_all_hear_the_same_in_the_same_order(self, open_board: Callable[[], Board]) -> None:
        boards = [open_board() for _ in range(3)]
        said = [f"{rank} {number}".encode() for rank in range(3) for number in range(20)]

        def speak(rank: int) -> None:
            for message in said[rank * 20 :][:20]:
                boards[rank].say("j1.1.1", message)

        threads = [threading.Thread(target=speak, args=(rank,)) for rank in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        heard = [[message for _, message in board.hear("j1.1.1", "", LONG)] for board in boards]
        assert heard[0] == heard[1] == heard[2]
        assert sorted(heard[0]) == sorted(said)
        for rank in range(3):
            own = [message for message in heard[0] if message.startswith(f"{rank} ".encode())]
            assert own == said[rank * 20 :][:20], "what one says keeps its order"

    def test_only_what_comes_behind_a_place_is_heard(self, open_board: Callable[[], Board]) -> None:
        board = open_board()
        for message in (b"a", b"b", b"c"):
            board.say("j1.1.1", message)
        first, second, third = board.hear("j1.1.1", "", LONG)
        assert board.hear("j1.1.1", first[0], LONG) == (second, third)
        assert board.hear("j1.1.1", third[0], SOON) == ()

    def test_who_waits_hears_at_once(self, open_board: Callable[[], Board]) -> None:
        waits, speaks = open_board(), open_board()
        heard: list[bytes] = []
        thread = threading.Thread(target=lambda: heard.extend(each for _, each in waits.hear("j1.1.1", "", LONG)))
        thread.start()
        speaks.say("j1.1.1", b"now")
        thread.join(20)
        assert heard == [b"now"]

    def test_gangs_do_not_hear_each_other(self, open_board: Callable[[], Board]) -> None:
        board = open_board()
        board.say("j1.1.1", b"one")
        assert board.hear("j1.1.2", "", SOON) == ()

    def test_any_bytes_can_be_said(self, open_board: Callable[[], Board]) -> None:
        board = open_board()
        board.say("j1.1.1", bytes(range(256)) * 100)
        ((_, message),) = board.hear("j1.1.1", "", LONG)
        assert message == bytes(range(256)) * 100
