"""The board of a gang: a stream of the server, which keeps the order and goes away by itself.

Two connections: one waits in XREAD, the other speaks meanwhile, each from a thread of its own. A call that is lost raises, and
the caller says or asks the same again: what is heard is named by its place, and who speaks numbers what is said. When another
server process answers, the board is over: nobody can know what it remembers.
"""

from __future__ import annotations

from collections.abc import Callable

import redis

from ergates.drivers.stores.redis.connection import RedisConnection
from ergates.errors import StoreError
from ergates.units import SECOND_NS, Nanoseconds

KEPT_S = 3600
MESSAGES_MAX = 100_000
"""A board is a few messages for each program; a gang that shouts must not fill the server's memory."""
HEARD_MAX = 1000
WAIT_MAX_NS = 60 * SECOND_NS
"""A half-open connection is found after so long, and a little."""


class RedisBoard:
    """See taskqueue/store.py, Board.

    Args:
        factory: makes clients.
        queue: whose keys these are.
    """

    def __init__(self, factory: Callable[[], redis.Redis], queue: str) -> None:
        self._prefix = f"{{erg:{queue}}}:board:"
        self._speaking, self._hearing = RedisConnection(factory, queue), RedisConnection(factory, queue)
        self._run_id = ""  # of the server process that keeps the order

    def say(self, gang: str, message: bytes) -> None:
        """Add a message.

        Raises:
            StoreUnavailableError: whether it is there is not known.
            StoreFullError, StoreError: it is not.
        """
        self._open(self._speaking)
        key = self._prefix + gang
        add = ("XADD", key, "MAXLEN", "~", MESSAGES_MAX, "*", "m", message)
        self._speaking.pipeline([add, ("EXPIRE", key, KEPT_S)])

    def hear(self, gang: str, after: str, wait_ns: Nanoseconds) -> tuple[tuple[str, bytes], ...]:
        """Messages behind a place, HEARD_MAX at most; empty when none came in time (60 s at most).

        Raises:
            StoreUnavailableError: ask again.
            StoreError: there is no use in that.
        """
        self._open(self._hearing)
        wait_ms = max(1, min(wait_ns, WAIT_MAX_NS) // 1_000_000)
        answer = self._hearing.blocking(
            ("XREAD", "COUNT", HEARD_MAX, "BLOCK", wait_ms, "STREAMS", self._prefix + gang, after or "0"),
            wait_ms / 1000,
        )
        if not answer:
            return ()
        ((_, entries),) = answer
        return tuple((place.decode(), fields[1]) for place, fields in entries)

    def _open(self, connection: RedisConnection) -> None:
        """Another server process may have lost the last second, and who waits for a lost message waits for ever."""
        connection.open()
        self._run_id = self._run_id or connection.run_id
        if connection.run_id != self._run_id:
            raise StoreError(
                f"{connection.where}: the server was restarted: what members said to each other may be lost"
            )

    def interrupt(self) -> None:
        """From another thread: a `hear` that waits fails at once."""
        self._hearing.interrupt()

    def close(self) -> None:
        """No call may be under way."""
        self._speaking.close()
        self._hearing.close()
