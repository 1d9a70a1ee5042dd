"""A day of a queue against a small simulated Slurm: bursts of short and long tasks, a shared cluster, nodes that die.

The policy is the real one. The seed chooses bursts, waits, failures and refusals. Laws: never above a limit, every task is done
in the end and none twice, nothing is left when the day is over, and what was asked for was not wasted.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field

import pytest

from ergates.cluster.node import NodeCapacity
from ergates.cluster.task import Requirement
from ergates.taskqueue.placement import (
    Allocation,
    CancelPending,
    Ended,
    GiveUp,
    PlacementLimits,
    PlacementState,
    Refused,
    Seen,
    Submit,
    after_submission,
    decide,
)
from ergates.taskqueue.placement_demand import WaitingClass
from ergates.units import GIB, SECOND_NS, Bytes, MilliCpus, Nanoseconds

STEP_S = 15
DAY_S = 24 * 3600
CORES = 4
IDLE_S = 300
WALLTIME_S = 3600
DRAIN_S = 120
NODE = NodeCapacity(cpus_milli=MilliCpus(1000 * CORES), memory_bytes=Bytes(8 * GIB))
LIMITS = PlacementLimits(
    workers_max=12, pending_max=5, array_max=4, walltime_ns=Nanoseconds(WALLTIME_S * SECOND_NS), dead_max=6
)
SHORT, LONG = Requirement(), Requirement(min_time_ns=Nanoseconds(1200 * SECOND_NS))
TAKES_S = {SHORT: 5, LONG: 1200}


@dataclass
class Job:
    """One allocation: waits, boots, works, and is over."""

    id: str
    submitted_s: int
    started_s: int = -1
    joined_s: int = -1
    idle_since_s: int = -1
    running: list[tuple[int, Requirement, int]] = field(default_factory=list)
    """(end, kind, task) of what runs."""


class Day:
    """Queue, Slurm and workers of one seed."""

    def __init__(self, seed: int) -> None:
        self.arrivals, self.cluster, self.faults = (
            random.Random(f"{seed}/{name}") for name in ("arrivals", "cluster", "faults")
        )
        self.now_s, self.made, self.tasks = 0, 0, 0
        self.ready: dict[Requirement, list[int]] = {SHORT: [], LONG: []}
        self.done: Counter[int] = Counter()
        self.jobs: list[Job] = []
        self.ended: list[Ended] = []
        self.state = PlacementState()
        self.log: list[tuple[int, str]] = []
        self.allocated_s = self.worked_s = 0
        self.free_nodes = 6

    # --- the world --------------------------------------------------------------------------------

    def arrive(self) -> None:
        if self.now_s < DAY_S and self.arrivals.random() < STEP_S / 5400:
            kind = self.arrivals.choice([SHORT, LONG])
            count = self.arrivals.randint(1, 3000) if kind == SHORT else self.arrivals.randint(1, 40)
            self.ready[kind] += range(self.tasks, self.tasks + count)
            self.tasks += count
            self.log.append((self.now_s, f"arrive {count}"))

    def slurm(self) -> None:
        if self.cluster.random() < 0.01:
            self.free_nodes = self.cluster.randint(1, 10)
        started = sum(job.started_s >= 0 for job in self.jobs)
        for job in self.jobs:
            if job.started_s < 0 and started < self.free_nodes and self.now_s - job.submitted_s >= 30:
                job.started_s = self.now_s
                started += 1

    def work(self) -> None:
        for job in list(self.jobs):
            if job.started_s < 0:
                continue
            self.allocated_s += STEP_S
            if job.joined_s < 0 and self.now_s - job.started_s >= 30:
                job.joined_s = job.idle_since_s = self.now_s
            if self.faults.random() < STEP_S / (200 * 3600):
                self.end(job, "NODE_FAIL")
            elif job.joined_s >= 0:
                self.run_tasks(job)

    def run_tasks(self, job: Job) -> None:
        left_s = WALLTIME_S - (self.now_s - job.started_s)
        for end_s, kind, task in [one for one in job.running if one[0] <= self.now_s]:
            job.running.remove((end_s, kind, task))
            self.done[task] += 1
            self.worked_s += TAKES_S[kind]
        budget_s = CORES * STEP_S
        for kind in (LONG, SHORT):
            while self.ready[kind] and len(job.running) < CORES and left_s - DRAIN_S > kind.min_time_ns // SECOND_NS:
                if kind == SHORT and budget_s < TAKES_S[SHORT]:
                    break
                task = self.ready[kind].pop(0)
                if kind == SHORT:  # several of them within one step
                    budget_s -= TAKES_S[SHORT]
                    self.done[task] += 1
                    self.worked_s += TAKES_S[SHORT]
                    job.idle_since_s = self.now_s
                else:
                    job.running.append((self.now_s + TAKES_S[LONG], kind, task))
        if job.running:
            job.idle_since_s = self.now_s
        if left_s <= DRAIN_S // 2 or self.now_s - job.idle_since_s >= IDLE_S:
            self.end(job, "COMPLETED")

    def end(self, job: Job, words: str) -> None:
        for _, kind, task in job.running:
            self.ready[kind].insert(0, task)
        self.jobs.remove(job)
        joined = None if job.joined_s < 0 else Nanoseconds(job.joined_s * SECOND_NS)
        self.ended.append(Ended(id=job.id, joined_ns=joined, words=f"{job.id} {words}"))

    # --- the shell --------------------------------------------------------------------------------

    def look(self) -> None:
        if self.faults.random() < 0.01:
            return  # slurmctld does not answer
        now_ns = Nanoseconds(self.now_s * SECOND_NS)
        seen = Seen(
            waiting=tuple(
                WaitingClass(
                    requirement=kind, count=len(tasks), expected_ns=Nanoseconds(TAKES_S[kind] * SECOND_NS)
                )
                for kind, tasks in self.ready.items()
                if tasks
            ),
            allocations=tuple(
                Allocation(
                    id=job.id, running=job.started_s >= 0,
                    joined_ns=None if job.joined_s < 0 else Nanoseconds(job.joined_s * SECOND_NS),
                )
                for job in self.jobs
            ),
            live=tuple(NODE for job in self.jobs if job.joined_s >= 0),
            capacity=NODE,
            ended=tuple(self.ended),
        )  # fmt: skip
        self.ended.clear()
        decision = decide(LIMITS, self.state, seen, now_ns)
        self.state = decision.state
        for action in decision.actions:
            match action:
                case Submit(count=count):
                    self.submit(count, now_ns)
                case CancelPending(ids=ids):
                    assert {job.id for job in self.jobs if job.started_s < 0} >= set(ids)
                    self.jobs = [job for job in self.jobs if job.id not in ids]
                    self.log.append((self.now_s, f"cancel {','.join(ids)}"))
                case GiveUp(reason=reason):
                    raise AssertionError(reason)
        assert len(self.jobs) <= LIMITS.workers_max
        assert sum(job.started_s < 0 for job in self.jobs) <= LIMITS.pending_max

    def submit(self, count: int, now_ns: Nanoseconds) -> None:
        assert 0 < count <= LIMITS.array_max
        refused = Refused(reason="busy") if self.faults.random() < 0.02 else None
        if refused is None:
            self.jobs += [Job(f"{self.made}_{number}", self.now_s) for number in range(count)]
            self.made += 1
        self.state, actions = after_submission(LIMITS, self.state, refused, now_ns)
        assert actions == ()
        self.log.append((self.now_s, f"submit {count}" if refused is None else "refused"))

    def flaps(self) -> int:
        """How often something was asked for within minutes of being taken back, though nothing had arrived meanwhile."""
        found, taken_back_s = 0, -DAY_S
        for at_s, words in self.log:
            if words.startswith(("arrive", "cancel")):
                taken_back_s = at_s if words.startswith("cancel") else -DAY_S
            elif words.startswith("submit") and at_s - taken_back_s < 300:
                found += 1
        return found

    def run(self) -> None:
        while self.now_s < DAY_S or any(self.ready.values()) or self.jobs:
            assert self.now_s < 2 * DAY_S, f"never ends: {self.ready.values()}, {self.jobs}"
            self.arrive()
            self.slurm()
            self.work()
            self.look()
            self.now_s += STEP_S


@pytest.mark.parametrize("seed", range(6))
def test_a_day(seed: int) -> None:
    day = Day(seed)
    day.run()
    assert sorted(day.done) == list(range(day.tasks)) and set(day.done.values()) <= {1}
    used = day.worked_s / (day.allocated_s * CORES)
    assert used > 0.5, f"seed {seed}: {used:.2f} of what was allocated was used"
    assert day.flaps() <= 2, f"seed {seed}: {day.log}"


def test_the_same_seed_is_the_same_day() -> None:
    first, second = Day(3), Day(3)
    first.run()
    second.run()
    assert first.log == second.log
