"""Whatever programs there are and however they end: order is kept, all end, all agree."""

from __future__ import annotations

from collections.abc import Iterable

from conduct_world import Fate, World, order_for
from hypothesis import given, settings
from hypothesis import strategies as st

from ergates.cluster.gang import role_of
from ergates.experiment.messages import MemberFailed, Message, ProgramEnded
from ergates.experiment.run import RunOrder
from ergates.experiment.spec import Program, Ready
from ergates.units import SECOND_NS, Nanoseconds

durations = st.integers(0, 60 * SECOND_NS)
perhaps = st.none() | durations
programs = st.builds(
    Program,
    name=st.just(""),
    role=st.sampled_from(["a", "b", "c"]),
    command=st.just("x"),
    order=st.integers(0, 3),
    ready=st.none() | st.builds(Ready, line=st.just("up"), within_ns=durations.map(Nanoseconds)),
    start_ns=st.sampled_from([Nanoseconds(0), Nanoseconds(SECOND_NS)]),
    stop_ns=perhaps,
    background=st.booleans(),
    grace_ns=durations.map(Nanoseconds),
)
fates = st.builds(
    Fate,
    ready_ns=perhaps,
    ends_ns=perhaps,
    exit_code=st.sampled_from([0, 0, 0, 1]),
    heeds=st.booleans(),
    starts=st.sampled_from([True, True, True, False]),
)


@st.composite
def worlds(draw: st.DrawFn) -> World:
    roles = {role: draw(st.integers(1, 2)) for role in draw(st.sampled_from(["a", "ab", "abc"]))}
    drawn = [each for each in draw(st.lists(programs, min_size=1, max_size=5)) if each.role in roles]
    named = [
        Program(**{**{f: getattr(each, f) for f in each.__struct_fields__}, "name": f"p{n}"})
        for n, each in enumerate(drawn)
    ]
    order = order_for(roles, *named, settle_ns=Nanoseconds(SECOND_NS))
    told = {place: draw(fates) for place, _ in instances(order)}
    # Every run ends: by its programs, or by its limit.
    return World(
        order, told, seed=draw(st.integers(0, 1000)), time_limit_ns=draw(st.integers(SECOND_NS, 90 * SECOND_NS))
    )


def instances(order: RunOrder) -> Iterable[tuple[tuple[int, str], Program]]:
    roles = tuple((each.role, each.count) for each in order.roles)
    for rank in range(sum(count for _, count in roles)):
        for program in order.programs:
            if program.role == role_of(roles, rank):
                yield (rank, program.name), program


def went_wrong(message: Message) -> bool:
    return isinstance(message, MemberFailed) or (isinstance(message, ProgramEnded) and not message.ok)


@settings(max_examples=200, deadline=None)
@given(worlds())
def test_order_is_kept_all_end_and_all_agree(world: World) -> None:
    world.run()
    all_programs = dict(instances(world.order))
    assert not world.running, "nothing is left"
    assert world.wrote == set(range(world.size)), "everybody wrote down what there was"
    for place, at_ns in world.started.items():
        for other, before in all_programs.items():
            if before.order < all_programs[place].order:
                ready_ns = ready_at(world, other, before)
                assert ready_ns is not None and ready_ns <= at_ns, f"{place} did not wait for {other}"
    problems = {end.problem for end in world.finished.values()}
    assert len(problems) == 1, "one outcome, the same for all"
    wrong = [rank for rank, end in world.finished.items() if not end.well]
    foreground = [place for place, program in all_programs.items() if not program.background]
    if problems == {""}:
        assert not wrong
        done = [(rank, said.program) for rank, said in world.board if isinstance(said, ProgramEnded) and said.ok]
        assert set(foreground or all_programs) <= set(done)
    else:
        first = next(rank for rank, message in world.board if went_wrong(message))
        assert wrong == [first], "exactly the one to blame ends badly"


def ready_at(world: World, place: tuple[int, str], program: Program) -> int | None:
    if program.ready is not None:
        return world.shown.get(place)
    return (world.started if program.background else world.ended).get(place)
