"""Tasks of a new job that come after others: checked as a whole, then written as ranges (see lua/dependencies.lua)."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

from ergates.drivers.stores.redis.names import ID_MAX
from ergates.drivers.stores.redis.upload import Upload
from ergates.errors import UsageError
from ergates.taskqueue.dependency_order import find_circle

WAITERS_IN_BLOCK = 1000
"""As in dependencies.lua."""


class Prerequisites:
    """Gathers what the tasks of one job come after. Kept in memory: a circle is only seen at the end."""

    def __init__(self) -> None:
        self._after: dict[int, tuple[tuple[int, int], ...]] = {}
        self._forward = False
        self._highest = (0, 0)

    def add(self, task: int, after: Sequence[tuple[int, int]]) -> None:
        """Raises UsageError for a task that comes after itself or after an impossible id."""
        for first, last in after:
            if not 1 <= first <= last <= ID_MAX:
                raise UsageError(
                    f"task {task} comes after {first}-{last}: expected ids of this job, first to last, from 1"
                )
            if first <= task <= last:
                raise UsageError(f"task {task} comes after {_shown(first, last)}, so it would wait for itself")
            self._forward |= first > task
            self._highest = max(self._highest, (last, task))
        self._after[task] = tuple(sorted(set(after)))

    def upload(self, upload: Upload, there: int, total: int) -> str:
        """Write them, for tasks there+1..total; returns the levels of the ranges for the scripts, empty when nothing waits.

        Raises:
            UsageError: an id that does not exist, or tasks that wait for each other.
        """
        if not self._after:
            return ""
        self._check(total)
        waiters: dict[tuple[int, int], array[int]] = {}
        need = array("I", bytes(4 * (total - there)))
        for task, ranges in self._after.items():
            need[task - there - 1] = len(ranges)
            for some in ranges:
                waiters.setdefault(some, array("I")).append(task)
        upload.words("need", need)
        upload.pairs("pre", "HSET", [(range_name(some), some[1] - some[0] + 1) for some in waiters])
        blocks: list[tuple[str | bytes | int | float, str | bytes | int | float]] = []
        for some, tasks in waiters.items():
            for block, start in enumerate(range(0, len(tasks), WAITERS_IN_BLOCK)):
                blocks.append((f"{range_name(some)}/{block}", tasks[start : start + WAITERS_IN_BLOCK].tobytes()))
        upload.pairs("waiters", "HSET", blocks)
        levels: dict[int, list[tuple[int, str]]] = {}
        for first, last in waiters:
            levels.setdefault((last - first + 1).bit_length(), []).append((first, range_name((first, last))))
        for level, members in levels.items():
            upload.pairs(f"lv:{level}", "ZADD", members)
        return ",".join(str(level) for level in sorted(levels))

    def _check(self, total: int) -> None:
        last, task = self._highest
        if last > total:
            raise UsageError(f"task {task} comes after task {last}, but the job has only {total} tasks")
        circle = find_circle(self._after) if self._forward else ()
        if circle:  # waiting only for earlier tasks cannot make one
            chain = ", which comes after ".join(f"task {task}" for task in (*circle[:10], circle[0]))
            raise UsageError(f"these tasks wait for each other and could never start: {chain}")


def range_name(ids: tuple[int, int]) -> str:
    return f"{ids[0]}-{ids[1]}"


def _shown(first: int, last: int) -> str:
    return f"task {first}" if first == last else f"tasks {first}-{last}"
