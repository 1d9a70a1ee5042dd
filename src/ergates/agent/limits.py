"""What a worker may use now. The last word wins: its options, then its node file, then orders from the store.

A node file is TOML that the worker looks at again every now and then, so that whoever owns the machine can change it there:

```toml
cpus = 4
memory = "8GiB"
jobs = 6
drain = false
[labels]
rack = "b2"
```
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from ergates.cluster.node import NodeCapacity, WorkerOrders
from ergates.drivers import machine
from ergates.errors import InputError
from ergates.taskqueue.slots import UNLIMITED
from ergates.units import Bytes, MilliCpus, parse_bytes

LOOK_NS = 20_000_000_000
_NOTHING = WorkerOrders()


class NodeFile:
    """A file of limits. A file that is not there limits nothing."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self.orders = _NOTHING

    def changed(self) -> bool:
        """Look again; True when `orders` are other ones now.

        Raises:
            InputError: it cannot be understood; `orders` stay as they were.
        """
        try:
            facts = Path(self._path).stat()
        except FileNotFoundError:
            facts = None
        except OSError as error:
            raise InputError(f"cannot be read: {error.strerror}", source=self._path) from None
        seen = (0, 0, 0) if facts is None else (facts.st_mtime_ns, facts.st_size, facts.st_ino)
        if seen == self._seen:
            return False
        self._seen = seen
        before = self.orders
        self.orders = _NOTHING if facts is None else read_node_file(self._path)
        return self.orders != before


def read_node_file(path: str) -> WorkerOrders:
    """Raises InputError."""
    try:
        with open(path, "rb") as file:
            table = tomllib.load(file)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(str(error), source=path, expected='TOML, for example memory = "8GiB"') from None
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", source=path) from None
    found: dict[str, Any] = {}
    for name, value in table.items():
        if name not in _READERS:
            close = get_close_matches(name, _READERS, n=1)
            hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(_READERS)}"
            raise InputError(f"no setting {name!r} of a node", source=path, hint=hint)
        field, read, expected = _READERS[name]
        try:
            found[field] = read(value)
        except (ValueError, TypeError):
            raise InputError(f"{name} = {value!r}", source=path, expected=expected) from None
    return WorkerOrders(**found)


class Limits:
    """The limits in effect.

    Args:
        base: capacity by options and by what the machine has.
        jobs: attempts at once by options; None for no limit.
        pin: cores are handed out one by one, so there are no more than there are.
    """

    def __init__(self, base: NodeCapacity, jobs: int | None, *, pin: bool = False) -> None:
        self._base, self._jobs, self._pin = base, jobs, pin
        self.file = self.store = _NOTHING

    @property
    def drain(self) -> bool:
        """Whether it is to start nothing new."""
        return self.file.drain or self.store.drain

    @property
    def give_back(self) -> bool:
        """Whether it is to return what runs, too."""
        return (self.file.drain and self.file.give_back) or (self.store.drain and self.store.give_back)

    def capacity(self) -> tuple[NodeCapacity, int]:
        """What the worker may use, and how many attempts at once."""
        base, spoken = self._base, (self.store, self.file)
        cpus = next((said.cpus_milli for said in spoken if said.cpus_milli is not None), None)
        memory = next((said.memory_bytes for said in spoken if said.memory_bytes is not None), None)
        jobs = next((said.jobs for said in spoken if said.jobs is not None), self._jobs)
        if cpus is None:  # who asks for 100 at once on two cores means it
            cpus = MilliCpus(max(base.cpus_milli, 0 if jobs is None or self._pin else 1000 * jobs))
        there = max(base.memory_bytes, machine_memory())
        labels = {**base.labels, **self.file.labels, **self.store.labels}
        capacity = replace(
            base,
            cpus_milli=cpus,
            memory_bytes=base.memory_bytes if memory is None else Bytes(min(memory, there)),
            labels={name: value for name, value in labels.items() if value},
        )
        return capacity, UNLIMITED if jobs is None else jobs


def machine_memory() -> Bytes:
    """The most a worker may ever be given here."""
    limit = machine.memory_limit()
    return machine.memory_total_bytes() if limit is None else limit.limit_bytes


def _cores(value: object) -> MilliCpus:
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        raise ValueError
    return MilliCpus(round(value * 1000))


def _size(value: object) -> Bytes:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError
    return parse_bytes(str(value))


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError
    return value


def _yes(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError
    return value


def _labels(value: object) -> dict[str, str]:
    if not isinstance(value, Mapping) or not all(isinstance(word, str) for word in value.values()):
        raise ValueError
    return dict(value)


_READERS: dict[str, tuple[str, Callable[[object], Any], str]] = {
    "cpus": ("cpus_milli", _cores, "a number of cores, for example 2 or 0.5"),
    "memory": ("memory_bytes", _size, 'a size, for example "8GiB"'),
    "jobs": ("jobs", _count, "a number of tasks at once, 1 or more"),
    "labels": ("labels", _labels, 'a table of words, for example rack = "b2" under [labels]'),
    "drain": ("drain", _yes, "true or false"),
    "give_back": ("give_back", _yes, "true or false"),
}
"""Setting: field of WorkerOrders, what reads it, what was expected."""
