"""Gangs of different sizes among ordinary tasks, in a world where workers die at any step: nothing waits for ever, no gang runs
on without a member, each gang that succeeds is one attempt. A failure names its seed.
"""

from __future__ import annotations

import dataclasses
import random
from collections import Counter

import pytest
from msgspec.structs import replace

from ergates.cluster.attempt import Outcome
from ergates.cluster.job import RetryLimits
from ergates.cluster.node import NodeCapacity
from ergates.cluster.task import Requirement, TaskSpec
from ergates.simulation.engine import Engine
from ergates.simulation.nodes import TaskBehaviour
from ergates.simulation.queue_world import GRACE_NS, LEASE_NS, QueueWorld
from ergates.simulation.scenarios import Generator, Scenario, SimulatedTask, level, node
from ergates.simulation.simulate import trouble_for
from ergates.simulation.simulated_worker import ASK_AGAIN_NS, REAP_NS, TICK_NS
from ergates.taskqueue.node_policy import NodePolicy
from ergates.taskqueue.node_settings import NodeSettings
from ergates.units import MIB, SECOND_NS, MilliCpus, Nanoseconds

HOUR_NS = 3600 * SECOND_NS
NODES = 5
ALONE_NS = 3 * (LEASE_NS + REAP_NS) + GRACE_NS + 10 * ASK_AGAIN_NS + TICK_NS
"""A member may go on so long after its gang has come to an end: its worker may be cut off, and its questions lost, twice."""


def gangs_and_others(seed: int) -> Scenario:
    """Forty tasks: a third are gangs of two to five, some of which have a member that fails; the first gang takes long."""
    rng = random.Random(f"{seed}/gangs")
    whole = Requirement(cpus_milli=MilliCpus(1000), nodes=3)
    tasks = [_task("long", rng, whole, fails=False, priority=5, seconds=150)]
    for number in range(2, 41):
        nodes = rng.choice((2, 3, 4, 5)) if rng.random() < 0.35 else 1
        needed = Requirement(cpus_milli=MilliCpus(rng.choice((500, 1000, 2000))), nodes=nodes)
        made = _task(f"run {number}", rng, needed, fails=rng.random() < 0.1, priority=rng.randrange(2))
        tasks.append(made)
    limits = RetryLimits(failures=1, memory=50, losses=100)
    return Scenario(name="gangs", tasks=tuple(tasks), nodes=(node(2, 1024 * MIB),) * NODES, limits=limits)


GROUPS = ("big", "big", "small", "small", "small")


def gangs_of_groups(seed: int) -> Scenario:
    """The same crowd, but the nodes are of two groups; most gangs want a server of the big ones, clients of the small ones."""
    plain = gangs_and_others(seed)
    rng = random.Random(f"{seed}/groups")
    labels = (("server", (("group", "big"),)), ("client", (("group", "small"),)))
    tasks = []
    for task in plain.tasks:
        needed = task.spec.requirement
        if needed.nodes > 1 and rng.random() < 0.8:
            roles = (("server", 1), ("client", min(3, needed.nodes - 1)))
            some = labels if rng.random() < 0.6 else labels[:1]
            nodes = 1 + roles[1][1]
            spec = replace(task.spec, requirement=replace(needed, nodes=nodes, roles=roles, role_labels=some))
            task = dataclasses.replace(task, spec=spec)
        tasks.append(task)
    nodes_of_groups = tuple(
        replace(one, labels={"group": group}) for one, group in zip(plain.nodes, GROUPS, strict=True)
    )
    return dataclasses.replace(plain, tasks=tuple(tasks), nodes=nodes_of_groups)


def _task(
    command: str, rng: random.Random, needed: Requirement, *, fails: bool, priority: int, seconds: float = 0
) -> SimulatedTask:
    curve = level(rng, rng.uniform(20e6, 60e6), seconds or rng.uniform(0.2, 8))
    return SimulatedTask(
        spec=TaskSpec(command=command, requirement=needed, priority=priority),
        behaviour=TaskBehaviour(curve=curve, cpus=needed.cpus_milli / 1000, exit_code=1 if fails else 0),
    )


def gang_policy(capacity: NodeCapacity) -> NodePolicy:
    return NodePolicy(
        capacity, NodeSettings(gangs=True, refuse_unfit=False, hand_back_after_ns=Nanoseconds(30 * SECOND_NS))
    )


