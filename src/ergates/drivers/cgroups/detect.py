"""Finds out which kind of group this machine lets us make, by making one. What does not work is remembered in words."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ergates.drivers.cgroups import files
from ergates.drivers.cgroups.group import GroupTree
from ergates.drivers.cgroups.tree import ProcessTree, descendants
from ergates.drivers.cgroups.v1 import CONTROLLERS, V1Tree
from ergates.drivers.cgroups.v2 import V2Tree
from ergates.drivers.machine import Roots
from ergates.errors import LaunchError

Preference = Literal["auto", "v2", "v1", "none"]


@dataclass(slots=True)
class Detected:
    """A tree that works here (created), and why better ones do not."""

    tree: GroupTree
    reasons: list[str] = field(default_factory=list)


class _CannotUse(Exception):
    """Why one kind of group cannot be had."""


def detect(name: str, prefer: Preference = "auto", roots: Roots | None = None) -> Detected:
    """Find the best kind of group: v2 with memory, v1, v2 without memory, none.

    Args:
        name: of the parent group to make below (or beside) our own group.
        prefer: `auto`, or one kind that must be had.
        roots: where the kernel's trees are mounted.

    Raises:
        LaunchError: the preferred kind cannot be had; the message says why.
    """
    roots = roots or Roots()
    found = Detected(ProcessTree(str(roots.proc)))
    if prefer == "none":
        return found
    without_memory: GroupTree | None = None
    for kind, look in (("v2", _find_v2), ("v1", _find_v1)):
        if prefer not in ("auto", kind):
            continue
        try:
            tree, has_memory = look(name, roots)
        except _CannotUse as reason:
            found.reasons.append(f"control groups {kind}: {reason}")
            continue
        if has_memory or prefer == kind:
            found.tree = tree
            return found
        found.reasons.append(f"control groups {kind}: the memory controller is not there")
        without_memory = without_memory or tree
    if without_memory is not None:
        found.tree = without_memory
    elif prefer != "auto":
        raise LaunchError(f"cannot use {'; '.join(found.reasons)}\n  hint: leave the choice to erg, or use none")
    return found


# --- v1 --------------------------------------------------------------------------------------------


def _find_v1(name: str, roots: Roots) -> tuple[GroupTree, bool]:
    own = _own_groups(roots)
    parents: dict[str, str] = {}
    problems: list[str] = []
    for mount in _mounts(roots, "cgroup"):
        for controller in CONTROLLERS:
            if controller not in mount.options or controller in parents or controller not in own:
                continue
            folder = mount.folder_of(own[controller])
            if not (folder / "cgroup.procs").exists():
                problems.append(f"{folder} is not there")
            elif not _can_make(folder / name):
                problems.append(f"cannot make a group in {folder}")
            else:
                parents[controller] = str(folder / name)
    if "memory" not in parents and "freezer" not in parents:
        raise _CannotUse("; ".join(problems) or "not mounted")
    return V1Tree(parents), "memory" in parents


# --- v2 --------------------------------------------------------------------------------------------


def _find_v2(name: str, roots: Roots) -> tuple[GroupTree, bool]:
    mounts = _mounts(roots, "cgroup2")
    own = _own_groups(roots).get("")
    if not mounts or own is None:
        raise _CannotUse("not mounted")
    top = mounts[0].point
    group = mounts[0].folder_of(own)
    if not (group / "cgroup.procs").exists():
        raise _CannotUse(f"{group} is not there")
    offered = _words(group / "cgroup.controllers")
    if "memory" in offered:
        place = _place_with_memory(group, top, roots)
        if place is not None and _can_make(place / name):
            return V2Tree(str(place / name)), True
        if not _can_make(group / name):
            raise _CannotUse(f"{group} is not ours to divide (a session without delegation)")
        return V2Tree(str(group / name)), False
    if not _can_make(group / name):
        raise _CannotUse(f"cannot make a group in {group}")
    return V2Tree(str(group / name)), False


def _place_with_memory(group: Path, top: Path, roots: Roots) -> Path | None:
    """A group that hands `memory` to groups below it, where we may make one.

    Our own, if it does so already; our own, if nobody but us is in it: we move to a leaf first (a group with processes
    cannot hand on controllers); else the nearest ancestor, but never past one with a memory limit of its own.
    """
    if "memory" in _words(group / "cgroup.subtree_control"):
        return group
    if not (group / "cgroup.type").exists():  # the kernel's own root alone may hand on controllers with processes in it
        handed_on = files.write(str(group / "cgroup.subtree_control"), "+memory")
        return group if handed_on else None
    if _is_ours_alone(group, roots) and _move_to_leaf(group):
        return group
    place = group
    while place != top and top in place.parents:
        limit = place / "memory.max"
        if limit.exists() and limit.read_text().strip() != "max":
            return None
        place = place.parent
        if "memory" in _words(place / "cgroup.subtree_control") and os.access(place, os.W_OK):
            # Moving a process needs the right to write the common ancestor's list of processes.
            return place if os.access(place / "cgroup.procs", os.W_OK) else None
    return None


def _is_ours_alone(group: Path, roots: Roots) -> bool:
    if not os.access(group / "cgroup.subtree_control", os.W_OK):
        return False
    ours = {os.getpid(), *descendants(os.getpid(), str(roots.proc))}
    return set(files.pids_in(str(group))) <= ours


def _move_to_leaf(group: Path) -> bool:
    leaf = group / "ergates-worker"
    with suppress(OSError):
        leaf.mkdir(exist_ok=True)
        for pid in files.pids_in(str(group)):
            files.write(str(leaf / "cgroup.procs"), str(pid))
    return files.write(str(group / "cgroup.subtree_control"), "+memory")


# --- what the kernel says --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Mount:
    point: Path
    root: str
    options: frozenset[str]

    def folder_of(self, group: str) -> Path:
        """Where a group's folder is in this mount, which may show only a part of the hierarchy (containers)."""
        if self.root != "/" and (group + "/").startswith(self.root.rstrip("/") + "/"):
            group = group[len(self.root) :]
        return self.point / group.lstrip("/")


def _mounts(roots: Roots, kind: str) -> list[_Mount]:
    """Mounted hierarchies of one kind, from /proc/self/mountinfo (see proc_pid_mountinfo(5))."""
    found = []
    with suppress(OSError):
        for line in (roots.proc / "self" / "mountinfo").read_text().splitlines():
            before, _, after = line.partition(" - ")
            fields, rest = before.split(), after.split()
            if len(fields) < 5 or len(rest) < 3 or rest[0] != kind:
                continue
            point = fields[4]
            if point.startswith("/sys/fs/cgroup"):
                point = str(roots.cgroup) + point.removeprefix("/sys/fs/cgroup")
            found.append(_Mount(Path(point), fields[3], frozenset(rest[2].split(","))))
    return found


def _own_groups(roots: Roots) -> dict[str, str]:
    """Our group by controller; "" is the one of version 2."""
    own: dict[str, str] = {}
    with suppress(OSError):
        for line in (roots.proc / "self" / "cgroup").read_text().splitlines():
            _, names, path = line.split(":", 2)
            for controller in names.split(","):
                own[controller] = path
    return own


def _words(path: Path) -> list[str]:
    with suppress(OSError):
        return path.read_text().split()
    return []


def _can_make(folder: Path) -> bool:
    """Whether this group can be made: make it, and take it away again."""
    try:
        folder.mkdir(exist_ok=True)
        folder.rmdir()
    except OSError:
        return False
    return True
