"""Ends a worker's containers when the worker dies without doing so itself, also by SIGKILL.

A small process of its own, `python -I -S container_reaper.py SOCKET LABEL`: it waits for the end of its standard input, a
pipe that the worker holds, and then removes every container with the label, until none has come for a while (the engine
may still be making one). It speaks the engine's HTTP itself: the SDK would cost it 40 MB.
"""

import http.client
import json
import os
import signal
import socket
import sys
import time
import urllib.parse

QUIET_S = 1.0
"""None found for so long: none is being made any more."""
GIVE_UP_S = 30.0


class Connection(http.client.HTTPConnection):
    """HTTP over a socket in the file system."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=20)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def ask(path: str, method: str, url: str) -> bytes:
    connection = Connection(path)
    try:
        connection.request(method, url)
        return connection.getresponse().read()
    finally:
        connection.close()


def reap(path: str, label: str) -> None:
    """Remove until quiet. An engine that does not answer has nothing running that we could end."""
    filters = urllib.parse.quote(json.dumps({"label": [label]}))
    quiet_since = began = time.monotonic()
    while time.monotonic() - quiet_since < QUIET_S and time.monotonic() - began < GIVE_UP_S:
        found = json.loads(ask(path, "GET", f"/containers/json?all=1&filters={filters}"))
        for container in found:
            ask(path, "DELETE", f"/containers/{container['Id']}?force=1&v=1")
        if found:
            quiet_since = time.monotonic()
        time.sleep(0.1)


def main() -> None:
    os.setsid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    told = os.read(0, 1)
    if not told:  # a clean good-bye is one byte: then there is nothing to do
        reap(*sys.argv[1:3])


if __name__ == "__main__":
    main()
