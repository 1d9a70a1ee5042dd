"""What a task needs beyond cores and memory, as people write it: alternatives, gangs, files, where data comes from.

The command line has a short text for each (`cpus=1,gpus=1`, `server=1@group=big:CMD`), JSON Lines and TOML have tables; both
become the same records here. Errors are ValueErrors that say what was expected; whoever knows the place (an option, a line)
adds it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from msgspec import Struct

from ergates.cluster.task import Alternative
from ergates.units import MilliCpus

AMOUNT_MAX = 1_000_000_000
CPUS_MAX = 1_000_000
NODES_MAX = 100_000
_NAME = re.compile(r"[A-Za-z_][\w.-]*")
_REMOTE = re.compile(r"[a-z][a-z0-9+.-]*://[^\s]+|[^\s/:]+:/[^\0]*|/[^\0]*")
_PASSWORD = re.compile(r"[a-z][a-z0-9+.-]*://[^/@\s]*:[^/@\s]*@")


class Role(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`count` members of a gang that go by `name`; `command` None: they run the task's own.

    `labels` are sorted (name, value) that the node of such a member must carry.
    """

    name: str
    count: int
    command: str | tuple[str, ...] | None = None
    labels: tuple[tuple[str, str], ...] = ()


def parse_alternative(text: str) -> Alternative:
    """Read `cpus=1,gpus=1`; without `cpus` it is one core.

    Raises:
        ValueError: another form.
    """
    table: dict[str, object] = {}
    for part in text.split(","):
        name, equals, amount = (piece.strip() for piece in part.partition("="))
        if not equals or name in table:
            raise ValueError(f"expected NAME=AMOUNT,... such as cpus=1,gpus=1, each name once; got {text!r}")
        try:
            table[name] = float(amount) if name == "cpus" else int(amount)
        except ValueError:
            raise ValueError(f"expected a number for {name}, got {amount!r}") from None
    return alternative_of(table)


def alternative_of(table: Mapping[str, object]) -> Alternative:
    """Read `{"cpus": 1, "gpus": 1}`. Raises ValueError."""
    if not table:
        raise ValueError("expected cores or resources such as cpus=1,gpus=1")
    cpus: object = 1
    amounts: list[tuple[str, int]] = []
    for name, amount in table.items():
        if name == "cpus":
            cpus = amount
        elif name == "memory":
            raise ValueError("the memory is the same for all alternatives; leave it out here")
        elif not isinstance(amount, int) or isinstance(amount, bool) or not 0 <= amount <= AMOUNT_MAX:
            raise ValueError(f"expected a whole number for {name}, got {amount!r}")
        elif not _NAME.fullmatch(name):
            raise ValueError(f"expected the name of a resource such as gpus, got {name!r}")
        elif amount:
            amounts.append((name, amount))
    if not isinstance(cpus, int | float) or isinstance(cpus, bool) or not 0.001 <= cpus <= CPUS_MAX:
        raise ValueError(f"expected a number of cores such as 2 or 0.5, got {cpus!r}")
    return Alternative(cpus_milli=MilliCpus(round(cpus * 1000)), resources=tuple(sorted(amounts)))


def parse_role(text: str) -> Role:
    """Read `NAME=COUNT[@LABEL=VALUE,...][:COMMAND]`. Raises ValueError."""
    name, equals, rest = text.partition("=")
    head, colon, command = rest.partition(":")
    count, at, labels = head.partition("@")
    if not equals or not count.isdecimal() or (colon and not command.strip()):
        raise ValueError(
            "expected NAME=COUNT, NAME=COUNT:COMMAND or NAME=COUNT@LABEL=VALUE,...:COMMAND such as server=1@group=big:'./serve',"
            f" got {text!r}"
        )
    return role_of(name, int(count), command if colon else None, _parse_labels(name, labels) if at else {})


def _parse_labels(role: str, text: str) -> dict[str, str]:
    """Values without commas and colons: JSON Lines and TOML take others."""
    found: dict[str, str] = {}
    for part in text.split(","):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not name or not value or name in found:
            raise ValueError(
                f"the labels of {role}: expected LABEL=VALUE,... such as group=big,rack=a, each label once; got {text!r}"
            )
        found[name] = value
    return found


def role_of(
    name: str, count: int, command: str | tuple[str, ...] | None, labels: Mapping[str, str] | None = None
) -> Role:
    """A checked role. Raises ValueError."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"expected a name of letters, digits, _ . and -, got {name!r}")
    if not 1 <= count <= NODES_MAX:
        raise ValueError(f"expected a count from 1 to {NODES_MAX:,}, got {count}")
    if command is not None and "\0" in "".join(command):
        raise ValueError(f"the command of {name} holds a NUL character")
    for label, value in (labels or {}).items():
        if not value:
            raise ValueError(f"the label {label} of {name} is empty: no node carries such a label")
    return Role(name=name, count=count, command=command, labels=tuple(sorted((labels or {}).items())))


def gang_size(nodes: int | None, roles: Iterable[Role]) -> int:
    """How many nodes a task needs at once.

    Raises:
        ValueError: a role is there twice, or the roles do not add up to `nodes`.
    """
    names: set[str] = set()
    total = 0
    for role in roles:
        if role.name in names:
            raise ValueError(f"the role {role.name} is there twice")
        names.add(role.name)
        total += role.count
    if names and nodes is not None and nodes != total:
        raise ValueError(f"the roles add up to {total} nodes, and nodes is {nodes}; leave nodes out")
    return total or nodes or 1


def checked_path(path: str) -> str:
    """A path that must exist on a node: absolute. Raises ValueError."""
    if not path.startswith("/") or "\0" in path:
        raise ValueError(f"expected an absolute path such as /data/traces, got {path!r}")
    return path.rstrip("/") or "/"


def checked_data(text: str) -> str:
    """Where inputs come from. Raises ValueError; a password would lie in the store and in every report, so there is none."""
    if _PASSWORD.match(text):
        raise ValueError(
            "a password does not belong here; keep it in the configuration of ssh or of the cloud's library"
        )
    if not _REMOTE.fullmatch(text):
        raise ValueError(f"expected s3://bucket/folder, sftp://host/folder, host:/folder or /folder, got {text!r}")
    return text
