"""`[hosts]` and `[roles]`: which machines there are, and what each is in a run."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path as FilePath
from typing import Any, cast, get_args

from ergates.cluster.host_list import Host, named_hosts, read_hosts
from ergates.errors import InputError, UsageError
from ergates.experiment.node_plan import ORDER
from ergates.experiment.points import COUNT_TEMPLATE
from ergates.experiment.reading.read_problems import nearest
from ergates.experiment.reading.read_sweep import NAME, NAME_WORDS
from ergates.experiment.reading.read_table import Table, checked_value
from ergates.experiment.spec import HostGroup, HostKind, Role, Value
from ergates.units import MilliCpus, Nanoseconds

KINDS: tuple[str, ...] = get_args(HostKind)
SETTINGS = (*ORDER, "thp", "epp", "boost")
"""What `erg node prepare` can set, by the names it takes (drivers/nodes/catalogue.py)."""
HERE = HostGroup(name="here", kind="local")
"""The hosts of a file that names none."""
UNKNOWN_COUNT = 0
"""Of a group that cannot be read: there is a problem already, and how many hosts roles need says nothing more."""
ONLY_ROLE = "main"
"""The role of a file that names none."""
_RATE = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*(|k|m|g)(?:bit(?:/s|ps)?)?\s*", re.IGNORECASE)
_RATE_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}


def parse_rate(text: str) -> int:
    """Bits a second: `100mbit`, `1gbit`, `9600`.

    Raises:
        ValueError: none of these.
    """
    match = _RATE.fullmatch(text)
    rate = round(float(match[1]) * _RATE_UNITS[match[2].lower()]) if match else 0
    if rate < 1:
        raise ValueError(f"expected a rate such as 100mbit or 1gbit, got {text!r}")
    return rate


def _parse_cpus(text: str) -> MilliCpus:
    milli = round(float(text) * 1000)
    if milli < 1:
        raise ValueError(text)
    return MilliCpus(milli)


def read_groups(document: Table, here: FilePath) -> tuple[HostGroup, ...]:
    """All of `[hosts]`; this machine when there is none.

    Args:
        document: the whole file.
        here: folder of the file: where files of hosts are looked for.
    """
    table = document.table("hosts")
    if table is None or not table.data:
        return (HERE,)
    return tuple(_group(table, name, here) for name in table.data)


def _group(parent: Table, name: str, here: FilePath) -> HostGroup:
    if not NAME.fullmatch(name):
        parent.wrong(name, "cannot be the name of hosts", expected=NAME_WORDS)
    raw: Any = parent.raw(name)
    shown = f"[{'.'.join(map(str, (*parent.path, name)))}]"
    if isinstance(raw, str):  # here = "local"
        raw = {"kind": raw}
    elif isinstance(raw, list):  # lab = ["node1", "node2"]
        raw = {"kind": "ssh", "hosts": raw}
    if not isinstance(raw, dict):
        parent.wrong(name, "is no group of hosts", expected='[hosts.NAME] with kind = "local", or NAME = "local"')
        return HostGroup(name=name, kind="local", count=UNKNOWN_COUNT)
    table = Table(raw, (*parent.path, name), shown, parent.problems)
    kind = _kind(table)
    if kind is None:
        return HostGroup(name=name, kind="local", count=UNKNOWN_COUNT)
    return _READERS[kind](table, name, here)


def _kind(table: Table) -> HostKind | None:
    if "kind" not in table and ("hosts" in table or "file" in table):
        return "ssh"
    if "kind" not in table:
        table.problems.add(table.path, f"{table.shown} has no kind", expected=f"kind = one of {', '.join(KINDS)}")
    return cast("HostKind | None", table.choice("kind", KINDS, "") or None)


def _local(table: Table, name: str, here: FilePath) -> HostGroup:
    count = table.integer("count", 1, least=1)
    if count > 1:
        hint = 'kind = "namespaces" or "simulated" make several hosts of it; one role may start several programs'
        table.wrong("count", "this machine is one host", hint=hint)
        count = UNKNOWN_COUNT
    group = HostGroup(name=name, kind="local", count=count, **_of_all(table, here))
    _end(table, "local")
    return group


def _simulated(table: Table, name: str, here: FilePath) -> HostGroup:
    group = HostGroup(name=name, kind="simulated", count=table.integer("count", 1, least=1), **_of_all(table, here))
    _end(table, "simulated")
    return group


def _namespaces(table: Table, name: str, here: FilePath) -> HostGroup:
    group = HostGroup(
        name=name,
        kind="namespaces",
        count=table.integer("count", 1, least=1),
        rate_bit_s=table.parsed("rate", None, parse_rate, "a rate such as 100mbit or 1gbit"),
        delay_ns=table.duration("delay", Nanoseconds(0)),
        **_of_all(table, here),
    )
    _end(table, "namespaces")
    return group


def _ssh(table: Table, name: str, here: FilePath) -> HostGroup:
    before = len(table.problems)
    listed = [*_named(table), *_from_file(table, here)]
    twice = {host for host in listed if listed.count(host) > 1}
    if twice:
        table.problems.add(table.path, f"{table.shown} names {', '.join(sorted(twice))} twice")
    if not listed and len(table.problems) == before:
        table.problems.add(
            table.path, f"{table.shown} names no host", expected='hosts = ["node[1-4]"] or file = "hosts.txt"'
        )
    hosts = tuple(dict.fromkeys(listed))
    group = HostGroup(
        name=name,
        kind="ssh",
        hosts=hosts,
        count=len(hosts),
        directory=table.text("directory"),
        send=table.texts("send"),
        **_of_all(table, here),
    )
    if table.integer("count", len(hosts), least=1) != len(hosts) and hosts:
        table.wrong("count", f"{len(hosts)} hosts are named", hint="leave count out: all of them belong to the group")
    for index, each in enumerate(group.send):
        if not (here / each).exists():
            table.problems.add((*table.path, "send", index), f"no file or folder {here / each} to send")
    _end(table, "ssh")
    return group


def _slurm(table: Table, name: str, here: FilePath) -> HostGroup:
    group = HostGroup(
        name=name,
        kind="slurm",
        count=table.integer("count", 1, least=1),
        options=table.texts("options"),
        time_ns=table.duration("time"),
        **_of_all(table, here),
    )
    _end(table, "slurm")
    return group


_READERS: dict[HostKind, Callable[[Table, str, FilePath], HostGroup]] = {
    "local": _local,
    "simulated": _simulated,
    "namespaces": _namespaces,
    "ssh": _ssh,
    "slurm": _slurm,
}


def _of_all(table: Table, here: FilePath) -> dict[str, Any]:
    """What groups of every kind have."""
    setup = table.text("setup")
    if setup and not (here / setup).is_file():
        table.wrong("setup", f"no file {here / setup}", expected="a script, relative to the experiment's file")
    return {
        "cpus_milli": table.parsed("cpus", None, _parse_cpus, "a number of cores such as 2 or 0.5"),
        "memory_bytes": table.size("memory"),
        "setup": setup,
        "prepare": _settings(table),
    }


def _settings(table: Table) -> tuple[tuple[str, str], ...]:
    inner = table.table("prepare")
    if inner is None:
        return ()
    found = []
    for key in inner.data:
        raw = inner.raw(key)
        name = key.partition("@")[0]
        if name not in SETTINGS:
            inner.wrong(key, f"no setting {name!r} of a node", hint=nearest(name, SETTINGS))
        listed = raw if isinstance(raw, list) else [raw]
        values = [checked_value(each, (*inner.path, key), f"{inner.shown} {key}", inner.problems) for each in listed]
        found.append((key, ",".join(_setting_text(each) for each in values if each is not None)))
    return tuple(found)


def _setting_text(value: Value) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value)


def _end(table: Table, kind: str) -> None:
    table.raw("kind")
    table.shown = f"{table.shown} of kind {kind}"
    table.end()


def _named(table: Table) -> list[str]:
    found: list[str] = []
    for word in table.texts("hosts"):
        try:
            found += _plain_names(named_hosts(word), table, "hosts")
        except UsageError as error:
            message = str(error).removeprefix("--host: ").partition("\n")[0]
            table.wrong("hosts", message, expected="[user@]host[:port], with ranges such as node[01-16]")
    return found


def _from_file(table: Table, here: FilePath) -> list[str]:
    name = table.text("file")
    if not name:
        return []
    path = here / FilePath(name).expanduser()
    try:
        return _plain_names(read_hosts(path.read_text().splitlines(), str(path)), table, "file")
    except InputError as error:
        table.wrong("file", f"{error.message} ({error.source}:{error.line or 1})", expected=error.expected)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        table.wrong("file", f"cannot read {path}: {reason}", expected="a file with one host a line")
    return []


def _plain_names(hosts: Sequence[Host], table: Table, key: str) -> list[str]:
    """Limits belong to the group: what a run may use must not differ from host to host."""
    for host in hosts:
        if host.cpus_milli is not None or host.memory_bytes is not None:
            table.wrong(
                key, f"{host.name} has limits of its own", hint="make it a group of its own, with cpus and memory"
            )
            break
    return [host.name for host in hosts]


def read_roles(document: Table, groups: Sequence[HostGroup]) -> tuple[Role, ...]:
    """All of `[roles]`; one role on the only host when there is none."""
    table = document.table("roles")
    if table is None or not table.data:
        if len(groups) > 1 or groups[0].count > 1:
            document.problems.add(
                ("roles",) if table is not None else ("hosts",),
                "several hosts and no role",
                expected=f'[roles] with a line such as server = "{groups[0].name}"',
            )
        return (Role(name=ONLY_ROLE, group=groups[0].name),)
    return tuple(_role(table, name, [group.name for group in groups]) for name in table.data)


def _role(parent: Table, name: str, groups: Sequence[str]) -> Role:
    if not NAME.fullmatch(name):
        parent.wrong(name, "cannot be the name of a role", expected=NAME_WORDS)
    raw: Any = parent.raw(name)
    if isinstance(raw, str) and not COUNT_TEMPLATE.fullmatch(raw):  # server = "lab"
        raw = {"hosts": raw}
    elif isinstance(raw, int | str) and not isinstance(raw, bool):  # client = 2, client = "{clients}"
        raw = {"count": raw}
    if not isinstance(raw, dict):
        parent.wrong(name, "is no role", expected='a group of hosts, or { hosts = "lab", count = 2 }')
        return Role(name=name, group=groups[0])
    path = (*parent.path, name)
    table = Table(raw, path, f"[{'.'.join(map(str, path))}]", parent.problems)
    key = "group" if "group" in table and "hosts" not in table else "hosts"  # either word will do
    group = table.text(key)
    if key not in table and len(groups) == 1:
        group = groups[0]
    elif key not in table:
        table.problems.add(
            path, f"{table.shown} says not on which hosts", expected=f"hosts = one of {', '.join(groups)}"
        )
        group = groups[0]
    elif group not in groups:
        table.wrong(key, f"no hosts {group!r}", hint=nearest(group, groups))
        group = groups[0]
    role = Role(name=name, group=group, count=_role_count(table))
    table.end()
    return role


def _role_count(table: Table) -> int | str:
    raw: Value | None = table.raw("count")
    if isinstance(raw, str):
        if not COUNT_TEMPLATE.fullmatch(raw):
            table.wrong(
                "count", f"cannot read {raw!r}", expected='a number, or the name of an axis such as "{clients}"'
            )
            return 1
        return raw
    return table.integer("count", 1, least=1)
