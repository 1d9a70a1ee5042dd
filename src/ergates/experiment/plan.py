"""From an experiment to its runs: every point so many times, in an order that does not favour any, each with a seed of its own.

The seed of a run depends on the experiment's name, the point and the repetition only. So more repetitions or another value of an
axis leave the seeds of all earlier runs as they were, and their results stay good.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from ergates.experiment.points import Point, points_of, seats_with_spare
from ergates.experiment.run import Run, RunOrder
from ergates.experiment.spec import Experiment

SEED_BITS = 31
"""Programs that read a signed number of 32 bits take every seed."""


def plan_runs(experiment: Experiment, past: Sequence[Run] = ()) -> tuple[Run, ...]:
    """All runs, in the order in which they are to be made.

    Args:
        experiment: what is asked for now.
        past: runs of an earlier plan of this experiment; they keep their numbers, also those that are no longer asked for, and
            what is new comes after them.
    """
    planned = {same_run(run.point, run.repetition) for run in past}
    new = [
        (point, repetition) for point, repetition in _ordered(experiment) if same_run(point, repetition) not in planned
    ]
    first = max((run.number for run in past), default=0) + 1
    return (
        *past,
        *(
            Run(number=number, point=point, repetition=repetition, seed=seed_of(experiment.name, point, repetition))
            for number, (point, repetition) in enumerate(new, first)
        ),
    )


def same_run(point: Point, repetition: int) -> str:
    """Equal for runs that are one, whatever the order of their axes: 1, 1.0 and true are different values."""
    return json.dumps([sorted(point), repetition])


def _ordered(experiment: Experiment) -> list[tuple[Point, int]]:
    points, repetitions = list(points_of(experiment)), range(1, experiment.repetitions + 1)
    if experiment.order == "interleaved":
        return [(point, repetition) for repetition in repetitions for point in points]
    listed = [(point, repetition) for point in points for repetition in repetitions]
    if experiment.order == "random":
        random.Random(f"{experiment.seed}/order").shuffle(listed)
    return listed


def seed_of(experiment: str, point: Point, repetition: int) -> int:
    """A number from 0 to 2**31 - 1, the same on every machine and in every version."""
    text = json.dumps([experiment, sorted(point), repetition])
    return int.from_bytes(sha256(text.encode()).digest()[:4], "big") >> (32 - SEED_BITS)


def order_of(experiment: Experiment, run: Run, folder: str | Path) -> RunOrder:
    """What the members of a run are told.

    Args:
        experiment: whose run it is.
        run: one of its plan.
        folder: of the run, in which its attempts lie.
    """
    return RunOrder(
        experiment=experiment.name,
        run=run,
        roles=seats_with_spare(experiment, run.point),
        programs=experiment.programs,
        fixed=experiment.fixed,
        here=experiment.here,
        folder=str(folder),
        settle_ns=experiment.settle_ns,
    )
