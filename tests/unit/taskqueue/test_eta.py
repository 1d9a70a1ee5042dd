"""When a job will be done: laws of the estimate, and how often the truth is inside of its interval."""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ergates.taskqueue.eta import Eta, Pace, Rate, estimate, longest_left, typical_walls
from ergates.units import SECOND_NS, Nanoseconds


def rate(ends: int, seconds: float) -> Rate:
    return Rate(ends=ends, span_ns=round(seconds * SECOND_NS), basis="a test")


def test_equal_tasks_take_as_long_as_they_take() -> None:
    walls = [10 * SECOND_NS] * 100
    found = estimate(rate(100, 250), waiting=400, running=4, walls=walls)
    assert found is not None  # 4 at once, 10 s each: 1,000 s and the rest of those that run
    assert found.likely_ns == pytest.approx(1008 * SECOND_NS, rel=0.01)
    assert found.low_ns > 850 * SECOND_NS and found.high_ns < 1200 * SECOND_NS
    assert found.words().startswith("about 16 min 4") and found.words().endswith("; an estimate)")
    assert found.basis == "100 tasks settled in a test"


def test_nothing_is_said_while_nothing_tells() -> None:
    assert estimate(None, waiting=5, running=1, walls=[1]) is None
    assert estimate(rate(0, 10), waiting=5, running=1, walls=[1]) is None
    assert estimate(rate(5, 10), waiting=0, running=0, walls=[1]) is None
    assert estimate(rate(5, 10), waiting=5, running=0, walls=[]) is None
    assert estimate(rate(5, 10), waiting=5, running=0, walls=[0, 0]) is None


@pytest.mark.parametrize("at_once", [1, 2, 10, 100])
def test_the_longest_of_exponential_ones_is_a_harmonic_number(at_once: int) -> None:
    mean, sd = longest_left(typical_walls(1e9), at_once)
    assert mean / 1e9 == pytest.approx(sum(1 / number for number in range(1, at_once + 1)), rel=0.1)
    assert sd / 1e9 == pytest.approx(math.sqrt(sum(number**-2 for number in range(1, at_once + 1))), rel=0.35)
    assert sum(typical_walls(1e9)) == pytest.approx(256e9, rel=1e-6)


@given(st.lists(st.integers(1, 10**15), min_size=1, max_size=600), st.floats(1, 1e5))
def test_what_is_left_is_less_than_the_longest(walls: list[int], at_once: float) -> None:
    mean, sd = longest_left(walls, at_once)
    assert 0 <= mean <= max(walls) * 1.0001 and 0 <= sd <= max(walls)
    assert longest_left(walls, at_once * 2)[0] >= mean * 0.999


def test_the_pace_is_of_late() -> None:
    pace = Pace()
    assert pace.rate() is None
    for second in range(1000):  # ten a second, then one a second
        pace.looked(second * SECOND_NS, min(second, 500) * 10 + max(0, second - 500))
    found = pace.rate()
    assert found is not None and found.ends / found.span_ns * SECOND_NS == pytest.approx(1.0)
    pace.looked(2000 * SECOND_NS, 3)  # retried: the counter went back
    assert pace.rate() is None
    pace.looked(2010 * SECOND_NS, 13)
    found = pace.rate()
    assert found is not None and (found.ends, found.span_ns) == (10, 10 * SECOND_NS)


@given(
    st.integers(1, 10**6),
    st.floats(0.001, 1e6),
    st.integers(0, 10**7),
    st.integers(0, 10**4),
    st.lists(st.integers(1, 10**15), min_size=1, max_size=50),
)
def test_the_interval_holds_the_estimate(
    ends: int, seconds: float, waiting: int, running: int, walls: list[int]
) -> None:
    found = estimate(rate(ends, seconds), waiting=waiting, running=running, walls=walls)
    if found is None:
        assert waiting + running == 0
        return
    assert 0 <= found.low_ns <= found.likely_ns <= found.high_ns
    more = estimate(rate(ends, seconds), waiting=waiting + 100, running=running + 1, walls=walls)
    assert more is not None and more.likely_ns >= found.likely_ns * 0.999


def play(rng: random.Random, slots: int, walls: list[float], look_after: float) -> tuple[Eta, float] | None:
    """Run tasks on slots; the estimate after a share of them has ended, and how long it really took then."""
    ends: list[tuple[float, float]] = []
    free = [0.0] * slots
    for wall in walls:
        start = heapq.heappop(free)
        heapq.heappush(free, start + wall)
        ends.append((start + wall, wall))
    ends.sort()
    settled = max(1, int(look_after * len(walls)))
    now = ends[settled - 1][0]
    seen = [wall for _, wall in ends[:settled]]
    running = min(slots, len(walls) - settled)
    found = estimate(
        rate(settled, now),
        waiting=len(walls) - settled - running,
        running=running,
        walls=[round(wall * SECOND_NS) for wall in seen],
    )
    return None if found is None else (found, ends[-1][0] - now)


@pytest.mark.parametrize("kind", ["equal", "uniform", "exponential", "lognormal"])
@pytest.mark.parametrize("slots", [4, 64])
def test_the_truth_is_mostly_inside(kind: str, slots: int) -> None:
    rng = random.Random(f"{kind}/{slots}")
    draws: dict[str, Callable[[], float]] = {
        "equal": lambda: 10.0 + rng.uniform(0, 0.1),
        "uniform": lambda: rng.uniform(5, 15),
        "exponential": lambda: rng.expovariate(0.1),
        "lognormal": lambda: rng.lognormvariate(2, 0.8),
    }
    draw = draws[kind]
    inside = trials = 0
    errors = []
    for share in (0.2, 0.5, 0.9):
        for _ in range(60):
            played = play(rng, slots, [draw() for _ in range(slots * 20)], share)
            assert played is not None
            found, truth = played
            trials += 1
            inside += found.low_ns <= truth * SECOND_NS <= found.high_ns
            errors.append(abs(found.likely_ns / SECOND_NS / max(truth, 1e-9) - 1))
    assert inside / trials >= (0.6 if kind == "lognormal" else 0.75), f"{inside} of {trials}"
    assert sorted(errors)[trials // 2] < 0.25


def test_words_are_for_people() -> None:
    eta = Eta(low_ns=Nanoseconds(10**9), likely_ns=Nanoseconds(2 * 10**9), high_ns=Nanoseconds(4 * 10**9), basis="x")
    assert eta.words() == "about 2 s left (1 s to 4 s; an estimate)"
