"""Roles that ask for labels: what a node can take, and when workers of several kinds fill all roles."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from ergates.cluster.node import NodeCapacity
from ergates.cluster.task import JobId, Requirement
from ergates.taskqueue.gang_roles import (
    Kind,
    Seating,
    kind_declared,
    kind_of,
    numbers_taken,
    role_number,
    role_words,
    seats_of,
)
from ergates.taskqueue.slots import Slots
from ergates.taskqueue.store import Offer
from ergates.taskqueue.unfit import GANGS_MAX, UnfitClasses, lacks
from ergates.units import GIB, Bytes, MilliCpus

NEEDED = Requirement(
    nodes=4,
    roles=(("server", 1), ("client", 2), ("monitor", 1)),
    role_labels=(("server", (("group", "big"), ("rack", "a"))), ("client", (("group", "small"),))),
)
PLAIN = Requirement(nodes=3, roles=(("server", 1), ("client", 2)))


def offer(needed: Requirement, class_id: int) -> Offer:
    return Offer(job=JobId("j1"), class_id=class_id, requirement=needed, priority=0, waiting=1)


def node(**labels: str) -> Slots:
    return Slots(NodeCapacity(cpus_milli=MilliCpus(1000), memory_bytes=Bytes(GIB), labels=labels))


def test_what_a_node_can_take() -> None:
    assert kind_of(NEEDED, {"group": "big", "rack": "a"}) == (0, 2)
    assert kind_of(NEEDED, {"group": "big", "rack": "b"}) == (2,)
    assert kind_of(NEEDED, {"group": "small", "rack": "a"}) == (1, 2)
    assert kind_of(PLAIN, {}) == (0,)
    assert seats_of(NEEDED) == (1, 2, 1) and seats_of(PLAIN) == (3,)
    assert role_words(NEEDED, (0, 2)) == ["server (group=big, rack=a)", "monitor"]


def test_records_from_before_roles_had_labels_are_read() -> None:
    old = b'{"nodes":3,"roles":[["server",1],["client",2]]}'
    assert msgspec.json.decode(old, type=Requirement) == PLAIN and msgspec.json.encode(PLAIN) == old
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(NEEDED), type=Requirement) == NEEDED
    assert sorted([NEEDED, PLAIN, Requirement()]) == sorted([Requirement(), NEEDED, PLAIN])


def test_what_a_worker_said_of_itself_is_read_back() -> None:
    assert (numbers_taken(NEEDED), numbers_taken(PLAIN)) == (4, 1)
    assert kind_declared(NEEDED, 7, ()) == (0, 1, 2)
    assert kind_declared(NEEDED, 7, (role_number(7, 1), 6, 11)) == (0, 2)
    assert kind_declared(NEEDED, 7, (7,)) == () == kind_declared(PLAIN, 7, (7,))
    assert kind_declared(PLAIN, 7, (8,)) == (0,), "another class's number"


def test_unfit_classes_follow_the_labels() -> None:
    labels = {"group": "small"}
    strict = Requirement(nodes=2, roles=(("a", 1), ("b", 1)), role_labels=(("a", (("x", "1"),)), ("b", (("x", "2"),))))
    unfit = UnfitClasses(lambda needed, _: None if kind_of(needed, labels) else "no role", lambda: labels)
    unfit.offered([offer(NEEDED, 10), offer(PLAIN, 20), offer(strict, 30)], 0)
    assert set(unfit.ids(0)) == {role_number(10, 0), 30, role_number(30, 0), role_number(30, 1)}
    labels |= {"x": "2", "group": "big", "rack": "a"}
    assert set(unfit.ids(0)) == {role_number(10, 1), role_number(30, 0)}
    unfit.offered([offer(NEEDED, 100 + 4 * n) for n in range(GANGS_MAX)], 0)
    assert role_number(30, 0) not in unfit.ids(0), "only so many are remembered"


def test_a_node_that_fits_no_role_says_why() -> None:
    everywhere = Requirement(nodes=2, roles=(("server", 1), ("client", 1)), role_labels=NEEDED.role_labels)
    (lack,) = lacks(everywhere, node(group="huge", rack="a"))
    assert lack.resource == "role"
    assert lack.words == (
        "needs the labels of one of its roles: server (group=big, rack=a) or client (group=small);"
        " this node has group=huge, rack=a"
    )
    assert lacks(everywhere, node())[0].words.endswith("this node has no label")
    assert lacks(everywhere, node(group="small")) == [] == lacks(NEEDED, node())


# --- seatings ----------------------------------------------------------------------------------------

kinds = st.sets(st.integers(0, 3), max_size=4).map(lambda places: tuple(sorted(places)))


def most_seated(seats: tuple[int, ...], there: list[Kind]) -> int:
    """The size of the largest matching, by trying everything."""
    if not there:
        return 0
    first, *rest = there
    found = most_seated(seats, rest)
    for place in first:
        if place < len(seats) and seats[place]:
            left = (*seats[:place], seats[place] - 1, *seats[place + 1 :])
            found = max(found, 1 + most_seated(left, rest))
    return found


@given(st.lists(st.integers(1, 2), min_size=4, max_size=4).map(tuple), st.lists(kinds, max_size=7))
def test_as_many_sit_as_could_in_whatever_order_they_come(seats: tuple[int, ...], there: list[Kind]) -> None:
    seating, seated = Seating(seats), list[tuple[int, Kind]]()
    for number, kind in enumerate(there):
        could = seating.could_sit(kind)
        assert seating.add(kind) == could
        if could:
            seated.append((number, kind))
    assert len(seated) == most_seated(seats, there) == sum(seats) - sum(seating.left)
    assert seating.full == (len(seated) == sum(seats))
    if seating.full:
        ranks = seating.dealt(seated)
        roles = [place for place, count in enumerate(seats) for _ in range(count)]
        assert all(role in there[number] for number, role in zip(ranks, roles, strict=True))
        assert sorted(ranks) == [number for number, _ in seated]


@given(st.lists(st.integers(1, 2), min_size=4, max_size=4).map(tuple), st.lists(kinds, max_size=7))
def test_the_roles_that_are_short_have_too_few_workers_between_them(seats: tuple[int, ...], there: list[Kind]) -> None:
    seating = Seating(seats)
    for kind in there:
        seating.add(kind)
    short = seating.short()
    able = sum(1 for kind in there if set(kind) & set(short))
    assert bool(short) != seating.full
    assert able == sum(seats[place] for place in short) - sum(seating.left)
    others = [count for place, count in enumerate(seats) if place not in short]
    assert sum(others) == sum(count - seating.left[place] for place, count in enumerate(seats) if place not in short)


def test_who_came_first_within_a_role_has_the_lower_rank() -> None:
    seating = Seating((1, 2))
    seated = [("late", (1,)), ("both", (0, 1)), ("first", (0,))]
    assert all(seating.add(kind) for _, kind in seated)
    assert seating.dealt(seated) == ["first", "late", "both"]
    assert not seating.could_sit((0, 1)) and not seating.add((0, 1))
