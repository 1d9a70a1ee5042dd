"""Version 2 with memory, against files made by hand (the reference machine has its memory controller in version 1), and
without memory against the kernel's own, where it is mounted.
"""

from __future__ import annotations

import signal
import subprocess
import uuid
from pathlib import Path

import pytest

from ergates.drivers.cgroups.detect import detect
from ergates.drivers.cgroups.rebuild import rebuild
from ergates.drivers.cgroups.v2 import V2Tree
from ergates.errors import LaunchError


@pytest.fixture
def parent(tmp_path: Path) -> Path:
    """A parent group with one slot, as the kernel would fill them."""
    folder = tmp_path / "ergates-x"
    for group in (folder, folder / "slot-0"):
        group.mkdir()
        (group / "memory.stat").write_text("anon 1000\nfile 7\nkernel 5\nshmem 200\ninactive_anon 99\n")
        for name in ("cgroup.procs", "cgroup.freeze", "cgroup.kill", "cgroup.subtree_control"):
            (group / name).write_text("")
        for name in ("memory.max", "memory.swap.max", "pids.max"):
            (group / name).write_text("max\n")
        (group / "memory.events").write_text("low 0\nhigh 0\nmax 3\noom 2\noom_kill 2\noom_group_kill 0\n")
        (group / "memory.peak").write_text("5000\n")
        (group / "cpu.stat").write_text("usage_usec 1234\nuser_usec 1000\nsystem_usec 234\n")
    return folder


def test_it_reads_anonymous_plus_shared_memory(parent: Path) -> None:
    tree = V2Tree(str(parent))
    assert tree.used_bytes() == 1200
    assert tree.slot(0).used_bytes() == 1200


def test_it_reads_cpu_time_and_kills_by_the_kernel(parent: Path) -> None:
    slot = V2Tree(str(parent)).slot(0)
    assert slot.cpu_ns() == 1_234_000
    assert slot.oom_kills() == 2


def test_the_peak_counts_only_once_it_could_be_reset(parent: Path) -> None:
    slot = V2Tree(str(parent)).slot(0)
    assert slot.peak_bytes() == 0, "it may be of an earlier attempt"
    slot.reset_peak()
    (parent / "slot-0" / "memory.peak").write_text("7000\n")
    assert slot.peak_bytes() == 7000
    slot.close()


def test_a_limit_covers_swap_too(parent: Path) -> None:
    assert V2Tree(str(parent)).set_memory_limit(4096)
    assert (parent / "memory.max").read_text().startswith("4096")
    assert (parent / "memory.swap.max").read_text().startswith("0")


def test_freezing_and_forbidding_forks_write_what_the_kernel_expects(parent: Path) -> None:
    slot = V2Tree(str(parent)).slot(0)
    slot.freeze()
    assert (parent / "slot-0" / "cgroup.freeze").read_text() == "1"
    slot.thaw()
    assert (parent / "slot-0" / "cgroup.freeze").read_text() == "0"
    slot.forbid_forks()
    assert (parent / "slot-0" / "pids.max").read_text().startswith("0")
    slot.allow_forks()
    assert (parent / "slot-0" / "pids.max").read_text().startswith("max")


def test_the_helper_is_not_among_the_processes_unless_it_is_the_attempt(parent: Path) -> None:
    (parent / "slot-0" / "cgroup.procs").write_text("10\n11\n12\n")
    tree = V2Tree(str(parent))
    assert tree.slot(0, 11).procs() == [10, 12]
    assert tree.slot(0, 11, warm=True).procs() == [10, 11, 12]


def test_a_group_that_is_gone_reads_as_unknown(tmp_path: Path) -> None:
    slot = V2Tree(str(tmp_path / "gone")).slot(0)
    assert slot.procs() == []
    assert slot.cpu_ns() is None
    assert slot.oom_kills() == 0
    assert slot.kill_all(0.1)
    assert slot.remove()


def test_real_groups_freeze_and_kill() -> None:
    """cgroup.freeze and cgroup.kill need no controller, so they can be tried wherever version 2 is mounted."""
    try:
        tree = detect(f"ergates-test-{uuid.uuid4()}", "v2").tree
    except LaunchError as problem:
        pytest.skip(str(problem))
    tree.create()
    slot = tree.slot(0)
    slot.create()
    sleeper = subprocess.Popen(["sh", "-c", "sleep 1000 & wait"])
    try:
        slot.enter(sleeper.pid)
        assert sleeper.pid in slot.procs()
        slot.freeze()
        assert rebuild(tree.spec()).kill_all(5.0), "frozen ones too"
        assert sleeper.wait(5) == -signal.SIGKILL
    finally:
        sleeper.kill()
        sleeper.wait()
        slot.close()
        assert tree.remove()
