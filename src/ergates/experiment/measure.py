"""From what a program wrote to the figures of the table. Pure: the text of a file in, values out.

Every host of a role gives a list of values (a column of its CSV file, one place of its JSON document). The lists of all hosts, in
the order of their ranks, are one list, and `combine` or `quantile` makes one cell of it. So the 99th percentile of a column is
that of the requests of all clients together, never a mean of percentiles.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING

from ergates.experiment.json_path import found_at, parse_json_path
from ergates.experiment.records import Manifest, ProgramRecord
from ergates.experiment.spec import Measure

if TYPE_CHECKING:
    from _csv import Reader as _CsvReader

Scalar = int | float | str | bool
Cell = Scalar | list[Scalar] | None
"""Of the table; None is empty."""

_DIGITS_MOST = 300
_INTEGER = re.compile(r"[+-]?[0-9]{1,300}")
_THOUSANDS = re.compile(r"[+-]?[0-9]{1,3}(,[0-9]{3})+(\.[0-9]+)?")
_DELIMITERS = ",;\t|"
_BITS_MOST = 1000
"""Of a whole number in JSON: larger ones have no place among floating-point numbers."""


class UnmeasuredError(ValueError):
    """A measure finds nothing to read; the message says what was expected and what is there."""


def values_in(measure: Measure, text: str) -> list[Scalar]:
    """What one file holds of a measure that reads a file.

    Raises:
        UnmeasuredError: it is not there, or is no number where only a number makes sense.
    """
    if measure.json:
        return _json_values(measure.json, text)
    if measure.csv:
        return _csv_values(measure.csv, text)
    return [_regex_value(measure.regex, text)]


def values_recorded(measure: Measure, manifest: Manifest) -> list[Scalar]:
    """Our own records: of a program on each of its hosts, or of the whole run when the measure names none.

    Of the whole run, `cpu_seconds` is the sum over its programs, `peak_bytes` the largest of any of them.

    Raises:
        UnmeasuredError: it is not known, or the program did not run.
    """
    if measure.program:
        records = [
            record for member in manifest.members for record in member.programs if record.name == measure.program
        ]
        if not records:
            raise UnmeasuredError(f"no host has a record of the program {measure.program!r}")
        return [_of_program(measure, record) for record in records]
    every = [record for member in manifest.members for record in member.programs]
    match measure.record:
        case "seconds":
            return [manifest.seconds]
        case "cpu_seconds":
            return [sum(record.cpu_ns for record in every) / 1e9]
        case "peak_bytes":
            return [max((record.peak_bytes for record in every), default=0)]
        case "joules" if manifest.joules is not None:
            return [manifest.joules]
        case "dollars" if manifest.dollars is not None:
            return [manifest.dollars]
        case _:
            why = "nothing here measures energy" if measure.record == "joules" else "the hosts have no price"
            raise UnmeasuredError(f"{measure.record} of this run are not known: {why}")


def _of_program(measure: Measure, record: ProgramRecord) -> Scalar:
    match measure.record:
        case "seconds":
            return record.wall_ns / 1e9
        case "cpu_seconds":
            return record.cpu_ns / 1e9
        case "peak_bytes":
            return record.peak_bytes
        case _:
            raise UnmeasuredError(f"{measure.record} are known of whole runs, not of one program: leave `program` out")


def combined(measure: Measure, values: Sequence[Scalar]) -> Cell:
    """One cell of the values of all hosts.

    Raises:
        UnmeasuredError: there are none, or they are no numbers where numbers are needed.
    """
    if measure.combine == "list":
        return list(values)
    if not values:
        raise UnmeasuredError("no value at all")
    if measure.quantile is None and (len(values) == 1 or measure.combine == "first"):
        return values[0]
    numbers = [_number_of(value) for value in values]
    if measure.quantile is not None:
        return quantile(numbers, measure.quantile)
    match measure.combine:
        case "sum":
            return sum(numbers) if all(isinstance(number, int) for number in numbers) else math.fsum(numbers)
        case "max":
            return max(numbers)
        case "min":
            return min(numbers)
        case "median":
            return quantile(numbers, 0.5)
        case _:
            return math.fsum(numbers) / len(numbers)


def quantile(numbers: Sequence[float], fraction: float) -> float:
    """Linear between the two nearest ranks: type 7 of Hyndman and Fan, what numpy and R do unless told otherwise.

    Args:
        numbers: not empty, in any order.
        fraction: 0 to 1.
    """
    ordered = sorted(numbers)
    place = fraction * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    if ordered[low] == ordered[high]:  # so that integers beyond 2**53, and infinities, stay as they are
        return ordered[low]
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def _number_of(value: Scalar) -> int | float:
    if isinstance(value, str):
        raise UnmeasuredError(f"expected a number, found {value!r}")
    return int(value) if isinstance(value, bool) else value


def _json_values(path: str, text: str) -> list[Scalar]:
    steps = parse_json_path(path)
    try:
        found = found_at(_document(text), steps)
    except RecursionError:
        raise UnmeasuredError("expected JSON, found lists or objects nested too deeply") from None
    except ValueError as error:
        raise UnmeasuredError(str(error)) from None
    flat = [inner for value in found for inner in (value if isinstance(value, list) else [value])]
    return [_scalar(value, path) for value in flat]


def _document(text: str) -> object:
    """The whole text, or its last line that is not empty: JSON Lines, or a program that prints its result last.

    Raises:
        ValueError: neither is JSON.
    """
    if not text.strip():
        raise ValueError("expected JSON, the file is empty")
    try:
        return json.loads(text)
    except json.JSONDecodeError as whole:
        lines = text.rstrip().splitlines()
        if len(lines) == 1:
            raise ValueError(f"expected JSON: {whole.msg} at character {whole.pos + 1}") from None
        try:
            return json.loads(lines[-1])
        except json.JSONDecodeError:
            raise ValueError(
                f"expected JSON, or JSON in the last line: line {whole.lineno}: {whole.msg}; line {len(lines)} is no JSON either"
            ) from None


def _scalar(value: object, place: str) -> Scalar:
    if isinstance(value, float) and not math.isfinite(value):
        raise UnmeasuredError(f"expected a number at {place!r}, found {value}")
    if isinstance(value, int) and value.bit_length() > _BITS_MOST:
        raise UnmeasuredError(f"expected a number at {place!r}, found one of {value.bit_length()} bits")
    if isinstance(value, str):
        return _read(value)
    if isinstance(value, bool | int | float):
        return value
    kind = "null" if value is None else "a list" if isinstance(value, list) else "an object"
    raise UnmeasuredError(f"expected a number at {place!r}, found {kind}")


def _csv_values(column: str, text: str) -> list[Scalar]:
    """Numbers of the column with that heading, under the delimiter that shows the heading. Empty cells are left out."""
    start = text.removeprefix("\ufeff").lstrip("\r\n")
    if not start:
        raise UnmeasuredError(f"expected CSV with a column {column!r}, the file is empty")
    heading_line = start.split("\n", 1)[0]
    headings: list[str] = []
    for delimiter in sorted(_DELIMITERS, key=heading_line.count, reverse=True):
        headings = [name.strip() for name in next(csv.reader([heading_line.rstrip("\r")], delimiter=delimiter))]
        if column in headings:
            return _column(column, headings.index(column), csv.reader(io.StringIO(start), delimiter=delimiter))
    headings = [name.strip() for name in re.split(f"[{_DELIMITERS}]", heading_line)]
    close = get_close_matches(column, headings, n=1, cutoff=0.6)
    instead = f"did you mean {close[0]!r}?" if close else f"the first line is {heading_line.strip()[:120]!r}"
    raise UnmeasuredError(f"no column {column!r}: {instead}")


def _column(name: str, index: int, rows: _CsvReader) -> list[Scalar]:
    values: list[Scalar] = []
    try:
        next(rows)
        for row in rows:
            if index >= len(row):
                if row:
                    raise UnmeasuredError(
                        f"line {rows.line_num} has {len(row)} cells, none for {name!r}: is it cut off?"
                    )
                continue
            cell = row[index].strip()
            if cell:
                value = _read(cell)
                if isinstance(value, str):
                    raise UnmeasuredError(f"expected a number in column {name!r}, line {rows.line_num} has {cell!r}")
                values.append(value)
    except csv.Error as error:
        raise UnmeasuredError(f"line {rows.line_num} is no CSV: {error}") from None
    if not values:
        raise UnmeasuredError(f"the column {name!r} has no rows")
    return values


def _regex_value(pattern: str, text: str) -> Scalar:
    """First group, or the whole match, of the last place that matches; `^` and `$` are at every line."""
    last = None
    for match in re.finditer(pattern, text, re.MULTILINE):
        last = match
    if last is None:
        raise UnmeasuredError(f"expected a place that matches {pattern!r}, found none")
    found = last[1] if last.re.groups else last[0]
    if found is None:
        raise UnmeasuredError(f"the group of {pattern!r} did not take part in the last match {last[0]!r}")
    return _read(found.strip())


def _read(text: str) -> Scalar:
    """A number when it is one, `1,234,567` too; else the text itself.

    Raises:
        UnmeasuredError: nan, infinite, or a whole number of very many digits.
    """
    if text.isdecimal() and text.isascii() and len(text) <= _DIGITS_MOST:  # most are: millions of rows go this way
        return int(text)
    plain = text.replace(",", "") if "," in text and _THOUSANDS.fullmatch(text) else text
    try:
        number = float(plain)
    except ValueError:
        return text
    if "_" in plain:  # Python reads 1_000 as a number, nobody else does
        return text
    if not math.isfinite(number):
        raise UnmeasuredError(f"expected a number, found {text[:40]!r}")
    return int(plain) if _INTEGER.fullmatch(plain) else number
