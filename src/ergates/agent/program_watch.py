"""Whether a program has shown that it is ready: somebody listens on a port, a line was printed, a file is there.

Looks only; nothing connects to a server that is about to be measured. While something is waited for, it is looked for every few
milliseconds, more seldom as time goes on.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from ergates.errors import InputError
from ergates.experiment.bindings import filled_text
from ergates.experiment.layout import STDERR, STDOUT
from ergates.experiment.spec import Ready

_PAUSE_NS_MIN, _PAUSE_NS_MAX = 2_000_000, 50_000_000
_LISTENS = "0A"
_READ_BYTES = 1 << 20
_LINE_BYTES_MAX = 64 * 1024
"""Of a line without end that is kept to be looked at again."""


class ReadyWatch:
    """Made before the program starts: a port that somebody listens on already is not its own.

    Args:
        ready: what it is to show.
        folder: the program's.
        values: of every name in templates.
        number: of the run.

    Raises:
        InputError: the port is no number, the regular expression none.
    """

    def __init__(self, ready: Ready, folder: Path, values: Mapping[str, str], number: int) -> None:
        self.look_at_ns = time.monotonic_ns()
        """When to look next, by the monotonic clock."""
        self._pause_ns = _PAUSE_NS_MIN
        self.port = 0
        """Where somebody is to listen; 0: that is not what it waits for."""
        self._file: Path | None = None
        self._line: re.Pattern[str] | None = None
        if ready.port:
            self.port = _port(filled_text(ready.port, values, number))
            self._before = listeners(self.port, "self")
        elif ready.file:
            self._file = folder / filled_text(ready.file, values, number)
        else:
            try:
                self._line = re.compile(ready.line)
            except re.error as error:
                raise InputError(f"ready.line {ready.line!r}: {error}", source="<template>") from None
            self._tails = [_Tail(folder / name) for name in (STDOUT, STDERR)]

    def look(self, pid: int) -> bool:
        """Whether it is ready now; `pid` is the program's."""
        self.look_at_ns = time.monotonic_ns() + self._pause_ns
        self._pause_ns = min(_PAUSE_NS_MAX, self._pause_ns * 3 // 2)
        if self.port:  # the program may have gone to a network of its own
            return bool((listeners(self.port, str(pid)) | listeners(self.port, "self")) - self._before)
        if self._file is not None:
            return self._file.exists()
        pattern = self._line
        assert pattern is not None
        return any(pattern.search(line) for tail in self._tails for line in tail.new_lines())

    @property
    def taken(self) -> bool:
        """Whether somebody else had the port before the program started."""
        return bool(self.port and self._before)


class _Tail:
    """Follows a file that grows."""

    def __init__(self, path: Path) -> None:
        self._path, self._at, self._rest = path, 0, b""

    def new_lines(self) -> list[str]:
        """Lines that are new or have grown; the last one may not be at its end."""
        with suppress(OSError), self._path.open("rb") as file:
            file.seek(self._at)
            data = file.read(_READ_BYTES)
            self._at += len(data)
            if data:
                lines = (self._rest + data).split(b"\n")
                self._rest = lines[-1][-_LINE_BYTES_MAX:]
                return [line.decode(errors="replace") for line in lines]
        return []


def listeners(port: int, pid: str) -> frozenset[str]:
    """Sockets (their inodes) that listen on a TCP port in the network of a process; none when it has ended."""
    found: set[str] = set()
    wanted = f":{port:04X}"
    for name in ("tcp", "tcp6"):
        with suppress(OSError), open(f"/proc/{pid}/net/{name}") as file:
            for line in file:
                fields = line.split()
                if len(fields) > 9 and fields[3] == _LISTENS and fields[1].endswith(wanted):
                    found.add(fields[9])
    return frozenset(found)


def _port(text: str) -> int:
    if not text.strip().isdecimal() or not 0 < int(text) < 65536:
        raise InputError(f"ready.port is {text!r}", source="<template>", expected="a TCP port, 1 to 65535")
    return int(text)
