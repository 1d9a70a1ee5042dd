"""Does a number of the command, or the size of its input, explain how much memory it needs?

Candidates are fitted robustly (Theil and Sen's median of slopes) on half of the runs and judged on the other half, both ways
round. A fit is used only when it beats "they are all alike" clearly; a random seed does not. Straight lines
(a base plus so many bytes per unit) and power laws (log against log) compete.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

FEWEST_RUNS = 10
MOST_POINTS = 48
"""Newest runs used: 48 points have 1,128 slopes, under a millisecond to sort."""
MUST_IMPROVE_TO = 0.7
"""Typical error of the fit over that of no fit, at most this. Found by trial: seeds pass in under 1 % of shapes."""


@dataclass(frozen=True, slots=True)
class SizeFit:
    """Peak as a function of one feature: `intercept + slope * x`, on logarithms when `power`."""

    feature: int
    power: bool
    intercept: float
    slope: float
    lowest: float
    highest: float
    """Features seen. Beyond twice or under half of them the fit is not carried on."""

    def typical_peak(self, features: Sequence[float]) -> float | None:
        """The typical peak for these features, None when the feature is missing."""
        if self.feature >= len(features) or features[self.feature] <= 0:
            return None
        at = min(max(features[self.feature], self.lowest / 2), self.highest * 2)
        if self.power:
            return math.exp(self.intercept + self.slope * math.log(at))
        return max(self.intercept + self.slope * at, 1.0)

    def __str__(self) -> str:
        return f"{'a power of ' if self.power else ''}feature {self.feature}"


Run = tuple[tuple[float, ...], float]
"""(features, peak in bytes) of a run that ended."""


def fit_sizes(runs: Sequence[Run]) -> SizeFit | None:
    """The best fit when one explains the peaks, else None ("all alike")."""
    best: SizeFit | None = None
    best_share = MUST_IMPROVE_TO
    for feature in range(max((len(features) for features, _ in runs), default=0)):
        recent = [run for run in runs if feature < len(run[0]) and run[0][feature] > 0][-MOST_POINTS:]
        points = [(features[feature], peak) for features, peak in recent]
        if len(points) < FEWEST_RUNS or len({x for x, _ in points}) < 3:
            continue
        middle = median(peak for _, peak in recent)
        plain_error = median(abs(math.log(peak / middle)) for _, peak in recent)
        for power in (True, False):
            fit = _fit(points, feature, power)
            if fit is None or _typical_error(recent, fit.typical_peak) >= best_share * plain_error:
                continue
            error = _crossed_error(recent, points, feature, power)
            if error < best_share * plain_error:
                best, best_share = fit, error / plain_error
    return best


def _crossed_error(runs: Sequence[Run], points: Sequence[tuple[float, float]], feature: int, power: bool) -> float:
    errors = []
    for half in (0, 1):
        fit = _fit(points[half::2], feature, power)
        if fit is None:
            return math.inf
        errors += _errors(runs[1 - half :: 2], fit.typical_peak)
    return median(errors)


def _fit(points: Sequence[tuple[float, float]], feature: int, power: bool) -> SizeFit | None:
    curve = [(math.log(x), math.log(y)) for x, y in points] if power else list(points)
    slopes = sorted((y2 - y1) / (x2 - x1) for i, (x1, y1) in enumerate(curve) for x2, y2 in curve[i + 1 :] if x1 != x2)
    if not slopes:
        return None
    slope = slopes[len(slopes) // 2]
    intercept = median(y - slope * x for x, y in curve)
    xs = [x for x, _ in points]
    return SizeFit(feature, power, intercept, slope, min(xs), max(xs))


def _typical_error(runs: Sequence[Run], predict: Callable[[tuple[float, ...]], float | None]) -> float:
    return median(_errors(runs, predict))


def _errors(runs: Sequence[Run], predict: Callable[[tuple[float, ...]], float | None]) -> list[float]:
    """|log(peak / predicted)| of each run."""
    found = []
    for features, peak in runs:
        predicted = predict(features)
        found.append(math.inf if predicted is None else abs(math.log(peak / predicted)))
    return found
