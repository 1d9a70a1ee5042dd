"""Placeholders outside the command: in the paths a task brings along or leaves behind, and in the commands of a gang's roles.

`--input 'traces/{name}.gz'` is filled in with the same values as the command. In files of tasks there are no values, only the
number of the task, `{#}`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from ergates.cluster.task import TaskSpec
from ergates.errors import InputError
from ergates.taskqueue.data_paths import checked_input, checked_output
from ergates.taskqueue.inputs.lines import Problems
from ergates.taskqueue.inputs.template import SOURCE, Row, Template, TextTemplate

RoleCommands = tuple[tuple[str, str | tuple[str, ...]], ...]


@dataclass(frozen=True, slots=True)
class Fillings:
    """The templates of one prototype's texts."""

    inputs: tuple[TextTemplate, ...]
    outputs: tuple[TextTemplate, ...]
    roles: tuple[tuple[str, Template | tuple[str, ...]], ...]

    @property
    def used(self) -> frozenset[int]:
        """Columns that some text names."""
        used = [text.used for text in (*self.inputs, *self.outputs)]
        used += [command.used for _, command in self.roles if isinstance(command, Template)]
        return frozenset[int]().union(*used)

    def fill(self, spec: TaskSpec, row: Row, number: int) -> TaskSpec:
        """The task with the values of its row.

        Raises:
            InputError: a value cannot be quoted safely, or leads a path out of where it belongs.
        """
        roles: RoleCommands = tuple(
            (name, command.command(row, number) if isinstance(command, Template) else command)
            for name, command in self.roles
        )
        return replace(
            spec,
            inputs=tuple(_checked(checked_input, each.filled(row, number), number) for each in self.inputs),
            outputs=tuple(_checked(checked_output, each.filled(row, number), number) for each in self.outputs),
            role_commands=roles,
        )


def _checked(check: Callable[[str], str], text: str, number: int) -> str:
    """The text as it is, if it may be a path here: a value may have brought `..` or a `/` along."""
    try:
        check(text)
    except ValueError as error:
        raise InputError(str(error), source=f"{SOURCE}, task {number}") from None
    return text


def fillings_of(spec: TaskSpec, named: dict[str, int], positional: Sequence[int]) -> Fillings | None:
    """What is to be filled in anew for every task; None when all its tasks can share the prototype's texts.

    Raises:
        InputError: a placeholder that is not bound.
    """
    texts = (*spec.inputs, *spec.outputs, *(each for _, each in spec.role_commands if isinstance(each, str)))
    if not any("{" in text for text in texts):
        return None
    return Fillings(
        inputs=tuple(TextTemplate(text, named, positional) for text in spec.inputs),
        outputs=tuple(TextTemplate(text, named, positional) for text in spec.outputs),
        roles=tuple(
            (name, Template(command, named, positional, append=False) if isinstance(command, str) else command)
            for name, command in spec.role_commands
        ),
    )


def numbered(tasks: Iterable[TaskSpec], source: str, problems: Problems) -> Iterator[TaskSpec]:
    """Tasks of a file with their own number put in."""
    number = 1
    known: tuple[object, Fillings | None] = (None, None)
    for spec in tasks:
        if not (spec.inputs or spec.outputs or spec.role_commands):
            number += 1
            yield spec
            continue
        texts = (spec.inputs, spec.outputs, spec.role_commands)
        try:
            if known[0] != texts:
                known = texts, fillings_of(spec, {}, ())
            filled = spec if known[1] is None else known[1].fill(spec, (), number)
        except InputError as error:
            place = f"{source}, task {number}"
            problems.meet(InputError(error.message, source=place, expected=error.expected, hint=error.hint))
            continue
        number += 1
        yield filled
