"""The loop of a worker whose store is far away: it never waits for the store, and when nothing happens it does nothing."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest

from ergates.agent.exchanging import FAR
from ergates.agent.peers import Peers
from ergates.agent.worker import Far, Worker
from ergates.agent.worker_log import WorkerLog
from ergates.clock import SystemClock
from ergates.cluster.job import JobSpec
from ergates.cluster.node import NodeCapacity, WorkerInfo
from ergates.cluster.task import Requirement, TaskSpec
from ergates.drivers.alarm import Alarm
from ergates.errors import StoreUnavailableError
from ergates.simulation.memory_store import MemoryStore
from ergates.taskqueue.launching import AttemptKey, Ended, Launch, LaunchEvent, MemorySample, Started
from ergates.taskqueue.node_health import NodeHealth
from ergates.taskqueue.node_policy import NodePolicy
from ergates.taskqueue.node_settings import NodeSettings
from ergates.taskqueue.store import Exchanged, Want
from ergates.units import GIB, MIB, Bytes, MilliCpus, Nanoseconds

CLOCK = SystemClock()


class HeldUpStore(MemoryStore):
    """While `open` is not set its server does not answer."""

    def __init__(self) -> None:
        super().__init__()
        self.open = threading.Event()
        self.open.set()
        self.asked = threading.Event()
        self.away = False
        self.exchanges = 0

    def exchange(self, *args: Any, **kwargs: Any) -> Exchanged:
        self.exchanges += 1
        self.asked.set()
        assert self.open.wait(30.0)
        if self.away:
            raise StoreUnavailableError("away")
        return super().exchange(*args, **kwargs)


class PretendedLauncher:
    """Starts nothing; attempts end when the test says so."""

    def __init__(self) -> None:
        self.running: dict[AttemptKey, int] = {}
        self.looks = 0
        self._events: list[LaunchEvent] = []
        self._alarm = Alarm()

    def open_slot(self, kind: Literal["process", "python"] = "process") -> int:
        return len(self.running)

    def close_slot(self, slot: int) -> None: ...

    def launch(self, slot: int, launches: Sequence[Launch]) -> None:
        for launch in launches:
            self.running[launch.key] = slot
            self._report(Started(key=launch.key, pid=1, at_ns=CLOCK.now_ns()))

    def end(self, key: AttemptKey, **facts: Any) -> None:
        del self.running[key]
        now = CLOCK.now_ns()
        self._report(Ended(key=key, started_ns=now, ended_ns=now, **facts))

    def _report(self, event: LaunchEvent) -> None:
        self._events.append(event)
        self._alarm.ring()

    def poll(self, timeout_s: float) -> list[LaunchEvent]:
        self._alarm.clear()
        events, self._events = self._events, []
        return events

    def fileno(self) -> int:
        return self._alarm.fileno()

    def patience_s(self, most_s: float) -> float:
        return most_s

    def sample(self) -> list[MemorySample]:
        self.looks += 1
        return [MemorySample(key=key, used_bytes=Bytes(MIB)) for key in self.running]

    def group_used_bytes(self) -> int | None:
        return MIB * len(self.running)

    def freeze(self, slot: int) -> None: ...

    def thaw(self, slot: int) -> None: ...

    def kill(self, slot: int, key: AttemptKey, grace_ns: Nanoseconds) -> None:
        self.end(key, signal=9, killed=True)

    def set_oom_score(self, slot: int, score: int) -> None: ...

    def close(self) -> None:
        self._alarm.close()


class Rig:
    """A worker with everything around it pretended but its store's rules."""

    def __init__(self, folder: Path, tasks: int) -> None:
        self.store, self.launcher, self.bell, self.alarm = HeldUpStore(), PretendedLauncher(), Alarm(), Alarm()
        self.job = self.store.submit(JobSpec(key="k"), self.specs(tasks), CLOCK.now_ns()).id
        capacity = NodeCapacity(cpus_milli=MilliCpus(2000), memory_bytes=Bytes(GIB), confined=True)
        info = WorkerInfo(id="w1", host="h1", capacity=capacity)
        self.log = io.StringIO()
        self.worker = Worker(
            info=info,
            store=self.store,
            launchers={"command": lambda: self.launcher},
            policy=NodePolicy(capacity, NodeSettings(refuse_unfit=False, ahead_wall_ns=Nanoseconds(1), gangs=True)),
            clock=CLOCK,
            grace_ns=Nanoseconds(0),
            state_dir=folder,
            far=Far(
                bell=self.bell,
                alarm=self.alarm,
                peers=Peers("w1", "h1", tuple),
                health=NodeHealth(),
                obey=lambda orders: None,
                log=WorkerLog(self.log, CLOCK, attempts=False),
                rhythm=FAR,
            ),
        )
        self.worker.register()

    @staticmethod
    def specs(count: int) -> list[TaskSpec]:
        return [TaskSpec(command=f"echo {n}") for n in range(count)]

    def until(self, done: Any) -> None:
        for _ in range(1000):
            if done():
                return
            self.worker.step(0.05)
        raise AssertionError(f"never happened\n{self.log.getvalue()}")

    def counts(self) -> dict[str, int]:
        return self.store.status(self.job).counts


@pytest.fixture
def rig(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Rig]:
    rig = Rig(tmp_path, getattr(request, "param", 3))
    yield rig
    rig.store.open.set()
    rig.worker.close()
    rig.bell.close()
    rig.alarm.close()


