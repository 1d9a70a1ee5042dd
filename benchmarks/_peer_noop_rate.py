"""One rival of cluster_noop.py, run by its own Python: `_peer_noop_rate.py RIVAL CALLS WORKERS REDIS_SOCKET` prints seconds.

Each is timed from the first submission to the last result, with its workers up and warm: starting them is not counted,
which is in their favour. Each is set up as its manual says for many short calls on one machine.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
WARM = 200


def noop(number: int) -> None:
    """What is called."""


def celery_app(socket: str) -> Any:
    import celery  # type: ignore[import-not-found, unused-ignore]

    url = f"redis+socket://{socket}"
    app = celery.Celery("noop", broker=url, backend=url)
    app.conf.update(worker_prefetch_multiplier=64, task_serializer="json", broker_connection_retry_on_startup=True)
    app.task(name="noop")(noop)
    return app


def run_celery(calls: int, workers: int, socket: str) -> float:
    from celery import group  # type: ignore[import-not-found, unused-ignore]

    os.environ["NOOP_SOCKET"] = socket
    command = [sys.executable, "-m", "celery", "-A", "_peer_noop_rate:app", "worker", "-c", str(workers), "-l", "ERROR"]
    app = celery_app(socket)
    task = app.tasks["noop"]
    with subprocess.Popen(command, cwd=HERE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as worker:
        try:
            group(task.s(number) for number in range(WARM)).apply_async().get(timeout=60)
            began = time.perf_counter()
            group(task.s(number) for number in range(calls)).apply_async().get(timeout=600)
            return time.perf_counter() - began
        finally:
            worker.terminate()


def run_rq(calls: int, workers: int, socket: str) -> float:
    import redis
    import rq  # type: ignore[import-not-found, unused-ignore]

    connection = redis.Redis(unix_socket_path=socket)
    queue = rq.Queue("noop", connection=connection)
    # SimpleWorker: no fork for each call, RQ's fastest.
    command = [str(Path(sys.executable).parent / "rq"), "worker", "--url", f"unix://{socket}", "-w", "rq.SimpleWorker"]
    command += ["--quiet", "noop"]
    started = [
        subprocess.Popen(command, cwd=HERE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=_env())
        for _ in range(workers)
    ]
    try:
        _rq_round(queue, rq, WARM)
        return _rq_round(queue, rq, calls)
    finally:
        for worker in started:
            worker.terminate()
        for worker in started:
            worker.wait()


def _rq_round(queue: Any, rq: Any, calls: int) -> float:
    began = time.perf_counter()
    finished = queue.finished_job_registry
    before = finished.count
    jobs = [
        rq.Queue.prepare_data("_peer_noop_rate.noop", (number,), result_ttl=600, timeout=60) for number in range(calls)
    ]
    for first in range(0, calls, 1000):
        queue.enqueue_many(jobs[first : first + 1000])
    while finished.count - before < calls:
        time.sleep(0.005)
    return time.perf_counter() - began


def run_dask(calls: int, workers: int, socket: str) -> float:
    from distributed import Client, LocalCluster  # type: ignore[import-not-found, unused-ignore]

    with (
        tempfile.TemporaryDirectory() as folder,
        LocalCluster(
            n_workers=workers, threads_per_worker=1, dashboard_address=None, local_directory=folder, silence_logs=50
        ) as cluster,
        Client(cluster) as client,
    ):
        client.gather(client.map(noop, range(WARM), pure=False))
        began = time.perf_counter()
        client.gather(client.map(noop, range(calls), pure=False))
        return time.perf_counter() - began


def run_parsl(calls: int, workers: int, socket: str) -> float:
    import parsl  # type: ignore[import-not-found, unused-ignore]
    from parsl.config import Config  # type: ignore[import-not-found, unused-ignore]
    from parsl.executors import HighThroughputExecutor  # type: ignore[import-not-found, unused-ignore]
    from parsl.providers import LocalProvider  # type: ignore[import-not-found, unused-ignore]

    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    os.environ["PYTHONPATH"] = str(HERE)
    with tempfile.TemporaryDirectory() as folder:
        executor = HighThroughputExecutor(
            label="noop",
            address="127.0.0.1",
            max_workers_per_node=workers,
            provider=LocalProvider(init_blocks=1, max_blocks=1),
        )
        with parsl.load(Config(executors=[executor], run_dir=folder, strategy="none")):
            app = parsl.python_app(noop)
            for future in [app(number) for number in range(WARM)]:
                future.result()
            began = time.perf_counter()
            for future in [app(number) for number in range(calls)]:
                future.result()
            return time.perf_counter() - began


def _env() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(HERE)}


RIVALS = {"Celery": run_celery, "RQ": run_rq, "Dask": run_dask, "Parsl": run_parsl}

if __name__ == "__main__":
    sys.path.insert(0, str(HERE))
    import _peer_noop_rate  # the functions must have a name that workers can import

    name, calls, workers, socket = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    print(_peer_noop_rate.RIVALS[name](calls, workers, socket))
elif "NOOP_SOCKET" in os.environ:
    app = celery_app(os.environ["NOOP_SOCKET"])
