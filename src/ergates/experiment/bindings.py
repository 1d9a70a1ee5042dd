"""What `{name}` stands for in the texts of an experiment.

Some names have their value when the runs are planned (axes, constants, the run's number), the others only when a run has its
hosts (`{server.address}`, `{folder}`). Which names there are is known from the file alone, so that a wrong one is found before
anything starts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches

from ergates.errors import InputError
from ergates.experiment.layout import shown_value
from ergates.experiment.run import RunOrder, Seated
from ergates.taskqueue.command import argv_of
from ergates.taskqueue.inputs.template import Template, TextTemplate, UnboundError

RUN_NAMES = ("run", "repetition", "seed")
"""Bound when the runs are planned, beside axes and constants."""
MEMBER_NAMES = ("here", "folder", "index", "rank", "host", "address")
"""Bound on each host: see run.Seated; `here` is the folder of the experiment's file there, `folder` the member's."""
ROLE_NAMES = ("address", "host", "addresses", "hosts", "count")
"""Bound for each role as `server.address`: the first two of its first host, the next two of all, separated by commas."""


def bound_names(variables: Iterable[str], roles: Iterable[str]) -> tuple[str, ...]:
    """Every name that templates may use.

    Args:
        variables: axes and constants.
        roles: names of roles.
    """
    of_roles = (f"{role}.{name}" for role in roles for name in ROLE_NAMES)
    return (*variables, *of_roles, *RUN_NAMES, *MEMBER_NAMES)


def check_command(text: str, names: Sequence[str]) -> None:
    """Whether all names of a command are bound.

    Raises:
        InputError: one is not; or the text cannot be a command.
    """
    filled_command(text, dict.fromkeys(names, "0"), 1)


def check_text(text: str, names: Sequence[str]) -> None:
    """The same for a text that is no command, such as a path.

    Raises:
        InputError: a name is not bound.
    """
    filled_text(text, dict.fromkeys(names, "0"), 1)


def values_of(order: RunOrder, seats: Sequence[Seated], me: Seated, *, here: str, folder: str) -> dict[str, str]:
    """The value of every name, on one host of a run.

    Args:
        order: of the run.
        seats: all members, in the order of their ranks.
        me: whose values.
        here: what `{here}` means on its host.
        folder: the member's, absolute.
    """
    values = planned_values(order)
    for role in order.roles:
        those = [seat for seat in seats if seat.role == role.role]
        values |= {
            f"{role.role}.address": those[0].address if those else "",
            f"{role.role}.host": those[0].host if those else "",
            f"{role.role}.addresses": ",".join(seat.address for seat in those),
            f"{role.role}.hosts": ",".join(seat.host for seat in those),
        }
    own = {"here": here, "folder": folder, "index": me.index, "rank": me.rank, "host": me.host, "address": me.address}
    return values | {name: str(value) for name, value in own.items()}


def planned_values(order: RunOrder) -> dict[str, str]:
    """The values that are known before a run has its hosts."""
    run = order.run
    values = {name: shown_value(value) for name, value in (*order.fixed, *run.point)}
    values |= {"run": str(run.number), "repetition": str(run.repetition), "seed": str(run.seed)}
    return values | {f"{role.role}.count": str(role.count) for role in order.roles}


def filled_command(text: str, values: Mapping[str, str], number: int) -> tuple[str, ...]:
    """The argument vector of a command: a line with shell syntax is given to the shell, its values quoted for their place.

    Args:
        text: a template.
        values: of every name that may be in it.
        number: of the run, for `{#}`.

    Raises:
        InputError: a name without value, a value that cannot be quoted where it stands, a line that is no command.
    """
    with_names = {name: column for column, name in enumerate(values)}
    try:
        if text.strip() == "{}":  # GNU parallel's form, of which templates think otherwise
            raise UnboundError("", expected="", hint="")
        command = Template(text, with_names, (), append=False).command(tuple(values.values()), number)
    except UnboundError as error:
        raise _unbound(error.name, values) from None
    return argv_of(command)


def filled_text(text: str, values: Mapping[str, str], number: int) -> str:
    """A text that is data, such as a path: values go in as they are.

    Raises:
        InputError: a name without value.
    """
    with_names = {name: column for column, name in enumerate(values)}
    try:
        return TextTemplate(text, with_names, ()).filled(tuple(values.values()), number)
    except UnboundError as error:
        raise _unbound(error.name, values) from None


def _unbound(name: str, values: Mapping[str, str]) -> InputError:
    close = get_close_matches(name, values, n=1, cutoff=0.5)
    known = f"bound are {', '.join(values)}; an axis of [sweep] or a line of [fixed] binds another"
    hint = f"did you mean {{{close[0]}}}?" if close else f"{known}."
    return InputError(
        f"nothing is bound to {{{name}}}",
        source="<template>",
        hint=f"{hint} For the braces themselves write {{{{{name}}}}}",
    )
