"""How many more workers the waiting tasks are worth. Pure.

Tasks of unknown length, and long ones, get room for all of them at once. Of tasks that are known to be short, so many that
each new worker has enough to do to be worth its start; what the workers that are there do in that time is left to them. Tasks
that no such worker could ever run, or that take longer than one lives, call for none, and it is said why.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ergates.cluster.node import NodeCapacity
from ergates.cluster.task import Requirement
from ergates.taskqueue.gang_roles import Seating, kind_of, seats_of
from ergates.taskqueue.slots import UNLIMITED, Slots
from ergates.taskqueue.unfit import lacks
from ergates.units import Nanoseconds, format_duration

_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingClass:
    """`count` ready tasks with one requirement. `expected_ns`: how long one takes, an estimate; None when nothing is known."""

    requirement: Requirement
    count: int
    expected_ns: Nanoseconds | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """`workers` more are wanted, for `tasks` that wait. `notes`: in words, which tasks are not counted, and why."""

    workers: int
    tasks: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerKind:
    """What one more worker would be.

    Args:
        capacity: what it would have to give.
        lives_ns: how long it takes tasks: the walltime without the time it needs to drain.
        most: workers there may be at once; a gang of more nodes than that waits in vain.
        worth_ns: work that a worker should at least find to be worth its start.
    """

    capacity: NodeCapacity
    lives_ns: Nanoseconds
    most: int
    worth_ns: Nanoseconds


def demand(
    waiting: Sequence[WaitingClass], kind: WorkerKind, live: Sequence[NodeCapacity], *, trust_live: bool = True
) -> Demand:
    """Workers wanted besides those that are live.

    Args:
        waiting: ready tasks that nobody holds.
        kind: of a new worker.
        live: capacities of all workers that take tasks now, whoever placed them.
        trust_live: False when tasks have waited long beside those workers: they are busy with something else.
    """
    slots = Slots(kind.capacity)
    shares = [_Share(Slots(capacity)) for capacity in live] if trust_live else []
    wanted, gang, tasks, notes = 0.0, 0, 0, []
    for row in waiting:
        if row.count <= 0:
            continue
        reason = _never(row.requirement, slots, kind)
        if reason:
            notes.append(f"{row.count} waiting {'task' if row.count == 1 else 'tasks'} not counted: {reason}")
            continue
        seats = _seats_wanted(row.requirement, kind, live)
        if seats is None:
            whose = "gang not counted: some of its" if row.count == 1 else "gangs not counted: some of their"
            notes.append(f"{row.count} waiting {whose} roles no such worker could take")
            continue
        tasks += row.count
        members = row.count * _takes(row.requirement, kind)
        side_by_side = _side_by_side(row.requirement, slots)
        fill = members / side_by_side
        if row.expected_ns is None or row.expected_ns >= kind.worth_ns:
            wanted += fill  # live workers may be busy with such tasks for longer than they could be waited for
        else:
            work = members * row.expected_ns / (side_by_side * kind.worth_ns)
            wanted += min(fill, _left_to_others(work, row.requirement, side_by_side, shares))
        gang = max(gang, seats)
    return Demand(workers=max(math.ceil(wanted - _ROUNDING), gang), tasks=tasks, notes=tuple(notes))


@dataclass(slots=True)
class _Share:
    """A live worker and how much of its time is not yet spoken for."""

    slots: Slots
    left: float = 1.0


def _never(requirement: Requirement, slots: Slots, kind: WorkerKind) -> str:
    """Why no such worker could ever run this; empty when one could."""
    if requirement.nodes > kind.most:
        return f"needs {requirement.nodes} nodes at once; at most {kind.most} workers are allowed"
    if requirement.min_time_ns > kind.lives_ns:
        needed, lives = format_duration(requirement.min_time_ns), format_duration(max(0, kind.lives_ns))
        return f"needs {needed}; a worker takes tasks for {lives} of its walltime"
    return ", ".join(lack.words for lack in lacks(requirement, slots))


def _seats_wanted(requirement: Requirement, kind: WorkerKind, live: Sequence[NodeCapacity]) -> int | None:
    """How many such workers one gang wants besides the live ones; None when these could not fill its roles either."""
    if requirement.nodes == 1:
        return 0
    seating = Seating(seats_of(requirement))
    for capacity in live:
        if not lacks(requirement, Slots(capacity)):
            seating.add(kind_of(requirement, capacity.labels))
    wanted, ours = 0, kind_of(requirement, kind.capacity.labels)
    while seating.add(ours):
        wanted += 1
    return wanted if seating.full else None


def _takes(requirement: Requirement, kind: WorkerKind) -> int:
    """How many members of one task such workers could be."""
    seats = seats_of(requirement)
    return sum(seats[place] for place in kind_of(requirement, kind.capacity.labels))


def _side_by_side(requirement: Requirement, slots: Slots) -> int:
    """How many such tasks one empty worker runs at once, by what they declare; at least 1."""
    most = slots.free_count(requirement, UNLIMITED)
    if requirement.memory_bytes > 0:
        most = min(most, slots.capacity.memory_bytes // requirement.memory_bytes)
    return max(1, most)


def _left_to_others(work: float, requirement: Requirement, side_by_side: int, shares: list[_Share]) -> float:
    """What is left of `work` (in new workers) after the live workers have taken what they can."""
    for share in shares:
        if work <= _ROUNDING:
            return 0.0
        if share.left > _ROUNDING and not lacks(requirement, share.slots):
            power = _side_by_side(requirement, share.slots) / side_by_side
            taken = min(work, share.left * power)
            work -= taken
            share.left -= taken / power
    return work
