"""A node and gangs: when it asks for a seat, what room it keeps, when it gives the seat up."""

from __future__ import annotations

from msgspec.structs import replace

from ergates.cluster.gang import GangSeat
from ergates.cluster.node import NodeCapacity
from ergates.cluster.task import JobId, Requirement, TaskId, TaskSpec
from ergates.taskqueue.node_events import (
    AskForTasks,
    AttemptEnded,
    DrainStarted,
    NodeAction,
    NodeChanged,
    NodeSampled,
    OffersSeen,
    RestEnded,
    RestStarted,
    StartAttempt,
    TasksLeased,
)
from ergates.taskqueue.node_policy import NodePolicy
from ergates.taskqueue.node_settings import NodeSettings
from ergates.taskqueue.store import Lease, Offer, PastFailures, Seat
from ergates.units import GIB, MIB, Bytes, MilliCpus, Nanoseconds

NOW = Nanoseconds(10**12)
J = JobId("j1")
CAPACITY = NodeCapacity(cpus_milli=MilliCpus(2000), memory_bytes=Bytes(4 * GIB), confined=True)
GANG = Requirement(nodes=3)
SEAT = Seat(job=J, class_id=5, priority=0, taken=1, size=3)
SETTINGS = NodeSettings(gangs=True, refuse_unfit=False, ahead_wall_ns=Nanoseconds(10**9))


def policy() -> NodePolicy:
    return NodePolicy(CAPACITY, SETTINGS)


def offer(needed: Requirement, class_id: int, waiting: int = 9, priority: int = 0) -> Offer:
    return Offer(job=J, class_id=class_id, requirement=needed, priority=priority, waiting=waiting)


def lease(task: int, needed: Requirement, *, member: bool = False) -> Lease:
    spec = TaskSpec(command="x", requirement=needed)
    gang = GangSeat(rank=1, size=3, hosts=("a", "b", "c")) if member else None
    return Lease(job=J, task=TaskId(task), fence=task, attempt=1, spec=spec, past=PastFailures(), gang=gang)


def wants(actions: list[NodeAction]) -> list[tuple[int, int]]:
    return [(want.class_id, want.count) for each in actions if isinstance(each, AskForTasks) for want in each.wants]


def started(actions: list[NodeAction]) -> list[int]:
    return [action.key[1] for action in actions if isinstance(action, StartAttempt)]


def seated(node: NodePolicy) -> None:
    """It has asked for a seat, and has it."""
    assert wants(node.handle(OffersSeen(offers=(offer(GANG, 5),)), NOW)) == [(5, 1)]
    assert wants(node.handle(OffersSeen(offers=(), seat=SEAT), NOW)) == []
    node.check_invariants()


def test_it_asks_for_one_seat_and_for_nothing_less_urgent() -> None:
    node = policy()
    found = wants(node.handle(OffersSeen(offers=(offer(GANG, 5, priority=1), offer(Requirement(), 1))), NOW))
    assert found == [(5, 1)]


def test_what_is_more_urgent_goes_first() -> None:
    node = policy()
    found = wants(node.handle(OffersSeen(offers=(offer(Requirement(), 1, priority=2), offer(GANG, 5))), NOW))
    assert [class_id for class_id, _ in found] == [1]


def test_the_room_of_a_seat_is_kept_and_the_rest_is_used() -> None:
    node = policy()
    seated(node)
    tasks = [lease(task, Requirement()) for task in (1, 2)]
    assert started(node.handle(TasksLeased(leases=tuple(tasks)), NOW)) == [1], "one of two cores is kept"
    assert started(node.handle(NodeSampled(used_bytes=Bytes(50 * MIB), attempts=()), NOW)) == []
    node.check_invariants()


def test_a_member_takes_the_room_at_once_before_all_others() -> None:
    node = policy()
    seated(node)
    node.handle(TasksLeased(leases=tuple(lease(task, Requirement()) for task in (1, 2))), NOW)
    assert started(node.handle(TasksLeased(leases=(lease(3, GANG, member=True),)), NOW)) == [3]
    node.check_invariants()
    ended = AttemptEnded(key=(J, 3, 3), wall_ns=Nanoseconds(10**9), peak_bytes=Bytes(MIB), succeeded=True)
    assert started(node.handle(ended, NOW)) == [2]


def test_a_seat_that_is_lost_frees_the_room() -> None:
    node = policy()
    seated(node)
    node.handle(TasksLeased(leases=tuple(lease(task, Requirement()) for task in (1, 2))), NOW)
    assert started(node.handle(OffersSeen(offers=()), NOW)) == [2]


def test_without_room_it_takes_nothing_less_urgent() -> None:
    node = policy()
    whole = replace(GANG, cpus_milli=MilliCpus(2000))
    node.handle(TasksLeased(leases=(lease(1, Requirement()),)), NOW)
    assert wants(node.handle(OffersSeen(offers=(offer(whole, 5), offer(Requirement(), 1))), NOW)) == []
    ended = AttemptEnded(key=(J, 1, 1), wall_ns=Nanoseconds(10**9), peak_bytes=Bytes(MIB), succeeded=True)
    assert wants(node.handle(ended, NOW)) == [(5, 1)]


def test_a_gang_it_could_never_hold_a_member_of_is_unfit_and_holds_nothing_up() -> None:
    node = policy()
    huge = replace(GANG, cpus_milli=MilliCpus(4000))
    found = wants(node.handle(OffersSeen(offers=(offer(huge, 5, priority=1), offer(Requirement(), 1))), NOW))
    assert [class_id for class_id, _ in found] == [1]
    assert node.unfit_classes(NOW) == (5,)


def test_a_drain_gives_the_seat_up() -> None:
    node = policy()
    seated(node)
    node.handle(DrainStarted(), NOW)
    assert node.unfit_classes(NOW) == (5,)
    node.check_invariants()


def test_a_rest_gives_it_up_until_it_is_over() -> None:
    node = policy()
    seated(node)
    node.handle(RestStarted(reason="sick"), NOW)
    assert node.unfit_classes(NOW) == (5,)
    node.handle(RestEnded(), NOW)
    assert wants(node.handle(OffersSeen(offers=(offer(GANG, 5),)), NOW)) == [(5, 1)]
    assert node.unfit_classes(NOW) == ()


def test_a_node_that_became_too_small_gives_it_up() -> None:
    node = policy()
    seated(node)
    node.handle(NodeChanged(capacity=replace(CAPACITY, cpus_milli=MilliCpus(500))), NOW)
    assert node.unfit_classes(NOW) == (5,)
    node.check_invariants()


def test_a_seat_that_comes_late_is_kept_if_there_is_room_and_given_up_if_not() -> None:
    node = policy()
    seated(node)
    node.handle(OffersSeen(offers=()), NOW)
    node.handle(OffersSeen(offers=(), seat=SEAT), NOW)
    assert node.state.reserved is not None and node.unfit_classes(NOW) == ()
    node.handle(OffersSeen(offers=()), NOW)
    node.handle(TasksLeased(leases=tuple(lease(task, Requirement()) for task in (1, 2))), NOW)
    node.handle(OffersSeen(offers=(), seat=SEAT), NOW)
    assert node.unfit_classes(NOW) == (5,)
