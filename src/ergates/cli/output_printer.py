"""Prints what tasks printed, byte for byte: each task in one piece when it ends, in the order of ends or of the input.

Only the attempt that settled a task is printed, not those that were tried again or given back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import BinaryIO

from ergates.agent.observer import NodeSnapshot
from ergates.cli.output_order import InOrder, tagged
from ergates.cli.progress_display import ProgressDisplay
from ergates.cli.task_names import merged
from ergates.cli.task_output import TaskOutput
from ergates.cluster.attempt import Attempt
from ergates.cluster.task import TaskSpec
from ergates.taskqueue.store import Lease, Returned, Verdict
from ergates.units import Nanoseconds

_PENDING_MAX = 64
"""Outputs are printed together, a few times a second: the live lines are taken away and drawn again once for all."""

Waiting = tuple[bytes, int, Attempt]
"""Tag, task, attempt."""


def tag_of(task: int, spec: TaskSpec, given_labels: Mapping[str, str]) -> bytes:
    """What begins each line: the task's parameters, or its number where it has none.

    Args:
        task: its number.
        spec: what was submitted.
        given_labels: those of the job (`--label`); the same for all tasks, so they tell nothing.
    """
    values = [value for name, value in spec.labels.items() if name not in given_labels]
    text = " ".join(values) if values else str(task)
    return text.encode("utf-8", "surrogateescape").replace(b"\n", b" ")


class OutputPrinter:
    """Observer that writes outputs to `stdout` and `stderr`, above the live lines.

    Args:
        output: where the job's outputs are read from.
        keep_order: print in the order of the input.
        skipped: tasks that were settled before this run.
    """

    def __init__(
        self,
        output: TaskOutput,
        display: ProgressDisplay,
        stdout: BinaryIO,
        stderr: BinaryIO,
        *,
        tag: bool,
        keep_order: bool,
        given_labels: Mapping[str, str],
        skipped: Iterable[int] = (),
    ) -> None:
        self._output, self._display = output, display
        self._streams = (stdout, stderr)
        self._tag, self._given_labels = tag, given_labels
        self._order: InOrder[Waiting] | None = InOrder(skipped) if keep_order else None
        self._pending: list[Waiting] = []

    def attempt_started(self, lease: Lease, at_ns: Nanoseconds) -> None:
        """Nothing is printed before the end."""

    def attempt_ended(self, lease: Lease, attempt: Attempt, verdict: Verdict, result: bytes | None) -> None:
        if isinstance(verdict, Returned):
            return
        tag = tag_of(lease.task, lease.spec, self._given_labels) if self._tag else b""
        waiting = (tag, lease.task, attempt)
        self._pending += [waiting] if self._order is None else self._order.offer(lease.task, waiting)
        if len(self._pending) >= _PENDING_MAX:
            self._flush()

    def looked(self, snapshot: NodeSnapshot) -> None:
        self._flush()

    def close(self) -> None:
        """Print what waited for a task that did not end in this run."""
        if self._order is not None:
            self._pending += self._order.rest()
        self._flush()

    def _flush(self) -> None:
        pending = [
            waiting for waiting in self._pending if waiting[2].output.stdout_bytes or waiting[2].output.stderr_bytes
        ]
        self._pending.clear()
        if not pending:
            return
        with self._display.above():
            self._output.gather(merged([(task, task) for _, task, _ in pending]))
            for tag, task, attempt in pending:
                self._print(tag, task, attempt)
            for stream in self._streams:
                stream.flush()

    def _print(self, tag: bytes, task: int, attempt: Attempt) -> None:
        if not self._tag and not self._display.live:
            self._output.copy(task, attempt, *self._streams)
            return
        for stream, data in zip(self._streams, self._output.read(task, attempt), strict=True):
            text = tagged(data, tag) if self._tag else data
            if self._display.live and text and not text.endswith(b"\n"):
                text += b"\n"  # else the live lines would be drawn over it
            stream.write(text)
