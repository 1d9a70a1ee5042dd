"""Runs in the guest: `write FOLDER` commits task after task and says so; `check FOLDER` opens what the power cut left."""

from __future__ import annotations

import itertools
import sqlite3
import sys
from pathlib import Path

from ergates.cluster.attempt import Attempt, Outcome
from ergates.cluster.job import JobSpec
from ergates.cluster.node import NodeCapacity, WorkerInfo
from ergates.cluster.task import JobId, TaskSpec
from ergates.cluster.task_state import TaskState
from ergates.drivers.stores.sqlite import SqliteStore
from ergates.taskqueue.store import Commit, Done, Want
from ergates.units import Bytes, MilliCpus, Nanoseconds

NOW = Nanoseconds(1_700_000_000_000_000_000)
TASKS = 20_000


def write(folder: Path) -> None:
    store = SqliteStore(folder / "ergates.db")
    job = store.submit(JobSpec(key="k"), (TaskSpec(command=f"echo {n}") for n in range(TASKS)), NOW).id
    capacity = NodeCapacity(cpus_milli=MilliCpus(2000), memory_bytes=Bytes(2**30))
    store.register(WorkerInfo(id="w", host="guest", capacity=capacity), NOW)
    commits: list[Commit] = []
    for turn in itertools.count(1):
        (offer,) = store.exchange("w", commits, [], NOW).offers
        print("COMMITTED", (turn - 1) * 10, flush=True)
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


def check(folder: Path) -> None:
    raw = sqlite3.connect(folder / "ergates.db")
    assert raw.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    raw.close()
    store = SqliteStore(folder / "ergates.db")
    job = JobId("j1")
    status = store.status(job)
    done = [view.task for view in store.tasks(job, states=(TaskState.DONE,))]
    ledger = [task for _, task, _ in store.attempts(job)]
    assert status.counts["done"] == len(done) == len(ledger) == len(set(ledger))
    assert done == list(range(1, len(done) + 1)), "what is kept is a beginning, without holes"
    print("KEPT", len(done), flush=True)


if __name__ == "__main__":
    {"write": write, "check": check}[sys.argv[1]](Path(sys.argv[2]))
