"""Gangs when the server dies, forgets its last second, or its answers get lost: all members or none, and one attempt."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from redis_proxy import LosingProxy
from redis_server import PrivateRedis
from store_gangs_contract import end_of, gang, say, sit, started, whole, workers
from store_rig import at, look, recount, states, submit
from store_roles_contract import Node, gangs_of, roles, want

from ergates.drivers.stores.redis.store import RedisStore
from ergates.errors import StoreUnavailableError
from ergates.taskqueue.store import Want

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


class Snapshot:
    """What the server had written at some moment, to let it wake up with after a crash."""

    def __init__(self, server: PrivateRedis) -> None:
        self._server = server
        self._copy = server.folder.parent / "copy"
        shutil.copytree(server.folder / "appendonlydir", self._copy)

    def crash(self) -> None:
        """Everything since the snapshot is lost."""
        self._server.kill()
        shutil.rmtree(self._server.folder / "appendonlydir")
        shutil.copytree(self._copy, self._server.folder / "appendonlydir")
        self._server.start()


def test_a_gang_survives_a_server_that_is_started_again(server: PrivateRedis, store: RedisStore) -> None:
    job = submit(store, [gang(2)]).id
    workers(store, "w1", "w2")
    one, two = started(store, "w1", "w2")
    server.kill()
    server.start()
    for worker in ("w1", "w2"):
        answer = look(store, worker, now=1)
        assert (answer.stale, answer.revoked, answer.leases) == (False, (), ())
    say(store, "w2", end_of(two), now=2)
    (ends,) = say(store, "w1", end_of(one), now=2).gang_ends
    assert ends.cause is None
    assert say(store, "w1", whole(one), now=3).refused == ()
    assert states(store, job) == {1: "done"} and len(list(store.attempts(job))) == 1
    recount(store)


def test_a_gang_that_was_forgotten_ends_and_runs_again(server: PrivateRedis, store: RedisStore) -> None:
    job = submit(store, [gang(2)]).id
    workers(store, "w1", "w2")
    sit(store, "w1")
    snapshot = Snapshot(server)
    one, two = started(store, "w1", "w2")
    snapshot.crash()
    assert look(store, "w1", now=1).revoked == ((job, 1, one.fence),)
    assert look(store, "w2", now=1).revoked == ((job, 1, two.fence),)
    assert states(store, job) == {1: "ready"}, "no member takes the whole task for its own"
    for worker, lease in (("w1", one), ("w2", two)):
        assert say(store, worker, end_of(lease), now=2).refused == ((job, 1, lease.fence),)
        assert look(store, worker, now=2).revoked == ()
    again = started(store, "w1", "w2", now=4)
    assert [lease.attempt for lease in again] == [1, 1] and again[0].fence != one.fence
    recount(store)


def test_a_member_that_runs_is_not_started_again(server: PrivateRedis, store: RedisStore) -> None:
    """The gang was not forgotten, but that its members were told to start."""
    submit(store, [gang(2)])
    workers(store, "w1", "w2")
    sit(store, "w1")
    sit(store, "w2")
    snapshot = Snapshot(server)
    (one,) = look(store, "w1").leases
    assert one.gang is not None
    snapshot.crash()
    answer = look(store, "w1", now=1)
    assert (answer.leases, answer.revoked) == ((), ())
    recount(store)


def test_who_leads_a_gang_that_was_forgotten_does_not_wait_for_its_end(server: PrivateRedis, store: RedisStore) -> None:
    job = submit(store, [gang(2)]).id
    workers(store, "w1", "w2")
    sit(store, "w1")
    snapshot = Snapshot(server)
    one, _ = started(store, "w1", "w2")
    assert say(store, "w1", end_of(one), now=1).refused == ()
    snapshot.crash()
    answer = look(store, "w1", now=2)
    assert (answer.refused, answer.revoked) == (((job, 1, one.fence),), ())
    answer = look(store, "w1", now=2)
    assert (answer.refused, answer.revoked) == ((), ()), "said once"
    assert states(store, job) == {1: "ready"}
    recount(store)


def test_a_members_end_that_was_forgotten_is_told_again(server: PrivateRedis, store: RedisStore) -> None:
    job = submit(store, [gang(2)]).id
    workers(store, "w1", "w2")
    one, two = started(store, "w1", "w2")
    snapshot = Snapshot(server)
    say(store, "w2", end_of(two), now=1)
    say(store, "w1", end_of(one), now=1)
    snapshot.crash()
    assert look(store, "w2", now=2).revoked == ()
    (ends,) = look(store, "w1", now=2).gang_ends
    assert ends.cause is None and None not in ends.ends
    assert say(store, "w1", whole(one), now=3).refused == ()
    assert states(store, job) == {1: "done"}
    recount(store)


def test_the_whole_that_was_forgotten_is_told_again(server: PrivateRedis, store: RedisStore) -> None:
    job = submit(store, [gang(2)]).id
    workers(store, "w1", "w2")
    one, two = started(store, "w1", "w2")
    say(store, "w2", end_of(two), now=1)
    say(store, "w1", end_of(one), now=1)
    snapshot = Snapshot(server)
    say(store, "w1", whole(one), now=2)
    snapshot.crash()
    assert look(store, "w1", now=3).gang_ends == ()
    assert states(store, job) == {1: "done"} and len(list(store.attempts(job))) == 1
    recount(store)


def test_a_last_seat_whose_answer_is_lost_starts_the_gang_once(
    server: PrivateRedis, store: RedisStore, tmp_path: Path
) -> None:
    job = submit(store, [gang(2)] * 2).id
    workers(store, "w1")
    with (
        LosingProxy(tmp_path / "proxy", server.socket) as proxy,
        closing(RedisStore(proxy.client, host="this-host", server_time=False)) as far,
    ):
        workers(far, "w2")
        sit(store, "w1")
        (offer,) = look(far, "w2").offers
        wants = [Want(job=job, class_id=offer.class_id, priority=0, count=1)]
        proxy.lose_next = True
        with pytest.raises(StoreUnavailableError):
            far.exchange("w2", [], wants, at(1))
        (two,) = look(far, "w2", now=2).leases
        assert two.gang is not None and two.gang.rank == 1
        (one,) = look(store, "w1", now=2).leases
        assert (one.fence, one.task) == (two.fence, two.task)
        assert look(far, "w2", now=3).leases == ()
    assert states(store, job) == {1: "leased", 2: "ready"}
    recount(store)


def test_a_seat_that_is_asked_for_again_is_no_other_roles(
    server: PrivateRedis, store: RedisStore, tmp_path: Path
) -> None:
    """The second small one says with its want that it can be no server, and that never arrives."""
    submit(store, [roles(counts=(("server", 1), ("client", 1)))])
    big, first = Node(store, "big", group="big"), Node(store, "w1", group="small")
    with (
        LosingProxy(tmp_path / "proxy", server.socket) as proxy,
        closing(RedisStore(proxy.client, host="this-host", server_time=False)) as far,
    ):
        second = Node(far, "w2", group="small")
        (offer,) = second.look().offers
        assert first.sit().seat is not None
        proxy.hold_next = True
        with pytest.raises(StoreUnavailableError):
            second.exchange((want(offer),), 1)
        assert second.look(2).seat is None and first.look(2).leases == ()
        big.sit(3)
        assert gangs_of(big, first, now=3) == [(0, "server"), (1, "client")]
    recount(store)
