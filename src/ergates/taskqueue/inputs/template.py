"""Templates: one command line with placeholders, filled in once for each combination of values.

Placeholders are `{name}`, and GNU parallel's `{}` (the value; with several lists all of them), `{1}` `{2}` `{-1}` (one
of them), `{#}` (the task's number) with the endings `.` (without extension), `/` (base name), `//` (directory) and `/.`
(base name without extension): `{.}`, `{2/}`, `{file/.}`. A template without placeholder gets the values appended.

Other braces stay as they are (`awk '{print $1}'`, `{a,b}`, `${HOME}`); `{{name}}` is a literal `{name}`. A name that
is not bound is an error, so that a typing error never reaches a program. Names may have dots (`{server.address}`) where
names with dots are bound; elsewhere these are just braces.

Without shell syntax the values go straight into the argument vector, whatever they hold; with it they are quoted for
their place (`shell_quoting.py`).
"""

from __future__ import annotations

import os.path
import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from ergates.errors import InputError
from ergates.taskqueue.command import direct_words
from ergates.taskqueue.inputs.shell_quoting import Hole, UnquotableError, holes_of, quoted

Row = tuple[str, ...]
"""The values of one task, one for each column."""

SOURCE = "<template>"
_FORM = re.compile(r"(?P<which>#|-?[0-9]{1,6}|[^\W\d][\w-]*|)(?P<ending>//|/\.|/|\.|)")
_DOTTED = re.compile(r"[^\W\d][\w-]*(?:\.[^\W\d][\w-]*)+(?://|/\.|/|\.|)")
_INDEX = re.compile(r"-?[0-9]{1,6}")
_CANDIDATE = re.compile(r"\{([^{}\n]*)\}")
_EXTENSION = re.compile(r"\.[^/.]*\Z")
_MARK = re.compile(r"\0([0-9]+)\0")


class UnboundError(InputError):
    """A placeholder whose name has no value.

    Args:
        name: as it stands between the braces.
    """

    def __init__(self, name: str, *, expected: str, hint: str) -> None:
        self.name = name
        super().__init__(f"nothing is bound to {{{name}}}", source=SOURCE, expected=expected, hint=hint)


@dataclass(frozen=True, slots=True)
class Placeholder:
    """`columns`: which values of the row; empty for the task's number. `ending`: what is taken of each."""

    columns: tuple[int, ...]
    ending: str = ""

    def values(self, row: Row, number: int) -> list[str]:
        if not self.columns:
            return [str(number)]
        return [part_of(row[column], self.ending) for column in self.columns]


class Template:
    """A compiled template.

    Args:
        text: the command line as the user wrote it; None means that the values are the command.
        named: names of columns; repeated names are the caller's error.
        positional: columns that `{1}`, `{2}`, ... and `{}` mean, in order.
        append: a text without placeholder gets the values appended.

    Raises:
        UnboundError: a placeholder without value.
    """

    def __init__(
        self, text: str | None, named: dict[str, int], positional: Sequence[int], *, append: bool = True
    ) -> None:
        self._everything = tuple(positional)
        self._placeholders: list[Placeholder] = []
        # GNU parallel: `{}` alone is no template at all, the value is the whole command line.
        self.is_value = text is None or text.strip() == "{}"
        if self.is_value:
            self.used = frozenset(positional)
            return
        assert text is not None
        if "\0" in text:
            raise InputError("the template holds a NUL byte", source=SOURCE, expected="a command line")
        marked = _mark(text, named, self._everything, self._placeholders)
        if append and not self._placeholders and self._everything and not named:
            self._placeholders.append(Placeholder(self._everything))
            marked += " \0" + "0\0"
        self.used = frozenset(column for each in self._placeholders for column in each.columns)
        words = direct_words(marked)
        self._words = None if words is None else [_pieces(word) for word in words]
        self._line = _pieces(marked)
        self._holes: dict[int, Hole] = {} if words is not None else holes_of(marked)

    def command(self, row: Row, number: int) -> str | tuple[str, ...]:
        """The command of one task: an argument vector, or a line for the shell.

        Args:
            row: one value for each column.
            number: of the task, from 1.

        Raises:
            InputError: a value cannot be quoted safely at its place.
        """
        if self.is_value:
            return " ".join(row[column] for column in self._everything)
        if self._words is not None:
            return tuple(argument for word in self._words for argument in self._arguments(word, row, number))
        return "".join(piece if isinstance(piece, str) else self._quoted(piece, row, number) for piece in self._line)

    def _arguments(self, word: list[str | int], row: Row, number: int) -> list[str]:
        if len(word) == 1 and isinstance(word[0], int):
            return self._placeholders[word[0]].values(row, number)
        return [
            "".join(
                piece if isinstance(piece, str) else " ".join(self._placeholders[piece].values(row, number))
                for piece in word
            )
        ]

    def _quoted(self, index: int, row: Row, number: int) -> str:
        hole = self._holes[index]
        try:
            return " ".join(quoted(value, hole) for value in self._placeholders[index].values(row, number))
        except UnquotableError as error:
            raise InputError(
                f"the value {error.args[0]!r} cannot be quoted safely where its placeholder stands",
                source=SOURCE,
                expected="letters, digits and _ @ % + : , . / - there (after a backslash, <<, #, ` or inside ${ } and $(( )))",
                hint='assign it to a variable first: x={name}; ... "$x" ...',
            ) from None


