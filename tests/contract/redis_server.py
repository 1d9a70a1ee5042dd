"""Redis servers of a test's own: on a socket in a directory, persistent as in production; or on free loopback ports, plain, with
passwords, TLS, replicas, Sentinels.
"""

from __future__ import annotations

import signal
import socket
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

READY = "eady to accept connections"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Server:
    """One redis-server, or (with the option `--sentinel`) one Sentinel. Args: see `serving`."""

    def __init__(self, folder: Path, lines: Sequence[str], options: Sequence[str], mark: str, port: int) -> None:
        self.port = port
        self._mark = mark
        folder.mkdir(parents=True, exist_ok=True)
        config = folder / "server.conf"
        config.write_text("".join(f"{line}\n" for line in ("bind 127.0.0.1", f"dir {folder}", 'save ""', *lines)))
        self._process = subprocess.Popen(
            ["redis-server", str(config), *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def wait_until_ready(self) -> None:
        """Returns when it answers."""
        out = self._process.stdout
        assert out is not None
        seen = ""
        for line in out:
            seen += line
            if self._mark in line:
                self._drain = threading.Thread(target=out.read, daemon=True)  # a full pipe would stop it
                self._drain.start()
                return
        raise AssertionError(f"it did not start:\n{seen}")

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def stop(self) -> None:
        """It freezes: connections stay, nobody answers."""
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """After `stop`."""
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """As a crash would."""
        self._process.kill()
        self._process.wait()
        if hasattr(self, "_drain"):
            self._drain.join()
        if self._process.stdout is not None:
            self._process.stdout.close()


@contextmanager
def serving(
    folder: Path, *lines: str, options: Sequence[str] = (), mark: str = READY, port: int | None = None
) -> Iterator[Server]:
    """A server that runs within.

    Args:
        folder: keeps its files.
        lines: of its configuration.
        options: on its command line.
        mark: what its log says when it is ready.
        port: None for a free one; 0 when the lines name it.
    """
    chosen = free_port() if port is None else port
    named = (f"port {chosen}",) if port is None else ()
    server = Server(folder, (*named, *lines), options, mark, chosen)
    try:
        server.wait_until_ready()
        yield server
    finally:
        server.kill()


@contextmanager
def watched_pair(folder: Path, name: str, password: str) -> Iterator[tuple[Server, Server, list[Server]]]:
    """A master, its replica and three Sentinels that watch them under `name`: (master, replica, sentinels)."""
    shared = (f"requirepass {password}", f"masterauth {password}", "repl-diskless-sync-delay 0")
    with ExitStack() as stack:
        master = stack.enter_context(serving(folder / "master", *shared))
        follows = f"replicaof 127.0.0.1 {master.port}"
        replica = stack.enter_context(
            serving(folder / "replica", *shared, follows, mark="MASTER <-> REPLICA sync: Finished with success")
        )
        sentinels = []
        for number in range(3):
            watch = (
                f"sentinel monitor {name} 127.0.0.1 {master.port} 2",
                f"sentinel auth-pass {name} {password}",
                f"sentinel down-after-milliseconds {name} 500",
                f"sentinel failover-timeout {name} 3000",
            )
            sentinels.append(
                stack.enter_context(
                    serving(folder / f"sentinel{number}", *watch, options=("--sentinel",), mark="+slave slave")
                )
            )
        yield master, replica, sentinels


class PrivateRedis:
    """Args: `folder` keeps its data and socket; `options` are added to the command line (`--maxmemory`, `4mb`, ...)."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder, self.options = folder, options
        self.socket = folder / "s"
        self._server: Server | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def start(self) -> None:
        """Returns when it answers, its data loaded.

        Every write goes to the kernel at once. With `everysec` a server whose disk is busy puts writes off for up to two
        seconds, and a kill loses them: what a server loses here is for each test to say.
        """
        lines = ("port 0", f"unixsocket {self.socket}", "appendonly yes", "appendfsync no")
        self._server = Server(self.folder, lines, self.options, READY, 0)
        self._server.wait_until_ready()

    def kill(self) -> None:
        """As a crash would."""
        if self._server is not None:
            self._server.kill()
            self._server = None

    def client(self) -> redis.Redis:
        return redis.Redis(unix_socket_path=str(self.socket), socket_timeout=5, retry=Retry(NoBackoff(), 0), protocol=2)

    def drop(self, queue: str) -> None:
        """Remove the keys of a queue, `*` all."""
        client = self.client()
        pattern = "*" if queue == "*" else f"{{erg:{queue}}}:*"
        for key in client.scan_iter(match=pattern, count=1000):
            client.unlink(key)
        client.close()
