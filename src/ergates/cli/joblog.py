"""`--joblog FILE`: one line for each task that reached its end, in the columns of GNU parallel, so its readers keep working."""

from __future__ import annotations

import os
from typing import IO

from ergates.agent.observer import NodeSnapshot
from ergates.cluster.attempt import Attempt, Outcome
from ergates.cluster.task import TaskSpec
from ergates.taskqueue.store import Lease, Returned, Verdict
from ergates.units import Nanoseconds

HEADER = "Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tCommand\n"


def joblog_line(lease: Lease, attempt: Attempt) -> str:
    """Tab-separated; line ends inside a command become NUL, as GNU parallel has it.

    A task that never started, or was cancelled, has Exitval -1.
    """
    runtime_s = max(0, attempt.ended_ns - attempt.started_ns) / 1e9 if attempt.started_ns else 0.0
    exit_value = attempt.exit_code
    if exit_value is None:
        exit_value = 0 if attempt.outcome is Outcome.SUCCEEDED or attempt.signal else -1
    stdin = lease.spec.stdin
    sent = len(stdin.data) if stdin is not None and stdin.data is not None else 0
    received = attempt.output.stdout_bytes + attempt.output.stderr_bytes
    fields = (
        str(lease.task),
        attempt.host or ":",
        f"{attempt.started_ns / 1e9:.3f}",
        f"{runtime_s:10.3f}",
        str(sent),
        str(received),
        str(exit_value),
        str(attempt.signal or 0),
        shown_command(lease.spec).replace("\n", "\0"),
    )
    return "\t".join(fields) + "\n"


def shown_command(spec: TaskSpec) -> str:
    """The command as one text; an argument vector is quoted as a shell would need it."""
    if isinstance(spec.command, str):
        return spec.command
    import shlex

    return shlex.join(spec.command)


class JobLog:
    """Observer that writes the log; a resumed job appends to its log."""

    def __init__(self, path: str, *, resumed: bool) -> None:
        self._file: IO[str] = open(  # noqa: SIM115 - closed by close()
            path, "a" if resumed else "w", encoding="utf-8", errors="surrogateescape", newline=""
        )
        if os.fstat(self._file.fileno()).st_size == 0:
            self._file.write(HEADER)
            self._file.flush()

    def attempt_started(self, lease: Lease, at_ns: Nanoseconds) -> None:
        """Only ends are logged."""

    def attempt_ended(self, lease: Lease, attempt: Attempt, verdict: Verdict, result: bytes | None) -> None:
        if not isinstance(verdict, Returned):
            self._file.write(joblog_line(lease, attempt))

    def looked(self, snapshot: NodeSnapshot) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()
