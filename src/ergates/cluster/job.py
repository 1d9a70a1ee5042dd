"""A job: tasks that were submitted together and share a key, defaults and limits."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from ergates.cluster.task import JobId
from ergates.units import Nanoseconds


class RetryLimits(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How often a task may come back, by cause. A task that uses one up is failed.

    Args:
        failures: application failures (exit code, signal); `TaskSpec.retries` overrides it per task.
        memory: evictions and kernel kills for memory.
        losses: worker, node or slot losses; a task that kills its node that often is poison and is quarantined.
        timeouts: attempts that ran into their time limit.
    """

    failures: int = 0
    memory: int = 20
    losses: int = 3
    timeouts: int = 0


class JobSpec(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a submission says of the job as a whole.

    Args:
        key: names the job for resuming: given, or derived from its input.
        name: for people; usually the file or the command.
        cwd: directory the tasks run in unless they say otherwise.
        source: where it came from, for the messages (`commands.txt`, `<stdin>`, ...).
        max_failed_tasks: `--max-fails`: stop leasing once this many tasks failed; None for no limit.
        env: variables for all its tasks.
        labels: free text for reports.
        data: where inputs come from and outputs go: `s3://bucket/folder`, `sftp://...`, `host:/folder` (rsync); empty:
            nothing is carried, as on one machine or with a shared file system.
        copies: a task that runs much longer than its like may be run a second time beside it, on another node; the first to
            succeed counts. Only for tasks whose effects may be made twice at the same time.
        open: more tasks may be added until it is closed; an open job is not finished.
    """

    key: str
    name: str = ""
    cwd: str = ""
    source: str = ""
    retry_limits: RetryLimits = RetryLimits()
    max_failed_tasks: int | None = None
    aging_ns: Nanoseconds | None = None
    """None: strict priority. Else a waiting task gains one priority step each such interval."""
    env: dict[str, str] = {}
    labels: dict[str, str] = {}
    data: str = ""
    open: bool = False
    copies: bool = False


JobPhase = Literal["active", "paused", "finished", "cancelled"]


class JobStatus(Struct, frozen=True, kw_only=True):
    """Constant-time summary of a job: counters, no scan.

    `counts` has one entry per TaskState value, zeros included. Sums are over all attempts, wasted ones included.
    """

    id: JobId
    key: str
    name: str
    phase: JobPhase
    submitted_ns: Nanoseconds
    finished_ns: Nanoseconds | None
    total: int
    counts: dict[str, int]
    outcomes: dict[str, int]
    wall_ns: int
    cpu_ns: int
    wasted_cpu_ns: int
    """CPU of attempts that did not end in success."""
    wasted_wall_ns: int
    peak_bytes: int
    cost_usd_micros: int | None
    takes_more: bool = False
    """It is open: more tasks may be added, and until it is closed it is not finished."""
