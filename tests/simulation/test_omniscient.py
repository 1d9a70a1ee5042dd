"""The reference schedule: exact on cases that can be seen at once, never over the memory or the cores of a node."""

from __future__ import annotations

import pytest

from ergates.cluster.task import Requirement, TaskSpec
from ergates.simulation.memory_curve import MemoryCurve
from ergates.simulation.nodes import TaskBehaviour
from ergates.simulation.omniscient import lower_bound_s, schedule_omnisciently
from ergates.simulation.scenarios import Scenario, SimulatedTask, mixed_shapes, node, ramps
from ergates.units import GIB, MilliCpus

S = 1_000_000_000


def task(points: list[tuple[float, float]], cpus: float = 0.1) -> SimulatedTask:
    curve = MemoryCurve([(int(seconds * S), int(share * GIB)) for seconds, share in points])
    spec = TaskSpec(command="x", requirement=Requirement(cpus_milli=MilliCpus(int(cpus * 1000))))
    return SimulatedTask(spec=spec, behaviour=TaskBehaviour(curve=curve, cpus=cpus))


def scenario(*tasks: SimulatedTask, nodes: int = 1) -> Scenario:
    return Scenario(name="x", tasks=tasks, nodes=(node(1, GIB),) * nodes)


def test_two_that_do_not_fit_together_follow_each_other() -> None:
    both = scenario(*[task([(0, 0.6), (10, 0.6)])] * 2)
    assert schedule_omnisciently(both) == pytest.approx(20, abs=0.1)
    assert schedule_omnisciently(scenario(*both.tasks, nodes=2)) == pytest.approx(10, abs=0.1)


def test_a_hill_lets_the_next_one_in_as_it_falls_unless_peaks_are_held() -> None:
    hills = scenario(*[task([(0, 0.9), (2, 0.9), (2.01, 0.05), (10, 0.05)])] * 3)
    assert schedule_omnisciently(hills) == pytest.approx(10 + 2 * 2, abs=0.2)
    assert schedule_omnisciently(hills, hold_peaks=True) == pytest.approx(30, abs=0.2)


def test_cores_count_too() -> None:
    wide = scenario(*[task([(0, 0.01), (10, 0.01)], cpus=0.5)] * 4)
    assert schedule_omnisciently(wide) == pytest.approx(20, abs=0.1)


def test_what_fits_nowhere_is_left_out() -> None:
    mixed = scenario(task([(0, 2), (100, 2)]), task([(0, 0.5), (10, 0.5)]))
    assert mixed.unfit() == 1
    assert schedule_omnisciently(mixed) == pytest.approx(10, abs=0.1)
    assert lower_bound_s(mixed) == pytest.approx(10)


@pytest.mark.parametrize("make", [ramps, mixed_shapes])
@pytest.mark.parametrize("seed", range(3))
def test_nobody_beats_the_lower_bound_and_knowing_curves_helps(make: object, seed: int) -> None:
    workload = make(seed, 60)  # type: ignore[operator]
    curves = schedule_omnisciently(workload)
    assert lower_bound_s(workload) <= curves <= schedule_omnisciently(workload, hold_peaks=True)
