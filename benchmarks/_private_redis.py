"""A Redis of a benchmark's own: a socket in a temporary folder, its append-only file written every second."""

from __future__ import annotations

import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import redis


@contextmanager
def private_redis(*, persistent: bool = True) -> Iterator[Path]:
    """The socket of a server that ends with the block. `persistent` False for rivals that need none of it."""
    with tempfile.TemporaryDirectory(prefix="ergates-redis-") as name:
        socket = Path(name) / "s"
        command = ["redis-server", "--port", "0", "--unixsocket", str(socket), "--dir", name, "--save", ""]
        if persistent:
            command += ["--appendonly", "yes", "--appendfsync", "everysec"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
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


def client_of(socket: Path) -> redis.Redis:
    """A client that waits as long as a benchmark may take, and retries nothing."""
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    return redis.Redis(unix_socket_path=str(socket), socket_timeout=60, retry=Retry(NoBackoff(), 0), protocol=2)
