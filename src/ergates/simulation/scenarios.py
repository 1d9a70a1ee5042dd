"""Workloads drawn from a seed: what the tasks really do, which nobody tells the system, and the nodes they run on.

Each generator is one family of work that people have: peaks all over the place, size that follows the input, many short
ones among few long ones, some that cannot fit, some that take their node down.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from ergates.cluster.job import RetryLimits
from ergates.cluster.node import NodeCapacity
from ergates.cluster.task import Requirement, TaskSpec
from ergates.errors import UsageError
from ergates.simulation.memory_curve import MemoryCurve
from ergates.simulation.nodes import TaskBehaviour
from ergates.units import GIB, MIB, SECOND_NS, Bytes, MilliCpus, Nanoseconds

PEAK_MIN_BYTES, PEAK_MAX_BYTES = 50_000_000, 1_500_000_000
FAULT_RATE_BYTES_PER_S = 1_000_000_000
"""What one core can fault in; no curve here climbs faster."""
BASE_BYTES = 4 * MIB
"""Of a process that has not begun to work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedTask:
    """What is submitted, and what it will do."""

    spec: TaskSpec
    behaviour: TaskBehaviour


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """Tasks in the order of the input, nodes, and how often a task may come back."""

    name: str
    tasks: tuple[SimulatedTask, ...]
    nodes: tuple[NodeCapacity, ...]
    limits: RetryLimits = field(default_factory=lambda: RetryLimits(memory=1000, losses=1000))

    def unfit(self) -> int:
        """How many tasks need more than any node has."""
        largest = max(node.memory_bytes for node in self.nodes)
        return sum(1 for task in self.tasks if task.behaviour.curve.peak_bytes > largest)


Generator = Callable[[int], Scenario]


def node(cpus: float = 2, memory_bytes: int = 4 * GIB) -> NodeCapacity:
    """A node whose memory is a hard limit."""
    return NodeCapacity(cpus_milli=MilliCpus(round(cpus * 1000)), memory_bytes=Bytes(memory_bytes), confined=True)


# --- shapes of memory over work -------------------------------------------------------------------


def ramp_and_plateau(rng: random.Random, peak: float, seconds: float) -> MemoryCurve:
    """Climbs for a fifth to a half of its life, then stays."""
    climb = max(seconds * rng.uniform(0.2, 0.5), _fastest(peak))
    return _curve([(climb, peak), (max(seconds, climb * 1.2), peak)])


def stairs(rng: random.Random, peak: float, seconds: float) -> MemoryCurve:
    """Stands on two or three steps before the last one."""
    steps = rng.randrange(2, 4)
    points, at = [], 0.0
    for step in range(1, steps + 1):
        level = peak * step / steps
        at += _fastest(peak / steps)
        points.append((at, level))
        at += seconds * rng.uniform(0.5, 1.5) / steps
        points.append((at, level))
    return _curve(points)


def late_spike(rng: random.Random, peak: float, seconds: float) -> MemoryCurve:
    """Little for most of its life, everything just before the end."""
    low = peak * rng.uniform(0.1, 0.3)
    at = seconds * rng.uniform(0.7, 0.9)
    top = at + _fastest(peak)
    return _curve([(_fastest(low) + 0.1, low), (at, low * 1.1), (top, peak), (top + 0.1 * seconds, peak)])


def hill(rng: random.Random, peak: float, seconds: float) -> MemoryCurve:
    """Up, then down to a third for the rest."""
    up = max(seconds * rng.uniform(0.2, 0.4), _fastest(peak))
    down = up + seconds * rng.uniform(0.2, 0.4)
    return _curve([(up, peak), (down, peak), (down + 0.1, peak / 3), (down + max(seconds - down, 0.2), peak / 3)])


def level(rng: random.Random, peak: float, seconds: float) -> MemoryCurve:  # noqa: ARG001 - the shape of a shape
    """At its peak as fast as pages can be had."""
    return _curve([(_fastest(peak), peak), (max(seconds, 1.2 * _fastest(peak)), peak)])


