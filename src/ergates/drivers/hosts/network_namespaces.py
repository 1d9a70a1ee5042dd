"""Network namespaces joined by a switch: made, limited, removed. Nothing of it is seen outside of them.

The switch is a bridge in a namespace of its own. So it meets no firewall of the machine (Docker's drops what crosses a bridge of
the machine), no address of the machine collides with theirs, and nothing but their own programs can be reached from them.

```
 erg-1a2b3c          the switch: bridge br
   p1  p2  p3        one port each
   │   │   │         veth pairs
 eth0 eth0 eth0
 erg-1a2b3c-1 ...    10.x.y.1, ...
```
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from ergates.errors import ErgatesError, UsageError
from ergates.units import Nanoseconds

PREFIX = "erg-"
NAMED = Path("/run/netns")
MOST = 250
"""Hosts on one switch: they share a network of 254 addresses."""
BRIDGE, LINK = "br", "eth0"
LATENCY = "50ms"
"""What waits longer for its turn on a limited link is dropped: as much as switches commonly hold."""
BURST_S = 0.005
BURST_BYTES_MIN = 16 * 1024


class Switch:
    """The namespaces of one experiment.

    Args:
        token: six characters that no other experiment's has.
    """

    def __init__(self, token: str) -> None:
        self._hub = PREFIX + token
        self._network = f"10.{int(token[:2], 16)}.{int(token[2:4], 16)}"

    def name(self, number: int) -> str:
        """Of a host's namespace; numbers begin at 1."""
        return f"{self._hub}-{number}"

    def address(self, number: int) -> str:
        return f"{self._network}.{number}"

    def enter(self, number: int) -> tuple[str, ...]:
        """What a command is run by; `ip netns exec` would hide the control groups from it."""
        return ("nsenter", f"--net={NAMED / self.name(number)}", "--")

    def make(self) -> None:
        """The switch itself, unless it is there."""
        if not (NAMED / self._hub).exists():
            _run("ip", "netns", "add", self._hub)
        if _trial("ip", "-n", self._hub, "link", "show", "dev", BRIDGE):  # whoever began it may have been killed
            _batch(self._hub, f"link add name {BRIDGE} type bridge forward_delay 0")
        _batch(self._hub, f"link set dev {BRIDGE} up")

    def add(self, number: int, rate_bit_s: int | None, delay_ns: Nanoseconds) -> None:
        """A host's namespace with its link, made anew where there was one."""
        name, port = self.name(number), f"p{number}"
        self.remove(number)
        _run("ip", "netns", "add", name)
        _batch(
            self._hub,
            f"link add name {port} type veth peer name {LINK} netns {name}",
            f"link set dev {port} master {BRIDGE} up",
        )
        _batch(
            name, "link set dev lo up", f"address add {self.address(number)}/24 dev {LINK}", f"link set dev {LINK} up"
        )
        for words in shaping(LINK, rate_bit_s, delay_ns):
            _run("tc", "-n", name, *words)
        for words in shaping(port, rate_bit_s, Nanoseconds(0)):
            _run("tc", "-n", self._hub, *words)

    def remove(self, number: int) -> None:
        """A host's namespace and both ends of its link, if there are any. Its processes must have ended."""
        if (NAMED / self.name(number)).exists():
            _run("ip", "netns", "delete", self.name(number))
        if (NAMED / self._hub).exists():  # the kernel takes the pair apart later; its name is needed now
            subprocess.run(
                ["ip", "-n", self._hub, "link", "delete", "dev", f"p{number}"], capture_output=True, check=False
            )

    def remove_empty(self) -> None:
        """The switch itself, when no host is on it any more."""
        if (NAMED / self._hub).exists() and not any(name.startswith(f"{self._hub}-") for name in _names()):
            _run("ip", "netns", "delete", self._hub)

    def clear(self) -> None:
        """Everything, whoever made it."""
        for name in sorted(_names()):
            if name == self._hub or name.startswith(f"{self._hub}-"):
                _run("ip", "netns", "delete", name)


def shaping(device: str, rate_bit_s: int | None, delay_ns: Nanoseconds) -> list[list[str]]:
    """Arguments of `tc` that give a device its rate and its delay; empty where it has neither."""
    found: list[list[str]] = []
    parent = ["root"]
    if rate_bit_s is not None:
        burst = max(BURST_BYTES_MIN, int(rate_bit_s / 8 * BURST_S))
        rate = ["tbf", "rate", f"{rate_bit_s}bit", "burst", str(burst), "latency", LATENCY]
        found.append(["qdisc", "add", "dev", device, "root", "handle", "1:", *rate])
        parent = ["parent", "1:"]
    if delay_ns:
        delay = ["netem", "delay", f"{delay_ns / 1000:.3f}us", "limit", "100000"]
        found.append(["qdisc", "add", "dev", device, *parent, "handle", "10:", *delay])
    return found


def check_namespaces(where: str, *, rate: bool, delay: bool) -> None:
    """Whether they can be made here, and links limited as asked: tried in a namespace that goes away with the trial.

    Args:
        where: what the messages begin with.
        rate: whether links shall have one.
        delay: the same.

    Raises:
        UsageError: they cannot, and what to do.
    """
    if os.geteuid() != 0:
        raise UsageError(
            f"{where}: network namespaces can only be made by root\n  hint: sudo, or hosts of kind local or simulated"
        )
    for program, package in (
        ("ip", "iproute2"),
        ("tc", "iproute2"),
        ("nsenter", "util-linux"),
        ("unshare", "util-linux"),
    ):
        if _trial(program, "--version" if program in ("nsenter", "unshare") else "-V") is None:
            raise UsageError(f"{where}: {program} is not installed\n  hint: apt install {package}")
    pair = "ip link add name x0 type veth peer name x1 && ip link add name x2 type bridge"
    _try(where, "no veth pairs and bridges", pair, "a kernel with CONFIG_VETH and CONFIG_BRIDGE (modprobe veth bridge)")
    if rate:
        words = " ".join(shaping("lo", 10**6, Nanoseconds(0))[0])
        _try(where, "no limit of rate (tbf)", f"tc {words}", "a kernel with CONFIG_NET_SCH_TBF, or no `rate`")
    if delay:
        words = " ".join(shaping("lo", None, Nanoseconds(10**6))[0])
        _try(
            where,
            "no delay (netem)",
            f"tc {words}",
            "a kernel with CONFIG_NET_SCH_NETEM (modprobe sch_netem), or no `delay`",
        )


def _try(where: str, lacking: str, line: str, expected: str) -> None:
    said = _trial("unshare", "--net", "sh", "-c", line)
    if said:
        raise UsageError(f"{where}: this kernel has {lacking}: {said}\n  expected: {expected}")


def _trial(*command: str) -> str | None:
    """What it complained of, empty when it went well, None when there is no such program."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    except FileNotFoundError:
        return None
    return "" if done.returncode == 0 else " ".join(done.stderr.split()) or f"exit code {done.returncode}"


def _names() -> list[str]:
    try:
        return os.listdir(NAMED)
    except FileNotFoundError:
        return []


def _run(*command: str, said: str | None = None) -> None:
    done = subprocess.run(command, input=said, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ErgatesError(f"{' '.join(command)}: {' '.join(done.stderr.split()) or f'exit code {done.returncode}'}")


def _batch(namespace: str, *lines: str) -> None:
    """Commands of `ip` in one process."""
    _run("ip", "-n", namespace, "-batch", "-", said="".join(f"{line}\n" for line in lines))
