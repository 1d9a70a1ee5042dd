"""Copies on a server that loses answers, or its last second: no success counts twice, and no lease stays with nobody."""

from __future__ import annotations

import select

import pytest
from redis_proxy import LosingProxy
from redis_server import PrivateRedis
from store_copies_contract import copy_of, held_by, key, ledger, pair
from store_rig import at, commit, end, look, recount, register, states, submit, take
from test_redis_faults import Open, Snapshot, opened, proxy, server  # noqa: F401 - fixtures

from ergates.cluster.attempt import Outcome
from ergates.drivers.stores.redis.store import RedisStore
from ergates.errors import StoreUnavailableError
from ergates.taskqueue.store import Cancelled, Lease, Want

pytestmark = pytest.mark.needs("redis")


@pytest.mark.parametrize("first", ["w1", "w2"])
@pytest.mark.parametrize("granted", [True, False])
def test_a_server_that_forgets_who_won(server: PrivateRedis, opened: Open, first: str, granted: bool) -> None:  # noqa: F811
    stores: dict[str, RedisStore] = {"w1": opened(), "w2": opened()}
    register(stores["w1"], "w1", "alpha")
    register(stores["w2"], "w2", "beta")
    job = submit(stores["w1"], 1, copies=True).id
    (original,) = take(stores["w1"])
    if not granted:
        snapshot = Snapshot(server)
    (copy,) = copy_of(stores["w2"], original)
    if granted:
        snapshot = Snapshot(server)
    end(stores["w2"], commit(copy), worker="w2", now=2)
    assert look(stores["w1"], now=3).revoked == (key(original),)
    end(stores["w1"], commit(original, Cancelled(), Outcome.CANCELLED), now=4)
    snapshot.crash()
    for worker in (first, "w1" if first == "w2" else "w2"):
        look(stores[worker], worker, now=5)
    if granted or first == "w1":
        assert states(stores["w1"], job) == {1: "done"} and ledger(stores["w1"]) == [(2, "succeeded")]
    else:  # nobody else knows of the copy that had won, so the task runs again
        assert states(stores["w1"], job) == {1: "ready"}
        (again,) = take(stores["w1"], now=6)
        end(stores["w1"], commit(again), now=7)
        assert states(stores["w1"], job) == {1: "done"}
    assert held_by(stores["w1"]) == []
    assert all(look(stores[worker], worker, now=8).revoked == () for worker in stores)
    recount(stores["w1"])


def test_a_server_that_forgets_a_copy(server: PrivateRedis, opened: Open) -> None:  # noqa: F811
    stores = {"w1": opened(), "w2": opened()}
    register(stores["w1"], "w1", "alpha")
    register(stores["w2"], "w2", "beta")
    job = submit(stores["w1"], 1, copies=True).id
    (original,) = take(stores["w1"])
    snapshot = Snapshot(server)
    (copy,) = copy_of(stores["w2"], original)
    snapshot.crash()
    assert look(stores["w1"], now=2).revoked == ()
    assert look(stores["w2"], "w2", now=2).revoked == (key(copy),)
    assert end(stores["w2"], commit(copy), worker="w2", now=3).refused == (key(copy),)
    assert not end(stores["w1"], commit(original), now=3).refused
    assert states(stores["w1"], job) == {1: "done"} and ledger(stores["w1"]) == [(1, "succeeded")]
    recount(stores["w1"])


@pytest.fixture
def beside(opened: Open, proxy: LosingProxy) -> tuple[RedisStore, RedisStore, Lease]:  # noqa: F811
    """The store of w1, that of w2 behind a proxy that can lose answers, and the lease of w1."""
    one, two = opened(), opened(client=proxy.client)
    register(one, "w1", "alpha")
    register(two, "w2", "beta")
    submit(one, 1, copies=True)
    (original,) = take(one)
    return one, two, original


def test_a_copy_whose_answer_was_lost_is_given_with_the_next(
    beside: tuple[RedisStore, RedisStore, Lease],
    proxy: LosingProxy,  # noqa: F811
) -> None:
    one, two, original = beside
    want = Want(job=original.job, class_id=0, priority=0, count=0, copy_of=(original.task, original.fence))
    look(two, "w2")
    proxy.lose_next = True
    with pytest.raises(StoreUnavailableError):
        two.exchange("w2", [], [want], at(1))
    (copy,) = two.exchange("w2", [], [want], at(2)).leases
    assert copy.copy_of_host == "alpha" and held_by(one) == ["w1", "w2"]
    proxy.lose_next = True
    with pytest.raises(StoreUnavailableError):
        end(two, commit(copy), worker="w2", now=3)
    assert end(one, commit(original), now=3).refused == (key(original),)
    assert end(two, commit(copy), worker="w2", now=4).refused == ()
    assert ledger(one) == [(2, "succeeded")]
    recount(one)


def test_an_overtaken_worker_is_rung_for(opened: Open) -> None:  # noqa: F811
    store = opened()
    original, copy = pair(store)
    bell = store.bell("w1")
    end(store, commit(copy), worker="w2", now=2)
    assert select.select([bell], [], [], 20.0)[0]
    bell.close()
    assert look(store, now=3).revoked == (key(original),)
