"""One connection to the server: calls scripts, speaks raw commands, notices that another server process answers.

The client library makes the connection (TLS, login, Sentinels); what goes over it then is written and read here on its socket,
without the library's retries, locks and checks, for these would double the time of the hot call. A connection belongs to one
thread. When a call fails it is closed, and the next call opens it again.
"""

from __future__ import annotations

import select
import socket
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import hiredis
import redis
from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import RedisError, ResponseError

from ergates.drivers.stores.redis.errors import in_words, too_old
from ergates.drivers.stores.redis.scripts import Script
from ergates.errors import StoreError

MAJOR_MIN = 7
ANSWER_LATE_S = 10
RECEIVE_BYTES = 256 * 1024
_LINGER_NOT = struct.pack("ii", 1, 0)
Arg = bytes | str | int | float


class RedisConnection:
    """Args: `factory` makes clients; `queue` is for messages only."""

    def __init__(self, factory: Callable[[], redis.Redis], queue: str) -> None:
        self._factory = factory
        self._client: redis.Redis | None = None
        self._raw: Any = None
        self._socket: Any = None
        self._reader = _new_reader()
        self._readable = select.poll()
        self._queue = queue
        self.run_id = ""
        self.where = f"queue {queue!r}"

    @property
    def is_open(self) -> bool:
        """It was, when it was used last."""
        return self._socket is not None

    def close(self) -> None:
        """The client of this connection is of no further use."""
        if self._client is not None:
            self._client.close()
            self._client.connection_pool.disconnect()
        self._client, self._raw, self._socket = None, None, None

    def open(self) -> None:
        """Make sure that there is a connection, and know which server process answers (`run_id`).

        Raises:
            StoreUnavailableError: nothing answers now.
            StoreError: it does not let us in, or is too old.
        """
        if self._socket is not None:
            if not self._readable.poll(0):
                return
            self.close()  # nothing is expected: the server has gone, and perhaps come back
        try:
            self._client = self._factory()
            self._raw = self._client.connection_pool.get_connection()
            self.where = _place(self._raw, self._queue)
            self._socket, self._reader = self._raw._sock, _new_reader()
            self._readable = select.poll()
            self._readable.register(self._socket, select.POLLIN)
            lines = self._ask("INFO", "server").splitlines()
            info = dict(line.split(b":", 1) for line in lines if b":" in line)
        except (RedisError, OSError) as error:
            self.close()
            raise in_words(error, self.where) from error
        version = info.get(b"redis_version", b"0").decode()
        if int(version.partition(".")[0]) < MAJOR_MIN:
            self.close()
            raise too_old(version, self.where)
        self.run_id = info[b"run_id"].decode()

    def run(self, script: Script, key: str, *args: Arg) -> Any:
        """Call a script on the open connection; the server is told its text when it does not know it.

        Raises:
            StoreUnavailableError: whether it was carried out is not known.
            StoreFullError, StoreError: it was not.
        """
        try:
            try:
                return self._ask("EVALSHA", script.sha, 1, key, *args)
            except ResponseError as error:
                if not str(error).startswith("NOSCRIPT"):
                    raise
                return self._ask("EVAL", script.source, 1, key, *args)
        except (RedisError, OSError) as error:
            raise self._failed(error) from error

    def command(self, *args: Arg) -> Any:
        """One raw command."""
        self.open()
        try:
            return self._ask(*args)
        except (RedisError, OSError) as error:
            raise self._failed(error) from error

    def blocking_pop(self, key: str, block_s: int) -> bool:
        """Wait until something is pushed to a list, and take it; False when nothing was for so long."""
        return self.blocking(("BLPOP", key, block_s), block_s) is not None

    def blocking(self, command: tuple[Arg, ...], block_s: float) -> Any:
        """One raw command for whose answer the server waits up to `block_s`. For a connection that does nothing else."""
        self.open()
        try:
            self._socket.settimeout(block_s + ANSWER_LATE_S)
            return self._ask(*command)
        except (RedisError, OSError) as error:
            raise self._failed(error) from error

    def interrupt(self) -> None:
        """From another thread: whatever is under way fails."""
        connected = self._socket
        if connected is not None:
            try:
                connected.shutdown(socket.SHUT_RDWR)
            except OSError:
                return  # it is closed already

    def pipeline(self, commands: Sequence[Sequence[Arg]]) -> list[Any]:
        """Many commands in one round trip; raises what the first of them to fail said."""
        if not commands:
            return []
        self.open()
        try:
            self._socket.sendall(b"".join(_pack(tuple(command)) for command in commands))
            answers = [self._answer() for _ in commands]
        except (RedisError, OSError) as error:
            raise self._failed(error) from error
        for answer in answers:
            if isinstance(answer, Exception):
                raise self._failed(answer) from answer
        return answers

    def _ask(self, *args: Arg) -> Any:
        self._socket.sendall(_pack(args))
        answer = self._answer()
        if isinstance(answer, ResponseError):
            raise answer
        return answer

    def _answer(self) -> Any:
        """The next answer; an error that the server answered is returned."""
        reader = self._reader
        answer = reader.gets()
        while answer is False:
            data = self._socket.recv(RECEIVE_BYTES)
            if not data:
                raise Disconnected("the server closed the connection")
            reader.feed(data)
            answer = reader.gets()
        return answer

    def _unsay(self) -> None:
        """What was said and has not arrived yet shall not arrive later: the kernel would go on sending after the close."""
        if self._socket is not None and not isinstance(self._raw, redis.UnixDomainSocketConnection):
            with suppress(OSError):  # it is closed already
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
                self._socket.close()

    def _failed(self, error: Exception) -> Exception:
        found = in_words(error, self.where)
        if not isinstance(error, ResponseError) or type(found) is not StoreError:
            self._unsay()
            self.close()  # also after READONLY and the like: the next call looks for the master again
        return found


_pack: Callable[[tuple[Arg, ...]], bytes] = hiredis.pack_command  # type: ignore[assignment]  # its stub means one argument


def _new_reader() -> hiredis.Reader:
    return hiredis.Reader(protocolError=Disconnected, replyError=ResponseError)


def _place(raw: Any, queue: str) -> str:
    """Where this is, without any password."""
    host = getattr(raw, "path", None) or f"{raw.host}:{raw.port}"
    return f"{host} (queue {queue!r})"
