"""Idle workers wait for the bell: a gang comes together by rings alone, even when one of many idle workers can take a role."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from redis_server import PrivateRedis
from store_rig import at, submit
from store_roles_contract import Node, judged, roles

from ergates.drivers.stores.redis.store import RedisStore

pytestmark = pytest.mark.needs("redis")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[PrivateRedis]:
    (tmp_path / "redis").mkdir()
    with PrivateRedis(tmp_path / "redis") as server:
        yield server


@pytest.fixture
def store(server: PrivateRedis) -> Iterator[RedisStore]:
    with ExitStack() as stack:
        yield stack.enter_context(closing(RedisStore(server.client, host="this-host", server_time=False)))


def follow_the_rings(server: PrivateRedis, nodes: list[Node], now: float) -> int:
    """Whoever is rung looks and sits, until nobody is; returns how many looked."""
    looked = 0
    with closing(server.client()) as redis:
        while rung := [node for node in nodes if redis.delete(f"{{erg:default}}:wake:{node.name}")]:
            for node in rung:
                looked += 1
                assert looked < 20 * len(nodes), "rings go round"
                node.sit(now)
    return looked


@pytest.mark.parametrize("met_before", [False, True])
def test_the_one_that_can_is_found_among_many_idle_ones(
    server: PrivateRedis, store: RedisStore, met_before: bool
) -> None:
    nodes = [Node(store, f"w{number}", group="small") for number in range(40)]
    nodes.append(Node(store, "rare", group="big"))
    counts = (("server", 1), ("client", 2))
    if met_before:
        job = submit(store, [roles(counts=counts)], key="before").id
        judged(*nodes)
        store.cancel(job, [(1, 1)], "", at(1))
    for node in nodes:
        assert node.look(2).offers == ()
    follow_the_rings(server, nodes, 2)
    submit(store, [roles(counts=counts)], now=4)
    follow_the_rings(server, nodes, 4)
    members = {node.name: lease.gang.role for node in nodes for lease in node.leases if lease.gang}
    assert members["rare"] == "server" and sorted(members.values()) == ["client", "client", "server"]


def test_a_seat_that_is_given_back_is_found_by_an_idle_one(server: PrivateRedis, store: RedisStore) -> None:
    submit(store, [roles()])
    first, spare = Node(store, "w1", group="big"), Node(store, "w2", group="big")
    clients = [Node(store, f"c{number}", group="small") for number in (1, 2)]
    judged(first, spare, *clients)
    for node in (first, clients[0]):
        assert node.sit(2).seat is not None
    assert spare.look(2).offers == ()
    follow_the_rings(server, [spare], 2)
    store.leave("w1", at(3))
    assert follow_the_rings(server, [spare], 3) > 0
    assert spare.look(3).seat is not None
