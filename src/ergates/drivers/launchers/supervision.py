"""The worker's end of its supervisor: starts it, asks it for slots, hears what became of them, ends it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ergates.drivers.launchers import supervisor as supervisor_module
from ergates.drivers.launchers import wire
from ergates.drivers.launchers.leftovers import MARK
from ergates.errors import LaunchError

LOG = "supervisor.log"
_END_TIMEOUT_S = 15.0


class Supervision:
    """One supervisor process.

    Args:
        folder: of this worker: spools and the supervisor's log go there.
        launcher: id of the worker; packs are named after it.
        tree: `GroupTree.spec()`.

    Raises:
        LaunchError: it cannot be started.
    """

    def __init__(self, folder: Path, launcher: str, tree: Mapping[str, Any]) -> None:
        self._log = folder / LOG
        self.socket, far_end = socket.socketpair()
        environment = dict(os.environ)
        if tree["kind"] == "tree":
            environment[MARK] = launcher
        if not sys.executable:
            raise LaunchError(
                "cannot start tasks: this Python does not know its own executable (sys.executable is empty)"
            )
        command = [sys.executable, "-I", "-S", "-X", "utf8", supervisor_module.__file__, str(far_end.fileno())]
        try:
            with self._log.open("ab") as log, far_end:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=log,
                    pass_fds=[far_end.fileno()],
                    cwd="/",
                    env=environment,
                    start_new_session=True,  # Ctrl-C in the terminal is for the worker alone
                )
        except OSError as problem:
            self.socket.close()
            raise LaunchError(f"cannot start tasks: {' '.join(command)}: {problem.strerror}") from problem
        self.pid = self._process.pid
        self._inbox = bytearray()
        settings = {
            "tree": dict(tree), "folder": str(folder), "pack": launcher, "worker_pid": os.getpid(),
        }  # fmt: skip
        self._send(wire.encode(wire.CONFIGURE, settings))

    def open(self, number: int, far_end: socket.socket, warm: Mapping[str, Any] | None) -> None:
        """Ask for a slot at the other end of `far_end`, which is ours no more. `warm`: argv, cwd, environment."""
        frame = wire.encode(wire.OPEN, {"slot": number, "warm": None if warm is None else dict(warm)})
        try:
            sent = socket.send_fds(self.socket, [frame], [far_end.fileno()])
        except OSError:  # it died: its end of the socket tells soon, and every slot is made again
            return
        finally:
            far_end.close()
        self._send(frame[sent:])

    def receive(self) -> list[tuple[int, Any]] | None:
        """Frames that are there (waits for the first bytes); None when it is gone."""
        try:
            data = self.socket.recv(65536)
        except OSError:
            return None
        if not data:
            return None
        self._inbox += data
        return wire.decode(self._inbox)

    def end(self) -> bool:
        """Close the socket, at which it ends everything and itself, and wait. True when it did so in time."""
        self.socket.close()
        try:
            return self._process.wait(_END_TIMEOUT_S) == 0
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            return False

    def last_words(self) -> str:
        """End of its log, for an error message."""
        try:
            return self._log.read_text(errors="replace")[-2000:].strip()
        except OSError:
            return ""

    def _send(self, data: bytes) -> None:
        try:
            self.socket.sendall(data)
        except OSError:  # it died: its end of the socket tells soon
            return
