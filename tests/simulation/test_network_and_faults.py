"""Messages that are late, lost, doubled or cut off; and fault plans that heal."""

from __future__ import annotations

import random
from typing import Any

import pytest

from ergates.simulation.engine import Engine
from ergates.simulation.faults import Crash, CutOff, Drain, Heal, Rejoin, draw_faults, schedule_faults
from ergates.simulation.network import Network, NetworkConditions
from ergates.units import SECOND_NS, Nanoseconds

CALM = NetworkConditions(delay_ns=Nanoseconds(1000), spread=0.0)


class Ears:
    def __init__(self, engine: Engine, *names: str) -> None:
        self.heard: list[tuple[int, str, Any]] = []
        self._engine = engine
        for name in names:
            self.open(name)

    def open(self, name: str) -> None:
        def handle(event: Any, now_ns: int) -> None:
            self.heard.append((now_ns, name, event))

        self._engine.attach(name, handle)


def test_a_calm_network_delivers_everything_in_time() -> None:
    engine = Engine(1)
    ears, network = Ears(engine, "a", "b"), Network(engine, CALM)
    network.send("a", "b", "hello")
    engine.run()
    assert ears.heard == [(1000, "b", "hello")]


def test_delays_differ_and_reorder() -> None:
    engine = Engine(1)
    ears = Ears(engine, "a", "b")
    network = Network(engine, NetworkConditions(delay_ns=Nanoseconds(1_000_000), spread=1.0))
    for number in range(500):
        network.send("a", "b", number)
    engine.run()
    order = [event for _, _, event in ears.heard]
    assert sorted(order) == list(range(500)) != order
    delays = sorted(now for now, _, _ in ears.heard)
    assert 700_000 < delays[250] < 1_400_000
    assert delays[-1] > 8 * delays[250]


def test_loss_and_duplication_are_counted() -> None:
    engine = Engine(2)
    ears = Ears(engine, "a", "b")
    network = Network(engine, NetworkConditions(loss_fraction=0.2, duplicate_fraction=0.3))
    for number in range(2000):
        network.send("a", "b", number)
    engine.run()
    assert len(ears.heard) == network.delivered == network.sent - network.lost + network.duplicated
    assert 300 < network.lost < 500
    assert 380 < network.duplicated < 580


def test_a_partition_stops_what_is_sent_and_what_is_under_way() -> None:
    engine = Engine(1)
    ears, network = Ears(engine, "a", "b", "c"), Network(engine, CALM)
    network.send("a", "b", "under way")
    network.partition(["b"])
    network.send("a", "b", "sent into it")
    network.send("b", "b", "within the island")
    network.send("a", "c", "among the rest")
    engine.run()
    assert sorted(event for _, _, event in ears.heard) == ["among the rest", "within the island"]
    network.heal()
    network.send("a", "b", "again")
    engine.run()
    assert ears.heard[-1][2] == "again"
    assert network.lost == 2


def test_who_has_the_name_at_arrival_gets_the_message() -> None:
    engine = Engine(1)
    ears, network = Ears(engine, "a", "b"), Network(engine, CALM)
    network.send("a", "b", "for the former life")
    engine.crash("b")
    ears.open("b")
    engine.run()
    assert ears.heard == [(1000, "b", "for the former life")]
    network.send("a", "b", "to nobody")
    engine.crash("b")
    engine.run()
    assert len(ears.heard) == 1
    assert engine.dropped == 1


@pytest.mark.parametrize("seed", range(20))
def test_every_plan_heals_and_is_over_by_then(seed: int) -> None:
    names = ["n1", "n2", "n3"]
    plan = draw_faults(
        random.Random(seed),
        names,
        servers=["store"],
        until_ns=60 * SECOND_NS,
        crash_every_ns=2 * SECOND_NS,
        partition_every_ns=5 * SECOND_NS,
    )
    times = [at_ns for at_ns, _ in plan.faults]
    assert times == sorted(times)
    assert plan.faults[-1] == (plan.healed_ns, Heal())
    assert times[-1] == 60 * SECOND_NS
    for _, fault in plan.faults:
        assert isinstance(fault, Crash | Drain | CutOff | Rejoin | Heal)
        if isinstance(fault, Crash):
            assert fault.name in [*names, "store"] and fault.down_ns > 0
            assert not (fault.name == "store" and fault.whole_node)


def test_plans_differ_in_severity() -> None:
    def count(seed: int) -> tuple[int, int, bool]:
        plan = draw_faults(random.Random(seed), ["a"], until_ns=10**11, crash_every_ns=10**9, partition_every_ns=10**9)
        crashes = sum(isinstance(fault, Crash) for _, fault in plan.faults)
        cuts = sum(isinstance(fault, CutOff) for _, fault in plan.faults)
        return crashes, cuts, plan.conditions.loss_fraction > 0

    plans = [count(seed) for seed in range(40)]
    assert any(crashes == 0 for crashes, _, _ in plans) and any(crashes > 80 for crashes, _, _ in plans)
    assert any(cuts == 0 for _, cuts, _ in plans) and any(cuts > 80 for _, cuts, _ in plans)
    assert {lossy for _, _, lossy in plans} == {False, True}


def test_faults_strike_when_they_are_due() -> None:
    struck: list[tuple[int, Any]] = []
    engine = Engine(3)

    class World:
        def perform_fault(self, fault: Any) -> None:
            struck.append((engine.now_ns, fault))

    plan = draw_faults(random.Random(5), ["a"], until_ns=10**10, crash_every_ns=10**9, partition_every_ns=10**9)
    schedule_faults(engine, World(), plan)
    engine.run()
    assert struck == list(plan.faults)
