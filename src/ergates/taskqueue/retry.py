"""What becomes of a task when one try at it has ended: done, failed with a reason, or back to the queue, when and how.

Causes are counted apart. Application failures, memory, losses and time limits each have their own allowance; a drain or a
full disk uses up none. Memory returns raise the requirement to the next of few coarse classes, so that the store keeps few
rows; losses that repeat are held against the task ("poison").
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from ergates.cluster.attempt import Outcome
from ergates.cluster.job import RetryLimits
from ergates.cluster.task import Requirement
from ergates.taskqueue.store import Cancelled, Done, Failed, Lease, PastFailures, Returned, Verdict
from ergates.units import MIB, Bytes, Nanoseconds, format_bytes

SECOND = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class BackOff:
    """Waits `first_ns`, then twice as long each time, up to `most_ns`."""

    first_ns: int
    most_ns: int


AFTER_FAILURE = BackOff(first_ns=1 * SECOND, most_ns=60 * SECOND)
AFTER_MEMORY = BackOff(first_ns=SECOND // 5, most_ns=30 * SECOND)
"""Short at first: the larger requirement already keeps it out until there is room."""
AFTER_LOSS = BackOff(first_ns=1 * SECOND, most_ns=60 * SECOND)
AFTER_FULL_DISK = BackOff(first_ns=5 * SECOND, most_ns=5 * SECOND)
JITTER_FRACTION = 0.25
GROWTH_AFTER_OOM = 1.5
"""The kernel killed it at its peak so far; half as much again is asked for."""
OUTGROWN_FRACTION = 0.95
"""What the kernel killed at this share of a node does not fit there."""
STARTS_ELSEWHERE = 1
"""How often what could not be started is tried again, elsewhere: a missing program may be missing on one node only."""


def judge(
    lease: Lease,
    outcome: Outcome,
    reason: str,
    memory_floor_bytes: int,
    limits: RetryLimits,
    now_ns: Nanoseconds,
    host: str = "",
    rng: random.Random | None = None,
    *,
    peak_bytes: int = 0,
    capacity_bytes: int | None = None,
    largest_bytes: int | None = None,
    elsewhere: bool = False,
) -> Verdict:
    """Decide about the task of an ended lease.

    Args:
        lease: whose; its `past` are the counts before this attempt.
        outcome: of the attempt.
        reason: of the attempt, in words.
        memory_floor_bytes: for an eviction the floor it was given back with (0: none); for a kernel kill what it
            had reached.
        limits: of its job; `TaskSpec.retries` overrides the one for application failures.
        now_ns: returns are not before some time after this.
        host: who ran it; memory and loss returns prefer another.
        rng: spreads the returns of many tasks; None: no spread.
        peak_bytes: what it reached, when that is not the floor (0: take the floor).
        capacity_bytes: of the node, when known: nothing is asked for beyond it, and a kernel kill at nearly all of it
            ends the task, unless there is a larger one.
        largest_bytes: memory of the largest node known, this one included; None where there is only this one.
        elsewhere: whether workers of other hosts could try it.
    """
    past = lease.past
    match outcome:
        case Outcome.SUCCEEDED:
            return Done()
        case Outcome.CANCELLED:
            return Cancelled(reason=reason)
        case Outcome.NOT_STARTED:
            times = past.losses + 1  # the node's fault, until another one says the same
            if not elsewhere or times > STARTS_ELSEWHERE:
                return Failed(reason=reason if times == 1 else f"{reason} (tried {_times(times)})")
            counted = msgspec.structs.replace(past, losses=times)
            return Returned(past=counted, not_before_ns=_later(now_ns, AFTER_LOSS, times, rng), avoid_host=host)
        case Outcome.RETURNED:
            return Returned(past=past)
        case Outcome.DISK_FULL:
            return Returned(past=past, not_before_ns=_later(now_ns, AFTER_FULL_DISK, 1, rng))
        case Outcome.EVICTED | Outcome.OOM_KILLED | Outcome.TOO_BIG:
            reached = peak_bytes or memory_floor_bytes
            asked = _memory_asked(lease, outcome, memory_floor_bytes, reached, capacity_bytes, largest_bytes)
            if asked is None:
                return Failed(reason=_too_big_for_all(outcome, reason, reached, largest_bytes))
            return _after_memory(lease, reason, asked, reached, limits, now_ns, host, rng)
        case Outcome.LOST:
            times = past.losses + 1
            if times > limits.losses:
                return Failed(reason=f"quarantined: its worker was lost {_times(times)} while it ran")
            counted = msgspec.structs.replace(past, losses=times)
            return Returned(past=counted, not_before_ns=_later(now_ns, AFTER_LOSS, times, rng), avoid_host=host)
        case Outcome.TIMED_OUT:
            times = past.timeouts + 1
            counted = msgspec.structs.replace(past, timeouts=times)
            return _tried_again(reason, times, limits.timeouts, counted, now_ns, rng)
        case _:
            times = past.failures + 1
            allowed = limits.failures if lease.spec.retries is None else lease.spec.retries
            counted = msgspec.structs.replace(past, failures=times)
            return _tried_again(reason, times, allowed, counted, now_ns, rng)


def memory_class(size: int, capacity_bytes: int | None = None) -> Bytes:
    """The smallest of 1, 1.41, 2, 2.83, 4, ... MiB that is at least `size`; the node's capacity when that is less."""
    if size <= 0:
        return Bytes(0)
    step = MIB
    while step < size:
        between = int(step * 2**0.5)
        if between >= size:
            step = between
            break
        step *= 2
    if capacity_bytes is not None and step > capacity_bytes >= size:
        return Bytes(capacity_bytes)
    return Bytes(step)


