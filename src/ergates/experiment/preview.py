"""What a run will do, shown before it has its hosts: the command lines of each member, with `<name>` for what only hosts know."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path

from msgspec import Struct

from ergates.experiment.bindings import MEMBER_NAMES, ROLE_NAMES, filled_command, planned_values
from ergates.experiment.layout import attempt_folder, member_folder_name
from ergates.experiment.plan import order_of
from ergates.experiment.run import Run, RunOrder
from ergates.experiment.spec import Experiment


class CommandLine(Struct, frozen=True, kw_only=True):
    """What some members of a role start alike.

    Args:
        hosts: how many of them.
        line: as it could be typed; `<server.address>` where the host is not known yet.
    """

    program: str
    role: str
    hosts: int
    order: int
    background: bool
    line: str


def command_lines(experiment: Experiment, run: Run, folder: Path) -> tuple[CommandLine, ...]:
    """Of all programs, in the order in which they start.

    Args:
        experiment: whose run it is.
        run: of its plan.
        folder: of the run; its first attempt is shown.
    """
    order = order_of(experiment, run, folder)
    sharing = {group.name for group in experiment.hosts if group.kind != "ssh"}
    found: dict[tuple[str, str], int] = {}
    by_name = {program.name: program for program in experiment.programs}
    for rank, role, index, group in _members(order):
        own = {"index": str(index), "rank": str(rank)}
        if group in sharing:
            own |= {"here": experiment.here, "folder": str(attempt_folder(folder, 1) / member_folder_name(rank, role))}
        for program in experiment.programs:
            if program.role == role:
                line = _line(program.command, order, planned_values(order) | own)
                found[program.name, line] = found.get((program.name, line), 0) + 1
    lines = [
        CommandLine(
            program=name,
            role=by_name[name].role,
            hosts=hosts,
            order=by_name[name].order,
            background=by_name[name].background,
            line=line,
        )
        for (name, line), hosts in found.items()
    ]
    return tuple(sorted(lines, key=lambda each: each.order))


def _members(order: RunOrder) -> Iterator[tuple[int, str, int, str]]:
    """(rank, role, index among those of the role, group)."""
    rank = 0
    for seats in order.roles:
        for index in range(seats.count):
            yield rank, seats.role, index, seats.group
            rank += 1


def _line(command: str, order: RunOrder, known: Mapping[str, str]) -> str:
    unknown = [*MEMBER_NAMES, *(f"{seats.role}.{name}" for seats in order.roles for name in ROLE_NAMES)]
    # Words that need no quotes stand for them until everything else is quoted.
    stand_ins = {name: f"erg_unknown_{number}_" for number, name in enumerate(unknown) if name not in known}
    line = shlex.join(filled_command(command, {**known, **stand_ins}, order.run.number))
    for name, word in stand_ins.items():
        line = line.replace(word, f"<{name}>")
    return line
