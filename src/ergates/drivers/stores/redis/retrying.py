"""Retry where tasks wait for others: what was cancelled only because of these comes back, too; what is held back stays.

Here is found out who might come back, prerequisites first; the server judges each when its turn comes (lua/change.lua),
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

DONE, FAILED, CANCELLED = 6, 7, 8
NONE, BAD, ENDED = 0, 1, 2
"""Which ended tasks run again (lua/change.lua)."""
CAUSE = 11
"""Place in a setback (lua/tasks.lua)."""
AT_ONCE = 500
Ranges = Sequence[tuple[int, int]]

_page = msgspec.msgpack.Decoder(tuple[list[tuple[int, list[Any]]], Any, Any])
_answer = msgspec.msgpack.Decoder(tuple[int, list[int], list[int]])


def retry_with_dependents(session: Session, job: int, ranges: Ranges, now_ns: int) -> int:
    """Returns how many of those asked for are taken back."""
    total = int(session.connection().command("HGET", session.key(job), "total"))
    asked = {task for first, last in ranges for task in range(first, min(last, total) + 1)}
    order, after = order_of_revival(session, job, asked, done_too=False)
    back: set[int] = set()
    for start in range(0, len(order), AT_ONCE):
        some = [
            (task, False, 0, False, 0, [range_name(ids) for ids in after.get(task, ())])
            for task in order[start : start + AT_ONCE]
        ]
        back.update(_answer.decode(session.run("change", [job, False, BAD, some], now_ns)[0])[2])
    return len(back & asked)


def order_of_revival(
    session: Session, job: int, asked: set[int], *, done_too: bool
) -> tuple[list[int], dict[int, Ranges]]:
    """Which of these ended tasks might run again, with those that were cancelled because of them; and what each comes after.

    Prerequisites stand before what waits for them.
    """
    ended, after = _ended_tasks(session, job, done_too=done_too)
    candidates = _with_followers(asked & ended.keys(), {task for task, caused in ended.items() if caused}, after)
    return list(_prerequisites_first(candidates, after)), after


def _ended_tasks(session: Session, job: int, *, done_too: bool) -> tuple[dict[int, bool], dict[int, Ranges]]:
    """Tasks that ended with whether another's end was the cause, and what each of them comes after."""
    total, uid = session.connection().command("HMGET", session.key(job), "total", "uid")
    wanted = (DONE, FAILED, CANCELLED) if done_too else (FAILED, CANCELLED)
    ended: dict[int, bool] = {}
    after: dict[int, Ranges] = {}
    for first in range(1, int(total) + 1, CHUNK_TASKS):
        last = min(int(total), first + CHUNK_TASKS - 1)
        states, packed = session.run("page", [job, first, last])
        tasks = [first + place for place, state in enumerate(states) if state in wanted]
        if not tasks:
            continue
        setbacks = dict(_page.decode(packed)[0])
        for task in tasks:
            cancelled = states[task - first] == CANCELLED
            ended[task] = cancelled and task in setbacks and setbacks[task][CAUSE] > 0
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