def _memory_asked(
    lease: Lease,
    outcome: Outcome,
    floor: int,
    reached: int,
    capacity_bytes: int | None,
    largest_bytes: int | None,
) -> Bytes | None:
    """The floor a task goes back with after it met the end of its memory; None when no node known could hold it."""
    before = lease.spec.requirement.memory_bytes
    killed = outcome is Outcome.OOM_KILLED
    if killed:
        floor = max(int(floor * GROWTH_AFTER_OOM), before + 1)
    outgrown = killed and capacity_bytes is not None and reached >= OUTGROWN_FRACTION * capacity_bytes
    if outcome is not Outcome.TOO_BIG and not outgrown:
        if killed and capacity_bytes is not None:
            floor = min(floor, capacity_bytes)
        return before if floor <= before else memory_class(floor, capacity_bytes)
    if capacity_bytes is None or largest_bytes is None or largest_bytes <= max(capacity_bytes, reached):
        return None
    floor = min(max(floor, int(reached * GROWTH_AFTER_OOM), capacity_bytes + 1), largest_bytes)
    return before if floor <= before else memory_class(floor, largest_bytes)


def _too_big_for_all(outcome: Outcome, reason: str, reached: int, largest_bytes: int | None) -> str:
    words = reason if outcome is Outcome.TOO_BIG else f"needs more than {format_bytes(reached)}"
    return words if largest_bytes is None else f"{words}; the largest node known has {format_bytes(largest_bytes)}"


def _after_memory(
    lease: Lease,
    reason: str,
    asked: Bytes,
    reached: int,
    limits: RetryLimits,
    now_ns: int,
    host: str,
    rng: random.Random | None,
) -> Verdict:
    past, requirement = lease.past, lease.spec.requirement
    times = past.memory + 1
    if times > limits.memory:
        return Failed(reason=f"{reason}; came back for memory {_times(past.memory)} before")
    raised: Requirement | None = None
    if asked > requirement.memory_bytes:
        raised = msgspec.structs.replace(requirement, memory_bytes=asked)
    counted = msgspec.structs.replace(past, memory=times, last_peak_bytes=max(past.last_peak_bytes, reached))
    return Returned(
        past=counted,
        not_before_ns=_later(now_ns, AFTER_MEMORY, times, rng),
        requirement=raised,
        avoid_host=host,
    )


def _tried_again(
    reason: str, times: int, allowed: int, counted: PastFailures, now_ns: int, rng: random.Random | None
) -> Verdict:
    if times > allowed:
        return Failed(reason=reason if times == 1 else f"{reason} (tried {_times(times)})")
    return Returned(past=counted, not_before_ns=_later(now_ns, AFTER_FAILURE, times, rng))


def _later(now_ns: int, back_off: BackOff, times: int, rng: random.Random | None) -> Nanoseconds:
    wait_ns = min(back_off.first_ns * 2 ** min(times - 1, 30), back_off.most_ns)
    spread: Callable[[], float] = (lambda: 0.0) if rng is None else rng.random
    return Nanoseconds(now_ns + int(wait_ns * (1 + JITTER_FRACTION * spread())))


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count} times")
