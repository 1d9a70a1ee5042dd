"""What our programs started and left behind: found by the kernel's lists of children, and ended.

This process adopts orphans, so whatever its programs leave is its own child in the end, daemons that gave themselves a session
of their own among them: when it has no child any more, nothing is left.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress

from ergates.drivers.launchers.prctl import adopt_orphans

_PAUSE_S_MIN, _PAUSE_S_MAX = 0.0005, 0.02


class Brood:
    """The children of this process but those that were there before. Adopts orphans from now on."""

    def __init__(self) -> None:
        adopt_orphans()
        self._before = frozenset(children_of(os.getpid()))

    def all(self) -> list[int]:
        """Every process that descends from us and is none of those, or below one: children before theirs."""
        found = [pid for pid in children_of(os.getpid()) if pid not in self._before]
        for pid in found:  # grows while it is walked
            found += children_of(pid)
        return found

    def sweep(self, patience_s: float) -> list[int]:
        """Kill them all and wait for them; returns those that would not go (they wait for a broken disk or server)."""
        until, pause_s = time.monotonic() + patience_s, _PAUSE_S_MIN
        while left := self.all():
            for pid in left:
                with suppress(ProcessLookupError, PermissionError):  # ended meanwhile, or became somebody else's
                    os.kill(pid, signal.SIGKILL)
            for pid in left:
                with suppress(ChildProcessError):  # not our own child: its parent's, and ours once that is dead
                    os.waitpid(pid, os.WNOHANG)
            if time.monotonic() > until:
                return self.all()
            time.sleep(pause_s)
            pause_s = min(_PAUSE_S_MAX, 2 * pause_s)
        return []


def children_of(pid: int) -> list[int]:
    """Direct children, dead ones that nobody waited for included."""
    found: list[int] = []
    with suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            with suppress(FileNotFoundError), open(f"/proc/{pid}/task/{task}/children") as file:
                found += [int(child) for child in file.read().split()]
    return found


def signal_group(leader: int, number: int) -> None:
    """To every process of the group that `leader` began; nothing to do when none is left."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, number)
