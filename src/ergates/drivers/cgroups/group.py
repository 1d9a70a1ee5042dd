"""What a launcher needs of the kernel's groups, whichever kind this machine has: v2, v1, or none (a walk over /proc).

A `GroupTree` is the parent of all slots of one worker, a `SlotGroup` the group of one slot. The modules beside this one
are also loaded by the small supervisor and by every slot, so they import next to nothing; this one is for type
checkers and readers only.
"""

from __future__ import annotations

from typing import Any, Protocol


class SlotGroup(Protocol):
    """All processes of one slot.

    The slot's helper is in the group too, but is not counted by `procs` nor reached by `signal_all`, unless the
    slot is a warm interpreter: that one is itself the attempt.
    """

    def create(self) -> None:
        """Make the group; fine when it is there already."""
        ...

    def enter(self, pid: int) -> None: ...

    def used_bytes(self) -> int | None:
        """Anonymous plus shared memory now, the helper's included (not without a memory controller); None when unknown."""
        ...

    def reset_peak(self) -> None: ...

    def peak_bytes(self) -> int:
        """Highest use since `reset_peak`, page cache included; 0 when unknown."""
        ...

    def cpu_ns(self) -> int | None:
        """CPU time so far, of everything that ever was in the group; None when unknown."""
        ...

    def oom_kills(self) -> int:
        """How many of the group's processes the kernel has killed for memory so far."""
        ...

    def procs(self) -> list[int]: ...

    def signal_all(self, number: int) -> None:
        """Send a signal to everything in `procs`, once."""
        ...

    def freeze(self) -> None: ...

    def thaw(self) -> None: ...

    def forbid_forks(self) -> None:
        """While a group is being emptied, so that nothing can fork faster than it is killed; where the kernel can."""
        ...

    def allow_forks(self) -> None: ...

    def kill_all(self, timeout_s: float) -> bool:
        """SIGKILL everything, the helper included, frozen or not; True when the group was empty in time."""
        ...

    def remove(self) -> bool:
        """Take the (empty) group away; True when it is gone."""
        ...

    def close(self) -> None:
        """Close the files held open for reading."""
        ...


class GroupTree(Protocol):
    """The parent of all slot groups of one worker."""

    kind: str
    """`v2`, `v1` or `tree`."""

    def spec(self) -> dict[str, Any]:
        """What `rebuild` (v1, v2 or tree module) makes the same object from, in the supervisor or after a crash."""
        ...

    def create(self) -> None: ...

    def slot(self, number: int, helper_pid: int = 0, *, warm: bool = False) -> SlotGroup: ...

    def set_memory_limit(self, limit_bytes: int) -> bool:
        """A hard limit on all slots together, swap included; False where that cannot be had."""
        ...

    def used_bytes(self) -> int | None:
        """Anonymous plus shared memory of all slots together, helpers included; None when unknown."""
        ...

    def kill_all(self, timeout_s: float) -> bool:
        """SIGKILL everything in every slot, frozen or not; True when all were empty in time."""
        ...

    def remove(self) -> bool:
        """Take the slots and the parent away; True when they are gone."""
        ...

    def close(self) -> None: ...
