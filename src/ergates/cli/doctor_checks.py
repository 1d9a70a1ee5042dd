"""What Ergates needs of a machine, checked one by one: what was found, whether that is well, and what to do if not.

Each check looks and judges; none changes anything but by trying (and undoing) what a run would do.
"""

from __future__ import annotations

import os
import platform
import resource
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ergates.cli.wording import percent
from ergates.drivers import machine
from ergates.drivers.cgroups.detect import detect
from ergates.drivers.machine import Roots
from ergates.drivers.stores.file_systems import file_system_of, is_network
from ergates.units import GIB, MIB, format_bytes

Level = Literal["ok", "warn", "fail"]
_FILES_WANTED = 1024
_DISK_WANTED = GIB
_DISK_NEEDED = 64 * MIB


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report; `advice` says what to do, empty when all is well."""

    name: str
    level: Level
    found: str
    advice: str = ""


def all_findings(state_dir: Path, roots: Roots | None = None) -> list[Finding]:
    """Every check, in the order a reader wants them."""
    roots = roots or Roots()
    checks: tuple[Callable[[], Finding], ...] = (
        python_version,
        lambda: cpus(roots),
        lambda: memory(roots),
        lambda: pressure(roots),
        lambda: control_groups(roots),
        lambda: state_directory(state_dir),
        lambda: disk(state_dir),
        limits,
        containers,
        completion,
    )
    return [check() for check in checks]


def python_version() -> Finding:
    """3.11 is what the package asks for."""
    return Finding("Python", "ok", f"{platform.python_version()} ({platform.python_implementation()})")


def cpus(roots: Roots) -> Finding:
    """Affinity, and a quota that cuts it."""
    ids, milli = machine.cpu_ids(), machine.cpus_milli(roots)
    if milli < len(ids) * 1000:
        advice = "a control group around us has a CPU quota; no more tasks than that run at once"
        return Finding("cores", "ok", f"{milli / 1000:g} of {len(ids)} (quota)", advice)
    of_machine = os.cpu_count() or len(ids)
    note = f" of {of_machine} (affinity)" if len(ids) < of_machine else ""
    return Finding("cores", "ok", f"{len(ids)}{note}")


def memory(roots: Roots) -> Finding:
    """The machine's, or the limit around us."""
    total, available = machine.memory_total_bytes(roots), machine.memory_available_bytes(roots)
    limit = machine.memory_limit(roots)
    found = f"{format_bytes(total)}, {format_bytes(available)} available"
    if limit is not None:
        found = f"{format_bytes(limit.limit_bytes)} (limit of {limit.folder}), machine {found}"
    if available < total / 10:
        return Finding("memory", "warn", found, "nearly all is in use already: tasks will wait for each other")
    return Finding("memory", "ok", found)


def pressure(roots: Roots) -> Finding:
    """PSI makes throttling prompt; free memory alone works, too."""
    fraction = machine.memory_pressure_fraction(roots)
    if fraction is None:
        advice = "free memory alone is watched; boot with psi=1 for earlier warning"
        return Finding("memory pressure", "warn", "the kernel does not tell (no PSI)", advice)
    return Finding(
        "memory pressure", "ok", f"some process waited for memory in {percent(fraction, 1)} of the last 10 s"
    )


def control_groups(roots: Roots) -> Finding:
    """Which kind a run would get, by making one."""
    found = detect(f"ergates-doctor-{os.getpid()}", roots=roots)
    kind = found.tree.kind
    why = "; ".join(found.reasons)
    if kind == "tree":
        advice = (
            "tasks are followed as process trees: memory is sampled less exactly and --memory is no hard limit. "
            "Run inside `systemd-run --user --scope -p Delegate=yes`, or as root"
        )
        return Finding("control groups", "warn", f"none usable: {why}", advice)
    if f"control groups {kind}: the memory controller is not there" in why:
        advice = "enable the memory controller (cgroup_enable=memory, or Delegate=yes in the session)"
        return Finding("control groups", "warn", f"{kind} without memory", advice)
    return Finding("control groups", "ok", f"{kind}, with the right to make groups and limit memory")


