"""Control groups of version 1: one folder per controller, of which any may be missing.

`memory` counts and limits, `freezer` stops and starts, `cpuacct` counts CPU time, `pids` forbids forks. In
`memory.stat`, `rss` is anonymous memory (the kernel's NR_ANON_MAPPED; its own comment calls the name a mistake) and
`shmem` is shared memory and tmpfs files; the `total_` ones include groups below. The kernel brings these numbers
together in batches: they may be some hundred KiB behind.
"""

from __future__ import annotations

import os

from ergates.drivers.cgroups import files

TYPE_CHECKING = False  # importing typing would cost every slot a megabyte
if TYPE_CHECKING:
    from typing import Any

CONTROLLERS = ("memory", "freezer", "cpuacct", "pids")


class V1Tree:
    """Parent folders, one per controller that is there: `{"memory": "/sys/fs/cgroup/memory/ergates-...", ...}`."""

    kind = "v1"

    def __init__(self, parents: dict[str, str]) -> None:
        self._parents = parents
        self._stat = files.KernelFile(parents.get("memory", "") + "/memory.stat")

    def spec(self) -> dict[str, Any]:
        return {"kind": self.kind, "parents": self._parents}

    def create(self) -> None:
        for folder in self._parents.values():
            os.makedirs(folder, exist_ok=True)

    def slot(self, number: int, helper_pid: int = 0, *, warm: bool = False) -> V1Slot:
        folders = {controller: f"{folder}/slot-{number}" for controller, folder in self._parents.items()}
        return V1Slot(folders, 0 if warm else helper_pid)

    def set_memory_limit(self, limit_bytes: int) -> bool:
        folder = self._parents.get("memory")
        if folder is None or not files.write(folder + "/memory.limit_in_bytes", str(limit_bytes)):
            return False
        # Memory plus swap at the same height: a task must not crawl through swap. Absent where swap is not counted.
        files.write(folder + "/memory.memsw.limit_in_bytes", str(limit_bytes))
        return True

    def used_bytes(self) -> int | None:
        return _anonymous_and_shared(self._stat)

    def kill_all(self, timeout_s: float) -> bool:
        """Freeze all slots at once, so that nothing forks away, kill, thaw."""
        freezer = self._parents.get("freezer")
        if freezer is not None:
            files.write(freezer + "/freezer.state", "FROZEN")
        for folder in self._parents.values():
            files.send(files.pids_below(folder), 9)
        if freezer is not None:
            for folder in reversed(files.folders_below(freezer)):
                files.write(folder + "/freezer.state", "THAWED")
        return not [folder for folder in self._parents.values() if not files.kill_until_empty(folder, timeout_s)]

    def remove(self) -> bool:
        return not [folder for folder in self._parents.values() if not files.remove_below(folder)]

    def close(self) -> None:
        self._stat.close()


class V1Slot:
    """One slot's folders."""

    def __init__(self, folders: dict[str, str], helper_pid: int) -> None:
        self._folders, self._helper_pid = folders, helper_pid
        self._any = next(iter(folders.values()))
        memory = folders.get("memory", "")
        self._stat = files.KernelFile(memory + "/memory.stat")
        self._peak = files.KernelFile(memory + "/memory.max_usage_in_bytes", os.O_RDWR)
        self._oom = files.KernelFile(memory + "/memory.oom_control")
        self._cpu = files.KernelFile(folders.get("cpuacct", "") + "/cpuacct.usage")

    def create(self) -> None:
        for folder in self._folders.values():
            os.makedirs(folder, exist_ok=True)
        self.allow_forks()  # a helper killed while it emptied this group may have left them forbidden

    def enter(self, pid: int) -> None:
        for folder in self._folders.values():
            if not files.write(folder + "/cgroup.procs", str(pid)):
                raise OSError(f"the kernel does not let process {pid} enter {folder}")

    def used_bytes(self) -> int | None:
        used = _anonymous_and_shared(self._stat)
        return files.resident_bytes(self.procs()) if used is None else used  # no memory controller: an upper bound

    def reset_peak(self) -> None:
        self._peak.write(b"0")

    def peak_bytes(self) -> int:
        return self._peak.number() or 0

    def cpu_ns(self) -> int | None:
        return self._cpu.number()

    def oom_kills(self) -> int:
        return files.field(self._oom.read(), b"oom_kill")

    def procs(self) -> list[int]:
        return [pid for pid in files.pids_below(self._any) if pid != self._helper_pid]

    def signal_all(self, number: int) -> None:
        files.send(self.procs(), number)

    def freeze(self) -> None:
        self._set_freezer("FROZEN")

    def thaw(self) -> None:
        self._set_freezer("THAWED")

    def forbid_forks(self) -> None:
        files.write(self._folders.get("pids", "") + "/pids.max", "0")

    def allow_forks(self) -> None:
        files.write(self._folders.get("pids", "") + "/pids.max", "max")

    def kill_all(self, timeout_s: float) -> bool:
        """Freeze, kill, thaw: a signal to a frozen process waits until it is thawed."""
        self.freeze()
        files.send(files.pids_below(self._any), 9)
        self.thaw()
        return files.kill_until_empty(self._any, timeout_s)

    def remove(self) -> bool:
        return not [folder for folder in self._folders.values() if not files.remove_below(folder)]

    def close(self) -> None:
        for file in (self._stat, self._peak, self._oom, self._cpu):
            file.close()

    def _set_freezer(self, state: str) -> None:
        if "freezer" in self._folders:
            files.write(self._folders["freezer"] + "/freezer.state", state)


def _anonymous_and_shared(stat: files.KernelFile) -> int | None:
    data = stat.read()
    return files.field(data, b"total_rss") + files.field(data, b"total_shmem") if data else None
