"""The master dies or freezes, a replica takes over: the same store object goes on, fences of both are told apart."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

import pytest
from erg_rig import eventually
from redis_server import Server, watched_pair

from ergates.cluster.attempt import Attempt, Outcome
from ergates.cluster.job import JobSpec
from ergates.cluster.node import NodeCapacity, WorkerInfo
from ergates.cluster.task import TaskSpec
from ergates.drivers.stores.open_cluster import client_factory, open_cluster_store
from ergates.drivers.stores.redis.store import RedisStore
from ergates.drivers.stores.store_file import store_address
from ergates.errors import StoreUnavailableError
from ergates.taskqueue.store import Commit, Done, Lease, Want
from ergates.units import GIB, Bytes, MilliCpus, Nanoseconds

pytestmark = [pytest.mark.system, pytest.mark.needs("redis", "sentinel")]
NOW = Nanoseconds(1_700_000_000 * 10**9)
SECRET = "hush"
T = TypeVar("T")


def master_of(client: Any) -> tuple[str, int]:
    """Whom the Sentinels name."""
    host, port = client.connection_pool.get_master_address()
    return str(host), int(port)


def lease_one(store: RedisStore) -> Lease:
    (offer,) = store.exchange("w", (), (), NOW).offers
    want = Want(job=offer.job, class_id=offer.class_id, priority=offer.priority, count=1)
    (lease,) = store.exchange("w", (), (want,), NOW).leases
    return lease


def done(lease: Lease) -> Commit:
    attempt = Attempt(number=lease.attempt, outcome=Outcome.SUCCEEDED, worker="w", host="h")
    return Commit(job=lease.job, task=lease.task, fence=lease.fence, attempt=attempt, verdict=Done())


def once_reachable(call: Callable[[], T], what: str) -> T:
    """A worker tries again, too, until the Sentinels have agreed on another master."""
    found: list[T] = []

    def tried() -> bool:
        try:
            found.append(call())
        except StoreUnavailableError:
            return False
        return True

    eventually(tried, what)
    return found[0]


@pytest.mark.parametrize("fate", [Server.kill, Server.stop], ids=["killed", "frozen"])
def test_the_client_goes_on_with_the_replica(tmp_path: Path, fate: Callable[[Server], None]) -> None:
    with watched_pair(tmp_path, "main", SECRET) as (master, replica, sentinels):
        there = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in sentinels)
        address = store_address(f"redis+sentinel://{there}/main", env={"ERGATES_STORE_PASSWORD": SECRET})
        with closing(open_cluster_store(address, host="h")) as store, closing(client_factory(address)()) as client:
            job = store.submit(JobSpec(key="k"), [TaskSpec(command="true")] * 10, NOW).id
            capacity = NodeCapacity(cpus_milli=MilliCpus(1000), memory_bytes=Bytes(GIB))
            store.register(WorkerInfo(id="w", host="h", capacity=capacity), NOW)
            before = lease_one(store)
            assert master_of(client) == ("127.0.0.1", master.port)
            client.set("{erg:default}:mark", 1)
            assert client.wait(1, 5000) == 1  # the replica has it all
            fate(master)

            once_reachable(lambda: store.exchange("w", (), (), NOW), "the replica was promoted and found")
            assert master_of(client) == ("127.0.0.1", replica.port)
            after = lease_one(store)
            assert after.fence >> 32 > before.fence >> 32, "another server: another generation of fences"
            answer = store.exchange("w", (done(before), done(after)), (), NOW)
            assert answer.refused == ()
            status = store.status(job)
            assert (status.counts["done"], status.counts["ready"]) == (2, 8)
            assert {int(task) for _, task, _ in store.attempts(job)} == {int(before.task), int(after.task)}
