"""Kernel modules: what `modprobe NAME` would insert is asked first, so that each is journaled and only those are removed."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ergates.drivers.nodes.setting import Setting
from ergates.drivers.nodes.tree import NodeTree, NotHereError
from ergates.experiment.node_plan import Goal

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_FILE = re.compile(r"^insmod\s+\S*?([A-Za-z0-9_-]+)\.ko\S*", re.MULTILINE)
LOADED, ABSENT = "loaded", "absent"


def module_state(tree: NodeTree, name: str) -> str:
    """Whether it is there, loaded or built in with parameters."""
    return LOADED if tree.exists(f"sys/module/{name.replace('-', '_')}") else ABSENT


def _modules(tree: NodeTree, where: str, value: str | None) -> Sequence[Goal]:
    if where:
        raise ValueError(f"modules are named by the value: modules={where}")
    if value is None:
        return tuple(_goal(tree, "msr", LOADED) for _ in "1" if not _missing(tree, "msr"))
    names = [name.strip() for name in value.split(",") if name.strip()]
    odd = [name for name in names if not _NAME.fullmatch(name)]
    if odd or not names:
        raise ValueError(f"expected names of modules such as msr,vfio-pci; got {value!r}")
    goals: dict[str, Goal] = {}
    for name in names:
        reason = _missing(tree, name)
        if reason:
            raise NotHereError(reason)
        for each in _inserted(tree, name):
            goals.setdefault(each, _goal(tree, each, LOADED))
    return tuple(goals.values())


def _goal(tree: NodeTree, name: str, want: str) -> Goal:
    return Goal(
        setting="modules",
        kind="module",
        target=name,
        now=module_state(tree, name),
        want=want,
        hint="the kernel's log (dmesg) says why; a locked-down kernel takes only signed modules",
    )


def _inserted(tree: NodeTree, name: str) -> tuple[str, ...]:
    """What it takes, dependencies first; the name alone where it is there already."""
    if module_state(tree, name) == LOADED or _built_in(tree, name):
        return ()
    _, text = tree.run(["modprobe", "--show-depends", "--", name])
    return tuple(found.replace("-", "_") for found in _FILE.findall(text))


def _built_in(tree: NodeTree, name: str) -> bool:
    """The two that have no folder of their own when they are part of the kernel, by the devices they make."""
    return {"msr": tree.exists("dev/cpu/0/msr"), "cpuid": tree.exists("dev/cpu/0/cpuid")}.get(name, False)


def _missing(tree: NodeTree, name: str) -> str:
    """Why it cannot be there; empty when it is or can be."""
    if module_state(tree, name) == LOADED or _built_in(tree, name):
        return ""
    if not tree.exists("proc/modules"):
        return f"this kernel takes no modules, and {name} is not built in"
    code, text = tree.run(["modprobe", "--show-depends", "--", name])
    return "" if code == 0 else f"{name}: {text.splitlines()[-1] if text else 'no such module for this kernel'}"


SETTINGS = (
    Setting(
        "modules",
        "names such as msr,vfio-pci",
        "msr lets programs read the processor's counters of energy and frequency; cards need their driver",
        _modules,
        words=lambda goals: ", ".join(f"{goal.target} {goal.now}" for goal in goals) or "msr is there",
    ),
)
