"""Which changes, in what order; and what is done about each when a node is put back."""

from __future__ import annotations

import pytest

from ergates.errors import UsageError
from ergates.experiment.node_plan import Change, Goal, Wish, chosen, parse_wish, plan, wish_of
from ergates.experiment.node_undo import Entry, merged, verdict


def goal(setting: str, target: str, now: str, want: str | None, *, broad: bool = True) -> Goal:
    return Goal(setting=setting, kind="file", target=target, now=now, want=want, broad=broad)


def wished(*goals: Goal, weak: bool = False) -> tuple[Wish, list[Goal]]:
    return Wish(name=goals[0].setting, value="x", weak=weak), list(goals)


def order(*goals: Goal) -> list[str]:
    return [change.target for change in plan([wished(each) for each in goals])]


def test_what_is_so_already_is_no_change() -> None:
    assert plan([wished(goal("aslr", "a", "0\n", "0"))]) == ()


def test_services_first_and_smt_last() -> None:
    targets = order(
        goal("smt", "smt", "on", "off"), goal("aslr", "aslr", "2", "0"), goal("services", "cron", "active", "inactive")
    )
    assert targets == ["cron", "aslr", "smt"]


@pytest.mark.parametrize(("new", "first"), [("performance", "epp"), ("powersave", "governor")])
def test_the_preference_is_written_while_it_may_be(new: str, first: str) -> None:
    assert order(goal("governor", "governor", "other", new), goal("energy-preference", "epp", "a", "b"))[0] == first


@pytest.mark.parametrize(
    ("low", "high", "first"), [("3000", "3600", "p/max"), ("1000", "1200", "p/min"), ("500", "600", "p/min")]
)
def test_limits_never_cross(low: str, high: str, first: str) -> None:
    """From 800 to 2000."""
    assert order(goal("frequency-min", "p/min", "800", low), goal("frequency-max", "p/max", "2000", high))[0] == first


def test_the_more_particular_goes_before() -> None:
    every, one = goal("hugepages", "node0", "0", "8"), goal("hugepages", "node0", "0", "5", broad=False)
    for wanted in ((wished(every), wished(one)), (wished(one), wished(every))):
        assert [change.new for change in plan(wanted)] == ["5"]


def test_a_person_goes_before_a_profile() -> None:
    said, profile = goal("turbo", "t", "2", "1"), goal("turbo", "t", "2", "0", broad=False)
    assert [change.new for change in plan([wished(profile, weak=True), wished(said)])] == ["1"]


def test_a_contradiction_is_named() -> None:
    with pytest.raises(UsageError, match="want different things of f"):
        plan([wished(goal("sysctl", "f", "2", "0")), wished(goal("aslr", "f", "2", "1"))])


def test_what_a_change_disturbs_is_remembered_first_and_only_then() -> None:
    guard = goal("turbo", "limit", "3000", None)
    changes = plan([wished(goal("turbo", "t", "0", "1"), guard), wished(goal("aslr", "a", "2", "0"))])
    assert [(change.target, change.new) for change in changes] == [("limit", None), ("a", "0"), ("t", "1")]
    assert plan([wished(goal("turbo", "t", "1", "1"), guard)]) == ()


def test_wishes() -> None:
    assert parse_wish("sysctl@a.b=c=d") == Wish(name="sysctl", where="a.b", value="c=d")
    assert str(wish_of("hugepages@node1", " 5 ")) == "hugepages@node1=5"
    for text in ("governor", "governor=", "=x", "hugepages@=5"):
        with pytest.raises(UsageError, match="NAME=VALUE"):
            parse_wish(text)


def test_what_a_person_names_leaves_the_profile() -> None:
    profile = (Wish(name="turbo", value="off", weak=True), Wish(name="swap", value="off", weak=True))
    assert [str(wish) for wish in chosen(profile, [wish_of("turbo", "on")])] == ["swap=off", "turbo=on"]
    with pytest.raises(UsageError, match="which of the two"):
        chosen((), [wish_of("turbo", "on"), wish_of("turbo", "off")])


def entry(became: str | None) -> Entry:
    return Entry(
        change=Change(setting="aslr", kind="file", target="f", old="2\n", new="0\n"), wrote=("0\n",), became=became
    )


@pytest.mark.parametrize(
    ("became", "now", "force", "what"),
    [
        ("0\n", "0\n", False, "put back"),
        ("0\n", "2\n", False, "as it was"),
        ("0\n", "1\n", False, "changed by others"),
        ("0\n", "1\n", True, "put back"),
        (None, "1\n", False, "put back"),  # we were killed: it may be ours
        ("1\n", "1\n", False, "put back"),  # it took another value than we wrote
        ("0\n", None, False, "gone"),
    ],
)
def test_what_becomes_of_it(became: str | None, now: str | None, force: bool, what: str) -> None:
    assert verdict(entry(became), now, force=force) == what


def test_the_first_old_value_counts() -> None:
    entries: dict[tuple[str, str], Entry] = {}
    for old, new in (("2", "0"), ("0", "1")):
        merged(entries, Change(setting="aslr", kind="file", target="f", old=old, new=new))
    [only] = entries.values()
    assert (only.change.old, only.wrote, only.became) == ("2", ("0", "1"), None)
