"""How much memory over time does a prediction waste, as one number set aside for each task? Generated families of work.

Tasks come one after another; each predictor says how much to set aside, then learns what the task really used. What is set
aside and not used counts as wasted for as long as the task runs; a task that needs more is stopped at its end (the worst
case), all that was set aside for it is wasted, and it is tried again with more. Rivals are charged the kinder of two
ways to try again: twice as much, or the whole node, as Tovar et al. do.

Ours is not made for this question: production asks for a distribution, packs by joint risk and freezes before it
kills. Here it is asked for one number, to be comparable. Where it loses, the table says so.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable, Sequence

from _record import Bar, argument_parser, finish, machine_facts

from ergates.cluster.task import TaskSpec
from ergates.taskqueue.memory import PastRun, PeakPredictor
from ergates.taskqueue.rivals.peak_predictors import OursAsOneNumber, SizeyLike, TovarFirstAllocation
from ergates.taskqueue.shape import shape_of
from ergates.units import GIB, Bytes, Nanoseconds

CAPACITY = 16 * GIB
PEAK_MIN, PEAK_MAX = 1e6, 0.9 * CAPACITY
Runs = list[PastRun]


class LargestSeen:
    """What people do by hand: the largest peak so far of this kind, and a tenth more."""

    def __init__(self, capacity_bytes: int) -> None:
        self._capacity_bytes = capacity_bytes
        self._largest: dict[str, int] = {}

    def allocate(self, spec: TaskSpec) -> Bytes:
        largest = self._largest.get(shape_of(spec).fine)
        return Bytes(self._capacity_bytes if largest is None else min(self._capacity_bytes, largest + largest // 10))

    def learn(self, run: PastRun) -> None:
        shape = shape_of(run.spec).fine
        self._largest[shape] = max(self._largest.get(shape, 0), run.peak_bytes)


PREDICTORS: dict[str, Callable[[int], PeakPredictor]] = {
    "ours": OursAsOneNumber,
    "tovar": TovarFirstAllocation,
    "sizey-like": SizeyLike,
    "largest-seen": LargestSeen,
}


# --- families of work -------------------------------------------------------------------------------


def run(command: str, peak: float, seconds: float, input_bytes: float | None = None) -> PastRun:
    size = None if input_bytes is None else Bytes(int(input_bytes))
    return PastRun(
        spec=TaskSpec(command=command, input_bytes=size),
        peak_bytes=Bytes(int(min(max(peak, PEAK_MIN), PEAK_MAX))),
        wall_ns=Nanoseconds(int(seconds * 1e9)),
    )


def alike(rng: random.Random, count: int) -> Runs:
    """All need about the same."""
    return [run(f"sim --seed {n}", 800e6 * rng.gauss(1, 0.03), rng.uniform(10, 60)) for n in range(count)]


def lognormal(rng: random.Random, count: int) -> Runs:
    """Nothing explains the peaks: log-normal, sigma 0.9."""
    return [run(f"sim --seed {n}", rng.lognormvariate(math.log(300e6), 0.9), rng.uniform(10, 60)) for n in range(count)]


def heavy_tail(rng: random.Random, count: int) -> Runs:
    """Most are small, one in thirty needs ten to forty times as much, and runs longer."""
    runs = []
    for n in range(count):
        large = rng.random() < 1 / 30
        peak = rng.uniform(2e9, 8e9) if large else rng.lognormvariate(math.log(200e6), 0.2)
        runs.append(run(f"search --start {n}", peak, rng.uniform(60, 200) if large else rng.uniform(5, 20)))
    return runs


def two_kinds(rng: random.Random, count: int) -> Runs:
    """Half small, half large, and the command does not tell which."""
    return [run(f"job {n}", rng.choice((150e6, 2.5e9)) * rng.gauss(1, 0.05), rng.uniform(10, 60)) for n in range(count)]


def by_input(rng: random.Random, count: int) -> Runs:
    """A straight line over the size of the input, 10 % noise."""
    runs = []
    for n in range(count):
        size = rng.lognormvariate(math.log(200e6), 0.9)
        peak = (50e6 + 4 * size) * rng.lognormvariate(0, 0.1)
        runs.append(run(f"index part{n}.dat", peak, 5 + size / 1e7, size))
    return runs


def by_parameter(rng: random.Random, count: int) -> Runs:
    """A power of a number in the command: memory grows with the square of `--grid`."""
    runs = []
    for n in range(count):
        grid = rng.choice((100, 200, 400, 800, 1600))
        runs.append(run(f"solve --grid {grid} --seed {n}", 1500 * grid**2 * rng.gauss(1, 0.05), 2 + grid / 10))
    return runs


def programs(rng: random.Random, count: int) -> Runs:
    """Five programs mixed, each with a level of its own."""
    levels = [rng.lognormvariate(math.log(400e6), 1.0) for _ in range(5)]
    runs = []
    for n in range(count):
        program = rng.randrange(5)
        peak = levels[program] * rng.lognormvariate(0, 0.25)
        runs.append(run(f"tool{program} --chunk {n}", peak, rng.uniform(10, 60)))
    return runs


def drifting(rng: random.Random, count: int) -> Runs:
    """Peaks grow fourfold while the work goes on."""
    return [
        run(f"step {n}", 200e6 * 4 ** (n / count) * rng.lognormvariate(0, 0.15), rng.uniform(10, 60))
        for n in range(count)
    ]


FAMILIES: dict[str, Callable[[random.Random, int], Runs]] = {
    "alike": alike,
    "log-normal": lognormal,
    "heavy tail": heavy_tail,
    "two kinds": two_kinds,
    "by input size": by_input,
    "by parameter": by_parameter,
    "five programs": programs,
    "drifting": drifting,
}


# --- counting ---------------------------------------------------------------------------------------


def wasted_gb_hours(predictor: PeakPredictor, runs: Sequence[PastRun], more: Callable[[float], float]) -> float:
    """Of all tasks in order. `more`: from one allocation to the next after a miss."""
    wasted = 0.0
    for one in runs:
        allocation = min(float(predictor.allocate(one.spec)), float(CAPACITY))
        while allocation < one.peak_bytes:
            wasted += allocation * one.wall_ns
            allocation = min(more(allocation), float(CAPACITY))
        wasted += (allocation - one.peak_bytes) * one.wall_ns
        predictor.learn(one)
    return wasted / 1e9 / 3600e9


def waste_of(name: str, runs: Sequence[PastRun]) -> float:
    """The kinder of the two ways to try again for rivals; ours always doubles."""
    ways: list[Callable[[float], float]] = [lambda allocation: 2 * allocation]
    if name != "ours":
        ways.append(lambda _allocation: float(CAPACITY))
    return min(wasted_gb_hours(PREDICTORS[name](CAPACITY), runs, more) for more in ways)


def main() -> None:
    parser = argument_parser(__doc__ or "")
    parser.add_argument("--seeds", type=int, default=20, help="workloads of each family (default: %(default)s)")
    parser.add_argument("--tasks", type=int, default=400, help="in each workload (default: %(default)s)")
    options = parser.parse_args()
    seeds, tasks = (2, 100) if options.quick else (options.seeds, options.tasks)
    facts = machine_facts()
    results: dict[str, dict[str, float]] = {}
    print(
        f"wasted GB h over {tasks} tasks, median of {seeds} seeds\n  {'family':14}"
        + "".join(f"{name:>14}" for name in PREDICTORS)
    )
    for family, generate in FAMILIES.items():
        workloads = [generate(random.Random(f"{seed}/{family}"), tasks) for seed in range(1, seeds + 1)]
        results[family] = {name: statistics.median(waste_of(name, runs) for runs in workloads) for name in PREDICTORS}
        print(f"  {family:14}" + "".join(f"{waste:14.3f}" for waste in results[family].values()), flush=True)
    lost = [family for family, row in results.items() if row["ours"] > 1.001 * min(row.values())]
    print("ours is not the best on: " + (", ".join(lost) or "none"))
    bars = [
        Bar(
            f"{name}'s waste over ours, geometric mean of the families",
            statistics.geometric_mean(row[name] / row["ours"] for row in results.values()),
            1.0,
        )
        for name in ("tovar", "sizey-like")
    ]
    finish("memory_prediction", options, facts, {"gb_hours": results, "ours_is_not_best_on": lost}, bars)


if __name__ == "__main__":
    main()
