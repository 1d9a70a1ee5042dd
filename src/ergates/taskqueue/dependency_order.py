"""Tasks that wait for each other would wait for ever: find such a circle before anything is stored.

A task may come after ranges of other tasks. Following every single pair would be quadratic (ten thousand tasks after the
same ten thousand), so the search looks at ranges: has one a task we are just following (a circle), and which of its
tasks was not looked at yet?
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence

Range = tuple[int, int]


def find_circle(after: Mapping[int, Sequence[Range]]) -> tuple[int, ...]:
    """Some tasks that wait for each other, in order, or () when there are none.

    Args:
        after: for each task that waits, the inclusive ranges of ids it comes after. Tasks that wait for nothing
            may be left out.
    """
    return _Search(after).run()


class _Search:
    """Depth first, without recursion, over the waiting tasks in the order of their ids."""

    def __init__(self, after: Mapping[int, Sequence[Range]]) -> None:
        self._after = after
        self._ids = sorted(after)
        self._unseen = list(range(len(self._ids) + 1))  # union-find: the first place from here on not seen yet
        self._path: list[int] = []
        self._on_path = [0] * (len(self._ids) + 1)  # Fenwick tree: how many places below are on the path

    def run(self) -> tuple[int, ...]:
        for start in range(len(self._ids)):
            if self._next_unseen(start) == start:
                circle = self._follow(start)
                if circle:
                    return circle
        return ()

    def _follow(self, start: int) -> tuple[int, ...]:
        work = [(start, iter(self._places(start)))]
        self._enter(start)
        open_ranges: list[Range | None] = [None]
        while work:
            place, ranges = work[-1]
            current = open_ranges[-1] or next(ranges, None)
            if current is None:
                self._leave(place)
                work.pop()
                open_ranges.pop()
                continue
            if open_ranges[-1] is None and self._count(current[1]) > self._count(current[0]):
                return self._circle(current)
            child = self._next_unseen(current[0])
            open_ranges[-1] = current if child < current[1] else None
            if child < current[1]:
                self._enter(child)
                work.append((child, iter(self._places(child))))
                open_ranges.append(None)
        return ()

    def _places(self, place: int) -> list[Range]:
        """Half-open ranges of places in the sorted list of waiting tasks."""
        ranges = self._after[self._ids[place]]
        return [(bisect_left(self._ids, first), bisect_right(self._ids, last)) for first, last in ranges]

    def _circle(self, reached: Range) -> tuple[int, ...]:
        begin = next(i for i in range(len(self._path) - 1, -1, -1) if reached[0] <= self._path[i] < reached[1])
        return tuple(self._ids[place] for place in self._path[begin:])

    def _enter(self, place: int) -> None:
        self._unseen[place] = place + 1
        self._path.append(place)
        self._add(place, 1)

    def _leave(self, place: int) -> None:
        self._path.pop()
        self._add(place, -1)

    def _next_unseen(self, place: int) -> int:
        root = place
        while self._unseen[root] != root:
            root = self._unseen[root]
        while self._unseen[place] != root:
            self._unseen[place], place = root, self._unseen[place]
        return root

    def _add(self, place: int, change: int) -> None:
        index = place + 1
        while index < len(self._on_path):
            self._on_path[index] += change
            index += index & -index

    def _count(self, below: int) -> int:
        total = 0
        while below:
            total += self._on_path[below]
            below -= below & -below
        return total
