"""May one more task start? Only while the *joint* peak of all that run stays likely to fit.

Each running attempt is heading for a peak that is known as a mean and a variance, given what it has reached and how long
it has stood there. Independent peaks add up: means to a mean, variances to a variance. The more tasks run, the less
they need beyond their mean, which is why many tasks of unknown size pack better than the sum of their worst cases. Tails heavier
than the normal one are left to the ladder (`eviction.py`), whose first steps are cheap.

How cheap differs from work to work, so how much is promised follows what it costs: a little more with each attempt
that ends, less with each that is given back, as a network sender finds its rate.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Protocol

from ergates.taskqueue.node_settings import NodeSettings

BACK_OFF_EVERY_NS = 2_000_000_000


class Promise(Protocol):
    """Memory that is spoken for: what it will come to, as mean and variance, and what is used of it."""

    @property
    def mean(self) -> float: ...
    @property
    def variance(self) -> float: ...
    @property
    def used(self) -> int: ...


class Admission:
    """Running sums over what is admitted. All in bytes (variances in bytes²)."""

    __slots__ = (
        "_backed_off_ns",
        "_settings",
        "_useful_ns",
        "_wasted_ns",
        "capacity_bytes",
        "level",
        "mean",
        "open",
        "other_bytes",
        "variance",
    )

    def __init__(self, capacity_bytes: int, settings: NodeSettings) -> None:
        self.capacity_bytes = capacity_bytes
        self._settings = settings
        self.other_bytes = 0.0
        """Used by what is not one of our attempts."""
        self.mean = 0.0
        self.variance = 0.0
        self.level = settings.admit_fraction
        """Share of the capacity that is promised; above 1 once that has proved to cost little."""
        self._useful_ns = self._wasted_ns = 0.0
        self._backed_off_ns = 0
        self.open = True
        """False while the ladder is on any of its steps."""

    def fits(self, mean: float, variance: float) -> bool:
        """Whether a task with this demand may join."""
        return self.open and self._joint(mean, variance) <= self.level * self.capacity_bytes

    def count_that_fits(self, mean: float, variance: float, most: int) -> int:
        """How many tasks with this demand may join at once, `most` at most."""
        if not self.open:
            return 0
        limit = self.level * self.capacity_bytes
        low, high = 0, most
        while low < high:
            middle = (low + high + 1) // 2
            if self._joint(mean * middle, variance * middle) <= limit:
                low = middle
            else:
                high = middle - 1
        return low

    def work_done(self, worked_ns: int) -> None:
        """An attempt ended by itself: while little is wasted, promise a little more."""
        self._useful_ns += worked_ns
        if self._wasted_ns <= self._settings.waste_accepted * self._useful_ns:
            self.level = min(self._settings.admit_fraction_max, self.level + self._settings.admit_step)

    def work_lost(self, worked_ns: int, now_ns: int) -> None:
        """An attempt was given back for memory: promise less, once for all that go back together."""
        self._wasted_ns += worked_ns
        too_much = self._wasted_ns > self._settings.waste_accepted * self._useful_ns
        if too_much and now_ns - self._backed_off_ns > BACK_OFF_EVERY_NS:
            self._backed_off_ns = now_ns
            self.level = max(self._settings.admit_fraction_min, self.level * self._settings.admit_backoff)

    def add(self, attempt: Promise) -> None:
        self.mean += attempt.mean
        self.variance += attempt.variance

    def remove(self, attempt: Promise) -> None:
        self.mean = max(0.0, self.mean - attempt.mean)
        self.variance = max(0.0, self.variance - attempt.variance)

    def recount(self, attempts: Iterable[Promise], used_bytes: int) -> None:
        """Start the sums afresh from one sample; rounding does not pile up."""
        self.mean = self.variance = 0.0
        ours = 0
        for attempt in attempts:
            self.add(attempt)
            ours += attempt.used
        self.other_bytes = max(0.0, float(used_bytes - ours))

    def _joint(self, mean: float, variance: float) -> float:
        spread = math.sqrt(self.variance + variance)
        return self.other_bytes + self.mean + mean + self._settings.risk_sigmas * spread
