"""What a condition can ask about a task: the fields of where.py, their kinds, and how a value of each is written."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

from ergates.cluster.attempt import Attempt, Outcome
from ergates.cluster.task_state import TaskState
from ergates.taskqueue.store import TaskView
from ergates.taskqueue.where_words import Word, quoted
from ergates.units import parse_bytes, parse_duration

LABEL = "label."
Kind = Literal["text", "integer", "cores", "bytes", "duration", "state", "outcome", "label"]
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_NUMBER = re.compile(r"[+-]?[0-9]{1,18}(\.[0-9]{1,18})?")


@dataclass(frozen=True, slots=True)
class Field:
    """`of_attempt`: it is about the task's newest attempt."""

    kind: Kind
    help: str
    of_attempt: bool = False


FIELDS: dict[str, Field] = {
    "task": Field("integer", "its number within the job"),
    "state": Field("state", "blocked, ready, delayed, leased, done, failed or cancelled"),
    "command": Field("text", "as it is run; words of a list joined by blanks"),
    "priority": Field("integer", "larger first"),
    "memory": Field("bytes", "its floor, declared or raised by an eviction: 8G"),
    "cpus": Field("cores", "cores it holds: 0.5"),
    "attempts": Field("integer", "how often it was tried"),
    "reason": Field("text", "why it failed, came back or was cancelled"),
    "outcome": Field("outcome", "of its last attempt: succeeded, failed, oom_killed, ...", of_attempt=True),
    "exit_code": Field("integer", "of its last attempt", of_attempt=True),
    "host": Field("text", "where its last attempt ran", of_attempt=True),
    "wall": Field("duration", "how long its last attempt took: 30m", of_attempt=True),
    "peak": Field("bytes", "memory its last attempt reached: 8G", of_attempt=True),
}
_LABEL_FIELD = Field("label", "its label NAME, empty when it has none")


class Subject:
    """One task, asked by the names of fields."""

    __slots__ = ("_job_labels", "_last", "_view")

    def __init__(self, view: TaskView, last: Attempt | None, job_labels: Mapping[str, str]) -> None:
        self._view, self._last, self._job_labels = view, last, job_labels

    def value(self, name: str) -> str | int | float | None:
        """In the field's own unit; None when it is not known, texts are empty then."""
        if name.startswith(LABEL):
            label = name.removeprefix(LABEL)
            return self._view.spec.labels.get(label, self._job_labels.get(label, ""))
        if FIELDS[name].of_attempt:
            if self._last is None:
                return "" if not is_number(name) else None
            return _OF_ATTEMPT[name](self._last)
        return _OF_TASK[name](self._view)


_OF_TASK: dict[str, Callable[[TaskView], str | int]] = {
    "task": lambda view: int(view.task),
    "state": lambda view: view.state.value,
    "command": lambda view: command_text(view.spec.command),
    "priority": lambda view: view.spec.priority,
    "memory": lambda view: view.spec.requirement.memory_bytes,
    "cpus": lambda view: view.spec.requirement.cpus_milli,
    "attempts": lambda view: view.attempts,
    "reason": lambda view: view.reason,
}
_OF_ATTEMPT: dict[str, Callable[[Attempt], str | int | None]] = {
    "outcome": lambda last: last.outcome.value,
    "exit_code": lambda last: last.exit_code,
    "host": lambda last: last.host,
    "wall": lambda last: last.usage.wall_ns,
    "peak": lambda last: last.usage.peak_bytes if last.usage.peak_label != "unknown" else None,
}


def command_text(command: str | tuple[str, ...]) -> str:
    """One text, whether it is a line or a list of words."""
    return command if isinstance(command, str) else " ".join(command)


def field_named(name: str) -> Field:
    """Raises ValueError naming the nearest field when there is none of that name, with all there are."""
    if name.startswith(LABEL) and len(name) > len(LABEL):
        return _LABEL_FIELD
    if name in FIELDS:
        return FIELDS[name]
    near = get_close_matches(name, FIELDS, n=1)
    guess = f"; did you mean {near[0]}?" if near else ""
    raise ValueError(f"no field {name!r}{guess}", f"one of {', '.join(FIELDS)}, label.NAME")


def is_number(name: str) -> bool:
    return field_named(name).kind in ("integer", "cores", "bytes", "duration")


def value_of(name: str, word: Word) -> str | int | float:
    """The value in the field's own unit. Raises ValueError saying what was expected."""
    text = word.value
    match field_named(name).kind:
        case "text":
            return text
        case "label":
            return _label_value(word)
        case "integer":
            if not _INTEGER.fullmatch(text):
                raise ValueError(f"{name}: expected a whole number, got {text!r}")
            return int(text)
        case "cores":
            if not _NUMBER.fullmatch(text):
                raise ValueError(f"{name}: expected a number of cores such as 2 or 0.5, got {text!r}")
            return round(float(text) * 1000)
        case "bytes":
            return _limited(name, parse_bytes, text)
        case "duration":
            return _limited(name, parse_duration, text)
        case "state":
            return _one_of(name, text, [state.value for state in TaskState])
        case "outcome":
            return _one_of(name, text, [outcome.value for outcome in Outcome])


def shown_value(name: str, value: str | int | float) -> str:
    """Text that `value_of` reads as this value again."""
    if isinstance(value, str):
        return quoted(value)
    match field_named(name).kind:
        case "cores":
            return f"{value / 1000:.3f}"
        case "duration":
            return f"{value}ns"
        case _:
            return f"{value:f}" if isinstance(value, float) else str(value)


def _label_value(word: Word) -> str | int | float:
    """A bare number is compared as a number, everything else as text."""
    if word.kind == "quoted" or not _NUMBER.fullmatch(word.value):
        return word.value
    return float(word.value) if "." in word.value else int(word.value)


def _limited(name: str, parse: Callable[[str], int], text: str) -> int:
    """Sizes and times beyond all reason are refused before they overflow."""
    try:
        if len(text) > 40:
            raise ValueError(f"expected a number and a unit, got {len(text)} characters")
        return parse(text)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _one_of(name: str, text: str, known: list[str]) -> str:
    if text in known:
        return text
    near = get_close_matches(text, known, n=1)
    guess = f"; did you mean {near[0]}?" if near else ""
    raise ValueError(f"no {name} {text!r}{guess}", f"one of {', '.join(known)}")
