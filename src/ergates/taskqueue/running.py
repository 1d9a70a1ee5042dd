"""One running attempt as the policy sees it: what it holds, how it grows, whether it is frozen or on its way out."""

from __future__ import annotations

from ergates.taskqueue.launching import AttemptKey
from ergates.taskqueue.memory import Sizing
from ergates.taskqueue.node_settings import NodeSettings

SLOPE_MEMORY_NS = 100_000_000
"""Growth is averaged over about this long: two or three samples, so that one page fault storm is not a trend."""

RATE_MIN_NS = 10_000_000
"""Two samples closer than this tell no rate: the first pages of a process are no ramp."""
SHARE_MIN_NS = 500_000_000


class Running:
    """An attempt that was started and has not ended. Times in ns, sizes in bytes.

    Args:
        key: whose.
        sizing: what is known of its like.
        priority: of its task.
        started_ns: when it was started (or came to the head of its slot's queue).
    """

    __slots__ = (
        "byte_ns", "frozen_since_ns", "frozen_total_ns", "grew_ns", "key", "leaving", "mean", "plateau_from", "priority",
        "reached", "sampled_ns", "short", "sizing", "slope", "started_ns", "used", "variance",
    )  # fmt: skip

    def __init__(self, key: AttemptKey, sizing: Sizing, priority: int, started_ns: int, short: bool) -> None:
        self.key, self.sizing, self.priority, self.started_ns, self.short = key, sizing, priority, started_ns, short
        self.used = 0
        self.byte_ns = 0
        """Use summed over the time it ran."""
        self.reached = 0
        self.plateau_from = 0
        self.slope = 0.0
        self.sampled_ns = started_ns
        self.grew_ns = started_ns
        self.frozen_since_ns: int | None = None
        self.frozen_total_ns = 0
        self.leaving = False
        self.mean = 0.0
        self.variance = 0.0

    @property
    def frozen(self) -> bool:
        return self.frozen_since_ns is not None

    def worked_ns(self, now_ns: int) -> int:
        """Time it ran: what is lost when it is given back. Frozen time is no work."""
        frozen_ns = 0 if self.frozen_since_ns is None else now_ns - self.frozen_since_ns
        return max(0, now_ns - self.started_ns - self.frozen_total_ns - frozen_ns)

    def plateau_ns(self, now_ns: int) -> int:
        """How long it has run without growing; a frozen attempt's plateau does not lengthen."""
        until_ns = now_ns if self.frozen_since_ns is None else self.frozen_since_ns
        return max(0, until_ns - self.grew_ns)

    def sampled(self, used: int, now_ns: int, settings: NodeSettings) -> None:
        """Take in one sample; learn a plateau that has just ended."""
        elapsed_ns = now_ns - self.sampled_ns
        if elapsed_ns > 0 and not self.frozen:
            rate = (used - self.used) / max(elapsed_ns, RATE_MIN_NS)
            weight = min(1.0, elapsed_ns / SLOPE_MEMORY_NS)
            # Rising is believed at once, falling only as it lasts: a ramp seen late costs more than one seen too long.
            self.slope = rate if rate > self.slope else self.slope + (rate - self.slope) * weight
        if not self.frozen:
            self.byte_ns += max(0, elapsed_ns) * (self.used + used) // 2
        self.sampled_ns = now_ns
        self.used = used
        if used > self.plateau_from + max(settings.growth_worth_noting_bytes, self.plateau_from // 50):
            plateau_ns = now_ns - self.grew_ns - elapsed_ns
            if plateau_ns > 0 and self.plateau_from > 0:
                self.sizing.plateau_passed(plateau_ns)
            self.plateau_from = used
            self.grew_ns = now_ns
        if used > self.reached:
            # Tell the history in steps of 5 %: it rebuilds its distribution for each.
            if used > 1.05 * self.reached or used - self.reached > settings.growth_worth_noting_bytes * 8:
                self.sizing.reached(used, now_ns)
            self.reached = used

    def share_of_peak(self, now_ns: int) -> float | None:
        """Average use over peak; None when too few samples tell."""
        worked_ns = self.worked_ns(now_ns)
        if self.reached <= 0 or worked_ns < SHARE_MIN_NS:
            return None
        return self.byte_ns / worked_ns / self.reached

    def freeze(self, now_ns: int) -> None:
        self.frozen_since_ns = now_ns

    def thaw(self, now_ns: int) -> None:
        assert self.frozen_since_ns is not None
        frozen_ns = now_ns - self.frozen_since_ns
        self.frozen_total_ns += frozen_ns
        self.grew_ns += frozen_ns
        self.frozen_since_ns = None
        self.sampled_ns = now_ns

    def forecast_demand(self, now_ns: int) -> None:
        """Refresh mean and variance of the peak it is heading for."""
        age_ns = self.worked_ns(now_ns)
        self.mean, self.variance = self.sizing.demand(self.used, self.reached, self.plateau_ns(now_ns), age_ns, now_ns)
