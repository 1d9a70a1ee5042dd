"""Other values and parts of an experiment, said on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from ergates.errors import InputError
from ergates.experiment.plan import plan_runs
from ergates.experiment.reading.overrides import changed
from ergates.experiment.reading.read_experiment import parse_experiment

EXPERIMENT = parse_experiment(
    """
    program = "p {policy} {load} {warm} {word} {port}"
    [hosts]
    lab = { kind = "namespaces", count = 3 }
    [roles]
    r = { count = "{hosts_used}" }
    [sweep]
    policy = ["fcfs", "darc", "2"]
    load = [0.1, 0.5, 1]
    warm = [true, false]
    hosts_used = [1, 2]
    [[exclude]]
    policy = "darc"
    load = 0.1
    [fixed]
    port = 9000
    word = "a"
    """,
    "e.toml",
    Path("/"),
)


def values(name: str, *sets: str, only: tuple[str, ...] = ()) -> tuple[object, ...]:
    experiment = changed(EXPERIMENT, sets=sets, only=only)
    return {axis.name: axis.values for axis in experiment.sweep}[name]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("load=0.3,7", (0.3, 7)),
        ("load= 0.3 , 7 ", (0.3, 7)),
        ("load=1e-3", (0.001,)),
        ("load={ from = 1, to = 8, factor = 2 }", (1, 2, 4, 8)),
        ('load=[1, "two, three"]', (1, "two, three")),
        ("policy=lru,7,true", ("lru", "7", "true")),  # the axis has texts only
        ("policy=a=b", ("a=b",)),
        ("warm=false", (False,)),
    ],
)
def test_other_values_are_of_the_kind_the_axis_has(text: str, found: tuple[object, ...]) -> None:
    got = values(text.partition("=")[0], text)
    assert got == found
    assert list(map(type, got)) == list(map(type, found))


def test_constants_have_another_value() -> None:
    assert changed(EXPERIMENT, sets=["port=80", "word=1"]).fixed == (("port", 80), ("word", "1"))


def test_only_some_values_in_the_order_of_the_file() -> None:
    assert values("load", only=("load=1.0,0.1",)) == (0.1, 1)
    assert values("load", only=("load=1", "load=0.5")) == (0.5, 1), "said twice, both stay"
    assert values("warm", only=("warm=false",)) == (False,)
    assert values("policy", only=("load=1",)) == ("fcfs", "darc", "2")


def test_parts_are_taken_of_the_other_values() -> None:
    assert values("load", "load=3,4", only=("load=4",)) == (4,)


def test_a_part_has_the_seeds_of_the_whole() -> None:
    part = plan_runs(changed(EXPERIMENT, only=["policy=darc", "load=0.5"], repetitions=2))
    whole = {(run.point, run.repetition): run.seed for run in plan_runs(changed(EXPERIMENT, repetitions=3))}
    assert len(part) == 1 * 1 * 2 * 2 * 2
    assert {(run.point, run.repetition): run.seed for run in part}.items() <= whole.items()


def test_nothing_said_changes_nothing() -> None:
    assert changed(EXPERIMENT) == EXPERIMENT


@pytest.mark.parametrize(
    ("sets", "only", "says", "hint"),
    [
        (["laod=1"], [], "no axis and no constant 'laod'", "did you mean load?"),
        ([], ["prot=1"], "no axis 'prot'", "known are policy"),
        ([], ["port=1"], "no axis 'port'", ""),
        ([], ["policy=drac"], "policy has no value drac", "did you mean darc?"),
        ([], ["warm=1"], "warm has no value 1", ""),
        (["load"], [], "no values", "NAME=VALUE"),
        (["load="], [], "no values", "NAME=VALUE"),
        (["=1"], [], "no values", "NAME=VALUE"),
        (["load=1,1.0"], [], "has 1.0 twice", ""),
        (["load=[1,"], [], "not TOML", ""),
        (["load=[]"], [], "has no value, so there would be no run", ""),
        (["load=nan"], [], "is nan", ""),
        (["port=1,2"], [], "has one value", ""),
        ([], ["policy=darc", "load=0.1"], "every point is excluded", ""),
        (["hosts_used=4"], [], "4 hosts needed, [hosts.lab] has 3", ""),
    ],
)
def test_what_cannot_be(sets: list[str], only: list[str], says: str, hint: str) -> None:
    with pytest.raises(InputError) as caught:
        changed(EXPERIMENT, sets=sets, only=only)
    assert says in caught.value.message
    assert hint in caught.value.hint + caught.value.expected
    assert caught.value.source == " ".join(
        [*(f"--set {each}" for each in sets), *(f"--only {each}" for each in only)][-2:]
    )
