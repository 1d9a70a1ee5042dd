"""How fast is the embedded store? Submitting a million tasks, the status of that job, and commits with leases in batches.

The submission runs in a process of its own, so its peak memory is the store's and nobody else's. Status is read from
counters; next to it stands what counting the tasks by state would take. One exchange commits a batch and leases the next.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from _record import Bar, CommandRun, argument_parser, finish, machine_facts, run_command

from ergates.clock import SystemClock
from ergates.cluster.attempt import Attempt, Outcome
from ergates.cluster.job import JobSpec
from ergates.cluster.node import NodeCapacity, WorkerInfo
from ergates.cluster.task import JobId, Requirement, TaskSpec
from ergates.cluster.usage import Usage
from ergates.drivers.stores.sqlite import SqliteStore
from ergates.taskqueue.store import Commit, Done, Lease, Want
from ergates.units import Bytes, MilliCpus, Nanoseconds

MIB = 1024**2
BATCHES = (1, 10, 100)
JOB = JobId("j1")


def commands(count: int) -> Iterator[TaskSpec]:
    """Plain lines that share one requirement, as a parser yields them."""
    requirement = Requirement()
    for number in range(count):
        yield TaskSpec(command=f"./simulate --seed {number} --out results/{number}.json", requirement=requirement)


def submit(path: Path, count: int) -> None:
    store = SqliteStore(path)
    store.submit(JobSpec(key="benchmark"), commands(count), SystemClock().now_ns())
    store.close()


def measured_submission(path: Path, count: int) -> CommandRun:
    return run_command([sys.executable, __file__, "--submit", str(path), "--tasks", str(count)], path.parent)


def median_ms(call: Callable[[], object], times: int) -> float:
    """Median time of a call, the first one left out."""
    call()
    samples = []
    for _ in range(times):
        begun = time.perf_counter()
        call()
        samples.append(time.perf_counter() - begun)
    return statistics.median(samples) * 1000


def opened_status(path: Path) -> None:
    """What `erg status` does after Python has started."""
    store = SqliteStore(path)
    store.status(JOB)
    store.close()


def counted(path: Path) -> object:
    """What status would take without counters."""
    store = SqliteStore(path)
    rows = store.connection().raw.execute("SELECT state, count(*) FROM tasks GROUP BY state").fetchall()
    store.close()
    return rows


def committed(lease: Lease) -> Commit:
    usage = Usage(wall_ns=Nanoseconds(5), cpu_ns=Nanoseconds(4), peak_bytes=Bytes(9), peak_label="sampled")
    made = Attempt(number=lease.attempt, outcome=Outcome.SUCCEEDED, worker="w", host="h", exit_code=0, usage=usage)
    return Commit(job=lease.job, task=lease.task, fence=lease.fence, attempt=made, verdict=Done())


def tasks_per_second(store: SqliteStore, batch: int, exchanges: int) -> float:
    """Rate of tasks that are committed and replaced by new leases."""
    clock = SystemClock()
    (offer, *_) = store.exchange("w", [], [], clock.now_ns()).offers
    want = [Want(job=offer.job, class_id=offer.class_id, priority=offer.priority, count=batch)]
    leases = store.exchange("w", [], want, clock.now_ns()).leases
    begun = time.perf_counter()
    for _ in range(exchanges):
        answer = store.exchange("w", [committed(lease) for lease in leases], want, clock.now_ns())
        assert not answer.refused and len(answer.leases) == batch
        leases = answer.leases
    seconds = time.perf_counter() - begun
    store.exchange("w", [committed(lease) for lease in leases], [], clock.now_ns())
    return batch * exchanges / seconds


def main() -> None:
    parser = argument_parser(__doc__ or "", default_rounds=3)
    parser.add_argument("--tasks", type=int, default=1_000_000)
    parser.add_argument("--submit", type=Path, help="only submit into this file (used by the benchmark itself)")
    options = parser.parse_args()
    if options.submit is not None:
        submit(options.submit, options.tasks)
        return
    if options.quick:
        options.tasks, options.rounds = min(options.tasks, 20_000), 1
    facts = machine_facts()
    exchanges = 20 if options.quick else 300
    results: dict[str, list[float]] = {}

    def note(name: str, value: float) -> None:
        results.setdefault(name, []).append(value)

    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "ergates.db"
            run = measured_submission(path, options.tasks)
            note("submit_s", run.seconds)
            note("submit_peak_rss_mib", run.peak_rss_bytes / MIB)
            note("stored_bytes_per_task", path.stat().st_size / options.tasks)
            note("status_opened_ms", median_ms(lambda: opened_status(path), 20))  # noqa: B023 - called at once
            note("status_counted_ms", median_ms(lambda: counted(path), 2))  # noqa: B023 - called at once
            store = SqliteStore(path)
            note("status_ms", median_ms(lambda: store.status(JOB), 100))  # noqa: B023 - called at once
            capacity = NodeCapacity(cpus_milli=MilliCpus(1000), memory_bytes=Bytes(1))
            store.register(WorkerInfo(id="w", host="h", capacity=capacity), SystemClock().now_ns())
            for batch in BATCHES:
                rate = tasks_per_second(store, batch, exchanges if batch > 1 else exchanges * 5)
                note(f"tasks_per_s_batch_{batch}", rate)
                note(f"exchange_ms_batch_{batch}", batch / rate * 1000)
            store.close()
    middle = {name: statistics.median(values) for name, values in results.items()}
    for name, value in middle.items():
        print(f"{name:28} {value:14,.4g}")
    bars = [
        Bar(
            f"seconds to submit {options.tasks:,} tasks, interpreter start included",
            middle["submit_s"],
            10,
            at_least=False,
        ),
        Bar("MiB of memory that took", max(results["submit_peak_rss_mib"]), 286, at_least=False),
        Bar("ms for the status of that job, store opened anew", middle["status_opened_ms"], 100, at_least=False),
    ]
    finish("store_throughput", options, facts, dict(results), bars)


if __name__ == "__main__":
    main()
