"""A private redis-server for a benchmark: a socket in a directory of its own, its log synchronised every second."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry


def client_of(socket: Path) -> redis.Redis:
    return redis.Redis(unix_socket_path=str(socket), socket_timeout=60, retry=Retry(NoBackoff(), 0), protocol=2)


@contextmanager
def private_redis(folder: Path) -> Iterator[Path]:
    """Yields its socket, once it answers."""
    socket = folder / "s"
    argv = ["redis-server", "--port", "0", "--unixsocket", str(socket), "--dir", str(folder), "--save", ""]
    argv += ["--appendonly", "yes", "--appendfsync", "everysec"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "eady to accept connections" in line:
                break
        drain = threading.Thread(target=process.stdout.read)  # a full pipe would stop it
        drain.start()
        try:
            yield socket
        finally:
            process.kill()
            drain.join()
