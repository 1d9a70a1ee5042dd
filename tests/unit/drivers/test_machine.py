"""Reading a machine, on trees made for the test and once on the real one."""

from __future__ import annotations

import os
from pathlib import Path

from ergates.drivers import machine
from ergates.drivers.machine import Roots

MEMINFO = "MemTotal:       8000000 kB\nMemFree:  100 kB\nMemAvailable:    6000000 kB\n"


def make_tree(root: Path, cgroup_lines: str) -> Roots:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/meminfo").write_text(MEMINFO)
    (root / "proc/self/cgroup").write_text(cgroup_lines)
    (root / "cg").mkdir()
    return Roots(root / "proc", root / "cg")


def test_memory_of_the_machine_in_bytes(tmp_path: Path) -> None:
    roots = make_tree(tmp_path, "0::/\n")
    assert machine.memory_total_bytes(roots) == 8_000_000 * 1024
    assert machine.memory_available_bytes(roots) == 6_000_000 * 1024
    assert machine.memory_limit(roots) is None


def test_the_tightest_limit_of_the_ancestors_counts_v2(tmp_path: Path) -> None:
    roots = make_tree(tmp_path, "0::/a/b\n")
    (roots.cgroup / "a/b").mkdir(parents=True)
    (roots.cgroup / "a/memory.max").write_text("1000000000\n")
    (roots.cgroup / "a/b/memory.max").write_text("max\n")
    (roots.cgroup / "a/cpu.max").write_text("150000 100000\n")
    (roots.cgroup / "a/b/cpu.max").write_text("max 100000\n")
    limit = machine.memory_limit(roots)
    assert limit is not None
    assert (limit.folder, limit.limit_bytes) == (roots.cgroup / "a", 1_000_000_000)
    assert machine.cpus_milli(roots) == min(1500, 1000 * len(os.sched_getaffinity(0)))


def test_limits_of_v1(tmp_path: Path) -> None:
    roots = make_tree(tmp_path, "4:memory:/m\n3:cpu,cpuacct:/c\n0::/\n")
    (roots.cgroup / "memory/m").mkdir(parents=True)
    (roots.cgroup / "memory/m/memory.limit_in_bytes").write_text("2000000000\n")
    (roots.cgroup / "memory/memory.limit_in_bytes").write_text("9223372036854771712\n")
    (roots.cgroup / "cpu/c").mkdir(parents=True)
    limit = machine.memory_limit(roots)
    assert limit is not None
    assert limit.limit_bytes == 2_000_000_000


def test_used_memory_is_anonymous_plus_shared(tmp_path: Path) -> None:
    (tmp_path / "memory.stat").write_text("anon 100\nfile 900\nshmem 20\n")
    assert machine.cgroup_used_bytes(tmp_path) == 120
    (tmp_path / "memory.stat").write_text("cache 900\nrss 1\ntotal_rss 70\ntotal_shmem 7\n")
    assert machine.cgroup_used_bytes(tmp_path) == 77


def test_pressure_is_a_fraction_or_unknown(tmp_path: Path) -> None:
    roots = make_tree(tmp_path, "0::/\n")
    assert machine.memory_pressure_fraction(roots) is None
    (roots.proc / "pressure").mkdir()
    (roots.proc / "pressure/memory").write_text("some avg10=12.50 avg60=0.00 avg300=0.00 total=0\nfull avg10=0.00\n")
    assert machine.memory_pressure_fraction(roots) == 0.125


def test_a_process_is_named_by_pid_and_start(tmp_path: Path) -> None:
    assert machine.pid_start_ticks(os.getpid()) > 0
    assert machine.pid_start_ticks(2**22 + 1) == 0
    assert machine.boot_id() != ""
    free, size = machine.disk_room(tmp_path)
    assert 0 < free <= size
