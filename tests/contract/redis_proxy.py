"""A proxy before a server's socket that can lose an answer: the server has done what was asked, and the asker hears nothing.

It can also hold a question back, as a network does that was cut: the asker has long asked again when the old one arrives.
"""

from __future__ import annotations

import socket
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry


class LosingProxy:
    """`lose_next` makes it swallow the next answer and close that connection, `hold_next` keep the next question in `held`."""

    def __init__(self, path: Path, server: Path) -> None:
        self.path, self._server = path, server
        self.lose_next = self.hold_next = False
        self.held = b""
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for one in [self._listener, *self._open]:
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # closed by the other side already
        for thread in self._threads:
            thread.join()
        for one in [self._listener, *self._open]:
            one.close()

    def client(self) -> redis.Redis:
        return redis.Redis(unix_socket_path=str(self.path), socket_timeout=5, retry=Retry(NoBackoff(), 0), protocol=2)

    def deliver(self) -> bytes:
        """What was held arrives now; returns what nobody hears: the answer."""
        with socket.socket(socket.AF_UNIX) as late:
            late.connect(str(self._server))
            late.sendall(self.held)
            return late.recv(65536)

    def _accept(self) -> None:
        while True:
            try:
                asker, _ = self._listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            server.connect(str(self._server))
            self._open += [asker, server]
            for source, target, answers in ((asker, server, False), (server, asker, True)):
                thread = threading.Thread(target=self._pass_on, args=(source, target, answers), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _pass_on(self, source: socket.socket, target: socket.socket, answers: bool) -> None:
        try:
            while data := source.recv(65536):
                if answers and self.lose_next:
                    self.lose_next = False
                    break
                if self.hold_next and not answers:
                    self.hold_next, self.held = False, data
                    break
                target.sendall(data)
        except OSError:
            pass
        for one in (source, target):
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # the other direction was faster
