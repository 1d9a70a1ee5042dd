"""Pages and swap: what programs find when they ask for memory."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ergates.drivers.nodes.setting import Look, Setting, file_goal, one_file, switch_words
from ergates.drivers.nodes.tree import NodeTree, NotHereError
from ergates.experiment.node_forms import parse_switch
from ergates.experiment.node_plan import Goal

_THP = "sys/kernel/mm/transparent_hugepage"
_SIZES_KB = {"2M": 2048, "1G": 1048576}
BY_KERNEL = "auto"
"""A negative priority: the kernel gave it, and takes none from us."""
_HINT = (
    "memory is too scattered or too full: prepare soon after a boot, or reserve them on the kernel's command line"
    " (hugepagesz=1G hugepages=N); pages that programs hold go when those end"
)


def _hugepages(setting: str, size_kb: int) -> Look:
    def look(tree: NodeTree, where: str, value: str | None) -> Sequence[Goal]:
        if value is not None and not value.isdigit():
            raise ValueError(f"expected a number of pages, got {value!r}")
        if where and not re.fullmatch(r"node[0-9]+", where):
            raise ValueError(f"expected a NUMA node such as {setting}@node0, got {where!r}")
        name = f"hugepages/hugepages-{size_kb}kB/nr_hugepages"
        paths = tree.glob(f"sys/devices/system/node/{where or 'node[0-9]*'}/{name}")
        if not paths and not where:
            paths = tree.glob(f"sys/kernel/mm/{name}")
        if not paths:
            raise NotHereError(f"no huge pages of {size_kb} kB{f' on {where}' if where else ''} here")
        goals = []
        for index, path in enumerate(paths):
            share = None if value is None else str((int(value) + len(paths) - 1 - index) // len(paths))
            goal = file_goal(tree, setting, path, share, form="number", broad=not where, hint=_HINT)
            goals += [] if goal is None else [goal]
        return goals

    return look


def _choice(setting: str, path: str) -> Look:
    def look(tree: NodeTree, where: str, value: str | None) -> Sequence[Goal]:
        known = (tree.text(path) or "").replace("[", "").replace("]", "").split()
        if value is not None and known and value not in known:
            raise ValueError(f"expected one of {', '.join(known)}; got {value!r}")
        return one_file(setting, path, "this kernel has no transparent huge pages", form="choice")(tree, where, value)

    return look


def _swap(tree: NodeTree, where: str, value: str | None) -> Sequence[Goal]:
    if where:
        raise ValueError(f"swap is of the whole node: leave @{where} out")
    on = None if value is None else parse_switch(value)
    areas = swap_areas(tree)
    if on:
        if areas:
            return ()
        raise NotHereError("no swap area is on: swapon names none by itself; say swapon yourself")
    return [
        Goal(
            setting="swap",
            kind="swap",
            target=name,
            now=priority,
            want=None if on is None else "off",
            hint="not enough free memory to bring back what is swapped out",
        )
        for name, priority in reversed(areas.items())
    ]


def _swap_words(goals: Sequence[Goal]) -> str:
    return ", ".join(goal.target for goal in goals) or "off"


def swap_areas(tree: NodeTree) -> dict[str, str]:
    """Priority of each area that is on, by its path."""
    lines = (tree.text("proc/swaps") or "").splitlines()[1:]
    rows = [fields for fields in (line.split() for line in lines) if len(fields) == 5]
    return {_unescaped(row[0]): row[4] if row[4].isdigit() else BY_KERNEL for row in rows}


def _unescaped(name: str) -> str:
    """The kernel writes a space in a path as \\040."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), name)


SETTINGS = (
    *(
        Setting(
            name,
            "a number of pages, spread evenly over the NUMA nodes",
            f"{size} pages spare misses of the TLB, and DPDK and databases ask for them",
            _hugepages(name, _SIZES_KB[size]),
            "a NUMA node such as node0",
            lambda goals: str(sum(int(goal.now) for goal in goals)),
        )
        for name, size in (("hugepages", "2M"), ("hugepages-1G", "1G"))
    ),
    Setting(
        "transparent-hugepages",
        "always, madvise or never",
        "the kernel merges pages behind a program's back: faster on average, with pauses in the tail",
        _choice("transparent-hugepages", f"{_THP}/enabled"),
    ),
    Setting(
        "thp-defrag",
        "always, defer, defer+madvise, madvise or never",
        "whether a program waits while the kernel makes room for a huge page",
        _choice("thp-defrag", f"{_THP}/defrag"),
    ),
    Setting(
        "numa-balancing",
        "on or off",
        "the kernel unmaps pages to see who uses them, and moves them: page faults at times of its own",
        one_file(
            "numa-balancing",
            "proc/sys/kernel/numa_balancing",
            "one NUMA node, or a kernel without it",
            form="number",
            words=lambda text: str(int(parse_switch(text))),
        ),
        words=switch_words("1", "0"),
    ),
    Setting("swap", "off", "a page that comes back from disk costs milliseconds", _swap, words=_swap_words),
)
