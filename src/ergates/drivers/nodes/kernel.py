"""What the kernel does besides: watchdogs, random addresses, who may count events, the clock it reads, any other sysctl."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ergates.drivers.nodes.setting import Setting, file_goal, one_file
from ergates.drivers.nodes.tree import NodeTree, NotHereError
from ergates.experiment.node_forms import parse_switch
from ergates.experiment.node_plan import Goal

_KERNEL = "proc/sys/kernel"
_CLOCKSOURCE = "sys/devices/system/clocksource/clocksource0"
_SYSCTL = re.compile(r"[A-Za-z0-9_-]+(?:[./][A-Za-z0-9_:@-]+)+")


def _watchdogs(tree: NodeTree, where: str, value: str | None) -> Sequence[Goal]:
    """Both kinds one by one: `kernel.watchdog` is only their sum, and would not say which of them was on."""
    if where:
        raise ValueError(f"watchdogs are of the whole node: leave @{where} out")
    want = None if value is None else str(int(parse_switch(value)))
    single = ("nmi_watchdog", "soft_watchdog")
    names = single if tree.exists(f"{_KERNEL}/soft_watchdog") else ("watchdog",)
    goals = []
    for name in names:
        # A virtual machine has no counter for the NMI watchdog: switched on, it stays off.
        optional = name == "nmi_watchdog"
        goal = file_goal(tree, "watchdogs", f"{_KERNEL}/{name}", want, form="number", optional=optional)
        goals += [] if goal is None else [goal]
    if not goals:
        raise NotHereError("this kernel has no watchdogs")
    return goals


def _aslr(text: str) -> str:
    if text.strip() in ("0", "1", "2"):
        return text.strip()
    return "2" if parse_switch(text) else "0"


def _number(text: str) -> str:
    if not re.fullmatch(r"-?[0-9]+", text.strip()):
        raise ValueError(f"expected a number, got {text!r}")
    return text.strip()


def _sysctl(tree: NodeTree, where: str, value: str | None) -> Sequence[Goal]:
    if not where:
        if value is None:
            return ()
        raise ValueError("say which: sysctl@kernel.sched_rt_runtime_us=-1")
    if not _SYSCTL.fullmatch(where):
        raise ValueError(f"expected the name of a sysctl such as kernel.timer_migration, got {where!r}")
    path = f"proc/sys/{where.replace('.', '/')}"
    if value is not None and "\n" in value:
        raise ValueError("the value of a sysctl is one line")
    goal = file_goal(tree, "sysctl", path, value, broad=False)
    if goal is None:
        raise NotHereError(f"no {tree.shown(path)} that can be read; `sysctl -a` lists them")
    return (goal,)


def _clocksource(tree: NodeTree, where: str, value: str | None) -> Sequence[Goal]:
    known = (tree.text(f"{_CLOCKSOURCE}/available_clocksource") or "").split()
    if value is not None and known and value not in known:
        raise ValueError(f"no clock {value!r}; there are {', '.join(known)}")
    path = f"{_CLOCKSOURCE}/current_clocksource"
    return one_file("clocksource", path, "the kernel does not tell its clock")(tree, where, value)


SETTINGS = (
    Setting(
        "watchdogs",
        "on or off",
        "they wake every core and hold one of the few hardware counters",
        _watchdogs,
        words=lambda goals: "on" if any(goal.now.strip() == "1" for goal in goals) else "off",
    ),
    Setting(
        "aslr",
        "on, off, or 0 to 2",
        "addresses that change from run to run change which cache lines collide: some per cent between equal runs",
        one_file("aslr", f"{_KERNEL}/randomize_va_space", "not in this kernel", form="number", words=_aslr),
    ),
    Setting(
        "perf-paranoid",
        "-1 to 4",
        "above 0 programs without root cannot count what the whole node does; above 2 nothing at all",
        one_file("perf-paranoid", f"{_KERNEL}/perf_event_paranoid", "no perf events", form="number", words=_number),
    ),
    Setting(
        "clocksource",
        "tsc, ...",
        "reading any clock but the TSC is a call into the kernel or the hypervisor: a microsecond each time",
        _clocksource,
    ),
    Setting(
        "sysctl",
        "whatever that file takes",
        "any other switch of the kernel",
        _sysctl,
        "its name, such as kernel.timer_migration",
    ),
)
