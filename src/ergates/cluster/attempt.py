"""An attempt: one try at a task. Attempts are the ledger, wasted ones included."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

from ergates.cluster.usage import Usage
from ergates.units import Nanoseconds


class Outcome(StrEnum):
    """Why an attempt ended. Limits count them apart (see taskqueue/retry.py)."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    """Exit code other than 0."""
    SIGNALLED = "signalled"
    """Ended by a signal that was not ours and not the kernel's out-of-memory killer."""
    NOT_STARTED = "not_started"
    """The command does not exist, is not executable, its directory is missing, its image is unknown, ..."""
    TIMED_OUT = "timed_out"
    OOM_KILLED = "oom_killed"
    """Killed by the kernel for memory."""
    EVICTED = "evicted"
    """Given back by us for memory, before the kernel had to."""
    TOO_BIG = "too_big"
    """Cannot fit on this node even alone."""
    LOST = "lost"
    """Its worker, node or slot went away."""
    DISK_FULL = "disk_full"
    """Its output could not be kept."""
    RETURNED = "returned"
    """Given back unharmed: a drain, Ctrl-C, never started."""
    CANCELLED = "cancelled"


class Output(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where an attempt's output lies: `pack` is a file under the job's output folder, empty for no output.

    The bytes of stdout start at `offset`; those of stderr follow them.
    """

    pack: str = ""
    offset: int = 0
    stdout_bytes: int = 0
    stderr_bytes: int = 0


class Attempt(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One row of the ledger.

    Args:
        number: 1 for the first try of the task.
        worker, host: who ran it.
        started_ns, ended_ns: wall time; `started_ns` is 0 when it never started.
        exit_code: as the shell shows it; None when there is none (signal, never started).
        signal: number of the signal that ended it, else None.
        reason: in words, for people: "killed by the kernel for memory at 1.2 GiB".
    """

    number: int
    outcome: Outcome
    worker: str = ""
    host: str = ""
    started_ns: Nanoseconds = Nanoseconds(0)
    ended_ns: Nanoseconds = Nanoseconds(0)
    exit_code: int | None = None
    signal: int | None = None
    reason: str = ""
    usage: Usage = Usage()
    output: Output = Output()
    predicted_bytes: int = 0


class Kept(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a cluster's store carries back from the node of an attempt, for output packs stay where they were written.

    Args:
        stdout, stderr: the last bytes of each, at most KEPT_BYTES_MAX; how long the whole was says `Output`.
        result: of a Python function: the serialised value or exception.
    """

    stdout: bytes = b""
    stderr: bytes = b""
    result: bytes | None = None


KEPT_BYTES_MAX = 64 * 1024
