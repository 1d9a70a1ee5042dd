"""In which order tasks' outputs are let out, and how lines are tagged. Pure: it holds names, never bytes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, TypeVar

T = TypeVar("T")


class InOrder(Generic[T]):
    """Holds back what came before its turn: item 3 waits until 1 and 2 were offered or skipped.

    Args:
        skipped: ids that will never come, such as those of tasks that were done in an earlier run.
    """

    def __init__(self, skipped: Iterable[int] = ()) -> None:
        self._next = 1
        self._held: dict[int, T] = {}
        self._skipped = set(skipped)

    def offer(self, number: int, item: T) -> list[T]:
        """All items whose turn it is now."""
        self._held[number] = item
        return self._ready()

    def rest(self) -> list[T]:
        """What is still held, in order, at the end: the gaps will not be filled any more."""
        items = [self._held[number] for number in sorted(self._held)]
        self._held.clear()
        return items

    def _ready(self) -> list[T]:
        items: list[T] = []
        while True:
            if self._next in self._held:
                items.append(self._held.pop(self._next))
            elif self._next in self._skipped:
                self._skipped.discard(self._next)
            else:
                return items
            self._next += 1


def tagged(data: bytes, tag: bytes) -> bytes:
    """Every line of `data` with `tag` and a tab before it; a last line without an end gets one."""
    if not data:
        return data
    lines = data.split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    prefix = tag + b"\t"
    return b"".join(prefix + line + b"\n" for line in lines)


class WholeLines:
    """Cuts a growing output into whole lines: what has no end of line yet is kept for later."""

    def __init__(self) -> None:
        self._partial = b""

    def take(self, piece: bytes) -> bytes:
        """The whole lines that are complete now."""
        data = self._partial + piece
        cut = data.rfind(b"\n") + 1
        self._partial = data[cut:]
        return data[:cut]

    def rest(self) -> bytes:
        """The last line, which has no end."""
        left, self._partial = self._partial, b""
        return left
