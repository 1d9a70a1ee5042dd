"""Which attempt an idle node should run a second time, from what workers say and from runs that ended."""

from __future__ import annotations

from ergates.cluster.gang import GangSeat
from ergates.cluster.node import (
    LongAttempt,
    NamedResource,
    NodeCapacity,
    WorkerInfo,
    WorkerLoad,
    WorkerOrders,
    WorkerStatus,
)
from ergates.cluster.task import JobId, Requirement, TaskId, TaskSpec
from ergates.taskqueue.copying import choose_copy, has_room, longest, look_pause_ns, may_run_twice, speeds_of
from ergates.taskqueue.store import Lease, PastFailures, PastPeak
from ergates.taskqueue.stragglers import CopyRecord
from ergates.units import GIB, SECOND_NS, Bytes, MilliCpus, Nanoseconds

CAPACITY = NodeCapacity(cpus_milli=MilliCpus(2000), memory_bytes=Bytes(4 * GIB), labels={"arch": "x"})
NOW = 10**18


def told(task: int, age_s: float, *, copy: bool = False) -> LongAttempt:
    return LongAttempt(
        job=JobId("j1"),
        task=TaskId(task),
        fence=task,
        shape="sim #",
        age_ns=Nanoseconds(round(age_s * SECOND_NS)),
        copy=copy,
    )


def worker(host: str, *attempts: LongAttempt, standing: str = "live", beat_s: float = 0) -> WorkerStatus:
    return WorkerStatus(
        info=WorkerInfo(id=host, host=host, capacity=CAPACITY),
        standing=standing,
        beat_age_ns=Nanoseconds(round(beat_s * SECOND_NS)),
        leases=len(attempts),
        orders=WorkerOrders(),
        load=WorkerLoad(longest=attempts),
    )


def peaks(host: str, seconds: float, count: int = 10, shape: str = "sim #") -> list[PastPeak]:
    wall_ns = round(seconds * SECOND_NS)
    return [
        PastPeak(shape=shape, peak_bytes=1, input_bytes=-1, wall_ns=wall_ns, at_ns=1, host=host) for _ in range(count)
    ]


def chosen(*workers: WorkerStatus, known: list[PastPeak] | None = None) -> tuple[str, int, int] | None:
    past = peaks("b", 100) if known is None else known
    found = choose_copy(workers, past, "b", CopyRecord(won=3), NOW)
    return None if found is None else found.key


def test_the_oldest_straggler_of_another_host_is_chosen() -> None:
    slow = worker("a", told(1, 300), told(2, 400), told(3, 104))
    assert chosen(slow, worker("b")) == ("j1", 2, 2)
    assert chosen(worker("b", told(1, 400))) is None, "it runs here"
    assert chosen(worker("a", told(1, 104)), worker("b")) is None, "like the others"
    assert chosen(worker("a", told(1, 400), standing="silent"), worker("b")) is None, "others will be told soon"
    assert chosen(slow, worker("b"), known=peaks("b", 100, count=4)) is None, "nobody knows what is long"
    assert chosen(slow, worker("b"), known=peaks("b", 100, shape="sim # (any words)")) is None


def test_time_since_the_beat_counts() -> None:
    assert chosen(worker("a", told(1, 100)), worker("b")) is None
    assert chosen(worker("a", told(1, 100), beat_s=300), worker("b")) == ("j1", 1, 1)


def test_what_has_a_copy_gets_no_other() -> None:
    assert chosen(worker("a", told(1, 400)), worker("c", told(1, 10, copy=True)), worker("b")) is None


def test_the_oldest_few_are_told() -> None:
    attempts = [told(task, age) for task, age in enumerate((3, 50, 7, 6, 90, 8), 1)]
    assert [attempt.task for attempt in longest(attempts)] == [5, 2, 6, 3]
    assert longest([told(1, 4.9)]) == ()


def test_many_workers_look_less_often() -> None:
    assert look_pause_ns(1) == look_pause_ns(10) == 5 * SECOND_NS
    assert look_pause_ns(200) == 100 * SECOND_NS


def lease(spec: TaskSpec, gang: GangSeat | None = None) -> Lease:
    return Lease(job=JobId("j1"), task=TaskId(1), fence=1, attempt=1, spec=spec, past=PastFailures(), gang=gang)


def test_what_may_run_twice() -> None:
    plain = TaskSpec(command="sim")
    assert may_run_twice(lease(plain), copies=True)
    assert not may_run_twice(lease(plain), copies=False)
    assert not may_run_twice(lease(plain, GangSeat(rank=0, size=2, role="", hosts=("a", "b"))), copies=True)
    assert not may_run_twice(lease(TaskSpec(command="sim", outputs=("out",))), copies=True)
    assert not may_run_twice(lease(TaskSpec(command="sim", requirement=Requirement(paths=("/data",)))), copies=True)


def test_room() -> None:
    capacity = NodeCapacity(
        cpus_milli=MilliCpus(2000),
        memory_bytes=Bytes(GIB),
        resources=(NamedResource(name="gpus", amount=1),),
        labels={"arch": "x"},
    )
    assert has_room(Requirement(), capacity, 1000, ())
    assert not has_room(Requirement(), capacity, 1500, ())
    gpu = Requirement(resources=(("gpus", 1),))
    assert has_room(gpu, capacity, 0, ()) and not has_room(gpu, capacity, 0, (("gpus", 1),))
    assert not has_room(Requirement(memory_bytes=Bytes(2 * GIB)), capacity, 0, ())
    assert not has_room(Requirement(labels=(("arch", "y"),)), capacity, 0, ())


def test_speeds_come_from_shapes_that_ran_on_two_nodes() -> None:
    speeds = speeds_of([*peaks("a", 20), *peaks("b", 10), *peaks("c", 5, shape="other")])
    assert set(speeds) == {"a", "b"} and speeds["b"].speed > 1.2 > 0.9 > speeds["a"].speed
    assert speeds_of(peaks("", 10) + peaks("b", 10)) == {}
