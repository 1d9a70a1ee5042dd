"""What a worker writes down: one line for each thing that happened, `time event key=value ...`, for people and for grep."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import IO

from ergates.clock import Clock
from ergates.cluster.attempt import Attempt
from ergates.taskqueue.store import Lease, Verdict
from ergates.units import Nanoseconds

_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.,:/@%+")


class WorkerLog:
    """Writes lines to a stream; also an AttemptObserver.

    A log that cannot be written (a full disk, a closed terminal) is no reason to stop working: its lines are dropped.

    Args:
        stream: line buffered.
        clock: dates the lines.
        attempts: also write a line for each start and end of an attempt.
    """

    def __init__(self, stream: IO[str], clock: Clock, *, attempts: bool) -> None:
        self._stream, self._clock, self._attempts = stream, clock, attempts

    def say(self, event: str, **facts: object) -> None:
        """One line. Facts that are empty are left out."""
        try:
            self._stream.write(line_of(self._clock.now_ns(), event, facts))
            self._stream.flush()
        except (OSError, ValueError):  # ValueError: it was closed under us
            return

    def attempt_started(self, lease: Lease, at_ns: Nanoseconds) -> None:
        """See AttemptObserver."""
        if self._attempts:
            self.say("start", job=lease.job, task=lease.task, attempt=lease.attempt)

    def attempt_ended(self, lease: Lease, attempt: Attempt, verdict: Verdict, result: bytes | None) -> None:
        """See AttemptObserver."""
        if self._attempts:
            usage = attempt.usage
            self.say(
                "end",
                job=lease.job,
                task=lease.task,
                attempt=attempt.number,
                outcome=attempt.outcome.value,
                verdict=type(verdict).__name__.lower(),
                wall_ns=usage.wall_ns,
                cpu_ns=usage.cpu_ns,
                peak_bytes=usage.peak_bytes,
                reason=attempt.reason,
            )


def line_of(at_ns: int, event: str, facts: dict[str, object]) -> str:
    """`2031-02-03T04:05:06.789Z store-away why="..." running=2`."""
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at_ns // 1_000_000_000))
    words = [f"{stamp}.{at_ns // 1_000_000 % 1000:03d}Z", event.replace(" ", "-")]
    words += [f"{name}={_quoted(str(value))}" for name, value in facts.items() if value not in ("", None)]
    return " ".join(words) + "\n"


def open_log(path: str) -> IO[str]:
    """A file to append to. Raises OSError."""
    return Path(path).open("a", buffering=1, encoding="utf-8", errors="backslashreplace")


def _quoted(value: str) -> str:
    return value if value and _PLAIN.issuperset(value) else json.dumps(value, ensure_ascii=False)
