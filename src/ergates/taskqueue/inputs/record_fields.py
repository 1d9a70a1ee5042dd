"""What each key of a task record may hold, and what it becomes. One small function for each kind of value.

Keys of a task, in JSON Lines and TOML:

    id (or name)       how `after` of other tasks calls it; also its label `name`
    command            a line, a list of words, or for python "module:function" or source
    type               command (default) | shell | python | container
    priority           whole number, larger first
    cpus               cores, 0.5 for half of one
    memory             a floor: "2GiB", or bytes
    time_limit         "10m", or seconds
    retries            how often a failure is tried again
    env, labels        tables of texts
    cwd                directory
    after              id, number (1 is the first task) or range "1..100", or a list of these
    resources          {"gpus": 1}
    or                 {"cpus": 1, "gpus": 1}, or a list of these: tried where cpus and resources are not free
    require_labels     table of labels the node must carry
    requires           absolute path that must exist on the node, or a list of these
    min_time           "30m", or seconds: the worker must have that long to live
    nodes              so many nodes start it at once
    roles              {"server": 1, "client": {"count": 3, "command": "...", "require_labels": {"group": "big"}}}: members
                       of a gang; `require_labels` are of the nodes of such members, besides the task's
    inputs, outputs    paths that are brought to the node, or back; a text or a list; {#} is the task's number
    stdin              a text, or {"file": "path"}
    image, mounts      container image, list of "HOST:CONTAINER[:ro]"
    args, kwargs       arguments of a python task
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any, TypeVar

from ergates.cluster.task import Alternative, Stdin
from ergates.taskqueue.data_paths import checked_input, checked_output
from ergates.taskqueue.inputs.needs import NODES_MAX, Role, alternative_of, checked_data, checked_path, role_of
from ergates.taskqueue.inputs.request import TaskDefaults
from ergates.units import Bytes, MilliCpus, Nanoseconds, parse_bytes, parse_duration

SETTING_KEYS = (
    "priority", "cpus", "memory", "time_limit", "retries", "env", "labels", "cwd", "resources", "image", "mounts",
    "or", "require_labels", "requires", "min_time", "nodes", "roles", "inputs", "outputs",
)  # fmt: skip
TASK_KEYS = (*SETTING_KEYS, "id", "name", "command", "type", "after", "stdin", "args", "kwargs")

_ROLE_KEYS = ("count", "command", "require_labels")

T = TypeVar("T")
_COUNT_MAX = 1_000_000_000
_CPUS_MAX = 1_000_000
_INT64_MAX = 2**63 - 1


class FieldError(ValueError):
    """A key or its value is wrong. Whoever knows file and line makes an InputError of it."""

    def __init__(self, message: str, *, expected: str = "", hint: str = "", key: str | None = None) -> None:
        super().__init__(message)
        self.message, self.expected, self.hint, self.key = message, expected, hint, key


def check_keys(record: Mapping[str, Any], allowed: tuple[str, ...], where: str = "task") -> None:
    """Reject unknown keys, naming the nearest known one. Raises FieldError."""
    for key in record:
        if key not in allowed:
            nearest = get_close_matches(key, allowed, n=1, cutoff=0.4)
            hint = f"did you mean {nearest[0]!r}?" if nearest else ""
            raise FieldError(
                f"unknown key {key!r} in a {where}", expected="one of " + ", ".join(allowed), hint=hint, key=key
            )


def settings_of(record: Mapping[str, Any]) -> TaskDefaults:
    """The settings in a record (or `[defaults]` table); other keys are not looked at.

    Raises:
        FieldError: a value of the wrong kind.
    """
    given = {}
    for key, (field, read) in _SETTINGS.items():
        if key in record:
            given[field] = read(key, record[key])
    return TaskDefaults(**given)


def read_text(key: str, value: Any) -> str:
    """A text without NUL that is not empty."""
    if not isinstance(value, str) or not value:
        raise _wrong(key, value, "a text that is not empty")
    if "\0" in value:
        raise FieldError(f"{key} holds a NUL character", expected="a text without it", key=key)
    return value


def read_command(value: Any) -> str | tuple[str, ...]:
    """A command line or an argument vector."""
    if isinstance(value, list):
        if not value or not all(isinstance(word, str) for word in value) or not value[0]:
            raise _wrong("command", value, 'a list of texts such as ["sim", "--seed", "1"], the program first')
        if any("\0" in word for word in value):
            raise FieldError("command holds a NUL character", expected="texts without it", key="command")
        return tuple(value)
    line = read_text("command", value)
    if not line.strip():
        raise _wrong("command", value, "a command line or a list of words")
    return line


def read_stdin(value: Any) -> Stdin:
    """A text, or a table with the key `file`."""
    if isinstance(value, str):
        return Stdin(data=value.encode())
    if isinstance(value, dict) and set(value) == {"file"}:
        return Stdin(path=read_text("stdin.file", value["file"]))
    raise _wrong("stdin", value, 'a text, or {"file": "path"}')


def read_after(value: Any) -> tuple[str, ...]:
    """Ids, numbers and ranges as texts."""
    listed = value if isinstance(value, list) else [value]
    texts = []
    for each in listed:
        if not isinstance(each, str | int) or isinstance(each, bool) or each == "":
            raise _wrong("after", each, 'an id, a number from 1, a range such as "1..100", or a list of these')
        texts.append(str(each))
    return tuple(texts)


def read_id(record: Mapping[str, Any]) -> str | None:
    """The id of a task; `name` does where there is no `id`."""
    for key in ("id", "name"):
        if key in record:
            value = record[key]
            if isinstance(value, int) and not isinstance(value, bool):
                value = str(value)
            text = read_text(key, value)
            if ".." in text:
                raise FieldError(f"{key} {text!r} looks like a range", expected="an id without two dots", key=key)
            return text
    return None


def read_count(key: str, value: Any, least: int = 0) -> int:
    """A whole number from `least` to a thousand million."""
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= _COUNT_MAX:
        raise _wrong(key, value, f"a whole number from {least:,} to {_COUNT_MAX:,}")
    return value


def read_texts(key: str, value: Any) -> dict[str, str]:
    """A table of texts; numbers become texts."""
    if not isinstance(value, dict):
        raise _wrong(key, value, 'a table of texts such as {"NAME": "value"}')
    texts = {}
    for name, each in value.items():
        if isinstance(each, bool) or not isinstance(each, str | int | float):
            raise _wrong(f"{key}.{name}", each, "a text or a number")
        text = str(each)
        if not name or "\0" in name + text or (key == "env" and "=" in name):
            raise FieldError(
                f"{key} has an impossible entry {name!r}", expected="NAME without = and without NUL", key=key
            )
        texts[name] = text
    return texts


def _priority(key: str, value: Any) -> int:
    return read_count(key, value, -_COUNT_MAX)


def _cpus(key: str, value: Any) -> MilliCpus:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.001 <= value <= _CPUS_MAX:
        raise _wrong(key, value, "a number of cores such as 4 or 0.5, at least 0.001")
    return MilliCpus(round(value * 1000))


def _memory(key: str, value: Any) -> Bytes:
    size = value
    if isinstance(value, str):
        try:
            size = parse_bytes(value)
        except (ValueError, OverflowError):
            size = None
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= _INT64_MAX:
        raise _wrong(key, value, 'a size such as "2GiB" or "500MB", or a number of bytes')
    return Bytes(size)


def _time_limit(key: str, value: Any) -> Nanoseconds:
    limit_ns = None
    if isinstance(value, str):
        try:
            limit_ns = parse_duration(value)
        except (ValueError, OverflowError):
            limit_ns = None
    elif isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= _INT64_MAX // 10**9:
        limit_ns = Nanoseconds(round(value * 10**9))
    if limit_ns is None or not 0 < limit_ns <= _INT64_MAX:
        raise _wrong(key, value, 'a duration such as "10m" or "1h30m", or a number of seconds above 0')
    return limit_ns


def _resources(key: str, value: Any) -> tuple[tuple[str, int], ...]:
    if not isinstance(value, dict):
        raise _wrong(key, value, 'a table such as {"gpus": 1}')
    amounts = sorted((name, read_count(f"{key}.{name}", amount)) for name, amount in value.items())
    return tuple((name, amount) for name, amount in amounts if amount)


def _mounts(key: str, value: Any) -> tuple[str, ...]:
    expected = 'a list of "HOST:CONTAINER" or "HOST:CONTAINER:ro"'
    if not isinstance(value, list):
        raise _wrong(key, value, expected)
    for mount in value:
        parts = read_text(key, mount).split(":")
        if (
            len(parts) not in (2, 3)
            or not parts[0]
            or not parts[1].startswith("/")
            or parts[2:] not in ([], ["ro"], ["rw"])
        ):
            raise _wrong(key, mount, expected)
    return tuple(value)


def _alternatives(key: str, value: Any) -> tuple[Alternative, ...]:
    tables = value if isinstance(value, list) else [value]
    if not tables or not all(isinstance(table, dict) for table in tables):
        raise _wrong(key, value, 'a table such as {"cpus": 1, "gpus": 1}, or a list of these')
    return tuple(_read(key, alternative_of, table) for table in tables)


def _paths_needed(key: str, value: Any) -> tuple[str, ...]:
    return tuple(_read(key, checked_path, path) for path in read_list(key, value))


def _roles(key: str, value: Any) -> tuple[Role, ...]:
    expected = 'a table such as {"server": 1, "client": {"count": 3, "command": "./client", "require_labels": {"group": "big"}}}'
    if not isinstance(value, dict) or not value:
        raise _wrong(key, value, expected)
    return tuple(_role(key, name, each, expected) for name, each in value.items())


def _role(key: str, name: str, value: Any, expected: str) -> Role:
    said = {"count": value} if isinstance(value, int) else value
    place = f"{key}.{name}"
    if not isinstance(said, dict):
        raise _wrong(place, value, expected)
    for unknown in sorted(said.keys() - set(_ROLE_KEYS)):
        close = get_close_matches(unknown, _ROLE_KEYS, n=1)
        hint = f"did you mean {close[0]!r}?" if close else ""
        raise FieldError(f"{place} has a key {unknown!r}", expected=" and ".join(_ROLE_KEYS), hint=hint, key=key)
    if "count" not in said:
        raise FieldError(f"{place} has no count", expected=expected, key=key)
    count = read_count(f"{place}.count", said["count"], 1)
    command = read_command(said["command"]) if "command" in said else None
    labels = read_texts(f"{place}.require_labels", said.get("require_labels", {}))
    return _read(key, role_of, name, count, command, labels)


def _nodes(key: str, value: Any) -> int:
    nodes = read_count(key, value, 1)
    if nodes > NODES_MAX:
        raise _wrong(key, value, f"a whole number from 1 to {NODES_MAX:,}")
    return nodes


def read_list(key: str, value: Any) -> tuple[str, ...]:
    """A text or a list of texts, none of them empty."""
    return tuple(read_text(key, each) for each in (value if isinstance(value, list) else [value]))


def read_inputs(key: str, value: Any) -> tuple[str, ...]:
    """Paths below the job's data, or URLs."""
    texts = read_list(key, value)
    for text in texts:
        _read(key, checked_input, text)
    return texts


