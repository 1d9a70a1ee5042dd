"""Workers that copy each other's tasks, end well and badly, vanish, come back and are cancelled, in a random order: the store on
Redis and the one in memory must say the same after every step, and no task may succeed twice.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis_server import PrivateRedis
from store_rig import LEASE_NS, Store, at, attempt, info, recount, submit

from ergates.cluster.attempt import Outcome
from ergates.cluster.task import JobId, TaskId
from ergates.drivers.stores.redis.store import RedisStore
from ergates.simulation.memory_store import MemoryStore
from ergates.taskqueue.store import (
    Cancelled,
    Commit,
    Done,
    Exchanged,
    Failed,
    Lease,
    PastFailures,
    Returned,
    Verdict,
    Want,
)

pytestmark = pytest.mark.needs("redis")
WORKERS = {"w1": "alpha", "w2": "beta", "w3": "gamma"}
JOB = JobId("j1")
Place = tuple[TaskId, int]
"""A task, and the number of the attempt."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateRedis]:
    with PrivateRedis(tmp_path_factory.mktemp("redis")) as server:
        yield server


class _Side:
    """One of the two stores; leases go by what both call them."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.leases: dict[tuple[str, int], Lease] = {}
        """By worker and the order in which they were given."""
        self.names: dict[int, tuple[str, int]] = {}

    def note(
        self, worker: str, leases: tuple[Lease, ...]
    ) -> list[tuple[tuple[str, int], TaskId, int, PastFailures, str]]:
        said = []
        for lease in leases:
            name = worker, len(self.leases)
            self.leases[name], self.names[lease.fence] = lease, name
            said.append((name, lease.task, lease.attempt, lease.past, lease.copy_of_host))
        return said

    def in_words(self, worker: str, answer: Exchanged) -> tuple[object, ...]:
        return (
            answer.stale,
            self.note(worker, answer.leases),
            [self.names[fence] for _, _, fence in answer.refused],
            sorted(self.names[fence] for _, _, fence in answer.revoked),
            [(offer.class_id, offer.waiting) for offer in answer.offers],
            answer.open_tasks,
        )

    def state(self) -> tuple[object, ...]:
        views = [(view.task, view.state, view.attempts, view.past, view.reason) for view in self.store.tasks(JOB)]
        ledger = sorted((task, made.number, made.outcome) for _, task, made in self.store.attempts(JOB))
        held = sorted((lease.task, lease.worker, self.names[lease.fence]) for lease in self.store.held(100))
        return views, ledger, held


class _Story:
    def __init__(self, sides: tuple[_Side, _Side], seed: int) -> None:
        self.sides, self.random, self.now_s = sides, random.Random(f"{seed}/copies"), 0.0
        self.holding: dict[str, list[tuple[str, int]]] = {worker: [] for worker in WORKERS}
        for side in sides:
            for worker, host in WORKERS.items():
                side.store.register(info(worker, host), at(0))
            submit(side.store, 12, copies=True, max_failed_tasks=20)

    def both(self, call: Callable[[_Side], Any]) -> Any:
        one, other = (call(side) for side in self.sides)
        assert one == other
        return one

    def step(self) -> None:
        choose = self.random
        self.now_s += choose.choice((0, 0, 1, 2))
        worker = choose.choice(sorted(WORKERS))
        kind = choose.choices(("work", "reap", "anew", "leave", "cancel", "retry"), (30, 3, 1, 1, 2, 2))[0]
        if kind == "work":
            self.work(worker)
        elif kind == "reap":
            self.reap(worker)
        elif kind == "cancel":
            task = choose.randint(1, 12)
            self.both(lambda side: side.store.cancel(JOB, [(task, task)], "by hand", at(self.now_s)))
        elif kind == "retry":
            self.both(lambda side: side.store.retry(JOB, [(1, 12)], at(self.now_s)))
        else:
            if kind == "leave":
                self.both(lambda side: side.store.leave(worker, at(self.now_s)))
            self.anew(worker)

    def anew(self, worker: str) -> None:
        self.holding[worker].clear()
        self.both(lambda side: side.store.register(info(worker, WORKERS[worker]), at(self.now_s)))

    def work(self, worker: str) -> None:
        """End some of what it holds (or something long over), take a task, or copy what another one runs."""
        choose, mine = self.random, self.holding[worker]
        ended = choose.sample(mine, choose.randint(0, len(mine)))
        if self.sides[0].leases and choose.random() < 0.1:
            ended.append(choose.choice(sorted(self.sides[0].leases)))
        fates = [choose.choice(("done", "done", "done", "failed", "back", "untried", "cancelled")) for _ in ended]
        others = [name for other in sorted(WORKERS) if other != worker for name in self.holding[other]]
        copied = choose.choice(others) if others and choose.random() < 0.5 else None
        takes = choose.random() < 0.4

        def call(side: _Side) -> tuple[object, ...]:
            wants = [Want(job=JOB, class_id=1, priority=0, count=1)] if takes else []
            if copied is not None:
                lease = side.leases[copied]
                wants.append(Want(job=JOB, class_id=0, priority=0, count=0, copy_of=(lease.task, lease.fence)))
            commits = [self.commit(side.leases[name], fate) for name, fate in zip(ended, fates, strict=True)]
            return side.in_words(worker, side.store.exchange(worker, commits, wants, at(self.now_s)))

        stale, leases, _, revoked, *_ = self.both(call)
        if stale:
            self.anew(worker)
            return
        self.holding[worker] = [name for name in mine if name not in ended] + [name for name, *_ in leases]
        known = set(self.holding[worker]) | set(ended)
        assert set(revoked) <= known, "told to end what it does not hold"

    @staticmethod
    def commit(lease: Lease, fate: str) -> Commit:
        past = PastFailures(failures=lease.past.failures + 1)
        verdicts: dict[str, tuple[Verdict, Outcome | None]] = {
            "done": (Done(), Outcome.SUCCEEDED),
            "failed": (Failed(reason="it failed"), Outcome.FAILED),
            "back": (Returned(past=past), Outcome.EVICTED),
            "untried": (Returned(past=lease.past), None),
            "cancelled": (Cancelled(reason="ended"), Outcome.CANCELLED),
        }
        verdict, outcome = verdicts[fate]
        made = None if outcome is None else attempt(lease, outcome)
        return Commit(job=lease.job, task=lease.task, fence=lease.fence, attempt=made, verdict=verdict)

    def reap(self, worker: str) -> None:
        """Time passes; one worker ends leases of those that were silent."""
        self.now_s += self.random.choice((20, 40))
        self.both(lambda side: side.store.exchange(worker, [], [], at(self.now_s)).stale)

        def found(side: _Side) -> list[tuple[TaskId, tuple[str, int], int, str]]:
            leases = side.store.expired(at(self.now_s))
            return sorted((lease.task, side.names[lease.fence], lease.attempt, lease.host) for lease in leases)

        gone = self.both(found)
        assert isinstance(gone, list)
        chosen = [name for _, name, _, _ in gone if self.random.random() < 0.7]

        def call(side: _Side) -> tuple[object, ...]:
            lost = {lease.fence: lease for lease in side.store.expired(at(self.now_s))}
            commits = []
            for name in chosen:
                lease = lost[side.leases[name].fence]
                made = attempt(lease, Outcome.LOST, worker="", host="")
                verdict = Returned(past=PastFailures(losses=lease.past.losses + 1))
                commits.append(Commit(job=JOB, task=lease.task, fence=lease.fence, attempt=made, verdict=verdict))
            return side.in_words(worker, side.store.exchange(worker, commits, [], at(self.now_s)))

        stale, *_ = self.both(call)
        if stale:
            self.anew(worker)

    def check(self) -> None:
        self.both(lambda side: side.state())
        for side in self.sides:
            recount(side.store)
            numbers = [(task, made.number) for _, task, made in side.store.attempts(JOB)]
            assert len(numbers) == len(set(numbers)), "two attempts of a task have one number"


_queues = itertools.count(1)


@pytest.mark.parametrize("seed", range(20))
def test_both_stores_tell_the_same_story(server: PrivateRedis, tmp_path: Path, seed: int) -> None:
    queue = f"story{next(_queues)}"
    redis = RedisStore(
        server.client, queue=queue, lease_ns=LEASE_NS, host="this-host", proc=tmp_path, server_time=False
    )
    memory = MemoryStore(LEASE_NS, host="this-host")
    story = _Story((_Side(memory), _Side(redis)), seed)
    steps = 0
    try:
        while steps < 120:
            story.step()
            story.check()
            memory.check_invariants()
            steps += 1
    except AssertionError as error:
        error.add_note(f"seed {seed}, step {steps}")
        raise
    finally:
        redis.close()
        server.drop(queue)
