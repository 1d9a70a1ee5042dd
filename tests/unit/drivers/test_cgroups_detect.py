"""Which kind of group is chosen, on machines made of files: /proc and /sys/fs/cgroup are folders of the test."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ergates.drivers.cgroups.detect import detect
from ergates.drivers.machine import Roots
from ergates.errors import LaunchError

V1_MOUNTS = (
    "32 31 0:29 {root} /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
    "35 31 0:32 {root} /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    "37 31 0:34 {root} /sys/fs/cgroup/freezer rw - cgroup cgroup rw,freezer\n"
)
V2_MOUNT = "41 31 0:38 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"


class Machine:
    def __init__(self, folder: Path) -> None:
        self.roots = Roots(folder / "proc", folder / "cgroup")
        (folder / "proc" / "self").mkdir(parents=True)
        (folder / "cgroup").mkdir()

    def says(self, mounts: str, groups: str) -> None:
        (self.roots.proc / "self" / "mountinfo").write_text(mounts)
        (self.roots.proc / "self" / "cgroup").write_text(groups)

    def group(self, path: str, procs: str = "", **files: str) -> Path:
        folder = self.roots.cgroup / path
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "cgroup.procs").write_text(procs)
        for name, content in files.items():
            (folder / name.replace("_", ".", 1)).write_text(content)
        return folder

    def v2_group(self, path: str, hands_on: str = "", procs: str = "", limit: str = "max") -> Path:
        folder = self.group(path, procs)
        (folder / "cgroup.controllers").write_text("cpu memory pids\n")
        (folder / "cgroup.subtree_control").write_text(hands_on)
        if path:  # the kernel's own root has neither
            (folder / "memory.max").write_text(limit + "\n")
            (folder / "cgroup.type").write_text("domain\n")
        return folder


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_no_groups_at_all(machine: Machine) -> None:
    machine.says("", "")
    found = detect("x", roots=machine.roots)
    assert found.tree.kind == "tree"
    assert found.reasons == ["control groups v2: not mounted", "control groups v1: not mounted"]


def test_a_wish_that_cannot_be_had_is_refused_with_the_reason(machine: Machine) -> None:
    machine.says("", "")
    with pytest.raises(LaunchError, match="control groups v1: not mounted"):
        detect("x", "v1", machine.roots)
    assert detect("x", "none", machine.roots).tree.kind == "tree"


def test_v1_below_our_own_groups(machine: Machine) -> None:
    machine.says(V1_MOUNTS.format(root="/"), "4:memory:/mine\n5:freezer:/\n2:cpu,cpuacct:/\n")
    for path in ("memory/mine", "freezer", "cpu,cpuacct"):
        machine.group(path)
    cgroup = machine.roots.cgroup
    assert detect("x", roots=machine.roots).tree.spec() == {
        "kind": "v1",
        "parents": {
            "cpuacct": str(cgroup / "cpu,cpuacct" / "x"),
            "memory": str(cgroup / "memory" / "mine" / "x"),
            "freezer": str(cgroup / "freezer" / "x"),
        },
    }


def test_v1_in_a_container_that_sees_only_its_part(machine: Machine) -> None:
    machine.says(V1_MOUNTS.format(root="/docker/abc"), "4:memory:/docker/abc\n")
    machine.group("memory")
    found = detect("x", roots=machine.roots).tree.spec()
    assert found["parents"] == {"memory": str(machine.roots.cgroup / "memory" / "x")}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_v1_that_is_not_ours(machine: Machine) -> None:
    machine.says(V1_MOUNTS.format(root="/"), "4:memory:/\n")
    machine.group("memory").chmod(0o555)
    assert detect("x", roots=machine.roots).tree.kind == "tree"


def test_v2_in_a_group_that_hands_on_memory(machine: Machine) -> None:
    machine.says(V2_MOUNT, "0::/\n")
    machine.v2_group("", hands_on="memory pids")
    assert detect("x", roots=machine.roots).tree.spec() == {"kind": "v2", "parent": str(machine.roots.cgroup / "x")}


def test_v2_beside_our_own_group_when_others_are_in_it(machine: Machine) -> None:
    machine.says(V2_MOUNT, "0::/user/session\n")
    machine.v2_group("", hands_on="memory")
    machine.v2_group("user", hands_on="memory pids")
    session = machine.v2_group("user/session", procs="1\n")
    found = detect("x", roots=machine.roots)
    assert found.tree.spec()["parent"] == str(machine.roots.cgroup / "user" / "x")
    assert (session / "cgroup.subtree_control").read_text() == "", "a session of others stays as it is"


def test_v2_moves_us_to_a_leaf_when_the_group_is_ours_alone(machine: Machine) -> None:
    machine.says(V2_MOUNT, "0::/service\n")
    machine.v2_group("", hands_on="memory")
    service = machine.v2_group("service", procs=f"{os.getpid()}\n")
    machine.group("service/ergates-worker")
    found = detect("x", roots=machine.roots)
    assert found.tree.spec()["parent"] == str(service / "x")
    assert (service / "ergates-worker" / "cgroup.procs").read_text() == str(os.getpid())
    assert (service / "cgroup.subtree_control").read_text() == "+memory"


def test_v2_in_the_root_of_all(machine: Machine) -> None:
    """Without systemd everybody is in the root; it alone hands on controllers while processes are in it."""
    machine.says(V2_MOUNT, "0::/\n")
    root = machine.v2_group("", procs="1\n")
    found = detect("x", roots=machine.roots)
    assert found.tree.spec()["parent"] == str(root / "x")
    assert (root / "cgroup.subtree_control").read_text() == "+memory"
    assert found.reasons == []


def test_v2_in_a_container_of_our_own(machine: Machine) -> None:
    """What a container takes for the root is a group like others."""
    machine.says(V2_MOUNT, "0::/\n")
    root = machine.v2_group("", procs=f"{os.getpid()}\n")
    (root / "cgroup.type").write_text("domain\n")
    machine.group("ergates-worker")
    assert detect("x", roots=machine.roots).tree.spec()["parent"] == str(root / "x")
    assert (root / "ergates-worker" / "cgroup.procs").read_text() == str(os.getpid())


def test_v2_never_leaves_a_group_with_a_limit(machine: Machine) -> None:
    machine.says(V2_MOUNT, "0::/user/limited\n")
    machine.v2_group("", hands_on="memory")
    machine.v2_group("user", hands_on="memory")
    limited = machine.v2_group("user/limited", procs="1\n", limit="1000000")
    found = detect("x", roots=machine.roots)
    assert found.tree.spec()["parent"] == str(limited / "x")
    assert found.reasons[0] == "control groups v2: the memory controller is not there"


def test_v1_with_memory_is_better_than_v2_without(machine: Machine) -> None:
    v2 = V2_MOUNT.replace("/sys/fs/cgroup ", "/sys/fs/cgroup/unified ")
    machine.says(v2 + V1_MOUNTS.format(root="/"), "0::/\n4:memory:/\n")
    machine.group("unified")
    machine.group("memory")
    assert detect("x", roots=machine.roots).tree.kind == "v1"
    assert detect("x", "v2", machine.roots).tree.kind == "v2"


def test_looking_leaves_no_group_behind(machine: Machine) -> None:
    machine.says(V1_MOUNTS.format(root="/"), "4:memory:/\n")
    machine.group("memory")
    detect("x", roots=machine.roots)
    assert not (machine.roots.cgroup / "memory" / "x").exists()