def state_directory(state_dir: Path) -> Finding:
    """A network file system needs a rollback journal, and one writer at a time."""
    parent = _existing(state_dir)
    kind = file_system_of(parent)
    if not os.access(parent, os.W_OK):
        return Finding(
            "state", "fail", f"{state_dir}: no right to write", "name another place: --state DIR or ERGATES_STATE"
        )
    if is_network(kind):
        advice = "the state is better kept on a local disk: --state DIR or ERGATES_STATE"
        return Finding("state", "warn", f"{state_dir} on a network file system ({kind})", advice)
    if kind == "tmpfs":
        return Finding("state", "warn", f"{state_dir} in memory (tmpfs)", "it is gone after a reboot, and uses memory")
    return Finding("state", "ok", f"{state_dir} ({kind or 'unknown file system'})")


def disk(state_dir: Path) -> Finding:
    """Outputs and the ledger need room; nothing starts on a full disk."""
    free = machine.disk_room(_existing(state_dir))[0]
    found = f"{format_bytes(free)} free for state and outputs"
    if free < _DISK_NEEDED:
        return Finding("disk", "fail", found, f"free at least {format_bytes(_DISK_NEEDED)}: until then no task starts")
    if free < _DISK_WANTED:
        return Finding("disk", "warn", found, "tasks that print much may fill it; runs wait when it is full")
    return Finding("disk", "ok", found)


def limits() -> Finding:
    """Open files and processes."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    processes = resource.getrlimit(resource.RLIMIT_NPROC)[0]
    found = f"{_shown(files)} open files, {_shown(processes)} processes"
    if files != resource.RLIM_INFINITY and files < _FILES_WANTED:
        return Finding("limits", "warn", found, f"raise the first: ulimit -n {_FILES_WANTED}")
    needed = 20 * len(machine.cpu_ids())
    if processes != resource.RLIM_INFINITY and processes < needed:
        return Finding("limits", "warn", found, f"raise the second: ulimit -u {needed}")
    return Finding("limits", "ok", found)


def containers() -> Finding:
    """Only tasks with an image need an engine."""
    host = os.environ.get("DOCKER_HOST", "")
    runtime = os.environ.get("XDG_RUNTIME_DIR", f"/run/user/{os.geteuid()}")
    sockets = (
        host.removeprefix("unix://"),
        "/var/run/docker.sock",
        f"{runtime}/podman/podman.sock",
        "/run/podman/podman.sock",
    )
    reachable = next((path for path in sockets if path and os.path.exists(path)), "")
    if reachable and os.access(reachable, os.R_OK | os.W_OK):
        return Finding("containers", "ok", f"an engine listens at {reachable}")
    if reachable:
        return Finding(
            "containers", "warn", f"no right to use {reachable}", "join its group (docker), for --image only"
        )
    there = [name for name in ("docker", "podman") if shutil.which(name)]
    found = f"{there[0]} is installed, no engine listens" if there else "no engine"
    return Finding(
        "containers", "ok", found, "only --image needs one: start Docker, or `systemctl --user start podman.socket`"
    )


def completion() -> Finding:
    """Whether the user's shell completes `erg`: only where the script usually lies can be seen."""
    shell = os.path.basename(os.environ.get("SHELL", ""))
    home = Path.home()
    places = {
        "bash": home / ".local/share/bash-completion/completions/erg",
        "zsh": home / ".zfunc/_erg",
        "fish": home / ".config/fish/completions/erg.fish",
    }
    if shell not in places:
        return Finding("completion", "ok", f"none for {shell or 'this shell'}")
    if places[shell].exists():
        return Finding("completion", "ok", f"{places[shell]}")
    return Finding("completion", "ok", f"not set up for {shell}", f"erg completion {shell} > {places[shell]}")


def _existing(path: Path) -> Path:
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def _shown(limit: int) -> str:
    return "unlimited" if limit == resource.RLIM_INFINITY else f"{limit:,}"
