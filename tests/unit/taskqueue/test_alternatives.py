"""Tasks that would do with several sets of cores and resources: the first free one is held, never more than there is."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from ergates.cluster.node import NamedResource, NodeCapacity
from ergates.cluster.task import Alternative, Requirement
from ergates.taskqueue.slots import Slot, Slots, choices_of
from ergates.units import Bytes, MilliCpus

CAPACITY = NodeCapacity(
    cpus_milli=MilliCpus(4000),
    cpu_ids=(0, 1, 2, 3),
    memory_bytes=Bytes(1 << 30),
    resources=(NamedResource(name="gpus", amount=2, indices=(0, 3)), NamedResource(name="licences", amount=3)),
)


def choice(cpus_milli: int, **resources: int) -> Alternative:
    return Alternative(cpus_milli=MilliCpus(cpus_milli), resources=tuple(sorted(resources.items())))


def need(first: Alternative, *others: Alternative) -> Requirement:
    return Requirement(cpus_milli=first.cpus_milli, resources=first.resources, alternatives=others)


TWO_OR_GPU = need(choice(2000), choice(1000, gpus=1))


def test_the_first_choice_that_is_free_is_held() -> None:
    slots = Slots(CAPACITY)
    assert slots.free_count(TWO_OR_GPU, 10) == 2
    first = slots.take(need(choice(1500)))
    assert slots.free_count(TWO_OR_GPU, 10) == 1
    plain = slots.take(TWO_OR_GPU)
    assert plain.alternative is None and plain.indices == ()
    assert not slots.fits(TWO_OR_GPU), "half a core is left"
    slots.release(first)
    with_gpu = slots.take(TWO_OR_GPU)
    assert with_gpu.alternative is None, "two cores were free again"
    slots.release(with_gpu)
    slots.take(need(choice(500)))
    with_gpu = slots.take(TWO_OR_GPU)
    assert with_gpu.alternative == choice(1000, gpus=1) and with_gpu.indices == (("gpus", (0,)),)
    assert slots.resources_held() == (("gpus", 1),)
    slots.release(with_gpu)
    assert slots.resources_held() == ()


def test_why_none_of_several_fits() -> None:
    slots = Slots(CAPACITY)
    assert slots.unfit(TWO_OR_GPU) is None
    assert slots.unfit(need(choice(9000), choice(1000, gpus=1))) is None
    assert (
        slots.unfit(need(choice(9000), choice(1000, gpus=4), choice(500, fpgas=1)))
        == "needs 9 cores, or 1 core and gpus=4, or 0.5 cores and fpgas=1; this node has 4 cores and fpgas=0 and gpus=2"
    )


def test_a_lowered_limit_is_awaited() -> None:
    slots = Slots(CAPACITY, most=4)
    held = [slots.take(need(choice(1000))) for _ in range(3)]
    slots.limit(replace(CAPACITY, cpus_milli=MilliCpus(1000)), 2)
    assert not slots.fits(need(choice(0))) and slots.free_count(need(choice(0)), 9) == 0
    slots.release(held.pop())
    slots.release(held.pop())
    assert not slots.fits(need(choice(500)))
    slots.release(held.pop())
    assert slots.free_count(need(choice(500)), 9) == 2
    slots.check_invariants(held)


choices = st.builds(
    lambda cpus, gpus, licences: choice(cpus, gpus=gpus, licences=licences),
    st.sampled_from([0, 50, 500, 1000, 1500, 2500, 5000]),
    st.integers(0, 3),
    st.integers(0, 4),
)
requirements = st.builds(lambda all_of_them: need(*all_of_them), st.lists(choices, min_size=1, max_size=4))


@given(st.lists(st.tuples(requirements, st.booleans(), st.integers(0, 99))), st.booleans())
def test_nothing_is_held_twice_whichever_choice_is_taken(steps: list[tuple[Requirement, bool, int]], pin: bool) -> None:
    slots, held = Slots(CAPACITY, pin=pin), list[Slot]()
    for requirement, release, at in steps:
        if release and held:
            slots.release(held.pop(at % len(held)))
        if slots.fits(requirement):
            slot = slots.take(requirement)
            assert slot.choice in choices_of(requirement)
            held.append(slot)
        slots.check_invariants(held)
        indices = [index for slot in held for name, got in slot.indices if name == "gpus" for index in got]
        assert len(indices) == len(set(indices))


@given(st.lists(requirements, max_size=6), requirements)
def test_the_count_of_free_slots_is_what_can_be_taken(before: list[Requirement], requirement: Requirement) -> None:
    slots = Slots(CAPACITY, most=20)
    for each in before:
        if slots.fits(each):
            slots.take(each)
    counted, taken = slots.free_count(requirement, 12), 0
    while taken < 12 and slots.fits(requirement):
        slots.take(requirement)
        taken += 1
    assert counted == taken


@given(requirements)
def test_what_is_not_unfit_fits_an_empty_node(requirement: Requirement) -> None:
    slots = Slots(CAPACITY)
    assert (slots.unfit(requirement) is None) == slots.fits(requirement)
