"""The 200 tasks of the packing benchmark, and the schedule of somebody who knows all of them beforehand.

The omniscient schedule knows each task's memory at every moment of its life. It starts a task as soon as the
sum of all profiles stays within the limit for ever after, going through a list; of several list orders the best counts.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

MIB = 1024**2
STEP_MS = 20
"""The step of memory_task.c, and the grain of the schedules here."""
OVERHEAD_BYTES = 1 * MIB
"""Of each process besides its peak: libc, stack, page tables."""

Profile = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class PlannedTask:
    """What one task will do; nobody tells `erg`."""

    number: int
    peak_bytes: int
    ramp_ms: int
    hold_ms: int

    @property
    def duration_ms(self) -> int:
        return self.ramp_ms + self.hold_ms

    def profile(self) -> Profile:
        """Memory at the end of each step, in bytes: (duration / STEP_MS,) int64."""
        ramp_steps = self.ramp_ms // STEP_MS
        ramp = np.arange(1, ramp_steps + 1, dtype=np.int64) * self.peak_bytes // ramp_steps
        hold = np.full(self.hold_ms // STEP_MS, self.peak_bytes, dtype=np.int64)
        return np.concatenate([ramp, hold]) + OVERHEAD_BYTES


def draw_tasks(count: int, seed: int, seconds: tuple[float, float] = (1.0, 4.0)) -> list[PlannedTask]:
    """Peaks log-normal (median 250 MB, sigma 0.9) within 50 MB and 1.5 GB; a fifth to a half of each life is the ramp."""
    stream = random.Random(f"{seed}/packing")
    tasks: list[PlannedTask] = []
    while len(tasks) < count:
        peak = stream.lognormvariate(np.log(250e6), 0.9)
        if not 50e6 <= peak <= 1.5e9:
            continue
        duration_ms = stream.uniform(*seconds) * 1000
        ramp_ms = max(1, round(duration_ms * stream.uniform(0.2, 0.5) / STEP_MS)) * STEP_MS
        hold_ms = max(1, round((duration_ms - ramp_ms) / STEP_MS)) * STEP_MS
        tasks.append(PlannedTask(len(tasks), int(peak), ramp_ms, hold_ms))
    return tasks


def write_plan(tasks: Sequence[PlannedTask], path: Path) -> None:
    """The file that memory_task.c reads."""
    path.write_text("".join(f"{task.peak_bytes} {task.ramp_ms} {task.hold_ms}\n" for task in tasks))


class ListScheduler:
    """Starts tasks in the order of a list, each as soon as it fits for its whole life. Time is in steps of STEP_MS.

    The computed schedule and the executed one both ask it.
    """

    def __init__(self, order: Sequence[PlannedTask], capacity_bytes: int, late_steps: int = 0) -> None:
        """`late_steps`: how much longer than planned a task may hold its peak."""
        self.waiting = list(order)
        self.overdue_bytes = 0
        """Held by tasks that should have ended by now, until nobody knows when."""
        self._capacity = capacity_bytes
        longest = max(task.duration_ms for task in order) // STEP_MS
        self._used = np.zeros(longest + late_steps + 1, dtype=np.int64)  # from step `_base` on
        self._base = 0
        self._profiles = {task.number: np.pad(task.profile(), (0, late_steps), "edge") for task in order}

    def start(self, step: int) -> list[PlannedTask]:
        """Tasks to start now; `step` never decreases."""
        self._forget_before(step)
        begun: list[PlannedTask] = []
        room = self._capacity - self.overdue_bytes
        for task in list(self.waiting):
            profile = self._profiles[task.number]
            place = self._used[: len(profile)]
            if place[-1] + profile[-1] <= room and bool((place + profile <= room).all()):
                place += profile
                begun.append(task)
                self.waiting.remove(task)
        return begun

    def _forget_before(self, step: int) -> None:
        past = min(step - self._base, len(self._used))
        if past > 0:
            self._used = np.concatenate([self._used[past:], np.zeros(past, dtype=np.int64)])
        self._base = step


Order = Callable[[PlannedTask], float]
LIST_ORDERS: dict[str, Order] = {
    "as submitted": lambda task: task.number,
    "longest first": lambda task: -task.duration_ms,
    "largest first": lambda task: -task.peak_bytes,
    "largest area first": lambda task: -task.peak_bytes * task.duration_ms,
}


def computed_makespan_s(tasks: Sequence[PlannedTask], capacity_bytes: int, order: Order) -> float:
    """Seconds until the last task of the list schedule ends."""
    scheduler = ListScheduler(sorted(tasks, key=order), capacity_bytes)
    step, end = 0, 0
    while scheduler.waiting:
        for task in scheduler.start(step):
            end = max(end, step + task.duration_ms // STEP_MS)
        step += 1
    return end * STEP_MS / 1000


def best_order(tasks: Sequence[PlannedTask], capacity_bytes: int) -> tuple[str, float]:
    """Name and makespan of the best list order."""
    spans = {name: computed_makespan_s(tasks, capacity_bytes, order) for name, order in LIST_ORDERS.items()}
    name = min(spans, key=lambda candidate: spans[candidate])
    return name, spans[name]


def area_bound_s(tasks: Sequence[PlannedTask], capacity_bytes: int) -> float:
    """No schedule of any kind is shorter: all memory times time, over the memory there is."""
    return float(sum(task.profile().sum() for task in tasks)) * STEP_MS / 1000 / capacity_bytes


def fixed_slots_peak(tasks: Sequence[PlannedTask], slots: int) -> tuple[int, float]:
    """Highest memory in bytes, and seconds, of `slots` tasks at a time in the order submitted."""
    free_at = [0] * slots
    total_steps = sum(task.duration_ms for task in tasks) // STEP_MS + 1
    used = np.zeros(total_steps, dtype=np.int64)
    for task in tasks:
        slot = min(range(slots), key=lambda number: free_at[number])
        profile = task.profile()
        used[free_at[slot] : free_at[slot] + len(profile)] += profile
        free_at[slot] += len(profile)
    return int(used.max()), max(free_at) * STEP_MS / 1000
