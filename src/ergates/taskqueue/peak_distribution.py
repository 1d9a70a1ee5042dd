"""How high a task of some shape climbs, as a distribution, from runs that ended and runs that have not yet.

A run that ended tells its peak. One that still runs (or was given back) only tells that its peak is *at least* what
it reached. Leaving those out would be optimistic: small tasks end first. The Kaplan-Meier product-limit estimator
uses both kinds. One imagined run beyond everything seen keeps few samples cautious; its weight is 1 / (n + 1).

Source: Kaplan and Meier, "Nonparametric estimation from incomplete observations", 1958.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable


class PeakDistribution:
    """Sorted peaks with their probabilities; questions are answered in O(log n).

    Args:
        ended: peaks of runs that ended, > 0.
        reached: what unfinished runs reached so far, > 0.
        imagined: peak of the imagined largest run, used when it is above everything seen.
        known: how many runs' worth is known, which says how far beyond the highest the imagined one lies; None: the
            number of runs that ended.
    """

    __slots__ = ("_above_mass", "_above_mean", "_above_square", "ended_count", "peaks", "reached_count")

    def __init__(
        self, ended: Iterable[float], reached: Iterable[float], imagined: float, known: float | None = None
    ) -> None:
        # At equal values a run that ended comes before one that only reached it: it was still at risk there.
        runs = sorted([(peak, 0) for peak in ended] + [(peak, 1) for peak in reached])
        self.ended_count = sum(1 for _, unfinished in runs if not unfinished)
        self.reached_count = len(runs) - self.ended_count
        peaks: list[float] = []
        masses: list[float] = []
        survival = 1.0
        at_risk = len(runs) + 1
        for peak, unfinished in runs:
            if not unfinished:
                mass = survival / at_risk
                survival -= mass
                peaks.append(peak)
                masses.append(mass)
            at_risk -= 1
        highest = runs[-1][0] if runs else 0.0
        certainty = self.ended_count if known is None else known
        peaks.append(max(imagined, highest * (1.0 + 1.0 / math.sqrt(certainty + 1))))
        masses.append(survival)
        self.peaks = peaks
        self._sum_up(masses)

    def _sum_up(self, masses: list[float]) -> None:
        count = len(masses)
        self._above_mass = [0.0] * (count + 1)
        self._above_mean = [0.0] * (count + 1)
        self._above_square = [0.0] * (count + 1)
        for index in range(count - 1, -1, -1):
            weighted = masses[index] * self.peaks[index]
            self._above_mass[index] = self._above_mass[index + 1] + masses[index]
            self._above_mean[index] = self._above_mean[index + 1] + weighted
            self._above_square[index] = self._above_square[index + 1] + weighted * self.peaks[index]

    def beyond(self, reached: float) -> tuple[float, float]:
        """Mean and variance of the peak, given that it is at least `reached`."""
        index = bisect_left(self.peaks, reached)
        mass = self._above_mass[index]
        if mass <= 0.0:
            return reached * 1.1, (0.1 * reached) ** 2
        mean = self._above_mean[index] / mass
        return mean, max(0.0, self._above_square[index] / mass - mean * mean)

    def quantile(self, fraction: float, reached: float = 0.0) -> float:
        """Smallest peak that at least `fraction` of the runs that reach `reached` stay at or under."""
        first = bisect_left(self.peaks, reached)
        if first == len(self.peaks):
            return reached * 1.1
        allowed = (1.0 - fraction) * self._above_mass[first] + 1e-12
        low, high = first, len(self.peaks) - 1
        while low < high:  # mass strictly above peaks[i] is _above_mass[i + 1], decreasing
            middle = (low + high) // 2
            if self._above_mass[middle + 1] <= allowed:
                high = middle
            else:
                low = middle + 1
        return self.peaks[low]

    def exceedance(self, size: float) -> float:
        """Probability that the peak is above `size`."""
        return self._above_mass[bisect_right(self.peaks, size)]
