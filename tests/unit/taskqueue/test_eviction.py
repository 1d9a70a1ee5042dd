"""The ladder, one state and one sample at a time."""

from __future__ import annotations

from ergates.taskqueue.eviction import relieve
from ergates.taskqueue.memory import MemoryModel, Sizing
from ergates.taskqueue.node_settings import NodeSettings
from ergates.taskqueue.peak_history import PeakHistory
from ergates.taskqueue.running import Running
from ergates.units import GIB, MIB

CAPACITY = 4 * GIB
SETTINGS = NodeSettings(freeze_fraction=0.92, thaw_fraction=0.88, give_back_fraction=0.955, refuse_fraction=0.965)
NOW = 100_000_000_000
MB_PER_S = 1e6 / 1e9


def attempt(number: int, used: int, *, age_s: float, slope: float = 0.0, frozen_s: float | None = None) -> Running:
    history = PeakHistory("sim #", CAPACITY, SETTINGS)
    one = Running(("j", number, number), Sizing(("j", number), history, None, (0.0,)), 0, NOW - int(age_s * 1e9), False)
    one.used = one.reached = used
    one.slope = slope * MB_PER_S
    one.mean = 4.0 * used
    if frozen_s is not None:
        one.freeze(NOW - int(frozen_s * 1e9))
    return one


def keys(attempts: list[Running]) -> list[int]:
    return [one.key[1] for one in attempts]


def test_with_room_nothing_happens() -> None:
    relief = relieve([attempt(1, GIB, age_s=9, slope=500)], GIB, CAPACITY, None, SETTINGS, NOW)
    assert not (relief.freeze or relief.thaw or relief.give_back or relief.refuse)


def test_the_newest_that_grows_is_frozen_first() -> None:
    used = int(0.915 * CAPACITY)
    running = [
        attempt(1, GIB, age_s=9, slope=100),
        attempt(2, GIB, age_s=8, slope=800),
        attempt(3, GIB, age_s=7, slope=800),
        attempt(4, used - 3 * GIB, age_s=6),  # stands on a plateau: freezing it wins nothing
    ]
    relief = relieve(running, used, CAPACITY, None, SETTINGS, NOW)
    assert keys(relief.freeze) == [3, 2]
    assert not relief.give_back


def test_a_steep_ramp_counts_before_it_arrives() -> None:
    used = int(0.90 * CAPACITY)
    gentle = [attempt(1, GIB, age_s=9), attempt(2, GIB, age_s=8, slope=100)]
    steep = [attempt(1, GIB, age_s=9), attempt(2, GIB, age_s=8, slope=3000)]
    assert not relieve(gentle, used, CAPACITY, None, SETTINGS, NOW).freeze
    assert keys(relieve(steep, used, CAPACITY, None, SETTINGS, NOW).freeze) == [2]


def test_the_cheapest_goes_back_and_never_the_oldest() -> None:
    used = int(0.96 * CAPACITY)
    running = [
        attempt(1, 100 * MIB, age_s=0.5),  # would be the cheapest, were it not the oldest
        attempt(2, 800 * MIB, age_s=60),
        attempt(3, 700 * MIB, age_s=5),
        attempt(4, 10 * MIB, age_s=3),
    ]
    running[0].started_ns = NOW - 61_000_000_000
    relief = relieve(running, used, CAPACITY, None, SETTINGS, NOW)
    assert keys(relief.give_back) == [3]


def test_what_is_already_leaving_is_not_paid_for_twice() -> None:
    used = int(0.97 * CAPACITY)
    running = [attempt(1, GIB, age_s=9), attempt(2, GIB, age_s=8), attempt(3, GIB, age_s=7)]
    running[2].leaving = True
    assert not relieve(running, used, CAPACITY, None, SETTINGS, NOW).give_back


def test_a_lone_attempt_at_the_top_is_refused() -> None:
    used = int(0.97 * CAPACITY)
    alone = attempt(1, used, age_s=9, slope=500)
    assert relieve([alone], used, CAPACITY, None, SETTINGS, NOW).refuse is alone
    other = attempt(2, 10 * MIB, age_s=5)
    relief = relieve([alone, other], used, CAPACITY, None, SETTINGS, NOW)
    assert relief.refuse is None and keys(relief.give_back) == [2]


def test_a_machine_filled_by_others_refuses_nobody() -> None:
    small = attempt(1, 100 * MIB, age_s=9)
    assert relieve([small], int(0.99 * CAPACITY), CAPACITY, None, SETTINGS, NOW).refuse is None


def test_the_oldest_frozen_thaws_first_when_there_is_room_again() -> None:
    running = [
        attempt(1, GIB, age_s=9),
        attempt(2, 500 * MIB, age_s=8, slope=200, frozen_s=1),
        attempt(3, 500 * MIB, age_s=7, slope=200, frozen_s=1),
    ]
    relief = relieve(running, 2 * GIB, CAPACITY, None, SETTINGS, NOW)
    assert keys(relief.thaw) == [2]


def test_hysteresis_between_freezing_and_thawing() -> None:
    running = [attempt(1, GIB, age_s=9), attempt(2, GIB, age_s=8, slope=200, frozen_s=1)]
    relief = relieve(running, int(0.9 * CAPACITY), CAPACITY, None, SETTINGS, NOW)
    assert not (relief.thaw or relief.freeze or relief.give_back)


def test_the_oldest_never_stays_frozen() -> None:
    running = [attempt(2, GIB, age_s=8, frozen_s=1), attempt(3, GIB, age_s=7, frozen_s=1)]
    relief = relieve(running, int(0.93 * CAPACITY), CAPACITY, None, SETTINGS, NOW)
    assert keys(relief.thaw) == [2]


def test_waiting_for_long_costs_the_cheapest_its_place() -> None:
    def stalemate(frozen_s: float) -> list[int]:
        running = [
            attempt(1, 2 * GIB, age_s=99),
            attempt(2, GIB, age_s=60 + frozen_s, frozen_s=frozen_s),
            attempt(3, 700 * MIB, age_s=2 + frozen_s, frozen_s=frozen_s),
        ]
        return keys(relieve(running, int(0.91 * CAPACITY), CAPACITY, None, SETTINGS, NOW).give_back)

    assert stalemate(1.0) == []
    assert stalemate(3.0) == [3]


def test_kernel_pressure_freezes_one_near_the_edge_only() -> None:
    running = [attempt(number, GIB, age_s=9 - number, slope=1) for number in (1, 2, 3)]
    near, far = int(0.90 * CAPACITY), int(0.5 * CAPACITY)
    assert keys(relieve(running, near, CAPACITY, 0.6, SETTINGS, NOW).freeze) == [3]
    assert not relieve(running, far, CAPACITY, 0.6, SETTINGS, NOW).freeze


def test_frozen_time_is_no_work_and_no_plateau() -> None:
    model = MemoryModel(CAPACITY, SETTINGS)
    assert model.learned() == []
    one = attempt(1, GIB, age_s=10, frozen_s=4)
    assert one.worked_ns(NOW) == 6_000_000_000
    one.thaw(NOW)
    assert one.worked_ns(NOW + 1_000_000_000) == 7_000_000_000
