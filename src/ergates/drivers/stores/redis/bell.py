"""A worker's bell: a thread that blocks on the worker's list and makes a file descriptor readable when something is pushed there.

It costs the server nothing while nothing happens. When the connection breaks it is made again, with pauses that grow; it rings
then, for something may have been missed.
"""

from __future__ import annotations

import os
import threading

from ergates.drivers.stores.redis.connection import RedisConnection
from ergates.errors import ErgatesError

BLOCK_S = 60
"""A half-open connection is found after so long, and a little."""
PAUSE_S_MIN, PAUSE_S_MAX = 0.1, 5.0


class RedisBell:
    """See taskqueue/store.py, Bell.

    Args:
        connection: of its own; closed with the bell.
        key: the worker's list.
    """

    def __init__(self, connection: RedisConnection, key: str) -> None:
        self._connection, self._key = connection, key
        self._readable = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="erg-bell", daemon=True)
        self._thread.start()

    def fileno(self) -> int:
        """Readable while it rings."""
        return self._readable

    def clear(self) -> None:
        """Stop ringing."""
        try:
            os.eventfd_read(self._readable)
        except BlockingIOError:
            return

    def close(self) -> None:
        """Ends the thread."""
        if self._closed.is_set():
            return
        self._closed.set()
        while self._thread.is_alive():
            self._connection.interrupt()
            self._thread.join(0.05)
        os.close(self._readable)

    def _listen(self) -> None:
        pause_s = PAUSE_S_MIN
        while not self._closed.is_set():
            try:
                self._connection.open()
                while not self._closed.is_set():
                    os.eventfd_write(self._readable, 1)
                    self._wait_for_push()
                    pause_s = PAUSE_S_MIN
            except ErgatesError:  # the worker's own calls tell people; here only the pause matters
                self._closed.wait(pause_s)
                pause_s = min(PAUSE_S_MAX, 2 * pause_s)
        self._connection.close()

    def _wait_for_push(self) -> None:
        while not self._closed.is_set():
            if self._connection.blocking_pop(self._key, BLOCK_S):
                return
