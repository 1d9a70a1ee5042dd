"""A private redis-server for tests: a socket in a directory of its own, no port, persistent as in production."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

READY_MARK = "eady to accept connections"


def free_port() -> int:
    """Of this machine's loopback, taken by nobody just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class PrivateRedis:
    """Args: `folder` keeps its data and socket; `options` are added to the command line (`--maxmemory`, `4mb`, ...)."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder, self.options = folder, options
        self.socket = folder / "s"
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def start(self) -> None:
        """Returns when it answers, its data loaded."""
        self._process = subprocess.Popen(
            [
                "redis-server", "--port", "0", "--unixsocket", str(self.socket), "--dir", str(self.folder),
                "--appendonly", "yes", "--appendfsync", "everysec", "--save", "", *self.options,
            ],
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )  # fmt: skip
        assert self._process.stdout is not None
        seen = ""
        for line in self._process.stdout:
            seen += line
            if READY_MARK in line:
                self._drain = threading.Thread(target=self._process.stdout.read, daemon=True)  # a full pipe stops it
                self._drain.start()
                return
        raise AssertionError(f"redis-server did not start:\n{seen}")

    def kill(self) -> None:
        """As a crash would."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._drain.join()
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._process = None

    def client(self) -> redis.Redis:
        return redis.Redis(unix_socket_path=str(self.socket), socket_timeout=5, retry=Retry(NoBackoff(), 0), protocol=2)

    def drop(self, queue: str) -> None:
        """Remove the keys of a queue, `*` all."""
        client = self.client()
        pattern = "*" if queue == "*" else f"{{erg:{queue}}}:*"
        for key in client.scan_iter(match=pattern, count=1000):
            client.unlink(key)
        client.close()
