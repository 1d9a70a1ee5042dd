"""How an experiment stands: what is finished, what failed and why, what runs, and an estimate of what is left. Pure records.

Whoever conducts writes it into the folder after each change; `erg experiment status` reads that one small file.
"""

from __future__ import annotations

from msgspec import Struct

from ergates.experiment.layout import shown_value
from ergates.experiment.run import Run
from ergates.units import Nanoseconds

ESTIMATE_AFTER = 2
"""Runs that have to end before how long the others take can be guessed."""


class FailedRun(Struct, frozen=True, kw_only=True):
    """A run whose figures do not count, and why."""

    number: int
    name: str
    problem: str


class Standing(Struct, frozen=True, kw_only=True):
    """Args:
    name: of the experiment.
    total: runs that are asked for.
    finished: those whose figures count.
    failed: those that failed for good.
    running: what runs now, by name.
    elapsed_ns: since this start.
    left_ns: an estimate of what is still needed; None while nothing can be said.
    at_ns: when this was written.
    """

    name: str
    total: int
    finished: int
    failed: tuple[FailedRun, ...] = ()
    running: tuple[str, ...] = ()
    elapsed_ns: int = 0
    left_ns: int | None = None
    at_ns: int = 0

    @property
    def ended(self) -> int:
        return self.finished + len(self.failed)

    @property
    def waiting(self) -> int:
        return max(0, self.total - self.ended - len(self.running))


def estimated_left_ns(ended_now: int, elapsed_ns: int, left: int) -> Nanoseconds | None:
    """As fast as since the start of this process.

    Args:
        ended_now: runs that ended since then.
        elapsed_ns: how long that took, without what it took to raise hosts.
        left: runs that have not ended.
    """
    if not left:
        return Nanoseconds(0)
    return Nanoseconds(elapsed_ns * left // ended_now) if ended_now >= ESTIMATE_AFTER else None


def run_name(run: Run) -> str:
    """`policy=darc load=0.5 #2`, as messages name it."""
    return " ".join([*(f"{name}={shown_value(value)}" for name, value in run.point), f"#{run.repetition}"])
