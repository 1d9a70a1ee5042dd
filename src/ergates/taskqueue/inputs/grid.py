"""Tables of chosen combinations, `--params grid.csv`: the columns become names, every row one task."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from ergates.errors import InputError
from ergates.taskqueue.inputs.lines import Problems, text_lines
from ergates.taskqueue.inputs.parameters import ValueGroup
from ergates.taskqueue.inputs.request import GridFormat, OpenFile, shown_name
from ergates.taskqueue.inputs.template import Row

if TYPE_CHECKING:
    from _csv import Reader

_SUFFIXES: dict[str, GridFormat] = {".tsv": "tsv", ".tab": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl"}


def grid_group(open_file: OpenFile, name: str, grid_format: GridFormat, problems: Problems) -> ValueGroup:
    """Read a CSV, TSV (both with a header line) or JSON Lines table; `auto` goes by the name's ending, else CSV.

    Rows are read as they are needed.

    Raises:
        InputError: no header, an empty or repeated column name, a row that does not fit.
    """
    if grid_format == "auto":
        grid_format = next((known for end, known in _SUFFIXES.items() if name.lower().endswith(end)), "csv")
    if grid_format == "jsonl":
        return _jsonl_group(open_file, name, problems)
    return _csv_group(open_file, name, "\t" if grid_format == "tsv" else ",", problems)


def _csv_group(open_file: OpenFile, name: str, delimiter: str, problems: Problems) -> ValueGroup:
    source = shown_name(name)
    header = _next(_csv_reader(open_file, name, delimiter), source)
    if not header:
        raise InputError(
            "no header", source=source, line=1, expected="a first line with the names of the columns, such as seed,size"
        )
    names = tuple(column.strip() for column in header)
    for column in names:
        if not column or names.count(column) > 1:
            problem = "a column without a name" if not column else f"the column {column!r} twice"
            raise InputError(problem, source=source, line=1, expected="a different name for each column")
    return ValueGroup(names, _csv_rows(open_file, name, delimiter, names, problems), None, source)


def _csv_reader(open_file: OpenFile, name: str, delimiter: str) -> Reader:
    # csv wants line ends: a quoted value may run over several lines.
    lines = (line + "\n" for _, line in text_lines(open_file, name))
    return csv.reader(lines, delimiter=delimiter, strict=True)


def _csv_rows(
    open_file: OpenFile, name: str, delimiter: str, names: tuple[str, ...], problems: Problems
) -> Iterator[Row]:
    source = shown_name(name)
    reader = _csv_reader(open_file, name, delimiter)
    _next(reader, source)  # the header
    while (row := _next(reader, source)) is not None:
        if not row or (len(row) == 1 and len(names) > 1 and not row[0].strip()):
            continue  # a blank line
        if len(row) == len(names):
            yield tuple(row)
            continue
        problems.meet(
            InputError(
                f"{len(row)} values for {len(names)} columns",
                source=source,
                line=reader.line_num,
                expected=f"{len(names)} values: {', '.join(names)}",
                hint='put a value that holds the separator into quotes: "a,b"',
            )
        )


def _next(reader: Reader, source: str) -> list[str] | None:
    try:
        return next(reader, None)
    except csv.Error as error:
        raise InputError(
            str(error),
            source=source,
            line=max(reader.line_num, 1),
            expected="values separated by the separator, quotes in pairs",
            hint="a quote inside a quoted value is written twice",
        ) from error


def _jsonl_group(open_file: OpenFile, name: str, problems: Problems) -> ValueGroup:
    source = shown_name(name)
    # Read again with the others, which then count its problems.
    first = next(_objects(open_file, name, Problems(keep_going=problems.keep_going)), None)
    if first is None:
        raise InputError(
            "no rows", source=source, expected='one JSON object on each line, such as {"seed": 1, "size": 2}'
        )
    names = tuple(first[1])
    return ValueGroup(names, _jsonl_rows(open_file, name, names, problems), None, source)


def _jsonl_rows(open_file: OpenFile, name: str, names: tuple[str, ...], problems: Problems) -> Iterator[Row]:
    expected = set(names)
    for number, found in _objects(open_file, name, problems):
        if found.keys() == expected:
            yield tuple(found[column] for column in names)
            continue
        different = ", ".join(sorted(found.keys() ^ expected))
        problems.meet(
            InputError(
                f"other keys than in the first row: {different}",
                source=shown_name(name),
                line=number,
                expected=", ".join(names),
            )
        )


def _objects(open_file: OpenFile, name: str, problems: Problems) -> Iterator[tuple[int, dict[str, str]]]:
    source = shown_name(name)
    expected = 'one JSON object of texts and numbers on each line, such as {"seed": 1, "size": 2}'
    for number, line in text_lines(open_file, name):
        if not line.strip():
            continue
        try:
            found = msgspec.json.decode(line.encode("utf-8", "surrogateescape"))
            if not isinstance(found, dict) or not found or "" in found:
                raise ValueError("not a JSON object with names")
            yield number, {column: _value_text(column, value) for column, value in found.items()}
        except (ValueError, RecursionError) as error:  # msgspec's and Unicode's errors are ValueErrors
            problems.meet(InputError(str(error), source=source, line=number, expected=expected))


def _value_text(column: str, value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, str) and "\0" not in value:
        return value
    raise ValueError(f"the value of {column!r} is neither a text nor a number")
