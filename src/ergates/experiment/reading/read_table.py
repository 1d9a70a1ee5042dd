"""One table of a TOML file, read key by key: each value has the type that was asked for, or a problem names its line.

A value that is wrong becomes the default, so that the rest of the file can be looked at too. Whoever has asked for all keys that
a table may have calls `end`: what nobody asked for is an unknown key.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar, overload

from ergates.experiment.reading.read_positions import Path
from ergates.experiment.reading.read_problems import Problems, nearest
from ergates.experiment.spec import Value
from ergates.units import Bytes, Nanoseconds, parse_bytes, parse_duration

T = TypeVar("T")
D = TypeVar("D")
INTEGER_MAX = 2**63 - 1
"""What every reader of our files can hold."""
_KINDS = {
    bool: "true or false", int: "a whole number", float: "a number", str: "a text", list: "a list", dict: "a table"
}  # fmt: skip


class Table:
    """Args:
    data: as `tomllib` gives it.
    path: where it stands in the file.
    shown: how messages call it, such as `[programs.server]`.
    """

    def __init__(self, data: Mapping[str, Any], path: Path, shown: str, problems: Problems) -> None:
        self.data, self.path, self.shown, self.problems = data, path, shown, problems
        self._asked: dict[str, None] = {}

    def __contains__(self, key: str) -> bool:
        return key in self.data

    def raw(self, key: str) -> Any:
        """As it stands there; None when it does not."""
        self._asked[key] = None
        return self.data.get(key)

    def wrong(self, key: str, message: str, *, expected: str = "", hint: str = "") -> None:
        """Say that something is wrong with this key."""
        self.problems.add((*self.path, key), f"{self.shown} {key}: {message}", expected=expected, hint=hint)

    def text(self, key: str, default: str = "", *, empty: bool = True) -> str:
        """A text; numbers are none."""
        value = self.raw(key)
        if value is None:
            return default
        if not isinstance(value, str):
            self._mistyped(key, value, "a text")
        elif "\0" in value:
            self.wrong(key, "holds a NUL byte", expected="a text")
        elif not value.strip() and not empty:
            self.wrong(key, "is empty", expected="a text")
        else:
            return value
        return default

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of texts, or one text."""
        value = self.raw(key)
        listed = [value] if isinstance(value, str) else value
        if listed is None:
            return ()
        if not isinstance(listed, list) or any(not isinstance(each, str) or "\0" in each for each in listed):
            self._mistyped(key, value, "a text, or a list of texts")
            return ()
        return tuple(listed)

    def flag(self, key: str, default: bool = False) -> bool:
        """True or false."""
        value = self.raw(key)
        if value is not None and not isinstance(value, bool):
            self._mistyped(key, value, "true or false")
            return default
        return default if value is None else value

    def integer(self, key: str, default: int, *, least: int | None = None) -> int:
        """A whole number."""
        value = self.raw(key)
        if value is None:
            return default
        expected = "a whole number" if least is None else f"a whole number, {least} or more"
        if isinstance(value, bool) or not isinstance(value, int):
            self._mistyped(key, value, expected)
            return default
        if (least is not None and value < least) or not -INTEGER_MAX <= value <= INTEGER_MAX:
            self.wrong(key, f"is {value}", expected=expected)
            return default
        return value

    @overload
    def number(self, key: str, default: float, expected: str, fits: Callable[[float], bool]) -> float: ...
    @overload
    def number(self, key: str, default: None, expected: str, fits: Callable[[float], bool]) -> float | None: ...
    def number(self, key: str, default: float | None, expected: str, fits: Callable[[float], bool]) -> float | None:
        """A number that fits."""
        value = self.raw(key)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float):
            self._mistyped(key, value, expected)
            return default
        if not math.isfinite(value) or not fits(value):
            self.wrong(key, f"is {value}", expected=expected)
            return default
        return value

    def choice(self, key: str, choices: tuple[str, ...], default: str) -> str:
        """One of some words."""
        value = self.text(key, default)
        if value not in choices and key in self.data:
            shown = [each or '""' for each in choices]
            self.wrong(key, f"no {value!r}", expected=f"one of {', '.join(shown)}", hint=_similar(value, choices))
            return default
        return value

    @overload
    def duration(self, key: str, default: Nanoseconds) -> Nanoseconds: ...
    @overload
    def duration(self, key: str, default: None = None) -> Nanoseconds | None: ...
    def duration(self, key: str, default: Nanoseconds | None = None) -> Nanoseconds | None:
        """A text such as 90s or 10m, or a number of seconds."""
        return self.parsed(key, default, parse_duration, "a duration such as 90s, 10m or 1.5h, or a number of seconds")

    def size(self, key: str) -> Bytes | None:
        """A text such as 1GiB, or a number of bytes."""
        return self.parsed(key, None, parse_bytes, "a size such as 512MiB, 1.5GiB or 2GB, or a number of bytes")

    def parsed(self, key: str, default: D, parse: Callable[[str], T], expected: str) -> T | D:
        """A text or a number, read by a function that raises ValueError."""
        value = self.raw(key)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            self._mistyped(key, value, expected)
            return default
        try:
            found = parse(str(value))
            if not isinstance(found, int) or found <= INTEGER_MAX:
                return found
        except (ValueError, OverflowError):
            pass
        self.wrong(key, f"cannot read {value!r}", expected=expected)
        return default

    def named_texts(self, key: str) -> tuple[tuple[str, str], ...]:
        """A table of texts, numbers, true and false, all kept as texts."""
        table = self.table(key)
        if table is None:
            return ()
        found = []
        for name in table.data:
            value = table.scalar(name)
            if value is not None:
                found.append((name, str(value).lower() if isinstance(value, bool) else str(value)))
        return tuple(found)

    def scalar(self, key: str) -> Value | None:
        """A text, a number, true or false; None and a problem when it is something else."""
        return checked_value(self.raw(key), (*self.path, key), f"{self.shown} {key}", self.problems)

    def table(self, key: str, shown: str = "") -> Table | None:
        """A table in this one; None when there is none."""
        value = self.raw(key)
        if value is None:
            return None
        if not isinstance(value, dict):
            self._mistyped(key, value, f"a table, [{'.'.join(map(str, (*self.path, key)))}]")
            return None
        return Table(value, (*self.path, key), shown or f"[{'.'.join(map(str, (*self.path, key)))}]", self.problems)

    def tables(self, key: str) -> Iterator[Table]:
        """Of a list of tables, `[[key]]`; one table alone will do."""
        value = self.raw(key)
        if value is None:
            return
        name = ".".join(map(str, (*self.path, key)))
        if isinstance(value, dict):
            yield Table(value, (*self.path, key), f"[{name}]", self.problems)
        elif isinstance(value, list) and all(isinstance(each, dict) for each in value):
            for index, each in enumerate(value):
                yield Table(each, (*self.path, key, index), f"[[{name}]]", self.problems)
        else:
            self._mistyped(key, value, f"a list of tables, [[{name}]]")

    def end(self, hint: str = "") -> None:
        """All keys that may be here were asked for: the others are unknown."""
        for key in self.data:
            if key not in self._asked:
                self.problems.add(
                    (*self.path, key), f"{self.shown} has no key {key!r}", hint=hint or nearest(key, self._asked)
                )

    def _mistyped(self, key: str, value: object, expected: str) -> None:
        self.wrong(key, f"is {kind_of(value)}", expected=expected)


def checked_value(value: object, path: Path, shown: str, problems: Problems) -> Value | None:
    """A text, a number, true or false. None and a problem when it is something else."""
    expected = "a text, a number, true or false"
    if isinstance(value, float) and not math.isfinite(value):
        problems.add(path, f"{shown} is {value}", expected=expected)
    elif isinstance(value, str) and "\0" in value:
        problems.add(path, f"{shown} holds a NUL byte", expected=expected)
    elif isinstance(value, int) and not -INTEGER_MAX <= value <= INTEGER_MAX:
        problems.add(
            path, f"{shown} is {value}", expected="whole numbers of 64 bits", hint="a longer one goes into quotes"
        )
    elif isinstance(value, bool | int | float | str):
        return value
    else:
        problems.add(path, f"{shown} is {kind_of(value)}", expected=expected, hint="a date goes into quotes")
    return None


def kind_of(value: object) -> str:
    """What it is, in words: `a list`."""
    return _KINDS.get(type(value), "a date or a time")


def _similar(value: str, choices: tuple[str, ...]) -> str:
    hint = nearest(value, [each for each in choices if each])
    return hint if hint.startswith("did") else ""
