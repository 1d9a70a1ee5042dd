"""How fast a node is, told from runs of the same command shapes on several nodes. Nobody runs a benchmark.

A run takes what its shape needs times how slow its node is. With logarithms that is a sum, `wall = shape + node + noise`,
and the parts are found by turns: each shape's part is the median of its runs once the nodes' parts are taken out, then each
node's part the median of its runs once the shapes' are, until nothing moves (median polish: a few odd runs move nothing).
Only shapes that ran on two nodes say anything. A node with few runs is believed to be nearly ordinary.

The result is an estimate, and says how sure it is.

Source: Tukey, Exploratory Data Analysis (1977), chapter 11; we shrink towards an ordinary node.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median

from ergates.units import Nanoseconds

ROUNDS = 30
WALL_MIN_NS = 1_000_000
"""Shorter runs are mostly the starting of a process."""
ORDINARY_RUNS = 4
"""A node is taken for ordinary as if it had shown so in this many runs."""
MAD_TO_SIGMA = 1.4826
"""Of a normal distribution: its standard deviation over its median absolute deviation."""


@dataclass(frozen=True, slots=True)
class ShapeRun:
    """One attempt that succeeded."""

    shape: str
    host: str
    wall_ns: Nanoseconds


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSpeed:
    """An estimate: `speed` 2.0 does twice as much in a second as the median node; the truth is likely in `low`..`high`.

    `runs`: how many runs it rests on; with none the speed is 1 and the interval wide.
    """

    speed: float
    low: float
    high: float
    runs: int


UNKNOWN_SPEED = NodeSpeed(speed=1.0, low=0.25, high=4.0, runs=0)


def node_speeds(runs: Iterable[ShapeRun]) -> dict[str, NodeSpeed]:
    """The relative speed of every node that ran a shape which another one ran, too.

    Args:
        runs: successful attempts, any order; the more recent ones only, where nodes change.
    """
    walls = _comparable(runs)
    hosts = sorted({host for per_host in walls.values() for host in per_host})
    if not hosts:
        return {}
    slowness = _polished(walls, hosts)
    residuals: dict[str, list[float]] = defaultdict(list)
    for per_host in walls.values():
        shape_part = _shape_part(per_host, slowness)
        for host, logs in per_host.items():
            residuals[host] += [each - shape_part for each in logs]
    spread = _sigma([each - slowness[host] for host, several in residuals.items() for each in several])
    return {host: _estimate(slowness[host], len(residuals[host]), spread) for host in hosts}


def expected_wall_ns(wall_ns: float, speed: NodeSpeed) -> float:
    """What a run of an ordinary node's `wall_ns` would take on a node of this speed."""
    return wall_ns / speed.speed


def _comparable(runs: Iterable[ShapeRun]) -> dict[str, dict[str, list[float]]]:
    """Logarithms of walls by shape and host, of shapes seen on two hosts or more."""
    walls: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        if run.wall_ns >= WALL_MIN_NS:
            walls[run.shape][run.host].append(math.log(run.wall_ns))
    return {shape: per_host for shape, per_host in walls.items() if len(per_host) > 1}


def _polished(walls: Mapping[str, Mapping[str, list[float]]], hosts: list[str]) -> dict[str, float]:
    """How slow each host is, as a logarithm; the median host is 0."""
    slowness = dict.fromkeys(hosts, 0.0)
    for _ in range(ROUNDS):
        residuals: dict[str, list[float]] = defaultdict(list)
        for per_host in walls.values():
            shape_part = _shape_part(per_host, slowness)
            for host, logs in per_host.items():
                residuals[host] += [each - shape_part for each in logs]
        found = {host: median(residuals[host]) for host in hosts}
        middle = median(found.values())
        found = {host: value - middle for host, value in found.items()}
        moved = max(abs(found[host] - slowness[host]) for host in hosts)
        slowness = found
        if moved < 1e-4:
            break
    return slowness


def _shape_part(per_host: Mapping[str, list[float]], slowness: Mapping[str, float]) -> float:
    """The median of the hosts' medians: a host with many runs has no more say about a shape than another."""
    return median(median(logs) - slowness[host] for host, logs in per_host.items())


def _sigma(residuals: list[float]) -> float:
    """Spread of single runs around what shape and node explain."""
    return max(0.02, MAD_TO_SIGMA * median(abs(each) for each in residuals))


def _estimate(slowness: float, runs: int, spread: float) -> NodeSpeed:
    believed = slowness * runs / (runs + ORDINARY_RUNS)
    # Of a median; 1.25 is sqrt(pi/2). Shrinking errs, too: by at most what was taken off.
    error = 1.25 * spread / math.sqrt(runs) + abs(slowness - believed)
    return NodeSpeed(
        speed=math.exp(-believed),
        low=math.exp(-believed - 1.3 * error),
        high=math.exp(-believed + 1.3 * error),
        runs=runs,
    )
