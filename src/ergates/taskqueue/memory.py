"""What a task's memory peak will be, learned by running its like. Nobody declares anything.

Each task has two histories: of its exact command shape, and of the shape with its words left out. The exact one answers as
soon as it has seen four runs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from ergates.cluster.task import TaskSpec
from ergates.taskqueue.node_settings import NodeSettings
from ergates.taskqueue.peak_history import PeakHistory, Prediction, TaskKey
from ergates.taskqueue.shape import shape_of
from ergates.taskqueue.store import PastPeak
from ergates.units import Bytes, Nanoseconds

ENOUGH_RUNS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class PastRun:
    """One attempt that ended by itself, as predictors learn it."""

    spec: TaskSpec
    peak_bytes: Bytes
    wall_ns: Nanoseconds


class PeakPredictor(Protocol):
    """One number per task; what predictors are compared by (see `rivals/`)."""

    def allocate(self, spec: TaskSpec) -> Bytes:
        """How much memory to set aside for the first attempt."""
        ...

    def learn(self, run: PastRun) -> None:
        """A task ended with this peak."""
        ...


class Sizing:
    """One task's view of what is known.

    Args:
        task: whose.
        fine, coarse: histories of its shape, and of the shape without its words when that differs.
        features: size of its input (0 when unknown), then the numbers of its command.
        floor: bytes it gets at least: declared, or raised when it was given back.
        reached_before: bytes an earlier attempt of it had reached; 0 for a first attempt.
    """

    __slots__ = ("coarse", "features", "fine", "floor", "reached_before", "task")

    def __init__(
        self,
        task: TaskKey,
        fine: PeakHistory,
        coarse: PeakHistory | None,
        features: tuple[float, ...],
        floor: int = 0,
        reached_before: int = 0,
    ) -> None:
        self.task, self.fine, self.coarse, self.features = task, fine, coarse, features
        self.floor, self.reached_before = floor, reached_before

    def history(self) -> PeakHistory:
        """The exact shape's once it has four runs, or when the coarse one knows no more."""
        if self.coarse is None or self.fine.ended >= ENOUGH_RUNS or self.coarse.ended == self.fine.ended:
            return self.fine
        return self.coarse

    def demand(self, used: int, reached: int, plateau_ns: int, age_ns: int, now_ns: int) -> tuple[float, float]:
        """Mean and variance (bytes, bytes²) of what an attempt will use for the rest of its life.

        It uses `used` now and `reached` at most so far, has run for `age_ns` and not grown for `plateau_ns`.
        """
        history = self.history()
        scale = history.scale(self.features)
        least = max(reached, self.reached_before, 1)
        mean, variance = history.distribution(now_ns).beyond(least / scale)
        mean, variance = max(mean * scale, self.floor), variance * scale * scale
        settled = history.settled(plateau_ns, age_ns) if reached >= self.reached_before else 0.0
        if settled > 0.0:
            growth = mean - reached
            mean = reached + (1 - settled) * growth
            variance = (1 - settled) * (variance + settled * growth * growth)
            if mean < self.floor and not self.reached_before:
                mean = float(self.floor)  # a declared floor holds to the end; a raised one is only our guess
        # They do not all stand at their peaks at once: of the way that is left, count the part that is used on average.
        share = history.share
        way = max(0.0, mean - used)
        return used + share * way, share * share * variance + share * (1 - share) * way * way / 3

    def predict(self, now_ns: int) -> Prediction:
        return self.history().predict(self.features, max(self.floor, self.reached_before), now_ns)

    def began(self, now_ns: int) -> None:
        self.fine.began(now_ns)
        if self.coarse is not None:
            self.coarse.began(now_ns)

    def reached(self, reached: int, now_ns: int) -> None:
        self.fine.reached(self.task, self.features, reached, now_ns)
        if self.coarse is not None:
            self.coarse.reached(self.task, self.features, reached, now_ns)

    def plateau_passed(self, length_ns: int) -> None:
        self.fine.plateau_passed(length_ns)
        if self.coarse is not None:
            self.coarse.plateau_passed(length_ns)

    def ended(self, peak: int, wall_ns: int, plateau_ns: int, now_ns: int) -> None:
        self.fine.ended_run(self.task, self.features, peak, wall_ns, plateau_ns, now_ns)
        if self.coarse is not None:
            self.coarse.ended_run(self.task, self.features, peak, wall_ns, plateau_ns, now_ns)

    def share_seen(self, share: float) -> None:
        self.fine.share_seen(share)
        if self.coarse is not None:
            self.coarse.share_seen(share)


class MemoryModel:
    """All shapes seen by this worker.

    Args:
        capacity_bytes: of the node; a never seen task is guessed to need a share of it.
        settings: of the node.
    """

    MOST_SHAPES = 4096

    def __init__(self, capacity_bytes: int, settings: NodeSettings) -> None:
        self._capacity_bytes = capacity_bytes
        self._settings = settings
        self._histories: dict[str, PeakHistory] = {}

    def sizing(self, task: TaskKey, spec: TaskSpec, reached_before: int = 0) -> Sizing:
        """What is known of this task; `reached_before` is what an earlier attempt of it had reached."""
        shape = shape_of(spec)
        fine = self._history(shape.fine)
        coarse = None if shape.coarse == shape.fine else self._history(f"{shape.coarse} (any words)")
        features = (float(spec.input_bytes or 0), *shape.numbers)
        return Sizing(task, fine, coarse, features, spec.requirement.memory_bytes, reached_before)

    def recall(self, peaks: Iterable[PastPeak]) -> None:
        """Start from what earlier runs remembered, oldest first. Numbers of the commands were not kept."""
        for peak in peaks:
            features = (float(max(peak.input_bytes, 0)),)
            self._history(peak.shape).ended_run(("", 0), features, peak.peak_bytes, peak.wall_ns, 0, 0)

    def learned(self) -> list[PastPeak]:
        """What ended since the last call, at most 256 of each shape, oldest first within a shape."""
        return [peak for history in self._histories.values() for peak in history.take_news()]

    def _history(self, name: str) -> PeakHistory:
        history = self._histories.get(name)
        if history is None:
            if len(self._histories) >= self.MOST_SHAPES:  # forget the oldest shape; attempts that hold it go on
                del self._histories[next(iter(self._histories))]
            history = self._histories[name] = PeakHistory(name, self._capacity_bytes, self._settings)
        return history