Shape = Callable[[random.Random, float, float], MemoryCurve]
SHAPES: tuple[Shape, ...] = (ramp_and_plateau, stairs, late_spike, hill)


def lognormal_peak(rng: random.Random, median: float = 250e6, sigma: float = 0.9) -> float:
    """Bytes; drawn again until within 50 MB and 1.5 GB."""
    while True:
        peak = rng.lognormvariate(math.log(median), sigma)
        if PEAK_MIN_BYTES <= peak <= PEAK_MAX_BYTES:
            return peak


# --- families -------------------------------------------------------------------------------------


def ramps(seed: int, count: int = 200) -> Scenario:
    """`count` tasks at cpus=0.05 that ramp to undeclared log-normal peaks, 1-4 s each; one node, 2 cores, 4 GiB."""
    rng = random.Random(f"{seed}/ramps")
    tasks = [
        _task(f"sim --seed {number}", ramp_and_plateau(rng, lognormal_peak(rng), rng.uniform(1, 4)), 0.05)
        for number in range(1, count + 1)
    ]
    return Scenario(name="ramps", tasks=tuple(tasks), nodes=(node(),))


def mixed_shapes(seed: int, count: int = 200) -> Scenario:
    """The same peaks, 2-20 s each, by ramps, stairs, late spikes and hills."""
    rng = random.Random(f"{seed}/mixed shapes")
    tasks = [
        _task(
            f"sim --seed {number}",
            rng.choice(SHAPES)(rng, lognormal_peak(rng), math.exp(rng.uniform(math.log(2), math.log(20)))),
            0.05,
        )
        for number in range(1, count + 1)
    ]
    return Scenario(name="mixed-shapes", tasks=tuple(tasks), nodes=(node(),))


def cluster(seed: int, count: int = 600, nodes: int = 6) -> Scenario:
    """Three programs of different size and length, a quarter to two cores, on nodes of 4 cores and 4 GiB."""
    rng = random.Random(f"{seed}/cluster")
    programs: tuple[tuple[str, float, float, Shape], ...] = (
        ("align", 0.25, 800e6, stairs),
        ("simulate", 1.0, 200e6, ramp_and_plateau),
        ("solve", 2.0, 500e6, hill),
    )
    tasks = []
    for number in range(1, count + 1):
        name, cpus, median, shape = rng.choice(programs)
        peak = min(rng.lognormvariate(math.log(median), 0.6), 3.0 * GIB)
        tasks.append(_task(f"{name} --run {number}", shape(rng, peak, rng.uniform(3, 30)), cpus))
    return Scenario(name="cluster", tasks=tuple(tasks), nodes=(node(4, 4 * GIB),) * nodes)


def sized_by_input(seed: int, count: int = 200) -> Scenario:
    """Peak and time follow the size of the input, within some noise."""
    rng = random.Random(f"{seed}/sized by input")
    tasks = []
    for number in range(1, count + 1):
        size = rng.lognormvariate(math.log(100e6), 0.8)
        peak = min(max(30e6 + 3 * size * rng.lognormvariate(0, 0.1), PEAK_MIN_BYTES), PEAK_MAX_BYTES)
        curve = ramp_and_plateau(rng, peak, 2 + size / 50e6)
        tasks.append(_task(f"index --input part{number}.dat", curve, 0.1, input_bytes=int(size)))
    return Scenario(name="sized-by-input", tasks=tuple(tasks), nodes=(node(),))


def short_tasks(seed: int, count: int = 2000) -> Scenario:
    """Milliseconds each, small, with a few long ones among them."""
    rng = random.Random(f"{seed}/short tasks")
    tasks = []
    for number in range(1, count + 1):
        long = rng.random() < 0.01
        seconds = rng.uniform(2, 5) if long else rng.lognormvariate(math.log(0.008), 0.5)
        peak = lognormal_peak(rng) if long else rng.uniform(5e6, 20e6)
        curve = ramp_and_plateau(rng, peak, seconds)
        tasks.append(_task(f"{'train' if long else 'score'} {number}", curve, 1.0))
    return Scenario(name="short-tasks", tasks=tuple(tasks), nodes=(node(),))


