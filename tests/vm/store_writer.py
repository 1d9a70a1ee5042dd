"""Runs in the guest: `write KIND FOLDER` commits task after task and says so; `check KIND FOLDER` opens what the power cut left.

KIND is `sqlite` or `redis`; a Redis is started here, as a cluster's store is run.
"""

from __future__ import annotations

import itertools
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from ergates.cluster.attempt import Attempt, Outcome
from ergates.cluster.job import JobSpec
from ergates.cluster.node import NodeCapacity, WorkerInfo
from ergates.cluster.task import JobId, TaskSpec
from ergates.cluster.task_state import TaskState
from ergates.drivers.stores.redis.store import RedisStore
from ergates.drivers.stores.sqlite import SqliteStore
from ergates.taskqueue.store import Commit, Done, Want
from ergates.units import Bytes, MilliCpus, Nanoseconds

NOW = Nanoseconds(1_700_000_000_000_000_000)
TASKS = 20_000
AnyStore = SqliteStore | RedisStore


@contextmanager
def opened(kind: str, folder: Path) -> Iterator[AnyStore]:
    if kind == "sqlite":
        yield SqliteStore(folder / "ergates.db")
        return
    options = ["--appendonly", "yes", "--appendfsync", "everysec", "--save", ""]
    server = subprocess.Popen(
        ["redis-server", "--port", "0", "--unixsocket", "/run/redis.sock", "--dir", str(folder), *options],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    for line in server.stdout:
        if "eady to accept connections" in line:
            break
    yield RedisStore(lambda: redis.Redis(unix_socket_path="/run/redis.sock", protocol=2))
    server.kill()


def write(store: AnyStore) -> None:
    job = store.submit(JobSpec(key="k"), (TaskSpec(command=f"echo {n}") for n in range(TASKS)), NOW).id
    capacity = NodeCapacity(cpus_milli=MilliCpus(2000), memory_bytes=Bytes(2**30))
    store.register(WorkerInfo(id="w", host="guest", capacity=capacity), NOW)
    commits: list[Commit] = []
    for turn in itertools.count(1):
        (offer,) = store.exchange("w", commits, [], NOW).offers
        print("COMMITTED", (turn - 1) * 10, time.monotonic(), flush=True)
        want = Want(job=job, class_id=offer.class_id, priority=0, count=10)
        leases = store.exchange("w", [], [want], NOW).leases
        commits = [
            Commit(
                job=lease.job,
                task=lease.task,
                fence=lease.fence,
                attempt=Attempt(number=1, outcome=Outcome.SUCCEEDED),
                verdict=Done(),
            )
            for lease in leases
        ]


def check(store: AnyStore) -> None:
    job = JobId("j1")
    status = store.status(job)
    done = [view.task for view in store.tasks(job, states=(TaskState.DONE,))]
    ledger = [task for _, task, _ in store.attempts(job)]
    assert status.total == TASKS
    assert status.counts["done"] == len(done) == len(ledger) == len(set(ledger))
    assert done == list(range(1, len(done) + 1)), "what is kept is a beginning, without holes"
    leased = list(store.tasks(job, states=(TaskState.LEASED,)))
    assert status.counts["leased"] == len(leased) <= 10
    print("KEPT", len(done), flush=True)


def main() -> None:
    verb, kind, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    if (verb, kind) == ("check", "sqlite"):
        raw = sqlite3.connect(folder / "ergates.db")
        assert raw.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        raw.close()
    with opened(kind, folder) as store:
        {"write": write, "check": check}[verb](store)


if __name__ == "__main__":
    main()
