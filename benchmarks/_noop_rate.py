"""One contender of python_noop.py, in a process of its own: `_noop_rate.py CONTENDER CALLS WORKERS` prints seconds.

Ours is timed with the start and the end of its worker processes; Ray and `submit` with workers that are up and have
run something, which is in Ray's favour: its start takes seconds.
"""

from __future__ import annotations

import sys
import time
from concurrent.futures import Executor, ProcessPoolExecutor


def noop(number: int) -> None:
    """What is called."""


def ergates_map(calls: int, workers: int) -> float:
    import ergates

    began = time.perf_counter()
    count = sum(1 for _ in ergates.map(noop, range(calls), workers=workers))
    seconds = time.perf_counter() - began
    assert count == calls
    return seconds


def ergates_submit(calls: int, workers: int) -> float:
    import ergates

    with ergates.Executor(workers=workers) as executor:
        return _submit(executor, calls, workers)


def pool_submit(calls: int, workers: int) -> float:
    with ProcessPoolExecutor(workers) as executor:
        return _submit(executor, calls, workers)


def pool_map(calls: int, workers: int, chunksize: int = 1) -> float:
    began = time.perf_counter()
    with ProcessPoolExecutor(workers) as executor:
        count = sum(1 for _ in executor.map(noop, range(calls), chunksize=chunksize))
    assert count == calls
    return time.perf_counter() - began


def ray_tasks(calls: int, workers: int) -> float:
    import ray  # type: ignore[import-not-found, unused-ignore]

    ray.init(num_cpus=workers, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    remote = ray.remote(noop)
    ray.get([remote.remote(number) for number in range(100 * workers)])
    began = time.perf_counter()
    results = ray.get([remote.remote(number) for number in range(calls)])
    seconds = time.perf_counter() - began
    assert len(results) == calls
    ray.shutdown()
    return seconds


def _submit(executor: Executor, calls: int, workers: int) -> float:
    for future in [executor.submit(noop, number) for number in range(100 * workers)]:
        future.result()
    began = time.perf_counter()
    for future in [executor.submit(noop, number) for number in range(calls)]:
        future.result()
    return time.perf_counter() - began


CONTENDERS = {
    "ergates.map": ergates_map,
    "ergates submit": ergates_submit,
    "pool submit": pool_submit,
    "pool map": pool_map,
    "pool map, chunks of 100": lambda calls, workers: pool_map(calls, workers, 100),
    "Ray": ray_tasks,
}

if __name__ == "__main__":
    print(CONTENDERS[sys.argv[1]](int(sys.argv[2]), int(sys.argv[3])))
