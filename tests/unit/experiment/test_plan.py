"""Runs of an experiment: every point so often, once; seeds that stay; an order that is what it says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from ergates.experiment.plan import order_of, plan_runs, seed_of
from ergates.experiment.points import grid_size, points_of, role_seats
from ergates.experiment.run import RoleSeats, Run
from ergates.experiment.spec import Experiment, HostGroup, Role, Value


def sweeping(
    swept: Mapping[str, Sequence[Value]] | None = None, *, repetitions: int = 1, order: str = "listed", seed: int = 0
) -> Experiment:
    return msgspec.convert(
        {
            "name": "e",
            "repetitions": repetitions,
            "order": order,
            "seed": seed,
            "sweep": [{"name": name, "values": tuple(values)} for name, values in (swept or {}).items()],
        },
        Experiment,
    )


def shown(runs: tuple[Run, ...]) -> list[str]:
    return ["".join(str(value) for _, value in run.point) + f"r{run.repetition}" for run in runs]


def test_listed_is_point_by_point_and_the_first_axis_varies_slowest() -> None:
    runs = plan_runs(sweeping({"a": ["x", "y"], "b": [1, 2]}, repetitions=2))
    assert shown(runs) == ["x1r1", "x1r2", "x2r1", "x2r2", "y1r1", "y1r2", "y2r1", "y2r2"]
    assert [run.number for run in runs] == [1, 2, 3, 4, 5, 6, 7, 8]


def test_interleaved_makes_every_point_once_then_again() -> None:
    runs = plan_runs(sweeping({"a": ["x", "y"], "b": [1, 2]}, repetitions=2, order="interleaved"))
    assert shown(runs) == ["x1r1", "x2r1", "y1r1", "y2r1", "x1r2", "x2r2", "y1r2", "y2r2"]


def test_random_is_another_order_for_another_seed_and_the_same_for_the_same() -> None:
    listed = shown(plan_runs(sweeping({"a": range(10)}, repetitions=3)))
    orders = [
        shown(plan_runs(sweeping({"a": range(10)}, repetitions=3, order="random", seed=seed))) for seed in (1, 1, 2)
    ]
    assert orders[0] == orders[1] != orders[2] != listed
    assert all(sorted(each) == sorted(listed) for each in orders)


def test_the_random_order_is_that_of_every_machine() -> None:
    """Written down: a plan must not change with the version of Python or of ours."""
    assert shown(plan_runs(sweeping({"a": [1, 2, 3, 4, 5]}, order="random", seed=7))) == [
        "2r1",
        "3r1",
        "5r1",
        "1r1",
        "4r1",
    ]


def test_seeds_are_those_of_every_machine() -> None:
    assert seed_of("kv-tail", (("policy", "darc"), ("load", 0.5)), 2) == 1813172185
    assert seed_of("kv-tail", (("load", 0.5), ("policy", "darc")), 2) == 1813172185, "the order of axes says nothing"


def test_seeds_tell_apart_what_looks_alike() -> None:
    seeds = [
        seed_of(*each)
        for each in (
            ("e", (("a", 1),), 1), ("e", (("a", "1"),), 1), ("e", (("a", 1.0),), 1), ("e", (("a", True),), 1),
            ("e", (("a", 1),), 2), ("f", (("a", 1),), 1), ("e", (("b", 1),), 1), ("e", (), 1),
        )
    ]  # fmt: skip
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_excluded_points_are_left_out() -> None:
    experiment = replace(
        sweeping({"a": ["x", "y"], "b": [1, 2], "c": [True, False]}),
        exclude=((("a", "x"), ("b", 2)), (("c", False), ("b", 1))),
    )
    assert shown(plan_runs(experiment)) == ["x1Truer1", "y1Truer1", "y2Truer1", "y2Falser1"]
    assert grid_size(experiment) == 8


values = st.lists(
    st.one_of(st.integers(-5, 5), st.text(max_size=3), st.floats(0.5, 0.9)), min_size=1, max_size=4, unique=True
)
axes = st.dictionaries(st.sampled_from(["a", "b", "c"]), values.map(tuple), max_size=3)
orders = st.sampled_from(["listed", "interleaved", "random"])


@given(axes, st.integers(1, 3), orders, st.integers(0, 3))
def test_every_point_is_made_so_often_and_no_other(
    swept: dict[str, tuple[Value, ...]], repetitions: int, order: str, seed: int
) -> None:
    experiment = sweeping(swept, repetitions=repetitions, order=order, seed=seed)
    runs = plan_runs(experiment)
    assert [run.number for run in runs] == list(range(1, len(runs) + 1))
    counted = Counter((run.point, run.repetition) for run in runs)
    assert set(counted.values()) == {1}
    assert set(counted) == {(point, r) for point in points_of(experiment) for r in range(1, repetitions + 1)}


@given(axes, st.integers(1, 2), orders, st.integers(0, 2), st.data())
def test_what_is_added_later_changes_nothing_of_what_was(
    swept: dict[str, tuple[Value, ...]], repetitions: int, order: str, more: int, data: st.DataObject
) -> None:
    before = sweeping(swept, repetitions=repetitions, order=order)
    wider = {name: (*listed, "new") for name, listed in swept.items()}
    after = sweeping(wider, repetitions=repetitions + more, order=data.draw(orders), seed=1)
    past = plan_runs(before)
    runs = plan_runs(after, past)
    assert runs[: len(past)] == past
    seeds = {(run.point, run.repetition): run.seed for run in plan_runs(after)}
    assert {(run.point, run.repetition): run.seed for run in runs} == seeds
    assert [run.number for run in runs] == list(range(1, len(seeds) + 1))


def test_runs_no_longer_asked_for_keep_their_numbers() -> None:
    past = plan_runs(sweeping({"a": [1, 2, 3]}))
    runs = plan_runs(sweeping({"a": [2, 4]}), past)
    assert [(run.number, run.point[0][1]) for run in runs] == [(1, 1), (2, 2), (3, 3), (4, 4)]


def test_axes_in_another_order_are_the_same_runs() -> None:
    past = plan_runs(sweeping({"a": [1, 2], "b": [3]}))
    assert plan_runs(sweeping({"b": [3], "a": [1, 2]}), past) == past


def test_a_plan_read_back_is_the_same_plan() -> None:
    experiment = sweeping({"a": [1, 2.0, "3", True], "b": [0.1, "x"]}, order="random", repetitions=2)
    runs = plan_runs(experiment)
    back = msgspec.json.decode(msgspec.json.encode(runs), type=tuple[Run, ...])
    assert plan_runs(experiment, back) == back == runs


def test_roles_have_the_hosts_that_the_point_says() -> None:
    experiment = replace(
        sweeping({"clients": [1, 3]}),
        here="/exp",
        hosts=(HostGroup(name="lab", kind="namespaces", count=6),),
        roles=(
            Role(name="server", group="lab"), Role(name="client", group="lab", count="{clients}"),
            Role(name="watch", group="lab", count="{watchers}"),
        ),
        fixed=(("watchers", 2),),
    )  # fmt: skip
    run = plan_runs(experiment)[1]
    order = order_of(experiment, run, Path("/runs/2"))
    assert order.roles == (
        RoleSeats(role="server", group="lab", count=1),
        RoleSeats(role="client", group="lab", count=3),
        RoleSeats(role="watch", group="lab", count=2),
    )
    assert (order.experiment, order.run, order.here, order.folder) == ("e", run, "/exp", "/runs/2")


@pytest.mark.parametrize("count", [0, -1, 1.5, True, "two"])
def test_a_count_that_is_none(count: Value) -> None:
    experiment = replace(sweeping(), roles=(Role(name="r", group="g", count="{n}"),), fixed=(("n", count),))
    with pytest.raises(ValueError, match=f"role r would have {count} hosts"):
        role_seats(experiment, ())


@pytest.mark.parametrize(
    ("kind", "parallel", "idle"),
    [("namespaces", False, 2), ("simulated", False, 2), ("namespaces", True, 0), ("ssh", False, 0)],
)
def test_hosts_of_one_machine_that_a_run_leaves_over_are_kept_idle(kind: str, parallel: bool, idle: int) -> None:
    hosts = (msgspec.convert({"name": "lab", "kind": kind, "count": 5}, HostGroup),)
    roles = (Role(name="server", group="lab"), Role(name="client", group="lab", count="{clients}"))
    experiment = replace(sweeping({"clients": [2, 4]}), hosts=hosts, roles=roles, parallel=parallel)
    few, many = plan_runs(experiment)
    seats = order_of(experiment, few, "/f").roles
    expected = (RoleSeats(role="server", group="lab", count=1), RoleSeats(role="client", group="lab", count=2))
    assert seats == expected + ((RoleSeats(role="spare.lab", group="lab", count=idle),) if idle else ())
    assert sum(each.count for each in order_of(experiment, many, "/f").roles) == 5
