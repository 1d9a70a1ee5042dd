"""Which hosts: a plain file as pdsh and distComp read it, or names on the command line.

```
# a comment
node[01-16]                       # node01 ... node16
alice@gpu1:2222  cpus=8 memory=60GiB  kind=gpu
[fe80::1]:22
```
Each line names one host or a range, then what its worker may use (`cpus=`, `memory=`) and labels. Pure: text in, hosts out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from ergates.errors import InputError, UsageError
from ergates.units import Bytes, MilliCpus, parse_bytes

RANGE_MAX = 10_000
"""Hosts that one bracket may stand for: more is a slip of the finger."""
_EXPECTED = "[user@]host[:port] with ranges such as node[01-16], then cpus=N, memory=SIZE, label=value"
_PLACE = re.compile(
    r"(?:(?P<user>[A-Za-z0-9_][\w.+\\-]*)@)?"
    r"(?:\[(?P<ipv6>[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(?:%\w+)?)\]|(?P<host>[A-Za-z0-9_][\w.\-]*|[0-9A-Fa-f]*:[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*))"
    r"(?::(?P<port>[0-9]{1,5}))?",
    re.ASCII,
)
_BRACKET = re.compile(r"\[([0-9,\-]+)\]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """One host to reach.

    Args:
        name: as written, ranges resolved: `user@host:port`. Names it in tables and in `placed_by`.
        address: what ssh is given: a name, an address or an alias of the user's ssh configuration.
        user, port: empty and 0 where ssh's own configuration decides.
        cpus_milli, memory_bytes: limits of its worker; None leaves them to what the node has.
    """

    name: str
    address: str
    user: str = ""
    port: int = 0
    cpus_milli: MilliCpus | None = None
    memory_bytes: Bytes | None = None
    labels: dict[str, str] = field(default_factory=dict)


def read_hosts(lines: Iterable[str], source: str) -> tuple[Host, ...]:
    """The hosts of a file, in its order.

    Raises:
        InputError: a line that cannot be read, or a host that was named before; nothing is left out silently.
    """
    hosts: list[Host] = []
    named: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        try:
            found = list(_hosts_of(words))
        except ValueError as error:
            raise InputError(str(error), source=source, line=number, expected=_EXPECTED) from error
        for host in found:
            if host.name in named:
                raise InputError(
                    f"host {host.name} was named before, in line {named[host.name]}",
                    source=source,
                    line=number,
                    hint="several workers on one host: --count N",
                )
            named[host.name] = number
        hosts += found
    if not hosts:
        raise InputError("names no hosts", source=source, expected=_EXPECTED)
    return tuple(hosts)


def named_hosts(text: str) -> tuple[Host, ...]:
    """`--host a,user@b,node[1-4]`: the hosts, in this order.

    Raises:
        UsageError: one cannot be read, or is named twice.
    """
    hosts: list[Host] = []
    for word in re.split(r",(?![^\[]*\])", text):
        try:
            hosts += _hosts_of([word.strip()])
        except ValueError as error:
            raise UsageError(f"--host: {error}\n  expected: names such as a,user@b,node[01-16]") from error
    seen: set[str] = set()
    for host in hosts:
        if host.name in seen:
            raise UsageError(f"--host: {host.name} is named twice\n  hint: several workers on one host: --count N")
        seen.add(host.name)
    return tuple(hosts)


def _hosts_of(words: list[str]) -> Iterator[Host]:
    cpus, memory, labels = _settings_of(words[1:])
    for name in _expanded(words[0]):
        match = _PLACE.fullmatch(name)
        port = int(match["port"] or 0) if match else 0
        if match is None or port > 65535 or match["port"] == "0":
            raise ValueError(f"cannot read the host {name!r}")
        yield Host(
            name=name,
            address=match["ipv6"] or match["host"],
            user=match["user"] or "",
            port=port,
            cpus_milli=cpus,
            memory_bytes=memory,
            labels=labels,
        )


def _settings_of(words: list[str]) -> tuple[MilliCpus | None, Bytes | None, dict[str, str]]:
    cpus: MilliCpus | None = None
    memory: Bytes | None = None
    labels: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key or not value:
            raise ValueError(f"cannot read {word!r}")
        if key in labels or (key == "cpus" and cpus) or (key == "memory" and memory):
            raise ValueError(f"{key}= is there twice")
        if key == "cpus":
            cpus = _cpus(value)
        elif key == "memory":
            memory = parse_bytes(value)
        else:
            labels[key] = value
    return cpus, memory, labels


def _cpus(text: str) -> MilliCpus:
    milli = round(float(text) * 1000) if re.fullmatch(r"[0-9]+(\.[0-9]+)?", text) else 0
    if milli < 1:
        raise ValueError(f"expected a number of cores such as 2 or 0.5, got {text!r}")
    return MilliCpus(milli)


def _expanded(text: str) -> Iterator[str]:
    """`rack[1-2]n[01-03]` as its six names; numbers keep their leading zeros."""
    match = _BRACKET.search(text)
    if match is None:
        yield text
        return
    for piece in _numbers(match[1], text):
        for rest in _expanded(text[match.end() :]):
            yield f"{text[: match.start()]}{piece}{rest}"


def _numbers(text: str, whole: str) -> list[str]:
    found: list[str] = []
    for piece in text.split(","):
        first, dash, last = piece.partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            raise ValueError(f"cannot read the range [{text}] of {whole!r}")
        low, high = int(first), int(last or first)
        if high < low:
            raise ValueError(f"the range [{text}] of {whole!r} runs backwards")
        if len(found) + high - low >= RANGE_MAX:
            raise ValueError(f"the range [{text}] of {whole!r} names more than {RANGE_MAX:,} hosts")
        found += [str(number).zfill(len(first)) for number in range(low, high + 1)]
    return found
