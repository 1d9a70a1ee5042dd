"""Retry in a job where tasks wait for others: what was cancelled only because of these comes back, too, and what is held back stays.

Here is found out who might come back, prerequisites first; the server judges each when its turn comes (lua/revive.lua),
so what happens meanwhile cannot leave a task waiting for one that never runs.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from ergates.drivers.stores.redis.chunks import CHUNK_TASKS
from ergates.drivers.stores.redis.prerequisites import range_name
from ergates.drivers.stores.redis.session import Session

FAILED, CANCELLED = 7, 8
CAUSE = 11
"""Place in a setback (lua/tasks.lua)."""
AT_ONCE = 500
Ranges = Sequence[tuple[int, int]]

_page = msgspec.msgpack.Decoder(tuple[list[tuple[int, list[Any]]], Any, Any])
_tasks = msgspec.msgpack.Decoder(list[int])


def retry_with_dependents(session: Session, job: int, ranges: Ranges, now_ns: int) -> int:
    """Returns how many of those asked for are taken back."""
    ended, after = _ended_tasks(session, job)
    asked = {task for task in ended if any(first <= task <= last for first, last in ranges)}
    candidates = _with_followers(asked, {task for task, caused in ended.items() if caused}, after)
    order = list(_prerequisites_first(candidates, after))
    back: set[int] = set()
    for start in range(0, len(order), AT_ONCE):
        some = [(task, [range_name(ids) for ids in after.get(task, ())]) for task in order[start : start + AT_ONCE]]
        back.update(_tasks.decode(session.run("revive", [job, some], now_ns)[0]))
    return len(back & asked)


def _ended_tasks(session: Session, job: int) -> tuple[dict[int, bool], dict[int, Ranges]]:
    """Failed and cancelled tasks with whether another's end was the cause, and what each of them comes after."""
    connection = session.connection()
    total, uid = connection.command("HMGET", session.key(job), "total", "uid")
    ended: dict[int, bool] = {}
    after: dict[int, Ranges] = {}
    for first in range(1, int(total) + 1, CHUNK_TASKS):
        last = min(int(total), first + CHUNK_TASKS - 1)
        states, packed = session.run("page", [job, first, last])
        tasks = [first + place for place, state in enumerate(states) if state in (FAILED, CANCELLED)]
        if not tasks:
            continue
        setbacks = dict(_page.decode(packed)[0])
        ended |= {task: task in setbacks and setbacks[task][CAUSE] > 0 for task in tasks}
        for task, spec in session.specs(job, uid.decode(), tasks, edited=False).items():
            if spec.after:
                after[task] = sorted(set(spec.after))
    return ended, after


def _with_followers(asked: set[int], caused: set[int], after: dict[int, Ranges]) -> set[int]:
    found = set(asked)
    left = sorted(caused - asked)
    grew = True
    while grew:
        ordered = sorted(found)
        more = [task for task in left if any(_any_within(ordered, ids) for ids in after.get(task, ()))]
        found.update(more)
        left = [task for task in left if task not in found]
        grew = bool(more)
    return found


def _any_within(ordered: Sequence[int], ids: tuple[int, int]) -> bool:
    place = bisect_left(ordered, ids[0])
    return place < len(ordered) and ordered[place] <= ids[1]


def _prerequisites_first(tasks: set[int], after: dict[int, Ranges]) -> Iterator[int]:
    """Depth first over ranges; each candidate once."""
    ordered = sorted(tasks)
    unseen = list(range(len(ordered) + 1))  # union-find: the first place from here on not begun yet

    def next_unseen(place: int) -> int:
        root = place
        while unseen[root] != root:
            root = unseen[root]
        while unseen[place] != root:
            unseen[place], place = root, unseen[place]
        return root

    for start in range(len(ordered)):
        if next_unseen(start) != start:
            continue
        unseen[start] = start + 1
        work = [(start, [*after.get(ordered[start], ())])]
        while work:
            place, ranges = work[-1]
            child = None
            while ranges and child is None:
                first, last = ranges[-1]
                found = next_unseen(bisect_left(ordered, first))
                if found < bisect_right(ordered, last):
                    child = found
                else:
                    ranges.pop()
            if child is None:
                yield ordered[place]
                work.pop()
            else:
                unseen[child] = child + 1
                work.append((child, [*after.get(ordered[child], ())]))
