"""Which attempts deserve a second copy on another node, while slots are idle anyway and the job waits for its last tasks.

An attempt that runs much longer than its like is either long by itself, and then a copy is as long and gains nothing, or its
node is at fault (a bad disk, somebody else's load), and then a copy ends soon. How surprising its age would be of a task
that is only long tells the two apart: that is Bayes' rule, with a small share of faults to begin with that grows and
shrinks with what earlier copies showed. A node that is known to be slow counts without any guess.

A copy is worth its slot when the attempt will likely run more than twice as long as a new copy takes. At most a tenth of the
slots run copies, and only two until copies have won. Two copies of a task are safe because of the fence: the first to
commit wins, the other's commit is a no-op.

Source: Ananthanarayanan et al., Reining in the Outliers in Map-Reduce Clusters using Mantri (OSDI 2010), P(t_rem > 2 t_new)
> 0.25; Zaharia et al., Improving MapReduce Performance in Heterogeneous Environments (OSDI 2008), longest time to end first, a
cap. We differ: neither asks whether the task itself may be long, for the pieces of MapReduce are equal.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ergates.taskqueue.launching import AttemptKey
from ergates.units import Nanoseconds, format_duration

SLOTS_DIVISOR = 10
"""One slot in so many may run a copy."""
RUNS_MIN = 5
"""With fewer ended runs of a shape nobody knows what is long."""
WORTH = 0.25
"""How likely it must be that the copy takes less than half of the time left."""
TIMES_NEW = 2.0
FAULT_FRACTION = 0.05
"""Of attempts that meet a node at fault, before copies have shown anything."""
FAULT_MIN, FAULT_MAX = 0.002, 0.3
FAULT_TIMES = (2.0, 4.0, 8.0)
"""How much longer a fault makes an attempt; each is as likely."""
HANG_FRACTION = 0.05
"""Of faults: after these it would never end."""
SIGMA_MIN = 0.1
"""Of the logarithm of lengths: nothing is more alike than that."""
COPIES_AT_FIRST = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningCopy:
    """An attempt that runs now.

    Args:
        key: whose.
        shape: of its command.
        host: where.
        started_ns: when.
        duplicated: whether it has a copy, or is one.
    """

    key: AttemptKey
    shape: str
    host: str
    started_ns: Nanoseconds
    duplicated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyRecord:
    """How copies fared so far: of those that were decided, how many ended first (`won`) or not (`lost`)."""

    won: int = 0
    lost: int = 0


NO_COPIES = CopyRecord()


@dataclass(frozen=True, slots=True, kw_only=True)
class Duplicate:
    """Start a copy of this attempt on that host; `reason` in words, estimates labelled."""

    key: AttemptKey
    host: str
    reason: str


@dataclass(frozen=True, slots=True)
class _Outlook:
    likelihood: float
    left_ns: float
    new_ns: float


def worth_duplicating(
    running: Iterable[RunningCopy],
    walls: Mapping[str, Sequence[int]],
    idle: Mapping[str, int],
    speeds: Mapping[str, float],
    now_ns: int,
    *,
    slots: int,
    record: CopyRecord = NO_COPIES,
) -> list[Duplicate]:
    """Choose the attempts that get a copy now, the one with the most time left first.

    Args:
        running: everything that runs.
        walls: by shape, ascending: what ended runs took, as an ordinary node would have (wall times speed of its node), ns.
        idle: free slots by host; empty as long as anything waits that could use them.
        speeds: relative speed by host (node_speed.py); 1 where it is not there.
        now_ns: now.
        slots: of all nodes together.
        record: how copies fared so far.
    """
    everything = tuple(running)
    copies = sum(1 for each in everything if each.duplicated) // 2  # the original and its copy both say so
    budget = _copies_max(slots, record) - copies
    free = {host: count for host, count in idle.items() if count > 0}
    if budget <= 0 or not free:
        return []
    fault = _fault_fraction(record)
    fastest_first = sorted(free, key=lambda host: (-speeds.get(host, 1.0), host))
    candidates: list[tuple[float, RunningCopy, _Outlook]] = []
    for attempt in everything:
        known = walls.get(attempt.shape, ())
        best = next((host for host in fastest_first if host != attempt.host), None)
        if attempt.duplicated or best is None or len(known) < RUNS_MIN:
            continue
        age_ns = now_ns - attempt.started_ns
        outlook = _outlook(age_ns, known, speeds.get(attempt.host, 1.0), speeds.get(best, 1.0), fault)
        if outlook.likelihood > WORTH:
            candidates.append((outlook.left_ns, attempt, outlook))
    candidates.sort(key=lambda each: (-each[0], each[1].key))
    chosen: list[Duplicate] = []
    for _, attempt, outlook in candidates[:budget]:
        host = next((host for host in fastest_first if host != attempt.host and free[host] > 0), None)
        if host is not None:
            free[host] -= 1
            chosen.append(Duplicate(key=attempt.key, host=host, reason=_reason(now_ns - attempt.started_ns, outlook)))
    return chosen


def _outlook(age_ns: int, walls: Sequence[int], speed: float, new_speed: float, fault: float) -> _Outlook:
    """How likely a copy is worth it, and what is expected to be left of the attempt and to be needed by a copy."""
    ordinary_age = age_ns * speed
    longer = len(walls) - bisect_right(walls, ordinary_age)
    by_itself = max(_share_longer(walls, ordinary_age), longer / (len(walls) + 1), 1e-9)
    with_fault = sum(_share_longer(walls, ordinary_age / times) for times in FAULT_TIMES) / len(FAULT_TIMES)
    with_fault = HANG_FRACTION + (1 - HANG_FRACTION) * with_fault
    at_fault = fault * with_fault / (fault * with_fault + (1 - fault) * by_itself)
    # At fault: what has lasted so long lasts as long again (nothing better is known), and a copy is like any other run.
    quick = bisect_right(walls, age_ns * new_speed / TIMES_NEW) / len(walls)
    typical = walls[len(walls) // 2] / new_speed
    # Long by itself: a copy starts from the beginning, and only a faster node can catch up.
    survivors = walls[len(walls) - longer :]
    overtaken = sum(1 for wall in survivors if (wall - ordinary_age) / speed > TIMES_NEW * wall / new_speed)
    catches_up = overtaken / longer if longer else 0.0
    left = sum(survivors) / longer / speed - age_ns if longer else 0.25 * age_ns
    return _Outlook(
        likelihood=at_fault * quick + (1 - at_fault) * catches_up,
        left_ns=at_fault * age_ns + (1 - at_fault) * left,
        new_ns=typical,
    )


def _share_longer(walls: Sequence[int], length_ns: float) -> float:
    """How often a run is longer than this: a log-normal tail through the median and the ninth decile."""
    if length_ns <= 0:
        return 1.0
    middle, high = walls[len(walls) // 2], walls[min(len(walls) - 1, 9 * len(walls) // 10)]
    sigma = max(SIGMA_MIN, math.log(max(high, 1) / max(middle, 1)) / 1.2816)
    return 0.5 * math.erfc(math.log(length_ns / max(middle, 1)) / sigma / math.sqrt(2))


def _copies_max(slots: int, record: CopyRecord) -> int:
    shown = max(1, COPIES_AT_FIRST + 2 * record.won - record.lost)
    return min(max(1, slots // SLOTS_DIVISOR), shown)


def _fault_fraction(record: CopyRecord) -> float:
    share = FAULT_FRACTION * (1 + record.won) / (1 + record.lost)
    return min(FAULT_MAX, max(FAULT_MIN, share))


def _reason(age_ns: int, outlook: _Outlook) -> str:
    left, new = format_duration(round(outlook.left_ns)), format_duration(round(outlook.new_ns))
    return (
        f"runs for {format_duration(age_ns)}, longer than its like; estimated to need {left} more, a copy about {new}"
    )
