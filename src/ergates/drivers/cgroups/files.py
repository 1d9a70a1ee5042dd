"""Small kernel files: read them whole through a file that stays open, write them, list and empty the folders of groups.

Loaded by every slot: imports nothing that is not in the interpreter.
"""

from __future__ import annotations

import os
import signal
import time


class KernelFile:
    """A file of the kernel that is read again and again: opened once, at the first use; b"" when it is not there."""

    __slots__ = ("_fd", "_flags", "_path")

    def __init__(self, path: str, flags: int = os.O_RDONLY) -> None:
        self._path, self._flags = path, flags
        self._fd = -1

    def read(self) -> bytes:
        try:
            if self._fd < 0:
                self._fd = os.open(self._path, self._flags | os.O_CLOEXEC)
            return os.pread(self._fd, 65536, 0)
        except OSError:  # the group is gone, or this kernel has no such file: both read as "unknown"
            return b""

    def write(self, data: bytes) -> bool:
        """Write through the same open file; False when the kernel refuses."""
        try:
            if self._fd < 0:
                self._fd = os.open(self._path, self._flags | os.O_CLOEXEC)
            os.pwrite(self._fd, data, 0)
            return True
        except OSError:
            return False

    def number(self) -> int | None:
        data = self.read().strip()
        return int(data) if data.isdigit() else None

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def field(data: bytes, name: bytes) -> int:
    """The number behind `name` and a space at the beginning of a line; 0 when there is no such line."""
    begin = 0 if data.startswith(name + b" ") else data.find(b"\n" + name + b" ") + 1
    if begin == 0 and not data.startswith(name + b" "):
        return 0
    begin += len(name) + 1
    end = data.find(b"\n", begin)
    return int(data[begin:] if end < 0 else data[begin:end])  # spaces around it do not matter


def write(path: str, data: str) -> bool:
    """Write a kernel file; False when it is not there or the kernel refuses."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        os.write(fd, data.encode())
        return True
    except OSError:
        return False
    finally:
        os.close(fd)


def pids_in(folder: str) -> list[int]:
    """Processes of one group (not of groups below it); empty when it is gone."""
    try:
        fd = os.open(folder + "/cgroup.procs", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return []
    pieces = []
    try:
        while piece := os.read(fd, 65536):
            pieces.append(piece)
    except OSError:  # removed while we read
        return []
    finally:
        os.close(fd)
    return [int(pid) for pid in b"".join(pieces).split()]


def folders_below(folder: str) -> list[str]:
    """The folder and all below it, deepest first: the order in which groups can be removed."""
    found: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    found += folders_below(entry.path)
    except OSError:  # removed while we looked
        return found
    found.append(folder)
    return found


def pids_below(folder: str) -> list[int]:
    """Processes of a group and of all groups below it."""
    return [pid for each in folders_below(folder) for pid in pids_in(each)]


def send(pids: list[int], number: int) -> None:
    """One signal to each process that is still there and ours."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except (ProcessLookupError, PermissionError):  # ended meanwhile; or became another user's (set-uid)
            continue


def resident_bytes(pids: list[int], proc: str = "/proc") -> int:
    """Resident anonymous and shared memory of processes; what two of them share counts twice."""
    total_kib = 0
    for pid in pids:
        try:
            with open(f"{proc}/{pid}/status", "rb", buffering=0) as file:
                data = file.read(8192).replace(b":\t", b" ").replace(b" kB", b"")
        except OSError:  # it ended while we looked
            continue
        total_kib += field(data, b"RssAnon") + field(data, b"RssShmem")
    return total_kib * 1024


def kill_until_empty(folder: str, timeout_s: float) -> bool:
    """SIGKILL everything in a group and below, again and again until nothing is left; True when that came in time."""
    until = time.monotonic() + timeout_s
    pause_s = 0.0005
    while pids := pids_below(folder):
        send(pids, signal.SIGKILL)
        if time.monotonic() > until:
            return False
        time.sleep(pause_s)
        pause_s = min(0.02, pause_s * 2)
    return True


def remove_below(folder: str, timeout_s: float = 1.0) -> bool:
    """Remove a group and all below it. The kernel says "busy" for a moment after the last process went; True when gone."""
    until = time.monotonic() + timeout_s
    while True:
        left = False
        for each in folders_below(folder):
            try:
                os.rmdir(each)  # noqa: PTH106  pathlib is too heavy to load here
            except FileNotFoundError:
                continue
            except OSError:
                left = True
        if not left:
            return True
        if time.monotonic() > until:
            return False
        time.sleep(0.005)
