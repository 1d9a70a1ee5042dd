"""How fast cores run: governor, turbo, limits of frequency, and the processor's own preference between speed and energy."""

from __future__ import annotations

from collections.abc import Sequence

from ergates.drivers.nodes.setting import Setting, file_goal, said
from ergates.drivers.nodes.tree import NodeTree, NotHereError
from ergates.experiment.node_forms import Form, parse_cpus, parse_frequency_khz, parse_switch
from ergates.experiment.node_plan import Goal

_POLICIES = "sys/devices/system/cpu/cpufreq/policy*"
_NO_CPUFREQ = "no cpufreq: in a virtual machine the host decides; else load the driver, or look in the BIOS"
_NO_TURBO, _BOOST = "sys/devices/system/cpu/intel_pstate/no_turbo", "sys/devices/system/cpu/cpufreq/boost"


def _policies(tree: NodeTree, where: str) -> list[str]:
    """Folders of cores that change speed together; with `where` only those all of whose cores are named.

    Raises:
        NotHereError: none.
        ValueError: a named core shares its speed with one that is not named.
    """
    folders = tree.glob(_POLICIES)
    if not folders:
        raise NotHereError(_NO_CPUFREQ)
    cpus = tree.chosen_cpus(where)
    if cpus is None:
        return folders
    found = []
    for folder in folders:
        together = set(parse_cpus((tree.text(f"{folder}/affected_cpus") or "").replace(" ", ",")))
        if together & set(cpus):
            if together - set(cpus):
                raise ValueError(f"cores {sorted(together)} change speed together: name all of them or none")
            found.append(folder)
    return found


def _each_policy(
    tree: NodeTree, where: str, setting: str, file: str, want: str | None, form: Form, absent: str, hint: str = ""
) -> list[Goal]:
    folders = _policies(tree, where)
    goals = [
        file_goal(tree, setting, f"{folder}/{file}", want, form=form, broad=not where, hint=hint) for folder in folders
    ]
    there = [goal for goal in goals if goal is not None]
    if not there:
        raise NotHereError(absent)
    return there


def _governor(tree: NodeTree, where: str, value: str | None) -> Sequence[Goal]:
    for folder in _policies(tree, where):
        known = (tree.text(f"{folder}/scaling_available_governors") or "").split()
        if value is not None and known and value not in known:
            raise ValueError(f"no governor {value!r} in {tree.shown(folder)}; there are {', '.join(known)}")
    absent = "this driver has no governors"
    goals = _each_policy(tree, where, "governor", "scaling_governor", value, "plain", absent)
    if value is None:
        return goals
    # With the governor `performance` goes the preference of that name, set by the kernel.
    paths = (f"{folder}/energy_performance_preference" for folder in _policies(tree, where))
    moved = (file_goal(tree, "governor", path, None) for path in paths)
    return (*goals, *(goal for goal in moved if goal is not None))


def _preference(tree: NodeTree, where: str, value: str | None) -> Sequence[Goal]:
    file = "energy_performance_preference"
    for folder in _policies(tree, where):
        known = (tree.text(f"{folder}/energy_performance_available_preferences") or "").split()
        if value is not None and known and value not in known and not value.isdigit():
            raise ValueError(f"no preference {value!r}; there are {', '.join(known)}")
    absent = "this processor or its driver has no energy preference"
    hint = "with the governor `performance` the kernel allows no other preference"
    return _each_policy(tree, where, "energy-preference", file, value, "plain", absent, hint)


def _limit(file: str, setting: str) -> Setting:
    def look(tree: NodeTree, where: str, value: str | None) -> Sequence[Goal]:
        goals = []
        for folder in _policies(tree, where):
            low, high = (tree.text(f"{folder}/cpuinfo_{end}_freq") or "" for end in ("min", "max"))
            want = None if value is None else _khz(value, low, high, tree.text(f"{folder}/base_frequency") or "")
            goal = file_goal(tree, setting, f"{folder}/{file}", want, form="number", broad=not where)
            goals += [] if goal is None else [goal]
        if not goals:
            raise NotHereError("this driver has no limits of frequency")
        return goals

    return Setting(
        setting,
        "2.4GHz, 2400MHz, min, max, or base where the driver tells it",
        "a core whose frequency moves makes the same work take different times; equal limits pin it",
        look,
        "cores such as 2-5",
        _frequency_words,
    )


def _khz(value: str, low: str, high: str, base: str) -> str:
    named = {"min": low, "max": high, "base": base}
    if value in named:
        if not named[value]:
            raise ValueError(f"the driver does not tell the frequency {value!r}: say it in GHz")
        return named[value]
    khz = parse_frequency_khz(value)
    if low.isdigit() and high.isdigit() and not int(low) <= khz <= int(high):
        raise ValueError(
            f"{value} is outside of {int(low) / 1e6:g} to {int(high) / 1e6:g} GHz, which these cores can do"
        )
    return str(khz)


def _turbo(tree: NodeTree, where: str, value: str | None) -> Sequence[Goal]:
    if where:
        raise ValueError(f"turbo is of the whole node: leave @{where} out")
    on = None if value is None else parse_switch(value)
    for path, inverted in ((_NO_TURBO, True), (_BOOST, False)):
        want = None if on is None else str(int(on != inverted))
        hint = "turbo is locked: look in the BIOS"
        goal = file_goal(tree, "turbo", path, want, form="number", hint=hint)
        if goal is not None:
            # Where a kernel puts turbo back it also opens the upper limits of frequency again.
            limits = (
                file_goal(tree, "turbo", f"{folder}/scaling_max_freq", None, form="number")
                for folder in tree.glob(_POLICIES)
            )
            return (goal, *(limit for limit in limits if limit is not None and value is not None))
    raise NotHereError(_NO_CPUFREQ if not tree.glob(_POLICIES) else "this driver cannot switch turbo")


def _turbo_words(goals: Sequence[Goal]) -> str:
    on = "0" if goals[0].target == _NO_TURBO else "1"
    return "on" if goals[0].now.strip() == on else "off"


def _frequency_words(goals: Sequence[Goal]) -> str:
    texts = {goal.now.strip() for goal in goals}
    return f"{int(text) / 1e6:g} GHz" if len(texts) == 1 and (text := texts.pop()).isdigit() else f"{said(goals)} kHz"


SETTINGS = (
    Setting(
        "governor",
        "performance, powersave, schedutil, ... as the driver has them",
        "a governor that follows load starts every burst slowly: the first milliseconds measure the governor",
        _governor,
        "cores such as 2-5",
    ),
    Setting(
        "turbo",
        "on or off",
        "turbo depends on temperature and on what the other cores do: repetitions differ by several per cent",
        _turbo,
        words=_turbo_words,
    ),
    _limit("scaling_min_freq", "frequency-min"),
    _limit("scaling_max_freq", "frequency-max"),
    Setting(
        "energy-preference",
        "performance, balance_performance, balance_power, power, or 0 to 255",
        "the processor chooses its own speed by it, below the governor",
        _preference,
        "cores such as 2-5",
    ),
)
