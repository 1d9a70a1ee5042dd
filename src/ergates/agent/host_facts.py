"""What a host is like, as far as it may explain a figure: kernel, cores, clocks of the cores, memory, limits, time, versions.

Everything is read, nothing is run or changed. What does not change before the next boot is read once for each boot and process;
settings and load are read anew each time.
"""

from __future__ import annotations

import ctypes
import os
import platform
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ergates import __version__
from ergates.drivers.machine import Roots, boot_id, cpu_ids, cpus_milli, memory_limit

_TELLING_OPTIONS = (
    "amd_pstate", "clocksource", "default_hugepagesz", "hugepages", "hugepagesz", "idle", "intel_idle.max_cstate",
    "intel_pstate", "iommu", "irqaffinity", "isolcpus", "mitigations", "nohz_full", "nosmt", "preempt",
    "processor.max_cstate", "rcu_nocbs", "skew_tick", "transparent_hugepage", "tsc",
)  # fmt: skip
"""Of the kernel's command line; other words of it are nobody's business."""
_STA_UNSYNC = 0x40
"""linux/timex.h: the kernel's clock is not kept in step by anybody."""


@dataclass(frozen=True, slots=True)
class FactRoots:
    """Where the trees lie that facts are read from."""

    proc: Path = Path("/proc")
    sys: Path = Path("/sys")
    etc: Path = Path("/etc")
    run: Path = Path("/run")
    root: Path = Path("/")


_HERE = FactRoots()


def host_facts(roots: FactRoots = _HERE) -> dict[str, Any]:
    """Facts by name, plain values; one that cannot be found out is absent. Sizes in bytes."""
    facts = {**_lasting(roots, boot_id(Roots(proc=roots.proc))), **_settings(roots)}
    return {name: value for name, value in facts.items() if value not in (None, "", [], {})}


@cache
def _lasting(roots: FactRoots, boot: str) -> dict[str, Any]:
    """What stays as it is until the next boot."""
    cpu = _cpu(roots)
    memory = _pairs(roots.proc / "meminfo")
    uname = os.uname()
    dmi = roots.sys / "class/dmi/id"
    return {
        "boot_id": boot,
        "hostname": uname.nodename,
        "kernel": uname.release,
        "kernel_version": uname.version,
        "kernel_options": [
            each for each in _text(roots.proc / "cmdline").split() if each.partition("=")[0] in _TELLING_OPTIONS
        ],
        "architecture": uname.machine,
        "system": _pairs(roots.etc / "os-release", "=").get("PRETTY_NAME", "").strip('"'),
        "cpu_model": cpu.get("model name") or cpu.get("Model") or cpu.get("cpu"),
        "microcode": cpu.get("microcode"),
        "memory_bytes": _kib(memory.get("MemTotal")),
        "swap_bytes": _kib(memory.get("SwapTotal")),
        "numa_nodes": len(list((roots.sys / "devices/system/node").glob("node[0-9]*"))) or None,
        "virtual_machine": _virtual(cpu, dmi),
        "container": _container(roots),
        "product": " ".join(filter(None, (_text(dmi / "sys_vendor"), _text(dmi / "product_name")))),
        "python": platform.python_version(),
        "ergates": __version__,
    }


