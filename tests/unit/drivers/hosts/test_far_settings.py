"""What `erg node` is asked on hosts that are other machines, and how its answer is read."""

from __future__ import annotations

import json

from ergates.drivers.hosts.far_settings import changes_in, prepare_words, refusal, restore_words, told_once

PUT_BACK = {"change": {"target": "a"}, "verdict": "as it was", "problem": ""}


def test_what_erg_is_asked() -> None:
    settings = (("governor", "performance"), ("sysctl@vm.swappiness", "10"))
    asked = ["node", "prepare", "--set=governor=performance", "--set=sysctl@vm.swappiness=10", "--yes", "--json"]
    assert prepare_words(settings, "") == [*asked, "--dry-run"]
    assert prepare_words(settings, "/base/node") == [*asked, "--state=/base/node"]
    assert restore_words("/base/node") == ["node", "restore", "--json", "--state=/base/node"]


def test_all_well() -> None:
    assert refusal(0, json.dumps({"ok": True, "forbidden": "", "outcomes": []}), "/proc/a: 1 -> 2\n") == ""
    assert refusal(0, json.dumps({"ok": True, "things": [PUT_BACK], "left": 0}), "") == ""


def test_whoever_is_not_root_there_gets_the_message_of_there() -> None:
    said = "not allowed to change:\n  /sys/a\n  hint: nothing was changed; run it as root"
    assert refusal(0, json.dumps({"ok": True, "forbidden": said}), "") == said


def test_what_a_host_lacks_is_its_message_without_what_came_before() -> None:
    err = "some login noise\nerg: cannot be set on this node:\n  governor=performance: no cpufreq here\n"
    assert refusal(2, "", err) == "cannot be set on this node:\n  governor=performance: no cpufreq here"


def test_what_did_not_take_is_named_and_what_is_optional_is_not() -> None:
    outcomes = [
        {"change": {"target": f"t{number}", "optional": optional}, "state": "refused", "problem": "busy"}
        for number, optional in enumerate((True, False, False, False, False))
    ]
    said = refusal(1, json.dumps({"ok": False, "outcomes": outcomes}), "")
    assert said == "t1: busy; t2: busy; t3: busy, and 1 more"


def test_what_is_not_as_it_was_is_named() -> None:
    gone = {"change": {"target": "b"}, "verdict": "gone", "problem": ""}
    foreign = {"change": {"target": "c"}, "verdict": "changed by others", "problem": "somebody else set it since"}
    said = refusal(1, json.dumps({"ok": False, "things": [PUT_BACK, gone, foreign], "left": 2}), "")
    assert said == "b: not there now; c: somebody else set it since"


def test_what_makes_no_sense_is_a_refusal() -> None:
    assert refusal(127, "", "sh: python: not found\n") == "sh: python: not found"
    assert refusal(0, "[]", "") == "erg node ended with exit code 0 and said nothing"
    assert refusal(0, json.dumps({"ok": True}), "") == ""
    assert refusal(137, json.dumps({"ok": True}), "") == "erg node ended with exit code 137 and said nothing"


def test_hosts_on_which_the_same_is_changed_are_told_once() -> None:
    lines = changes_in("left out: x: none\n/proc/a: 60 -> 10\n/proc/b: 1 → 2\n")
    assert lines == ("/proc/a: 60 -> 10", "/proc/b: 1 → 2")
    told = told_once("lab", {"n1": lines, "n2": lines[:1], "n3": lines, "n4": ()})
    assert told == [
        "hosts.lab: n1, n3: /proc/a: 60 -> 10",
        "hosts.lab: n1, n3: /proc/b: 1 → 2",
        "hosts.lab: n2: /proc/a: 60 -> 10",
    ]
    many = told_once("lab", {f"n{number}": ["/a -> b"] * 14 for number in range(5)})
    assert many[0] == "hosts.lab: n0, n1, n2 and 2 more: /a -> b"
    assert many[-1] == "hosts.lab: n0, n1, n2 and 2 more: and 2 more changes"
    assert len(many) == 13
