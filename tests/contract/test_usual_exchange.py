"""The usual exchange is answered in one straight line (lua/usual.lua), any other by the general script. Which of them answers
must make no difference to anybody: the same story, once with and once without the straight line, leaves the same in every key.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from redis_server import PrivateRedis
from store_rig import LEASE_NS, at, attempt, back, commit, lines, register, requirement, submit

from ergates.cluster.attempt import Outcome
from ergates.cluster.node import WorkerLoad
from ergates.cluster.task import JobId, TaskSpec
from ergates.drivers.stores.redis import exchanging, scripts, submitting
from ergates.drivers.stores.redis.store import RedisStore
from ergates.errors import StoreError
from ergates.taskqueue.store import Commit, Done, Exchanged, Failed, Lease, Returned, Want
from ergates.units import Nanoseconds

pytestmark = pytest.mark.needs("redis")
WORKERS = ("w1", "w2", "w3")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateRedis]:
    with PrivateRedis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def counted_names(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """Names are counted instead of drawn; the call begins anew. Scripts are put together anew before and after."""

    def begin_anew() -> None:
        numbers = itertools.count(1)
        for module in (exchanging, submitting):
            monkeypatch.setattr(module.secrets, "token_hex", lambda size: f"{next(numbers):0{size * 2}x}")
        scripts.script.cache_clear()

    yield begin_anew
    monkeypatch.undo()
    scripts.script.cache_clear()


def open_store(server: PrivateRedis, queue: str) -> RedisStore:
    return RedisStore(server.client, queue=queue, lease_ns=LEASE_NS, host="this-host", server_time=False)


class _Story:
    """Three workers that mostly do what workers do: commit what is done and take as much again."""

    def __init__(self, store: RedisStore, seed: int) -> None:
        self.store, self.random = store, random.Random(f"{seed}/usual")
        self.held: dict[str, list[Lease]] = {worker: [] for worker in WORKERS}
        self.answers: dict[str, Exchanged] = {}
        self.said: list[Exchanged] = []
        self.now_s = 0.0
        for worker in WORKERS:
            register(store, worker, host=f"host-{worker}")
        for number in range(self.random.choice((1, 1, 2))):
            tasks = lines(self.random.randint(60, 200))
            if self.random.random() < 0.3:  # a second lane
                tasks += [TaskSpec(command="big", requirement=requirement(memory_bytes=10)) for _ in range(20)]
            submit(store, tasks, key=f"job {number}", max_failed_tasks=self.random.choice((None, 3)))

    def step(self) -> None:
        choose = self.random
        worker = choose.choice(WORKERS)
        self.now_s += choose.choice((0.0, 0.1, 0.1, 0.7, 3))
        held = self.held[worker]
        ended = choose.sample(held, choose.randint(0, len(held))) if choose.random() < 0.5 else list(held)
        commits = [self._commit(lease) for lease in ended]
        if commits and choose.random() < 0.05:
            commits.append(commits[0])  # said twice
        jobs = [JobId("j1")] if choose.random() < 0.2 else []
        answer = self.store.exchange(
            worker,
            commits,
            self._wants(worker),
            at(self.now_s),
            jobs,
            unfit=choose.choice(((), (), (), (2,))),
            load=WorkerLoad(running=len(held)) if choose.random() < 0.1 else None,
        )
        self.said.append(answer)
        self.answers[worker] = answer
        self.held[worker] = [lease for lease in held if lease not in ended] + list(answer.leases)
        if choose.random() < 0.02:
            self.store.cancel(JobId("j1"), [(1, choose.randint(1, 50))], "by hand", at(self.now_s))
        if choose.random() < 0.02:
            self.store.set_phase(JobId("j1"), choose.choice(("paused", "active", "active")), at(self.now_s))

    def _commit(self, lease: Lease) -> Commit:
        fate = self.random.random()
        if fate < 0.9:
            return commit(lease, Done())
        if fate < 0.92:
            return Commit(job=lease.job, task=lease.task, fence=lease.fence + 1, attempt=attempt(lease), verdict=Done())
        if fate < 0.94:
            return commit(lease, Failed(reason="it failed"))
        if fate < 0.96:
            return commit(lease, Returned(past=lease.past), outcome=Outcome.RETURNED)
        return back(lease, delay=self.random.choice((None, self.now_s + 1)))

    def _wants(self, worker: str) -> list[Want]:
        before = self.answers.get(worker)
        if before is None or not before.offers:
            return []
        count = self.random.choice((0, 1, 1, 3, 10))
        chosen = before.offers[: self.random.choice((1, 1, 1, 2))]
        return [
            Want(job=offer.job, class_id=offer.class_id, priority=offer.priority, count=min(count, offer.waiting))
            for offer in chosen
        ]


def kept(client: redis.Redis, queue: str) -> dict[str, Any]:
    """What is in every key, but for who was rung: of several idle workers the server draws one."""
    found: dict[str, Any] = {}
    prefix = f"{{erg:{queue}}}:"
    for key in client.scan_iter(match=prefix + "*", count=1000):
        name, kind = key.decode().removeprefix(prefix), client.type(key)
        if name == "idle" or name.startswith("wake:"):
            continue
        if kind == b"hash":
            found[name] = {
                field: text for field, text in client.hgetall(key).items() if field not in (b"idle", b"rung")
            }
        elif kind == b"zset":
            found[name] = client.zrange(key, 0, -1, withscores=True)
        elif kind == b"set":
            found[name] = sorted(client.smembers(key))
        elif kind == b"list":
            found[name] = client.lrange(key, 0, -1)
        elif kind == b"stream":
            found[name] = client.xrange(key)
        else:
            found[name] = client.get(key)
    return found


@pytest.mark.parametrize("seed", range(12))
def test_it_makes_no_difference_which_script_answers(
    server: PrivateRedis, counted_names: Callable[[], None], monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    ends, client = [], server.client()
    for queue in (f"usual{seed}", f"general{seed}"):
        if queue.startswith("general"):
            monkeypatch.setattr(scripts, "USUAL", {})
        counted_names()
        store = open_store(server, queue)
        story = _Story(store, seed)
        for _ in range(60):
            story.step()
        ends.append((story.said, kept(client, queue)))
        store.close()
        server.drop(queue)
    client.close()
    (said, keys), (said_otherwise, keys_otherwise) = ends
    for place, (one, other) in enumerate(zip(said, said_otherwise, strict=True)):
        assert one == other, f"answer {place}"
    assert keys.keys() == keys_otherwise.keys()
    for name, value in keys.items():
        assert value == keys_otherwise[name], name


@pytest.fixture
def usual_only(server: PrivateRedis, monkeypatch: pytest.MonkeyPatch) -> Iterator[RedisStore]:
    """A store whose exchanges fail where the straight line does not answer."""
    store = open_store(server, "only")
    register(store)
    whole = scripts._piece

    def piece(name: str) -> str:
        return "if true then return redis.error_reply('ERR unusual') end" if name == "functions" else whole(name)

    submit(store, 100)
    monkeypatch.setattr(scripts, "_piece", piece)
    scripts.script.cache_clear()
    yield store
    monkeypatch.undo()
    scripts.script.cache_clear()
    store.close()
    server.drop("only")


def test_the_usual_exchange_needs_no_function(usual_only: RedisStore) -> None:
    want = Want(job=JobId("j1"), class_id=1, priority=0, count=4)
    answer = usual_only.exchange("w1", [], [want], at(0))
    for second in range(1, 6):
        commits = [commit(lease) for lease in reversed(answer.leases)]
        answer = usual_only.exchange("w1", commits, [want], at(second), load=WorkerLoad(running=4))
        assert len(answer.leases) == 4 and not answer.refused
    assert answer.open_tasks == 80
    usual_only.exchange("w1", [commit(lease) for lease in answer.leases], [], Nanoseconds(at(6)), [JobId("j1")])


def test_a_task_that_failed_is_not_usual(usual_only: RedisStore) -> None:
    want = Want(job=JobId("j1"), class_id=1, priority=0, count=1)
    (lease,) = usual_only.exchange("w1", [], [want], at(0)).leases
    with pytest.raises(StoreError, match="unusual"):
        usual_only.exchange("w1", [commit(lease, Failed(reason="no"))], [want], at(1))