class World(QueueWorld):
    """Watches that no member outlives its gang for long."""

    orphans: dict[tuple[str, tuple[str, int, int]], int]

    def check_invariants(self, now_ns: Nanoseconds) -> None:
        """See QueueWorld."""
        super().check_invariants(now_ns)
        node = self.nodes.get(self.engine.last_target)
        if node is None or node.worker is None:
            return
        running = {(node.name, key) for key in node.worker.running}
        for name, key in running:
            lease = node.worker.running[key].lease
            if lease.gang is not None:
                wanted = dict(lease.spec.requirement.role_labels).get(lease.gang.role, ())
                assert set(wanted) <= node.machine.capacity.labels.items(), f"{name} has another's role of {key}"
            gang = self.store._gangs.running.get((lease.job, lease.task))
            alone = gang is None or gang.key != key or gang.cause is not None
            if lease.gang is not None and alone:
                since = self.orphans.setdefault((name, key), now_ns)
                assert now_ns - since < ALONE_NS, f"{name} runs a member of {key}, whose gang is over"
        for place in [place for place in self.orphans if place[0] == node.name and place not in running]:
            del self.orphans[place]


def world(
    seed: int, *, faults: bool, watched: bool = True, make: Generator = gangs_and_others, forgets: bool = False
) -> World:
    engine, scenario = Engine(seed), make(seed)
    plan = trouble_for(engine, scenario, forgets=forgets) if faults else None
    made = World(engine, scenario, gang_policy, plan=plan, check=watched)
    made.orphans = {}
    return made


def check(made: World, seed: int) -> Counter[str]:
    """Everything has ended, and each task succeeded at most once; returns the outcomes."""
    made.settle()
    rows = list(made.store.attempts(made.job))
    succeeded = Counter(task for _, task, attempt in rows if attempt.outcome is Outcome.SUCCEEDED)
    status = made.store.status(made.job)
    assert set(succeeded.values()) <= {1}, f"seed {seed}"
    assert len(succeeded) == status.counts["done"] and status.counts["done"] + status.counts["failed"] == 40
    for view in made.store.tasks(made.job):
        assert view.attempts == sum(task == view.task for _, task, _ in rows), f"seed {seed}: task {view.task}"
    return Counter(attempt.outcome.value for _, _, attempt in rows)


@pytest.mark.parametrize("seed", range(4))
def test_gangs_of_all_sizes_come_and_go(seed: int) -> None:
    made = world(seed, faults=False)
    assert made.run(HOUR_NS), f"seed {seed}: {made.store.status(made.job).counts}"
    outcomes = check(made, seed)
    failing = sum(task.behaviour.exit_code for task in made.scenario.tasks)
    assert outcomes == {"succeeded": 40 - failing, "failed": 2 * failing}


@pytest.mark.parametrize("seed", range(16))
def test_deaths_leave_no_part_of_a_gang_and_nothing_waits_for_ever(seed: int) -> None:
    made = world(seed, faults=True)
    assert made.run(HOUR_NS), f"seed {seed}: {made.store.status(made.job).counts}"
    check(made, seed)


@pytest.mark.parametrize("faults", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_roles_are_filled_by_their_groups_whatever_dies(seed: int, faults: bool) -> None:
    made = world(seed, faults=faults, make=gangs_of_groups)
    assert made.run(HOUR_NS), f"seed {seed}: {made.store.status(made.job).counts}"
    check(made, seed)


@pytest.mark.parametrize("seed", range(6))
def test_gangs_and_a_server_that_forgets(seed: int) -> None:
    made = world(seed, faults=True, forgets=True)
    assert made.run(HOUR_NS), f"seed {seed}: {made.store.status(made.job).counts}"
    check(made, seed)


def test_the_deaths_strike_gangs() -> None:
    lost = 0
    for seed in range(3):
        made = world(seed, faults=True, watched=False)
        assert made.run(HOUR_NS)
        sizes = {view.task: view.spec.requirement.nodes for view in made.store.tasks(made.job)}
        lost += sum(
            attempt.outcome is Outcome.LOST and sizes[task] > 1 for _, task, attempt in made.store.attempts(made.job)
        )
    assert lost > 2


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_gangs_for_long() -> None:
    for seed in range(1000, 2000):
        made = world(seed, faults=True)
        assert made.run(HOUR_NS), f"seed {seed}: {made.store.status(made.job).counts}"
        check(made, seed)
