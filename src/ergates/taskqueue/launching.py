"""What starting, watching and ending attempts on this node looks like; drivers/launchers/ does it.

A launcher never decides. It starts what it is told, reports ends as events with complete facts, samples memory,
freezes, thaws and kills.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from ergates.cluster.attempt import Output
from ergates.units import Bytes, Nanoseconds

AttemptKey = tuple[str, int, int]
"""(job, task, fence): unique for ever."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """One attempt to start.

    Args:
        key: whose.
        argv: program and arguments, found on PATH of `env`; no shell between.
        env: environment that many launches share; the same object each time, so that it travels once.
        env_changes: what is added to it, or replaced, for this one.
        cwd: absolute directory.
        stdin_data, stdin_path: what it reads; neither: /dev/null.
        time_limit_ns: TERM then, KILL after `grace_ns` more.
        cpu_ids: pin to these cores; empty: no pinning.
        payload: for warm Python workers, instead of argv.
        image, mounts, memory_limit_bytes, cpus_milli: for containers.
        output_job: folder (under the state directory) that gets the output pack.
    """

    key: AttemptKey
    argv: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    env_changes: Mapping[str, str] = field(default_factory=dict)
    cwd: str = "/"
    stdin_data: bytes | None = None
    stdin_path: str | None = None
    time_limit_ns: Nanoseconds | None = None
    grace_ns: Nanoseconds = Nanoseconds(5_000_000_000)
    cpu_ids: tuple[int, ...] = ()
    payload: bytes | None = None
    image: str | None = None
    mounts: tuple[str, ...] = ()
    memory_limit_bytes: int | None = None
    cpus_milli: int = 1000
    output_job: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """The attempt's first process runs."""

    key: AttemptKey
    pid: int
    at_ns: Nanoseconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The attempt is over and nothing of it is left running.

    Exactly one of `exit_code`, `signal`, `error` is not None. `error` says why it never started or was lost
    (`lost` True) or why its output could not be kept (`disk_full` True).

    Args:
        timed_out: we ended it for its time limit.
        killed: we ended it because the worker said so.
        oom_killed: the kernel killed something of it for memory.
    """

    key: AttemptKey
    started_ns: Nanoseconds
    ended_ns: Nanoseconds
    exit_code: int | None = None
    signal: int | None = None
    error: str | None = None
    lost: bool = False
    disk_full: bool = False
    timed_out: bool = False
    killed: bool = False
    oom_killed: bool = False
    cpu_ns: Nanoseconds = Nanoseconds(0)
    maxrss_bytes: Bytes = Bytes(0)
    cgroup_peak_bytes: Bytes = Bytes(0)
    output: Output = field(default_factory=Output)
    result: bytes | None = None
    """For warm Python workers: the serialised return value or exception."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemorySample:
    """Memory of one running attempt now: anonymous plus shared bytes, without its slot helper."""

    key: AttemptKey
    used_bytes: Bytes


LaunchEvent = Started | Ended


class Launcher(Protocol):
    """Runs attempts in slots. A slot runs the attempts it is given one after another, in order.

    `open_slot` and `launch` return at once; everything that happened comes out of `poll`.
    """

    def open_slot(self, kind: Literal["process", "python"] = "process") -> int:
        """Make (or reuse) a slot and return its number. `python`: a warm interpreter (functions/python_slot.py)."""
        ...

    def close_slot(self, slot: int) -> None:
        """Forget an idle slot."""
        ...

    def launch(self, slot: int, launches: Sequence[Launch]) -> None:
        """Queue attempts on a slot. More than one at once only for tasks known to be short."""
        ...

    def poll(self, timeout_s: float) -> list[LaunchEvent]:
        """Events since the last call; waits at most `timeout_s` for the first one."""
        ...

    def fileno(self) -> int:
        """Readable when `poll` has something to do: for waiting on several things at once."""
        ...

    def patience_s(self, most_s: float) -> float:
        """For how long `poll` need not be called although nothing is readable, `most_s` at most."""
        ...

    def sample(self) -> list[MemorySample]:
        """Memory of every attempt that runs now."""
        ...

    def group_used_bytes(self) -> int | None:
        """Anonymous plus shared memory of everything that runs here, helpers included; None when unknown."""
        ...

    def freeze(self, slot: int) -> None: ...

    def thaw(self, slot: int) -> None: ...

    def kill(self, slot: int, key: AttemptKey, grace_ns: Nanoseconds) -> None:
        """End this attempt (TERM, then KILL after the grace; 0: KILL at once) and everything of it.

        Attempts queued behind it on the slot go on. One that is itself still queued is dropped without being started.
        Either way it is reported as Ended(killed=True); one that ended meanwhile is left as it ended.
        """
        ...

    def set_oom_score(self, slot: int, score: int) -> None:
        """0 to 1000 for every process of the running attempt: the kernel kills the highest first."""
        ...

    def close(self) -> None:
        """End everything, wait for it, remove cgroups and helpers."""
        ...
