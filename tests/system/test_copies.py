"""A task that hangs on one node ends on another: an idle worker runs it a second time, and the first run is ended."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from erg_rig import Erg, eventually
from test_cluster_worker import Cluster, Worker

from ergates.cluster.attempt import Outcome
from ergates.cluster.task import JobId

pytestmark = [pytest.mark.needs("redis"), pytest.mark.system]
CHILD = str(Path(__file__).parent / "copying_worker_child.py")
SLOW = 14


@pytest.fixture
def cluster(erg: Erg, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with ExitStack() as stack:
        yield Cluster(erg, tmp_path_factory.mktemp("server"), stack)
        erg.clean_up()


def worker_on(cluster: Cluster, host: str) -> Worker:
    place = (host, str(cluster.socket), str(cluster.erg.folder / host), "3", "1")
    worker = Worker(cluster, cluster.erg.start(*place, program=(sys.executable, CHILD), env=cluster.env))
    worker.until("registered")
    return worker


def submit(cluster: Cluster, *options: str) -> None:
    """Tasks 1 and 2 wait for each other, so that both workers meet the job; the last one hangs the first time it runs."""
    folder = cluster.erg.folder
    (folder / "once.sh").write_text(f'if [ "$1" = {SLOW} ] && mkdir hangs 2>/dev/null; then sleep 600; fi; echo "$1"\n')
    for name in ("a", "b"):
        os.mkfifo(folder / name)
    lines = ["echo 1 > a; cat b", "cat a; echo 2 > b", *(f"sh once.sh {number}" for number in range(3, SLOW + 1))]
    submitted = cluster("submit", *options, cluster.erg.commands(*lines))
    assert submitted.code == 0, submitted


def test_a_task_that_hangs_ends_on_another_node(cluster: Cluster) -> None:
    submit(cluster, "--copies")
    workers = {host: worker_on(cluster, host) for host in ("alpha", "beta")}
    cluster.wait()
    (made,) = [attempt for _, task, attempt in cluster.store().attempts(JobId("j1")) if task == SLOW]
    other = {"alpha": "beta", "beta": "alpha"}[made.host]
    assert (made.outcome, made.number) == (Outcome.SUCCEEDED, 2)
    assert made.reason == f"a copy of the attempt on {other}, which ran longer than its like"
    assert cluster.check_ledger(SLOW) == {"succeeded": SLOW}
    assert cluster("logs", f"j1/{SLOW}").out == f"{SLOW}\n".encode()
    explained = cluster("explain", f"j1/{SLOW}").out.decode()
    assert f"Attempt 2 on {made.host} succeeded: a copy of the attempt on {other}" in explained
    assert "longer than its like; estimated to need" in workers[made.host].until("copying")
    store = cluster.store()
    eventually(lambda: not any(each.leases or each.load.running for each in store.workers()), "the first run is ended")
    shown = cluster("worker", "list")
    assert "speed (est.)" in shown.out.decode()
    for worker in workers.values():
        worker.process.send_signal(signal.SIGTERM)
        assert worker.ended().code == 0
    cluster.erg.wait_until_gone()
