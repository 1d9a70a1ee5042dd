"""The last net: what a worker started is written down, so that the next start can end what a crash left behind.

Each worker has a folder `workers/<id>/` in the state directory with its spool files and a record: who it is (pid, start
time, boot, pid namespace) and which groups it made. The supervisor removes it when all is well. A record whose
worker is provably dead is cleaned up: its groups are killed and removed. Without groups, processes are known by a
variable in their environment.
"""

from __future__ import annotations

import json
import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from ergates.drivers import machine
from ergates.drivers.cgroups import files
from ergates.drivers.cgroups.rebuild import rebuild
from ergates.drivers.launchers.scratch import remove_tree

RECORD = "launcher.json"
MARK = "ERGATES_LAUNCHER"
"""Environment variable of every attempt on machines without control groups; its value names the worker."""
_KILL_TIMEOUT_S = 5.0


def write_record(folder: Path, launcher: str, tree: dict[str, Any]) -> None:
    """Write down who we are and what we are about to make, before we make it.

    Raises:
        OSError: the disk is full or read-only.
    """
    pid = os.getpid()
    record = {
        "launcher": launcher,
        "host": machine.host_name(),
        "pid": pid,
        "pid_start_ticks": machine.pid_start_ticks(pid),
        "boot_id": machine.boot_id(),
        "pid_namespace": _pid_namespace(),
        "tree": tree,
    }
    beside = folder / (RECORD + ".new")
    beside.write_text(json.dumps(record))
    beside.replace(folder / RECORD)


def clean_leftovers(state_dir: Path) -> list[str]:
    """End what dead workers of this machine left, and remove their groups and folders.

    Returns:
        Names of the workers cleaned up. Records of living workers, of other machines and of other containers are
        left alone.
    """
    cleaned = []
    for path in sorted((state_dir / "workers").glob(f"*/{RECORD}")):
        try:
            record = json.loads(path.read_text())
            judged_dead = _is_dead(record)
        except (OSError, ValueError, KeyError, TypeError):  # removed meanwhile, or cut off by a full disk: says nothing
            continue
        if judged_dead and _clean(path.parent, record):
            cleaned.append(path.parent.name)
    return cleaned


def kill_marked(launcher: str, timeout_s: float = _KILL_TIMEOUT_S, proc: str = "/proc") -> bool:
    """SIGKILL every process whose environment carries this launcher's mark; True when none was left in time."""
    until = time.monotonic() + timeout_s
    while pids := _marked(f"{MARK}={launcher}".encode(), proc):
        files.send(pids, signal.SIGKILL)
        if time.monotonic() > until:
            return False
        time.sleep(0.002)
    return True


def remove_folder(folder: Path) -> None:
    """Remove a worker's folder: spools, scratch directories, log and, last, the record."""
    with suppress(OSError):  # somebody cleans at the same time, or the disk is read-only now
        for path in sorted(folder.iterdir(), key=lambda path: path.name == RECORD):
            remove_tree(str(path))
        folder.rmdir()


def _is_dead(record: dict[str, Any]) -> bool:
    """Only what is certain: another boot of this very host, or this boot without that process."""
    if record["boot_id"] != machine.boot_id():
        return bool(record["host"] == machine.host_name())
    if record["pid_namespace"] != _pid_namespace():
        return False
    return bool(machine.pid_start_ticks(record["pid"]) != record["pid_start_ticks"])


def _clean(folder: Path, record: dict[str, Any]) -> bool:
    if record["boot_id"] == machine.boot_id():  # after a reboot nothing is left of groups and processes
        if record["tree"]["kind"] == "tree":
            if not kill_marked(record["launcher"]):
                return False
        else:
            tree = rebuild(record["tree"])
            if not tree.kill_all(_KILL_TIMEOUT_S) or not tree.remove():
                return False
    remove_folder(folder)
    return True


def _marked(mark: bytes, proc: str) -> list[int]:
    found = []
    for name in os.listdir(proc):
        if name.isdigit() and int(name) != os.getpid():
            with suppress(OSError):  # it ended while we looked, or is not ours to read
                if mark in Path(proc, name, "environ").read_bytes().split(b"\0"):
                    found.append(int(name))
    return found


def _pid_namespace() -> str:
    with suppress(OSError):
        return str(Path("/proc/self/ns/pid").readlink())
    return ""
