"""Values for templates: `-p` parameters, `:::` and `::::` lists, and their cross product.

Values come in groups. Columns of one group walk together (the columns of a grid, linked lists, a line cut by
`--colsep`); groups are crossed, and the first one varies slowest. The first group is read as it is needed, so that a
million values from a file are never in memory at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from itertools import chain, product

from ergates.errors import InputError
from ergates.taskqueue.inputs.lines import text_lines
from ergates.taskqueue.inputs.request import ArgumentList, OpenFile, shown_name
from ergates.taskqueue.inputs.template import Row

TASKS_MAX = 100_000_000
"""Of one job; more is taken for a typing error in a range."""
VALUES_MAX = 10_000_000
"""Of one range, which is held in memory."""

_RANGE = re.compile(r"(-?[0-9]{1,18}(?:\.[0-9]{1,9})?)\.\.(-?[0-9]{1,18}(?:\.[0-9]{1,9})?)(?:\.\.(-?[0-9.]{1,18}))?")
_NAME = re.compile(r"[^\W\d][\w-]*")


@dataclass(frozen=True, slots=True)
class ValueGroup:
    """Columns that walk together.

    Args:
        names: of the columns; empty for a positional one.
        rows: one value for each column; may be read once only.
        size: number of rows, None when it is not known before the end.
        source: where they come from, for messages.
    """

    names: tuple[str, ...]
    rows: Iterable[Row]
    size: int | None
    source: str


def cross(groups: list[ValueGroup]) -> Iterator[Row]:
    """Every combination, the first group varying slowest. The first group is streamed, the others are kept."""
    if not groups:
        return iter([()])
    kept = [list(group.rows) for group in groups[1:]]
    return (tuple(chain(head, *tail)) for head in groups[0].rows for tail in product(*kept))


def crossed_size(groups: list[ValueGroup]) -> int | None:
    """How many combinations there are, None when a group does not know its size.

    Raises:
        InputError: more than a job may have.
    """
    total = 1
    for group in groups:
        if group.size is None:
            return None
        total *= group.size
    if total > TASKS_MAX:
        shown = " x ".join(f"{group.size:,}" for group in groups)
        raise InputError(
            f"{shown} = {total:,} combinations",
            source=groups[0].source,
            expected=f"at most {TASKS_MAX:,} tasks in a job",
            hint="shorten a range; a grid of chosen combinations (--params FILE) may be what you want",
        )
    return total


def parameter_group(text: str, open_file: OpenFile) -> ValueGroup:
    """Read one `-p NAME=VALUES`: a range `1..10` or `1..10..2`, a list `1,2,4` (ranges may be in it), or `@FILE`.

    Ranges include their end when a step falls on it; `001..100` keeps the zeros; `0.1..0.5..0.1` is exact.

    Raises:
        InputError: the text has another form, or the file cannot be read or holds no value.
    """
    name, equals, values_text = text.partition("=")
    source = f"-p {text}" if len(text) <= 60 else f"-p {text[:57]}..."
    if not equals or not values_text or not _NAME.fullmatch(name):
        raise InputError(
            "not a parameter",
            source=source,
            expected="NAME=VALUES, such as seed=1..1000, size=1,2,4 or file=@names.txt",
            hint="a name is letters, digits, _ and -, and does not start with a digit",
        )
    if values_text.startswith("@"):
        values = [line for _, line in text_lines(open_file, values_text[1:]) if line.strip()]
        if not values:
            raise InputError("no values", source=shown_name(values_text[1:]), expected="one value on each line")
    else:
        values = [value for part in values_text.split(",") for value in _expand(part, source)]
    return ValueGroup((name,), [(value,) for value in values], len(values), source)


def list_groups(lists: tuple[ArgumentList, ...], colsep: str | None, open_file: OpenFile) -> list[ValueGroup]:
    """Read `:::` and `::::` lists; a linked one joins the group before it and the shorter one ends both.

    Raises:
        InputError: a bad `--colsep`, a file that cannot be read, lines with different numbers of columns.
    """
    separator = _separator(colsep)
    groups: list[ValueGroup] = []
    for listed in lists:
        group = _list_group(listed, separator, open_file)
        if listed.linked and groups:
            group = _linked(groups.pop(), group)
        groups.append(group)
    return groups


def _list_group(listed: ArgumentList, separator: re.Pattern[str] | None, open_file: OpenFile) -> ValueGroup:
    source = "::: list" if listed.file is None else shown_name(listed.file)
    size = len(listed.values) if listed.file is None else None
    if separator is None:
        return ValueGroup(("",), ((line,) for _, line in _lines(listed, open_file)), size, source)
    # The first line is read here and again with the others: an open reader would not survive that of the key.
    first = next(_lines(listed, open_file), (1, ""))[1]
    width = len(separator.split(first))
    return ValueGroup(("",) * width, _columns(_lines(listed, open_file), separator, width, source), size, source)


def _lines(listed: ArgumentList, open_file: OpenFile) -> Iterator[tuple[int, str]]:
    if listed.file is None:
        return enumerate(listed.values, 1)
    return text_lines(open_file, listed.file)


def _columns(lines: Iterable[tuple[int, str]], separator: re.Pattern[str], width: int, source: str) -> Iterator[Row]:
    for number, line in lines:
        row = tuple(separator.split(line))
        if len(row) != width:
            raise InputError(
                f"{len(row)} columns, and the first line has {width}",
                source=source,
                line=number,
                expected=f"{width} columns separated by --colsep {separator.pattern!r}",
                hint="mend the line; an empty column still needs its separator",
            )
        yield row


def _linked(before: ValueGroup, group: ValueGroup) -> ValueGroup:
    rows = ((*left, *right) for left, right in zip(before.rows, group.rows, strict=False))
    size = None if before.size is None or group.size is None else min(before.size, group.size)
    return ValueGroup(before.names + group.names, rows, size, before.source)


def _separator(colsep: str | None) -> re.Pattern[str] | None:
    if colsep is None:
        return None
    try:
        pattern = re.compile(colsep)
    except (re.error, OverflowError, RecursionError) as error:
        raise InputError(
            f"not a regular expression: {error}", source=f"--colsep {colsep}", expected=r"one such as , or \t or ' +'"
        ) from error
    if pattern.groups or pattern.match("") is not None:
        raise InputError(
            "it matches the empty text or has groups ( )",
            source=f"--colsep {colsep}",
            expected=r"a regular expression for what stands between columns, such as , or \t",
            hint=r"escape characters that mean something: \| \.",
        )
    return pattern


def _expand(part: str, source: str) -> list[str]:
    """The values of one range, or the value itself."""
    match = _RANGE.fullmatch(part)
    if match is None:
        return [part]
    try:
        start, stop = Decimal(match[1]), Decimal(match[2])
        step = Decimal(match[3]) if match[3] else Decimal(1 if stop >= start else -1)
    except ArithmeticError as error:
        raise InputError(f"the step {match[3]!r} is not a number", source=source, expected="FROM..TO..STEP") from error
    if step == 0 or (stop - start) * step < 0:
        raise InputError(
            f"the range {part} never gets to its end",
            source=source,
            expected="FROM..TO..STEP with a step that leads there",
            hint="count down with a negative step: 10..1..-1",
        )
    size = int((stop - start) / step) + 1
    if size > VALUES_MAX:
        raise InputError(f"the range {part} has {size:,} values", source=source, expected=f"at most {VALUES_MAX:,}")
    if "." in part.replace("..", " "):
        return [format(start + index * step, "f") for index in range(size)]
    padded = any(re.match(r"-?0[0-9]", end) for end in (match[1], match[2]))
    width = max(len(match[1]), len(match[2])) if padded else 0
    return [f"{int(start) + index * int(step):0{width}d}" for index in range(size)]
