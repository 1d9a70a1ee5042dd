"""The one place that reads the time.

Wall time here never goes back within a process: it is read once and then carried by CLOCK_BOOTTIME, so an
administrator who sets the clock back cannot make a lease longer or a retry wait for an hour.
"""

from __future__ import annotations

import time
from typing import Protocol

from ergates.units import Nanoseconds


class Clock(Protocol):
    """Where shells get `now_ns`; policies are only ever handed it."""

    def now_ns(self) -> Nanoseconds:
        """Nanoseconds since 1970 that never decrease within this process."""
        ...


class SystemClock:
    """Wall time at start-up plus the time since, suspended time included."""

    def __init__(self) -> None:
        self._offset_ns = time.time_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME)

    def now_ns(self) -> Nanoseconds:
        return Nanoseconds(self._offset_ns + time.clock_gettime_ns(time.CLOCK_BOOTTIME))


class ManualClock:
    """A clock that tests and simulations set by hand."""

    def __init__(self, now_ns: int = 0) -> None:
        self.time_ns = now_ns

    def now_ns(self) -> Nanoseconds:
        return Nanoseconds(self.time_ns)

    def advance(self, duration_ns: int) -> None:
        self.time_ns += duration_ns
