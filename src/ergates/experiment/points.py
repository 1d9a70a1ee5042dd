"""Points of a sweep: one value for each axis, the excluded ones left out."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from itertools import product

from ergates.experiment.run import RoleSeats
from ergates.experiment.spec import Experiment, Value

Point = tuple[tuple[str, Value], ...]
ONE_MACHINE = frozenset({"simulated", "namespaces"})
"""Kinds of groups whose hosts are all this machine."""
SPARE = "spare"
"""Roles of hosts that are kept idle; no role of a file has a dot in its name."""


COUNT_TEMPLATE = re.compile(r"\{([^{}]+)\}")
"""How many hosts a role has, where an axis or a constant says it."""


def grid_size(experiment: Experiment) -> int:
    """Points with the excluded ones."""
    return math.prod(len(axis.values) for axis in experiment.sweep)


def points_of(experiment: Experiment) -> Iterator[Point]:
    """In the order of the file: the first axis varies slowest."""
    names = [axis.name for axis in experiment.sweep]
    for values in product(*(axis.values for axis in experiment.sweep)):
        point = tuple(zip(names, values, strict=True))
        if not any(set(excluded) <= set(point) for excluded in experiment.exclude):
            yield point


def role_seats(experiment: Experiment, point: Point) -> tuple[RoleSeats, ...]:
    """How many hosts each role has at this point.

    Raises:
        ValueError: a count that is no whole number of 1 or more; the message says which.
    """
    values = dict(experiment.fixed) | dict(point)
    return tuple(
        RoleSeats(role=role.name, group=role.group, count=_count(role.name, role.count, values))
        for role in experiment.roles
    )


def seats_with_spare(experiment: Experiment, point: Point) -> tuple[RoleSeats, ...]:
    """The same, and behind them hosts of this very machine that nobody needs: they are kept idle while the run is made.

    Two runs at a time on one machine would disturb each other. `parallel` in the file allows it.
    """
    seats = role_seats(experiment, point)
    if experiment.parallel:
        return seats
    spare = []
    for group in experiment.hosts:
        used = sum(each.count for each in seats if each.group == group.name)
        if (
            group.kind in ONE_MACHINE
            and any(role.group == group.name for role in experiment.roles)
            and used < group.count
        ):
            spare.append(RoleSeats(role=f"{SPARE}.{group.name}", group=group.name, count=group.count - used))
    return (*seats, *spare)


def count_name(count: str) -> str:
    """`clients` of `{clients}`."""
    match = COUNT_TEMPLATE.fullmatch(count)
    assert match is not None
    return match[1]


def _count(role: str, count: int | str, values: Mapping[str, Value]) -> int:
    number = values[count_name(count)] if isinstance(count, str) else count
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise ValueError(f"role {role} would have {number} hosts")
    return number
