"""What this run did, as opposed to all runs of the job: tasks it settled, attempts it made, its first failures."""

from __future__ import annotations

from dataclasses import dataclass

from ergates.agent.observer import NodeSnapshot
from ergates.cli.joblog import shown_command
from ergates.cluster.attempt import Attempt, Output
from ergates.taskqueue.store import Cancelled, Done, Failed, Lease, Verdict
from ergates.units import Nanoseconds

FAILURES_KEPT = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A task that failed for good, as the summary shows it."""

    task: int
    reason: str
    command: str
    output: Output


class RunTally:
    """Observer that counts."""

    def __init__(self) -> None:
        self.done = self.failed = self.cancelled = self.attempts = 0
        self.first_failures: list[Failure] = []
        self.started_ns = self.ended_ns = 0
        self.used_bytes_max = self.capacity_bytes = 0

    def attempt_started(self, lease: Lease, at_ns: Nanoseconds) -> None:
        """Counted at its end."""

    def attempt_ended(self, lease: Lease, attempt: Attempt, verdict: Verdict, result: bytes | None) -> None:
        self.attempts += 1
        if isinstance(verdict, Done):
            self.done += 1
        elif isinstance(verdict, Failed):
            self.failed += 1
            if len(self.first_failures) < FAILURES_KEPT:
                command = shown_command(lease.spec)
                reason = verdict.reason or attempt.reason
                self.first_failures.append(
                    Failure(task=lease.task, reason=reason, command=command, output=attempt.output)
                )
        elif isinstance(verdict, Cancelled):
            self.cancelled += 1

    def looked(self, snapshot: NodeSnapshot) -> None:
        self.started_ns = self.started_ns or snapshot.at_ns
        self.ended_ns = snapshot.at_ns
        self.used_bytes_max = max(self.used_bytes_max, snapshot.used_bytes)
        self.capacity_bytes = snapshot.capacity_bytes
