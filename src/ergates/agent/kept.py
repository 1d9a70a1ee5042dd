"""What a commit carries to a store on another machine: the end of what an attempt printed, and what a function returned."""

from __future__ import annotations

import os
from pathlib import Path

from ergates.cluster.attempt import KEPT_BYTES_MAX, Kept, Output
from ergates.drivers.output.read import output_folder

_GONE = b"(its output pack was deleted on its node)"


def kept_of(state_dir: Path, job: str, output: Output, result: bytes | None) -> Kept | None:
    """The last KEPT_BYTES_MAX bytes of each stream; None where there is nothing to keep."""
    if not output.pack:
        return None if result is None else Kept(result=result)
    try:
        fd = os.open(output_folder(state_dir, job) / output.pack, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:  # somebody cleaned up: no reason to run the task again
        return Kept(stderr=_GONE, result=result)
    try:
        stdout_end = output.offset + output.stdout_bytes
        return Kept(
            stdout=_tail(fd, stdout_end, output.stdout_bytes),
            stderr=_tail(fd, stdout_end + output.stderr_bytes, output.stderr_bytes),
            result=result,
        )
    finally:
        os.close(fd)


def _tail(fd: int, end: int, size: int) -> bytes:
    size = min(size, KEPT_BYTES_MAX)
    return os.pread(fd, size, end - size) if size else b""
