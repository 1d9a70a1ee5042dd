"""Putting values into a shell line so that data never becomes code.

A value is quoted for the place it stands in: outside quotes, inside "..." or inside '...', also within `$( )`. Where the
shell's own rules are too tangled to be sure (a here-document, back quotes, arithmetic, a comment, `case` inside `$( )`),
only values of harmless characters are let in, and others are an error that says so. Values stay without quotes where
that changes nothing, so that commands look as a person would write them. What a template asks a program to evaluate
(`eval`, a nested `sh -c "..."`, an SQL text) is beyond any quoting.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from ergates.taskqueue.command import RESERVED_WORDS

Place = Literal["word", "double", "single", "restricted"]

_HARMLESS = re.compile(r"[A-Za-z0-9_@%+:,./-]+")
# Simple forms of what is skipped as a whole; placeholders (between NULs) may be inside.
_VARIABLE = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*\}")
_ARITHMETIC = re.compile(r"""\$\(\([^()'"`\\$]*\)\)""")
_BACK_QUOTED = re.compile(r"""`[^`'"\\]*`""")
_ENDS_IN_VARIABLE = re.compile(r"\$\w*\Z")
_MARK = re.compile(r"\0([0-9]+)\0")


@dataclass(frozen=True, slots=True)
class Hole:
    """Where one value goes. `bare`: a harmless value may stand there without quotes of its own."""

    place: Place
    bare: bool


class UnquotableError(ValueError):
    """The value has characters that cannot be made safe at this place."""


def holes_of(marked: str) -> dict[int, Hole]:
    """The place of every mark of a shell line. A mark is a number between two NULs.

    Walks over the line once with a stack of contexts. Where it meets something it does not fully understand, the rest
    of the line is `restricted`, which is always safe.
    """
    if re.search(r"\bcase\b", marked) and "$(" in marked:  # the `)` of a pattern looks like the end of `$(`
        return {int(match[1]): Hole("restricted", True) for match in _MARK.finditer(marked)}
    holes: dict[int, Hole] = {}
    stack: list[Place] = ["word"]
    at = 0
    while at < len(marked):
        place = stack[-1]
        mark = _MARK.match(marked, at)
        if mark is not None:
            holes[int(mark[1])] = _hole(marked, mark, place)
            at = mark.end()
            continue
        skipped = _simple_form(marked, at) if place in ("word", "double") else None
        if skipped is not None:
            holes.update({int(match[1]): Hole("restricted", True) for match in _MARK.finditer(marked, at, skipped)})
            at = skipped
            continue
        step = _step(marked, at, stack)
        if step == 0:
            holes.update({int(match[1]): Hole("restricted", True) for match in _MARK.finditer(marked, at)})
            break
        at += step
    return holes


def quoted(value: str, hole: Hole) -> str:
    """The value as it has to be written at this place.

    Raises:
        UnquotableError: the place takes harmless characters only.
    """
    if hole.place == "single":
        return value.replace("'", "'\\''")
    if hole.bare and _HARMLESS.fullmatch(value) and value not in RESERVED_WORDS:
        return value
    if hole.place == "restricted":
        raise UnquotableError(value)
    in_quotes = "'" + value.replace("'", "'\\''") + "'"
    # Inside "..." the quotes are closed and opened again around the value: nothing of it needs escaping then.
    return f'"{in_quotes}"' if hole.place == "double" else in_quotes


def _hole(marked: str, mark: re.Match[str], place: Place) -> Hole:
    before, after = marked[: mark.start()], marked[mark.end() : mark.end() + 1]
    if place == "single":
        return Hole("single", True)
    backslashes = len(before) - len(before.rstrip("\\"))
    if backslashes % 2:
        return Hole("restricted", True)
    if place == "double":
        return Hole("double", _ENDS_IN_VARIABLE.search(before) is None)
    # Outside quotes a neighbour could turn a bare value into something else: 2>file, $NAMEvalue, name=, name().
    bare = (not before or before[-1] in " \t\n/.,:-=(;|&") and (not after or after in " \t\n/.,:-;|&)")
    return Hole("word", bare)


def _simple_form(marked: str, at: int) -> int | None:
    """The end of a `${NAME}`, `$((...))` or back-quoted command that starts here, None when there is none."""
    for form in (_VARIABLE, _ARITHMETIC, _BACK_QUOTED):
        match = form.match(marked, at)
        if match is not None:
            return match.end()
    return None


def _step(marked: str, at: int, stack: list[Place]) -> int:
    """Move over one piece of shell code, changing the stack; 0 when the rest is not understood."""
    char, pair = marked[at], marked[at : at + 2]
    place = stack[-1]
    if place == "single":
        if char == "'":
            stack.pop()
        return 1
    if char == "\\":
        return 1 if marked[at + 1 : at + 2] == "\0" else 2
    if char == "`" or pair == "${" or marked.startswith(("$((", "$["), at):
        return 0
    if pair == "$(":
        stack.append("word")
        return 2
    if char == '"':
        if place == "double":
            stack.pop()
        else:
            stack.append("double")
        return 1
    return 1 if place == "double" else _step_in_word(marked, at, stack)


def _step_in_word(marked: str, at: int, stack: list[Place]) -> int:
    char, pair = marked[at], marked[at : at + 2]
    if pair in ("<<", "((", "$'", '$"') or (char == "#" and (at == 0 or marked[at - 1] in " \t\n;|&()")):
        return 0
    if char == "'":
        stack.append("single")
    elif char == "(":
        stack.append("word")
    elif char == ")" and len(stack) > 1:
        stack.pop()
    return 1
