"""`[measure]`, `[compare]` and `[plot]`: what is taken from a finished run, and what is made of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal, cast, get_args

from ergates.experiment.json_path import parse_json_path
from ergates.experiment.layout import shown_value
from ergates.experiment.reading.read_problems import nearest
from ergates.experiment.reading.read_programs import ONLY_PROGRAM
from ergates.experiment.reading.read_sweep import NAME, NAME_WORDS, value_of_axis
from ergates.experiment.reading.read_table import Table, checked_value
from ergates.experiment.spec import Axis, Combine, Comparison, Figure, Measure, Program, Record

RECORDS: tuple[str, ...] = get_args(Record)
OF_RUNS = ("joules", "dollars")
"""Known of a whole run only, not of a program."""
COMBINES: tuple[str, ...] = get_args(Combine)
STATISTICS = ("mean", "median", "min", "max")
FIGURE_KINDS = ("", "line", "bar", "box", "ecdf")
_UNITS = {"seconds": "s", "cpu_seconds": "s", "peak_bytes": "B", "joules": "J", "dollars": "$"}
"""Of our own records, where nobody names another."""
_SOURCES = ("record", "json", "csv", "regex")


def read_measures(document: Table, programs: Sequence[Program]) -> tuple[Measure, ...]:
    """The lines of `[measure]`."""
    table = document.table("measure")
    return () if table is None else tuple(_measure(table, name, programs) for name in table.data)


def _measure(parent: Table, name: str, programs: Sequence[Program]) -> Measure:
    if not NAME.fullmatch(name):
        parent.wrong(name, "cannot be the name of a measure", expected=NAME_WORDS)
    path = (*parent.path, name)
    raw = parent.raw(name)
    if isinstance(raw, str):  # time = "seconds"
        raw = {"record": raw}
    if not isinstance(raw, dict):
        parent.wrong(name, "is no measure", expected='such as { json = "latency.p99" } or "seconds"')
        return Measure(name=name, record="seconds")
    table = Table(raw, path, f"[{'.'.join(map(str, path))}]", parent.problems)
    given = [key for key in _SOURCES if key in table]
    if len(given) != 1:
        words = " and ".join(given) or "nothing to take"
        table.problems.add(path, f"{table.shown} has {words}", expected=f"exactly one of {', '.join(_SOURCES)}")
    record = table.choice("record", RECORDS, "seconds") if "record" in table else None
    quantile = table.number("quantile", None, "a number from 0 to 1, such as 0.99", lambda each: 0 <= each <= 1)
    measure = Measure(
        name=name,
        program=_program(table, programs, record),
        file=table.text("file", "stdout", empty=False),
        json=_json_path(table),
        csv=table.text("csv", empty=False),
        regex=_pattern(table),
        quantile=quantile,
        record=cast("Record | None", record),
        combine=cast(Combine, table.choice("combine", COMBINES, "mean")),
        unit=table.text("unit") or _UNITS.get(record or "", ""),
        optional=table.flag("optional"),
        better=cast(Literal["lower", "higher"], table.choice("better", ("lower", "higher"), "lower")),
    )
    _misfits(table, measure)
    table.raw("record")
    table.end()
    return measure


def _misfits(table: Table, measure: Measure) -> None:
    if "quantile" in table and not measure.csv:
        table.wrong("quantile", "there is no CSV column to take it of", expected='csv = "column"')
    if "file" in table and measure.record is not None:
        table.wrong("file", "our own records are in no file", hint="leave it out")
    if "quantile" in table and "combine" in table and measure.combine == "list":
        table.wrong("combine", "a quantile is one value, not a list")


def _json_path(table: Table) -> str:
    text = table.text("json", empty=False)
    try:
        if text:
            parse_json_path(text)
    except ValueError as error:
        table.wrong("json", str(error))
        return ""
    return text


def _pattern(table: Table) -> str:
    text = table.text("regex", empty=False)
    try:
        re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        table.wrong(
            "regex", f"not a regular expression: {error}", expected="Python's; a text in '...' keeps its backslashes"
        )
        return ""
    return text


def _program(table: Table, programs: Sequence[Program], record: str | None) -> str:
    """Whose file it is; of a record also nobody's: then it is the whole run's."""
    names = [program.name for program in programs]
    if "program" in table:
        name = table.text("program")
        if name not in names:
            table.wrong("program", f"no program {name!r}", hint=nearest(name, names))
            return names[0] if names else ""
        if record in OF_RUNS:
            table.wrong("program", f"{record} are known of the whole run only", hint="leave it out")
            return ""
        return name
    table.raw("program")
    if record is not None:
        return ""
    foreground = [program.name for program in programs if not program.background]
    for likely in (names, foreground):
        if len(likely) == 1:
            return likely[0]
    if names:
        table.problems.add(
            table.path, f"{table.shown} says not of which program", expected=f"program = one of {', '.join(names)}"
        )
    return names[0] if names else ONLY_PROGRAM


def read_comparison(document: Table, axes: Sequence[Axis], measures: Sequence[Measure]) -> Comparison | None:
    """`[compare]`, if there is one."""
    table = document.table("compare")
    if table is None:
        return None
    known = {axis.name: axis for axis in axes}
    name = table.text("axis")
    if "axis" not in table:
        hint = f"expected one of {', '.join(known)}" if known else "[sweep] has no axis"
        table.problems.add(table.path, f"{table.shown} has no axis", hint=hint)
    elif name not in known:
        table.wrong("axis", f"no axis {name!r}", hint=nearest(name, known, none="[sweep] has no axis"))
    chosen = table.texts("measures")
    for each in chosen:
        if each not in [measure.name for measure in measures]:
            table.wrong("measures", f"no measure {each!r}", hint=nearest(each, [m.name for m in measures]))
    comparison = Comparison(
        axis=name,
        baseline=_baseline(table, known.get(name)),
        measures=chosen,
        statistic=cast(Literal["mean", "median", "min", "max"], table.choice("statistic", STATISTICS, "median")),
        confidence=table.number("confidence", 0.95, "between 0 and 1, such as 0.95", lambda each: 0 < each < 1),
        paired=table.flag("paired"),
    )
    table.end()
    return comparison


def _baseline(table: Table, axis: Axis | None) -> str | int | float | bool:
    raw = table.raw("baseline")
    if raw is None:
        shown = "" if axis is None else f"baseline = one of {', '.join(map(shown_value, axis.values))}"
        table.problems.add(table.path, f"{table.shown} has no baseline", expected=shown)
        return ""
    value = checked_value(raw, (*table.path, "baseline"), f"{table.shown} baseline", table.problems)
    if value is None or axis is None or not axis.values:
        return ""
    own = value_of_axis(axis, value)
    if own is None:
        table.wrong(
            "baseline",
            f"{axis.name} has no value {shown_value(value)}",
            hint=nearest(shown_value(value), map(shown_value, axis.values)),
        )
        return ""
    return own


def read_figures(document: Table, axes: Sequence[Axis], measures: Sequence[Measure]) -> tuple[Figure, ...]:
    """All of `[plot]`."""
    table = document.table("plot")
    return () if table is None else tuple(_figure(table, name, axes, measures) for name in table.data)


def _figure(parent: Table, name: str, axes: Sequence[Axis], measures: Sequence[Measure]) -> Figure:
    if not NAME.fullmatch(name):
        parent.wrong(name, "cannot be the name of a figure", expected=NAME_WORDS)
    table = parent.table(name)
    if table is None:
        return Figure(name=name, x="", y="")
    names, columns = [axis.name for axis in axes], [measure.name for measure in measures]
    kind = table.choice("kind", FIGURE_KINDS, "")
    figure = Figure(
        name=name,
        # An ecdf has the measure itself along x.
        x=_column(table, "x", names, "axis", needed=kind != "ecdf"),
        y=_column(table, "y", columns, "measure", needed=True),
        by=_column(table, "by", names, "axis"),
        panels=_column(table, "panels", names, "axis"),
        kind=cast(Literal["", "line", "bar", "box", "ecdf"], kind),
        log_x=table.flag("log_x"),
        log_y=table.flag("log_y"),
        title=table.text("title"),
    )
    table.end()
    return figure


def _column(table: Table, key: str, known: Sequence[str], what: str, *, needed: bool = False) -> str:
    if key not in table:
        table.raw(key)
        if needed:
            table.problems.add(
                table.path,
                f"{table.shown} has no {key}",
                expected=f"{key} = the name of one {what}: {', '.join(known)}",
            )
        return ""
    name = table.text(key)
    if name and name not in known:
        table.wrong(key, f"no {what} {name!r}", hint=nearest(name, known, none=f"the file has no {what}"))
        return ""
    return name
