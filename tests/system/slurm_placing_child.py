"""A process that keeps allocations sized to a queue that never changes: to be killed at any moment by the tests.

Arguments: folder of pools, tasks that wait, workers at most, seconds by which its clock is ahead. Every look ends with a line.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any, cast

from ergates.clock import SystemClock
from ergates.cluster.job import JobStatus
from ergates.cluster.node import NodeCapacity, WorkerInfo, WorkerLoad, WorkerOrders, WorkerStatus
from ergates.cluster.task import JobId, Requirement
from ergates.controller.slurm_placing import Asking, Say, SlurmPlacing
from ergates.drivers.placers.slurm import Slurm
from ergates.drivers.placers.slurm_array import Pool, Shape
from ergates.drivers.placers.slurm_pool import PoolFolder
from ergates.taskqueue.placement import PlacementLimits
from ergates.taskqueue.store import Offer
from ergates.units import GIB, SECOND_NS, Bytes, MilliCpus, Nanoseconds

POOL = Pool(queue="q1", store="abc")
SCRIPT = "#!/bin/sh\nexec sleep 600\n"


class StandingQueue:
    """`waiting` one-core tasks that nobody ever takes, and no workers. Only what placing asks for."""

    def __init__(self, waiting: int) -> None:
        self.waiting_count = waiting
        self.present: tuple[WorkerStatus, ...] = ()

    def workers(self) -> tuple[WorkerStatus, ...]:
        return self.present

    def jobs(self) -> tuple[JobStatus, ...]:
        return (
            JobStatus(
                id=JobId("j1"), key="", name="", phase="active", submitted_ns=Nanoseconds(0), finished_ns=None,
                total=self.waiting_count, counts={"ready": self.waiting_count}, outcomes={}, wall_ns=0, cpu_ns=0, wasted_cpu_ns=0,
                wasted_wall_ns=0, peak_bytes=0, cost_usd_micros=None,
            ),
        )  # fmt: skip

    def waiting(self, job: JobId) -> tuple[Offer, ...]:
        return (Offer(job=job, class_id=1, requirement=Requirement(), priority=0, waiting=self.waiting_count),)


def worker_in(allocation: str) -> WorkerStatus:
    """A live worker that Slurm placed there, with nothing to do."""
    capacity = NodeCapacity(cpus_milli=MilliCpus(2000), memory_bytes=Bytes(2 * GIB))
    info = WorkerInfo(id="w1", host="n1", capacity=capacity, placed_by=f"slurm:{allocation}")
    return WorkerStatus(
        info=info, standing="live", beat_age_ns=Nanoseconds(0), leases=0, orders=WorkerOrders(), load=WorkerLoad()
    )


class AheadClock(SystemClock):
    def __init__(self, ahead_s: float) -> None:
        super().__init__()
        self.ahead_ns = round(ahead_s * SECOND_NS)

    def now_ns(self) -> Nanoseconds:
        return Nanoseconds(super().now_ns() + self.ahead_ns)


def placing(
    root: Path, queue: StandingQueue, limits: PlacementLimits, *, slurm: Slurm | None = None, shape: Shape | None = None,
    text: str = SCRIPT, clock: SystemClock | None = None, say: Say = print,
) -> SlurmPlacing:  # fmt: skip
    folder = PoolFolder(root, POOL)
    asking = Asking(
        shape=shape or Shape(walltime_ns=limits.walltime_ns),
        script=text,
        capacity=NodeCapacity(cpus_milli=MilliCpus(2000), memory_bytes=Bytes(2 * GIB)),
    )
    return SlurmPlacing(
        slurm or Slurm(), folder, folder.lock(), cast(Any, queue), asking, limits, clock or SystemClock(), say
    )


if __name__ == "__main__":
    root, waiting, workers_max, ahead_s = sys.argv[1:]
    limits = PlacementLimits(
        walltime_ns=Nanoseconds(600 * SECOND_NS), workers_max=int(workers_max), pending_max=int(workers_max)
    )
    it = placing(Path(root), StandingQueue(int(waiting)), limits, clock=AheadClock(float(ahead_s)))
    while True:
        it.look()
        print("looked", flush=True)
        time.sleep(0.05)
