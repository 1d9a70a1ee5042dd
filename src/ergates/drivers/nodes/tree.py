"""The node as its kernel shows it: files below one root, programs, and the cores that threads may use.

Every touch of the machine goes through here, so that tests can hand in a tree of their own and watch, refuse or forget any
write. With another root than `/`, programs are looked for below that root only and no thread of this machine is moved.
"""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ergates.errors import ErgatesError
from ergates.experiment.node_forms import format_cpus, parse_cpus

PROGRAM_FOLDERS = ("usr/sbin", "usr/bin", "sbin", "bin")
PROGRAM_WAIT_S = 60.0
"""systemctl waits for a service to end; longer than its own limits is a hang."""


class NotHereError(ErgatesError):
    """This node has no such thing; the message says why."""


@dataclass(slots=True)
class NodeTree:
    """Paths are relative to `root`, as `sys/devices/system/cpu/online`."""

    root: Path = Path("/")

    @property
    def real(self) -> bool:
        """Whether this is the machine itself."""
        return self.root == Path("/")

    def shown(self, path: str) -> str:
        """As people know it, whatever the root is."""
        return f"/{path}"

    def read(self, path: str) -> str:
        """The whole text. Raises OSError."""
        return (self.root / path).read_bytes().decode("utf-8", "surrogateescape")

    def text(self, path: str) -> str | None:
        """The text without its ends; None where there is no such file or it cannot be read."""
        with suppress(OSError):
            return self.read(path).strip()
        return None

    def write(self, path: str, text: str) -> None:
        """One write of the whole text, as these files want it; never makes a file. Raises OSError."""
        handle = os.open(self.root / path, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
        try:
            data = text.encode("utf-8", "surrogateescape")
            if os.write(handle, data) != len(data):
                raise OSError(errno.EIO, "only a part was written", str(path))
        finally:
            os.close(handle)

    def writable(self, path: str) -> bool:
        """Whether the file's rights let us."""
        return os.access(self.root / path, os.W_OK)

    def exists(self, path: str) -> bool:
        return (self.root / path).exists()

    def link(self, path: str) -> str:
        """Last piece of where a symbolic link leads; empty where there is none."""
        with suppress(OSError):
            return (self.root / path).readlink().name
        return ""

    def glob(self, pattern: str) -> list[str]:
        """Paths that match, in a natural order: cpu2 before cpu10."""
        return sorted((str(path.relative_to(self.root)) for path in self.root.glob(pattern)), key=_natural)

    def program(self, name: str) -> str | None:
        """Where a program of the system lies; None: not installed."""
        for folder in PROGRAM_FOLDERS:
            path = self.root / folder / name
            if os.access(path, os.X_OK):
                return str(path)
        return None

    def run(self, argv: Sequence[str]) -> tuple[int, str]:
        """Run a program of the system; its exit code and what it said. 127: not installed."""
        program = self.program(argv[0])
        if program is None:
            return 127, f"{argv[0]}: not installed"
        env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C", "ERGATES_NODE_ROOT": str(self.root)}
        try:
            ended = subprocess.run(
                [program, *argv[1:]],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=env,
                timeout=PROGRAM_WAIT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return 124, f"{argv[0]} did not end within {PROGRAM_WAIT_S:.0f} s"
        return ended.returncode, ended.stdout.decode("utf-8", "replace").strip()

    def affinity(self, tid: int) -> tuple[int, ...]:
        """Cores a thread may use. Raises OSError."""
        if not self.real:
            raise OSError(errno.ENOSYS, "threads of another root cannot be asked", str(tid))
        return tuple(sorted(os.sched_getaffinity(tid)))

    def set_affinity(self, tid: int, cpus: Sequence[int]) -> None:
        """Raises OSError."""
        if not self.real:
            raise OSError(errno.ENOSYS, "threads of another root cannot be moved", str(tid))
        os.sched_setaffinity(tid, cpus)

    def online_cpus(self) -> tuple[int, ...]:
        """Cores that are there and on."""
        text = self.text("sys/devices/system/cpu/online")
        return parse_cpus(text) if text else ()

    def chosen_cpus(self, where: str) -> tuple[int, ...] | None:
        """The cores a wish is about; None: all.

        Raises:
            ValueError: no such list, or cores that are not there.
        """
        if not where:
            return None
        cpus, online = parse_cpus(where), self.online_cpus()
        absent = set(cpus) - set(online)
        if absent or not cpus:
            raise ValueError(f"no cores {format_cpus(absent) or where} here; there are {format_cpus(online)}")
        return cpus


def _natural(path: str) -> list[tuple[int, str]]:
    pieces: list[tuple[int, str]] = []
    digits = ""
    for letter in f"{path}\0":
        if letter.isdigit() and letter.isascii():
            digits += letter
            continue
        if digits:
            pieces.append((int(digits), ""))
            digits = ""
        pieces.append((-1, letter))
    return pieces
