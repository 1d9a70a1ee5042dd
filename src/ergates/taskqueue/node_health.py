"""A sick node told apart from poison tasks: when nearly nothing works here that works elsewhere, the node rests.

A poison task fails wherever it goes; a sick node (its disk gone, its libraries missing, its GPU hung) fails whatever
comes. So a single command that fails again and again says nothing about the node. Two things do:

- several *different* commands in a row could not be started, or took their slot down with them;
- of its latest attempts nearly all failed within moments, of several different commands, while the other nodes of the
  same store fail seldom.

A resting node takes no work. After a while it tries one task; one that succeeds ends the rest, another failure doubles it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Literal

from ergates.cluster.attempt import Outcome
from ergates.units import SECOND_NS, Nanoseconds, format_duration

Condition = Literal["well", "resting", "trying"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthSettings:
    """When a node counts as sick.

    Args:
        broken_in_a_row: so many attempts that could not be started, or lost their slot, one after another, ...
        broken_shapes: ... of so many different commands.
        latest: so many attempts are looked back on for quick failures.
        latest_failed_fraction: share of them that failed quickly.
        quick_ns: a failure after a longer run is the task's own.
        others_enough: attempts of other nodes that must be known to compare with.
        others_failed_fraction: they must fail less than this.
        rest_ns, rest_most_ns: the first rest, doubled each time up to the longest.
    """

    broken_in_a_row: int = 5
    broken_shapes: int = 3
    latest: int = 20
    latest_failed_fraction: float = 0.9
    quick_ns: int = 10 * SECOND_NS
    others_enough: int = 20
    others_failed_fraction: float = 0.5
    rest_ns: int = 60 * SECOND_NS
    rest_most_ns: int = 1800 * SECOND_NS


_BROKEN = frozenset({Outcome.NOT_STARTED, Outcome.LOST})
_FAILED = _BROKEN | {Outcome.FAILED, Outcome.SIGNALLED}
_SAYS_NOTHING = frozenset(
    {Outcome.RETURNED, Outcome.CANCELLED, Outcome.DISK_FULL, Outcome.EVICTED, Outcome.TOO_BIG, Outcome.OOM_KILLED}
)
"""Ends that we, the user or a lack of room caused."""


class NodeHealth:
    """The health of one node."""

    def __init__(self, settings: HealthSettings | None = None) -> None:
        self._settings = settings or HealthSettings()
        self._broken: list[str] = []
        """Shapes of the attempts that broke, one after another, up to now."""
        self._latest: deque[tuple[bool, str]] = deque(maxlen=self._settings.latest)
        """(failed quickly, shape) of the latest attempts."""
        self._rests = 0
        self._until_ns = 0
        self.condition: Condition = "well"
        self.reason = ""
        """In words, unless it is well."""

    def ended(
        self,
        outcome: Outcome,
        shape: str,
        wall_ns: int,
        now_ns: Nanoseconds,
        *,
        others_ended: int = 0,
        others_failed: int = 0,
    ) -> Condition:
        """An attempt ended here.

        Args:
            outcome: of it.
            shape: of its command (`taskqueue/shape.py`).
            wall_ns: how long it ran.
            now_ns: now.
            others_ended: attempts that other nodes of this store have ended.
            others_failed: how many of those failed.
        """
        if outcome in _SAYS_NOTHING:
            return self.condition
        if outcome not in _FAILED:
            self._recovered(outcome)
            return self.condition
        quick = wall_ns < self._settings.quick_ns
        self._latest.append((quick, shape))
        self._broken = [*self._broken, shape][-self._settings.latest :] if outcome in _BROKEN else []
        if self.condition == "trying":
            if quick:
                self._rest(now_ns, "a trial failed, too")
            else:
                self._recovered(outcome)
        elif self.condition == "well":
            reason = self._broken_reason() or self._failing_reason(others_ended, others_failed)
            if reason:
                self._rest(now_ns, reason)
        return self.condition

    def look(self, now_ns: Nanoseconds) -> Condition:
        """Time passes: a rest ends with a trial."""
        if self.condition == "resting" and now_ns >= self._until_ns:
            self.condition = "trying"
        return self.condition

    def next_look_ns(self) -> int | None:
        """When the rest is over; None when it does not rest."""
        return self._until_ns if self.condition == "resting" else None

    def _recovered(self, outcome: Outcome) -> None:
        self._broken.clear()
        if outcome is Outcome.SUCCEEDED:
            self._latest.append((False, ""))
        if self.condition != "well":
            self._latest.clear()
            self.condition, self.reason, self._rests = "well", "", 0

    def _rest(self, now_ns: int, reason: str) -> None:
        rest_ns = min(self._settings.rest_ns << min(self._rests, 16), self._settings.rest_most_ns)
        self._rests += 1
        self._until_ns = now_ns + rest_ns
        self.condition = "resting"
        self.reason = f"sick: {reason}; tries one task in {format_duration(rest_ns)}"
        self._broken.clear()
        self._latest.clear()

    def _broken_reason(self) -> str:
        count, shapes = len(self._broken), len(set(self._broken))
        if count < self._settings.broken_in_a_row or shapes < self._settings.broken_shapes:
            return ""
        return f"{count} attempts in a row, of {shapes} different commands, could not run here"

    def _failing_reason(self, others_ended: int, others_failed: int) -> str:
        settings = self._settings
        failed = [shape for quick, shape in self._latest if quick]
        if len(self._latest) < settings.latest or len(failed) < settings.latest_failed_fraction * settings.latest:
            return ""
        if others_ended < settings.others_enough or others_failed >= settings.others_failed_fraction * others_ended:
            return ""
        if len(set(failed)) < settings.broken_shapes:
            return ""
        elsewhere = f"{others_failed / others_ended:.0%}"
        return f"{len(failed)} of {len(self._latest)} attempts failed at once here, {elsewhere} on other nodes"
