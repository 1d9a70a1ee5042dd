"""What may go wrong between a worker and its Redis: answers get lost, the server dies and forgets, clocks differ, memory ends."""

from __future__ import annotations

import functools
import itertools
import select
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis_proxy import LosingProxy
from redis_server import PrivateRedis
from store_rig import (
    at,
    attempt,
    back,
    commit,
    end,
    finish,
    ids,
    info,
    lines,
    look,
    recount,
    register,
    states,
    submit,
    take,
)

from ergates.clock import SystemClock
from ergates.cluster.attempt import Kept, Outcome
from ergates.cluster.job import JobSpec
from ergates.cluster.node import WorkerLoad, WorkerOrders
from ergates.cluster.task import JobId, TaskSpec
from ergates.drivers.stores.redis import exchanging
from ergates.drivers.stores.redis.connection import RedisConnection
from ergates.drivers.stores.redis.store import RedisStore
from ergates.errors import StoreError, StoreFullError, StoreUnavailableError, UsageError
from ergates.taskqueue.store import Bell, Commit, Done, Exchanged, Failed, Lease, PastFailures, Returned, Want
from ergates.units import SECOND_NS, Nanoseconds

pytestmark = pytest.mark.needs("redis")
HOUR_NS = 3600 * SECOND_NS
RINGS_WITHIN_S = 20.0
Open = Callable[..., RedisStore]
_queues = itertools.count(1)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[PrivateRedis]:
    (tmp_path / "redis").mkdir()
    with PrivateRedis(tmp_path / "redis") as server:
        yield server


@pytest.fixture
def opened(server: PrivateRedis) -> Iterator[Open]:
    """Opens stores on the server (or through another client) and closes them at the end."""
    stores: list[RedisStore] = []

    def open_store(queue: str = "q", client: object = server.client, *, server_time: bool = False) -> RedisStore:
        stores.append(RedisStore(client, queue=queue, host="this-host", server_time=server_time))  # type: ignore[arg-type]
        return stores[-1]

    yield open_store
    for store in stores:
        store.close()


def want(store: RedisStore, count: int, worker: str = "w1") -> list[Want]:
    (offer,) = look(store, worker).offers
    return [Want(job=offer.job, class_id=offer.class_id, priority=offer.priority, count=count)]


# --- lost answers -----------------------------------------------------------------------------------


@pytest.fixture
def proxy(server: PrivateRedis, tmp_path: Path) -> Iterator[LosingProxy]:
    with LosingProxy(tmp_path / "proxy", server.socket) as proxy:
        yield proxy


def test_an_exchange_whose_answer_is_lost_is_carried_out_once(opened: Open, proxy: LosingProxy) -> None:
    store = opened(client=proxy.client)
    job = submit(store, 10).id
    register(store)
    leases = take(store, 2)
    wants = want(store, 3)
    proxy.lose_next = True
    with pytest.raises(StoreUnavailableError):
        store.exchange("w1", [commit(lease) for lease in leases], wants, at(1))
    assert states(opened(), job) == {n: "done" if n < 3 else "leased" if n < 6 else "ready" for n in range(1, 11)}
    answer = store.exchange("w1", [commit(lease) for lease in leases], wants, at(2))
    assert (ids(answer.leases), answer.refused) == ([3, 4, 5], ())
    assert [offer.waiting for offer in answer.offers] == [5]
    assert finish(store, answer.leases).refused == ()
    assert len(list(store.attempts(job))) == 5
    recount(store)


def test_an_exchange_that_never_arrived_is_carried_out_once(server: PrivateRedis, opened: Open) -> None:
    store = opened()
    job = submit(store, 5).id
    register(store)
    leases = take(store, 2)
    wants = want(store, 2)
    server.kill()
    for _ in range(2):
        with pytest.raises(StoreUnavailableError):
            store.exchange("w1", [commit(lease) for lease in leases], wants, at(1))
    server.start()
    answer = store.exchange("w1", [commit(lease) for lease in leases], wants, at(2))
    assert (ids(answer.leases), answer.refused) == ([3, 4], ())
    assert len(list(store.attempts(job))) == 2
    recount(store)


