"""Cuts a condition into words, and says with a caret where one of them is wrong. See where.py for the language."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from ergates.errors import InputError

LENGTH_MAX = 10_000
_SHOWN_AROUND = 50
"""A long condition is shown so many characters around what is wrong."""

Kind = Literal["word", "quoted", "operator", "mark", "keyword", "end"]
KEYWORDS = frozenset({"and", "or", "not"})
BARE = re.compile(r"[\w.\-+/:@%,*?\[\]{}$^|\\#&;]+")
"""What needs no quotes; `=`, `<`, `>`, `~`, `!`, brackets and blanks do."""
_OPERATOR = re.compile(r"==|!=|<=|>=|!~|<|>|~")
_BLANK = re.compile(r"\s+")


@dataclass(frozen=True, slots=True)
class Word:
    """`text` as it was written, from column `at` (from 0); `value` without quotes."""

    kind: Kind
    text: str
    at: int
    value: str = ""


def words_of(text: str, source: str) -> list[Word]:
    """The words of a condition, and one of kind `end` after them.

    Raises:
        InputError: a character that begins no word, a quote that is not closed, a condition that is too long.
    """
    if len(text) > LENGTH_MAX:
        raise InputError(f"a condition of {len(text):,} characters", source=source, expected=f"at most {LENGTH_MAX:,}")
    words: list[Word] = []
    at = 0
    while at < len(text):
        if blank := _BLANK.match(text, at):
            at = blank.end()
        elif text[at] in "\"'":
            words.append(_quoted(text, at, source))
            at += len(words[-1].text)
        elif text[at] in "()":
            words.append(Word("mark", text[at], at))
            at += 1
        elif sign := _OPERATOR.match(text, at):
            words.append(Word("operator", sign[0], at))
            at = sign.end()
        elif bare := BARE.match(text, at):
            words.append(Word("keyword" if bare[0] in KEYWORDS else "word", bare[0], at, bare[0]))
            at = bare.end()
        else:
            hint = "== compares" if text[at] == "=" else "text with such characters goes in quotes"
            raise problem(text, source, at, f"{text[at]!r} means nothing here", hint=hint)
    return [*words, Word("end", "the end", len(text))]


def quoted(value: str) -> str:
    """The value in quotes, as `words_of` reads it."""
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def problem(text: str, source: str, at: int, message: str, *, expected: str = "", hint: str = "") -> InputError:
    """An error that shows the condition with a caret under column `at`."""
    line = "".join(character if character.isprintable() else " " for character in text)
    start = max(0, at - _SHOWN_AROUND) if len(line) > 2 * _SHOWN_AROUND else 0
    before = "…" if start else ""
    cut = line[start : at + _SHOWN_AROUND] if len(line) > 2 * _SHOWN_AROUND else line
    after = "…" if start + len(cut) < len(line) else ""
    caret = " " * (len(before) + at - start) + "^"
    return InputError(f"{message}\n    {before}{cut}{after}\n    {caret}", source=source, expected=expected, hint=hint)


def _quoted(text: str, start: int, source: str) -> Word:
    """A backslash takes the meaning of a quote or a backslash away; before anything else it stays (for patterns)."""
    quote, value, at = text[start], [], start + 1
    while at < len(text) and text[at] != quote:
        if text[at] == "\\" and text[at + 1 : at + 2] in (quote, "\\"):
            at += 1
        value.append(text[at])
        at += 1
    if at >= len(text):
        raise problem(text, source, start, "a quote is not closed", expected=f"{quote} at the end of the text")
    return Word("quoted", text[start : at + 1], start, "".join(value))
