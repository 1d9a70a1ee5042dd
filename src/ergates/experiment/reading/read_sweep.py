"""`[sweep]`, `[[exclude]]` and `[fixed]`: the values of the axes, the points left out, the names that have one value only."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from itertools import product
from typing import Any

from ergates.experiment.layout import shown_value
from ergates.experiment.reading.read_problems import nearest
from ergates.experiment.reading.read_table import INTEGER_MAX, Table, checked_value, kind_of
from ergates.experiment.spec import Axis, Value

VALUES_MAX = 10_000
"""Of one axis: more is a slip of the finger."""
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
NAME_WORDS = "letters, digits, _ and -, and no digit first"
_FORMS = "a list of values, { from = 0.1, to = 1.0, step = 0.1 } or { from = 1, to = 1024, factor = 2 }"

Point = tuple[tuple[str, Value], ...]


def read_axes(table: Table) -> tuple[Axis, ...]:
    """The lines of `[sweep]`. An axis whose values cannot be read has none, so that its name stays known."""
    axes = []
    for name in table.data:
        if not NAME.fullmatch(name):
            table.wrong(name, "cannot be the name of an axis", expected=NAME_WORDS)
        axes.append(Axis(name=name, values=_values(table, name)))
    return tuple(axes)


def _values(table: Table, name: str) -> tuple[Value, ...]:
    raw = table.raw(name)
    if isinstance(raw, dict):
        inner = table.table(name)
        assert inner is not None
        return _range(inner)
    listed: list[Any] = raw if isinstance(raw, list) else [raw]
    if not listed:
        table.wrong(name, "has no value, so there would be no run", expected=_FORMS)
    values: list[Value] = []
    for index, each in enumerate(listed):
        path = (*table.path, name, index)
        value = checked_value(each, path, f"{table.shown} {name}", table.problems)
        if value is None:
            return ()
        if value in values:
            table.problems.add(
                path,
                f"{table.shown} {name} has {shown_value(value)} twice",
                hint="[experiment] repetitions = 5 repeats every point",
            )
            continue
        values.append(value)
    return tuple(values)


def _range(table: Table) -> tuple[Value, ...]:
    """`{ from, to, step }` or `{ from, to, factor }`; both ends count where a step falls on them."""
    before = len(table.problems)
    numbers = {key: table.raw(key) for key in ("from", "to", "step", "factor")}
    table.end()
    if len(table.problems) > before:
        return ()
    given = {key: number for key, number in numbers.items() if number is not None}
    for key, number in given.items():
        if isinstance(number, bool) or not isinstance(number, int | float) or not abs(number) <= INTEGER_MAX:
            table.wrong(key, f"is {number if isinstance(number, float) else kind_of(number)}", expected="a number")
            return ()
    if "from" not in given or "to" not in given or ("step" in given) == ("factor" in given):
        table.problems.add(table.path, f"{table.shown} is no range", expected=_FORMS)
        return ()
    start, stop = Decimal(str(given["from"])), Decimal(str(given["to"]))
    whole = all(isinstance(number, int) for number in given.values())
    if "step" in given:
        found = _steps(start, stop, Decimal(str(given["step"])))
    else:
        found = _factors(start, stop, Decimal(str(given["factor"])))
    if found is None:
        table.problems.add(
            table.path,
            f"{table.shown} never gets from {given['from']} to {given['to']}, or takes more than {VALUES_MAX:,} values",
            expected="a step or factor that leads there",
            hint="count down with a negative step, or a factor below 1",
        )
        return ()
    return tuple(int(each) if whole else float(each) for each in found)


def _steps(start: Decimal, stop: Decimal, step: Decimal) -> Sequence[Decimal] | None:
    if step == 0 or (stop - start) * step < 0 or (stop - start) / step >= VALUES_MAX:
        return None
    return [start + index * step for index in range(int((stop - start) / step) + 1)]


def _factors(start: Decimal, stop: Decimal, factor: Decimal) -> Sequence[Decimal] | None:
    if start <= 0 or stop <= 0 or factor <= 0 or factor == 1 or (stop - start) * (factor - 1) < 0:
        return None
    found = [start]
    while (following := found[-1] * factor) <= stop if factor > 1 else (following := found[-1] * factor) >= stop:
        found.append(following)
        if len(found) > VALUES_MAX:
            return None
    return found


def read_excluded(tables: Sequence[Table], axes: Sequence[Axis]) -> tuple[Point, ...]:
    """The points of `[[exclude]]`; a list of values stands for each of them."""
    known = {axis.name: axis for axis in axes}
    points: list[Point] = []
    for table in tables:
        choices: list[list[tuple[str, Value]]] = []
        for name in table.data:
            if name not in known:
                table.problems.add(
                    (*table.path, name),
                    f"{table.shown}: no axis {name!r}",
                    hint=nearest(name, known, none="[sweep] has no axis"),
                )
                continue
            choices.append([(name, value) for value in _excluded_values(table, known[name])])
        if not table.data:
            table.problems.add(
                table.path, f"{table.shown} is empty", expected='values of axes, such as policy = "fifo"'
            )
        elif len(choices) == len(table.data):
            points += product(*choices)
    return tuple(points)


def _excluded_values(table: Table, axis: Axis) -> list[Value]:
    raw = table.raw(axis.name)
    found: list[Value] = []
    for each in raw if isinstance(raw, list) else [raw]:
        value = checked_value(each, (*table.path, axis.name), f"{table.shown} {axis.name}", table.problems)
        if value is None:
            continue
        matching = value_of_axis(axis, value)
        if matching is None and axis.values:
            table.wrong(
                axis.name,
                f"the axis has no value {shown_value(value)}",
                hint=nearest(shown_value(value), map(shown_value, axis.values)),
            )
        elif matching is not None:
            found.append(matching)
    return found


def value_of_axis(axis: Axis, value: Value) -> Value | None:
    """The axis' own value that equals this one: `1` and `1.0` are one number, `1` and `true` are not."""
    for each in axis.values:
        if each == value and isinstance(each, bool) == isinstance(value, bool):
            return each
    return None


def read_fixed(table: Table) -> Point:
    """The constants of `[fixed]`."""
    found = []
    for name in table.data:
        if not NAME.fullmatch(name):
            table.wrong(name, "cannot be the name of a constant", expected=NAME_WORDS)
        value = table.scalar(name)
        found.append((name, "" if value is None else value))
    return tuple(found)
