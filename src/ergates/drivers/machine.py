"""What this machine is and how it stands: cores, quota, memory, pressure, boot. Reads /proc and /sys, changes nothing.

Roots are arguments so that tests can hand in a tree of their own.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ergates.units import Bytes, MilliCpus


@dataclass(frozen=True, slots=True)
class Roots:
    """Where the kernel's trees are mounted."""

    proc: Path = Path("/proc")
    cgroup: Path = Path("/sys/fs/cgroup")


def cpu_ids() -> tuple[int, ...]:
    """Cores this process may run on, by its affinity mask."""
    return tuple(sorted(os.sched_getaffinity(0)))


def cpus_milli(roots: Roots | None = None) -> MilliCpus:
    """Cores to hand out, in thousandths: the affinity mask, cut by the CPU quota of our cgroup or an ancestor."""
    roots = roots or Roots()
    quota = _cpu_quota_milli(roots)
    cores = len(cpu_ids()) * 1000
    return MilliCpus(cores if quota is None else max(1, min(cores, quota)))


def memory_total_bytes(roots: Roots | None = None) -> Bytes:
    """Memory of the machine, in bytes."""
    return Bytes(_meminfo(roots or Roots())["MemTotal"])


def memory_available_bytes(roots: Roots | None = None) -> Bytes:
    """Memory the kernel says can be used without swapping (MemAvailable), in bytes."""
    return Bytes(_meminfo(roots or Roots())["MemAvailable"])


def missing_paths(paths: Iterable[str]) -> tuple[str, ...]:
    """Those that do not exist here, or that we may not look at. A dead network file system makes this wait."""
    return tuple(path for path in paths if not os.path.exists(path))


@dataclass(frozen=True, slots=True)
class MemoryLimit:
    """A cgroup around us that limits memory: its folder and its limit in bytes."""

    folder: Path
    limit_bytes: Bytes


def memory_limit(roots: Roots | None = None) -> MemoryLimit | None:
    """The tightest memory limit of our cgroup and its ancestors; None when the machine itself is the limit."""
    roots = roots or Roots()
    total = memory_total_bytes(roots)
    found: MemoryLimit | None = None
    for folder, name in _ancestry(roots, "memory", "memory.limit_in_bytes", "memory.max"):
        value = _read_number(folder / name)
        if value is not None and value < total and (found is None or value < found.limit_bytes):
            found = MemoryLimit(folder, Bytes(value))
    return found


def cgroup_used_bytes(folder: Path) -> Bytes:
    """Anonymous plus shared memory of one cgroup and all below it, in bytes (v1 or v2)."""
    fields = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    if "anon" in fields:
        return Bytes(int(fields["anon"]) + int(fields["shmem"]))
    return Bytes(int(fields["total_rss"]) + int(fields["total_shmem"]))


def memory_pressure_fraction(roots: Roots | None = None) -> float | None:
    """Share of the last 10 s in which some process waited for memory (PSI); None where the kernel has no PSI."""
    with suppress(OSError, ValueError, IndexError):  # absent or disabled PSI reads as an error
        text = ((roots or Roots()).proc / "pressure" / "memory").read_text()
        return float(text.split("avg10=", 1)[1].split()[0]) / 100
    return None


def boot_id(roots: Roots | None = None) -> str:
    """Changes at every boot; empty where the kernel does not tell."""
    with suppress(OSError):
        return ((roots or Roots()).proc / "sys/kernel/random/boot_id").read_text().strip()
    return ""


def pid_start_ticks(pid: int, roots: Roots | None = None) -> int:
    """When a process started, in clock ticks since boot: with its pid it names the process for one boot. 0: no such process."""
    with suppress(OSError, IndexError, ValueError):
        text = ((roots or Roots()).proc / str(pid) / "stat").read_text()
        return int(text.rsplit(")", 1)[1].split()[19])
    return 0


def host_name() -> str:
    return socket.gethostname()


def disk_room(folder: Path) -> tuple[Bytes, Bytes]:
    """Room left for us on the file system of `folder`, and its size, in bytes."""
    facts = os.statvfs(folder)
    return Bytes(facts.f_bavail * facts.f_frsize), Bytes(facts.f_blocks * facts.f_frsize)


def _meminfo(roots: Roots) -> dict[str, int]:
    values: dict[str, int] = {}
    for line in (roots.proc / "meminfo").read_text().splitlines():
        name, _, rest = line.partition(":")
        values[name] = int(rest.split()[0]) * 1024
    return values


def _cpu_quota_milli(roots: Roots) -> int | None:
    found: int | None = None
    for folder, name in _ancestry(roots, "cpu", "cpu.cfs_quota_us", "cpu.max"):
        milli = _quota_of(folder, name)
        if milli is not None and (found is None or milli < found):
            found = milli
    return found


def _quota_of(folder: Path, name: str) -> int | None:
    if name == "cpu.max":
        with suppress(OSError, ValueError):
            quota, period = (folder / name).read_text().split()
            return None if quota == "max" else int(quota) * 1000 // int(period)
        return None
    quota_us, period_us = _read_number(folder / name), _read_number(folder / "cpu.cfs_period_us")
    if quota_us is None or period_us is None or quota_us <= 0 or period_us <= 0:
        return None
    return quota_us * 1000 // period_us


def _ancestry(roots: Roots, controller: str, v1_name: str, v2_name: str) -> list[tuple[Path, str]]:
    """Folders of our cgroup and its ancestors that hold the file asked for, own cgroup first, in v1 and v2."""
    found: list[tuple[Path, str]] = []
    with suppress(OSError):
        for line in (roots.proc / "self" / "cgroup").read_text().splitlines():
            _, names, path = line.split(":", 2)
            if names == "":
                base, file_name = roots.cgroup, v2_name
            elif controller in names.split(","):
                base, file_name = roots.cgroup / controller, v1_name
            else:
                continue
            folder = base / path.lstrip("/")
            while True:
                if (folder / file_name).exists():
                    found.append((folder, file_name))
                if folder == base or base not in folder.parents:
                    break
                folder = folder.parent
    return found


def _read_number(path: Path) -> int | None:
    with suppress(OSError, ValueError):
        text = path.read_text().strip()
        return None if text == "max" else int(text)
    return None
