"""What goes wrong, drawn from the seed before the world starts: who crashes when and for how long, who is cut off.

A plan has two halves. First trouble: crashes, partitions, a bad network; only safety is asked (nothing lost, nothing done
twice). From `healed_ns` on nothing new goes wrong and everything is up again; then progress is asked: every task ends. A
world without the second half would call a system safe that merely stopped.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ergates.simulation.engine import Engine
from ergates.simulation.network import NetworkConditions
from ergates.units import Nanoseconds

MOST_STEPS_AHEAD = 40
MOST_FORGOTTEN_NS = 2_000_000_000
"""As much as a server that writes to its disk every second may lose."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Crash:
    """`name` dies, at once or between two of its next actions (`after_actions` > 0), and starts again `down_ns` later.

    `whole_node`: the machine with everything on it, not only the process.
    """

    name: str
    down_ns: Nanoseconds
    after_actions: int = 0
    whole_node: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Drain:
    """`name` is asked to stop: it starts nothing new, with `give_back` returns what runs, says good-bye, and comes back later."""

    name: str
    down_ns: Nanoseconds
    give_back: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CutOff:
    """These are on one side, everybody else on the other."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejoin:
    """The partition is over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """What the server knows now is on its disk: it starts again with this after the fault `number`."""

    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgotten:
    """The server dies and comes back as another process, without anything since it was `Saved` under this number."""

    number: int
    down_ns: Nanoseconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Heal:
    """Nothing goes wrong from now on: network perfect, no partition, no crash outstanding."""


Fault = Crash | Drain | CutOff | Rejoin | Saved | Forgotten | Heal


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultPlan:
    """Faults in the order they come, the network while they last, and when it is all over."""

    faults: tuple[tuple[Nanoseconds, Fault], ...] = ()
    conditions: NetworkConditions = field(default_factory=NetworkConditions)
    healed_ns: Nanoseconds = Nanoseconds(0)


class Breakable(Protocol):
    """A world that faults can happen to."""

    def perform_fault(self, fault: Fault) -> None: ...


def draw_faults(
    rng: random.Random,
    processes: Sequence[str],
    *,
    servers: Sequence[str] = (),
    until_ns: int,
    crash_every_ns: int,
    partition_every_ns: int,
    forget_every_ns: int = 0,
) -> FaultPlan:
    """A plan whose severity itself is drawn: calm worlds, stormy ones, and ones where only one kind of thing breaks.

    Args:
        rng: a stream of its own.
        processes: whom crashes and partitions strike; some crashes take the whole node.
        servers: struck more rarely, and never cut off on their own side with nobody.
        until_ns: trouble lasts so long.
        crash_every_ns: mean time between crashes in the whole world, in the worst plan.
        partition_every_ns: the same for partitions.
        forget_every_ns: the same for servers that come back without their last moments, two seconds at most; 0 for none.
    """
    faults: list[tuple[Nanoseconds, Fault]] = []
    crashes, partitions, bad_network = (rng.choice((0.0, 0.3, 1.0)) for _ in range(3))
    for at_ns in _moments(rng, until_ns, crash_every_ns, crashes):
        server = bool(servers) and rng.random() < 0.15
        name = rng.choice(servers if server else processes)
        steps = rng.randrange(1, MOST_STEPS_AHEAD) if rng.random() < 0.5 else 0
        down_ns = Nanoseconds(int(rng.choice((10**6, 10**9, 2 * 10**10)) * rng.uniform(0.1, 1.5)))
        if not server and rng.random() < 0.15:
            faults.append((at_ns, Drain(name=name, down_ns=down_ns, give_back=rng.random() < 0.5)))
            continue
        whole_node = not server and rng.random() < 0.3
        faults.append((at_ns, Crash(name=name, down_ns=down_ns, after_actions=steps, whole_node=whole_node)))
    for at_ns in _moments(rng, until_ns, partition_every_ns, partitions):
        cut = tuple(name for name in processes if rng.random() < 0.5) or (rng.choice(processes),)
        faults.append((at_ns, CutOff(names=cut)))
        faults.append((Nanoseconds(at_ns + int(rng.uniform(0.05, 1.5) * partition_every_ns)), Rejoin()))
    if forget_every_ns:
        faults += _forgotten_seconds(rng, until_ns, forget_every_ns)
    faults.append((Nanoseconds(until_ns), Heal()))
    faults.sort(key=lambda entry: entry[0])
    conditions = NetworkConditions(
        delay_ns=Nanoseconds(int(10 ** rng.uniform(5, 8))),
        spread=rng.uniform(0.2, 1.5),
        loss_fraction=bad_network * rng.uniform(0.0, 0.2),
        duplicate_fraction=bad_network * rng.uniform(0.0, 0.2),
    )
    until = [(at_ns, fault) for at_ns, fault in faults if at_ns <= until_ns]
    return FaultPlan(faults=tuple(until), conditions=conditions, healed_ns=Nanoseconds(until_ns))


def schedule_faults(engine: Engine, world: Breakable, plan: FaultPlan) -> None:
    """Make the plan's faults events like any other."""

    def strike(fault: Fault, now_ns: Nanoseconds) -> None:  # noqa: ARG001 - the shape of a handle
        engine.note(repr(fault))
        world.perform_fault(fault)

    engine.attach("faults", strike)
    for at_ns, fault in plan.faults:
        engine.at(at_ns, "faults", fault)


def _forgotten_seconds(rng: random.Random, until_ns: int, every_ns: int) -> list[tuple[Nanoseconds, Fault]]:
    faults: list[tuple[Nanoseconds, Fault]] = []
    for number, at_ns in enumerate(_moments(rng, until_ns, every_ns, rng.choice((0.5, 1.0)))):
        lost_ns = int(rng.uniform(0.0, MOST_FORGOTTEN_NS))
        down_ns = Nanoseconds(int(rng.choice((10**6, 10**8, 5 * 10**9)) * rng.uniform(0.1, 1.5)))
        faults.append((Nanoseconds(max(0, at_ns - lost_ns)), Saved(number=number)))
        faults.append((at_ns, Forgotten(number=number, down_ns=down_ns)))
    return faults


def _moments(rng: random.Random, until_ns: int, every_ns: int, severity: float) -> list[Nanoseconds]:
    """A Poisson process of `severity` events per `every_ns`."""
    moments: list[Nanoseconds] = []
    at_ns = 0.0
    while severity > 0.0:
        at_ns += rng.expovariate(severity / every_ns)
        if at_ns >= until_ns:
            break
        moments.append(Nanoseconds(int(at_ns)))
    return moments
