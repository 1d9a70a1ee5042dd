"""On which line of a TOML file a key stands, so that a message can point there.

`tomllib` reads the values and forgets the places. This walks through a text that `tomllib` has accepted, so it may trust its
grammar, and notes for each key, table and element the line on which it begins.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from types import MappingProxyType

Path = tuple[str | int, ...]
"""Keys from the top of the document; a number is the index in a list, from 0."""

_BLANK = re.compile(r"(?:[ \t\n]|#[^\n]*)*")
_SPACES = re.compile(r"[ \t]*")
_KEY = re.compile(r"""[A-Za-z0-9_-]+|"(?:[^"\\\n]|\\.)*"|'[^'\n]*'""")
# The longest quotes first. A text in three quotes may end in one or two quotes of its own.
_TEXT = re.compile(
    r'''"""(?:\\.|[^\\])*?"{3,5}|\'\'\'.*?'{3,5}|"(?:[^"\\\n]|\\.)*"|'[^'\n]*\'''',
    re.DOTALL,
)
_PLAIN = re.compile(r"[^,\]}#\n]*")


def lines_of(text: str) -> Mapping[Path, int]:
    """The line, from 1, on which each key, table and element of a list begins.

    Args:
        text: a document that `tomllib.loads` accepts.
    """
    return MappingProxyType(_Walk(text.replace("\r\n", "\n")).document())


def line_of(lines: Mapping[Path, int], path: Path) -> int | None:
    """The line of a key, or of the table it would stand in; None for the top of the document."""
    while path:
        if path in lines:
            return lines[path]
        path = path[:-1]
    return None


class _Walk:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.line = 1
        self.lines: dict[Path, int] = {}
        self.sizes: dict[Path, int] = {}
        """Of lists of tables: how many tables each has so far."""

    def document(self) -> dict[Path, int]:
        table: Path = ()
        self.take(_BLANK)
        while self.at < len(self.text):
            if self.text.startswith("[[", self.at):
                table = self.header(2)
            elif self.text.startswith("[", self.at):
                table = self.header(1)
            else:
                self.pair(table)
            self.take(_BLANK)
        return self.lines

    def take(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self.text, self.at)
        assert found is not None, f"line {self.line} of a document that tomllib accepts"
        self.line += found[0].count("\n")
        self.at = found.end()
        return found[0]

    def header(self, brackets: int) -> Path:
        """`[a.b]` or `[[a.b]]`: where the pairs below it go."""
        self.at += brackets
        line, keys = self.line, self.keys()
        self.at += brackets
        path = self.inside((), keys[:-1], line)
        path = (*path, keys[-1])
        if brackets == 2:
            self.lines.setdefault(path, line)
            index = self.sizes.get(path, 0)
            self.sizes[path] = index + 1
            path = (*path, index)
        self.lines[path] = line
        return path

    def inside(self, path: Path, keys: tuple[str, ...], line: int) -> Path:
        """The table that `keys` lead to: of a list of tables the last one."""
        for key in keys:
            path = (*path, key)
            self.lines.setdefault(path, line)
            if path in self.sizes:
                path = (*path, self.sizes[path] - 1)
        return path

    def keys(self) -> tuple[str, ...]:
        """A key with its dots: `a."b c".d`."""
        found: list[str] = []
        while True:
            self.take(_SPACES)
            key = self.take(_KEY)
            found.append(tomllib.loads(f"key = {key}")["key"] if key[0] in "\"'" else key)
            self.take(_SPACES)
            if not self.text.startswith(".", self.at):
                return tuple(found)
            self.at += 1

    def pair(self, table: Path) -> None:
        line, keys = self.line, self.keys()
        path = (*self.inside(table, keys[:-1], line), keys[-1])
        self.lines[path] = line
        self.at += 1  # the equals sign
        self.take(_SPACES)
        self.value(path)

    def value(self, path: Path) -> None:
        first = self.text[self.at]
        if first in "\"'":
            self.take(_TEXT)
        elif first == "[":
            self.elements(path)
        elif first == "{":
            self.inline(path)
        else:
            self.take(_PLAIN)

    def elements(self, path: Path) -> None:
        index = 0
        self.at += 1
        self.take(_BLANK)
        while self.text[self.at] != "]":
            self.lines[(*path, index)] = self.line
            self.value((*path, index))
            index += 1
            self.take(_BLANK)
            if self.text[self.at] == ",":
                self.at += 1
                self.take(_BLANK)
        self.at += 1

    def inline(self, path: Path) -> None:
        self.at += 1
        self.take(_BLANK)
        while self.text[self.at] != "}":
            self.pair(path)
            self.take(_BLANK)
            if self.text[self.at] == ",":
                self.at += 1
                self.take(_BLANK)
        self.at += 1
