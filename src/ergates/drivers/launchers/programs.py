"""Finds the program of a command on PATH, starts it as a shell would, and says in words why it could not.

Loaded by every slot: imports nothing that is not in the interpreter.
"""

from __future__ import annotations

import errno
import os
import stat

TYPE_CHECKING = False  # importing typing would cost every slot a megabyte
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_DEFAULT_PATH = b"/usr/local/bin:/usr/bin:/bin"
"""Where shells look when PATH is not set."""
_TRANSIENT = (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE)
"""The machine is short of something just now; the command is not to blame."""


class NotStarted(Exception):
    """In words, why a command did not start. `machine`: it was the machine's fault, another try may work."""

    def __init__(self, reason: str, *, machine: bool = False) -> None:
        super().__init__(reason)
        self.machine = machine


class Programs:
    """Starts programs. Remembers where it found them, as shells do, and looks again when one is gone."""

    def __init__(self) -> None:
        self._found: dict[tuple[bytes, bytes], bytes] = {}

    def start(
        self,
        argv: tuple[bytes, ...],
        env: Mapping[bytes, bytes],
        spawn: Callable[[bytes, tuple[bytes, ...]], int],
    ) -> int:
        """Find `argv[0]` on the PATH of `env` and `spawn(path, argv)` it; a script without `#!` goes to /bin/sh.

        Returns:
            What `spawn` returns: the pid.

        Raises:
            NotStarted: with the reason in words.
        """
        if not argv or not argv[0]:
            raise NotStarted("the command is empty")
        name = argv[0]
        known = (env.get(b"PATH", _DEFAULT_PATH), name)
        path = self._found.get(known)
        if path is not None:
            try:
                return spawn(path, argv)
            except FileNotFoundError:
                del self._found[known]
            except OSError as problem:
                return self._start_otherwise(problem, path, argv, spawn)
        path = name if b"/" in name else _look_up(*known)
        try:
            pid = spawn(path, argv)
        except OSError as problem:
            return self._start_otherwise(problem, path, argv, spawn)
        if path.startswith(b"/") and path is not name:
            self._found[known] = path
        return pid

    def _start_otherwise(
        self, problem: OSError, path: bytes, argv: tuple[bytes, ...], spawn: Callable[[bytes, tuple[bytes, ...]], int]
    ) -> int:
        if problem.errno != errno.ENOEXEC:
            raise NotStarted(_explain(problem, path, argv), machine=problem.errno in _TRANSIENT)
        if _is_binary(path):
            raise NotStarted(f"not a program for this machine: {os.fsdecode(path)}")
        try:
            return spawn(b"/bin/sh", (b"sh", path, *argv[1:]))
        except OSError as again:
            raise NotStarted(_explain(again, b"/bin/sh", argv), machine=again.errno in _TRANSIENT) from None


def _look_up(search: bytes, name: bytes) -> bytes:
    refused: bytes | None = None
    for folder in search.split(b":"):
        path = os.path.join(folder or b".", name)
        try:
            facts = os.stat(path)  # noqa: PTH116  pathlib is too heavy to load here
        except (OSError, ValueError):  # not in this folder
            continue
        if stat.S_ISREG(facts.st_mode):
            if os.access(path, os.X_OK):
                return path
            refused = refused or path
    if refused is not None:
        raise NotStarted(f"not executable: {os.fsdecode(refused)} (chmod +x it, or name its interpreter)")
    raise NotStarted(f"command not found: {os.fsdecode(name)}")


def _explain(problem: OSError, path: bytes, argv: tuple[bytes, ...]) -> str:
    shown = os.fsdecode(path)
    if problem.errno == errno.ENOENT:
        if os.path.exists(path):
            return f"cannot run {shown}: its interpreter {_interpreter(path)} does not exist"
        return f"command not found: {shown}"
    if problem.errno == errno.EACCES:
        if os.path.isdir(path):
            return f"not a command but a directory: {shown}"
        return f"not executable: {shown} (chmod +x it, or name its interpreter)"
    if problem.errno == errno.E2BIG:
        size = sum(len(part) + 1 for part in argv)
        return (
            f"too long for this machine: {size} bytes of arguments in {len(argv)} pieces, besides the environment "
            "(usually 2 MiB in all, 128 KiB a piece); hand it over in a file or on stdin"
        )
    return f"cannot run {shown}: {os.strerror(problem.errno or 0)}"


def _first_bytes(path: bytes) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:  # executable but not readable
        return b""
    try:
        return os.read(fd, 256)
    finally:
        os.close(fd)


def _interpreter(path: bytes) -> str:
    line = _first_bytes(path).split(b"\n", 1)[0]
    words = line[2:].split() if line.startswith(b"#!") else []
    return os.fsdecode(words[0]) if words else "(a dynamic loader or interpreter)"


def _is_binary(path: bytes) -> bool:
    """A NUL in its first line, or nothing readable: shells refuse such a file too. An empty file is a fine script."""
    return b"\0" in _first_bytes(path).split(b"\n", 1)[0]
