"""How long does an exchange take when 200 workers share one Redis at 5,000 tasks a second, and what do 200 idle ones cost it?

The workers are simulated (four processes of 50; they commit what they leased and lease again, without running anything), the
Redis is real, its append-only file on. Idle workers are real bells: each blocks on its own connection and exchanges every 10 s.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import redis
from _private_redis import private_redis
from _record import ROOT, Bar, argument_parser, finish, machine_facts

from ergates.clock import SystemClock
from ergates.cluster.job import JobSpec
from ergates.cluster.node import NodeCapacity, WorkerInfo
from ergates.cluster.task import TaskSpec
from ergates.drivers.stores.redis.store import RedisStore
from ergates.units import Bytes, MilliCpus

PROCESSES = 4
BEAT_S = 10.0


def latencies(socket: Path, workers: int, rate: float, batch: int, seconds: float) -> tuple[list[float], float]:
    """Microseconds of all exchanges, sorted, and tasks per second that went through."""
    store = RedisStore(lambda: redis.Redis(unix_socket_path=str(socket), protocol=2))
    store.submit(
        JobSpec(key="k"),
        (TaskSpec(command=f"true {n}") for n in range(int(rate * seconds * 3))),
        SystemClock().now_ns(),
    )
    store.close()
    every_s = workers * batch / rate
    script = ROOT / "benchmarks" / "_exchanging_workers.py"
    each = str(workers // PROCESSES)
    started = [
        subprocess.Popen(
            [sys.executable, script, socket, f"p{number}", each, str(every_s), str(batch), str(seconds)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(PROCESSES)
    ]
    taken: list[float] = []
    for process in started:
        out, _ = process.communicate()
        if process.returncode:
            raise RuntimeError(f"simulated workers ended with {process.returncode}")
        taken += map(float, out.split())
    return sorted(taken), len(taken) * batch / seconds


def idle_cpu_fraction(socket: Path, workers: int, seconds: float) -> float:
    """CPU of the server over the time, while so many workers wait for work."""
    clock = SystemClock()
    capacity = NodeCapacity(cpus_milli=MilliCpus(8000), memory_bytes=Bytes(2**33))
    client = redis.Redis(unix_socket_path=str(socket), protocol=2)
    store = RedisStore(lambda: redis.Redis(unix_socket_path=str(socket), protocol=2), queue="idle")
    names = [f"idle-{number}" for number in range(workers)]
    for name in names:
        store.register(WorkerInfo(id=name, host=name, capacity=capacity), clock.now_ns())
        store.exchange(name, [], [], clock.now_ns())
    bells = [store.bell(name) for name in names]
    time.sleep(1)
    before, began = _cpu_s(client), time.perf_counter()
    turn = 0
    while time.perf_counter() < began + seconds:
        store.exchange(names[turn % workers], [], [], clock.now_ns())
        turn += 1
        time.sleep(max(0.0, began + turn * BEAT_S / workers - time.perf_counter()))
    used = (_cpu_s(client) - before) / (time.perf_counter() - began)
    for bell in bells:
        bell.close()
    store.close()
    return used


def _cpu_s(client: redis.Redis) -> float:
    facts = client.info("cpu")
    assert isinstance(facts, dict)
    return float(facts["used_cpu_sys"]) + float(facts["used_cpu_user"])


def main() -> None:
    parser = argument_parser(__doc__ or "", default_rounds=1)
    parser.add_argument("--workers", type=int, default=200)
    parser.add_argument("--rate", type=float, default=5_000, help="tasks per second, all workers together")
    parser.add_argument("--batch", type=int, default=10, help="tasks of one exchange")
    parser.add_argument("--seconds", type=float, default=30)
    options = parser.parse_args()
    if options.quick:
        options.seconds = 4.0
    facts = machine_facts()
    with private_redis() as socket:
        taken, rate = latencies(socket, options.workers, options.rate, options.batch, options.seconds)
    with private_redis() as socket:
        idle = idle_cpu_fraction(socket, options.workers, options.seconds)
    shown = {
        f"p{part:g}": taken[min(len(taken) - 1, int(len(taken) * part / 100))] / 1000 for part in (50, 90, 99, 99.9)
    }
    print(
        f"{len(taken):,} exchanges, {rate:,.0f} tasks/s: "
        + ", ".join(f"{name} {ms:.2f} ms" for name, ms in shown.items())
    )
    print(f"{options.workers} idle workers: {idle:.2%} of a core")
    bars = [
        Bar(f"ms of an exchange, p99, with {options.workers} workers", shown["p99"], 20.0, at_least=False),
        Bar("tasks/s that went through, of those asked for", rate / options.rate, 0.95),
        Bar(f"share of a core for {options.workers} idle workers", idle, 0.01, at_least=False),
    ]
    results = {"exchanges": len(taken), "tasks_per_second": rate, "milliseconds": shown, "idle_cpu_fraction": idle}
    finish("exchange_latency", options, facts, results, bars)


if __name__ == "__main__":
    main()
