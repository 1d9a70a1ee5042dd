"""Packing one simulated node with the node's real policy: no kernel kill, little wasted, close to an omniscient schedule."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

import pytest

from ergates.cluster.attempt import Outcome
from ergates.cluster.job import RetryLimits
from ergates.cluster.node import NodeCapacity
from ergates.cluster.task import JobId, Requirement, TaskId, TaskSpec
from ergates.taskqueue.launching import AttemptKey
from ergates.taskqueue.node_events import (
    AskForTasks,
    AttemptEnded,
    FreezeAttempt,
    GiveBack,
    HandBack,
    NodeAction,
    NodeEvent,
    NodeSampled,
    OffersSeen,
    RefuseTask,
    StartAttempt,
    TasksLeased,
    ThawAttempt,
    WakeAt,
)
from ergates.taskqueue.node_settings import NodeSettings
from ergates.taskqueue.policies import Policy, make_policy
from ergates.taskqueue.retry import judge
from ergates.taskqueue.store import Lease, Offer, PastFailures, Returned
from ergates.units import GIB, Bytes, MilliCpus, Nanoseconds

STEP_NS = 5_000_000
KILL_STEPS = 10
"""50 ms until a killed task's memory is free."""
CAPACITY = 4 * GIB


@dataclass(frozen=True)
class Load:
    """A task that really uses `points`: (seconds of work, bytes), straight lines between."""

    points: tuple[tuple[float, float], ...]

    @property
    def seconds(self) -> float:
        return self.points[-1][0]

    @property
    def peak(self) -> float:
        return max(size for _, size in self.points)

    def use_at(self, seconds: float) -> float:
        before_at, before = 0.0, 0.0
        for at, size in self.points:
            if seconds <= at:
                return before + (size - before) * (seconds - before_at) / max(at - before_at, 1e-9)
            before_at, before = at, size
        return before


def make_loads(seed: int, kind: str, count: int = 200) -> list[Load]:
    """Log-normal peaks of 50 MB to 1.5 GB; `kind` says how they get there."""
    rng = random.Random(f"{seed}/loads/{kind}")
    loads = []
    for _ in range(count):
        peak = min(max(rng.lognormvariate(math.log(300e6), 0.8), 50e6), 1.5e9)
        seconds = rng.uniform(2.0, 10.0)
        shape = rng.choice(("ramp", "stairs", "late", "hill")) if kind == "mixed" else kind
        fast = peak / 1e9  # seconds at 1 GB/s
        seconds = max(seconds, 4 * fast)
        if shape == "ramp":
            climb = max(fast, seconds * rng.uniform(0.1, 0.9))
            points = [(climb, peak), (climb + seconds * 0.2, peak)]
        elif shape == "stairs":
            points = [(fast * 0.3, peak * 0.3), (seconds * 0.4, peak * 0.3), (seconds * 0.4 + fast * 0.7, peak)]
            points.append((points[-1][0] + seconds * 0.5, peak))
        elif shape == "late":
            points = [(0.1, peak * 0.1), (seconds * 0.8, peak * 0.15), (seconds * 0.8 + fast, peak)]
            points.append((points[-1][0] + 0.3, peak))
        else:
            points = [(fast, peak * 0.6), (seconds * 0.5, peak), (seconds * 0.7, peak), (seconds * 0.75, peak * 0.3)]
            points.append((seconds, peak * 0.3))
        loads.append(Load(tuple(points)))
    return loads


@dataclass
class SimulatedRun:
    load: Load
    lease: Lease
    worked_s: float = 0.0
    started_s: float = 0.0
    frozen: bool = False
    dying_steps: int | None = None
    end: GiveBack | RefuseTask | HandBack | None = None
    peak: float = 0.0


@dataclass
class Result:
    makespan_s: float = 0.0
    useful_s: float = 0.0
    wasted_s: float = 0.0
    wasted_gb_s: float = 0.0
    kernel_kills: int = 0
    given_back: int = 0
    freezes: int = 0
    refused: int = 0
    highest: float = 0.0


