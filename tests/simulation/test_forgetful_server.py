"""A server that comes back without its last moments, again and again, among all other trouble: no task is lost, none is in the
ledger twice, and everything ends. A failure names its seed.
"""

from __future__ import annotations

import pytest

from ergates.simulation.engine import Engine
from ergates.simulation.queue_world import QueueWorld
from ergates.simulation.scenarios import troubled
from ergates.simulation.simulate import trouble_for
from ergates.simulation.store_client import StoreClient
from ergates.simulation.store_server import Adopt, CommitWitness, Request
from ergates.taskqueue.node_policy import NodePolicy
from ergates.taskqueue.node_settings import NodeSettings
from ergates.units import SECOND_NS

HOUR_NS = 3600 * SECOND_NS
STUCK_NS = 900 * SECOND_NS


def world(seed: int) -> QueueWorld:
    engine, scenario = Engine(seed), troubled(seed)
    plan = trouble_for(engine, scenario, forgets=True)
    return QueueWorld(engine, scenario, lambda capacity: NodePolicy(capacity, NodeSettings()), plan=plan)


def through(seed: int, limit_ns: int = HOUR_NS) -> QueueWorld:
    made = world(seed)
    assert made.run(limit_ns), f"seed {seed} never ends: {made.store.status(made.job).counts}"
    made.settle()
    return made


@pytest.mark.parametrize("seed", range(12))
def test_what_is_forgotten_is_told_again_and_everything_ends(seed: int) -> None:
    through(seed)


def test_the_same_seed_forgets_the_same() -> None:
    digests = set()
    for _ in range(2):
        engine, scenario = Engine(5, record=True), troubled(5)
        plan = trouble_for(engine, scenario, forgets=True)
        made = QueueWorld(engine, scenario, lambda capacity: NodePolicy(capacity, NodeSettings()), plan=plan)
        assert made.run(HOUR_NS)
        digests.add(engine.digest())
    assert len(digests) == 1


def test_forgetting_is_real(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over some seeds commits are forgotten, and leases are put back that nobody but their worker knew of."""
    forgotten = put_back = 0
    forget, saw_put_back = CommitWitness.forget, CommitWitness.saw_put_back

    def noted_forget(self: CommitWitness, before: CommitWitness) -> None:
        nonlocal forgotten
        forgotten += len(self.ended - before.ended)
        forget(self, before)

    def noted_put_back(self: CommitWitness, keys: tuple[tuple[object, object, int], ...]) -> None:
        nonlocal put_back
        put_back += len(keys)
        saw_put_back(self, keys)  # type: ignore[arg-type]

    monkeypatch.setattr(CommitWitness, "forget", noted_forget)
    monkeypatch.setattr(CommitWitness, "saw_put_back", noted_put_back)
    times = sum(through(seed).tally.forgotten for seed in range(4))
    assert times > 8 and forgotten > 4 and put_back > 0, (times, forgotten, put_back)


# --- planted bugs are found -----------------------------------------------------------------------


def found() -> str:
    for seed in range(12):
        try:
            through(seed, STUCK_NS)
        except AssertionError as error:
            return str(error)
    return ""


def test_a_client_that_offers_nothing_again_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its lease stands, it lives, and it has forgotten it: the task would wait for ever."""
    adopt = StoreClient._adopt

    def offers_nothing(self: StoreClient, waits: Request) -> Adopt:
        told = adopt(self, waits)
        return Adopt(info=told.info, registered=told.registered, number=told.number, held=told.held, commits=())

    monkeypatch.setattr(StoreClient, "_adopt", offers_nothing)
    assert "never ends" in found()


def test_fences_that_are_given_twice_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ergates.simulation.memory_adopting.GENERATION_BITS", 0)
    assert "was leased under fence" in found()


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_forgetful_servers_for_long() -> None:
    for seed in range(1000, 2000):
        through(seed)
