"""How long the missing runs will take, judged by the finished ones: an estimate, and called one wherever it is shown."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence

from msgspec import Struct

from ergates.experiment.points import role_seats
from ergates.experiment.run import Run
from ergates.experiment.spec import Experiment

OVERHEAD_S = 0.5
"""Of a run beyond its programs: what we hold ourselves to."""


class DurationEstimate(Struct, frozen=True, kw_only=True):
    """Args:
    seconds: until all missing runs are finished, with as many at once as there are hosts for.
    runs: how many are missing.
    finished: how many it was judged by.
    """

    seconds: float
    runs: int
    finished: int


def estimated_duration(
    experiment: Experiment, missing: Sequence[Run], finished: Iterable[tuple[Run, float]]
) -> DurationEstimate | None:
    """A point's own runs say how long it takes, all others together what nobody knows. None when none is finished.

    Args:
        experiment: whose hosts they share.
        missing: runs to be made.
        finished: runs that went well and the seconds each took.
    """
    by_point: dict[str, list[float]] = {}
    for run, seconds in finished:
        by_point.setdefault(repr(run.point), []).append(seconds)
    every = [seconds for those in by_point.values() for seconds in those]
    if not every:
        return None
    usual = statistics.fmean(every)
    total = 0.0
    for run in missing:
        own = by_point.get(repr(run.point))
        total += (OVERHEAD_S + (statistics.fmean(own) if own else usual)) / at_once(experiment, run)
    return DurationEstimate(seconds=total, runs=len(missing), finished=len(every))


def at_once(experiment: Experiment, run: Run) -> int:
    """How many runs like this one the hosts can make at the same time: each has its hosts for itself."""
    seats = role_seats(experiment, run.point)
    needed = {group.name: sum(seat.count for seat in seats if seat.group == group.name) for group in experiment.hosts}
    return max(
        1, min((group.count // needed[group.name] for group in experiment.hosts if needed[group.name]), default=1)
    )
