"""Could the difference be chance? If the label (which policy made this run) meant nothing, any other way to hand out the labels
would have been as likely: count how many of them show a difference at least this large.

Means are compared as they are; for medians and extremes the values are replaced by their ranks first, which makes it the test
of Wilcoxon, Mann and Whitney, exact with ties too. Paired repetitions keep their pairs: only the sign of each difference is
handed out anew (on ranks: Wilcoxon's signed ranks). With few repetitions all ways are counted; with many, 12,999 drawn ones,
and the one that was seen counts among them, so that no p is ever 0.

Source: H. B. Mann, D. R. Whitney, Annals of Mathematical Statistics 18, 1947; F. Wilcoxon, Biometrics Bulletin 1, 1945;
B. Phipson, G. K. Smyth, "Permutation P-values Should Never Be Zero", Statistical Applications in Genetics and Molecular
Biology 9, 2010; S. Holm, "A Simple Sequentially Rejective Multiple Test Procedure", Scandinavian Journal of Statistics 6, 1979.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from ergates.experiment.statistics.bootstrap import Statistic, generator_of

if TYPE_CHECKING:
    import numpy

    FloatArray = numpy.ndarray[Any, numpy.dtype[numpy.float64]]

RESAMPLES = 12_999
"""All ways are counted up to 8 repetitions against 8: there are 12,870."""
_BATCH_NUMBERS = 2_000_000
_MOST_REPETITIONS = 30
"""Where the search for enough repetitions ends."""


def p_value(
    statistic: Statistic, values: Sequence[float], baseline: Sequence[float], seed: str, *, paired: bool
) -> float | None:
    """Two-sided; None when a sample has fewer than two values.

    Args:
        statistic: `mean` compares means, everything else ranks.
        values: one sample.
        baseline: the other.
        seed: of the drawn ways, when there are too many to count all.
        paired: values[i] belongs to baseline[i].
    """
    import numpy

    if min(len(values), len(baseline)) < 2:
        return None
    a, b = numpy.asarray(values, dtype=float), numpy.asarray(baseline, dtype=float)
    if paired:
        return _sign_flips(a - b, seed, ranked=statistic != "mean")
    return _relabelled(a, b, seed, ranked=statistic != "mean")


def smallest_p(repetitions: int, baseline: int, *, paired: bool) -> float:
    """What the test can show at most: with 3 repetitions against 3, p is never below 0.1; with a single one nothing is."""
    if min(repetitions, baseline) < 2:
        return 1.0
    ways = 2**repetitions if paired else math.comb(repetitions + baseline, repetitions)
    return min(1.0, 2 / ways)


def repetitions_needed(p: float, *, paired: bool) -> int:
    """How many of each are the least with which `p` can be reached at all."""
    return next(n for n in range(1, _MOST_REPETITIONS) if smallest_p(n, n, paired=paired) < p)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Adjusted for being several, in the order given: the chance that any of those called significant is chance alone stays
    what it was for one. None stays None and does not count.
    """
    order = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for place, (p, i) in enumerate(order):
        highest = max(highest, min(1.0, p * (len(order) - place)))
        adjusted[i] = highest
    return adjusted


def _relabelled(a: FloatArray, b: FloatArray, seed: str, *, ranked: bool) -> float:
    import numpy
    from scipy import stats

    if ranked:
        ranks = stats.rankdata(numpy.concatenate([a, b]))
        a, b = ranks[: len(a)], ranks[len(a) :]
    return _tested((a, b), lambda x, y, axis: x.mean(axis=axis) - y.mean(axis=axis), "independent", seed)


def _sign_flips(differences: FloatArray, seed: str, *, ranked: bool) -> float:
    """Pairs without a difference say nothing about its sign; when ranks are asked for they are left out, as Wilcoxon did."""
    import numpy
    from scipy import stats

    if ranked:
        differences = differences[differences != 0]
        differences = numpy.sign(differences) * stats.rankdata(numpy.abs(differences))
    if len(differences) < 2 or not numpy.any(differences):  # one difference has either sign as likely
        return 1.0
    return _tested((differences,), lambda x, axis: x.mean(axis=axis), "samples", seed)


def _tested(
    samples: tuple[FloatArray, ...],
    measured: Callable[..., Any],
    relabelling: Literal["independent", "samples"],
    seed: str,
) -> float:
    from scipy import stats

    found = stats.permutation_test(
        samples,
        measured,
        permutation_type=relabelling,
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=max(1, _BATCH_NUMBERS // sum(map(len, samples))),
        alternative="two-sided",
        rng=generator_of(seed),
    )
    return min(1.0, float(found.pvalue))