def _settings(roots: FactRoots) -> dict[str, Any]:
    """What somebody may have changed since."""
    cpu = roots.sys / "devices/system/cpu"
    machine = Roots(proc=roots.proc, cgroup=roots.sys / "fs/cgroup")
    limit = None
    quota = None
    with suppress(OSError, KeyError, ValueError):
        limit = memory_limit(machine)
        quota = cpus_milli(machine)
    return {
        "cores_online": _text(cpu / "online"),
        "cores_usable": list(cpu_ids()),
        "cores_isolated": _text(cpu / "isolated"),
        "cpus_milli": quota,
        "memory_limit_bytes": None if limit is None else int(limit.limit_bytes),
        "smt": _smt(cpu),
        "turbo": _turbo(cpu),
        "governor": _all(cpu, "cpufreq/scaling_governor"),
        "frequency_driver": _all(cpu, "cpufreq/scaling_driver"),
        "frequency_khz_max": _all(cpu, "cpufreq/scaling_max_freq"),
        "hugepages": {
            folder.name.removeprefix("hugepages-"): _text(folder / "nr_hugepages")
            for folder in sorted((roots.sys / "kernel/mm/hugepages").glob("hugepages-*"))
        },
        "transparent_hugepages": _chosen(_text(roots.sys / "kernel/mm/transparent_hugepage/enabled")),
        "address_space_randomised": _text(roots.proc / "sys/kernel/randomize_va_space"),
        "clock_source": _text(roots.sys / "devices/system/clocksource/clocksource0/current_clocksource"),
        "time_synchronised": _synchronised(),
        "time_kept_by": _timekeeper(roots.run),
        "load_average": _text(roots.proc / "loadavg"),
        "memory_available_bytes": _kib(_pairs(roots.proc / "meminfo").get("MemAvailable")),
    }


# --- reading ---------------------------------------------------------------------------------------


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").replace("\0", " ").strip()
    except OSError:
        return ""


def _pairs(path: Path, mark: str = ":") -> dict[str, str]:
    """`name: value` lines; of a name that is there twice the first counts."""
    found: dict[str, str] = {}
    for line in _text(path).splitlines():
        name, at, value = line.partition(mark)
        if at:
            found.setdefault(name.strip(), value.strip())
    return found


def _cpu(roots: FactRoots) -> dict[str, str]:
    """Of the first core."""
    return _pairs(roots.proc / "cpuinfo")


def _kib(text: str | None) -> int | None:
    return int(text.split()[0]) * 1024 if text else None


def _all(cpu: Path, name: str) -> str:
    """What all cores have; several, if they differ, in the order of their first core."""
    found = dict.fromkeys(_text(path) for path in sorted(cpu.glob(f"cpu[0-9]*/{name}")))
    return ", ".join(each for each in found if each)


def _chosen(text: str) -> str:
    """`always [madvise] never` is madvise."""
    return text.partition("[")[2].partition("]")[0] or text


# --- meaning ---------------------------------------------------------------------------------------


def _smt(cpu: Path) -> bool | None:
    active = _text(cpu / "smt/active")
    return active == "1" if active else None


def _turbo(cpu: Path) -> bool | None:
    """Whether cores may run faster than their nominal clock."""
    no_turbo = _text(cpu / "intel_pstate/no_turbo")
    if no_turbo:
        return no_turbo == "0"
    boost = _text(cpu / "cpufreq/boost")
    return boost == "1" if boost else None


def _virtual(cpu: dict[str, str], dmi: Path) -> str:
    """Name of the hypervisor as far as it shows; empty on bare metal."""
    if "hypervisor" not in cpu.get("flags", "").split():
        return ""
    return _text(dmi / "sys_vendor") or "unknown"


def _container(roots: FactRoots) -> str:
    if (roots.root / ".dockerenv").exists():
        return "docker"
    if (roots.run / ".containerenv").exists():
        return "podman"
    return _text(roots.run / "systemd/container")


def _timekeeper(run: Path) -> str:
    """Whose daemon keeps the clock, by the traces they leave while they run."""
    traces = {"chrony": "chrony/chronyd.pid", "ntpd": "ntpd.pid", "systemd-timesyncd": "systemd/timesync/synchronized"}
    return ", ".join(name for name, trace in traces.items() if (run / trace).exists())


def _synchronised() -> bool | None:
    """Whether the kernel takes its clock to be in step with another: adjtimex(2), asking only."""
    with suppress(OSError, AttributeError):
        # struct timex: unsigned modes (padded to a long), four longs, then the int with the status; 208 bytes on 64-bit Linux
        area = ctypes.create_string_buffer(512)
        long_bytes = ctypes.sizeof(ctypes.c_long)
        if ctypes.CDLL(None, use_errno=True).adjtimex(area) < 0:
            return None
        status = ctypes.c_int.from_buffer(area, 5 * long_bytes).value
        return not status & _STA_UNSYNC
    return None
