"""Relative speed of nodes, from runs of the same command shapes."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ergates.taskqueue.node_speed import (
    UNKNOWN_SPEED,
    ShapeRun,
    expected_wall_ns,
    node_speeds,
)
from ergates.units import SECOND_NS, Nanoseconds


def runs(
    rng: random.Random, speeds: dict[str, float], shapes: dict[str, float], each: int, noise: float
) -> list[ShapeRun]:
    return [
        ShapeRun(shape, host, Nanoseconds(round(wall_s * SECOND_NS / speed * rng.lognormvariate(0, noise))))
        for shape, wall_s in shapes.items()
        for host, speed in speeds.items()
        for _ in range(each)
    ]


def test_two_nodes_one_twice_as_fast() -> None:
    rng = random.Random("two")
    speeds = {"a": 1.0, "b": 1.0, "c": 2.0}
    found = node_speeds(runs(rng, speeds, {"sim --seed #": 3.0, "sort *": 100.0}, 30, 0.1))
    assert found["c"].speed / found["a"].speed == pytest.approx(2.0, rel=0.1)
    assert found["a"].low <= 1.0 <= found["a"].high and found["c"].low <= 2.0 <= found["c"].high
    assert found["a"].runs == 60
    assert expected_wall_ns(10.0, found["c"]) == pytest.approx(5.0, rel=0.1)


def test_shapes_of_one_node_say_nothing() -> None:
    rng = random.Random("one")
    assert node_speeds([]) == {}
    assert node_speeds(runs(rng, {"a": 1.0}, {"sim": 3.0}, 30, 0.1)) == {}
    alone = runs(rng, {"slow": 0.1}, {"its own": 3.0}, 30, 0.1) + runs(rng, {"a": 1, "b": 1}, {"sim": 3}, 9, 0.1)
    assert set(node_speeds(alone)) == {"a", "b"}
    assert UNKNOWN_SPEED.runs == 0 and UNKNOWN_SPEED.low < 1 < UNKNOWN_SPEED.high


def test_few_runs_are_hardly_believed() -> None:
    rng = random.Random("few")
    many = runs(rng, {"a": 1.0, "b": 1.0}, {"sim": 3.0}, 50, 0.05)
    lucky = ShapeRun("sim", "new", Nanoseconds(SECOND_NS // 3))  # nine times as fast, once
    found = node_speeds([*many, lucky])["new"]
    assert 1.0 < found.speed < 2.0 and found.high > 3.0


def test_a_few_odd_runs_move_nothing() -> None:
    rng = random.Random("odd")
    steady = runs(rng, {"a": 1.0, "b": 1.0, "c": 1.0}, {"sim": 3.0}, 40, 0.05)
    odd = [ShapeRun("sim", "a", Nanoseconds(3000 * SECOND_NS)) for _ in range(5)]
    assert node_speeds([*steady, *odd])["a"].speed == pytest.approx(1.0, rel=0.05)


def test_different_mixes_of_work_do_not_matter() -> None:
    """A node that only gets the long tasks is not slow."""
    rng = random.Random("mix")
    found = node_speeds(
        runs(rng, {"a": 1.0, "b": 1.0, "long": 1.0}, {"sort": 1000.0}, 20, 0.1)
        + runs(rng, {"a": 1.0, "b": 1.0}, {"echo": 0.1}, 200, 0.1)
    )
    assert found["long"].speed == pytest.approx(1.0, rel=0.1)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.floats(0.01, 0.4))
def test_speeds_are_found_again(seed: int, noise: float) -> None:
    rng = random.Random(seed)
    speeds = {f"n{number}": math.exp(rng.uniform(-1, 1)) for number in range(rng.randint(2, 8))}
    shapes = {f"shape {number}": rng.lognormvariate(2, 2) for number in range(rng.randint(1, 6))}
    found = node_speeds(runs(rng, speeds, shapes, 40, noise))
    middle = sorted(speeds.values())
    typical = math.exp((math.log(middle[(len(middle) - 1) // 2]) + math.log(middle[len(middle) // 2])) / 2)
    for host, speed in speeds.items():
        assert found[host].low <= found[host].speed <= found[host].high
        assert found[host].speed == pytest.approx(speed / typical, rel=0.15 + noise)
    assert node_speeds(list(reversed(runs(random.Random(seed), speeds, shapes, 4, 0)))).keys() == speeds.keys()


@given(st.lists(st.tuples(st.sampled_from("xyz"), st.sampled_from("abcd"), st.integers(0, 10**18)), max_size=60))
def test_any_runs_give_some_speed(seen: list[tuple[str, str, int]]) -> None:
    found = node_speeds(ShapeRun(shape, host, Nanoseconds(wall)) for shape, host, wall in seen)
    for speed in found.values():
        assert 0 < speed.low <= speed.speed <= speed.high < math.inf and speed.runs > 0
