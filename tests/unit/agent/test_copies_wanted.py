"""When an idle worker looks for attempts to copy, and what it asks of the store then."""

from __future__ import annotations

from ergates.agent.copying import Copying, any_copies
from ergates.clock import ManualClock
from ergates.cluster.job import JobSpec
from ergates.cluster.node import LongAttempt, NodeCapacity, WorkerInfo, WorkerLoad, WorkerOrders, WorkerStatus
from ergates.cluster.task import JobId, Requirement, TaskId, TaskSpec
from ergates.simulation.memory_store import MemoryStore
from ergates.taskqueue.store import PastPeak
from ergates.taskqueue.stragglers import CopyRecord, Duplicate
from ergates.units import GIB, SECOND_NS, Bytes, MilliCpus, Nanoseconds

CAPACITY = NodeCapacity(cpus_milli=MilliCpus(2000), memory_bytes=Bytes(GIB))
J1 = JobId("j1")


class RosterStore(MemoryStore):
    """A store whose roster is told."""

    roster: tuple[WorkerStatus, ...] = ()

    def workers(self) -> tuple[WorkerStatus, ...]:
        return self.roster

    def order(self, worker: str, orders: WorkerOrders) -> WorkerOrders:
        raise AssertionError(worker)


def status(host: str, *attempts: LongAttempt) -> WorkerStatus:
    return WorkerStatus(
        info=WorkerInfo(id=host, host=host, capacity=CAPACITY),
        standing="live",
        beat_age_ns=Nanoseconds(0),
        leases=0,
        orders=WorkerOrders(),
        load=WorkerLoad(longest=attempts),
    )


def copying(*, room: bool = True) -> tuple[Copying, RosterStore, ManualClock, list[Duplicate]]:
    clock, store, said = ManualClock(10**18), RosterStore(), list[Duplicate]()
    store.submit(JobSpec(key="k", copies=True), [TaskSpec(command="sim 1")], clock.now_ns())
    store.remember_peaks([_run("b") for _ in range(10)])
    old = LongAttempt(job=J1, task=TaskId(1), fence=7, shape="sim #", age_ns=Nanoseconds(400 * SECOND_NS))
    store.roster = (status("a", old), status("b"))

    def has_room(requirement: Requirement) -> bool:
        return room and requirement.cpus_milli <= CAPACITY.cpus_milli

    return Copying(store, "b", "b", clock, has_room, said.append), store, clock, said


def _run(host: str) -> PastPeak:
    return PastPeak(shape="sim #", peak_bytes=1, input_bytes=-1, wall_ns=100 * SECOND_NS, at_ns=1, host=host)


def test_it_looks_once_in_a_while_and_asks_once() -> None:
    mine, _, clock, said = copying()
    assert not mine.due(clock.now_ns())
    clock.advance(Nanoseconds(6 * SECOND_NS))
    assert mine.due(clock.now_ns()) and not mine.due(clock.now_ns())
    mine.heard(mine.ask())
    (want,) = mine.take_wants()
    assert (want.job, want.count, want.copy_of) == (J1, 0, (TaskId(1), 7))
    assert mine.take_wants() == () and len(said) == 1
    assert mine.next_ns > clock.now_ns() + 3 * SECOND_NS


def test_nothing_is_asked_without_room_or_without_anybody_elsewhere() -> None:
    mine, store, _, said = copying(room=False)
    mine.heard(mine.ask())
    assert mine.take_wants() == () and not said
    mine, store, _, said = copying()
    store.roster = store.roster[1:]
    mine.heard(mine.ask())
    assert mine.take_wants() == () and not said


def test_what_became_of_copies_is_counted() -> None:
    mine, *_ = copying()
    mine.ended(won=True)
    mine.ended(won=False)
    mine.ended(won=False)
    assert mine.record == CopyRecord(won=1, lost=2)


def test_only_jobs_that_allow_it() -> None:
    assert any_copies({J1: JobSpec(key="k", copies=True)})
    assert not any_copies({J1: JobSpec(key="k")})
