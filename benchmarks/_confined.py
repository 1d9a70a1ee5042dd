"""A memory cgroup for the rivals: `xargs` inside 4 GiB is what `erg run --memory 4GiB` is compared with. Needs root."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

V1_ROOT = Path("/sys/fs/cgroup/memory")
V2_ROOT = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class MemoryGroup:
    """A cgroup with a memory limit, and how to run something in it."""

    folder: Path
    v2: bool

    def inside(self, argv: Sequence[str]) -> list[str]:
        """The same command, in this group from its first instruction on."""
        return ["/bin/sh", "-c", 'echo $$ >"$0"/cgroup.procs && exec "$@"', str(self.folder), *argv]

    def kernel_kills(self) -> int:
        """Processes the kernel killed in it for memory."""
        text = (self.folder / ("memory.events" if self.v2 else "memory.oom_control")).read_text()
        counts = dict(line.split() for line in text.splitlines())
        return int(counts["oom_kill"])


@contextmanager
def memory_group(limit_bytes: int) -> Iterator[MemoryGroup]:
    """Make the group, remove it afterwards with whatever is still in it.

    Raises:
        OSError: no right to make cgroups, or no memory controller here.
    """
    v2 = not V1_ROOT.is_dir()
    folder = (V2_ROOT if v2 else V1_ROOT) / f"ergates-benchmark-{os.getpid()}"
    if v2 and "memory" not in (V2_ROOT / "cgroup.subtree_control").read_text().split():
        (V2_ROOT / "cgroup.subtree_control").write_text("+memory")
    folder.mkdir()
    group = MemoryGroup(folder, v2)
    try:
        (folder / ("memory.max" if v2 else "memory.limit_in_bytes")).write_text(str(limit_bytes))
        if v2 and (folder / "memory.swap.max").exists():
            (folder / "memory.swap.max").write_text("0")
        yield group
    finally:
        _empty(folder)
        folder.rmdir()


def _empty(folder: Path) -> None:
    while members := (folder / "cgroup.procs").read_text().split():
        for pid in members:
            os.kill(int(pid), signal.SIGKILL)
