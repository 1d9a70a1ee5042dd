"""What `check` tells and nobody changes here: time synchronisation, the kernel's command line, virtualisation, network cards."""

from __future__ import annotations

import ctypes
import errno
from dataclasses import dataclass

from ergates.drivers.nodes.cores import isolated_by_kernel
from ergates.drivers.nodes.tree import NodeTree

_UNSYNCHRONISED = 0x0040
"""STA_UNSYNC of linux/timex.h."""
_TOLD = (
    "isolcpus", "nohz_full", "rcu_nocbs", "mitigations", "intel_pstate", "amd_pstate", "idle", "processor.max_cstate",
    "intel_idle.max_cstate", "nosmt", "nohz", "iommu", "intel_iommu", "amd_iommu", "hugepages", "hugepagesz", "isolated_cores",
)  # fmt: skip
_DAEMONS = ("chronyd", "ntpd", "systemd-timesyn", "ptp4l", "phc2sys", "openntpd")
"""Names as /proc/PID/comm has them: 15 characters."""


@dataclass(frozen=True, slots=True)
class Surrounding:
    """One line. `ok` None: only told."""

    name: str
    found: str
    why: str
    ok: bool | None = None
    advice: str = ""


class _Timex(ctypes.Structure):
    _fields_ = (
        ("modes", ctypes.c_uint), ("offset", ctypes.c_long), ("freq", ctypes.c_long), ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long), ("status", ctypes.c_int), ("rest", ctypes.c_long * 40),
    )  # fmt: skip


def kernel_clock() -> tuple[bool, int]:
    """Whether the kernel's clock is kept in step, and by how many microseconds it may be off at most. Reads only.

    Raises:
        OSError: the kernel does not tell.
    """
    record = _Timex()  # modes 0: nothing is set
    if ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(record)) < 0:
        raise OSError(ctypes.get_errno(), "adjtimex")
    return not record.status & _UNSYNCHRONISED, int(record.maxerror)


def time_synchronisation(tree: NodeTree) -> Surrounding:
    """What keeps the clock, and what the kernel thinks of it."""
    comms = {tree.text(path) or "" for path in tree.glob("proc/[0-9]*/comm")}
    running = [name for name in _DAEMONS if name in comms]
    why = "stamps of several hosts can be compared only as well as their clocks agree"
    keeper = f"{', '.join(running)} runs" if running else "no daemon of ours that keeps it"
    try:
        if not tree.real:
            raise OSError(errno.ENOSYS, "not this machine")
        kept, error_us = kernel_clock()
    except OSError:
        return Surrounding("time synchronisation", keeper, why, bool(running), "" if running else _START)
    if kept:
        return Surrounding("time synchronisation", f"in step within {error_us / 1000:.1f} ms; {keeper}", why, True)
    return Surrounding("time synchronisation", f"not kept in step; {keeper}", why, False, _START)


_START = "start one (systemctl start chrony, or systemd-timesyncd); nothing is started here by itself"


def surroundings(tree: NodeTree) -> tuple[Surrounding, ...]:
    """Every line, in the order a reader wants them."""
    words = (tree.text("proc/cmdline") or "").split()
    told = [word for word in words if word.split("=", 1)[0] in _TOLD]
    isolated = isolated_by_kernel(tree)
    virtual = "hypervisor" in (tree.text("proc/cpuinfo") or "").partition("\nprocessor")[0].split()
    lines = [
        time_synchronisation(tree),
        Surrounding(
            "kernel command line",
            " ".join(told) or "nothing said about cores, idle states or mitigations",
            "isolcpus, nohz_full, mitigations and idle limits are set there, at boot, and cannot be set now",
        ),
        Surrounding(
            "isolated by the kernel",
            isolated or "no cores",
            "the scheduler puts nothing on such cores by itself; `isolate` only moves away what is there now",
        ),
    ]
    if virtual:
        lines.append(
            Surrounding(
                "virtual machine",
                "yes",
                "the host decides about frequency and may take the core away at any time: steal time in /proc/stat",
                None,
                "compare on hardware of your own, or repeat more often and interleave",
            )
        )
    return (*lines, *_network_cards(tree))


def _network_cards(tree: NodeTree) -> list[Surrounding]:
    found = []
    for path in tree.glob("sys/class/net/*"):
        name = path.rpartition("/")[2]
        driver = tree.link(f"{path}/device/driver")
        if not driver:
            continue
        receive, send = (len(tree.glob(f"{path}/queues/{kind}-*")) for kind in ("rx", "tx"))
        speed = tree.text(f"{path}/speed")
        facts = [
            tree.link(f"{path}/device"),
            driver,
            f"{receive} rx and {send} tx queues",
            tree.text(f"{path}/operstate") or "",
        ]
        facts += [f"{speed} Mbit/s"] if speed and speed.isdigit() else []
        found.append(
            Surrounding(f"card {name}", ", ".join(filter(None, facts)), "queues: ethtool -l; coalescing: ethtool -c")
        )
    return found