def troubled(seed: int, count: int = 30, nodes: int = 3) -> Scenario:
    """For fault simulations: all shapes, some tasks that fail, ignore TERM, cannot fit, or take their node down."""
    rng = random.Random(f"{seed}/troubled")
    tasks = []
    for number in range(1, count + 1):
        peak = lognormal_peak(rng)
        draw = rng.random()
        curve = rng.choice((*SHAPES, level))(rng, 5e9 if draw < 0.02 else peak, rng.uniform(0.05, 12))
        poison = Nanoseconds(int(curve.work_ns * rng.uniform(0.1, 0.9))) if 0.02 <= draw < 0.04 else None
        after = ((number - 1, number - 1),) if number > 1 and rng.random() < 0.1 else ()
        tasks.append(
            _task(
                f"{rng.choice(('alpha', 'beta'))} {number}",
                curve,
                rng.choice((0.05, 0.1, 0.5)),
                exit_code=1 if 0.04 <= draw < 0.1 else 0,
                deaf=draw > 0.95,
                poison=poison,
                after=after,
                priority=rng.randrange(2),
            )
        )
    capacities = tuple(node(2, 4 * GIB) if rng.random() < 0.7 else node(1, 2 * GIB) for _ in range(nodes))
    if all(capacity.memory_bytes < 4 * GIB for capacity in capacities):
        capacities = (node(2, 4 * GIB), *capacities[1:])
    limits = RetryLimits(failures=1, memory=50, losses=4)
    return Scenario(name="troubled", tasks=tuple(tasks), nodes=capacities, limits=limits)


SCENARIOS: dict[str, Generator] = {
    "ramps": ramps,
    "mixed-shapes": mixed_shapes,
    "cluster": cluster,
    "sized-by-input": sized_by_input,
    "short-tasks": short_tasks,
    "troubled": troubled,
}


def scenario_of(name: str, seed: int) -> Scenario:
    """The scenario of that name.

    Raises:
        UsageError: there is none.
    """
    generator = SCENARIOS.get(name)
    if generator is None:
        raise UsageError(f"no scenario {name!r}\n  expected: one of {', '.join(SCENARIOS)}")
    return generator(seed)


# --- inside ---------------------------------------------------------------------------------------


def _task(
    command: str,
    curve: MemoryCurve,
    cpus: float,
    *,
    exit_code: int = 0,
    deaf: bool = False,
    poison: Nanoseconds | None = None,
    input_bytes: int | None = None,
    after: tuple[tuple[int, int], ...] = (),
    priority: int = 0,
) -> SimulatedTask:
    spec = TaskSpec(
        command=command,
        requirement=Requirement(cpus_milli=MilliCpus(round(cpus * 1000))),
        priority=priority,
        after=after,
        input_bytes=None if input_bytes is None else Bytes(input_bytes),
    )
    behaviour = TaskBehaviour(curve=curve, cpus=cpus, exit_code=exit_code, deaf=deaf, kills_node_at=poison)
    return SimulatedTask(spec=spec, behaviour=behaviour)


def _fastest(size: float) -> float:
    """Seconds that this many bytes need at least."""
    return size / FAULT_RATE_BYTES_PER_S


def _curve(points: list[tuple[float, float]]) -> MemoryCurve:
    """From (seconds, bytes); times that do not go on by a millisecond are moved on by one."""
    begun = [(0, BASE_BYTES)]
    for seconds, size in points:
        at_ns = max(int(seconds * SECOND_NS), begun[-1][0] + SECOND_NS // 1000)
        begun.append((at_ns, max(int(size), BASE_BYTES)))
    return MemoryCurve(begun)
