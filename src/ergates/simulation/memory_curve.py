"""How much memory a task uses as its work goes on: straight lines between points. Ramps, plateaus, spikes are all this.

A curve is over *work*, in nanoseconds of undisturbed running: a frozen task stands still on it, one that shares a core
moves slower.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise

from ergates.units import Bytes, Nanoseconds


class MemoryCurve:
    """Piecewise linear use.

    Args:
        points: (work in ns, bytes), starting at work 0, strictly rising in work; the last one is the end.
    """

    __slots__ = ("levels", "peak_bytes", "slopes", "works")

    def __init__(self, points: Sequence[tuple[int, int]]) -> None:
        assert len(points) >= 2 and points[0][0] == 0, "a curve begins at work 0 and has an end"
        self.works = [work for work, _ in points]
        self.levels = [level for _, level in points]
        assert all(before < after for before, after in pairwise(self.works)), "points go on in work"
        assert min(self.levels) >= 0
        self.slopes = [(b - a) / (after - before) for (before, a), (after, b) in pairwise(points)]
        self.peak_bytes = Bytes(max(self.levels))

    @property
    def work_ns(self) -> Nanoseconds:
        """How long it runs when nobody disturbs it."""
        return Nanoseconds(self.works[-1])

    def segment_at(self, work: float) -> int:
        """Number of the straight line that `work` lies on (the one that begins there, at a point)."""
        return min(max(bisect_right(self.works, work) - 1, 0), len(self.slopes) - 1)

    def at(self, work: float) -> float:
        """Bytes in use after so much work; 0 once it has ended."""
        if work >= self.works[-1]:
            return 0.0 if work > self.works[-1] else float(self.levels[-1])
        segment = self.segment_at(work)
        return self.levels[segment] + self.slopes[segment] * (work - self.works[segment])

    def byte_ns(self) -> float:
        """Area under the curve."""
        return sum(
            (after - before) * (low + high) / 2
            for before, after, low, high in zip(self.works, self.works[1:], self.levels, self.levels[1:], strict=False)
        )
