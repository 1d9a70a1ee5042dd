"""What a submission sends ahead under temporary keys (`new:<uid>:<name>`), in large pieces; it expires when nobody comes back."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Sequence

from ergates.drivers.stores.redis.connection import Arg
from ergates.drivers.stores.redis.session import Session
from ergates.errors import ErgatesError

BATCH_BYTES = 256 * 1024
PAIRS = 1000
"""Members of one command."""
LEFTOVERS_EXPIRE_S = 3600
BLOCKED = 2


class Upload:
    """`names` are the temporary keys made so far."""

    def __init__(self, session: Session, uid: str) -> None:
        self.session = session
        self.uid = uid
        self.names: list[str] = []
        self._commands: list[list[Arg]] = []
        self._size = 0

    def key(self, name: str) -> str:
        return f"{self.session.prefix}new:{self.uid}:{name}"

    def add_chunk(self, fields: Iterable[tuple[str, bytes]]) -> None:
        for field, value in fields:
            self.put("spec", ["HSET", self.key("spec"), field, value], len(value))

    def put(self, name: str, command: list[Arg], size: int = 0) -> None:
        """One command on a temporary key; sent with others."""
        if name not in self.names:
            self.names.append(name)
        self._commands.append(command)
        self._size += size + 64
        if self._size >= BATCH_BYTES:
            self.flush()

    def flush(self) -> None:
        expiries: list[list[Arg]] = [["EXPIRE", self.key(name), LEFTOVERS_EXPIRE_S] for name in self.names]
        self.session.connection().pipeline([*self._commands, *expiries])
        self._commands.clear()
        self._size = 0

    def pairs(self, name: str, word: str, pairs: Sequence[tuple[Arg, Arg]]) -> None:
        """Many members of one key: `HSET` field value, `ZADD` score member."""
        for start in range(0, len(pairs), PAIRS):
            some = pairs[start : start + PAIRS]
            size = 0
            for _, value in some:
                size += len(value) if isinstance(value, bytes | str) else 8
            self.put(name, [word, self.key(name), *(part for pair in some for part in pair)], size + 16 * len(some))

    def ranges(self, name: str, ranges: Sequence[tuple[int, int]]) -> str:
        """A lane: score the first id, member the last."""
        self.pairs(name, "ZADD", ranges)
        return name

    def lane_numbers(self, runs: Sequence[tuple[int, int, bool]], total: int, name: str = "lane") -> None:
        """Four bytes for each task: the number of its lane."""
        ends = [first for first, _, _ in runs[1:]] + [total + 1]
        numbers = array("I")
        for (first, lane, _), end in zip(runs, ends, strict=True):
            numbers.extend(array("I", [lane]) * (end - first))
        self.words(name, numbers)

    def states(self, runs: Sequence[tuple[int, int, bool]], total: int) -> None:
        """One byte for each task: blocked, or as submitted."""
        ends = [first for first, _, _ in runs[1:]] + [total + 1]
        states = bytearray()
        for (first, _, blocked), end in zip(runs, ends, strict=True):
            states += bytes([BLOCKED if blocked else 0]) * (end - first)
        self.text("state", bytes(states))

    def words(self, name: str, numbers: array[int]) -> None:
        """A string of little-endian 32-bit numbers."""
        if sys.byteorder != "little":
            numbers = array("I", numbers)
            numbers.byteswap()
        self.text(name, numbers.tobytes())

    def text(self, name: str, value: bytes) -> None:
        """A string, in pieces: one command of hundreds of megabytes would hold everybody up."""
        for start in range(0, len(value), BATCH_BYTES):
            piece = value[start : start + BATCH_BYTES]
            self.put(name, ["APPEND", self.key(name), piece], len(piece))

    def drop(self) -> None:
        """Best effort: what cannot be dropped now expires."""
        if not self.names:
            return
        try:
            self.session.connection().command("UNLINK", *(self.key(name) for name in self.names))
        except ErgatesError:
            return
