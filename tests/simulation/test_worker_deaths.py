"""Ten thousand deaths of workers in virtual time: no task is lost, none committed twice, no process left.

Dozens of nodes, struck several times a second: between any two steps of a worker, with the whole machine or only the
process, with the store away now and then, on a network that loses and doubles messages. The laws are those of
`queue_world.py`: every commit is checked, the books now and then. `ERGATES_SOAK_DEATHS` sets the number of deaths of the long
test.
"""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from ergates.cluster.job import RetryLimits
from ergates.cluster.node import NodeCapacity
from ergates.simulation.engine import Engine
from ergates.simulation.faults import Crash, CutOff, Fault, FaultPlan, Heal, Rejoin
from ergates.simulation.network import NetworkConditions
from ergates.simulation.queue_world import QueueWorld
from ergates.simulation.scenarios import Scenario, mixed_shapes, node, short_tasks
from ergates.taskqueue.node_policy import NodePolicy
from ergates.taskqueue.node_settings import NodeSettings
from ergates.taskqueue.policies import Policy
from ergates.units import GIB, SECOND_NS, Nanoseconds

SOAK_DEATHS = int(os.environ.get("ERGATES_SOAK_DEATHS", "10000"))
TROUBLE_NS = 60 * SECOND_NS
HOUR_NS = 3600 * SECOND_NS
NODES = 24
CHECK_EVERY = 200


@dataclass(frozen=True)
class Deaths:
    """How a world went."""

    workers: int
    reaped: int


def crowd(seed: int, tasks: int) -> Scenario:
    """Long and short work for many nodes; all of it can be done, and nothing is given up for having been lost too often."""
    some = (*mixed_shapes(seed, count=tasks // 2).tasks, *short_tasks(seed, count=tasks // 2).tasks)
    nodes = (node(2, 4 * GIB),) * NODES
    return Scenario(name="crowd", tasks=some, nodes=nodes, limits=RetryLimits(memory=1000, losses=10_000))


def deadly_plan(rng: random.Random, every_ns: int) -> FaultPlan:
    """A death every `every_ns` on average for a minute; now and then the store, or a partition."""
    faults: list[tuple[Nanoseconds, Fault]] = []
    at_ns = 0.0
    while (at_ns := at_ns + rng.expovariate(1 / every_ns)) < TROUBLE_NS:
        moment = Nanoseconds(int(at_ns))
        draw = rng.random()
        down_ns = Nanoseconds(int(rng.choice((1e6, 1e8, 1e9, 8e9)) * rng.uniform(0.1, 1.5)))
        if draw < 0.02:
            faults.append((moment, Crash(name="store", down_ns=down_ns, after_actions=0)))
        elif draw < 0.04:
            cut = tuple(f"node{number}" for number in range(1, NODES + 1) if rng.random() < 0.3)
            faults.append((moment, CutOff(names=cut)))
            faults.append((Nanoseconds(moment + int(rng.uniform(0.5, 9) * SECOND_NS)), Rejoin()))
        else:
            steps = rng.randrange(1, 40) if rng.random() < 0.6 else 0
            name = f"node{rng.randrange(1, NODES + 1)}"
            whole = rng.random() < 0.3
            faults.append((moment, Crash(name=name, down_ns=down_ns, after_actions=steps, whole_node=whole)))
    faults.append((Nanoseconds(TROUBLE_NS), Heal()))
    faults.sort(key=lambda entry: entry[0])
    bad = rng.random() < 0.5
    conditions = NetworkConditions(
        delay_ns=Nanoseconds(int(10 ** rng.uniform(5, 7.5))),
        spread=rng.uniform(0.2, 1.5),
        loss_fraction=0.05 * bad,
        duplicate_fraction=0.05 * bad,
    )
    until = tuple((at_ns, fault) for at_ns, fault in faults if at_ns <= TROUBLE_NS)
    return FaultPlan(faults=until, conditions=conditions, healed_ns=Nanoseconds(TROUBLE_NS))


def world_of_deaths(seed: int, tasks: int, every_ns: int) -> Deaths:
    """One world to its end, checked on the way and there. Raises AssertionError, which names the seed."""
    engine = Engine(seed)

    def ours(capacity: NodeCapacity) -> Policy:
        return NodePolicy(capacity, NodeSettings())

    scenario = crowd(seed, tasks)
    world = QueueWorld(engine, scenario, ours, plan=deadly_plan(engine.stream("deaths"), every_ns), check=False)
    events = itertools.count()

    def check(now_ns: Nanoseconds) -> None:
        if next(events) % CHECK_EVERY == 0:
            world.check_invariants(now_ns)

    engine.check = check
    try:
        assert world.run(HOUR_NS), f"tasks were lost: {world.store.status(world.job)}"
        world.settle()
        world.check_invariants(engine.now_ns)
        counts = world.store.status(world.job).counts
        assert counts["done"] == len(world.server.witness.done) == len(scenario.tasks)
    except AssertionError as error:
        error.add_note(f"seed {seed}, at {engine.now_ns / 1e9:.6f} s of virtual time")
        raise
    return Deaths(workers=world.tally.crashes, reaped=world.store.status(world.job).outcomes.get("lost", 0))


@pytest.mark.parametrize("seed", range(3))
def test_some_deaths(seed: int) -> None:
    deaths = world_of_deaths(seed, tasks=200, every_ns=SECOND_NS // 2)
    assert deaths.workers > 60
    assert deaths.reaped > 0, "no worker died with work in its hands"


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_ten_thousand_deaths(record_property: Callable[[str, object], None]) -> None:
    workers = reaped = seed = 0
    while workers < SOAK_DEATHS:
        deaths = world_of_deaths(5000 + seed, tasks=400, every_ns=SECOND_NS // 8)
        workers, reaped, seed = workers + deaths.workers, reaped + deaths.reaped, seed + 1
    for name, number in (("worlds", seed), ("deaths", workers), ("leases of the dead", reaped)):
        record_property(name, number)
