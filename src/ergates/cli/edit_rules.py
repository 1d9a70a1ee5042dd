"""What `erg edit` is told to change: from `--set NAME=VALUE` and `--replace OLD=NEW` to the changes of one task. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from msgspec.structs import replace

from ergates.cli.joblog import shown_command
from ergates.cluster.task import Requirement, TaskSpec
from ergates.errors import UsageError
from ergates.taskqueue.command import has_unclosed_quote
from ergates.taskqueue.store import Changes, edited
from ergates.units import Bytes, MilliCpus, Nanoseconds, format_bytes, format_duration, parse_bytes, parse_duration

LABEL = "label."
RESOURCE = "resource."
_LARGEST = 2**31 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class EditRules:
    """All that was asked for.

    Args:
        changes: what is the same for every task: priority, time limit, retries, command.
        cores, memory: of the requirement, None to leave.
        resources: named resources by name, 0 for none of it.
        labels: by name, empty to take it away.
        replacements: (old, new) text in commands, one after the other.
    """

    changes: Changes = Changes()
    cores: MilliCpus | None = None
    memory: Bytes | None = None
    resources: tuple[tuple[str, int], ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    replacements: tuple[tuple[str, str], ...] = ()

    def of(self, spec: TaskSpec, task: str) -> Changes:
        """What changes of this task; equal to `Changes()` when it is as asked for already.

        Raises:
            UsageError: the command could not be run afterwards.
        """
        asked = replace(self.changes, requirement=self._requirement(spec.requirement), labels=self._labels(spec.labels))
        if self.replacements and spec.kind != "python":  # the command of a Python call only describes it
            asked = replace(asked, command=self._replaced(asked.command or spec.command))
        if asked.command is not None and spec.kind == "python":
            raise UsageError(f"{task} is a Python call: it has no command that could be set")
        after = edited(spec, asked)
        if isinstance(after.command, str) and after.command != spec.command and has_unclosed_quote(after.command):
            raise UsageError(
                f"{task} would run {after.command!r}, in which a quote is not closed\n  nothing was changed"
            )
        program = after.command if isinstance(after.command, str) else "".join(after.command[:1])
        if not program.strip():
            raise UsageError(f"{task} would run nothing at all\n  nothing was changed")
        kept = {name: value for name in asked.__struct_fields__ if (value := _change(name, spec, asked)) is not None}
        return Changes(**kept)

    def _requirement(self, old: Requirement) -> Requirement | None:
        resources = {**dict(old.resources), **dict(self.resources)}
        return replace(
            old,
            cpus_milli=old.cpus_milli if self.cores is None else self.cores,
            memory_bytes=old.memory_bytes if self.memory is None else self.memory,
            resources=tuple(sorted((name, amount) for name, amount in resources.items() if amount)),
        )

    def _labels(self, old: dict[str, str]) -> dict[str, str]:
        taken_away = {name for name, value in self.labels if not value}
        return {name: value for name, value in {**old, **dict(self.labels)}.items() if name not in taken_away}

    def _replaced(self, command: str | tuple[str, ...]) -> str | tuple[str, ...]:
        for old, new in self.replacements:
            if isinstance(command, str):
                command = command.replace(old, new)
            elif any(old in word for word in command):
                command = tuple(word.replace(old, new) for word in command)
            elif old in shlex.join(command):  # across words, as people see them
                try:
                    command = tuple(shlex.split(shlex.join(command).replace(old, new)))
                except ValueError as error:
                    raise UsageError(f"{shlex.join(command)}: with {new!r} in it a quote is not closed") from error
        return command


def edit_rules(settings: Sequence[str], replacements: Sequence[str]) -> EditRules:
    """Read `--set` and `--replace`; a later one of the same name wins.

    Raises:
        UsageError: no such setting, or a value that cannot be read.
    """
    simple: dict[str, Any] = {}
    labels: dict[str, str] = {}
    resources: dict[str, int] = {}
    for text in settings:
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"--set {text}: expected NAME=VALUE")
        try:
            if name.startswith(LABEL) and name != LABEL:
                labels[name.removeprefix(LABEL)] = value
            elif name.startswith(RESOURCE) and name != RESOURCE:
                resources[name.removeprefix(RESOURCE)] = _whole(value, 0)
            else:
                simple[name] = _reader(name)(value)
        except ValueError as error:
            raise UsageError(f"--set {text}: {error}") from error
    cores, memory = simple.pop("cpus", None), simple.pop("memory", None)
    if "time_limit" in simple:
        simple["time_limit_ns"] = simple.pop("time_limit")
    return EditRules(
        changes=Changes(**simple),
        cores=cores,
        memory=memory,
        resources=tuple(resources.items()),
        labels=tuple(labels.items()),
        replacements=tuple(_pair(text) for text in replacements),
    )


def change_lines(name: str, before: TaskSpec, changes: Changes) -> list[str]:
    """One task's changes for people: what it is called, then a line for each thing that changes, old and new."""
    after = edited(before, changes)
    lines = [name]
    for title, show in _SHOWN:
        old, new = show(before), show(after)
        if old != new:
            lines.append(f"  {title:<11} {old}")
            lines.append(f"  {'':<11} → {new}")
    return lines


