"""Control groups of version 2: one folder, with `cgroup.freeze` and `cgroup.kill` always, memory where it is enabled.

A group with processes cannot hand controllers to groups below it (the kernel's "no internal processes" rule), so the
parent holds slots only, and each slot is a leaf.
"""

from __future__ import annotations

import os

from ergates.drivers.cgroups import files

TYPE_CHECKING = False  # importing typing would cost every slot a megabyte
if TYPE_CHECKING:
    from typing import Any


class V2Tree:
    """The parent folder, e.g. `/sys/fs/cgroup/user.slice/.../ergates-...`."""

    kind = "v2"

    def __init__(self, parent: str) -> None:
        self._parent = parent
        self._stat = files.KernelFile(parent + "/memory.stat")

    def spec(self) -> dict[str, Any]:
        return {"kind": self.kind, "parent": self._parent}

    def create(self) -> None:
        os.makedirs(self._parent, exist_ok=True)
        for controller in ("memory", "pids"):  # one by one: a missing one must not take the other with it
            files.write(self._parent + "/cgroup.subtree_control", "+" + controller)

    def slot(self, number: int, helper_pid: int = 0, *, warm: bool = False) -> V2Slot:
        return V2Slot(f"{self._parent}/slot-{number}", 0 if warm else helper_pid)

    def set_memory_limit(self, limit_bytes: int) -> bool:
        if not files.write(self._parent + "/memory.max", str(limit_bytes)):
            return False
        files.write(self._parent + "/memory.swap.max", "0")  # a task must not crawl through swap; absent without swap
        return True

    def used_bytes(self) -> int | None:
        return _anonymous_and_shared(self._stat)

    def kill_all(self, timeout_s: float) -> bool:
        files.write(self._parent + "/cgroup.kill", "1")  # kernel 5.14 and later; kills frozen ones too
        for folder in files.folders_below(self._parent):
            files.send(files.pids_in(folder), 9)
            files.write(folder + "/cgroup.freeze", "0")
        return files.kill_until_empty(self._parent, timeout_s)

    def remove(self) -> bool:
        return files.remove_below(self._parent)

    def close(self) -> None:
        self._stat.close()


class V2Slot:
    """One slot's folder."""

    def __init__(self, folder: str, helper_pid: int) -> None:
        self._folder, self._helper_pid = folder, helper_pid
        self._stat = files.KernelFile(folder + "/memory.stat")
        # A write resets what later reads of the *same open file* see (kernel 6.12); before that it is refused.
        self._peak = files.KernelFile(folder + "/memory.peak", os.O_RDWR)
        self._peak_is_ours = False
        self._events = files.KernelFile(folder + "/memory.events")
        self._cpu = files.KernelFile(folder + "/cpu.stat")

    def create(self) -> None:
        os.makedirs(self._folder, exist_ok=True)
        self.allow_forks()  # a helper killed while it emptied this group may have left them forbidden

    def enter(self, pid: int) -> None:
        if not files.write(self._folder + "/cgroup.procs", str(pid)):
            raise OSError(f"the kernel does not let process {pid} enter {self._folder}")

    def used_bytes(self) -> int | None:
        used = _anonymous_and_shared(self._stat)
        return files.resident_bytes(self.procs()) if used is None else used  # no memory controller: an upper bound

    def reset_peak(self) -> None:
        self._peak_is_ours = self._peak.write(b"reset\n")

    def peak_bytes(self) -> int:
        return (self._peak.number() or 0) if self._peak_is_ours else 0

    def cpu_ns(self) -> int | None:
        data = self._cpu.read()
        return files.field(data, b"usage_usec") * 1000 if data else None

    def oom_kills(self) -> int:
        return files.field(self._events.read(), b"oom_kill")

    def procs(self) -> list[int]:
        return [pid for pid in files.pids_below(self._folder) if pid != self._helper_pid]

    def signal_all(self, number: int) -> None:
        files.send(self.procs(), number)

    def freeze(self) -> None:
        files.write(self._folder + "/cgroup.freeze", "1")

    def thaw(self) -> None:
        files.write(self._folder + "/cgroup.freeze", "0")

    def forbid_forks(self) -> None:
        files.write(self._folder + "/pids.max", "0")

    def allow_forks(self) -> None:
        files.write(self._folder + "/pids.max", "max")

    def kill_all(self, timeout_s: float) -> bool:
        files.write(self._folder + "/cgroup.kill", "1")
        files.send(files.pids_below(self._folder), 9)  # for kernels without cgroup.kill
        self.thaw()
        return files.kill_until_empty(self._folder, timeout_s)

    def remove(self) -> bool:
        return files.remove_below(self._folder)

    def close(self) -> None:
        for file in (self._stat, self._peak, self._events, self._cpu):
            file.close()


def _anonymous_and_shared(stat: files.KernelFile) -> int | None:
    data = stat.read()
    return files.field(data, b"anon") + files.field(data, b"shmem") if data else None
