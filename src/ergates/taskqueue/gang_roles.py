"""Which roles of a gang a worker can take, and whether workers can fill all of them at once.

A role may ask for labels of its own, so not every worker can take every seat. Seats are not given to roles as they are taken:
a *seating* only keeps sure that those who sit can be dealt out, each to a role it can take. So whoever came first never stands
in the way of another who fits one role only, and a seating that can be filled at all can be filled from wherever it is. Roles
are dealt out when the gang starts.

A worker says what it cannot take among the classes that it cannot serve: the roles of a class have the numbers behind the class's
own. One that has not been asked yet counts as able to take any.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from typing import TypeVar

from ergates.cluster.task import Requirement
from ergates.errors import UsageError

Kind = tuple[int, ...]
"""Places of the roles a worker can take, ascending."""
T = TypeVar("T")


def seats_of(requirement: Requirement) -> tuple[int, ...]:
    """How many seats each role has. Where no role asks for labels all seats are alike, and count as one role."""
    return tuple(count for _, count in requirement.roles) if requirement.role_labels else (requirement.nodes,)


def check_roles(requirement: Requirement) -> None:
    """Refuse roles that could never be filled, whoever comes: for those who make requirements themselves.

    Raises:
        UsageError: labels of a role that there is not, or roles that do not add up.
    """
    if not requirement.role_labels:
        return
    names, total = [role for role, _ in requirement.roles], sum(count for _, count in requirement.roles)
    unknown = next((role for role, _ in requirement.role_labels if role not in names), None)
    if unknown is not None:
        raise UsageError(
            f"a gang asks for labels of its role {unknown}\n  expected: one of its roles {', '.join(names)}"
        )
    if total != requirement.nodes:
        raise UsageError(f"a gang of {requirement.nodes} nodes has roles for {total}\n  expected: as many as nodes")


def role_number(class_id: int, place: int) -> int:
    """What stands for one role of a class among what a worker cannot serve."""
    return class_id + 1 + place


def numbers_taken(requirement: Requirement) -> int:
    """How many numbers its class takes, from its own on."""
    return 1 + (len(requirement.roles) if requirement.role_labels else 0)


def kind_of(requirement: Requirement, labels: Mapping[str, str]) -> Kind:
    """What a node with these labels can take."""
    if not requirement.role_labels:
        return (0,)
    needed = dict(requirement.role_labels)
    return tuple(
        place
        for place, (role, _) in enumerate(requirement.roles)
        if all(labels.get(name) == value for name, value in needed.get(role, ()))
    )


def kind_declared(requirement: Requirement, class_id: int, unfit: Container[int]) -> Kind:
    """What a worker can take that said this of itself."""
    if class_id in unfit:
        return ()
    if not requirement.role_labels:
        return (0,)
    return tuple(place for place in range(len(requirement.roles)) if role_number(class_id, place) not in unfit)


def role_words(requirement: Requirement, places: Iterable[int]) -> list[str]:
    """Roles with the labels they ask for: `server (group=big, rack=a)`."""
    needed = dict(requirement.role_labels)
    words = []
    for place in places:
        role = requirement.roles[place][0]
        labels = ", ".join(f"{name}={value}" for name, value in needed.get(role, ()))
        words.append(f"{role} ({labels})" if labels else role)
    return words


class Seating:
    """Who sits, by kind, and how they could be dealt out.

    Args:
        seats: of each role.
    """

    def __init__(self, seats: Sequence[int]) -> None:
        self.left = list(seats)
        """Seats of each role that nobody has, as those who sit are dealt out now."""
        self._given: list[dict[Kind, int]] = [{} for _ in seats]

    @property
    def full(self) -> bool:
        return not any(self.left)

    def add(self, kind: Kind) -> bool:
        """Let one more sit down. False, and nothing changed: there is no seat for it, however the others are dealt out."""
        return self._place(kind, set())

    def could_sit(self, kind: Kind) -> bool:
        """Whether `add` would find a seat."""
        return not self._open().isdisjoint(kind)

    def dealt(self, seated: Iterable[tuple[T, Kind]]) -> list[T]:
        """Those who sit, in the order of their ranks: by role, within a role as they are given here."""
        given = [dict(kinds) for kinds in self._given]
        found: list[list[T]] = [[] for _ in given]
        for who, kind in seated:
            place = next(place for place, kinds in enumerate(given) if kinds.get(kind))
            given[place][kind] -= 1
            found[place].append(who)
        return [who for role in found for who in role]

    def short(self) -> tuple[int, ...]:
        """Places of the roles that too few are there for; together, for those who could take one have another of them."""
        short = {place for place, left in enumerate(self.left) if left}
        grown = True
        while grown:
            grown = False
            for place, kinds in enumerate(self._given):
                if place not in short and any(count and not short.isdisjoint(kind) for kind, count in kinds.items()):
                    short.add(place)
                    grown = True
        return tuple(sorted(short))

    def _open(self) -> set[int]:
        """Roles with a seat left, or with one that could be left: who has it could move on to such a role."""
        return set(self.short())

    def _place(self, kind: Kind, looked: set[int]) -> bool:
        """An augmenting path: a role that is full takes one more when one of those it has can be moved to another role."""
        for place in kind:
            if place in looked:
                continue
            looked.add(place)
            given = self._given[place]
            if self.left[place]:
                self.left[place] -= 1
            else:
                moved = next((other for other, count in given.items() if count and self._place(other, looked)), None)
                if moved is None:
                    continue
                given[moved] -= 1
            given[kind] = given.get(kind, 0) + 1
            return True
        return False
