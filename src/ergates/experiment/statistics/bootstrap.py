"""How far a figure might lie from what was measured: draw the repetitions again, with replacement, ten thousand times, and look.

For the mean the interval is BCa (bias-corrected and accelerated); for the median the plain percentile interval, because the
jackknife by which BCa finds its acceleration is not consistent for quantiles. For the lowest and the highest there is none: the
bootstrap does not hold for extremes.

Source: B. Efron, "Better Bootstrap Confidence Intervals", JASA 82, 1987; B. Efron, R. Tibshirani, "An Introduction to the
Bootstrap", 1993, chapters 11, 13, 14; P. J. Bickel, D. A. Freedman, "Some Asymptotic Theory for the Bootstrap", Annals of
Statistics 9, 1981.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from msgspec import Struct

if TYPE_CHECKING:
    import numpy

    FloatArray = numpy.ndarray[Any, numpy.dtype[numpy.float64]]

Statistic = Literal["mean", "median", "min", "max"]
Method = Literal["BCa", "percentile"]

RESAMPLES = 9_999
_BATCH_NUMBERS = 2_000_000
"""Drawn at a time: 16 MB."""


class Interval(Struct, frozen=True, kw_only=True):
    """`low` <= `high`; `method` by which they were found."""

    low: float
    high: float
    method: Method


def statistic_of(name: Statistic, values: Sequence[float]) -> float:
    """What stands for the repetitions; `values` is not empty."""
    import numpy

    return float(getattr(numpy, name)(numpy.asarray(values, dtype=float)))


def interval_of(statistic: Statistic, values: Sequence[float], confidence: float, seed: str) -> Interval | None:
    """Of the statistic of one sample; None where there is none: extremes, fewer than two values."""
    import numpy

    measured = _averaging(statistic)
    return _interval((numpy.asarray(values, dtype=float),), measured, statistic, confidence, seed, paired=False)


def effect_interval(
    statistic: Statistic,
    values: Sequence[float],
    baseline: Sequence[float],
    confidence: float,
    seed: str,
    *,
    ratio: bool,
    paired: bool,
) -> Interval | None:
    """Of statistic(values) / statistic(baseline), or of their difference.

    Args:
        statistic: of which.
        values: one sample.
        baseline: the other.
        confidence: 0 to 1, both not included.
        seed: any text; the same text draws the same numbers.
        ratio: only where all values are above 0.
        paired: values[i] and baseline[i] are drawn together; both have the same length.
    """
    import numpy

    measured = _averaging(statistic)

    def effect(new: FloatArray, old: FloatArray, axis: int = -1) -> FloatArray:
        a, b = measured(new, axis=axis), measured(old, axis=axis)
        found: FloatArray = a / b if ratio else a - b
        return found

    samples = (numpy.asarray(values, dtype=float), numpy.asarray(baseline, dtype=float))
    return _interval(samples, effect, statistic, confidence, seed, paired=paired)


def generator_of(seed: str) -> numpy.random.Generator:
    """A named stream, so that a further axis value or measure does not change the intervals of the others."""
    import numpy

    return numpy.random.default_rng(int.from_bytes(hashlib.sha256(seed.encode()).digest()[:16], "big"))


def _averaging(statistic: Statistic) -> Callable[..., Any]:
    import numpy

    measured: Callable[..., Any] = getattr(numpy, statistic)
    return measured


def _interval(
    samples: tuple[FloatArray, ...],
    measured: Callable[..., Any],
    statistic: Statistic,
    confidence: float,
    seed: str,
    *,
    paired: bool,
) -> Interval | None:
    if statistic in ("min", "max") or min(map(len, samples)) < 2:
        return None
    if all((sample == sample[0]).all() for sample in samples):  # nothing to draw: it is what it is
        value = float(measured(*samples))
        return Interval(low=value, high=value, method="percentile")
    methods: tuple[Method, ...] = ("BCa", "percentile") if statistic == "mean" else ("percentile",)
    for method in methods:
        low, high = _drawn(samples, measured, method, confidence, seed, paired=paired)
        if low <= high:  # not so when BCa found no acceleration and gave nan
            return Interval(low=low, high=high, method=method)
    return None


def _drawn(
    samples: tuple[FloatArray, ...],
    measured: Callable[..., Any],
    method: Method,
    confidence: float,
    seed: str,
    *,
    paired: bool,
) -> tuple[float, float]:
    from scipy import stats

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a degenerate jackknife: the answer is nan, and the caller looks
        found = stats.bootstrap(
            samples,
            measured,
            n_resamples=RESAMPLES,
            batch=max(1, _BATCH_NUMBERS // max(map(len, samples))),
            vectorized=True,
            paired=paired,
            confidence_level=confidence,
            method=method,
            rng=generator_of(seed),
        )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)
