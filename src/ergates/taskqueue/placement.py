"""When to ask a batch system for more workers, and when to take the asking back. Pure: what was seen in, actions out.

Demand must be there at two looks in a row before anything is asked for: tasks that a free worker is about to take call for
nobody. Asking stays below three limits (workers, waiting allocations, tasks of one array). Waiting allocations that nobody
needs any more are taken back after a while; running ones end by themselves when they find nothing to do. After a refusal,
or an allocation that ended before its worker came, it waits longer each time, and gives up after a few in a row: a batch
system is shared, and a broken setting must not fill it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ergates.cluster.node import NodeCapacity
from ergates.taskqueue.placement_demand import Demand, WaitingClass, WorkerKind, demand
from ergates.units import SECOND_NS, Nanoseconds, format_duration

_MINUTE_NS = 60 * SECOND_NS


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementLimits:
    """What is allowed, and how patient to be.

    Args:
        workers_max: allocations at once, waiting ones included.
        pending_max: allocations that wait for their nodes at once (the backlog).
        array_max: tasks of one job array.
        walltime_ns: of an allocation.
        drain_ns: before its end, in which a worker takes no new task.
        worth_ns: work that makes an allocation worth its start.
        surplus_ns: so long allocations wait unneeded before they are taken back.
        settle_ns: so long a worker is given to take its first tasks before what waits is counted against it.
        retry_after_ns: pause after the first, second, ... trouble in a row; the last one repeats.
        refused_max, dead_max: refusals, and allocations without a worker, in a row after which to give up.
    """

    workers_max: int = 16
    pending_max: int = 4
    array_max: int = 64
    walltime_ns: Nanoseconds
    drain_ns: Nanoseconds = Nanoseconds(2 * _MINUTE_NS)
    worth_ns: Nanoseconds = Nanoseconds(5 * _MINUTE_NS)
    surplus_ns: Nanoseconds = Nanoseconds(2 * _MINUTE_NS)
    settle_ns: Nanoseconds = Nanoseconds(15 * SECOND_NS)
    retry_after_ns: tuple[int, ...] = (_MINUTE_NS, 5 * _MINUTE_NS, 15 * _MINUTE_NS, 30 * _MINUTE_NS, 60 * _MINUTE_NS)
    refused_max: int = 10
    dead_max: int = 3


# --- what was seen --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    """One of ours that waits or runs. `joined_ns`: when its worker was first seen in the store; None: not yet."""

    id: str
    running: bool
    joined_ns: Nanoseconds | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """One of ours that ran and is over. `joined_ns`: when its worker was first seen; None: never. `words`: how it ended."""

    id: str
    joined_ns: Nanoseconds | None
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One look at queue, workers and batch system.

    Args:
        waiting: ready tasks that nobody holds, by class.
        allocations: ours, the oldest first.
        unconfirmed: allocations that were asked for and neither seen nor refused.
        live: capacities of all workers that take tasks now, whoever placed them.
        capacity: of one worker of ours.
        ended: since the last look; those that we or the user cancelled are not among them.
    """

    waiting: tuple[WaitingClass, ...]
    allocations: tuple[Allocation, ...]
    unconfirmed: int = 0
    live: tuple[NodeCapacity, ...] = ()
    capacity: NodeCapacity
    ended: tuple[Ended, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The batch system did not take the last submission. `for_good`: no use to try the same again."""

    reason: str
    for_good: bool = False


# --- what is ordered ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Submit:
    """Ask for one array of `count` allocations of `walltime_ns` each."""

    count: int
    walltime_ns: Nanoseconds


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelPending:
    """Take these back if they still wait."""

    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveUp:
    """Ask for nothing more until a person has mended it."""

    reason: str


Action = Submit | CancelPending | GiveUp


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementState:
    """What is remembered from look to look.

    Args:
        wanted_before: workers wanted at the last look.
        least_waiting, stalled_ns: the fewest tasks that waited since, and when: they have not become fewer.
        surplus, surplus_ns: allocations that were not needed all the time since.
        refused, dead: in a row.
        looked_ns: when it last looked.
        not_before_ns: ask for nothing until then.
        given_up: why; empty while at work.
    """

    wanted_before: int = 0
    least_waiting: int = 0
    stalled_ns: Nanoseconds = Nanoseconds(0)
    surplus: int = 0
    surplus_ns: Nanoseconds = Nanoseconds(0)
    refused: int = 0
    dead: int = 0
    looked_ns: Nanoseconds = Nanoseconds(0)
    not_before_ns: Nanoseconds = Nanoseconds(0)
    given_up: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """`notes`: in words, why not more is asked for."""

    state: PlacementState
    actions: tuple[Action, ...] = ()
    demand: Demand
    notes: tuple[str, ...] = ()


def decide(limits: PlacementLimits, state: PlacementState, seen: Seen, now_ns: Nanoseconds) -> Decision:
    """One look, and what follows from it."""
    before = state
    state = _count_dead(limits, _watch_progress(state, seen, now_ns), seen, now_ns)
    wanted = _wanted(limits, state, seen, now_ns)
    state = replace(state, wanted_before=wanted.workers, looked_ns=now_ns)
    actions: tuple[Action, ...] = ()
    if state.given_up:
        actions = () if before.given_up else (GiveUp(reason=state.given_up),)
        return Decision(state=state, actions=actions, demand=wanted, notes=wanted.notes)
    coming = seen.unconfirmed + sum(not _settled(one, limits, now_ns) for one in seen.allocations)
    count, notes = _room(limits, state, seen, min(before.wanted_before, wanted.workers) - coming, now_ns)
    if count > 0:
        state = replace(state, surplus=0)
        actions = (Submit(count=count, walltime_ns=limits.walltime_ns),)
    else:
        unneeded = coming - max(before.wanted_before, wanted.workers)
        state, ids = _take_back(limits, state, seen, unneeded, now_ns)
        actions = (CancelPending(ids=ids),) if ids else ()
    return Decision(state=state, actions=actions, demand=wanted, notes=(*wanted.notes, *notes))


def after_submission(
    limits: PlacementLimits, state: PlacementState, refused: Refused | None, now_ns: Nanoseconds
) -> tuple[PlacementState, tuple[Action, ...]]:
    """What becomes of it: taken (`refused` None), or refused."""
    if refused is None:
        return replace(state, refused=0), ()
    count = state.refused + 1
    state = replace(state, refused=count, not_before_ns=_later(limits, count, now_ns))
    if not refused.for_good and count < limits.refused_max:
        return state, ()
    times = "" if count == 1 else f"{count} submissions in a row were refused, the last one: "
    state = replace(state, given_up=f"{times}{refused.reason}")
    return state, (GiveUp(reason=state.given_up),)


def _wanted(limits: PlacementLimits, state: PlacementState, seen: Seen, now_ns: Nanoseconds) -> Demand:
    kind = WorkerKind(
        capacity=seen.capacity,
        lives_ns=Nanoseconds(limits.walltime_ns - limits.drain_ns),
        most=limits.workers_max,
        worth_ns=limits.worth_ns,
    )
    stalled = state.least_waiting > 0 and now_ns - state.stalled_ns >= limits.worth_ns
    return demand(seen.waiting, kind, seen.live, trust_live=not stalled)


def _watch_progress(state: PlacementState, seen: Seen, now_ns: Nanoseconds) -> PlacementState:
    waiting = sum(max(0, row.count) for row in seen.waiting)
    if waiting < state.least_waiting or state.least_waiting == 0:
        return replace(state, least_waiting=waiting, stalled_ns=now_ns)
    return state


def _count_dead(limits: PlacementLimits, state: PlacementState, seen: Seen, now_ns: Nanoseconds) -> PlacementState:
    """Allocations that ran and never brought a worker. One that did says that the setting is right."""
    dead = [one for one in seen.ended if one.joined_ns is None]
    if dead:
        state = replace(state, dead=state.dead + len(dead))
        state = replace(state, not_before_ns=_later(limits, state.dead, now_ns))
    joined = [one.joined_ns for one in seen.ended] + [one.joined_ns for one in seen.allocations]
    if any(at_ns is not None and at_ns > state.looked_ns for at_ns in joined):
        return replace(state, dead=0)
    if dead and state.dead >= limits.dead_max and not state.given_up:
        words = f"{state.dead} allocations in a row ended before a worker came, the last one: {dead[-1].words}"
        return replace(state, given_up=words)
    return state


def _later(limits: PlacementLimits, count: int, now_ns: Nanoseconds) -> Nanoseconds:
    return Nanoseconds(now_ns + limits.retry_after_ns[min(count, len(limits.retry_after_ns)) - 1])


def _settled(one: Allocation, limits: PlacementLimits, now_ns: Nanoseconds) -> bool:
    """Whether its worker has had time to take what it can: what waits now waits in spite of it."""
    return one.running and one.joined_ns is not None and now_ns - one.joined_ns >= limits.settle_ns


def _room(
    limits: PlacementLimits, state: PlacementState, seen: Seen, missing: int, now_ns: Nanoseconds
) -> tuple[int, tuple[str, ...]]:
    """How many to ask for of those that are missing, and why not for all of them."""
    if missing <= 0:
        return 0, ()
    if now_ns < state.not_before_ns:
        left = format_duration(state.not_before_ns - now_ns)
        return 0, (f"asks for nothing for {left} more, after trouble",)
    there = len(seen.allocations) + seen.unconfirmed
    pending = sum(not one.running for one in seen.allocations) + seen.unconfirmed
    room = {
        f"at most {limits.workers_max} workers": limits.workers_max - there,
        f"at most {limits.pending_max} waiting allocations": limits.pending_max - pending,
        f"at most {limits.array_max} at once": limits.array_max,
    }
    count = max(0, min(missing, *room.values()))
    if count == missing:
        return count, ()
    binding = min(room, key=lambda words: room[words])
    return count, (f"{missing - count} more would have work; {binding}",)


def _take_back(
    limits: PlacementLimits, state: PlacementState, seen: Seen, unneeded: int, now_ns: Nanoseconds
) -> tuple[PlacementState, tuple[str, ...]]:
    """Waiting allocations, the newest first, that were not needed for a whole while."""
    pending = [one.id for one in seen.allocations if not one.running]
    over = len(seen.allocations) + seen.unconfirmed - limits.workers_max
    surplus = min(len(pending), max(unneeded, over))
    if surplus <= 0:
        return replace(state, surplus=0), ()
    if state.surplus == 0:
        return replace(state, surplus=surplus, surplus_ns=now_ns), ()
    surplus = min(surplus, state.surplus)
    if now_ns - state.surplus_ns < limits.surplus_ns:
        return replace(state, surplus=surplus), ()
    return replace(state, surplus=0), tuple(pending[-surplus:])
