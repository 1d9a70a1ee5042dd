"""A Redis of a benchmark's own: a socket in a temporary folder, its append-only file written every second."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def private_redis(*, persistent: bool = True) -> Iterator[Path]:
    """The socket of a server that ends with the block. `persistent` False for rivals that need none of it."""
    with tempfile.TemporaryDirectory(prefix="ergates-redis-") as name:
        socket = Path(name) / "s"
        command = ["redis-server", "--port", "0", "--unixsocket", str(socket), "--dir", name, "--save", ""]
        if persistent:
            command += ["--appendonly", "yes", "--appendfsync", "everysec"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if "eady to accept connections" in line:
                    break
            yield socket
        finally:
            process.kill()
            process.wait()
