"""The store on Redis keeps the contract: one private server for all tests of this file, a queue of its own for each."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test
from redis_server import PrivateRedis
from store_contract import StoreContract
from store_copies_contract import CopiesContract
from store_gangs_contract import GangsContract
from store_machine import StoreMachine, run_story
from store_retention_contract import RetentionContract
from store_rig import LEASE_NS, Rig
from store_roles_contract import RolesContract

from ergates.drivers.stores.redis.store import RedisStore

pytestmark = pytest.mark.needs("redis")
_queues = itertools.count(1)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateRedis]:
    with PrivateRedis(tmp_path_factory.mktemp("redis")) as server:
        RedisMachine.server = server
        yield server


@pytest.fixture
def rig(server: PrivateRedis, tmp_path: Path) -> Iterator[Rig]:
    opened: list[RedisStore] = []
    queue = f"q{next(_queues)}"

    def open_store() -> RedisStore:
        proc = tmp_path / "proc"
        opened.append(
            RedisStore(server.client, queue=queue, lease_ns=LEASE_NS, host="this-host", proc=proc, server_time=False)
        )
        return opened[-1]

    yield Rig(store=open_store(), open=open_store, proc=tmp_path / "proc", host="this-host")
    for store in opened:
        store.close()
    server.drop(queue)


class TestRedisStore(StoreContract, GangsContract, RolesContract, CopiesContract, RetentionContract):
    """Runs the contract."""


class RedisMachine(StoreMachine):
    """A queue named after the machine's directory."""

    server: ClassVar[PrivateRedis]

    @staticmethod
    def open_store(folder: Path) -> RedisStore:
        return open_store(folder)


def open_store(folder: Path) -> RedisStore:
    return RedisStore(
        RedisMachine.server.client,
        queue=folder.name,
        lease_ns=LEASE_NS,
        host="this-host",
        proc=folder,
        server_time=False,
    )


@pytest.mark.usefixtures("server")
def test_the_store_agrees_with_the_model() -> None:
    run_state_machine_as_test(RedisMachine, settings=settings(max_examples=40, stateful_step_count=30, deadline=None))


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("seed", range(10))
def test_a_story_agrees_with_the_model(seed: int) -> None:
    run_story(open_store, seed, steps=150)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.usefixtures("server")
def test_many_stories_agree_with_the_model() -> None:
    for seed in range(1000, 3000):
        run_story(open_store, seed, steps=300)
        if seed % 50 == 0:
            RedisMachine.server.drop("*")
