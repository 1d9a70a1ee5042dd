"""How often do the intervals of `erg experiment compare` hold the truth, and how often do its tests see what is not there?

Experiments are simulated whose truth is known: two values of an axis whose figures are log-normal (sigma 0.5, as skewed as times
of programs often are), one twice as large as the other for the intervals, alike for the tests. An interval of 95 % should hold
the true ratio in 95 of 100 experiments, a test at 0.05 should be wrong in at most 5.
"""

from __future__ import annotations

import math
import random
import statistics

from _record import Bar, argument_parser, finish, machine_facts

from ergates.experiment.statistics.bootstrap import Statistic, effect_interval
from ergates.experiment.statistics.significance import p_value
from ergates.experiment.statistics.stratified import Stratum, overall_interval, overall_p

SIGMA, RATIO, LEVEL = 0.5, 2.0, 0.05
STATISTICS: tuple[Statistic, ...] = ("median", "mean")
REPETITIONS = (4, 5, 10, 30)
POINTS = (1.0, 10.0, 50.0, 100.0)
"""Of the other axes: figures at one point are so many times as large."""


def sample(rng: random.Random, scale: float, size: int) -> list[float]:
    return [scale * rng.lognormvariate(0, SIGMA) for _ in range(size)]


def at_one_point(statistic: Statistic, size: int, worlds: int) -> tuple[float, float]:
    """Share of experiments whose interval holds the truth, and of those without a difference that a test calls one."""
    rng = random.Random(f"{statistic}/{size}")
    held = wrong = 0
    for world in range(worlds):
        new, old = sample(rng, RATIO, size), sample(rng, 1, size)
        found = effect_interval(statistic, new, old, 1 - LEVEL, f"{world}", ratio=True, paired=False)
        held += found is not None and found.low <= RATIO <= found.high
        p = p_value(statistic, sample(rng, 1, size), sample(rng, 1, size), f"{world}", paired=False)
        wrong += p is not None and p < LEVEL
    return held / worlds, wrong / worlds


def over_points(statistic: Statistic, size: int, worlds: int) -> tuple[float, float]:
    """The same over all points at once."""
    rng = random.Random(f"{statistic}/{size}/points")
    held = wrong = 0
    for world in range(worlds):
        there: list[Stratum] = [(sample(rng, RATIO * scale, size), sample(rng, scale, size)) for scale in POINTS]
        found = overall_interval(statistic, there, 1 - LEVEL, f"{world}", ratio=True, paired=False)
        held += found is not None and found.low <= RATIO <= found.high
        alike: list[Stratum] = [(sample(rng, scale, size), sample(rng, scale, size)) for scale in POINTS]
        wrong += overall_p(statistic, alike, f"{world}", paired=False) < LEVEL
    return held / worlds, wrong / worlds


def _worlds(worlds: int, points: int) -> int:
    """Several points cost more: fewer of them."""
    return worlds if points == 1 else max(30, worlds // 2)


def main() -> None:
    parser = argument_parser(__doc__ or "")
    parser.add_argument(
        "--worlds", type=int, default=300, help="simulated experiments of each kind (default: %(default)s)"
    )
    options = parser.parse_args()
    worlds = 60 if options.quick else options.worlds
    facts = machine_facts()
    results: dict[str, dict[str, float]] = {}
    print(
        f"{'statistic':9} {'repetitions':>11} {'points':>6} {'interval holds':>14} {'test wrong':>10}   of {worlds} experiments"
    )
    for statistic in STATISTICS:
        for size in REPETITIONS:
            for points, ask in ((1, at_one_point), (len(POINTS), over_points)):
                held, wrong = ask(statistic, size, _worlds(worlds, points))
                results[f"{statistic}/{size}/{points}"] = {"interval_holds": held, "test_wrong": wrong}
                print(f"{statistic:9} {size:11} {points:6} {held:14.1%} {wrong:10.1%}", flush=True)
    counted = sum(_worlds(worlds, points) for points in (1, len(POINTS))) * len(REPETITIONS) * len(STATISTICS)
    doubt = 3 * math.sqrt(LEVEL * (1 - LEVEL) / counted)
    bars = [
        Bar(
            "share of tests that are wrong, over all rows",
            statistics.mean(row["test_wrong"] for row in results.values()),
            LEVEL + doubt,
            at_least=False,
        ),
        Bar(
            "share of intervals of medians that hold the truth, over all rows",
            statistics.mean(row["interval_holds"] for name, row in results.items() if name.startswith("median")),
            1 - LEVEL - doubt,
        ),
    ]
    finish("interval_coverage", options, facts, results, bars)


if __name__ == "__main__":
    main()
