"""What a node lacks for a task, in words, and which resource classes it can never serve.

A node has what its worker declared (cores, memory, resources, labels), files that are there or not, and an end of its life. The
files are looked at by the shell, when the policy asks it to (`CheckPaths`): until the answer comes, a task that needs one is
neither taken nor turned away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from ergates.cluster.node import NodeCapacity
from ergates.cluster.task import Requirement
from ergates.taskqueue.gang_roles import kind_of, role_number, role_words
from ergates.taskqueue.slots import Slots, choices_of
from ergates.taskqueue.store import Offer
from ergates.units import format_bytes, format_duration

CHECK_PATHS_EVERY_NS = 30_000_000_000
"""A file system that was mounted later, or went away, is noticed after so long."""
CLASSES_MAX = 1024
"""Unfit classes that are remembered, the newest: they travel with every exchange."""
GANGS_MAX = 64
"""Classes of gangs whose roles ask for labels that are remembered, the newest."""
ROLE = "role"
"""What a node lacks that carries the labels of no role."""


@dataclass(frozen=True, slots=True)
class Lack:
    """What is missing: `resource` groups tasks that wait for the same ("gpus", "memory", "label arch"); `words` say it all."""

    resource: str
    words: str


def lacks(
    requirement: Requirement,
    slots: Slots,
    *,
    missing_paths: Iterable[str] = (),
    left_ns: int | None = None,
    gangs: bool = True,
) -> list[Lack]:
    """Everything a node lacks for one task (for one member of a gang), even when nothing runs on it; empty when it fits.

    Args:
        requirement: of the task.
        slots: of the node; what is free does not count.
        missing_paths: of the paths it names, those that are known not to exist there.
        left_ns: until its worker ends; None when that is not known.
        gangs: whether several nodes can start one task together.
    """
    found = []
    capacity = slots.capacity
    if requirement.nodes > 1 and not gangs:
        words = f"needs {requirement.nodes} nodes at once; this worker starts tasks on one node only"
        found.append(Lack("nodes", words))
    if requirement.memory_bytes > capacity.memory_bytes:
        needed, there = format_bytes(requirement.memory_bytes), format_bytes(capacity.memory_bytes)
        found.append(Lack("memory", f"needs {needed} of memory; this node has {there}"))
    for name, value in requirement.labels:
        has = capacity.labels.get(name)
        if has != value:
            there = f"this node has no label {name}" if has is None else f"this node has {name}={has}"
            found.append(Lack(f"label {name}", f"needs the label {name}={value}; {there}"))
    if requirement.role_labels and not kind_of(requirement, capacity.labels):
        found.append(Lack(ROLE, f"needs the labels of one of its roles: {_all_roles(requirement, capacity.labels)}"))
    if requirement.paths:
        missing = frozenset(missing_paths)
        found += [
            Lack(f"path {path}", f"needs {path}, which is not on this node")
            for path in requirement.paths
            if path in missing
        ]
    if left_ns is not None and requirement.min_time_ns > left_ns:
        left, needed = format_duration(max(0, left_ns)), format_duration(requirement.min_time_ns)
        found.append(Lack("time", f"needs {needed}; this worker ends in {left}"))
    words_or_none = slots.unfit(requirement)
    if words_or_none is not None:
        found.append(Lack(scarce(requirement, capacity), words_or_none))
    return found


def _all_roles(requirement: Requirement, labels: Mapping[str, str]) -> str:
    roles = " or ".join(role_words(requirement, range(len(requirement.roles))))
    there = ", ".join(f"{name}={value}" for name, value in sorted(labels.items()))
    return f"{roles}; this node has {there or 'no label'}"


def scarce(requirement: Requirement, capacity: NodeCapacity) -> str:
    """Which of its cores and resources are more than the node has, of each choice the first: `cpus or gpus`."""
    amounts = {resource.name: resource.amount for resource in capacity.resources}
    names: list[str] = []
    for choice in choices_of(requirement):
        name = "cpus"
        if choice.cpus_milli <= capacity.cpus_milli:
            name = next((name for name, amount in choice.resources if amount > amounts.get(name, 0)), "")
        if name and name not in names:
            names.append(name)
    return " or ".join(names)


class PathsKnown:
    """Which paths the shell found, and when it last looked."""

    def __init__(self) -> None:
        self.missing: frozenset[str] = frozenset()
        self._checked_ns: dict[str, int] = {}

    def unknown(self, requirement: Requirement) -> bool:
        """Whether nobody has looked for one of its paths yet."""
        return any(path not in self._checked_ns for path in requirement.paths)

    def due(self, paths: Iterable[str], now_ns: int) -> tuple[str, ...]:
        """Of these, what should be looked for (again), sorted."""
        checked = self._checked_ns
        long_ago_ns = now_ns - CHECK_PATHS_EVERY_NS
        return tuple(sorted({path for path in paths if checked.get(path, long_ago_ns) <= long_ago_ns}))

    def checked(self, paths: Iterable[str], missing: Iterable[str], now_ns: int) -> None:
        """The shell looked for `paths`, and `missing` of them were not there."""
        looked = frozenset(paths)
        self._checked_ns.update(dict.fromkeys(looked, now_ns))
        self.missing = (self.missing - looked) | frozenset(missing)


class UnfitClasses:
    """Classes that were offered to this worker and that it cannot serve, and roles of gangs that it cannot take (gang_roles.py).
    The exchange is told, so that they hide nothing.

    They are judged anew whenever asked for: labels change, files appear, time passes.

    Args:
        unfit: why a requirement cannot be served at this moment, None when it can.
        labels: that the node carries at this moment.
    """

    def __init__(
        self, unfit: Callable[[Requirement, int], str | None], labels: Callable[[], Mapping[str, str]]
    ) -> None:
        self._unfit, self._labels = unfit, labels
        self._classes: dict[int, Requirement] = {}
        self._gangs: dict[int, Requirement] = {}

    def offered(self, offers: Iterable[Offer], now_ns: int) -> None:
        """Remember those of them that cannot be served."""
        for offer in offers:
            if offer.class_id not in self._classes and self._unfit(offer.requirement, now_ns) is not None:
                _remember(self._classes, offer, CLASSES_MAX)
            if offer.requirement.role_labels and offer.class_id not in self._gangs:
                _remember(self._gangs, offer, GANGS_MAX)

    def ids(self, now_ns: int) -> tuple[int, ...]:
        """Their ids now, and the numbers of the roles; what has become possible is forgotten."""
        fit = [number for number, needed in self._classes.items() if self._unfit(needed, now_ns) is None]
        for number in fit:
            del self._classes[number]
        return (*self._classes, *self._roles()) if self._gangs else tuple(self._classes)

    def paths(self) -> Iterable[str]:
        """What they need of the node's files: worth looking for again."""
        return (path for requirement in self._classes.values() for path in requirement.paths)

    def _roles(self) -> Iterable[int]:
        labels = self._labels()
        for class_id, requirement in self._gangs.items():
            kind = kind_of(requirement, labels)
            yield from (role_number(class_id, place) for place in range(len(requirement.roles)) if place not in kind)


def _remember(classes: dict[int, Requirement], offer: Offer, most: int) -> None:
    if len(classes) >= most:
        del classes[next(iter(classes))]
    classes[offer.class_id] = offer.requirement
