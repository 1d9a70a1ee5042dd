"""Cores and named resources of a node: who holds which, counted so that nothing is handed out twice.

Cores are counted in thousandths. Pinning chooses the cores with the least held on them, so whole-core tasks get cores
of their own as long as there are any; fractional ones share. Indexed resources (`gpus=0,1`) hand out lowest indices first.
"""

from __future__ import annotations

from dataclasses import dataclass

from ergates.cluster.node import NodeCapacity
from ergates.cluster.task import Requirement

UNLIMITED = 1 << 30
Indices = tuple[tuple[str, tuple[int, ...]], ...]


@dataclass(slots=True)
class Slot:
    """What one running attempt (or a queue of short ones) holds."""

    requirement: Requirement
    cpu_ids: tuple[int, ...] = ()
    indices: Indices = ()


class Slots:
    """The free cores and resources of one node.

    Args:
        capacity: what there is.
        pin: choose cores for each slot.
        most: slots at once (`-j`), None for no limit but the above.
    """

    def __init__(self, capacity: NodeCapacity, *, pin: bool = False, most: int | None = None) -> None:
        self.capacity = capacity
        self.slots_free = UNLIMITED if most is None else most
        self.cpus_milli_free: int = capacity.cpus_milli
        self._pin = pin and bool(capacity.cpu_ids)
        self._load_milli = dict.fromkeys(capacity.cpu_ids, 0)
        self._free_amount = {resource.name: resource.amount for resource in capacity.resources}
        self._free_indices = {
            resource.name: sorted(resource.indices) for resource in capacity.resources if resource.indices
        }

    def unfit(self, requirement: Requirement) -> str | None:
        """Why this could not run here even on an empty node, in words; None when it could."""
        if requirement.cpus_milli > self.capacity.cpus_milli:
            return f"needs {requirement.cpus_milli / 1000:g} cores; this node has {self.capacity.cpus_milli / 1000:g}"
        amounts = {resource.name: resource.amount for resource in self.capacity.resources}
        for name, amount in requirement.resources:
            if amount > amounts.get(name, 0):
                return f"needs {name}={amount}; this node has {amounts.get(name, 0)}"
        return None

    def free_count(self, requirement: Requirement, most: int) -> int:
        """How many more such slots could be taken now, `most` at most."""
        count = min(most, self.slots_free)
        if requirement.cpus_milli > 0:
            count = min(count, self.cpus_milli_free // requirement.cpus_milli)
        for name, amount in requirement.resources:
            if amount > 0:
                count = min(count, self._free_amount.get(name, 0) // amount)
        return max(0, count)

    def fits(self, requirement: Requirement) -> bool:
        """Whether one such slot is free now."""
        if requirement.cpus_milli > self.cpus_milli_free or self.slots_free <= 0:
            return False
        return not requirement.resources or all(
            amount <= self._free_amount.get(name, 0) for name, amount in requirement.resources
        )

    def take(self, requirement: Requirement) -> Slot:
        """Hold one slot. It must fit."""
        assert self.fits(requirement), f"{requirement} does not fit"
        self.slots_free -= 1
        self.cpus_milli_free -= requirement.cpus_milli
        cpu_ids = self._choose_cores(requirement.cpus_milli) if self._pin else ()
        indices = []
        for name, amount in requirement.resources:
            self._free_amount[name] -= amount
            if name in self._free_indices:
                free = self._free_indices[name]
                indices.append((name, tuple(free[:amount])))
                del free[:amount]
        return Slot(requirement, cpu_ids, tuple(indices))

    def release(self, slot: Slot) -> None:
        """Give back what `take` returned, once."""
        self.slots_free += 1
        self.cpus_milli_free += slot.requirement.cpus_milli
        for core in slot.cpu_ids:
            self._load_milli[core] -= slot.requirement.cpus_milli // len(slot.cpu_ids)
        for name, amount in slot.requirement.resources:
            self._free_amount[name] += amount
        for name, taken in slot.indices:
            self._free_indices[name] = sorted([*self._free_indices[name], *taken])

    def _choose_cores(self, cpus_milli: int) -> tuple[int, ...]:
        wanted = min(max(1, -(-cpus_milli // 1000)), len(self._load_milli))
        chosen = sorted(sorted(self._load_milli, key=lambda core: (self._load_milli[core], core))[:wanted])
        for core in chosen:
            self._load_milli[core] += cpus_milli // wanted
        return tuple(chosen)

    def check_invariants(self, held: list[Slot]) -> None:
        """`held` are all slots taken and not released. Raises AssertionError."""
        assert self.cpus_milli_free >= 0
        held_milli = sum(slot.requirement.cpus_milli for slot in held)
        assert held_milli + self.cpus_milli_free == self.capacity.cpus_milli
        for resource in self.capacity.resources:
            used = sum(dict(slot.requirement.resources).get(resource.name, 0) for slot in held)
            assert used + self._free_amount[resource.name] == resource.amount, resource.name
            if resource.indices:
                taken = [index for slot in held for name, got in slot.indices if name == resource.name for index in got]
                assert sorted(taken + self._free_indices[resource.name]) == sorted(resource.indices), resource.name
