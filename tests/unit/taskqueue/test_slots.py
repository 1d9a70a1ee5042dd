"""Cores and named resources are never handed out twice."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ergates.cluster.node import NamedResource, NodeCapacity
from ergates.cluster.task import Requirement
from ergates.taskqueue.slots import Slot, Slots
from ergates.units import Bytes, MilliCpus

CAPACITY = NodeCapacity(
    cpus_milli=MilliCpus(4000),
    cpu_ids=(0, 1, 2, 3),
    memory_bytes=Bytes(1 << 30),
    resources=(NamedResource(name="gpus", amount=2, indices=(0, 3)), NamedResource(name="licences", amount=3)),
)


def need(cpus_milli: int, **resources: int) -> Requirement:
    return Requirement(cpus_milli=MilliCpus(cpus_milli), resources=tuple(sorted(resources.items())))


def test_fractional_tasks_share_a_core() -> None:
    slots = Slots(CAPACITY)
    assert slots.free_count(need(50), 1000) == 80
    slots.take(need(3990))
    assert not slots.fits(need(50))


def test_whole_cores_are_pinned_apart() -> None:
    slots = Slots(CAPACITY, pin=True)
    first, second = slots.take(need(2000)), slots.take(need(1000))
    assert first.cpu_ids == (0, 1) and second.cpu_ids == (2,)
    slots.release(first)
    assert slots.take(need(1000)).cpu_ids == (0,)


def test_indexed_resources_hand_out_the_lowest_free_indices() -> None:
    slots = Slots(CAPACITY)
    first = slots.take(need(100, gpus=1))
    assert first.indices == (("gpus", (0,)),)
    assert slots.take(need(100, gpus=1)).indices == (("gpus", (3,)),)
    assert not slots.fits(need(100, gpus=1))
    slots.release(first)
    assert slots.take(need(100, gpus=1)).indices == (("gpus", (0,)),)


def test_counted_resources_have_no_indices() -> None:
    slots = Slots(CAPACITY)
    assert slots.take(need(100, licences=2)).indices == ()
    assert not slots.fits(need(100, licences=2))


def test_what_can_never_fit_is_said_in_words() -> None:
    slots = Slots(CAPACITY)
    assert slots.unfit(need(8000)) == "needs 8 cores; this node has 4"
    assert slots.unfit(need(1000, gpus=3)) == "needs gpus=3; this node has 2"
    assert slots.unfit(need(1000, fpgas=1)) == "needs fpgas=1; this node has 0"
    assert slots.unfit(need(4000, gpus=2)) is None


def test_jobs_limit_the_slots_at_once() -> None:
    slots = Slots(CAPACITY, most=2)
    slots.take(need(50))
    assert slots.free_count(need(50), 10) == 1
    slots.take(need(50))
    assert not slots.fits(need(50))


@given(
    st.lists(st.tuples(st.integers(0, 2500), st.integers(0, 2), st.integers(0, 3), st.booleans())),
    st.booleans(),
)
def test_nothing_is_held_twice(requests: list[tuple[int, int, int, bool]], pin: bool) -> None:
    slots, held = Slots(CAPACITY, pin=pin), list[Slot]()
    for cpus_milli, gpus, licences, release in requests:
        if release and held:
            slots.release(held.pop(cpus_milli % len(held)))
        requirement = need(cpus_milli, gpus=gpus, licences=licences)
        if slots.fits(requirement):
            held.append(slots.take(requirement))
        slots.check_invariants(held)
