"""When a job will be done: an estimate with an interval, from how fast its tasks settle and how much their lengths differ.

What waits is worked off at the rate of late. When nothing waits any more, the last tasks are still running, and the job
lasts as long as the longest of them: with many nodes and unequal tasks that tail is a large part of the whole. Tasks that
come back count by themselves, for the rate is of tasks that settled for good.

It is an estimate. In simulation the truth lay in the interval three times in four or more, and about two times in three
where a few tasks were many times longer than the rest. A pause, nodes that come or go, and a last task that is larger than all
before are not foreseen.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from ergates.cluster.job import JobStatus
from ergates.units import SECOND_NS, Nanoseconds, format_duration

ENOUGH_ENDS = 50
"""A rate over so many ends is good to about 15 %."""
WINDOW_NS = 300 * SECOND_NS
SAMPLES_MAX = 512
UNKNOWN_CV = 1.0
"""Spread over mean of lengths nobody told us: as if they were exponential."""
PRIOR_ENDS = 4
"""That weighs as much as so many ends."""
SAMPLE = 256
"""Lengths looked at."""
DRIFT_FRACTION = 0.05
"""Nothing stays as it is: part of the time left that is never certain."""
ERROR_MAX = 2.0
"""Of the logarithm: a thirteenth to thirteen times as long says that nothing is known yet."""
SIGMAS = 1.28
"""Of a normal distribution: four times in five within, were the errors below all there are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Eta:
    """Time left, from now. The end usually comes between `low_ns` and `high_ns`."""

    low_ns: Nanoseconds
    likely_ns: Nanoseconds
    high_ns: Nanoseconds
    basis: str

    def words(self) -> str:
        """`about 12 min 05 s left (10 min 02 s to 15 min 00 s; an estimate)`."""
        low, high = format_duration(self.low_ns), format_duration(self.high_ns)
        return f"about {format_duration(self.likely_ns)} left ({low} to {high}; an estimate)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """`ends` tasks settled within `span_ns`."""

    ends: int
    span_ns: int
    basis: str


class Pace:
    """How fast tasks settle of late, from looks at a counter. Feed it with every look, a second or more apart."""

    def __init__(self) -> None:
        self._looks: deque[tuple[int, int]] = deque(maxlen=SAMPLES_MAX)

    def looked(self, at_ns: int, settled: int) -> None:
        """So many tasks had settled at that time. A counter that went back (a retry) starts anew."""
        if self._looks and (settled < self._looks[-1][1] or at_ns <= self._looks[-1][0]):
            self._looks.clear()
        self._looks.append((at_ns, settled))

    def rate(self) -> Rate | None:
        """Over the last five minutes, or longer where fewer than 50 tasks settled then; None before one has."""
        if not self._looks:
            return None
        last_ns, last = self._looks[-1]
        for at_ns, settled in reversed(self._looks):
            oldest = at_ns, settled
            if last_ns - at_ns >= WINDOW_NS and last - settled >= ENOUGH_ENDS:
                break
        ends, span_ns = last - oldest[1], last_ns - oldest[0]
        return Rate(ends=ends, span_ns=span_ns, basis=f"the last {format_duration(span_ns)}") if ends else None


def estimate(rate: Rate | None, *, waiting: int, running: int, walls: Sequence[int]) -> Eta | None:
    """How long what is left will take; None while nothing tells.

    Args:
        rate: of tasks that settled for good.
        waiting: tasks that have not been started, whatever they wait for.
        running: tasks that run now.
        walls: lengths of attempts so far in ns, a sample of a hundred or two is enough; `typical_walls` of their mean
            where only that is known.
    """
    if rate is None or rate.ends <= 0 or rate.span_ns <= 0 or waiting + running <= 0 or sum(walls) <= 0:
        return None
    per_ns = rate.ends / rate.span_ns
    mean_ns, cv = _spread(walls, rate.ends)
    at_once = max(1.0, min(per_ns * mean_ns, waiting + running))  # Little's law: what runs, without what is only held
    if not waiting:
        at_once = max(1.0, min(at_once, running))
    drain_ns = waiting / per_ns
    tail_ns, tail_sd_ns = longest_left(walls, at_once)
    likely_ns = drain_ns + tail_ns
    # Those that ended first are the short ones, and long ones that still run have not told anything yet.
    begun_error = likely_ns * (0.25 + 0.75 * cv) * at_once / rate.ends
    rate_error = drain_ns * cv / math.sqrt(rate.ends)
    work_error = cv * mean_ns * math.sqrt(waiting) / at_once
    tail_error = math.hypot(tail_sd_ns, 0.3 * mean_ns)
    error = math.hypot(begun_error, rate_error, work_error, tail_error, DRIFT_FRACTION * likely_ns) / likely_ns
    error = min(error, ERROR_MAX)
    return Eta(
        low_ns=Nanoseconds(round(likely_ns * math.exp(-SIGMAS * error))),
        likely_ns=Nanoseconds(round(likely_ns)),
        high_ns=Nanoseconds(round(likely_ns * math.exp(SIGMAS * error))),
        basis=f"{rate.ends:,} tasks settled in {rate.basis}",
    )


def job_eta(status: JobStatus, rate: Rate | None, walls: Sequence[int] = ()) -> Eta | None:
    """Of a whole job, from its counters. `walls`: a sample of lengths of its attempts, where somebody has one."""
    counts, attempts = status.counts, sum(status.outcomes.values())
    if not attempts:
        return None
    return estimate(
        rate,
        waiting=sum(counts.get(state, 0) for state in ("ready", "delayed", "blocked")),
        running=counts.get("leased", 0),
        walls=walls or typical_walls(status.wall_ns / attempts),
    )


def typical_walls(mean_ns: float) -> list[int]:
    """Lengths with this mean when nothing else is known of them: as if they were exponential."""
    points = [-math.log(1 - (at + 0.5) / SAMPLE) for at in range(SAMPLE)]
    return [max(1, round(mean_ns * point * SAMPLE / sum(points))) for point in points]


def longest_left(walls: Sequence[int], at_once: float) -> tuple[float, float]:
    """Of so many tasks that run, what is left of the one that ends last: mean and standard deviation in ns.

    What is left of a task met at a random moment is more than x with probability E[max(0, W - x)] / E[W] (renewal theory);
    the longest of many exceeds x unless none does.
    """
    ordered = sorted(walls)
    grid = (
        ordered
        if len(ordered) <= SAMPLE
        else [ordered[(len(ordered) - 1) * at // (SAMPLE - 1)] for at in range(SAMPLE)]
    )
    total = sum(grid)
    mean = square = 0.0
    rest, before, exceeded = float(total), 0, 1.0
    for index, wall in enumerate(grid):
        more = len(grid) - index
        rest -= more * (wall - before)  # the sum of max(0, W - wall)
        now = 1 - (1 - min(1.0, max(0.0, rest / total))) ** at_once
        mean += (wall - before) * (exceeded + now) / 2
        square += (wall * wall - before * before) * (exceeded + now) / 2
        before, exceeded = wall, now
    return mean, math.sqrt(max(0.0, square - mean * mean))


def _spread(walls: Sequence[int], ends: int) -> tuple[float, float]:
    """Mean, and spread over mean; few ends do not tell the spread, so it is held to be large at first."""
    mean = sum(walls) / len(walls)
    squared = sum((wall - mean) ** 2 for wall in walls) / len(walls) / mean**2
    known = min(ends, len(walls))
    return mean, math.sqrt((known * squared + PRIOR_ENDS * UNKNOWN_CV**2) / (known + PRIOR_ENDS))