def _change(name: str, spec: TaskSpec, asked: Changes) -> Any:
    """None when the task is so already."""
    value = getattr(asked, name)
    before = getattr(spec, name)
    return None if value == before or (name == "time_limit_ns" and value == 0 and before is None) else value


def _pair(text: str) -> tuple[str, str]:
    old, equals, new = text.partition("=")
    if not equals or not old:
        raise UsageError(f"--replace {text}: expected OLD=NEW, the text to look for and what takes its place")
    return old, new


def _reader(name: str) -> Callable[[str], Any]:
    if name in _READERS:
        return _READERS[name]
    near = get_close_matches(name, _READERS, n=1)
    guess = f"; did you mean {near[0]}?" if near else ""
    raise ValueError(f"nothing is called {name!r}{guess}\n  expected: {', '.join(_READERS)}, label.NAME, resource.NAME")


def _whole(text: str, least: int) -> int:
    try:
        number = int(text) if len(text) < 12 else _LARGEST + 1
    except ValueError:
        number = least - 1
    if not least <= number <= _LARGEST:
        raise ValueError(f"expected a whole number from {least}, got {text!r}")
    return number


def _cores(text: str) -> MilliCpus:
    try:
        milli = round(float(text) * 1000)
    except (ValueError, OverflowError):
        milli = 0
    if not 1 <= milli <= _LARGEST:
        raise ValueError(f"expected a number of cores such as 2 or 0.5, got {text!r}")
    return MilliCpus(milli)


def _time_limit(text: str) -> Nanoseconds:
    if text == "none":
        return Nanoseconds(0)
    limit = parse_duration(text)
    if limit == 0:
        raise ValueError("expected a time limit such as 90s or 1h, or none")
    return limit


def _command(text: str) -> str:
    if not text.strip():
        raise ValueError("expected a command")
    return text


_READERS: dict[str, Callable[[str], Any]] = {
    "priority": lambda text: _whole(text, -_LARGEST),
    "cpus": _cores,
    "memory": parse_bytes,
    "time_limit": _time_limit,
    "retries": lambda text: _whole(text, 0),
    "command": _command,
}


def _shown_labels(spec: TaskSpec) -> str:
    return " ".join(f"{name}={value}" for name, value in sorted(spec.labels.items()))


def _shown_limit(spec: TaskSpec) -> str:
    return "none" if spec.time_limit_ns is None else format_duration(spec.time_limit_ns)


def _shown_memory(spec: TaskSpec) -> str:
    return format_bytes(spec.requirement.memory_bytes)


_SHOWN: tuple[tuple[str, Callable[[TaskSpec], str]], ...] = (
    ("command", shown_command),
    ("priority", lambda spec: str(spec.priority)),
    ("cpus", lambda spec: f"{spec.requirement.cpus_milli / 1000:g}"),
    ("memory", _shown_memory),
    ("resources", lambda spec: " ".join(f"{name}={amount}" for name, amount in spec.requirement.resources)),
    ("time limit", _shown_limit),
    ("retries", lambda spec: "the job's" if spec.retries is None else str(spec.retries)),
    ("labels", _shown_labels),
)
