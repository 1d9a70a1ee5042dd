"""Task records: JSON Lines (one object a line) and TOML (`[[task]]` tables, with `[job]` and `[defaults]` before them).

JSON Lines stream; a TOML file is read whole. What the keys mean is in `record_fields.py`, `after` in `dependencies.py`.

`[job]` may give key, name, cwd, env, labels, max_fails, data and `retry_limits` (failures, memory, losses, timeouts).
`[defaults]` takes the settings of a task (no command, id or after).
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from ergates.cluster.job import RetryLimits
from ergates.cluster.task import TaskSpec
from ergates.errors import InputError
from ergates.taskqueue.command import too_long
from ergates.taskqueue.inputs.dependencies import Record, resolve
from ergates.taskqueue.inputs.lines import Problems, raw_lines, text_lines
from ergates.taskqueue.inputs.needs import gang_size
from ergates.taskqueue.inputs.record_fields import (
    SETTING_KEYS,
    TASK_KEYS,
    FieldError,
    check_keys,
    read_after,
    read_command,
    read_count,
    read_data,
    read_id,
    read_stdin,
    read_text,
    read_texts,
    settings_of,
)
from ergates.taskqueue.inputs.request import JobDefaults, OpenFile, TaskDefaults, shown_name
from ergates.taskqueue.inputs.taskfile import line_error
from ergates.taskqueue.python_call import encode_call, python_call
from ergates.units import Bytes

_KINDS = ("command", "shell", "python", "container")
_TABLE = re.compile(r"\s*\[\[\s*[\"']?task[\"']?\s*\]\]")
_TOML_PLACE = re.compile(r"\(at line ([0-9]+), column [0-9]+\)")


@dataclass(frozen=True, slots=True)
class TomlInput:
    """A TOML file: its tasks, how many, and what it says of the job."""

    tasks: Iterator[TaskSpec]
    total: int
    job: JobDefaults


def jsonl_tasks(open_file: OpenFile, name: str, defaults: TaskDefaults, problems: Problems) -> Iterator[TaskSpec]:
    """One task for each JSON object; blank lines and lines that start with `#` are left out.

    Raises:
        InputError: a line that is not a task, unless `problems` keeps going.
    """
    return resolve(_json_records(open_file, name, defaults, problems), shown_name(name), problems)


def _json_records(
    open_file: OpenFile, name: str, defaults: TaskDefaults, problems: Problems
) -> Iterator[Record | None]:
    source = shown_name(name)
    for number, line in text_lines(open_file, name):
        stripped = line.strip()
        if not stripped or stripped[0] == "#":
            continue
        try:
            found = msgspec.json.decode(stripped.encode("utf-8", "surrogateescape"))
        except (ValueError, RecursionError) as error:  # msgspec's and Unicode's errors are ValueErrors
            problems.meet(
                InputError(
                    f"not JSON: {error}",
                    source=source,
                    line=number,
                    expected='one object on one line, such as {"command": "sim --seed 1", "memory": "2GiB"}',
                )
            )
            yield None
            continue
        yield _record_or_none(found, number, source, defaults, problems)


def toml_tasks(open_file: OpenFile, name: str, defaults: TaskDefaults, problems: Problems) -> TomlInput:
    """Read a TOML file of tasks.

    Raises:
        InputError: not TOML, unknown tables or keys, a wrong value; a bad `[[task]]` is skipped if `problems` keeps going.
    """
    source = shown_name(name)
    document, lines = _toml_document(open_file, name)
    try:
        check_keys(document, ("job", "defaults", "task"), "task file")
        for key in ("job", "defaults"):
            if not isinstance(document.get(key, {}), dict):
                raise FieldError(f"{key} is not a table", expected=f"[{key}]", key=key)
        job = _job_of(document.get("job", {}))
        file_defaults = document.get("defaults", {})
        check_keys(file_defaults, SETTING_KEYS, "[defaults] table")
        settings = defaults.over(settings_of(file_defaults))
        tables = document.get("task", [])
        if not isinstance(tables, list):
            raise FieldError("task is not a list of tables", expected="[[task]] with two brackets", key="task")
    except FieldError as error:
        raise _located(error, source, _line_of_key(lines, error.key, 0, len(lines))) from None
    return TomlInput(
        resolve(_toml_records(tables, lines, source, settings, problems), source, problems), len(tables), job
    )


def _toml_document(open_file: OpenFile, name: str) -> tuple[dict[str, Any], list[str]]:
    source = shown_name(name)
    raw = b"".join(raw_lines(open_file, name))
    try:
        text = raw.decode()
        return tomllib.loads(text), text.split("\n")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise InputError("not UTF-8", source=source, line=line, expected="TOML, which is always UTF-8") from error
    except RecursionError:
        raise InputError(
            "tables or lists nested too deeply", source=source, expected="TOML with [[task]] tables"
        ) from None
    except (tomllib.TOMLDecodeError, ValueError) as error:
        message = str(error)
        place = _TOML_PLACE.search(message)
        line_number = int(place[1]) if place else (raw.count(b"\n") + 1 if "end of document" in message else None)
        message = _TOML_PLACE.sub("", message.replace("(at end of document)", "at the end")).strip()
        raise InputError(
            f"not TOML: {message}",
            source=source,
            line=line_number,
            expected='[[task]] tables such as command = "sim --seed 1"',
        ) from error


def _toml_records(
    tables: list[Any], lines: list[str], source: str, settings: TaskDefaults, problems: Problems
) -> Iterator[Record | None]:
    starts = [index for index, line in enumerate(lines) if _TABLE.match(line)]
    # Inline tables or a header inside a text make the count differ: then no line is better than a wrong one.
    located = len(starts) == len(tables)
    for index, table in enumerate(tables):
        first = starts[index] if located else None
        end = starts[index + 1] if located and index + 1 < len(starts) else len(lines)
        try:
            yield _record(table, None if first is None else first + 1, settings)
        except FieldError as error:
            line = None if first is None else _line_of_key(lines, error.key, first, end) or first + 1
            if line is None:
                error.message = f"task {index + 1}: {error.message}"
            problems.meet(_located(error, source, line))
            yield None


def _record_or_none(found: Any, line: int, source: str, defaults: TaskDefaults, problems: Problems) -> Record | None:
    try:
        return _record(found, line, defaults)
    except FieldError as error:
        problems.meet(_located(error, source, line))
        return None


def _record(found: Any, line: int | None, defaults: TaskDefaults) -> Record:
    """One record, checked whole. Raises FieldError."""
    if not isinstance(found, dict):
        raise FieldError("not a table of keys", expected='an object such as {"command": "sim --seed 1"}')
    check_keys(found, TASK_KEYS)
    if "command" not in found:
        raise FieldError("a task without command", expected="the key command")
    settings = settings_of(found)
    name = read_id(found)
    label = read_text("name", found["name"]) if isinstance(found.get("name"), str) else name
    if label is not None and "name" not in settings.labels:
        settings = msgspec.structs.replace(settings, labels={"name": label, **settings.labels})
    settings = settings.over(defaults)
    try:
        gang_size(settings.nodes, settings.roles or ())
    except ValueError as error:
        raise FieldError(str(error), key="roles" if "roles" in found else "nodes") from None
    spec = _spec(found, settings)
    for _, role_command in spec.role_commands:
        _check_runnable(role_command, "roles")
    return Record(line, spec, name, read_after(found["after"]) if "after" in found else ())


def _spec(found: dict[str, Any], settings: TaskDefaults) -> TaskSpec:
    kind = found.get("type")
    if kind is not None and kind not in _KINDS:
        raise FieldError(f"type is {kind!r}", expected="one of " + ", ".join(_KINDS), key="type")
    if kind == "container" and settings.image is None:
        raise FieldError("a container without image", expected="the key image", key="type")
    command = read_command(found["command"])
    if kind == "shell" and not isinstance(command, str):
        raise FieldError(
            "a shell task has one line", expected="a text", hint="type command takes a list", key="command"
        )
    stdin = read_stdin(found["stdin"]) if "stdin" in found else None
    if kind == "python":
        spec, payload = settings.spec(command, "python"), _payload(command, found)
        return msgspec.structs.replace(spec, payload=payload, stdin=stdin)
    for key in ("args", "kwargs"):
        if key in found:
            raise FieldError(f"{key} without type python", expected='"type": "python"', key=key)
    _check_runnable(command)
    spec = settings.spec(command)  # in a container wherever there is an image
    if stdin is None:
        return spec
    input_bytes = None if stdin.data is None else Bytes(len(stdin.data))
    return msgspec.structs.replace(spec, stdin=stdin, input_bytes=input_bytes)


def _payload(command: str | tuple[str, ...], found: Mapping[str, Any]) -> bytes:
    args, kwargs = found.get("args", []), found.get("kwargs", {})
    if not isinstance(command, str):
        raise FieldError("a python task has one text", expected='"module:function" or Python source', key="command")
    if not isinstance(args, list):
        raise FieldError("args is not a list", expected='"args": [1, "two"]', key="args")
    if not isinstance(kwargs, dict):
        raise FieldError("kwargs is not a table", expected='"kwargs": {"x": 1}', key="kwargs")
    try:
        return encode_call(python_call(command, args, kwargs))
    except (TypeError, ValueError, RecursionError) as error:
        raise FieldError(
            f"the arguments cannot be written as JSON: {error}", expected="JSON values", key="args"
        ) from None


def _check_runnable(command: str | tuple[str, ...], key: str = "command") -> None:
    if isinstance(command, str):
        error = line_error(command, "", None)
        if error is not None:
            raise FieldError(error.message, expected=error.expected, hint=error.hint, key=key)
    elif (reason := too_long(command)) is not None:
        raise FieldError(reason, expected="a shorter one", hint="put the long part into a file or into stdin", key=key)


def _job_of(table: Mapping[str, Any]) -> JobDefaults:
    check_keys(table, ("key", "name", "cwd", "env", "labels", "max_fails", "retry_limits", "data"), "[job] table")
    limits = table.get("retry_limits")
    if limits is not None:
        if not isinstance(limits, dict):
            raise FieldError("retry_limits is not a table", expected="[job.retry_limits]", key="retry_limits")
        check_keys(limits, ("failures", "memory", "losses", "timeouts"), "[job.retry_limits] table")
        limits = RetryLimits(**{key: read_count(key, value) for key, value in limits.items()})
    return JobDefaults(
        key=read_text("key", table["key"]) if "key" in table else None,
        name=read_text("name", table["name"]) if "name" in table else None,
        cwd=read_text("cwd", table["cwd"]) if "cwd" in table else None,
        env=read_texts("env", table.get("env", {})),
        labels=read_texts("labels", table.get("labels", {})),
        max_failed_tasks=read_count("max_fails", table["max_fails"], 1) if "max_fails" in table else None,
        retry_limits=limits,
        data=read_data("data", table["data"]) if "data" in table else None,
    )


def _line_of_key(lines: list[str], key: str | None, first: int, end: int) -> int | None:
    """The 1-based line between two places where a key is set or a table of that name starts, None when not found."""
    if key is None:
        return None
    pattern = re.compile(rf"\s*(?:[\"']?{re.escape(key)}[\"']?\s*[.=]|\[+\s*[\w.]*\b{re.escape(key)}\s*[\].])")
    return next((index + 1 for index in range(first, end) if pattern.match(lines[index])), None)


def _located(error: FieldError, source: str, line: int | None) -> InputError:
    return InputError(error.message, source=source, line=line, expected=error.expected, hint=error.hint)
