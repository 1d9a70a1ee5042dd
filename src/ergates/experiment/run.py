"""A run: one point of the sweep, once. And what a host is told of it."""

from __future__ import annotations

from msgspec import Struct

from ergates.experiment.spec import Program, Value
from ergates.units import Nanoseconds


class Run(Struct, frozen=True, kw_only=True):
    """Args:
    number: from 1, in the order in which runs are to be made; its task in the queue has this number.
    point: (axis, value) in the order of the axes.
    repetition: from 1.
    seed: for programs that draw numbers: the same for a point and repetition in every plan of the same file.
    """

    number: int
    point: tuple[tuple[str, Value], ...]
    repetition: int
    seed: int


class RoleSeats(Struct, frozen=True, kw_only=True):
    """How many hosts of a group have this role in one run."""

    role: str
    group: str
    count: int


class RunOrder(Struct, frozen=True, kw_only=True):
    """What every member of the run's gang is given.

    Args:
        experiment: its name.
        run: which.
        roles: in the order of the ranks.
        programs: of all roles, so that each member knows what the others wait for.
        fixed: constants for templates.
        here: of hosts that share our file system; a member on another host has its own.
        folder: where this run's attempts lie, absolute where hosts share our file system.
        settle_ns: see Experiment.
    """

    experiment: str
    run: Run
    roles: tuple[RoleSeats, ...]
    programs: tuple[Program, ...]
    fixed: tuple[tuple[str, Value], ...] = ()
    here: str = ""
    folder: str = ""
    settle_ns: Nanoseconds = Nanoseconds(0)


class Seated(Struct, frozen=True, kw_only=True):
    """A member as the others see it.

    Args:
        rank: in the gang.
        role: its role.
        index: its number among those of its role, from 0.
        host: name of the host in the experiment.
        address: under which the others reach it.
    """

    rank: int
    role: str
    index: int
    host: str
    address: str
