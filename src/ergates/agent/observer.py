"""What a worker's shell tells whoever watches it: the progress display, the job log, `--tag` output, futures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ergates.cluster.attempt import Attempt
from ergates.cluster.job import JobStatus
from ergates.cluster.task import TaskSpec
from ergates.taskqueue.launching import AttemptKey
from ergates.taskqueue.store import Lease, Verdict
from ergates.units import Bytes, Nanoseconds


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveOutput:
    """Files a running attempt's output grows in. They are emptied when it ends; its whole output is in the pack then."""

    key: AttemptKey
    spec: TaskSpec
    stdout: Path
    stderr: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSnapshot:
    """How the node stands, a few times a second. `job` is the status of the job this worker serves, if it serves one."""

    at_ns: Nanoseconds
    running: int
    frozen: int
    staged: int
    used_bytes: Bytes
    capacity_bytes: Bytes
    cpus_milli_held: int
    cpus_milli: int
    job: JobStatus | None
    waiting_for: str = ""
    """In words, when nothing can start: "disk full: 12 MiB free in .ergates, waiting for 64 MiB"."""
    live_outputs: tuple[LiveOutput, ...] = ()
    """Of attempts that are alone on their slot, so that nobody else's output can come into these files."""


class AttemptObserver(Protocol):
    """Called from the worker's loop; must not block for long."""

    def attempt_started(self, lease: Lease, at_ns: Nanoseconds) -> None: ...

    def attempt_ended(self, lease: Lease, attempt: Attempt, verdict: Verdict, result: bytes | None) -> None:
        """After the store accepted the commit."""
        ...


class Observer(AttemptObserver, Protocol):
    """Wants to know how the node stands, too, a few times a second."""

    def looked(self, snapshot: NodeSnapshot) -> None: ...