class SimulatedNode:
    """One node, one job, a store in a dictionary; drives a policy in steps of 5 ms."""

    def __init__(self, policy: Policy, loads: list[Load], *, cpus_milli: int = 50, capacity: int = CAPACITY) -> None:
        self.policy, self.loads, self.capacity = policy, loads, capacity
        self.specs = [
            TaskSpec(command=f"ramp --seed {i}", requirement=Requirement(cpus_milli=MilliCpus(cpus_milli)))
            for i in range(len(loads))
        ]
        self.waiting: dict[int, int] = dict.fromkeys(range(len(loads)), 0)
        self.past = [PastFailures() for _ in loads]
        self.running: dict[AttemptKey, SimulatedRun] = {}
        self.staged: dict[AttemptKey, Lease] = {}
        self.now_ns = 1_000_000_000
        self.fence = 0
        self.result = Result()
        self.next_sample_ns = 0
        self.wants: AskForTasks | None = None
        self.done = 0

    def run(self, *, limit_s: float = 3600.0, check: bool = False) -> Result:
        begin_ns = self.now_ns
        self.tell_offers()
        while self.done < len(self.loads):
            assert self.now_ns < begin_ns + limit_s * 1e9, f"no end: {self.done} of {len(self.loads)} done"
            self.step()
            if check:
                self.policy.check_invariants()
        self.result.makespan_s = (self.now_ns - begin_ns) / 1e9
        return self.result

    def step(self) -> None:
        self.now_ns += STEP_NS
        used = self.grow()
        if used > self.capacity:
            self.kernel_kill()
        if self.now_ns >= self.next_sample_ns and self.running:
            self.next_sample_ns = self.now_ns + 100_000_000
            attempts = tuple((key, Bytes(int(self.use(run)))) for key, run in self.running.items())
            self.tell(NodeSampled(used_bytes=Bytes(int(used)), attempts=attempts))
        if self.wants is not None or self.now_ns % 200_000_000 < STEP_NS:
            self.exchange()

    def use(self, run: SimulatedRun) -> float:
        return run.load.use_at(run.worked_s)

    def grow(self) -> float:
        used = 0.0
        for key, run in list(self.running.items()):
            if run.dying_steps is not None:
                run.dying_steps -= 1
                if run.dying_steps <= 0:
                    self.ended(key, run)
                    continue
            elif not run.frozen:
                run.worked_s += STEP_NS / 1e9
                if run.worked_s >= run.load.seconds:
                    self.ended(key, run)
                    continue
            size = self.use(run)
            run.peak = max(run.peak, size)
            used += size
        self.result.highest = max(self.result.highest, used)
        return used

    def kernel_kill(self) -> None:
        key = next(reversed([k for k, run in self.running.items() if run.dying_steps is None]), None)
        if key is not None:
            self.result.kernel_kills += 1
            self.running[key].dying_steps = 1

    def ended(self, key: AttemptKey, run: SimulatedRun) -> None:
        del self.running[key]
        task = key[1]
        finished = run.worked_s >= run.load.seconds
        if finished:
            self.result.useful_s += run.worked_s
            outcome, floor = Outcome.SUCCEEDED, 0
        else:
            self.result.wasted_s += run.worked_s
            self.result.wasted_gb_s += run.worked_s * run.peak / 1e9
            outcome, floor = {
                GiveBack: (Outcome.EVICTED, run.end.memory_floor_bytes if isinstance(run.end, GiveBack) else 0),
                RefuseTask: (Outcome.TOO_BIG, 0),
                HandBack: (Outcome.RETURNED, 0),
                type(None): (Outcome.OOM_KILLED, int(run.peak)),
            }[type(run.end)]
        verdict = judge(
            run.lease, outcome, "", floor, RetryLimits(memory=1000), Nanoseconds(self.now_ns), peak_bytes=int(run.peak)
        )
        if isinstance(verdict, Returned):
            self.past[task] = verdict.past
            if verdict.requirement is not None:
                spec = self.specs[task]
                self.specs[task] = TaskSpec(command=spec.command, requirement=verdict.requirement)
            self.waiting[task] = verdict.not_before_ns
        else:
            self.done += 1
            self.result.refused += outcome is Outcome.TOO_BIG
        self.tell(
            AttemptEnded(
                key=key,
                wall_ns=Nanoseconds(int((self.now_ns / 1e9 - run.started_s) * 1e9)),
                peak_bytes=Bytes(int(run.peak)),
                succeeded=finished,
                gave_back=run.end is not None and not finished,
            )
        )

    def exchange(self) -> None:
        wants, self.wants = self.wants, None
        leases = []
        for want in wants.wants if wants is not None else ():
            found = [
                task for task, at in self.waiting.items() if at <= self.now_ns and self.class_of(task) == want.class_id
            ]
            for task in sorted(found)[: want.count]:
                del self.waiting[task]
                self.fence += 1
                spec = self.specs[task]
                lease = Lease(
                    job=JobId("j"), task=TaskId(task), fence=self.fence, attempt=1, spec=spec, past=self.past[task]
                )
                leases.append(lease)
                self.staged["j", task, self.fence] = lease
        if leases:
            self.tell(TasksLeased(leases=tuple(leases)))
        self.tell_offers()

    def class_of(self, task: int) -> int:
        return self.specs[task].requirement.memory_bytes

    def tell_offers(self) -> None:
        rows: dict[Requirement, int] = {}
        for task, at in self.waiting.items():
            if at <= self.now_ns:
                requirement = self.specs[task].requirement
                rows[requirement] = rows.get(requirement, 0) + 1
        self.tell(
            OffersSeen(
                offers=tuple(
                    Offer(job=JobId("j"), class_id=r.memory_bytes, requirement=r, priority=0, waiting=n)
                    for r, n in rows.items()
                )
            )
        )

    def tell(self, event: NodeEvent) -> None:
        for action in self.policy.handle(event, Nanoseconds(self.now_ns)):
            self.perform(action)

    def perform(self, action: NodeAction) -> None:
        match action:
            case AskForTasks():
                self.wants = action
            case StartAttempt(key=key):
                self.running[key] = SimulatedRun(self.loads[key[1]], self.staged.pop(key), started_s=self.now_ns / 1e9)
                self.next_sample_ns = min(self.next_sample_ns, self.now_ns + 100_000_000)
            case FreezeAttempt(key=key):
                self.running[key].frozen = True
                self.result.freezes += 1
            case ThawAttempt(key=key):
                self.running[key].frozen = False
            case GiveBack(key=key) | RefuseTask(key=key) | HandBack(key=key):
                if key in self.running:
                    self.running[key].dying_steps = KILL_STEPS
                    self.running[key].end = action
                    self.result.given_back += isinstance(action, GiveBack)
                elif isinstance(action, RefuseTask):
                    del self.staged[key]
                    self.done += 1
                    self.result.refused += 1
                else:
                    self.waiting[self.staged.pop(key).task] = 0
            case WakeAt(at_ns=at_ns):
                self.next_sample_ns = min(self.next_sample_ns, at_ns)
            case _:
                pass


