"""Predictors compared by what they waste, on sweeps whose peaks are a matter of luck, of a parameter, of the input."""

from __future__ import annotations

import math
import random

import pytest

from ergates.cluster.node import NodeCapacity
from ergates.cluster.task import TaskSpec
from ergates.errors import UsageError
from ergates.taskqueue.memory import PastRun, PeakPredictor
from ergates.taskqueue.node_settings import NodeSettings
from ergates.taskqueue.policies import make_policy
from ergates.taskqueue.rivals.peak_predictors import (
    OursAsOneNumber,
    SizeyLike,
    TovarFirstAllocation,
    cheapest_allocation,
    wasted_gb_hours,
)
from ergates.units import GIB, Bytes, MilliCpus, Nanoseconds

CAPACITY = 4 * GIB


def sweep(kind: str, seed: int, count: int = 150) -> list[PastRun]:
    rng = random.Random(f"{seed}/sweep/{kind}")
    runs = []
    for at in range(count):
        command, size = f"sim --seed {at}", None
        if kind == "luck":
            peak = min(max(rng.lognormvariate(math.log(300e6), 0.8), 50e6), 1.5e9)
        elif kind == "parameter":
            cells = rng.choice((1, 2, 4, 8, 16, 32))
            command, peak = f"sim --seed {at} --cells {cells}", (30e6 + 40e6 * cells) * rng.uniform(0.9, 1.1)
        else:
            size = Bytes(int(rng.lognormvariate(math.log(50e6), 1)))
            command, peak = f"sort part-{at}.csv", min(60 * size**0.9 * rng.lognormvariate(0, 0.1), 3.9e9)
        spec = TaskSpec(command=command, input_bytes=size)
        runs.append(PastRun(spec=spec, peak_bytes=Bytes(int(peak)), wall_ns=Nanoseconds(int(rng.uniform(2, 60) * 1e9))))
    return runs


@pytest.mark.parametrize("kind", ["luck", "parameter", "input"])
@pytest.mark.parametrize("rival", [TovarFirstAllocation, SizeyLike])
def test_ours_wastes_less(kind: str, rival: type[TovarFirstAllocation] | type[SizeyLike]) -> None:
    def waste(predictor: type[OursAsOneNumber] | type[TovarFirstAllocation] | type[SizeyLike]) -> float:
        return sum(wasted_gb_hours(predictor(CAPACITY), sweep(kind, seed), CAPACITY) for seed in range(3))

    assert waste(OursAsOneNumber) < waste(rival)


@pytest.mark.parametrize("make", [OursAsOneNumber, TovarFirstAllocation, SizeyLike])
def test_nothing_known_takes_the_whole_node_and_equal_runs_are_learned(
    make: type[OursAsOneNumber] | type[TovarFirstAllocation] | type[SizeyLike],
) -> None:
    predictor: PeakPredictor = make(CAPACITY)
    spec = TaskSpec(command="sim --seed 1")
    assert predictor.allocate(spec) == CAPACITY
    for _ in range(20):
        predictor.learn(PastRun(spec=spec, peak_bytes=Bytes(10**8), wall_ns=Nanoseconds(10**9)))
    assert 10**8 <= predictor.allocate(spec) <= 1.1 * 10**8


def test_tovars_allocation_leaves_a_rare_giant_to_its_second_try() -> None:
    runs = [(100.0, 1.0)] * 99 + [(4000.0, 1.0)]
    assert cheapest_allocation(runs, 4000.0) == 100.0
    assert cheapest_allocation([(3000.0, 1.0), (4000.0, 1.0)], 4000.0) == 4000.0


def test_an_unknown_policy_is_named() -> None:
    node = NodeCapacity(cpus_milli=MilliCpus(1000), memory_bytes=Bytes(GIB))
    with pytest.raises(UsageError, match="expected: one of ours, distcomp, fixed, kill-newest"):
        make_policy("theirs", node, NodeSettings())
