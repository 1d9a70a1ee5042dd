"""The shell around the sizing policy, with a Slurm and a store that say what the test wants: what is seen, and lost answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from ergates.clock import ManualClock
from ergates.cluster.job import JobStatus
from ergates.cluster.node import NodeCapacity, WorkerInfo, WorkerLoad, WorkerOrders, WorkerStatus
from ergates.cluster.task import JobId, Requirement
from ergates.controller.slurm_placing import Asking, SlurmPlacing
from ergates.controller.slurm_waiting import waiting_classes
from ergates.drivers.placers.slurm_array import Pool, Shape
from ergates.drivers.placers.slurm_pool import UNCONFIRMED_NS, PoolFolder
from ergates.drivers.placers.slurm_records import SlurmAllocation
from ergates.drivers.placers.slurm_words import SlurmError
from ergates.errors import StoreUnavailableError
from ergates.taskqueue.placement import PlacementLimits
from ergates.taskqueue.store import Offer
from ergates.units import GIB, SECOND_NS, Bytes, MilliCpus, Nanoseconds

POOL = Pool(queue="q", store="abc")
NODE = NodeCapacity(cpus_milli=MilliCpus(2000), memory_bytes=Bytes(GIB), labels={"partition": "main"})
LIMITS = PlacementLimits(walltime_ns=Nanoseconds(3600 * SECOND_NS), workers_max=3, pending_max=3)


class World:
    """Slurm and store in one: rows that the test sets, submissions that become rows."""

    def __init__(self) -> None:
        self.rows: list[SlurmAllocation] = []
        self.present: list[WorkerStatus] = []
        self.ready: dict[str, int] = {"j1": 2}
        self.status: dict[str, dict[str, Any]] = {}
        self.submitted: list[tuple[int, str]] = []
        self.cancelled: list[str] = []
        self.refusal: SlurmError | None = None
        self.away: Exception | None = None

    # as the Slurm driver
    def allocations(self, pool: Pool) -> list[SlurmAllocation]:
        return list(self.rows)

    def submit(self, pool: Pool, shape: Shape, count: int, token: str, text: str, logs: str, *, hold: int) -> str:
        self.submitted.append((count, token))
        if self.refusal is not None:
            raise self.refusal
        job = str(len(self.submitted))
        self.rows += [row(f"{job}_{number}", "PENDING", f"{pool.mark} {token}") for number in range(count)]
        return job

    def cancel(self, ids: Sequence[str], *, pending_only: bool = False) -> None:
        self.cancelled += ids
        self.rows = [one for one in self.rows if one.id not in ids]

    # as the store
    def jobs(self) -> tuple[JobStatus, ...]:
        if self.away is not None:
            raise self.away
        return tuple(self.job(name, count) for name, count in self.ready.items())

    def job(self, name: str, count: int) -> JobStatus:
        facts = {
            "phase": "active", "outcomes": {}, "wall_ns": 0, "counts": {"ready": count}, **self.status.get(name, {}),
        }  # fmt: skip
        return JobStatus(
            id=JobId(name), key="", name="", submitted_ns=Nanoseconds(0), finished_ns=None, total=count, cpu_ns=0,
            wasted_cpu_ns=0, wasted_wall_ns=0, peak_bytes=0, cost_usd_micros=None, **facts,
        )  # fmt: skip

    def waiting(self, job: JobId) -> tuple[Offer, ...]:
        return (Offer(job=job, class_id=1, requirement=Requirement(), priority=0, waiting=self.ready[job]),)

    def workers(self) -> tuple[WorkerStatus, ...]:
        return tuple(self.present)


def row(name: str, state: str, comment: str = f"{POOL.mark} x") -> SlurmAllocation:
    started = None if state == "PENDING" else 1
    return SlurmAllocation(
        id=name, job=name.partition("_")[0], state=state, reason="None", partition="main", node="n1", left_ns=None,
        started_s=started, name=POOL.job_name, comment=comment,
    )  # fmt: skip


def worker(allocation: str, standing: str = "live", cpus: int = 2) -> WorkerStatus:
    capacity = NodeCapacity(cpus_milli=MilliCpus(cpus * 1000), memory_bytes=Bytes(GIB), labels={"node": "n1"})
    info = WorkerInfo(id=allocation, host="n1", capacity=capacity, placed_by=f"slurm:{allocation}")
    return WorkerStatus(
        info=info, standing=standing, beat_age_ns=Nanoseconds(0), leases=0, orders=WorkerOrders(), load=WorkerLoad()
    )


class Rig:
    def __init__(self, folder: Path) -> None:
        self.world, self.clock, self.said = World(), ManualClock(10**18), list[str]()
        self.folder = PoolFolder(folder, POOL)
        asking = Asking(shape=Shape(walltime_ns=LIMITS.walltime_ns), script="", capacity=NODE)
        world = cast(Any, self.world)
        self.placing = SlurmPlacing(world, self.folder, -1, world, asking, LIMITS, self.clock, self.said.append)

    def look(self, times: int = 1, every_s: int = 15) -> None:
        for _ in range(times):
            self.clock.advance(every_s * SECOND_NS)
            self.placing.look()


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def test_a_submission_whose_answer_was_lost_counts_until_it_is_seen_or_not(rig: Rig) -> None:
    rig.world.refusal = SlurmError("sbatch", "Socket timed out on send/recv operation")
    rig.look(8)
    assert len(rig.world.submitted) == 1, "it may have been taken"
    rig.world.refusal = None
    rig.clock.advance(UNCONFIRMED_NS)
    rig.look()
    assert len(rig.world.submitted) == 2
    rig.world.rows.clear()
    rig.look(1)
    rig.world.refusal = SlurmError("sbatch", "Socket timed out on send/recv operation")
    rig.look(1)
    _, token = rig.world.submitted[-1]
    rig.world.rows = [row("9_0", "PENDING", f"{POOL.mark} {token}")]
    rig.clock.advance(UNCONFIRMED_NS)
    rig.look(4)
    assert len(rig.world.submitted) == 3, "it was taken after all"


def test_a_plain_refusal_is_tried_again_a_minute_later(rig: Rig) -> None:
    rig.world.refusal = SlurmError("sbatch", "Batch job submission failed: Job violates accounting/QOS policy")
    rig.look(5)
    assert len(rig.world.submitted) == 1
    rig.look(2)
    assert len(rig.world.submitted) == 2
    assert any("limit of your account" in text for text in rig.said)


def test_nothing_is_done_while_the_store_is_away(rig: Rig) -> None:
    rig.world.away = StoreUnavailableError("node1:7000: connection refused\n  hint: ...")
    rig.look(3)
    assert rig.world.submitted == [] and rig.said == ["cannot look: node1:7000: connection refused"]
    rig.world.away = None
    rig.look(2)
    assert len(rig.world.submitted) == 1


@pytest.mark.parametrize("joined", [True, False])
@pytest.mark.parametrize("how", ["FAILED", "NODE_FAIL", "TIMEOUT", "gone"])
def test_an_allocation_is_a_failure_only_when_no_worker_ever_came(rig: Rig, joined: bool, how: str) -> None:
    rig.world.ready = {}
    rig.world.rows = [row("1_0", "RUNNING")]
    rig.world.present = [worker("1_0")] if joined else []
    rig.look(2)
    rig.world.present = []  # the roster may forget a worker before Slurm tells how its allocation ended
    rig.look()
    rig.world.rows = [] if how == "gone" else [row("1_0", how)]
    rig.look(2)
    assert rig.placing.state.dead == (0 if joined else 1)


def test_what_ended_before_it_began_to_look_and_what_people_cancel_is_no_failure(rig: Rig) -> None:
    rig.world.rows = [row("1_0", "FAILED"), row("1_1", "RUNNING")]
    rig.look()
    rig.world.rows[1] = row("1_1", "CANCELLED")
    rig.look()
    assert rig.placing.state.dead == 0


def test_workers_that_came_say_what_the_next_one_will_have(rig: Rig) -> None:
    rig.world.ready = {"j1": 16}
    rig.world.rows = [row("1_0", "RUNNING")]
    rig.world.present = [worker("1_0", cpus=8)]
    rig.look(3)
    assert [count for count, _ in rig.world.submitted] == [2], (
        "two of eight cores, not two more of two cores up to the limit"
    )


def test_allocations_of_others_are_not_counted(rig: Rig) -> None:
    rig.world.rows = [row(f"8_{number}", "PENDING", "somebody's") for number in range(9)]
    rig.look(2)
    assert [count for count, _ in rig.world.submitted] == [1]
    rig.world.ready = {}
    rig.look(20)
    assert rig.world.cancelled == ["1_0"]


def test_what_waits_comes_from_the_counters_of_active_jobs() -> None:
    world = World()
    world.ready = {"j1": 5, "j2": 6, "j3": 7}
    world.status = {
        "j2": {"phase": "paused"},
        "j3": {"outcomes": {"succeeded": 3, "failed": 1}, "wall_ns": 8 * SECOND_NS},
    }
    rows = waiting_classes(cast(Any, world))
    assert [(one.count, one.expected_ns) for one in rows] == [(5, None), (7, 2 * SECOND_NS)]


def test_how_a_list_looks() -> None:
    from ergates.cli.slurm_list import allocation_lines

    rows = [row("1_0", "RUNNING"), row("1_1", "PENDING")]
    lines = allocation_lines(rows, {"1_0": worker("1_0")}, 120)
    assert lines[0].split() == ["allocation", "pool", "state", "node", "worker", "tasks"]
    assert lines[1].split() == ["1_0", "main", "running", "n1", "live", "0"]
    assert "erg worker slurm up" in allocation_lines([], {}, 80)[0]