class TextTemplate:
    """A compiled text that is data, such as a path: values go in as they are, nothing is appended.

    Raises:
        UnboundError: a placeholder without value.
    """

    def __init__(self, text: str, named: dict[str, int], positional: Sequence[int]) -> None:
        self._placeholders: list[Placeholder] = []
        self._pieces = _pieces(_mark(text, named, tuple(positional), self._placeholders))
        self.used = frozenset(column for each in self._placeholders for column in each.columns)

    def filled(self, row: Row, number: int) -> str:
        """The text of one task."""
        return "".join(
            piece if isinstance(piece, str) else " ".join(self._placeholders[piece].values(row, number))
            for piece in self._pieces
        )


def part_of(value: str, ending: str) -> str:
    """What a placeholder's ending takes of a value, as GNU parallel does (without any change of the file system)."""
    if ending == ".":
        return _EXTENSION.sub("", value)
    if ending == "/":
        return value.rpartition("/")[2]
    if ending == "/.":
        return _EXTENSION.sub("", value.rpartition("/")[2])
    if ending == "//":
        return os.path.dirname(value.rstrip("/")) or ("/" if value.startswith("/") else ".")
    return value


def has_positional(text: str) -> bool:
    """Whether a template has a placeholder for a value without a name (`{}`, `{1}`, `{.}`)."""
    forms = [_FORM.fullmatch(inner) for inner in _candidates(text)]
    return any(form is not None and (form["which"] == "" or _INDEX.fullmatch(form["which"])) for form in forms)


def _candidates(text: str) -> list[str]:
    """What stands in single braces that are neither escaped nor a shell variable's."""
    return [match[1] for match in _CANDIDATE.finditer(re.sub(r"\$\{|\{\{.*?\}\}", "", text))]


def _mark(text: str, named: dict[str, int], everything: tuple[int, ...], found: list[Placeholder]) -> str:
    """Replace placeholders by marks, `NUL index NUL`, and collect them; take escapes of braces away."""
    out: list[str] = []
    escaped = 0  # `{{` that wait for their `}}`
    at = 0
    while at < len(text):
        pair = text[at : at + 2]
        if pair == "${":
            out.append(pair)
            at += 2
        elif pair == "{{":
            out.append("{")
            escaped += 1
            at += 2
        elif pair == "}}" and escaped:
            out.append("}")
            escaped -= 1
            at += 2
        elif (match := _CANDIDATE.match(text, at)) and (placeholder := _read(match[1], named, everything)):
            out.append(f"\0{len(found)}\0")
            found.append(placeholder)
            at = match.end()
        else:
            out.append(text[at])
            at += 1
    return "".join(out)


def _read(inner: str, named: dict[str, int], everything: tuple[int, ...]) -> Placeholder | None:
    """The placeholder that `{inner}` is; None when these are just braces."""
    if inner in named:
        return Placeholder((named[inner],))
    if inner == "%":
        raise _unbound(inner, named, everything, "slots are not known before a task starts; {#} is the task's number")
    form = _FORM.fullmatch(inner)
    if form is None:
        base = next((ending for ending in ("//", "/.", "/", ".") if inner.endswith(ending)), None)
        known = None if base is None else named.get(inner.removesuffix(base))
        if known is None and _DOTTED.fullmatch(inner) and any("." in name for name in named):
            raise _unbound(inner, named, everything)
        return None if known is None or base is None else Placeholder((known,), base)
    which, ending = form["which"], form["ending"]
    if which == "#" and not ending:
        return Placeholder(())
    if which == "" and everything:
        return Placeholder(everything, ending)
    if which in named:
        return Placeholder((named[which],), ending)
    if _INDEX.fullmatch(which):
        index = int(which)
        if 1 <= abs(index) <= len(everything):
            return Placeholder((everything[index - 1 if index > 0 else index],), ending)
    raise _unbound(inner, named, everything)


def _unbound(inner: str, named: dict[str, int], everything: tuple[int, ...], hint: str = "") -> UnboundError:
    known = [*named, *(str(index + 1) for index in range(len(everything))), "#"]
    nearest = get_close_matches(inner, known, n=1)
    if not hint:
        hint = (
            f"did you mean {{{nearest[0]}}}?" if nearest else "bind it with -p NAME=VALUES, ::: VALUES or --params FILE"
        )
        hint += f"; for the braces themselves write {{{{{inner}}}}}"
    listed = ", ".join(f"{{{name}}}" for name in known[:12]) + (", ..." if len(known) > 12 else "")
    return UnboundError(inner, expected=f"one of {listed}", hint=hint)


def _pieces(marked: str) -> list[str | int]:
    """Literal text and indices of placeholders, in order."""
    parts = _MARK.split(marked)
    return [int(part) if index % 2 else part for index, part in enumerate(parts) if index % 2 or part]