def test_memory_is_looked_at_while_the_store_does_not_answer(rig: Rig) -> None:
    """A hung server must not stop the tick: memory does not wait."""
    rig.until(lambda: len(rig.launcher.running) == 2)
    rig.until(lambda: not rig.worker._exchanging.due_ns(idle=False) <= CLOCK.now_ns())
    rig.store.open.clear()
    rig.store.asked.clear()
    rig.bell.ring()
    rig.until(rig.store.asked.is_set)
    before = rig.launcher.looks
    rig.until(lambda: rig.launcher.looks >= before + 5)
    (first, *_) = rig.launcher.running
    rig.launcher.end(first, exit_code=0)
    rig.until(lambda: len(rig.launcher.running) == 1)
    assert rig.worker.busy
    rig.store.open.set()
    rig.until(lambda: rig.counts()["done"] == 1)


def test_what_ends_while_the_store_is_away_is_kept_and_told_later(rig: Rig) -> None:
    rig.until(lambda: len(rig.launcher.running) == 2)
    rig.store.away = True
    for key in list(rig.launcher.running):
        rig.launcher.end(key, exit_code=0)
    rig.until(lambda: "store-away" in rig.log.getvalue())
    assert rig.counts()["done"] == 0
    assert not rig.launcher.running, "nothing new without the store"
    rig.store.away = False
    rig.until(lambda: rig.counts()["done"] == 2)
    assert "store-back" in rig.log.getvalue()
    rig.until(lambda: len(rig.launcher.running) == 1)


@pytest.mark.parametrize("rig", [0], indirect=True)
def test_an_idle_worker_neither_looks_nor_asks_until_it_rings(rig: Rig) -> None:
    rig.until(lambda: rig.worker.open_tasks == 0)
    looks, exchanges = rig.launcher.looks, rig.store.exchanges
    for _ in range(5):
        rig.worker.step(0.05)
    assert (rig.launcher.looks, rig.store.exchanges) == (looks, exchanges)
    job = rig.store.submit(JobSpec(key="more"), rig.specs(1), CLOCK.now_ns()).id
    rig.bell.ring()
    rig.until(lambda: len(rig.launcher.running) == 1)
    assert rig.store.status(job).counts["leased"] == 1


def test_a_worker_whose_leases_are_gone_ends_everything_before_it_registers_again(rig: Rig) -> None:
    rig.until(lambda: len(rig.launcher.running) == 2)
    rig.store.members._members["w1"].standing = "reaped"
    killed: list[AttemptKey] = []
    registered: list[int] = []
    register, kill = rig.store.register, rig.launcher.kill

    def noted_register(worker: WorkerInfo, now_ns: Nanoseconds) -> None:
        registered.append(len(rig.launcher.running))
        register(worker, now_ns)

    def slow_kill(slot: int, key: AttemptKey, grace_ns: Nanoseconds) -> None:
        assert grace_ns == 0
        killed.append(key)

    rig.store.register = noted_register  # type: ignore[method-assign]
    rig.launcher.kill = slow_kill  # type: ignore[method-assign]
    rig.bell.ring()
    rig.until(lambda: len(killed) == 2)
    for _ in range(5):
        rig.worker.step(0.02)
    assert registered == []
    for key in killed:
        kill(0, key, Nanoseconds(0))
    rig.until(lambda: registered == [0])
    assert list(rig.store.attempts(rig.job)) == [], "nothing of the old epoch is committed"
    rig.until(lambda: len(rig.launcher.running) == 2)
    assert not set(rig.launcher.running) & set(killed), "new leases, new fences"


@pytest.mark.parametrize("rig", [0], indirect=True)
def test_who_led_a_gang_that_the_store_forgot_does_not_wait_for_it(rig: Rig) -> None:
    """The server came back without the gang: no message will ever say that all its members have ended."""
    quiet = rig.worker._exchanging._link
    gang = TaskSpec(command="mpi", requirement=Requirement(nodes=2))
    rig.until(lambda: not quiet.busy)
    rig.store.register(WorkerInfo(id="w2", host="h2", capacity=rig.worker.info.capacity), CLOCK.now_ns())
    job = rig.store.submit(JobSpec(key="gang"), [gang], CLOCK.now_ns()).id
    rig.bell.ring()
    rig.until(lambda: rig.store.assembling() is not None and rig.store.assembling().taken == 1)  # type: ignore[union-attr]
    rig.until(lambda: not quiet.busy)
    (offer,) = rig.store.exchange("w2", [], [], CLOCK.now_ns()).offers
    wants = [Want(job=job, class_id=offer.class_id, priority=0, count=1)]
    (other,) = rig.store.exchange("w2", [], wants, CLOCK.now_ns()).leases
    assert other.gang is not None and other.gang.rank == 1
    rig.bell.ring()
    rig.until(lambda: len(rig.launcher.running) == 1)
    rig.until(lambda: not quiet.busy)
    rig.store._give_back_all("w1", CLOCK.now_ns())
    (key,) = rig.launcher.running
    rig.worker.drain()
    rig.launcher.end(key, exit_code=0)
    rig.until(lambda: not rig.worker.busy)
    assert rig.store.status(job).counts["ready"] == 1 and not rig.worker.holds(key)


@pytest.mark.parametrize("rig", [40], indirect=True)
def test_a_sick_node_rests_and_hands_nothing_more_to_failure(rig: Rig) -> None:
    """Five different commands in a row cannot be started here: the rest stays for others."""
    commands = iter("abcdefghijklmnop")
    for task in rig.store._jobs[rig.job].tasks:
        task.spec = TaskSpec(command=next(commands, "z"))

    def fail_all() -> bool:
        for key in list(rig.launcher.running):
            rig.launcher.end(key, error="command not found")
        return "resting" in rig.log.getvalue()

    rig.until(fail_all)
    rig.until(lambda: not rig.worker.busy)
    counts = rig.counts()
    assert counts["leased"] == 0
    assert 5 <= counts["failed"] <= 7
    assert counts["ready"] == 40 - counts["failed"]
    load = rig.worker._load()
    assert load.note.startswith("sick: ")
