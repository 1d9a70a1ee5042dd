"""What `erg edit` makes of its options: the changes of one task, and how they look."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ergates.cli.edit_rules import change_lines, edit_rules
from ergates.cluster.task import Requirement, TaskSpec
from ergates.errors import UsageError
from ergates.taskqueue.store import Changes, edited
from ergates.units import GIB, Bytes, MilliCpus, Nanoseconds

SPEC = TaskSpec(
    command="sim --in /old/a | wc",
    priority=2,
    requirement=Requirement(cpus_milli=MilliCpus(2000), resources=(("gpus", 1), ("licences", 2))),
    time_limit_ns=Nanoseconds(60 * 10**9),
    labels={"size": "4", "who": "ann"},
)


def test_every_setting() -> None:
    settings = (
        "priority=-3", "cpus=0.5", "memory=8G", "time_limit=2h", "retries=4", "command=true", "label.size=",
        "label.new=x=y", "resource.gpus=0", "resource.disks=3",
    )  # fmt: skip
    after = edited(SPEC, edit_rules(settings, ()).of(SPEC, "j1/1"))
    assert after == TaskSpec(
        command="true",
        priority=-3,
        requirement=Requirement(
            cpus_milli=MilliCpus(500), memory_bytes=Bytes(8 * GIB), resources=(("disks", 3), ("licences", 2))
        ),
        time_limit_ns=Nanoseconds(7200 * 10**9),
        retries=4,
        labels={"who": "ann", "new": "x=y"},
    )


def test_what_is_so_already_is_no_change() -> None:
    rules = edit_rules(("priority=2", "cpus=2", "time_limit=60s", "label.size=4", "resource.gpus=1"), ("/new=/x",))
    assert rules.of(SPEC, "j1/1") == Changes()
    assert edit_rules(("time_limit=none",), ()).of(TaskSpec(command="x"), "j1/1") == Changes()


def test_a_time_limit_can_be_taken_away() -> None:
    assert edited(SPEC, edit_rules(("time_limit=none",), ()).of(SPEC, "j1/1")).time_limit_ns is None


def test_replacements_come_one_after_the_other_and_after_a_set_command() -> None:
    assert edit_rules((), ("/old=/new", "/new/a=b")).of(SPEC, "t").command == "sim --in b | wc"
    assert edit_rules(("command=echo x",), ("x=y",)).of(SPEC, "t").command == "echo y"
    words = TaskSpec(command=("sim", "--in", "a b", "--size", "4"))
    assert edit_rules((), ("a b=c",)).of(words, "t").command == ("sim", "--in", "c", "--size", "4")
    assert edit_rules((), ("--size 4=-v",)).of(words, "t").command == ("sim", "--in", "a b", "-v")


def test_a_python_call_has_no_command_to_change() -> None:
    call = TaskSpec(command="f(1)", kind="python")
    assert edit_rules((), ("1=2",)).of(call, "j1/1") == Changes()
    with pytest.raises(UsageError, match="j1/1 is a Python call"):
        edit_rules(("command=true",), ()).of(call, "j1/1")


def test_what_changes_is_shown_old_and_new() -> None:
    changes = edit_rules(("memory=8G", "label.size="), ("/old=/new",)).of(SPEC, "j1/7")
    assert change_lines("j1/7", SPEC, changes) == [
        "j1/7",
        "  command     sim --in /old/a | wc",
        "              → sim --in /new/a | wc",
        "  memory      0 B",
        "              → 8 GiB",
        "  labels      size=4 who=ann",
        "              → who=ann",
    ]


@given(st.lists(st.text(max_size=30), max_size=3), st.lists(st.text(max_size=30), max_size=3))
def test_any_text_is_read_or_refused_in_words(settings: list[str], replacements: list[str]) -> None:
    names = ("priority", "cpus", "memory", "time_limit", "retries", "command", "label.x", "resource.x")
    for before in ("", *(f"{name}=" for name in names)):
        try:
            edit_rules([before + text for text in settings], replacements).of(SPEC, "j1/1")
        except UsageError as error:
            assert str(error)
