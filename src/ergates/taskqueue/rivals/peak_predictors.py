"""Predictors of one number per task, to compare by what they waste: Tovar's first allocation, Sizey-like, and ours.

A predictor sets memory aside for the first try. A task that needs more is stopped when it gets there, what it had
set aside until then is wasted, and it is tried again with more. `wasted_gb_hours` adds it all up.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from statistics import fmean, median

from ergates.cluster.task import TaskSpec
from ergates.taskqueue.memory import MemoryModel, PastRun, PeakPredictor
from ergates.taskqueue.node_settings import NodeSettings
from ergates.taskqueue.shape import shape_of
from ergates.units import Bytes

WINDOW = 256


class TovarFirstAllocation:
    """The allocation that would have wasted least on the past, a failed first try counted with its second at the top.

    Source: Tovar et al., "A Job Sizing Strategy for High-Throughput Scientific Workflows", IEEE TPDS 2018, section 4
    (minimum waste, slow peaks). We differ: one second step, to the node's capacity, as their at-most-once policy does.
    """

    def __init__(self, capacity_bytes: int) -> None:
        self._capacity_bytes = capacity_bytes
        self._runs: dict[str, deque[tuple[int, int]]] = {}

    def allocate(self, spec: TaskSpec) -> Bytes:
        runs = self._runs.get(shape_of(spec).fine)
        if not runs:
            return Bytes(self._capacity_bytes)
        return Bytes(int(cheapest_allocation(runs, self._capacity_bytes)))

    def learn(self, run: PastRun) -> None:
        runs = self._runs.setdefault(shape_of(run.spec).fine, deque(maxlen=WINDOW))
        runs.append((run.peak_bytes, run.wall_ns))


class SizeyLike:
    """Several small models per shape (line, mean, neighbours), weighted by how right they were, plus an offset for misses.

    Source: Bader et al., "Sizey: Memory-Efficient Execution of Scientific Workflow Tasks", 2024: an ensemble chosen by
    a score of accuracy, and a dynamic offset. We differ: three models instead of four (no neural network), the
    score is the median relative error, the offset the 90 % quantile of recent misses.
    """

    NEIGHBOURS = 5

    def __init__(self, capacity_bytes: int) -> None:
        self._capacity_bytes = capacity_bytes
        self._runs: dict[str, deque[tuple[float, int]]] = {}
        self._errors: dict[str, dict[str, deque[float]]] = {}
        self._misses: dict[str, deque[float]] = {}

    def allocate(self, spec: TaskSpec) -> Bytes:
        shape = shape_of(spec).fine
        guesses = self._guesses(shape, _size_of(spec))
        if not guesses:
            return Bytes(self._capacity_bytes)
        guess = self._blend(shape, guesses)
        misses = sorted(self._misses[shape])
        offset = misses[int(0.9 * (len(misses) - 1))] if misses else guess
        return Bytes(int(min(max(guess + max(offset, 0.0), 1.0), self._capacity_bytes)))

    def learn(self, run: PastRun) -> None:
        shape, size = shape_of(run.spec).fine, _size_of(run.spec)
        guesses = self._guesses(shape, size)
        errors = self._errors.setdefault(shape, {})
        misses = self._misses.setdefault(shape, deque(maxlen=WINDOW))
        if guesses:
            misses.append(run.peak_bytes - self._blend(shape, guesses))
        for name, guess in guesses.items():
            errors.setdefault(name, deque(maxlen=32)).append(abs(guess - run.peak_bytes) / max(run.peak_bytes, 1))
        self._runs.setdefault(shape, deque(maxlen=WINDOW)).append((size, run.peak_bytes))

    def _guesses(self, shape: str, size: float) -> dict[str, float]:
        runs = self._runs.get(shape)
        if not runs:
            return {}
        nearest = sorted(runs, key=lambda run: abs(run[0] - size))[: self.NEIGHBOURS]
        guesses = {"mean": fmean(peak for _, peak in runs), "neighbours": fmean(peak for _, peak in nearest)}
        mean_size = fmean(at for at, _ in runs)
        spread = sum((at - mean_size) ** 2 for at, _ in runs)
        if spread > 0:
            slope = sum((at - mean_size) * (peak - guesses["mean"]) for at, peak in runs) / spread
            guesses["line"] = guesses["mean"] + slope * (size - mean_size)
        return guesses

    def _blend(self, shape: str, guesses: dict[str, float]) -> float:
        errors = self._errors.get(shape, {})
        weights = {name: 1 / (0.01 + median(errors[name])) ** 2 if errors.get(name) else 1.0 for name in guesses}
        return sum(weights[name] * guess for name, guess in guesses.items()) / sum(weights.values())


class OursAsOneNumber:
    """Our learned distribution, asked for the one allocation that wastes least."""

    def __init__(self, capacity_bytes: int) -> None:
        self._capacity_bytes = capacity_bytes
        self._model = MemoryModel(capacity_bytes, NodeSettings())
        self._now_ns = 0

    def allocate(self, spec: TaskSpec) -> Bytes:
        sizing = self._model.sizing(("", 0), spec)
        history = sizing.history()
        if not history.runs:
            return Bytes(self._capacity_bytes)
        scale = history.scale(sizing.features)
        ratios = [peak / history.scale(features) for features, peak in history.runs]
        return Bytes(int(min(cheapest_with_doubling(ratios) * scale, self._capacity_bytes)))

    def learn(self, run: PastRun) -> None:
        self._now_ns += 1_000_000_000
        sizing = self._model.sizing(("", 0), run.spec)
        sizing.ended(run.peak_bytes, run.wall_ns, 0, self._now_ns)
        sizing.history().distribution(self._now_ns)


def cheapest_allocation(runs: Iterable[tuple[float, float]], capacity: float) -> float:
    """The first allocation that wastes least over (peak, time) runs when a miss is tried again at the capacity."""
    ordered = sorted(runs)
    total_time = sum(time for _, time in ordered)
    under_time = used = 0.0
    best, best_waste = capacity, math.inf
    all_use = sum(peak * time for peak, time in ordered)
    for peak, time in ordered:
        under_time += time
        used += peak * time
        missed_time = total_time - under_time
        waste = peak * under_time - used + missed_time * (peak + capacity) - (all_use - used)
        if waste < best_waste:
            best, best_waste = peak, waste
    return best


def cheapest_with_doubling(peaks: Iterable[float]) -> float:
    """The first allocation that wastes least over these peaks when a miss is tried again with twice as much."""
    ordered = sorted(peaks)

    def waste(first: float) -> float:
        total = 0.0
        for peak in ordered:
            allocation = first
            while allocation < peak:
                total += allocation
                allocation *= 2
            total += allocation - peak
        return total

    return min(ordered, key=waste)


def wasted_gb_hours(predictor: PeakPredictor, runs: Iterable[PastRun], capacity_bytes: int) -> float:
    """What one predictor wastes over runs in order: too much set aside, and misses (doubled until they fit)."""
    wasted = 0.0
    for run in runs:
        allocation = min(float(predictor.allocate(run.spec)), float(capacity_bytes))
        while allocation < run.peak_bytes:
            wasted += allocation * run.wall_ns
            if allocation >= capacity_bytes:
                break
            allocation = min(2 * allocation, float(capacity_bytes))
        wasted += max(0.0, allocation - run.peak_bytes) * run.wall_ns
        predictor.learn(run)
    return wasted / 1e9 / 3600e9


def _size_of(spec: TaskSpec) -> float:
    if spec.input_bytes is not None:
        return float(spec.input_bytes)
    numbers = shape_of(spec).numbers
    return numbers[0] if numbers else 0.0
