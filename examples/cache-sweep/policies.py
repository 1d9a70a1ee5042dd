"""Which object leaves when a cache is full: seven answers, each a function from a trace and a size to the number of hits.

Every cache starts empty, holds `size` objects of equal size and admits each object it misses. `tests/unit/` checks
every one against a slow model written from its definition.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence


def fifo(trace: Sequence[int], size: int) -> int:
    """The oldest leaves, used or not."""
    cached: OrderedDict[int, None] = OrderedDict()
    hits = 0
    for key in trace:
        if key in cached:
            hits += 1
        else:
            if len(cached) == size:
                cached.popitem(last=False)
            cached[key] = None
    return hits


def lru(trace: Sequence[int], size: int) -> int:
    """The one unused for longest leaves."""
    cached: OrderedDict[int, None] = OrderedDict()
    hits = 0
    for key in trace:
        if key in cached:
            hits += 1
            cached.move_to_end(key)
        else:
            if len(cached) == size:
                cached.popitem(last=False)
            cached[key] = None
    return hits


def clock(trace: Sequence[int], size: int) -> int:
    """FIFO-reinsertion: the oldest leaves, but one used since it was last considered goes to the back of the queue first."""
    place: dict[int, int] = {}
    keys: list[int] = []
    used = [False] * size
    hand = hits = 0
    for key in trace:
        at = place.get(key)
        if at is not None:
            hits += 1
            used[at] = True
        elif len(keys) < size:
            place[key] = len(keys)
            keys.append(key)
        else:
            while used[hand]:
                used[hand] = False
                hand = hand + 1 if hand + 1 < size else 0
            del place[keys[hand]]
            keys[hand] = key
            place[key] = hand
            hand = hand + 1 if hand + 1 < size else 0
    return hits


def lfu(trace: Sequence[int], size: int) -> int:
    """The least often used since it came in leaves; of several, the one unused for longest."""
    uses: dict[int, int] = {}
    by_uses: dict[int, OrderedDict[int, None]] = {}
    fewest = hits = 0
    for key in trace:
        count = uses.get(key)
        if count is None:
            if len(uses) == size:
                evicted, _ = by_uses[fewest].popitem(last=False)
                del uses[evicted]
            count = fewest = 0
        else:
            hits += 1
            del by_uses[count][key]
            if not by_uses[count]:
                del by_uses[count]
                if fewest == count:
                    fewest += 1
        uses[key] = count + 1
        if count + 1 not in by_uses:
            by_uses[count + 1] = OrderedDict()
        by_uses[count + 1][key] = None
        if count == 0:
            fewest = 1
    return hits


def sieve(trace: Sequence[int], size: int) -> int:
    """A hand walks from oldest to newest and stays where it is: it clears the mark of what was used, and evicts what was not.

    Source: Zhang et al., "SIEVE is Simpler than LRU", NSDI 2024, algorithm 1.
    """
    place: dict[int, int] = {}
    keys: list[int] = []
    marked = [False] * size
    newer = [-1] * size  # a linked list over slots, from oldest to newest
    older = [-1] * size
    oldest = newest = hand = -1
    hits = 0
    for key in trace:
        at = place.get(key)
        if at is not None:
            hits += 1
            marked[at] = True
            continue
        if len(keys) < size:
            at = len(keys)
            keys.append(key)
        else:
            at = hand if hand >= 0 else oldest
            while marked[at]:
                marked[at] = False
                at = newer[at] if newer[at] >= 0 else oldest
            before, hand = older[at], newer[at]
            if before >= 0:
                newer[before] = hand
            else:
                oldest = hand
            if hand >= 0:
                older[hand] = before
            else:
                newest = before
            del place[keys[at]]
            keys[at] = key
        place[key] = at
        older[at], newer[at] = newest, -1
        if newest >= 0:
            newer[newest] = at
        else:
            oldest = at
        newest = at
    return hits


def s3fifo(trace: Sequence[int], size: int) -> int:
    """Three queues: a small one filters what is asked for once, a main one keeps the rest, a ghost remembers who was filtered.

    Source: Yang et al., "FIFO Queues are All You Need for Cache Eviction", SOSP 2023, algorithm 1: a tenth of the cache is
    the small queue, use is counted to 3, and the counter is cleared when an object moves to the main queue.
    """
    uses: dict[int, int] = {}
    small: deque[int] = deque()
    main: deque[int] = deque()
    ghost: OrderedDict[int, None] = OrderedDict()
    small_size = max(1, size // 10)
    main_size = size - small_size
    hits = 0

    def evict_from_main() -> None:
        while True:
            key = main.popleft()
            if uses[key] == 0:
                del uses[key]
                return
            uses[key] -= 1
            main.append(key)

    def evict_from_small() -> None:
        while small:
            key = small.popleft()
            if uses[key] <= 1:
                del uses[key]
                ghost[key] = None
                if len(ghost) > main_size:
                    ghost.popitem(last=False)
                return
            uses[key] = 0
            main.append(key)
            if len(main) > main_size:
                evict_from_main()

    for key in trace:
        count = uses.get(key)
        if count is not None:
            hits += 1
            if count < 3:
                uses[key] = count + 1
            continue
        while len(uses) >= size:
            if len(small) >= small_size:
                evict_from_small()
            else:
                evict_from_main()
        uses[key] = 0
        if key in ghost:
            del ghost[key]
            main.append(key)
        else:
            small.append(key)
    return hits


def opt(trace: Sequence[int], size: int) -> int:
    """Belady's optimum, which knows the future: the one whose next use is farthest away leaves. No policy has more hits.

    Keeping the whole future in memory makes its runs the largest of the sweep.
    """
    never = len(trace)
    next_use = [never] * never
    seen: dict[int, int] = {}
    for index in range(never - 1, -1, -1):
        next_use[index] = seen.get(trace[index], never)
        seen[trace[index]] = index
    due: dict[int, int] = {}
    farthest: list[tuple[int, int]] = []  # (-next use, key); an entry that no longer agrees with `due` is stale
    hits = 0
    for index, key in enumerate(trace):
        if key in due:
            hits += 1
        elif len(due) == size:
            while True:
                negated, victim = heapq.heappop(farthest)
                if due.get(victim) == -negated:
                    del due[victim]
                    break
        due[key] = next_use[index]
        heapq.heappush(farthest, (-next_use[index], key))
    return hits


POLICIES: dict[str, Callable[[Sequence[int], int], int]] = {
    "fifo": fifo,
    "clock": clock,
    "lru": lru,
    "lfu": lfu,
    "sieve": sieve,
    "s3fifo": s3fifo,
    "opt": opt,
}
