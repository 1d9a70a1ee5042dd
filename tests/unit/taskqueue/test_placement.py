"""Sizing of allocations: one look, the exact actions; and laws over random queues and batch systems."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ergates.cluster.node import NodeCapacity
from ergates.cluster.task import Requirement
from ergates.taskqueue.placement import (
    Action,
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
from ergates.taskqueue.placement_demand import WaitingClass, WorkerKind, demand
from ergates.units import GIB, SECOND_NS, Bytes, MilliCpus, Nanoseconds

MINUTE_NS = 60 * SECOND_NS
HOUR_NS = 60 * MINUTE_NS
NODE = NodeCapacity(cpus_milli=MilliCpus(4000), memory_bytes=Bytes(8 * GIB))
LIMITS = PlacementLimits(walltime_ns=Nanoseconds(HOUR_NS), workers_max=10, pending_max=6, array_max=5)
KIND = WorkerKind(capacity=NODE, lives_ns=Nanoseconds(58 * MINUTE_NS), most=10, worth_ns=Nanoseconds(5 * MINUTE_NS))
ONE_CORE = Requirement()


def waiting(count: int, expected_s: float | None = None, **needs: Any) -> WaitingClass:
    expected = None if expected_s is None else Nanoseconds(round(expected_s * SECOND_NS))
    return WaitingClass(requirement=Requirement(**needs), count=count, expected_ns=expected)


def seen(*rows: WaitingClass, **more: Any) -> Seen:
    return Seen(waiting=rows, capacity=NODE, **{"allocations": (), **more})


def pending(*ids: str) -> tuple[Allocation, ...]:
    return tuple(Allocation(id=one, running=False) for one in ids)


def look_twice(what: Seen, at_ns: int = 0) -> tuple[Action, ...]:
    first = decide(LIMITS, PlacementState(), what, Nanoseconds(at_ns))
    return decide(LIMITS, first.state, what, Nanoseconds(at_ns + 10 * SECOND_NS)).actions


# --- demand -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "workers"),
    [
        ((), 0),
        ((waiting(1),), 1),
        ((waiting(4),), 1),
        ((waiting(5),), 2),
        ((waiting(2), waiting(2, cpus_milli=500)), 1),
        ((waiting(3, memory_bytes=5 * GIB),), 3),
        ((waiting(1000, 0.1),), 1),
        ((waiting(1000, 6),), 5),
        ((waiting(8, 3000),), 2),
        ((waiting(1, nodes=3),), 3),
    ],
)
def test_demand_without_workers(rows: tuple[WaitingClass, ...], workers: int) -> None:
    assert demand(rows, KIND, ()).workers == workers


def test_short_tasks_are_left_to_live_workers_unless_those_are_busy() -> None:
    row = waiting(1000, 1)  # 1,000 s of work, 4 side by side: 250 s of one worker
    assert demand([row], KIND, [NODE]).workers == 0
    assert demand([row], KIND, [NODE], trust_live=False).workers == 1


def test_a_live_worker_without_the_resource_does_not_count() -> None:
    gpus = replace(
        KIND, capacity=NodeCapacity(cpus_milli=MilliCpus(4000), memory_bytes=Bytes(GIB), labels={"gpu": "a"})
    )
    row = waiting(10, 1, labels=(("gpu", "a"),))
    assert demand([row], gpus, [NODE]).workers == 1


def test_workers_are_wanted_only_for_the_roles_they_could_take() -> None:
    def of_group(group: str) -> NodeCapacity:
        return NodeCapacity(cpus_milli=MilliCpus(4000), memory_bytes=Bytes(GIB), labels={"group": group})

    small = replace(KIND, capacity=of_group("small"))
    labels = (("server", (("group", "big"),)), ("client", (("group", "small"),)))
    row = waiting(1, nodes=4, roles=(("server", 1), ("client", 3)), role_labels=labels)
    alone = demand([row], small, [of_group("small")])
    assert alone.workers == 0 and alone.notes == (
        "1 waiting gang not counted: some of its roles no such worker could take",
    )
    assert demand([row], small, [of_group("big")]).workers == 3
    assert demand([row], small, [of_group("big"), *[of_group("small")] * 3], trust_live=True).notes == ()


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (waiting(2, min_time_ns=HOUR_NS), "2 waiting tasks not counted: needs 1 h 00 min"),
        (waiting(1, cpus_milli=5000), "1 waiting task not counted: needs 5 cores; this node has 4"),
        (waiting(1, nodes=11), "needs 11 nodes at once; at most 10 workers"),
        (waiting(1, labels=(("arch", "arm"),)), "no label arch"),
    ],
)
def test_what_no_worker_could_run_calls_for_none_and_says_why(row: WaitingClass, words: str) -> None:
    wanted = demand([row], KIND, ())
    assert wanted.workers == 0
    assert words in wanted.notes[0]


# --- one look, the exact actions ----------------------------------------------------------------------


def test_asks_when_demand_is_there_at_two_looks() -> None:
    first = decide(LIMITS, PlacementState(), seen(waiting(8)), Nanoseconds(0))
    assert first.actions == ()
    second = decide(LIMITS, first.state, seen(waiting(8)), Nanoseconds(SECOND_NS))
    assert second.actions == (Submit(count=2, walltime_ns=Nanoseconds(HOUR_NS)),)


def test_what_is_coming_is_not_asked_for_again() -> None:
    booting = Allocation(id="1_0", running=True)
    assert look_twice(seen(waiting(12), allocations=(booting, *pending("1_1", "1_2")))) == ()
    assert look_twice(seen(waiting(12), unconfirmed=3)) == ()


def test_a_worker_that_just_came_is_given_time_to_take_its_tasks() -> None:
    fresh = Allocation(id="1_0", running=True, joined_ns=Nanoseconds(0))
    assert look_twice(seen(waiting(4), allocations=(fresh,))) == ()
    assert look_twice(seen(waiting(4), allocations=(fresh,)), at_ns=MINUTE_NS) == (
        Submit(count=1, walltime_ns=Nanoseconds(HOUR_NS)),
    )


@pytest.mark.parametrize(
    ("limits", "count", "words"),
    [
        ({"array_max": 3}, 3, "at most 3 at once"),
        ({"pending_max": 2}, 2, "at most 2 waiting allocations"),
        ({"workers_max": 1}, 1, "at most 1 workers"),
    ],
)
def test_a_limit_binds_and_is_named(limits: dict[str, int], count: int, words: str) -> None:
    bound = replace(LIMITS, **{"array_max": 99, "pending_max": 99, "workers_max": 99, **limits})  # type: ignore[arg-type]
    first = decide(bound, PlacementState(), seen(waiting(100)), Nanoseconds(0))
    second = decide(bound, first.state, seen(waiting(100)), Nanoseconds(0))
    assert second.actions == (Submit(count=count, walltime_ns=bound.walltime_ns),)
    assert words in second.notes[-1]


def test_the_newest_waiting_allocations_are_taken_back_when_they_were_unneeded_for_a_while() -> None:
    there = seen(waiting(4), allocations=pending("1_0", "1_1", "1_2"))
    state, taken = PlacementState(), []
    for at_s in range(0, 300, 10):
        decision = decide(LIMITS, state, there, Nanoseconds(at_s * SECOND_NS))
        state = decision.state
        taken += [(at_s, action) for action in decision.actions]
        if decision.actions:
            there = replace(there, allocations=pending("1_0"))
    assert taken == [(120, CancelPending(ids=("1_1", "1_2")))]


def test_a_refusal_waits_longer_each_time_and_gives_up_in_the_end() -> None:
    state, at_ns, waits = PlacementState(wanted_before=1), 0, []
    for _ in range(LIMITS.refused_max):
        state, actions = after_submission(LIMITS, state, Refused(reason="no"), Nanoseconds(at_ns))
        waits.append((state.not_before_ns - at_ns) // MINUTE_NS)
        at_ns = state.not_before_ns
    assert waits == [1, 5, 15, 30, 60, 60, 60, 60, 60, 60]
    assert actions == (GiveUp(reason="10 submissions in a row were refused, the last one: no"),)
    assert decide(LIMITS, state, seen(waiting(9)), Nanoseconds(at_ns)).actions == ()


def test_a_refusal_for_good_gives_up_at_once() -> None:
    _, actions = after_submission(
        LIMITS, PlacementState(), Refused(reason="no such partition", for_good=True), Nanoseconds(0)
    )
    assert actions == (GiveUp(reason="no such partition"),)


def test_gives_up_when_allocations_end_before_a_worker_came() -> None:
    state = PlacementState()
    for number in range(2):
        died = seen(waiting(9), ended=(Ended(id=f"{number}_0", joined_ns=None, words=f"{number}_0 FAILED"),))
        decision = decide(LIMITS, state, died, Nanoseconds(number * SECOND_NS))
        assert decision.actions == (), "it waits after trouble"
        state = decision.state
    died = seen(waiting(9), ended=(Ended(id="2_0", joined_ns=None, words="2_0 FAILED on n1"),))
    (action,) = decide(LIMITS, state, died, Nanoseconds(3 * SECOND_NS)).actions
    assert isinstance(action, GiveUp)
    assert action.reason.startswith("3 allocations in a row ended before a worker came")
    assert action.reason.endswith("2_0 FAILED on n1")


def test_one_worker_that_comes_forgives_those_that_did_not() -> None:
    came = Allocation(id="1_3", running=True, joined_ns=Nanoseconds(SECOND_NS))
    died = tuple(Ended(id=f"1_{n}", joined_ns=None, words="FAILED") for n in range(3))
    decision = decide(
        LIMITS, PlacementState(), seen(waiting(9), allocations=(came,), ended=died), Nanoseconds(2 * SECOND_NS)
    )
    assert decision.actions == () and not decision.state.given_up
    assert decision.state.not_before_ns > 0


# --- laws -------------------------------------------------------------------------------------------

classes = st.builds(
    WaitingClass,
    requirement=st.builds(
        Requirement,
        cpus_milli=st.sampled_from([MilliCpus(50), MilliCpus(1000), MilliCpus(3000), MilliCpus(9000)]),
        memory_bytes=st.sampled_from([Bytes(0), Bytes(GIB), Bytes(6 * GIB), Bytes(60 * GIB)]),
        min_time_ns=st.sampled_from([Nanoseconds(0), Nanoseconds(HOUR_NS)]),
        nodes=st.sampled_from([1, 1, 1, 2, 40]),
    ),
    count=st.integers(0, 5000),
    expected_ns=st.none() | st.integers(0, 2 * HOUR_NS).map(Nanoseconds),
)
limits = st.builds(
    PlacementLimits,
    workers_max=st.integers(0, 12),
    pending_max=st.integers(0, 6),
    array_max=st.integers(1, 5),
    walltime_ns=st.just(Nanoseconds(HOUR_NS)),
)
STEP_NS = 15 * SECOND_NS


class World:
    """The batch system as the policy sees it: what was asked for waits, starts and joins when the test says so."""

    def __init__(self, bounds: PlacementLimits) -> None:
        self.bounds, self.state, self.now_ns = bounds, PlacementState(), 0
        self.allocations: list[Allocation] = []
        self.made = 0
        self.asked: list[Action] = []

    def look(self, rows: list[WaitingClass]) -> tuple[Action, ...]:
        self.now_ns += STEP_NS
        what = Seen(waiting=tuple(rows), allocations=tuple(self.allocations), capacity=NODE)
        decision = decide(self.bounds, self.state, what, Nanoseconds(self.now_ns))
        self.state = decision.state
        for action in decision.actions:
            match action:
                case Submit(count=count):
                    assert 0 < count <= self.bounds.array_max
                    self.allocations += pending(*(str(self.made + n) for n in range(count)))
                    self.made += count
                    self.state, _ = after_submission(self.bounds, self.state, None, Nanoseconds(self.now_ns))
                case CancelPending(ids=ids):
                    assert {one.id for one in self.allocations if not one.running} >= set(ids)
                    self.allocations = [one for one in self.allocations if one.id not in ids]
                case GiveUp():
                    raise AssertionError("nothing went wrong")
        assert len(self.allocations) <= self.bounds.workers_max
        assert sum(not one.running for one in self.allocations) <= self.bounds.pending_max
        return decision.actions

    def change(self, kind: str) -> None:
        for number, one in enumerate(self.allocations):
            if kind == "start" and not one.running:
                self.allocations[number] = replace(one, running=True)
                return
            if kind == "join" and one.running and one.joined_ns is None:
                self.allocations[number] = replace(one, joined_ns=Nanoseconds(self.now_ns))
                return
            if kind == "end" and one.running:
                del self.allocations[number]
                return


@given(
    limits,
    st.lists(st.tuples(st.lists(classes, max_size=4), st.sampled_from(["start", "join", "end", ""])), max_size=40),
)
def test_never_above_a_limit(bounds: PlacementLimits, story: list[tuple[list[WaitingClass], str]]) -> None:
    world = World(bounds)
    for rows, kind in story:
        world.look(rows)
        world.change(kind)


@given(limits, st.lists(classes, max_size=5), st.sampled_from(["", "start"]))
def test_converges_and_does_not_flap(bounds: PlacementLimits, rows: list[WaitingClass], kind: str) -> None:
    """While what waits stays the same, asking ends, nothing is taken back, and then nothing happens at all."""
    world = World(bounds)
    asked: list[Action] = []
    for _ in range(30):
        asked += world.look(rows)
        world.change(kind)
    assert all(isinstance(action, Submit) for action in asked)
    assert [action for _ in range(60) for action in world.look(rows)] == []


@given(limits, st.lists(classes, max_size=5))
def test_whatever_can_run_gets_a_worker_and_an_empty_queue_lets_all_go(
    bounds: PlacementLimits, rows: list[WaitingClass]
) -> None:
    world = World(bounds)
    for _ in range(5):
        world.look(rows)
    kind = replace(KIND, most=bounds.workers_max)
    counted = demand(rows, kind, ()).tasks > 0 and demand(rows, kind, ()).workers > 0
    assert bool(world.allocations) == (counted and bounds.workers_max > 0 and bounds.pending_max > 0)
    for _ in range(20):
        world.look([])
    assert world.allocations == []


@given(st.lists(classes, max_size=5), st.integers(0, 5000))
def test_more_waiting_never_wants_fewer(rows: list[WaitingClass], more: int) -> None:
    larger = [replace(row, count=row.count + more) for row in rows]
    assert demand(larger, KIND, (NODE,)).workers >= demand(rows, KIND, (NODE,)).workers
