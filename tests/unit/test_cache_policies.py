"""The example's seven eviction policies against slow models written from each policy's definition."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

POLICIES_FILE = Path(__file__).parents[2] / "examples" / "cache-sweep" / "policies.py"
Policy = Callable[[Sequence[int], int], int]


def load_policies() -> dict[str, Policy]:
    spec = importlib.util.spec_from_file_location("cache_sweep_policies", POLICIES_FILE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: dict[str, Policy] = module.POLICIES
    return found


POLICIES = load_policies()


def lru_by_stack_distance(trace: Sequence[int], size: int) -> int:
    """A request hits when fewer than `size` other objects were asked for since its object's last request (Mattson, 1970)."""
    hits = 0
    for index, key in enumerate(trace):
        before = [earlier for earlier in range(index) if trace[earlier] == key]
        hits += bool(before) and len(set(trace[before[-1] + 1 : index])) < size
    return hits


def fifo_model(trace: Sequence[int], size: int) -> int:
    """By arrival: an object is inside when fewer than `size` arrivals (misses) followed its own."""
    hits, arrived, arrivals = 0, dict[int, int](), 0
    for key in trace:
        if key in arrived and arrivals - arrived[key] <= size:
            hits += 1
        else:
            arrived[key] = arrivals
            arrivals += 1
    return hits


def clock_model(trace: Sequence[int], size: int) -> int:
    """As its other name says: a queue whose used heads are inserted again at its end, not used."""
    queue: list[list[int]] = []  # [key, used], oldest first
    hits = 0
    for key in trace:
        found = [entry for entry in queue if entry[0] == key]
        if found:
            hits += 1
            found[0][1] = 1
            continue
        while len(queue) == size:
            head = queue.pop(0)
            if head[1]:
                queue.append([head[0], 0])
        queue.append([key, 0])
    return hits


def lfu_model(trace: Sequence[int], size: int) -> int:
    """Search everything for the smallest (uses, last use)."""
    cached: dict[int, tuple[int, int]] = {}
    hits = 0
    for index, key in enumerate(trace):
        uses = 0
        if key in cached:
            hits += 1
            uses = cached[key][0]
        elif len(cached) == size:
            del cached[min(cached, key=lambda candidate: cached[candidate])]
        cached[key] = (uses + 1, index)
    return hits


def sieve_model(trace: Sequence[int], size: int) -> int:
    """The figure of the paper: a list with the newest at its head (index 0) and a hand that moves from tail to head."""
    queue: list[int] = []
    visited: set[int] = set()
    hand: int | None = None  # the object the hand points at
    hits = 0
    for key in trace:
        if key in queue:
            hits += 1
            visited.add(key)
            continue
        if len(queue) == size:
            at = len(queue) - 1 if hand is None else queue.index(hand)
            while queue[at] in visited:
                visited.discard(queue[at])
                at = at - 1 if at > 0 else len(queue) - 1
            hand = queue[at - 1] if at > 0 else None
            queue.pop(at)
        queue.insert(0, key)
    return hits


def s3fifo_model(trace: Sequence[int], size: int) -> int:
    """Algorithm 1 of the paper on plain lists, head first."""
    small: list[int] = []
    main: list[int] = []
    ghost: list[int] = []
    freq: dict[int, int] = {}
    small_target = max(1, size // 10)
    main_target = size - small_target
    hits = 0

    def evict_m() -> None:
        evicted = False
        while not evicted and main:
            tail = main.pop()
            if freq[tail] > 0:
                main.insert(0, tail)
                freq[tail] -= 1
            else:
                evicted = True

    def evict_s() -> None:
        evicted = False
        while not evicted and small:
            tail = small.pop()
            if freq[tail] > 1:
                main.insert(0, tail)
                freq[tail] = 0
                if len(main) > main_target:
                    evict_m()
            else:
                ghost.insert(0, tail)
                del ghost[main_target:]
                evicted = True

    for key in trace:
        if key in small or key in main:
            hits += 1
            freq[key] = min(freq[key] + 1, 3)
            continue
        while len(small) + len(main) >= size:
            if len(small) >= small_target:
                evict_s()
            else:
                evict_m()
        if key in ghost:
            ghost.remove(key)
            main.insert(0, key)
        else:
            small.insert(0, key)
        freq[key] = 0
    return hits


def opt_by_search(trace: Sequence[int], size: int) -> int:
    """Look through the rest of the trace for each candidate."""
    cached: set[int] = set()
    hits = 0
    for index, key in enumerate(trace):
        if key in cached:
            hits += 1
            continue
        if len(cached) == size:
            rest = list(trace[index + 1 :])
            cached.remove(
                max(sorted(cached), key=lambda candidate: rest.index(candidate) if candidate in rest else len(rest))
            )
        cached.add(key)
    return hits


MODELS: dict[str, Policy] = {
    "fifo": fifo_model,
    "clock": clock_model,
    "lru": lru_by_stack_distance,
    "lfu": lfu_model,
    "sieve": sieve_model,
    "s3fifo": s3fifo_model,
    "opt": opt_by_search,
}


def test_every_policy_has_a_model() -> None:
    assert set(MODELS) == set(POLICIES)


@pytest.mark.parametrize("name", sorted(MODELS))
@given(
    trace=st.integers(1, 40).flatmap(lambda objects: st.lists(st.integers(0, objects), max_size=150)),
    size=st.integers(1, 25),
)
def test_a_policy_hits_as_often_as_its_model(name: str, trace: list[int], size: int) -> None:
    assert POLICIES[name](trace, size) == MODELS[name](trace, size)


@given(trace=st.lists(st.integers(0, 30), max_size=200), size=st.integers(1, 30))
def test_no_policy_beats_the_optimum(trace: list[int], size: int) -> None:
    best = POLICIES["opt"](trace, size)
    assert all(policy(trace, size) <= best for policy in POLICIES.values())


@pytest.mark.parametrize("name", sorted(MODELS))
def test_a_cache_that_holds_everything_misses_each_object_once(name: str) -> None:
    trace = [0, 1, 2, 3, 4] * 20
    # S3-FIFO's small queue is a tenth; a cache that never fills never evicts, in any policy.
    assert POLICIES[name](trace, 50) == len(trace) - 5


@pytest.mark.parametrize("name", ["fifo", "lru", "clock"])
def test_a_loop_one_larger_than_the_cache_never_hits(name: str) -> None:
    assert POLICIES[name](list(range(11)) * 5, 10) == 0


def test_belady_anomaly_shows_in_fifo() -> None:
    """A textbook trace: FIFO has fewer hits in a larger cache (Belady, Nelson and Shedler, 1969)."""
    trace = [1, 2, 3, 4, 1, 2, 5, 1, 2, 3, 4, 5]
    assert (POLICIES["fifo"](trace, 3), POLICIES["fifo"](trace, 4)) == (3, 2)
