"""Runs /bin/true N times on HyperQueue's local cluster and prints the seconds from submission to the end of the last.

Run by HyperQueue's own Python, see true_rate.py. Starting its server and worker is not counted: that is in its favour.
"""

from __future__ import annotations

import sys
import tempfile
import time

from hyperqueue import Job, LocalCluster  # type: ignore[import-not-found]
from hyperqueue.cluster import WorkerConfig  # type: ignore[import-not-found]


def main() -> None:
    tasks, slots = int(sys.argv[1]), int(sys.argv[2])
    with tempfile.TemporaryDirectory() as folder, LocalCluster() as cluster:
        cluster.start_worker(WorkerConfig(cores=slots))
        client = cluster.client()
        started = time.perf_counter()
        job = Job(default_workdir=folder)
        for _ in range(tasks):
            # Its default writes two files for each task; ours keeps no empty output either.
            job.program(["/bin/true"], stdout=None, stderr=None)
        client.wait_for_jobs([client.submit(job)])
        print(time.perf_counter() - started)


if __name__ == "__main__":
    main()
