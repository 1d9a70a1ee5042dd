"""What copies of stragglers gain and cost, in a small world of slots, slow nodes and tasks of unequal length."""

from __future__ import annotations

import heapq
import random
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from ergates.taskqueue.launching import AttemptKey
from ergates.taskqueue.stragglers import CopyRecord, RunningCopy, worth_duplicating
from ergates.units import SECOND_NS, Nanoseconds

HOSTS, SLOTS = 20, 4
TICK_NS = SECOND_NS


@dataclass
class Outcome:
    makespan_s: float
    copy_s: float
    work_s: float
    most_copies: int


def play(seed: int, lengths: list[float], slowdown: Callable[[random.Random, str], float], *, copies: bool) -> Outcome:
    """Run tasks on 20 nodes of 4 slots. `slowdown` says how much longer one attempt takes on that host."""
    rng = random.Random(f"{seed}/world")
    waiting = list(range(len(lengths)))[::-1]
    free = Counter({f"n{number:02}": SLOTS for number in range(HOSTS)})
    running: dict[AttemptKey, tuple[RunningCopy, bool]] = {}
    by_task: dict[int, list[AttemptKey]] = defaultdict(list)
    ends: list[tuple[int, AttemptKey]] = []
    walls: list[int] = []
    won = lost = most = fence = now = 0
    spent = useful = 0.0

    def start(task: int, host: str, *, copy: bool) -> None:
        nonlocal fence
        fence += 1
        key = ("j1", task, fence)
        wall = round(lengths[task] * slowdown(rng, host) * SECOND_NS)
        running[key] = RunningCopy(key=key, shape="s", host=host, started_ns=Nanoseconds(now), duplicated=copy), copy
        by_task[task].append(key)
        free[host] -= 1
        heapq.heappush(ends, (now + wall, key))

    def stop(key: AttemptKey) -> None:
        nonlocal spent, useful
        attempt, copy = running.pop(key)
        free[attempt.host] += 1
        took = (now - attempt.started_ns) / SECOND_NS
        spent, useful = (spent + took, useful) if copy else (spent, useful + took)

    tick = 0
    while waiting or running:
        while waiting and +free:
            start(waiting.pop(), max(+free, key=lambda host: (free[host], host)), copy=False)
        if copies and not waiting:
            chosen = worth_duplicating(
                (each for each, _ in running.values()), {"s": sorted(walls)}, +free, {}, now,
                slots=HOSTS * SLOTS, record=CopyRecord(won=won, lost=lost),
            )  # fmt: skip
            for duplicate in chosen:
                original, _ = running[duplicate.key]
                assert original.host != duplicate.host and free[duplicate.host] > 0
                running[duplicate.key] = (
                    RunningCopy(key=original.key, shape="s", host=original.host, started_ns=original.started_ns,
                                duplicated=True),
                    False,
                )  # fmt: skip
                start(duplicate.key[1], duplicate.host, copy=True)
            most = max(most, sum(copy for _, copy in running.values()))
        if not ends or (copies and not waiting and ends[0][0] > tick + TICK_NS):
            tick = max(tick, now) + TICK_NS
            now = tick
            continue
        now, key = heapq.heappop(ends)
        if key not in running:
            continue  # the other one was first: the fence made this commit a no-op
        attempt, copy = running[key]
        walls.append(now - attempt.started_ns)
        if attempt.duplicated:
            won, lost = won + copy, lost + (not copy)
        for each in by_task[key[1]]:
            if each in running:
                stop(each)
    return Outcome(now / SECOND_NS, spent, useful, most)


def sick_node(rng: random.Random, host: str) -> float:
    return 12.0 if host == "n07" else rng.uniform(0.9, 1.1)


def sick_at_times(rng: random.Random, host: str) -> float:
    return rng.uniform(4, 10) if rng.random() < 0.03 else rng.uniform(0.9, 1.1)


def healthy(rng: random.Random, host: str) -> float:
    return rng.uniform(0.9, 1.1)


def compared(
    name: str, lengths: Callable[[random.Random], float], slow: Callable[[random.Random, str], float]
) -> tuple[float, float]:
    """Median over seeds: makespan with copies over makespan without, and the work of copies over all other work."""
    ratios, costs = [], []
    for seed in range(15):
        rng = random.Random(f"{name}/{seed}")
        tasks = [lengths(rng) for _ in range(400)]
        without, with_copies = play(seed, tasks, slow, copies=False), play(seed, tasks, slow, copies=True)
        assert with_copies.most_copies <= HOSTS * SLOTS // 10
        ratios.append(with_copies.makespan_s / without.makespan_s)
        costs.append(with_copies.copy_s / with_copies.work_s)
    return sorted(ratios)[len(ratios) // 2], sorted(costs)[len(costs) // 2]


@pytest.mark.parametrize(
    ("name", "slow", "most_ratio"), [("a sick node", sick_node, 0.7), ("sick at times", sick_at_times, 0.75)]
)
def test_copies_shorten_the_end_of_a_job(
    name: str, slow: Callable[[random.Random, str], float], most_ratio: float
) -> None:
    ratio, cost = compared(name, lambda rng: rng.lognormvariate(2.3, 0.2), slow)
    print(f"{name}: makespan {ratio:.2f}, copies {cost:.1%}")
    assert ratio <= most_ratio
    assert cost <= 0.05


@pytest.mark.parametrize("sigma", [0.2, 1.0, 1.5])
def test_tasks_that_are_long_by_themselves_cost_little(sigma: float) -> None:
    ratio, cost = compared(f"long {sigma}", lambda rng: rng.lognormvariate(2.3, sigma), healthy)
    print(f"long by themselves, sigma {sigma}: makespan {ratio:.3f}, copies {cost:.1%}")
    assert 0.95 <= ratio <= 1.001
    assert cost <= 0.05
