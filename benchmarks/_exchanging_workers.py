"""Some of the simulated workers of exchange_latency.py: `_exchanging_workers.py SOCKET NAME WORKERS EVERY_S BATCH SECONDS`.

Each exchanges in its turn: commits what it leased last time, leases as much again. Prints microseconds of every exchange, one a
line. A worker that is late because the machine is busy does not catch up: the next turn is one period later.
"""

from __future__ import annotations

import heapq
import random
import sys
import time

import redis

from ergates.clock import SystemClock
from ergates.cluster.attempt import Attempt, Outcome
from ergates.cluster.node import NodeCapacity, WorkerInfo
from ergates.drivers.stores.redis.store import RedisStore
from ergates.taskqueue.store import Commit, Done, Lease, Want
from ergates.units import Bytes, MilliCpus


def main() -> None:
    socket, name, workers, every_s, batch, seconds = sys.argv[1], sys.argv[2], *map(float, sys.argv[3:7])
    clock, stores = SystemClock(), []
    capacity = NodeCapacity(cpus_milli=MilliCpus(8000), memory_bytes=Bytes(2**33))
    for number in range(int(workers)):
        store = RedisStore(lambda: redis.Redis(unix_socket_path=socket, protocol=2), host=f"{name}-{number}")
        store.register(WorkerInfo(id=f"{name}-{number}", host=f"{name}-{number}", capacity=capacity), clock.now_ns())
        stores.append(store)
    spread = random.Random(name)
    held: dict[int, tuple[Lease, ...]] = {}
    began = time.perf_counter()
    turns = [(began + spread.random() * every_s, number) for number in range(len(stores))]
    heapq.heapify(turns)
    taken = []
    while turns[0][0] < began + seconds:
        due_s, number = heapq.heappop(turns)
        time.sleep(max(0.0, due_s - time.perf_counter()))
        taken.append(turn(stores[number], f"{name}-{number}", number, held, int(batch), clock))
        heapq.heappush(turns, (max(due_s, time.perf_counter() - every_s) + every_s, number))
    print("\n".join(f"{each * 1e6:.0f}" for each in taken))


def turn(
    store: RedisStore, worker: str, number: int, held: dict[int, tuple[Lease, ...]], batch: int, clock: SystemClock
) -> float:
    commits = [
        Commit(
            job=lease.job,
            task=lease.task,
            fence=lease.fence,
            attempt=Attempt(number=lease.attempt, outcome=Outcome.SUCCEEDED, worker=worker, host=worker, exit_code=0),
            verdict=Done(),
        )
        for lease in held.get(number, ())
    ]
    job = "j1"
    want = [Want(job=job, class_id=1, priority=0, count=batch)]  # type: ignore[arg-type]
    now = clock.now_ns()
    before = time.perf_counter()
    answer = store.exchange(worker, commits, want, now)
    after = time.perf_counter()
    held[number] = answer.leases
    assert answer.leases and not answer.refused
    return after - before


if __name__ == "__main__":
    main()
