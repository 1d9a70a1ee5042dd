"""Ours in cluster_rate.py, in a process of its own: `_cluster_rate.py calls|true COUNT SLOTS SOCKET` prints seconds.

One worker (`erg worker start`) is up and has run something before the clock starts, as with the rivals.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import ergates
from ergates.clock import SystemClock
from ergates.cluster.job import JobSpec
from ergates.cluster.task import TaskSpec
from ergates.drivers.stores.open_cluster import open_cluster_store
from ergates.drivers.stores.store_file import store_address

WARM = 200


def noop(number: int) -> None:
    """What is called."""


def calls(count: int, url: str) -> float:
    began = time.perf_counter()
    assert sum(1 for _ in ergates.map(noop, range(count), store=url)) == count
    return time.perf_counter() - began


def true(count: int, url: str) -> float:
    """From the submission until every task is in the store as done."""
    store = open_cluster_store(store_address(url))
    began = time.perf_counter()
    spec = JobSpec(key=f"true-{began}", name="true", cwd="/")
    job = store.submit(spec, (TaskSpec(command="/bin/true") for _ in range(count)), SystemClock().now_ns()).id
    while store.status(job).counts["done"] < count:
        time.sleep(0.01)
    seconds = time.perf_counter() - began
    store.close()
    return seconds


def main() -> None:
    kind, count, slots, socket = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
    url = f"unix://{socket}?queue={kind}"
    timed = {"calls": calls, "true": true}[kind]
    with tempfile.TemporaryDirectory() as folder:
        erg = str(Path(sys.executable).parent / "erg")
        command = [erg, "worker", "start", "--store", url, "-j", slots, "--state", f"{folder}/state"]
        worker = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            timed(WARM, url)
            print(timed(count, url))
        finally:
            worker.terminate()
            worker.wait()


if __name__ == "__main__":
    main()
