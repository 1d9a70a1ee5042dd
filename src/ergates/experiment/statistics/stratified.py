"""All points of the other axes at once: is darc lower than fcfs, whatever the load, and by how much?

Five repetitions at one load say little; at each of five loads they say a lot. Labels are handed out anew within each point only,
so that a difference between loads is never taken for one between policies. What is summed over the points is free of their scale:
ranks within the point (van Elteren's test), or, for means, differences over the mean of the point.

Source: P. van Elteren, "On the Combination of Independent Two-Sample Tests of Wilcoxon", Bulletin of the International
Statistical Institute 37, 1960. We draw 12,999 ways to hand out the labels instead of trusting the normal distribution.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ergates.experiment.statistics.bootstrap import RESAMPLES as DRAWN
from ergates.experiment.statistics.bootstrap import Interval, Statistic, generator_of
from ergates.experiment.statistics.significance import RESAMPLES as RELABELLED

if TYPE_CHECKING:
    import numpy

    FloatArray = numpy.ndarray[Any, numpy.dtype[numpy.float64]]

Stratum = tuple[Sequence[float], Sequence[float]]
"""At one point: values and baseline, neither empty; of the same length when paired."""
INTERVAL_LEAST = 3
"""Repetitions at each point from which the interval is given: with fewer the draws at one point hardly differ."""


def overall_size(statistic: Statistic, strata: Sequence[Stratum], *, ratio: bool) -> float:
    """Geometric mean of the ratios of the points, or mean of the differences."""
    import numpy

    measured = getattr(numpy, statistic)
    pairs = [(float(measured(new)), float(measured(old))) for new, old in strata]
    if ratio:
        return math.exp(math.fsum(math.log(new / old) for new, old in pairs) / len(pairs))
    return math.fsum(new - old for new, old in pairs) / len(pairs)


def overall_interval(
    statistic: Statistic, strata: Sequence[Stratum], confidence: float, seed: str, *, ratio: bool, paired: bool
) -> Interval | None:
    """Percentile bootstrap of `overall_size`, drawn within each point; None for extremes and for few repetitions."""
    import numpy

    if statistic in ("min", "max") or min(min(len(new), len(old)) for new, old in strata) < INTERVAL_LEAST:
        return None
    measured, generator = getattr(numpy, statistic), generator_of(f"{seed}/overall")
    total = numpy.zeros(DRAWN)
    for new, old in strata:
        a, b = numpy.asarray(new, dtype=float), numpy.asarray(old, dtype=float)
        drawn_a = generator.integers(0, len(a), (DRAWN, len(a)))
        drawn_b = drawn_a if paired else generator.integers(0, len(b), (DRAWN, len(b)))
        top, bottom = measured(a[drawn_a], axis=1), measured(b[drawn_b], axis=1)
        total += numpy.log(top / bottom) if ratio else top - bottom
    effects = numpy.exp(total / len(strata)) if ratio else total / len(strata)
    tail = (1 - confidence) / 2
    low, high = numpy.quantile(effects, [tail, 1 - tail])
    return Interval(low=float(low), high=float(high), method="percentile")


def overall_p(statistic: Statistic, strata: Sequence[Stratum], seed: str, *, paired: bool) -> float:
    """Two-sided; never 0. `mean` compares means, everything else ranks within the point."""
    import numpy

    generator = generator_of(f"{seed}/overall-p")
    ranked = statistic != "mean"
    seen, drawn = 0.0, numpy.zeros(RELABELLED)
    for new, old in strata:
        add = _sign_flips if paired else _relabelled
        here, others = add(numpy.asarray(new, dtype=float), numpy.asarray(old, dtype=float), generator, ranked)
        seen += here
        drawn += others
    slack = 1e-9 * max(1.0, abs(seen))  # sums of the same numbers in another order
    return float((1 + (numpy.abs(drawn) >= abs(seen) - slack).sum()) / (RELABELLED + 1))


def overall_smallest_p(strata: Sequence[Stratum], *, paired: bool) -> float:
    """What the test can show at most."""
    ways = math.prod(2 ** len(new) if paired else math.comb(len(new) + len(old), len(new)) for new, old in strata)
    return max(min(1.0, 2 / ways), 1 / (RELABELLED + 1))


def _relabelled(
    new: FloatArray, old: FloatArray, generator: numpy.random.Generator, ranked: bool
) -> tuple[float, FloatArray]:
    """What is seen at one point, and what other labels would have shown."""
    import numpy
    from scipy import stats

    both = numpy.concatenate([new, old])
    scores = stats.rankdata(both) / (len(both) + 1) if ranked else _scaled(both, both)
    drawn = generator.permuted(numpy.tile(scores, (RELABELLED, 1)), axis=1)
    split = len(new)
    shown = drawn[:, :split].mean(axis=1) - drawn[:, split:].mean(axis=1)
    return float(scores[:split].mean() - scores[split:].mean()), shown


def _sign_flips(
    new: FloatArray, old: FloatArray, generator: numpy.random.Generator, ranked: bool
) -> tuple[float, FloatArray]:
    import numpy
    from scipy import stats

    differences = new - old
    if ranked:
        ranks = stats.rankdata(numpy.abs(differences)) / (len(differences) + 1)
        scores = numpy.sign(differences) * ranks
    else:
        scores = _scaled(differences, numpy.concatenate([new, old]))
    signs = generator.choice([-1.0, 1.0], (RELABELLED, len(scores)))
    return float(scores.mean()), (signs * scores).mean(axis=1)


def _scaled(values: FloatArray, of: FloatArray) -> FloatArray:
    """In units of the mean size at the point."""
    import numpy

    scale = float(numpy.abs(of).mean())
    scaled: FloatArray = values / scale if scale else values
    return scaled
