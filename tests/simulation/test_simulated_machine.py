"""The simulated machine: memory along curves, shared cores, frozen and killed attempts, the kernel's choice of victim."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ergates.simulation.memory_curve import MemoryCurve
from ergates.simulation.nodes import AttemptStopped, End, MachineTimes, SimulatedMachine, TaskBehaviour
from ergates.simulation.scenarios import SHAPES, node
from ergates.taskqueue.launching import AttemptKey
from ergates.units import GIB, MIB, Nanoseconds

S = 1_000_000_000
AT_ONCE = MachineTimes(start_ns=Nanoseconds(0), term_ns=Nanoseconds(10_000_000), kill_ns=Nanoseconds(0))


def key(number: int) -> AttemptKey:
    return ("j1", number, number)


def flat(size: int, seconds: float = 10, cpus: float = 1.0, **more: object) -> TaskBehaviour:
    curve = MemoryCurve([(0, size), (int(seconds * S), size)])
    return TaskBehaviour(curve=curve, cpus=cpus, **more)  # type: ignore[arg-type]


def ramp(size: int, seconds: float = 10, cpus: float = 1.0) -> TaskBehaviour:
    return TaskBehaviour(curve=MemoryCurve([(0, 0), (int(seconds * S), size)]), cpus=cpus)


def machine(cpus: float = 2, memory: int = GIB) -> SimulatedMachine:
    return SimulatedMachine(node(cpus, memory), AT_ONCE)


def run_until(box: SimulatedMachine, now_ns: int, until_ns: int) -> list[tuple[int, AttemptStopped]]:
    """Wake it when it wants to be; (time, who stopped)."""
    stopped = [(now_ns, one) for one in box.take_stopped(now_ns)]
    while (next_ns := box.next_ns()) is not None and next_ns <= until_ns:
        stopped += [(next_ns, one) for one in box.take_stopped(next_ns)]
    box.advance(until_ns)
    return stopped


def test_curve_points_lines_and_area() -> None:
    curve = MemoryCurve([(0, 0), (10, 100), (30, 100), (40, 0)])
    assert [curve.at(work) for work in (0, 5, 10, 20, 35, 40, 41)] == [0, 50, 100, 100, 50, 0, 0]
    assert curve.byte_ns() == 500 + 2000 + 500
    assert (curve.peak_bytes, curve.work_ns) == (100, 40)
    with pytest.raises(AssertionError, match="points go on"):
        MemoryCurve([(0, 0), (10, 1), (10, 2)])


def test_an_attempt_follows_its_curve_and_ends() -> None:
    box = machine()
    box.start(key(1), ramp(100 * MIB, 10), None, 0)
    assert box.sample(4 * S) == ((key(1), 40 * MIB),)
    ((at_ns, one),) = run_until(box, 4 * S, 20 * S)
    assert at_ns == pytest.approx(10 * S, abs=10)
    assert (one.end, one.exit_code, one.peak_bytes) == (End.BY_ITSELF, 0, 100 * MIB)
    assert one.byte_ns == pytest.approx(50 * MIB * 10 * S, rel=1e-6)
    assert one.cpu_ns == pytest.approx(10 * S, rel=1e-6)
    assert box.all_keys() == []


def test_cores_are_shared_when_there_are_too_few() -> None:
    box = machine(cpus=2)
    for number in range(1, 5):
        box.start(key(number), flat(1, 10), None, 0)
    stopped = run_until(box, 0, 100 * S)
    assert [at_ns for at_ns, _ in stopped] == [pytest.approx(20 * S, abs=100)] * 4


def test_fractions_of_a_core_do_not_disturb_each_other() -> None:
    box = machine(cpus=2)
    for number in range(1, 41):
        box.start(key(number), flat(1, 10, cpus=0.05), None, 0)
    assert [at_ns for at_ns, _ in run_until(box, 0, 100 * S)] == [pytest.approx(10 * S, abs=100)] * 40


def test_a_frozen_attempt_keeps_its_memory_and_stands_still() -> None:
    box = machine()
    box.start(key(1), ramp(100 * MIB, 10), None, 0)
    box.freeze(key(1), 5 * S, frozen=True)
    assert box.sample(50 * S) == ((key(1), 50 * MIB),)
    box.freeze(key(1), 50 * S, frozen=False)
    ((at_ns, _),) = run_until(box, 50 * S, 100 * S)
    assert at_ns == pytest.approx(55 * S, abs=10)


def test_starting_takes_time() -> None:
    box = SimulatedMachine(node(), MachineTimes(start_ns=Nanoseconds(3 * S)))
    box.start(key(1), ramp(100 * MIB, 10), None, 0)
    assert run_until(box, 0, 3 * S) == []
    assert box.sample(3 * S) == ((key(1), 0),)
    ((at_ns, one),) = run_until(box, 3 * S, 100 * S)
    assert at_ns == pytest.approx(13 * S, abs=10)
    assert one.started_ns == 3 * S


def test_a_kill_hands_memory_back_after_a_while() -> None:
    box = SimulatedMachine(node(), MachineTimes(start_ns=Nanoseconds(0), kill_ns=Nanoseconds(S)))
    box.start(key(1), flat(GIB, 10), None, 0)
    box.kill(key(1), 0, 2 * S)
    assert box.sample(2 * S + S // 2) == ((key(1), GIB),)
    ((at_ns, one),) = run_until(box, 2 * S + S // 2, 10 * S)
    assert at_ns == pytest.approx(3 * S + S // 8, abs=10)
    assert (one.end, one.work_ns) == (End.KILLED, 2 * S)


@pytest.mark.parametrize(("deaf", "expected_ns"), [(False, 2 * S + 10_000_000), (True, 7 * S)])
def test_grace_is_for_those_who_hear(deaf: bool, expected_ns: int) -> None:
    box = machine()
    box.start(key(1), flat(0, 100, deaf=deaf), None, 0)
    box.kill(key(1), 5 * S, 2 * S)
    ((at_ns, one),) = run_until(box, 2 * S, 50 * S)
    assert at_ns == pytest.approx(expected_ns, abs=10)
    assert one.end is End.KILLED


def test_one_that_ends_within_its_grace_has_ended_by_itself() -> None:
    box = machine()
    box.start(key(1), flat(0, 3, deaf=True), None, 0)
    box.kill(key(1), 5 * S, 2 * S)
    ((at_ns, one),) = run_until(box, 2 * S, 50 * S)
    assert at_ns == pytest.approx(3 * S, abs=10)
    assert one.end is End.BY_ITSELF


def test_the_kernel_kills_the_highest_score_at_the_limit() -> None:
    box = machine(memory=GIB)
    box.start(key(1), ramp(GIB, 10), None, 0)
    box.start(key(2), ramp(GIB // 2, 10), None, 0)
    box.set_oom_order([key(1), key(2)])
    stopped = run_until(box, 0, 7 * S)
    # Together 1.5 GiB in 10 s: full after 6.67 s; the newest has the higher score though it is smaller.
    ((at_ns, one),) = stopped
    assert at_ns == pytest.approx(20 / 3 * S + GIB / 3 * S / (8 * GIB), rel=1e-3)
    assert (one.key, one.end) == (key(2), End.OUT_OF_MEMORY)
    assert box.kernel_kills == 1


def test_without_an_order_the_largest_dies() -> None:
    box = machine(memory=GIB)
    box.start(key(1), ramp(GIB, 10), None, 0)
    box.start(key(2), ramp(GIB // 2, 10), None, 0)
    ((_, one),) = run_until(box, 0, 7 * S)
    assert one.key == key(1)


def test_while_the_kernel_waits_nobody_grows_and_nobody_else_dies() -> None:
    box = SimulatedMachine(node(4, GIB), MachineTimes(start_ns=Nanoseconds(0), kill_ns=Nanoseconds(5 * S)))
    box.start(key(1), ramp(GIB, 10), None, 0)
    box.start(key(2), ramp(GIB, 10), None, 0)
    run_until(box, 0, 9 * S)
    assert box.kernel_kills == 1
    assert sum(used for _, used in box.sample(9 * S)) <= GIB + MIB
    assert box.highest <= GIB + MIB


def test_a_queued_attempt_starts_behind_another_and_can_be_dropped() -> None:
    box = machine()
    box.start(key(1), flat(1, 2), None, 0)
    box.start(key(2), flat(1, 2), key(1), 0)
    box.start(key(3), flat(1, 2), key(2), 0)
    assert box.all_keys() == [key(1), key(2), key(3)]
    assert len(box.sample(S)) == 1
    box.kill(key(2), 0, S)
    stopped = [(at_ns, one.key, one.started_ns) for at_ns, one in run_until(box, S, 10 * S)]
    assert [name for _, name, _ in stopped] == [key(2), key(1), key(3)]
    assert stopped[0][2] == 0  # never started
    assert stopped[2][0] == pytest.approx(4 * S, abs=10)


def test_poison_takes_the_node_down() -> None:
    box = machine()
    box.start(key(1), flat(1, 10, kills_node_at=Nanoseconds(4 * S)), None, 0)
    run_until(box, 0, 3 * S)
    before = box.node_killed
    run_until(box, 3 * S, 4 * S + 10)
    assert (before, box.node_killed) == (False, True)
    assert [one.end for one in box.take_all(5 * S)] == [End.KILLED]
    assert box.all_keys() == []


@given(
    seed=st.integers(0, 10_000),
    count=st.integers(1, 12),
    looks=st.lists(st.integers(1, 8 * S), max_size=10),
)
def test_looking_changes_nothing(seed: int, count: int, looks: list[int]) -> None:
    """Sampling at any moments gives the same ends, and each attempt's use is what its curve says."""

    def ends(moments: list[int]) -> list[tuple[AttemptKey, int]]:
        rng = random.Random(seed)
        box = machine(cpus=2, memory=64 * GIB)
        for number in range(1, count + 1):
            curve = rng.choice(SHAPES)(rng, rng.uniform(5e7, 5e8), rng.uniform(0.5, 5))
            box.start(key(number), TaskBehaviour(curve=curve, cpus=rng.choice((0.1, 0.5, 1.0, 2.0))), None, 0)
        now_ns, found = 0, []
        for moment in sorted(moments):
            found += run_until(box, now_ns, moment)
            now_ns = moment
            for attempt in box.attempts.values():
                assert attempt.used == pytest.approx(attempt.curve.at(attempt.work), abs=2 * MIB)
            assert box.used == pytest.approx(sum(used for _, used in box.sample(moment)), abs=count)
        found += run_until(box, now_ns, 1000 * S)
        return [(one.key, round(at_ns / 1000)) for at_ns, one in found]

    undisturbed, disturbed = ends([]), ends(looks)
    assert [name for name, _ in undisturbed] == [name for name, _ in disturbed]
    for (_, before), (_, after) in zip(undisturbed, disturbed, strict=True):
        assert after == pytest.approx(before, abs=2)