def read_outputs(key: str, value: Any) -> tuple[str, ...]:
    """Paths or patterns below the work directory."""
    texts = read_list(key, value)
    for text in texts:
        _read(key, checked_output, text)
    return texts


def read_data(key: str, value: Any) -> str:
    """Where the inputs of a job come from."""
    return _read(key, checked_data, read_text(key, value))


def _read(key: str, read: Callable[..., T], *values: object) -> T:
    try:
        return read(*values)
    except ValueError as error:
        raise FieldError(f"{key}: {error}", key=key) from None


_SETTINGS: dict[str, tuple[str, Callable[[str, Any], Any]]] = {
    "priority": ("priority", _priority),
    "cpus": ("cpus_milli", _cpus),
    "memory": ("memory_bytes", _memory),
    "time_limit": ("time_limit_ns", _time_limit),
    "retries": ("retries", read_count),
    "env": ("env", read_texts),
    "labels": ("labels", read_texts),
    "cwd": ("cwd", read_text),
    "resources": ("resources", _resources),
    "image": ("image", read_text),
    "mounts": ("mounts", _mounts),
    "or": ("alternatives", _alternatives),
    "require_labels": ("require_labels", read_texts),
    "requires": ("requires", _paths_needed),
    "min_time": ("min_time_ns", _time_limit),
    "nodes": ("nodes", _nodes),
    "roles": ("roles", _roles),
    "inputs": ("inputs", read_inputs),
    "outputs": ("outputs", read_outputs),
}


def _wrong(key: str, value: Any, expected: str) -> FieldError:
    shown = repr(value)
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    return FieldError(f"{key} is {shown}", expected=expected, key=key.partition(".")[0])
