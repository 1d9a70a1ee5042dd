"""`after`: from the names and numbers the user wrote to ranges of task ids, and no circles.

A task that comes after earlier ones is resolved at once, so that a long file streams. From the first task on that names
a later one, tasks are held until the end of the input, for only then is it known what those names mean. Circles need a
forward reference, so what streamed before is never in one.

Numbers are those of the input (1 is the first task). When bad tasks were skipped, ids of those behind move up; what
came after a skipped task is skipped too, for it would wait for ever.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches

from msgspec.structs import replace

from ergates.cluster.task import TaskSpec
from ergates.errors import InputError
from ergates.taskqueue.dependency_order import find_circle
from ergates.taskqueue.inputs.lines import Problems

_RANGE = re.compile(r"([0-9]{1,12})\.\.([0-9]{1,12})")
_NUMBER = re.compile(r"[0-9]{1,12}")
Ranges = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Record:
    """One task of a JSON Lines or TOML file, before its dependencies are known."""

    line: int | None
    spec: TaskSpec
    name: str | None = None
    after: tuple[str, ...] = ()


class _UnknownYetError(Exception):
    """A reference to something that has not come yet; the argument says what."""


def resolve(records: Iterable[Record | None], source: str, problems: Problems) -> Iterator[TaskSpec]:
    """Give every task the ids it comes after.

    Args:
        records: in the order of the input; None for one that was skipped as bad.
        source: what the input is called in messages.
        problems: where bad tasks go.

    Raises:
        InputError: an unknown name or number, a task after itself, a circle, a name twice.
    """
    known = _Known(source)
    number = 0
    iterator = iter(records)
    for record in iterator:
        number += 1
        if record is None:
            known.skip(number)
            continue
        try:
            known.add(record, number)
            ranges = known.ranges(record, number, last=number)
        except _UnknownYetError:
            yield from _resolve_held([(number, record), *known.rest(iterator, number, problems)], known, problems)
            return
        except InputError as error:
            problems.meet(error)
            known.skip(number)
            continue
        yield known.placed(record, ranges)


class _Known:
    """What names and numbers mean so far."""

    def __init__(self, source: str) -> None:
        self.source = source
        self._names: dict[str, tuple[int, int | None]] = {}
        self._skipped: list[int] = []

    def add(self, record: Record, number: int) -> None:
        """Remember a task's name. Raises InputError when it is taken already."""
        if record.name is None:
            return
        if record.name in self._names:
            first, line = self._names[record.name]
            where = f"task {first}" if line is None else f"line {line}"
            raise self.error(
                record, f"the id {record.name!r} is taken by {where}", expected="a different id for each task"
            )
        self._names[record.name] = (number, record.line)

    def rest(self, records: Iterator[Record | None], number: int, problems: Problems) -> Iterator[tuple[int, Record]]:
        """Everything that is still to come."""
        for following, record in enumerate(records, number + 1):
            if record is None:
                self.skip(following)
                continue
            try:
                self.add(record, following)
            except InputError as error:
                problems.meet(error)
                self.skip(following)
            else:
                yield following, record

    def skip(self, number: int) -> None:
        insort(self._skipped, number)

    def ranges(self, record: Record, number: int, last: int) -> Ranges:
        """Ranges of input numbers that a task comes after.

        Raises:
            InputError: it comes after itself or after a skipped task.
            _UnknownYetError: it names something beyond `last`, or unknown.
        """
        ranges = tuple(self._range(record, text, last) for text in record.after)
        for first, end in ranges:
            if first <= number <= end:
                raise self.error(record, "the task comes after itself", hint="leave its own id out of after")
            at = bisect_left(self._skipped, first)
            if at < len(self._skipped) and self._skipped[at] <= end:
                raise self.error(record, f"it comes after task {self._skipped[at]}, which was skipped")
        return ranges

    def placed(self, record: Record, ranges: Ranges) -> TaskSpec:
        """The task with the ids that the ranges have after skipping."""
        if not ranges:
            return record.spec
        ids = (
            (first - bisect_right(self._skipped, first), end - bisect_right(self._skipped, end))
            for first, end in ranges
        )
        return replace(record.spec, after=tuple(sorted(set(ids))))

    def unknown(self, record: Record, text: str, last: int) -> InputError:
        nearest = get_close_matches(text, [*self._names][:10_000], n=1)
        return self.error(
            record,
            f"after names {text!r}, and there is no such task",
            expected=f"the id of a task, a number from 1 to {last}, or a range such as 1..{last}",
            hint=f"did you mean {nearest[0]!r}?" if nearest else "ids are what other tasks give as id or name",
        )

    def error(self, record: Record, message: str, *, expected: str = "", hint: str = "") -> InputError:
        return InputError(message, source=self.source, line=record.line, expected=expected, hint=hint)

    def _range(self, record: Record, text: str, last: int) -> tuple[int, int]:
        if text in self._names:  # an id that the user gave goes before a number
            number = self._names[text][0]
            return number, number
        match = _RANGE.fullmatch(text)
        if match is None and _NUMBER.fullmatch(text) is None:
            raise _UnknownYetError(text)
        first, end = (int(match[1]), int(match[2])) if match else (int(text), int(text))
        if first < 1 or first > end:
            raise self.error(record, f"not a range of tasks: {text!r}", expected="FIRST..LAST, counted from 1")
        if end > last:
            raise _UnknownYetError(text)
        return first, end


def _resolve_held(held: list[tuple[int, Record]], known: _Known, problems: Problems) -> Iterator[TaskSpec]:
    """Resolve what was held until the end, leaving out bad tasks and, with them, what comes after those."""
    last = held[-1][0]
    while True:
        resolved: dict[int, Ranges] = {}
        errors: dict[int, InputError] = {}
        for number, record in held:
            try:
                resolved[number] = known.ranges(record, number, last)
            except _UnknownYetError as error:
                errors[number] = known.unknown(record, error.args[0], last)
            except InputError as error:
                errors[number] = error
        if not errors:
            records = dict(held)
            for number in find_circle(resolved):
                errors[number] = known.error(
                    records[number],
                    f"task {number} waits for itself in a circle",
                    hint="no task may come after one that waits for it",
                )
        if not errors:
            break
        for number, problem in errors.items():
            problems.meet(problem)
            known.skip(number)
        held = [(number, record) for number, record in held if number not in errors]
        if not held:
            return
    for number, record in held:
        yield known.placed(record, resolved[number])
