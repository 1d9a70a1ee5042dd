"""The board on Redis: the contract, over a socket and over TCP as the user that `erg store up` makes."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from board_contract import LONG, BoardContract
from redis_server import Server, serving

from ergates.drivers.stores.address import StoreAddress
from ergates.drivers.stores.open_cluster import client_factory
from ergates.drivers.stores.private_files import users
from ergates.drivers.stores.redis.board import KEPT_S, RedisBoard
from ergates.errors import StoreError, StoreUnavailableError
from ergates.taskqueue.store import Board

pytestmark = pytest.mark.needs("redis")
_queues = itertools.count(1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("board")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    (folder / "users.acl").write_text(users("for-the-user", "for-the-admin"))
    with serving(folder, f"aclfile {folder / 'users.acl'}", f"unixsocket {folder / 's'}") as server:
        yield server


@pytest.fixture(params=["socket", "tcp"])
def address(request: pytest.FixtureRequest, server: Server, folder: Path) -> StoreAddress:
    queue = f"q{next(_queues)}"
    if request.param == "tcp":
        return StoreAddress(hosts=(("127.0.0.1", server.port),), username="erg", password="for-the-user", queue=queue)
    return StoreAddress(socket=str(folder / "s"), username="erg", password="for-the-user", queue=queue)


@pytest.fixture
def open_board(address: StoreAddress) -> Iterator[Callable[[], Board]]:
    with ExitStack() as stack:
        yield lambda: stack.enter_context(closing(RedisBoard(client_factory(address), address.queue)))


class TestRedisBoard(BoardContract):
    """Runs the contract."""


def test_it_goes_away_by_itself(address: StoreAddress, open_board: Callable[[], Board]) -> None:
    open_board().say("j1.1.1", b"a")
    client = client_factory(address)()
    left_s = client.ttl(f"{{erg:{address.queue}}}:board:j1.1.1")
    client.close()
    assert KEPT_S - 60 < left_s <= KEPT_S


def test_who_waits_can_be_interrupted(open_board: Callable[[], RedisBoard]) -> None:
    board = open_board()
    ended = threading.Event()

    def wait() -> None:
        with pytest.raises(StoreUnavailableError):
            board.hear("j1.1.1", "", LONG)
        ended.set()

    thread = threading.Thread(target=wait)
    thread.start()
    while not ended.wait(0.01):  # it may not wait yet
        board.interrupt()
    thread.join()


def test_a_server_that_went_away_is_said_so(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        board = RedisBoard(client_factory(StoreAddress(hosts=(("127.0.0.1", server.port),))), "q")
        board.say("j1.1.1", b"a")
    with pytest.raises(StoreUnavailableError), closing(board):
        board.say("j1.1.1", b"b")


def test_a_server_that_came_back_is_another_board(tmp_path: Path) -> None:
    """It may have lost the last second: what one says must not be taken for all there is."""
    with serving(tmp_path) as server:
        port = server.port
        board = RedisBoard(client_factory(StoreAddress(hosts=(("127.0.0.1", port),))), "q")
        board.say("j1.1.1", b"a")
        assert board.hear("j1.1.1", "", LONG)
    with serving(tmp_path, f"port {port}", port=0), closing(board):
        for call in (lambda: board.say("j1.1.1", b"b"), lambda: board.hear("j1.1.1", "", LONG)):
            with pytest.raises(StoreError, match="restarted"):
                call()