def omniscient_makespan(loads: list[Load], capacity: float = CAPACITY, slots: int = 40) -> float:
    """List schedule that knows every peak and holds it for the task's whole time."""
    now, free, queue = 0.0, capacity, list(loads)
    running: list[tuple[float, float]] = []
    while queue or running:
        for load in list(queue):
            if load.peak <= free and len(running) < slots:
                queue.remove(load)
                free -= load.peak
                running.append((now + load.seconds, load.peak))
        running.sort()
        now, peak = running.pop(0)
        free += peak
    return now


def fixed_makespan(loads: list[Load], width: int, capacity: float = CAPACITY) -> float | None:
    """Makespan of `xargs -P width`; None when it overflows."""
    now, queue = 0.0, list(reversed(loads))
    running: list[tuple[float, Load]] = []
    while queue or running:
        running = [(start, load) for start, load in running if now - start < load.seconds]
        while queue and len(running) < width:
            running.append((now, queue.pop()))
        if sum(load.use_at(now - start) for start, load in running) > capacity:
            return None
        now += 0.02
    return now


def best_fixed_makespan(loads: list[Load]) -> float:
    best = math.inf
    for width in range(1, 41):
        makespan = fixed_makespan(loads, width)
        if makespan is None:
            break
        best = min(best, makespan)
    return best


def pack(loads: list[Load], name: str = "ours", settings: NodeSettings | None = None, *, check: bool = False) -> Result:
    capacity = NodeCapacity(cpus_milli=MilliCpus(2000), memory_bytes=Bytes(CAPACITY), confined=True)
    return SimulatedNode(make_policy(name, capacity, settings or NodeSettings()), loads).run(check=check)


@pytest.mark.parametrize("kind", ["ramp", "stairs", "late", "hill", "mixed"])
def test_packs_close_to_an_omniscient_schedule(kind: str) -> None:
    loads = make_loads(1, kind)
    result = pack(loads)
    assert result.kernel_kills == 0
    assert result.refused == 0
    assert result.makespan_s <= 1.25 * omniscient_makespan(loads)
    assert result.wasted_s <= 0.10 * result.useful_s


def test_is_faster_than_the_best_fixed_number_of_slots() -> None:
    ratios = []
    for seed in (1, 2, 3):
        loads = make_loads(seed, "ramp")
        ratios.append(best_fixed_makespan(loads) / pack(loads).makespan_s)
    assert sorted(ratios)[1] >= 1.3, ratios  # the best fixed number differs much from seed to seed


@pytest.mark.parametrize("name", ["distcomp", "kill-newest", "fixed"])
def test_the_rivals_are_slower_or_get_killed(name: str) -> None:
    loads = make_loads(1, "mixed", count=100)
    ours, theirs = pack(loads), pack(loads, name)
    assert theirs.makespan_s > 1.2 * ours.makespan_s or theirs.kernel_kills > 0


def test_a_node_always_makes_progress() -> None:
    giants = [Load(((2.0, size), (4.0, size))) for size in (3.0e9, 3.5e9, 3.9e9, 2.0e9, 5.0e9, 6.0e9)]
    loads = [load for pair in zip(giants, make_loads(3, "mixed", count=6), strict=True) for load in pair]
    result = pack(loads, check=True)
    assert result.refused == 2
    assert result.kernel_kills == 0


def test_many_equal_long_tasks_fill_the_node_without_any_history() -> None:
    loads = [Load(((0.5, 95e6), (60.0, 95e6)))] * 72  # 40 slots; 45 fit by memory
    result = pack(loads)
    assert result.makespan_s <= 2.4 * 60
    assert result.wasted_s == 0


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", ["ramp", "stairs", "late", "hill", "mixed"])
def test_packs_on_a_hundred_seeds(kind: str) -> None:
    for seed in range(100):
        loads = make_loads(seed, kind)
        result = pack(loads, check=True)
        assert result.kernel_kills == 0, seed
        assert result.makespan_s <= 1.25 * omniscient_makespan(loads), seed
        assert result.wasted_s <= 0.10 * result.useful_s, seed
