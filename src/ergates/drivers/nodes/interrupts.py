"""Which cores serve interrupts. Some cannot be moved (one a core, or managed by the kernel): that is said, and no failure."""

from __future__ import annotations

from collections.abc import Sequence

from ergates.drivers.nodes.setting import Setting, file_goal
from ergates.drivers.nodes.tree import NodeTree, NotHereError
from ergates.experiment.node_forms import format_cpus, format_mask, meaning, parse_cpus
from ergates.experiment.node_plan import Goal

_DEFAULT = "proc/irq/default_smp_affinity"
_HINT = "the kernel or the card's driver keeps this interrupt where it is; give the card fewer queues (ethtool -L)"


def interrupt_goals(
    tree: NodeTree, setting: str, cpus: Sequence[int] | None, *, off: Sequence[int] | None = None
) -> list[Goal]:
    """Every interrupt, to be served by `cpus`. With `off` only those served there, and by what is left of their own."""
    goals = []
    for path in tree.glob("proc/irq/[0-9]*/smp_affinity_list"):
        text = tree.text(path)
        want = None if cpus is None else format_cpus(cpus)
        if text is None:
            continue
        if off is not None:
            now = set(parse_cpus(meaning(text, "cpulist"))) if _is_list(text) else set()
            if not now & set(off):
                continue
            want = format_cpus(now - set(off)) or want
        goal = file_goal(tree, setting, path, want, form="cpulist", optional=True, hint=_HINT)
        goals += [] if goal is None else [goal]
    return goals


def default_mask_goal(tree: NodeTree, setting: str, cpus: Sequence[int] | None) -> list[Goal]:
    """What interrupts that are set up later begin with."""
    want = None if cpus is None else format_mask(cpus)
    goal = file_goal(tree, setting, _DEFAULT, want, form="mask", optional=True)
    return [] if goal is None else [goal]


def _is_list(text: str) -> bool:
    try:
        parse_cpus(text)
    except ValueError:
        return False
    return True


def _affinity(tree: NodeTree, where: str, value: str | None) -> Sequence[Goal]:
    cpus = None if value is None else tree.chosen_cpus(value)
    if where:
        if not where.isdigit():
            raise ValueError(f"expected the number of an interrupt such as irq-affinity@24, got {where!r}")
        want = None if cpus is None else format_cpus(cpus)
        path = f"proc/irq/{where}/smp_affinity_list"
        goal = file_goal(tree, "irq-affinity", path, want, form="cpulist", broad=False, hint=_HINT)
        if goal is None:
            raise NotHereError(f"no interrupt {where}; /proc/interrupts lists them")
        return (goal,)
    goals = [*interrupt_goals(tree, "irq-affinity", cpus), *default_mask_goal(tree, "irq-affinity", cpus)]
    if not goals:
        raise NotHereError("no interrupts are shown here")
    return goals


SETTINGS = (
    Setting(
        "irq-affinity",
        "cores such as 0-1",
        "an interrupt takes the core it comes to from whatever runs there",
        _affinity,
        "the number of an interrupt",
    ),
)
