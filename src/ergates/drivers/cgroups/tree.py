"""No control groups: what a slot runs is whatever descends from it, found by walking /proc.

The slot is a "child subreaper": a process whose parent dies becomes its child, so nothing can leave the tree. Memory is
the sum over its processes (memory shared between them counts once for each: an upper bound); freezing is SIGSTOP.
"""

from __future__ import annotations

import os
import signal
import time

from ergates.drivers.cgroups import files

TYPE_CHECKING = False  # importing typing would cost every slot a megabyte
if TYPE_CHECKING:
    from typing import Any


_RECENT_S = 0.005


class ProcessTree:
    """Slots without groups. `kill_all` reaches what descends from this process."""

    kind = "tree"

    def __init__(self, proc: str = "/proc") -> None:
        self._proc = proc
        self._children: dict[int, list[int]] = {}
        self._seen_at_s = 0.0

    def recent_children(self) -> dict[int, list[int]]:
        """Who is whose child, a few milliseconds old at most: one walk serves the samples of all slots."""
        now_s = time.monotonic()
        if now_s - self._seen_at_s > _RECENT_S:
            self._children, self._seen_at_s = children_by_parent(self._proc), now_s
        return self._children

    def spec(self) -> dict[str, Any]:
        return {"kind": self.kind, "proc": self._proc}

    def create(self) -> None:
        """Nothing to make."""

    def slot(self, number: int, helper_pid: int = 0, *, warm: bool = False) -> TreeSlot:  # noqa: ARG002  slots have no name here
        return TreeSlot(self, helper_pid, warm=warm, proc=self._proc)

    def set_memory_limit(self, limit_bytes: int) -> bool:  # noqa: ARG002  the kernel has no limit for a tree
        return False

    def used_bytes(self) -> int | None:
        return None

    def kill_all(self, timeout_s: float) -> bool:
        """The supervisor's own children are the slots, and what dead slots left."""
        return kill_descendants(os.getpid(), timeout_s, self._proc)

    def remove(self) -> bool:
        return True

    def close(self) -> None:
        """Nothing is held open."""


class TreeSlot:
    """One slot: the processes below its helper."""

    def __init__(self, tree: ProcessTree, helper_pid: int, *, warm: bool, proc: str) -> None:
        self._tree = tree
        self._helper_pid, self._warm, self._proc = helper_pid, warm, proc

    def create(self) -> None:
        """Nothing to make."""

    def enter(self, pid: int) -> None:
        self._helper_pid = pid

    def used_bytes(self) -> int | None:
        """Resident anonymous and shared memory of what the slot runs (not of its helper)."""
        below = _below(self._helper_pid, self._tree.recent_children())
        return files.resident_bytes([self._helper_pid, *below] if self._warm else below, self._proc)

    def reset_peak(self) -> None:
        """There is no peak to reset."""

    def peak_bytes(self) -> int:
        return 0

    def cpu_ns(self) -> int | None:
        return None

    def oom_kills(self) -> int:
        return 0

    def procs(self) -> list[int]:
        if not self._helper_pid:
            return []
        below = descendants(self._helper_pid, self._proc)
        return [self._helper_pid, *below] if self._warm else below

    def signal_all(self, number: int) -> None:
        files.send(self.procs(), number)

    def freeze(self) -> None:
        """SIGSTOP until a look finds nobody new: a child may be forked while we stop its parent."""
        stopped: set[int] = set()
        while new := set(self.procs()) - stopped:
            files.send(sorted(new), signal.SIGSTOP)
            stopped |= new

    def thaw(self) -> None:
        self.signal_all(signal.SIGCONT)

    def forbid_forks(self) -> None:
        """Cannot be had here; killing goes on until nothing is left."""

    def allow_forks(self) -> None:
        """Nothing was forbidden."""

    def kill_all(self, timeout_s: float) -> bool:
        """SIGKILL reaches stopped processes too."""
        if not self._helper_pid:
            return True
        emptied = kill_descendants(self._helper_pid, timeout_s, self._proc)
        files.send([self._helper_pid], signal.SIGKILL)
        return emptied

    def remove(self) -> bool:
        return True

    def close(self) -> None:
        """Nothing is held open."""


def descendants(root: int, proc: str = "/proc") -> list[int]:
    """Pids of the living children of `root`, their children, and so on (zombies left out), parents before children."""
    return _below(root, children_by_parent(proc))


def children_by_parent(proc: str = "/proc") -> dict[int, list[int]]:
    """Every living process, by its parent."""
    children: dict[int, list[int]] = {}
    for name in os.listdir(proc):
        if not name.isdigit():
            continue
        try:
            with open(f"{proc}/{name}/stat", "rb", buffering=0) as file:
                fields = file.read(512).rpartition(b")")[2].split(None, 18)
        except OSError:  # it ended while we looked
            continue
        # A zombie with more than one thread lives on in those; see proc_pid_stat(5) for the fields.
        if len(fields) > 17 and (fields[0] not in b"ZX" or int(fields[17]) > 1):
            children.setdefault(int(fields[1]), []).append(int(name))
    return children


def kill_descendants(root: int, timeout_s: float, proc: str = "/proc") -> bool:
    """SIGKILL everything below `root`, again and again until nothing is left; True when that came in time."""
    until = time.monotonic() + timeout_s
    while pids := descendants(root, proc):
        files.send(pids, signal.SIGKILL)
        if time.monotonic() > until:
            return False
        time.sleep(0.002)
    return True


def _below(root: int, children: dict[int, list[int]]) -> list[int]:
    found: list[int] = []
    waiting = [root]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found
