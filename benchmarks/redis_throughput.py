"""How fast is the store on Redis, with its log synchronised every second?

One client: submitting a million tasks, commits with leases in batches, the same with 100,000 failed tasks in the job, the
status of the job, and the memory of tasks that wait.

One exchange commits a batch and leases the next. `server_us` is the processor time the server's main thread spends on one, its
socket and log included; `client_us` that of this process: together they tell a slow store from a busy machine.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import redis
from _private_redis import client_of, private_redis
from _record import Bar, argument_parser, finish, machine_facts

from ergates.clock import SystemClock
from ergates.cluster.attempt import Attempt, Outcome
from ergates.cluster.job import JobSpec
from ergates.cluster.node import NodeCapacity, WorkerInfo
from ergates.cluster.task import JobId, Requirement, TaskSpec
from ergates.cluster.usage import Usage
from ergates.drivers.stores.redis.store import RedisStore
from ergates.taskqueue.store import Commit, Done, Failed, Lease, Want
from ergates.units import Bytes, MilliCpus

WORKER = "6f1c9a52-3e0b-4a7e-9d55-0f3f6c1b2a10"
HOST = "node-1"
BATCHES = (1, 10, 100)
EXCHANGES = {1: 8000, 10: 4000, 100: 600}
clock = SystemClock()


class Cost(NamedTuple):
    """Of a run of exchanges."""

    tasks_per_s: float
    client_us: float
    server_us: float


def commands(count: int) -> Iterator[TaskSpec]:
    """Plain lines that share one requirement, as a parser yields them."""
    requirement = Requirement()
    for number in range(count):
        yield TaskSpec(command=f"./simulate --seed {number} --out results/{number}.json", requirement=requirement)


def short_commands(count: int) -> Iterator[TaskSpec]:
    requirement = Requirement()
    for number in range(count):
        yield TaskSpec(command=f"./run {number}", requirement=requirement)


def committed(lease: Lease, *, failed: bool = False) -> Commit:
    now = clock.now_ns()
    usage = Usage(wall_ns=now, cpu_ns=now, peak_bytes=Bytes(9 << 20), peak_label="sampled")
    made = Attempt(
        number=lease.attempt,
        outcome=Outcome.FAILED if failed else Outcome.SUCCEEDED,
        worker=WORKER,
        host=HOST,
        started_ns=now,
        ended_ns=now,
        exit_code=int(failed),
        usage=usage,
    )
    verdict = Failed("exit code 1") if failed else Done()
    return Commit(job=lease.job, task=lease.task, fence=lease.fence, attempt=made, verdict=verdict)


def wants(store: RedisStore, job: JobId, batch: int) -> list[Want]:
    (offer, *_) = store.exchange(WORKER, [], [], clock.now_ns(), [job]).offers
    return [Want(job=offer.job, class_id=offer.class_id, priority=offer.priority, count=batch)]


def server_seconds(client: redis.Redis) -> float:
    used = client.info("cpu")
    return float(used["used_cpu_user_main_thread"] + used["used_cpu_sys_main_thread"])


def exchange_rate(store: RedisStore, client: redis.Redis, job: JobId, batch: int, exchanges: int) -> Cost:
    """Tasks that are committed and replaced by new leases."""
    want = wants(store, job, batch)
    leases = store.exchange(WORKER, [], want, clock.now_ns()).leases
    server, own, begun = server_seconds(client), time.process_time(), time.perf_counter()
    for _ in range(exchanges):
        answer = store.exchange(WORKER, [committed(lease) for lease in leases], want, clock.now_ns())
        assert not answer.refused and len(answer.leases) == batch
        leases = answer.leases
    seconds, own, server = time.perf_counter() - begun, time.process_time() - own, server_seconds(client) - server
    store.exchange(WORKER, [committed(lease) for lease in leases], [], clock.now_ns())
    return Cost(batch * exchanges / seconds, own / exchanges * 1e6, server / exchanges * 1e6)


def fail_many(store: RedisStore, job: JobId, count: int) -> None:
    want = wants(store, job, 1000)
    commits: list[Commit] = []
    for _ in range(count // 1000):
        answer = store.exchange(WORKER, commits, want, clock.now_ns())
        commits = [committed(lease, failed=True) for lease in answer.leases]
    store.exchange(WORKER, commits, [], clock.now_ns())
    while (batch := store.undrained(20_000)).rows:  # as a controller would
        store.forget(batch)


def median_ms(call: Callable[[], object], times: int) -> float:
    samples = []
    for _ in range(times):
        begun = time.perf_counter()
        call()
        samples.append(time.perf_counter() - begun)
    return statistics.median(samples) * 1000


def used_bytes(client: redis.Redis) -> int:
    return int(client.info("memory")["used_memory"])


def main() -> None:
    parser = argument_parser(__doc__ or "", default_rounds=3)
    parser.add_argument("--tasks", type=int, default=1_000_000)
    parser.add_argument("--waiting", type=int, default=10_000_000, help="tasks for the memory of those that wait")
    options = parser.parse_args()
    failures, share = 100_000, 1
    if options.quick:
        options.tasks, options.waiting, options.rounds, failures, share = 100_000, 100_000, 1, 5_000, 20
    facts = machine_facts()
    results: dict[str, list[float]] = {}

    def note(name: str, value: float) -> None:
        results.setdefault(name, []).append(value)

    def note_cost(name: str, cost: Cost) -> None:
        note(f"tasks_per_s_{name}", cost.tasks_per_s)
        note(f"client_us_{name}", cost.client_us)
        note(f"server_us_{name}", cost.server_us)

    for _ in range(options.rounds):
        with private_redis() as socket:
            client = client_of(socket)
            store = RedisStore(lambda: client_of(socket))
            empty, begun = used_bytes(client), time.perf_counter()
            job = store.submit(JobSpec(key="a"), commands(options.tasks), clock.now_ns()).id
            note("submit_s", time.perf_counter() - begun)
            note("bytes_per_task", (used_bytes(client) - empty) / options.tasks)
            note("status_ms", median_ms(lambda: store.status(job), 200))  # noqa: B023 - called at once
            capacity = NodeCapacity(cpus_milli=MilliCpus(1000), memory_bytes=Bytes(1))
            store.register(WorkerInfo(id=WORKER, host=HOST, capacity=capacity), clock.now_ns())
            for batch in BATCHES:
                note_cost(f"batch_{batch}", exchange_rate(store, client, job, batch, EXCHANGES[batch] // share))
            fail_many(store, job, failures)
            for batch in (1, 10):
                cost = exchange_rate(store, client, job, batch, EXCHANGES[batch] // share)
                note_cost(f"batch_{batch}_beside_failed", cost)
            store.close()
            client.close()
    with private_redis() as socket:
        client, store = client_of(socket), RedisStore(lambda: client_of(socket))
        empty = used_bytes(client)
        store.submit(JobSpec(key="many"), short_commands(options.waiting), clock.now_ns())
        note("bytes_per_waiting_task", (used_bytes(client) - empty) / options.waiting)
        store.close()
        client.close()
    middle = {name: statistics.median(values) for name, values in results.items()}
    for name, value in middle.items():
        print(f"{name:36} {value:14,.4g}")
    bars = [
        Bar(f"seconds to submit {options.tasks:,} tasks", middle["submit_s"], 5, at_least=False),
        Bar("tasks/s at batch 1, one client", middle["tasks_per_s_batch_1"], 8000),
        Bar("tasks/s at batch 10, one client", middle["tasks_per_s_batch_10"], 40_000),
        Bar(
            f"bytes for each of {options.waiting:,} tasks that wait",
            middle["bytes_per_waiting_task"],
            32,
            at_least=False,
        ),
        Bar(
            f"share of the rate at batch 1 that is left beside {failures:,} failed tasks",
            middle["tasks_per_s_batch_1_beside_failed"] / middle["tasks_per_s_batch_1"],
            0.9,
        ),
    ]
    finish("redis_throughput", options, facts, dict(results), bars)


if __name__ == "__main__":
    main()
