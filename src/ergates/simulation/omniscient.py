"""What somebody who knew every curve beforehand could do: the reference that packing is measured against.

A list schedule: tasks in some order, each placed at the earliest moment from which its memory, at every later moment of
its life, fits beside what is placed already, and its cores too. Several orders are tried and the best counts. It is not the
optimum (that is NP-hard), so ours may come out below it now and then; the lower bound holds for everybody.
"""

from __future__ import annotations

from collections.abc import Sequence

from ergates.cluster.node import NodeCapacity
from ergates.simulation.nodes import TaskBehaviour
from ergates.simulation.scenarios import Scenario

CELL_MIN_NS = 20_000_000
CELLS = 1500
"""The schedule's grain is a cell: so many in the time that the work takes at least. A task holds the most it uses anywhere
in a cell, for the whole cell."""


class _Placed:
    """A task as the schedule sees it: most bytes in each cell of its life, and cores."""

    __slots__ = ("cores_milli", "least", "levels")

    def __init__(self, behaviour: TaskBehaviour, cores_milli: int, cell_ns: int, hold_peak: bool) -> None:
        curve = behaviour.curve
        count = max(1, -(-curve.work_ns // cell_ns))
        ends = [curve.at(min(cell * cell_ns, curve.work_ns)) for cell in range(count + 1)]
        levels = [max(ends[cell], ends[cell + 1]) for cell in range(count)]
        for work, level in zip(curve.works, curve.levels, strict=True):  # tops within a cell
            cell = min(work // cell_ns, count - 1)
            levels[cell] = max(levels[cell], level)
        if hold_peak:
            levels = [float(curve.peak_bytes)] * count
        self.levels = [int(level) for level in levels]
        self.least = min(self.levels)
        self.cores_milli = cores_milli

    @property
    def area(self) -> int:
        return sum(self.levels)


class _NodeProfile:
    """Memory and cores in use on one node, cell by cell."""

    def __init__(self, capacity: NodeCapacity) -> None:
        self._memory_bytes, self._cores_milli = capacity.memory_bytes, capacity.cpus_milli
        self._bytes: list[int] = []
        self._milli: list[int] = []

    def earliest(self, task: _Placed) -> int | None:
        """First cell from which it fits to its end; None when it never does."""
        if max(task.levels) > self._memory_bytes or task.cores_milli > self._cores_milli:
            return None
        room = self._memory_bytes
        begin = 0
        while True:
            hindrance = self._hindrance(task, begin, room)
            if hindrance is None:
                return begin
            begin = hindrance

    def place(self, task: _Placed, begin: int) -> int:
        """Put it there; returns the cell after its end."""
        end = begin + len(task.levels)
        if end > len(self._bytes):
            self._milli += [0] * (end - len(self._bytes))
            self._bytes += [0] * (end - len(self._bytes))
        for cell, level in enumerate(task.levels, begin):
            self._bytes[cell] += level
            self._milli[cell] += task.cores_milli
        return end

    def _hindrance(self, task: _Placed, begin: int, room: int) -> int | None:
        """None when it fits from `begin`; else the next cell worth trying."""
        cores = self._cores_milli - task.cores_milli
        levels = task.levels
        for cell in range(begin, min(begin + len(levels), len(self._bytes))):
            if self._milli[cell] > cores or self._bytes[cell] + task.least > room:
                return cell + 1  # whatever part of it falls here does not fit
            free = room - self._bytes[cell]
            if levels[cell - begin] > free:  # begin so much later that a smaller part of it falls here
                smaller = (part for part in range(cell - begin - 1, -1, -1) if levels[part] <= free)
                return cell - next(smaller, -1)
        return None


def schedule_omnisciently(scenario: Scenario, *, hold_peaks: bool = False, in_order: bool = False) -> float:
    """Makespan in seconds of the best of four list schedules. Tasks that fit nowhere are left out.

    Args:
        scenario: without dependencies.
        hold_peaks: set each task's peak aside for its whole life, as a scheduler does that was told all peaks exactly.
        in_order: only the list in the order of the input, which everybody else is given, too.
    """
    cell_ns = max(CELL_MIN_NS, int(lower_bound_s(scenario) * 1e9) // CELLS)
    tasks = [_Placed(task.behaviour, task.spec.requirement.cpus_milli, cell_ns, hold_peaks) for task in scenario.tasks]
    assert not any(task.spec.after for task in scenario.tasks), "dependencies are not known here"
    if in_order:
        return _list_schedule(tasks, scenario.nodes) * cell_ns / 1e9
    orders = (
        tasks,
        sorted(tasks, key=lambda task: -len(task.levels)),
        sorted(tasks, key=lambda task: -max(task.levels)),
        sorted(tasks, key=lambda task: -task.area),
    )
    return min(_list_schedule(order, scenario.nodes) for order in orders) * cell_ns / 1e9


def _list_schedule(order: Sequence[_Placed], nodes: Sequence[NodeCapacity]) -> int:
    profiles = [_NodeProfile(node) for node in nodes]
    last = 0
    for task in order:
        starts = [(begin, number) for number, node in enumerate(profiles) if (begin := node.earliest(task)) is not None]
        if starts:
            begin, number = min(starts)
            last = max(last, profiles[number].place(task, begin))
    return last


def lower_bound_s(scenario: Scenario) -> float:
    """Seconds below which no schedule can come. Of tasks that fit somewhere."""
    largest = max(node.memory_bytes for node in scenario.nodes)
    curves = [task.behaviour for task in scenario.tasks if task.behaviour.curve.peak_bytes <= largest]
    memory = sum(behaviour.curve.byte_ns() for behaviour in curves) / sum(node.memory_bytes for node in scenario.nodes)
    cores = sum(node.cpus_milli for node in scenario.nodes) / 1000
    busy = sum(behaviour.curve.work_ns * behaviour.cpus for behaviour in curves) / cores
    longest = max((behaviour.curve.work_ns for behaviour in curves), default=0)
    return max(memory, busy, longest) / 1e9
