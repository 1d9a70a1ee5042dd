"""Forgetting on Redis: no key stays, drained jobs need no leave, and whoever looks on meanwhile is not confused."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from redis_server import PrivateRedis
from store_retention_contract import tangled_job
from store_rig import LEASE_NS, at, finish, lines, look, recount, register, submit, take

from ergates.cluster.task import JobId, TaskSpec
from ergates.drivers.stores.redis.store import RedisStore
from ergates.errors import UnknownJobError
from ergates.taskqueue.retention import Forgetting

pytestmark = pytest.mark.needs("redis")
_queues = itertools.count(1)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateRedis]:
    with PrivateRedis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def store(server: PrivateRedis) -> Iterator[RedisStore]:
    store = RedisStore(server.client, queue=f"q{next(_queues)}", lease_ns=LEASE_NS, server_time=False)
    yield store
    store.close()
    server.drop(store.queue)


def keys_of_jobs(server: PrivateRedis, store: RedisStore) -> set[str]:
    """Keys that belong to one job, and members that name one."""
    client = server.client()
    prefix = f"{{erg:{store.queue}}}:"
    names = {key.decode().removeprefix(prefix) for key in client.scan_iter(match=f"{prefix}*", count=1000)}
    found = {name for name in names if name.startswith(("j:", "l:", "gang:"))}
    for kind, name in (("z", "jobs"), ("z", "logs"), ("z", "due"), ("z", "offers"), ("h", "waiting"), ("h", "keys")):
        count = client.zcard(prefix + name) if kind == "z" else client.hlen(prefix + name)
        if count:
            found.add(f"{name}: {count}")
    client.close()
    return found


def test_no_key_of_a_forgotten_job_stays(server: PrivateRedis, store: RedisStore) -> None:
    job = tangled_job(store)
    assert {"j:1:pre", "j:1:need", "j:1:waiters", "j:1:edits", "j:1:back", "j:1:why", "j:1:lane"} <= keys_of_jobs(
        server, store
    )
    store.forget_job(job, history=True)
    assert keys_of_jobs(server, store) == set()


def test_drained_jobs_may_go(store: RedisStore) -> None:
    register(store)
    job = submit(store, 3).id
    finish(store, take(store, 3))
    batch = store.undrained(100)
    assert store.forget_job(job) is Forgetting.HISTORY
    store.forget(batch)
    assert store.with_history() == frozenset()
    assert store.forget_job(job) is Forgetting.FORGOTTEN


def test_a_batch_that_was_peeked_before_can_still_be_marked_as_drained(store: RedisStore) -> None:
    register(store)
    gone, other = submit(store, 1, key="gone").id, submit(store, 1, key="other", now=1).id
    finish(store, take(store, 2))
    batch = store.undrained(100)
    assert store.forget_job(gone, history=True) is Forgetting.FORGOTTEN
    assert [job.id for job in store.undrained(100).jobs] == [other]
    store.forget(batch)
    assert store.undrained(100).rows == ()


def test_steps_that_were_left_for_a_forgotten_job_are_skipped(server: PrivateRedis, store: RedisStore) -> None:
    """What follows from the last end of a job may be left to the next call; the job may be gone by then."""
    register(store)
    ranges = 1500  # more steps follow from one end than one call makes
    tasks = [*lines(1), *(TaskSpec(command="c", after=((1, 1),)) for _ in range(ranges))]
    job = submit(store, tasks).id
    other = submit(store, 1, key="other", now=1).id
    store.set_phase(job, "cancelled", at(1))
    client = server.client()
    work = f"{{erg:{store.queue}}}:work"
    assert store.status(job).finished_ns is not None
    # The client goes on until nothing follows. One that dies in between leaves such steps:
    client.rpush(work, b"\x94\xa4done\x01\x01\x00")
    meta = f"{{erg:{store.queue}}}:meta"
    packed = client.hget(meta, "counters")
    assert isinstance(packed, bytes)
    counters = bytearray(packed)
    counters[5 * 8 : 6 * 8] = (b"\x00" * 6) + b"\xf0\x3f"  # one step in `work`
    client.hset(meta, "counters", bytes(counters))
    assert store.forget_job(job) is Forgetting.FORGOTTEN
    assert [offer.job for offer in look(store).offers] == [other]
    assert client.llen(work) == 0
    finish(store, take(store, 1))
    assert store.status(other).finished_ns is not None
    client.close()


def test_a_reader_in_the_middle_of_a_listing_is_told(store: RedisStore) -> None:
    register(store)
    job = submit(store, 1200).id
    while leases := take(store, 400):
        finish(store, leases)
    listing = store.tasks(job)
    assert next(listing).task == 1
    store.forget_job(job, history=True)
    with pytest.raises(UnknownJobError):
        list(listing)


def test_a_job_of_many_tasks_goes_in_one_short_call(server: PrivateRedis, store: RedisStore) -> None:
    """However large it is: the server is asked for a handful of commands."""
    job = submit(store, 30_000).id
    store.set_phase(job, "cancelled", at(1))
    client = server.client()
    client.config_resetstat()
    assert store.forget_job(JobId(job)) is Forgetting.FORGOTTEN
    calls = sum(int(each["calls"]) for each in client.info("commandstats").values())
    assert calls < 40
    recount(store)
    client.close()
