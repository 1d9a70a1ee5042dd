"""What tasks printed, wherever it is kept: in packs of this directory, or the last bytes of it in a cluster's store."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

import click

from ergates.cluster.attempt import Attempt, Kept
from ergates.cluster.task import JobId
from ergates.drivers.output.read import copy_output, output_folder, read_output
from ergates.drivers.stores.sqlite import SqliteStore
from ergates.units import format_bytes

if TYPE_CHECKING:
    from ergates.cli.opened import Past

_TASKS_AT_ONCE = 500
"""Asking means reading through the job's attempts; each answer may be 128 KiB."""


class TaskOutput(Protocol):
    """Reads outputs of one job."""

    def gather(self, ids: Sequence[tuple[int, int]]) -> None:
        """These tasks are asked about next: a store far away is asked once for all of them."""
        ...

    def read(self, task: int, attempt: Attempt) -> tuple[bytes, bytes]:
        """(stdout, stderr) of one attempt."""
        ...

    def copy(self, task: int, attempt: Attempt, stdout: BinaryIO, stderr: BinaryIO) -> None:
        """Write both to two streams."""
        ...


def task_output(past: Past, folder: Path, job: JobId) -> TaskOutput:
    """Where outputs of this job are read from."""
    if isinstance(past, SqliteStore):
        return PackedOutput(output_folder(folder, job))
    return KeptOutput(past, job)


class PackedOutput:
    """All of it, byte for byte, from the packs of this directory."""

    def __init__(self, packs: Path) -> None:
        self._packs = packs

    def gather(self, ids: Sequence[tuple[int, int]]) -> None:
        """Packs are at hand."""

    def read(self, task: int, attempt: Attempt) -> tuple[bytes, bytes]:
        """Raises ErgatesError: the pack is gone or cut off."""
        return read_output(self._packs, attempt.output)

    def copy(self, task: int, attempt: Attempt, stdout: BinaryIO, stderr: BinaryIO) -> None:
        """A megabyte at a time. Raises ErgatesError: the pack is gone or cut off."""
        copy_output(self._packs, attempt.output, stdout, stderr)


class KeepsOutput(Protocol):
    """A store that carries outputs back."""

    def kept(self, job: JobId, ids: Sequence[tuple[int, int]] = ()) -> Iterable[tuple[int, int, Kept]]:
        """(task, number of the attempt, what is kept of it)."""
        ...


class KeptOutput:
    """The last bytes of each stream, as workers sent them back. What is missing is told on standard error."""

    def __init__(self, store: KeepsOutput, job: JobId) -> None:
        self._store, self._job = store, job
        self._next: tuple[tuple[int, int], ...] = ()
        self._loaded: tuple[tuple[int, int], ...] = ()
        self._found: dict[tuple[int, int], Kept] = {}

    def gather(self, ids: Sequence[tuple[int, int]]) -> None:
        self._next = tuple(ids)

    def read(self, task: int, attempt: Attempt) -> tuple[bytes, bytes]:
        if not attempt.output.stdout_bytes and not attempt.output.stderr_bytes:
            return b"", b""
        if not any(first <= task <= last for first, last in self._loaded):
            self._load(task)
        kept = self._found.get((int(task), attempt.number), Kept())
        self._tell_missing(task, attempt, kept)
        return kept.stdout, kept.stderr

    def copy(self, task: int, attempt: Attempt, stdout: BinaryIO, stderr: BinaryIO) -> None:
        for stream, data in zip((stdout, stderr), self.read(task, attempt), strict=True):
            stream.write(data)

    def _load(self, task: int) -> None:
        """This task, and some of those after it that are asked about next."""
        wanted, left = [(task, task)], _TASKS_AT_ONCE
        for first, last in self._next:
            begin = max(first, task + 1)
            end = min(last, begin + left - 1)
            if begin <= end:
                wanted.append((begin, end))
                left -= end - begin + 1
        self._loaded = tuple(wanted)
        self._found = {(int(each), number): kept for each, number, kept in self._store.kept(self._job, self._loaded)}

    def _tell_missing(self, task: int, attempt: Attempt, kept: Kept) -> None:
        named = (
            ("standard output", attempt.output.stdout_bytes, len(kept.stdout)),
            ("standard error", attempt.output.stderr_bytes, len(kept.stderr)),
        )
        for what, whole, here in named:
            if here < whole:
                had = (
                    f"the last {format_bytes(here)} of {format_bytes(whole)}"
                    if here
                    else f"none of {format_bytes(whole)}"
                )
                where = f"; all of it is on {attempt.host}" if attempt.host else ""
                click.echo(f"erg: task {task}: the store keeps {had} of its {what}{where}", err=True)
