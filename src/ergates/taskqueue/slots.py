"""Cores and named resources of a node: who holds which, counted so that nothing is handed out twice.

Cores are counted in thousandths. Pinning chooses the cores with the least held on them, so whole-core tasks get cores
of their own as long as there are any; fractional ones share. Indexed resources (`gpus=0,1`) hand out lowest indices first.
Of a task that would do with several sets ("2 cores, or 1 core and 1 GPU") the first one that is free is held.
"""

from __future__ import annotations

from dataclasses import dataclass

from ergates.cluster.node import NodeCapacity
from ergates.cluster.task import Alternative, Requirement

UNLIMITED = 1 << 30
Indices = tuple[tuple[str, tuple[int, ...]], ...]
Choice = Requirement | Alternative
"""One set of cores and resources: what a task asked for first, or one of its alternatives."""


@dataclass(slots=True)
class Slot:
    """What one running attempt (or a queue of short ones) holds: of its `requirement`, this `choice`."""

    requirement: Requirement
    cpu_ids: tuple[int, ...]
    indices: Indices
    choice: Choice

    @property
    def alternative(self) -> Alternative | None:
        """What it holds instead of what was asked for first."""
        return self.choice if isinstance(self.choice, Alternative) else None


class Slots:
    """The free cores and resources of one node.

    Args:
        capacity: what there is.
        pin: choose cores for each slot.
        most: slots at once (`-j`), None for no limit but the above.
    """

    def __init__(self, capacity: NodeCapacity, *, pin: bool = False, most: int | None = None) -> None:
        self.capacity = capacity
        self._most = UNLIMITED if most is None else most
        self.slots_free = self._most
        self.cpus_milli_free: int = capacity.cpus_milli
        self._pin = pin and bool(capacity.cpu_ids)
        self._load_milli = dict.fromkeys(capacity.cpu_ids, 0)
        self._amount = {resource.name: resource.amount for resource in capacity.resources}
        self._free_amount = dict(self._amount)
        self._free_indices = {
            resource.name: sorted(resource.indices) for resource in capacity.resources if resource.indices
        }

    def limit(self, capacity: NodeCapacity, most: int | None = None) -> None:
        """Hand out so many cores and slots from now on; what is held beyond that is awaited. Resources stay.

        `most` None leaves the number of slots as it was.
        """
        self.cpus_milli_free += capacity.cpus_milli - self.capacity.cpus_milli
        self.capacity = capacity
        if most is not None:
            self.slots_free += most - self._most
            self._most = most

    def unfit(self, requirement: Requirement) -> str | None:
        """Why this could not run here even on an empty node, in words; None when it could."""
        if self._possible(requirement) or any(self._possible(one) for one in requirement.alternatives):
            return None
        if requirement.alternatives:
            choices = ", or ".join(choice_words(choice) for choice in choices_of(requirement))
            return f"needs {choices}; this node has {self._has(requirement)}"
        if requirement.cpus_milli > self.capacity.cpus_milli:
            return f"needs {requirement.cpus_milli / 1000:g} cores; this node has {self.capacity.cpus_milli / 1000:g}"
        name, amount = next(one for one in requirement.resources if one[1] > self._amount.get(one[0], 0))
        return f"needs {name}={amount}; this node has {self._amount.get(name, 0)}"

    def free_count(self, requirement: Requirement, most: int) -> int:
        """How many more such slots could be taken now, `most` at most."""
        most = min(most, self.slots_free)
        if not requirement.alternatives:
            return max(0, _count(requirement, self.cpus_milli_free, self._free_amount, most))
        cpus_milli, amounts, total = self.cpus_milli_free, dict(self._free_amount), 0
        for choice in choices_of(requirement):  # as `take` would choose, one after the other
            count = max(0, _count(choice, cpus_milli, amounts, most - total))
            total += count
            cpus_milli -= count * choice.cpus_milli
            for name, amount in choice.resources:
                amounts[name] = amounts.get(name, 0) - count * amount
        return max(0, total)

    def fits(self, requirement: Requirement) -> bool:
        """Whether one such slot is free now."""
        if self.slots_free <= 0:
            return False
        if self._free(requirement):
            return True
        return bool(requirement.alternatives) and any(self._free(choice) for choice in requirement.alternatives)

    def take(self, requirement: Requirement) -> Slot:
        """Hold one slot, of several choices the first that is free. It must fit."""
        assert self.fits(requirement), f"{requirement} does not fit"
        choice: Choice = requirement
        if requirement.alternatives:
            choice = next(one for one in choices_of(requirement) if self._free(one))
        self.slots_free -= 1
        self.cpus_milli_free -= choice.cpus_milli
        cpu_ids = self._choose_cores(choice.cpus_milli) if self._pin else ()
        indices = []
        for name, amount in choice.resources:
            self._free_amount[name] -= amount
            if name in self._free_indices:
                free = self._free_indices[name]
                indices.append((name, tuple(free[:amount])))
                del free[:amount]
        return Slot(requirement, cpu_ids, tuple(indices), choice)

    def release(self, slot: Slot) -> None:
        """Give back what `take` returned, once."""
        choice = slot.choice
        self.slots_free += 1
        self.cpus_milli_free += choice.cpus_milli
        for core in slot.cpu_ids:
            self._load_milli[core] -= choice.cpus_milli // len(slot.cpu_ids)
        for name, amount in choice.resources:
            self._free_amount[name] += amount
        for name, taken in slot.indices:
            self._free_indices[name] = sorted([*self._free_indices[name], *taken])

    def resources_held(self) -> tuple[tuple[str, int], ...]:
        """How much of each named resource is in use, sorted; without those nobody holds."""
        held = ((name, amount - self._free_amount[name]) for name, amount in sorted(self._amount.items()))
        return tuple((name, amount) for name, amount in held if amount)

    def _free(self, choice: Choice) -> bool:
        if choice.cpus_milli > self.cpus_milli_free:
            return False
        return not choice.resources or all(
            amount <= self._free_amount.get(name, 0) for name, amount in choice.resources
        )

    def _possible(self, choice: Choice) -> bool:
        if choice.cpus_milli > self.capacity.cpus_milli:
            return False
        return not choice.resources or all(amount <= self._amount.get(name, 0) for name, amount in choice.resources)

    def _has(self, requirement: Requirement) -> str:
        """What there is of everything some choice of it names."""
        names = sorted({name for choice in choices_of(requirement) for name, _ in choice.resources})
        amounts = tuple((name, self._amount.get(name, 0)) for name in names)
        return choice_words(Alternative(cpus_milli=self.capacity.cpus_milli, resources=amounts))

    def _choose_cores(self, cpus_milli: int) -> tuple[int, ...]:
        wanted = min(max(1, -(-cpus_milli // 1000)), len(self._load_milli))
        chosen = sorted(sorted(self._load_milli, key=lambda core: (self._load_milli[core], core))[:wanted])
        for core in chosen:
            self._load_milli[core] += cpus_milli // wanted
        return tuple(chosen)

    def check_invariants(self, held: list[Slot]) -> None:
        """`held` are all slots taken and not released. Raises AssertionError."""
        held_milli = sum(slot.choice.cpus_milli for slot in held)
        assert held_milli + self.cpus_milli_free == self.capacity.cpus_milli
        assert len(held) + self.slots_free == self._most
        for resource in self.capacity.resources:
            used = sum(dict(slot.choice.resources).get(resource.name, 0) for slot in held)
            assert 0 <= used <= resource.amount
            assert used + self._free_amount[resource.name] == resource.amount, resource.name
            if resource.indices:
                taken = [index for slot in held for name, got in slot.indices if name == resource.name for index in got]
                assert sorted(taken + self._free_indices[resource.name]) == sorted(resource.indices), resource.name


def choices_of(requirement: Requirement) -> tuple[Choice, ...]:
    """What was asked for first, then the alternatives, in order."""
    return (requirement, *requirement.alternatives)


def choice_words(choice: Choice) -> str:
    """`1 core and gpus=1`."""
    cores = choice.cpus_milli / 1000
    parts = [f"{cores:g} core" if cores == 1 else f"{cores:g} cores"]
    return " and ".join(parts + [f"{name}={amount}" for name, amount in choice.resources])


def _count(choice: Choice, cpus_milli: int, amounts: dict[str, int], most: int) -> int:
    """How many such sets are in this many cores and resources, `most` at most."""
    count = most
    if choice.cpus_milli > 0:
        count = min(count, cpus_milli // choice.cpus_milli)
    elif cpus_milli < 0:
        return 0
    for name, amount in choice.resources:
        if amount > 0:
            count = min(count, amounts.get(name, 0) // amount)
    return count
