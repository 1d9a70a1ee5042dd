"""Where the inputs of tasks come from and their outputs go to: one small interface, whatever is behind it.

A path is relative, uses `/` and stays below the place. What was found has a *version*, a word that changes when the file does:
it names the file in a node's cache. Whoever fetches names what was found, so that a file that changes in between is noticed.

Calls may take long and come from several threads at once. Each is given a `Stop` and raises `StoppedError` soon after that is
set; nothing half-done is ever visible at the far end under a file's own name.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ergates.errors import ErgatesError

FULL = (errno.ENOSPC, errno.EDQUOT)
"""What a full disk, or a full quota, says."""


class TransferError(ErgatesError):
    """The world's doing: the network, a server, a key that is not accepted now. The same call may work later."""


class NoSuchFileError(TransferError):
    """There is no such file, folder, bucket or host folder, or we may not see it: trying again will not help."""


class UnusableError(TransferError):
    """This node cannot get there at all: a library or a program is missing, or the address is not understood."""


class FullDiskError(TransferError):
    """This node's disk, or the far end's, has no room."""


class StoppedError(Exception):
    """Somebody set the `Stop`."""


class Stop:
    """Asks a transfer to end. What must be woken up for that registers itself."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._hooks: list[Callable[[], None]] = []
        self.asked = threading.Event()

    def set(self) -> None:
        """Ask; from any thread."""
        with self._lock:
            self.asked.set()
            hooks, self._hooks = self._hooks, []
        for hook in hooks:
            hook()

    def check(self) -> None:
        """Raises StoppedError once asked."""
        if self.asked.is_set():
            raise StoppedError

    def wake(self, hook: Callable[[], None]) -> None:
        """Have `hook` called when asked, perhaps at once. It must not mind being called too late."""
        with self._lock:
            if not self.asked.is_set():
                self._hooks.append(hook)
                return
        hook()

    def sleep(self, seconds: float) -> None:
        """Wait, unless asked. Raises StoppedError."""
        self.asked.wait(seconds)
        self.check()


@dataclass(frozen=True, slots=True)
class Found:
    """One file.

    Args:
        path: below the place.
        size_bytes: its length; None where nobody knows it before it is read.
        version: a word that changes when the file does; empty where nothing tells: such a file is fetched every time.
        executable: it is a program; False where the place keeps no modes.
    """

    path: str
    size_bytes: int | None
    version: str
    executable: bool = False


class Files(Protocol):
    """A place with files. Every method raises TransferError (see there for the kinds) and StoppedError."""

    place: str
    """Its address, for people and for naming what is cached."""

    def find(self, path: str, stop: Stop) -> list[Found]:
        """The file of that path, or all files below the folder of that path; `.` is everything.

        Links are followed. Raises NoSuchFileError when there is neither; a folder without files is an empty list.
        """
        ...

    def fetch(self, found: Sequence[Found], folder: Path, stop: Stop) -> None:
        """Bring each to its path below `folder`, which is empty and ours. After an error what is there is worth nothing."""
        ...

    def put(self, folder: Path, paths: Sequence[str], stop: Stop) -> None:
        """Bring these files below `folder` to the same paths here, replacing what is there, each appearing at once and whole."""
        ...


def full_disk(error: OSError, place: str) -> TransferError:
    """What a local failure means."""
    kind = FullDiskError if error.errno in FULL else TransferError
    return kind(f"{error.filename or place}: {error.strerror or error}")


def private_name(name: str) -> str:
    """What a file is called at the far end until it is whole: hidden, and nobody else's."""
    return f".{name[:120]}.{os.urandom(6).hex()}.ergates-part"


def is_private(name: str) -> bool:
    """Whether a file of that name is one that is not whole yet, perhaps left behind by a crash."""
    return name.endswith(".ergates-part")


def executable(mode: int) -> bool:
    """Whether a file of that mode is a program."""
    return bool(mode & stat.S_IXUSR)
