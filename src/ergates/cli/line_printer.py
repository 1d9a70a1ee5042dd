"""`--line-buffer`: prints whole lines while tasks still run, tasks mixed.

What an attempt printed before it was given back or failed stays on the screen; its next attempt prints it again.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from msgspec.structs import replace

from ergates.agent.observer import NodeSnapshot
from ergates.cli.output_order import WholeLines, tagged
from ergates.cli.output_printer import tag_of
from ergates.cli.progress_display import ProgressDisplay
from ergates.cluster.attempt import Attempt, Output
from ergates.cluster.task import TaskSpec
from ergates.drivers.output.read import read_output
from ergates.taskqueue.launching import AttemptKey
from ergates.taskqueue.store import Lease, Returned, Verdict
from ergates.units import Nanoseconds

_PIECE_BYTES = 1 << 20
"""Read at most so much of one task at a time, so that a chatty one does not hold up the others."""


class _Stream:
    """One of the two outputs of one attempt: how much of it was read, and its unfinished line."""

    __slots__ = ("lines", "read_bytes")

    def __init__(self) -> None:
        self.read_bytes = 0
        self.lines = WholeLines()


class LinePrinter:
    """Observer that follows the outputs of running attempts.

    Args:
        folder: where the packs of the job lie.
        tag, given_labels: see OutputPrinter.
    """

    def __init__(
        self,
        folder: Path,
        display: ProgressDisplay,
        stdout: BinaryIO,
        stderr: BinaryIO,
        *,
        tag: bool,
        given_labels: Mapping[str, str],
    ) -> None:
        self._folder, self._display = folder, display
        self._streams = (stdout, stderr)
        self._tag, self._given_labels = tag, given_labels
        self._followed: dict[AttemptKey, tuple[_Stream, _Stream]] = {}

    def attempt_started(self, lease: Lease, at_ns: Nanoseconds) -> None:
        """Snapshots say where its output is."""

    def attempt_ended(self, lease: Lease, attempt: Attempt, verdict: Verdict, result: bytes | None) -> None:
        followed = self._followed.pop((lease.job, lease.task, lease.fence), None) or (_Stream(), _Stream())
        if isinstance(verdict, Returned):
            return
        texts = []
        for stream, output in zip(followed, _rests(attempt.output, followed), strict=True):
            whole = stream.lines.take(b"".join(read_output(self._folder, output)))
            texts.append(whole + stream.lines.rest())
        self._write(lease.task, lease.spec, texts, last=True)

    def looked(self, snapshot: NodeSnapshot) -> None:
        for live in snapshot.live_outputs:
            followed = self._followed.setdefault(live.key, (_Stream(), _Stream()))
            pieces = [_grown(path, stream) for path, stream in zip((live.stdout, live.stderr), followed, strict=True)]
            texts = [stream.lines.take(piece) for piece, stream in zip(pieces, followed, strict=True)]
            self._write(live.key[1], live.spec, texts)

    def close(self) -> None:
        """Nothing is held back but unfinished lines of attempts that did not end."""
        self._followed.clear()

    def _write(self, task: int, spec: TaskSpec, texts: list[bytes], *, last: bool = False) -> None:
        if not any(texts):
            return
        with self._display.above():
            for stream, text in zip(self._streams, texts, strict=True):
                if self._tag:
                    text = tagged(text, tag_of(task, spec, self._given_labels))
                elif last and text and not text.endswith(b"\n"):
                    text += b"\n"  # else the next task's line would join it
                stream.write(text)
                stream.flush()


def _grown(path: Path, stream: _Stream) -> bytes:
    """What came since the last look; nothing when the attempt has just ended and its file is emptied or gone."""
    try:
        with path.open("rb") as file:
            file.seek(stream.read_bytes)
            piece = file.read(_PIECE_BYTES)
    except FileNotFoundError:
        return b""
    stream.read_bytes += len(piece)
    return piece


def _rests(output: Output, followed: tuple[_Stream, _Stream]) -> tuple[Output, Output]:
    """The parts of the pack that were not read while the attempt ran: of stdout, and of stderr behind it."""
    read_out, read_err = (stream.read_bytes for stream in followed)
    out = replace(output, offset=output.offset + read_out, stdout_bytes=output.stdout_bytes - read_out, stderr_bytes=0)
    err = replace(
        output,
        offset=output.offset + output.stdout_bytes + read_err,
        stdout_bytes=0,
        stderr_bytes=output.stderr_bytes - read_err,
    )
    return out, err