def test_refusals_of_a_lost_answer_are_told(opened: Open, proxy: LosingProxy) -> None:
    store = opened(client=proxy.client)
    job = submit(store, 2).id
    register(store)
    (lease,) = take(store, 1)
    finish(store, [lease])
    proxy.lose_next = True
    with pytest.raises(StoreUnavailableError):
        finish(store, [lease])
    assert finish(store, [lease]).refused == ((job, 1, lease.fence),)


def test_a_question_that_arrives_when_it_was_long_asked_again_leases_nothing(opened: Open, proxy: LosingProxy) -> None:
    """Nobody would hear of that lease, and a worker that lives keeps what it holds: the task would wait for ever."""
    store, other = opened(client=proxy.client), opened()
    job = submit(store, 1).id
    register(store)
    register(other, "w2")
    wants = want(store, 1)
    proxy.hold_next = True
    with pytest.raises(StoreUnavailableError):
        store.exchange("w1", [], wants, at(1))
    (lease,) = take(other, worker="w2")
    assert store.exchange("w1", [], wants, at(2)).leases == ()
    end(other, back(lease), worker="w2")
    proxy.deliver()
    assert states(other, job) == {1: "ready"}
    assert ids(take(other, worker="w2")) == [1]


def test_commits_of_a_first_part_are_known_when_the_second_part_is_lost(
    opened: Open, proxy: LosingProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchanging, "COMMITS_AT_ONCE", 2)
    store = opened(client=proxy.client)
    job = submit(store, 5).id
    register(store)
    commits = [commit(lease) for lease in take(store, 5)]
    run, calls = store._session.run, itertools.count(1)

    def lose_second(*arguments: object, **more: object) -> list[object]:
        proxy.lose_next = next(calls) == 2
        return run(*arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(store._session, "run", lose_second)
    with pytest.raises(StoreUnavailableError):
        store.exchange("w1", commits, [], at(1))
    assert store.exchange("w1", commits, [], at(2)).refused == ()
    assert states(store, job) == dict.fromkeys(range(1, 6), "done")
    recount(store)


def test_a_submission_whose_answer_is_lost_is_there_once(opened: Open, proxy: LosingProxy) -> None:
    store = opened(client=proxy.client)
    look(store, "nobody")

    def tasks() -> Iterator[TaskSpec]:
        yield from lines(600)
        session = store._session
        run = session.run

        def lossy(name: str, *args: object, **named: object) -> object:
            proxy.lose_next = name == "publish" and not proxy_lost.pop()
            proxy_lost.append(True)
            return run(name, *args, **named)  # type: ignore[arg-type]

        session.run = lossy  # type: ignore[method-assign,assignment]

    proxy_lost = [False]
    made = submit(store, tasks())
    assert (made.id, made.total, made.resumed) == ("j1", 600, False)
    assert len(store.jobs()) == 1


# --- the server dies --------------------------------------------------------------------------------


def test_leases_survive_a_killed_server_and_nobody_is_condemned_for_its_absence(
    server: PrivateRedis, opened: Open
) -> None:
    store, other = opened(), opened()
    submit(store, 4)
    register(store, "w1")
    register(other, "w2", "beta")
    leases = take(store, 2)
    server.kill()
    server.start()
    look(other, "w2", now=1000)
    assert other.expired(at(1000)) == ()
    assert finish(store, leases, now=1001).refused == ()
    (more,) = take(store, 1, now=1002)
    assert more.fence >> 32 > leases[0].fence >> 32
    recount(store)


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


def test_a_job_that_was_forgotten_leaves_its_number_but_not_its_leases(server: PrivateRedis, opened: Open) -> None:
    """Else the result of an old task would be taken for that of another job's task."""
    store, other = opened(), opened()
    register(store)
    snapshot = Snapshot(server)
    old = submit(store, 3, key="old").id
    leases = take(store, 2)
    snapshot.crash()
    new = submit(other, 3, key="new").id
    assert new == old
    assert look(store, now=1).revoked == tuple((lease.job, lease.task, lease.fence) for lease in leases)
    answer = store.exchange("w1", [commit(lease) for lease in leases], [], at(2))
    assert answer.refused == tuple((lease.job, lease.task, lease.fence) for lease in leases)
    assert states(store, new) == dict.fromkeys(range(1, 4), "ready")
    recount(store)


def test_commits_and_leases_of_a_lost_second_are_told_again(server: PrivateRedis, opened: Open) -> None:
    store = opened()
    job = submit(store, 6).id
    register(store)
    one, two = take(store, 2)
    snapshot = Snapshot(server)
    finish(store, [one])
    (three, four) = take(store, 2)
    end(store, commit(three, Failed(reason="bad")))
    snapshot.crash()
    answer = look(store, now=1)
    assert (answer.stale, answer.revoked) == (False, ())
    assert states(store, job) == {1: "done", 2: "leased", 3: "failed", 4: "leased", 5: "ready", 6: "ready"}
    assert finish(store, [two, four]).refused == ()
    assert [(int(task), made.outcome.value) for _, task, made in store.attempts(job)] == [
        (1, "succeeded"), (3, "failed"), (2, "succeeded"), (4, "succeeded"),
    ]  # fmt: skip
    recount(store)


def test_a_commit_that_was_not_lost_is_not_counted_twice(server: PrivateRedis, opened: Open) -> None:
    store = opened()
    job = submit(store, 3).id
    register(store)
    one, two, three = take(store, 3)
    end(store, commit(one), commit(two, Returned(past=PastFailures(memory=1))))
    server.kill()
    server.start()
    look(store, now=1)
    assert states(store, job) == {1: "done", 2: "ready", 3: "leased"}
    assert len(list(store.attempts(job))) == 2
    assert finish(store, [three]).refused == ()
    recount(store)


def test_what_was_leased_to_somebody_else_meanwhile_is_revoked(server: PrivateRedis, opened: Open) -> None:
    store, other = opened(), opened()
    job = submit(store, 2).id
    register(store, "w1")
    register(other, "w2", "beta")
    snapshot = Snapshot(server)
    (mine,) = take(store, 1)
    snapshot.crash()
    (taken,) = take(other, 1, worker="w2")
    assert taken.task == mine.task and taken.fence != mine.fence
    assert look(store).revoked == ((job, 1, mine.fence),)
    assert finish(store, [mine]).refused == ((job, 1, mine.fence),)
    assert look(store).revoked == ()
    assert finish(other, [taken], worker="w2").refused == ()
    recount(store)


def test_a_registration_that_was_lost_is_made_again(server: PrivateRedis, opened: Open) -> None:
    store = opened()
    job = submit(store, 2).id
    snapshot = Snapshot(server)
    register(store)
    (lease,) = take(store, 1)
    snapshot.crash()
    answer = finish(store, [lease])
    assert (answer.stale, answer.refused) == (False, ())
    assert states(store, job) == {1: "done", 2: "ready"}


def test_what_a_second_server_loses_is_told_to_the_third(server: PrivateRedis, opened: Open) -> None:
    """The first was away for long; what the worker told the second was as new there as what was just done."""
    store = opened()
    job = submit(store, 2).id
    register(store)
    (lease,) = take(store, 1)
    snapshot = Snapshot(server)
    finish(store, [lease], now=1)
    snapshot.crash()
    look(store, now=20)
    look(store, now=21)
    snapshot.crash()
    look(store, now=22)
    assert states(store, job) == {1: "done", 2: "ready"}
    recount(store)


def test_what_was_given_back_by_starting_over_is_not_held_again(server: PrivateRedis, opened: Open) -> None:
    """A worker that lives and does not know of its lease would keep the task for ever."""
    store = opened()
    job = submit(store, 3).id
    register(store)
    take(store, 2)
    snapshot = Snapshot(server)
    register(store, now=1)
    (lease,) = take(store, 1)
    snapshot.crash()
    assert finish(store, [lease]).refused == ()
    assert states(store, job) == {1: "done", 2: "ready", 3: "ready"}
    recount(store)


def test_a_lost_answer_before_a_lost_second(server: PrivateRedis, opened: Open, proxy: LosingProxy) -> None:
    store = opened(client=proxy.client)
    job = submit(store, 6).id
    register(store)
    leases = take(store, 2)
    wants = want(store, 2)
    snapshot = Snapshot(server)
    proxy.lose_next = True
    with pytest.raises(StoreUnavailableError):
        store.exchange("w1", [commit(lease) for lease in leases], wants, at(1))
    snapshot.crash()
    answer = store.exchange("w1", [commit(lease) for lease in leases], wants, at(1))
    assert (ids(answer.leases), answer.refused, answer.revoked) == ([3, 4], (), ())
    assert states(store, job) == {1: "done", 2: "done", 3: "leased", 4: "leased", 5: "ready", 6: "ready"}
    recount(store)


# --- clocks -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("skew_ns", [-HOUR_NS, HOUR_NS])
def test_a_clock_that_is_an_hour_off_harms_nothing(opened: Open, skew_ns: int) -> None:
    clock = SystemClock()
    store, skewed = opened(server_time=True), opened(server_time=True)
    job = store.submit(JobSpec(key="k"), lines(3), clock.now_ns()).id
    store.register(info("w1", "alpha"), clock.now_ns())
    skewed.register(info("w2", "beta"), Nanoseconds(clock.now_ns() + skew_ns))

    def ask(commits: list[Commit], wants: list[Want]) -> Exchanged:
        return skewed.exchange("w2", commits, wants, Nanoseconds(clock.now_ns() + skew_ns))

    (offer,) = ask([], []).offers
    (lease,) = ask([], [Want(job=job, class_id=offer.class_id, priority=0, count=1)]).leases
    assert store.expired(clock.now_ns()) == ()
    assert skewed.expired(Nanoseconds(clock.now_ns() + skew_ns)) == ()
    due_ns = Nanoseconds(clock.now_ns() + skew_ns + 600 * SECOND_NS)
    returned = Returned(past=PastFailures(timeouts=1), not_before_ns=due_ns)
    answer = ask([commit(lease, returned)], [])
    assert answer.next_ready_ns is not None and abs(answer.next_ready_ns - due_ns) < SECOND_NS
    seen = store.exchange("w1", [], [], clock.now_ns())
    assert seen.next_ready_ns is not None and abs(seen.next_ready_ns - (due_ns - skew_ns)) < SECOND_NS
    assert [offer.waiting for offer in seen.offers] == [2]


def test_a_view_shows_moments_on_the_readers_clock(opened: Open) -> None:
    clock = SystemClock()
    store = opened(server_time=True)
    job = store.submit(JobSpec(key="k"), lines(1), clock.now_ns()).id
    store.register(info("w1", "alpha"), clock.now_ns())
    (offer,) = store.exchange("w1", [], [], clock.now_ns()).offers
    wants = [Want(job=job, class_id=offer.class_id, priority=0, count=1)]
    (lease,) = store.exchange("w1", [], wants, clock.now_ns()).leases
    due_ns = Nanoseconds(clock.now_ns() + 600 * SECOND_NS)
    store.exchange("w1", [commit(lease, Returned(past=PastFailures(), not_before_ns=due_ns))], [], clock.now_ns())
    (view,) = opened(server_time=True).tasks(job)
    assert abs(view.not_before_ns - due_ns) < SECOND_NS


# --- limits and strangers ---------------------------------------------------------------------------


def test_a_full_server_says_so_and_changes_nothing(server: PrivateRedis, opened: Open) -> None:
    store = opened()
    job = submit(store, 100).id
    register(store)
    leases = take(store, 3)
    wants = want(store, 3)
    client = server.client()
    client.config_set("maxmemory", "1mb")
    with pytest.raises(StoreFullError, match="maxmemory"):
        store.exchange("w1", [commit(lease) for lease in leases], wants, at(1))
    with pytest.raises(StoreFullError):
        submit(store, 100, key="other")
    client.config_set("maxmemory", "0")
    client.close()
    assert states(store, job) == {n: "leased" if n < 4 else "ready" for n in range(1, 101)}
    answer = store.exchange("w1", [commit(lease) for lease in leases], wants, at(2))
    assert (answer.refused, ids(answer.leases)) == ((), [4, 5, 6])
    assert len(store.jobs()) == 1
    recount(store)


def test_another_layout_is_refused_with_what_to_do(server: PrivateRedis, opened: Open) -> None:
    store = opened()
    submit(store, 1)
    client = server.client()
    client.hset("{erg:q}:meta", "layout", "99")
    client.close()
    with pytest.raises(StoreError, match="version 99, this Ergates reads version 1"):
        register(opened())


def test_a_wrong_password_says_what_to_do(tmp_path: Path) -> None:
    with PrivateRedis(tmp_path, "--requirepass", "secret") as server:
        store = RedisStore(server.client)
        with pytest.raises(StoreError, match="ERGATES_STORE_PASSWORD_FILE"):
            register(store)
        store.close()


def test_no_server(tmp_path: Path) -> None:
    server = PrivateRedis(tmp_path)
    store = RedisStore(server.client)
    with pytest.raises(StoreUnavailableError, match="cannot be reached"):
        register(store)
    store.close()


def test_queues_do_not_see_each_other_and_strangers_keys_are_left_alone(server: PrivateRedis, opened: Open) -> None:
    client = server.client()
    client.set("theirs", "1")
    one, two = opened("one"), opened("two")
    submit(one, 2)
    register(one)
    submit(two, 3)
    register(two)
    assert [offer.waiting for offer in look(one).offers] == [2]
    assert [offer.waiting for offer in look(two).offers] == [3]
    finish(one, take(one, 2))
    assert look(two).open_tasks == 3
    assert client.get("theirs") == b"1"
    names = set(client.scan_iter(count=1000)) - {b"theirs"}
    assert all(name.startswith((b"{erg:one}:", b"{erg:two}:")) for name in names)
    client.close()


# --- bell, roster, orders ---------------------------------------------------------------------------


def rings(bell: Bell) -> bool:
    """Waits until it does."""
    return bool(select.select([bell], [], [], RINGS_WITHIN_S)[0])


def test_the_bell_rings_for_new_tasks_revocations_and_orders(opened: Open) -> None:
    store, user = opened(), opened()
    register(store)
    bell = store.bell("w1")
    try:
        assert rings(bell)  # it has just connected: there may be something
        bell.clear()
        assert look(store).offers == ()
        job = submit(user, 1).id
        assert rings(bell)
        bell.clear()
        (lease,) = take(store, 1)
        user.cancel(job, [(1, 1)], "no", at(0))
        assert rings(bell)
        bell.clear()
        assert look(store).revoked == ((job, 1, lease.fence),)
        user.order("w1", WorkerOrders(jobs=3))
        assert rings(bell)
    finally:
        bell.close()


def test_the_bell_rings_again_after_the_server_was_away(server: PrivateRedis, opened: Open) -> None:
    store, user = opened(), opened()
    register(store)
    bell = store.bell("w1")
    try:
        assert rings(bell)
        bell.clear()
        server.kill()
        server.start()
        assert rings(bell)
        bell.clear()
        look(store)
        submit(user, 1)
        assert rings(bell)
    finally:
        bell.close()


def wakes(server: PrivateRedis) -> set[str]:
    client = server.client()
    found = {name.decode().rpartition(":")[2] for name in client.scan_iter(match="*wake:*", count=1000)}
    client.close()
    return found


def test_only_as_many_idle_workers_are_woken_as_there_are_tasks(server: PrivateRedis, opened: Open) -> None:
    store = opened()
    for number in range(5):
        register(store, f"w{number}", f"host{number}")
        look(store, f"w{number}")
    submit(store, 2)
    assert len(wakes(server)) == 2


def test_a_ring_is_passed_on_until_it_comes_to_somebody_who_can(server: PrivateRedis, opened: Open) -> None:
    store = opened()
    workers = [f"w{number}" for number in range(5)]
    for worker in workers:
        register(store, worker, worker)
        look(store, worker)
    submit(store, 1)
    (first,) = wakes(server)
    (offer,) = look(store, first).offers
    answered = {first}
    store.exchange(first, [], [], at(0), unfit=[offer.class_id])
    while more := wakes(server) - answered:
        (worker,) = more
        answered.add(worker)
        look(store, worker)
        store.exchange(worker, [], [], at(0), unfit=[offer.class_id])
    assert answered == set(workers)


def test_the_roster_and_orders(opened: Open) -> None:
    store, user = opened(), opened()
    register(store, "w1", "alpha")
    register(store, "w2", "beta", now=1)
    submit(store, 3)
    take(store, 2)
    load = WorkerLoad(running=2, note="busy")
    assert store.exchange("w1", [], [], at(5), load=load).orders is None
    assert user.order("w1", WorkerOrders(jobs=3, labels={"a": "1"})).version == 1
    merged = user.order("w1", WorkerOrders(drain=True, labels={"b": "2"}))
    assert merged == WorkerOrders(version=2, drain=True, jobs=3, labels={"a": "1", "b": "2"})
    assert store.exchange("w1", [], [], at(6), orders_seen=1).orders == merged
    assert store.exchange("w1", [], [], at(6), orders_seen=2).orders is None
    one, two = user.workers()
    assert (one.info.id, one.standing, one.leases, one.load, one.orders) == ("w1", "live", 2, load, merged)
    assert (two.info.id, two.standing, two.beat_age_ns) == ("w2", "live", 5 * SECOND_NS)
    look(store, "w2", now=40)
    user.expired(at(40))
    store.leave("w2", at(41))
    assert [worker.standing for worker in user.workers()] == ["condemned", "left"]
    with pytest.raises(UsageError, match="no worker"):
        user.order("w9", WorkerOrders(drain=True))


# --- draining ---------------------------------------------------------------------------------------


def test_attempts_drain_in_order_and_are_forgotten_only_when_told(opened: Open) -> None:
    store, other = opened(), opened()
    job = submit(store, [TaskSpec(command="c", labels={"n": str(n)}) for n in range(5)]).id
    register(store)
    leases = take(store, 5)
    kept = Kept(stdout=b"\0out" * 1000, result=b"r")
    end(
        store,
        Commit(
            job=job, task=leases[0].task, fence=leases[0].fence, attempt=attempt(leases[0]), verdict=Done(), kept=kept
        ),
    )
    finish(store, leases[1:3])
    batch = other.undrained(1)
    assert [(int(row.task), row.kept, row.labels) for row in batch.rows] == [(1, kept, {"n": "0"})]
    assert other.undrained(1).rows == batch.rows
    assert [row.task for row in other.undrained(2).rows] == [1]
    assert [row.task for row in other.undrained(3).rows] == [1, 2, 3]
    (record,) = batch.jobs
    assert (record.queue, record.id, record.total, record.submitted_ns) == ("q", job, 5, at(0))
    assert [(task, number, some) for task, number, some in store.kept(job)] == [(1, 1, kept)]
    finish(store, leases[3:4])
    for _ in range(2):
        other.forget(batch)
    assert [int(task) for _, task, _ in store.attempts(job)] == [2, 3, 4]
    rest = other.undrained(100)
    assert [row.task for row in rest.rows] == [2, 3, 4]
    finish(store, leases[4:])
    other.forget(rest)
    assert [row.task for row in other.undrained(100).rows] == [5]
    other.forget(other.undrained(100))
    assert other.undrained(100) == type(batch)(jobs=(), rows=(), token=other.undrained(1).token)
    assert store.status(job).outcomes == {Outcome.SUCCEEDED.value: 5}


def test_rows_of_an_exchange_that_is_larger_than_asked_come_whole(opened: Open) -> None:
    store = opened()
    submit(store, 20)
    register(store)
    finish(store, take(store, 20))
    assert len(store.undrained(7).rows) == 20


# --- large --------------------------------------------------------------------------------------------


def chain_of(leases: tuple[Lease, ...]) -> list[int]:
    return [lease.task for lease in leases]


def test_what_follows_from_one_end_is_done_in_steps_by_whoever_calls(opened: Open) -> None:
    """A barrier of more tasks than one call frees."""
    store = opened()
    width = 2500
    job = submit(store, [TaskSpec(command="c"), *[TaskSpec(command="c", after=((1, 1),))] * width]).id
    register(store)
    finish(store, take(store, 1))
    seen = [store.status(job).counts["blocked"]]
    while seen[-1]:
        look(store)
        seen.append(store.status(job).counts["blocked"])
    assert seen[0] < width and len(seen) > 2
    assert store.status(job).counts["ready"] == width


def test_cancelling_and_retrying_many_with_many_behind_them(opened: Open) -> None:
    store = opened()
    count = 3000
    tasks = [TaskSpec(command="c")] * count
    tasks += [TaskSpec(command="c", after=((number, number),)) for number in range(1, count + 1)]
    job = submit(store, tasks).id
    assert store.cancel(job, [(1, count)], "no", at(0)) == count
    assert store.status(job).counts["cancelled"] == 2 * count
    assert store.retry(job, [(1, count)], at(1)) == count
    counts = store.status(job).counts
    assert (counts["ready"], counts["blocked"]) == (count, count)


def test_large_commands_are_fetched_one_by_one(opened: Open) -> None:
    store = opened()
    tasks = [TaskSpec(command=f"{number} " + "x" * 5000, payload=bytes([number % 256]) * 5000) for number in range(600)]
    job = submit(store, tasks).id
    assert [view.spec for view in store.tasks(JobId(job))] == tasks
    register(store)
    (lease,) = opened().exchange("w1", [], want(store, 1), at(0)).leases
    assert lease.spec == tasks[0]


def test_what_a_silent_server_was_told_is_taken_back() -> None:
    """Else the kernel sends it again for minutes, perhaps to be carried out when nobody waits for it any more."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        asked: list[bytes] = []

        def serve() -> None:
            asker, _ = listener.accept()
            with asker, pytest.raises(ConnectionResetError):
                while data := asker.recv(65536):
                    asker.sendall(b"+OK\r\n" * data.count(b"SETINFO"))
                    if b"$4\r\nINFO" in data:
                        text = b"redis_version:7.0.0\r\nrun_id:r1\r\n"
                        asker.sendall(b"$%d\r\n%s\r\n" % (len(text), text))
                    elif b"GET" in data:
                        asked.append(data)

        served = threading.Thread(target=serve)
        served.start()
        client = functools.partial(redis.Redis, port=port, socket_timeout=0.2, retry=Retry(NoBackoff(), 0), protocol=2)
        connection = RedisConnection(client, "q")
        with pytest.raises(StoreUnavailableError):
            connection.command("GET", "x")
        served.join()
    assert asked
