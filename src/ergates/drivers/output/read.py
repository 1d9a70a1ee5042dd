"""Reads attempts' output back from the packs: whole when it is small, in pieces to a file when it is not."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from ergates.cluster.attempt import Output
from ergates.errors import ErgatesError

_PIECE_BYTES = 1024 * 1024


def output_folder(state_dir: Path, output_job: str) -> Path:
    """Where the packs of one job lie."""
    return state_dir / "jobs" / output_job / "output"


def read_output(folder: Path, output: Output) -> tuple[bytes, bytes]:
    """(stdout, stderr) of one attempt, byte for byte.

    Raises:
        ErgatesError: the pack is gone or shorter than the ledger says.
    """
    if not output.pack:
        return b"", b""
    with _open(folder, output) as file:
        return file.read(output.stdout_bytes), file.read(output.stderr_bytes)


def copy_output(folder: Path, output: Output, stdout: BinaryIO, stderr: BinaryIO) -> None:
    """Write one attempt's output to two streams, a megabyte at a time.

    Raises:
        ErgatesError: the pack is gone or shorter than the ledger says.
    """
    if not output.pack:
        return
    with _open(folder, output) as file:
        for stream, left in ((stdout, output.stdout_bytes), (stderr, output.stderr_bytes)):
            while left:
                piece = file.read(min(left, _PIECE_BYTES))
                stream.write(piece)
                left -= len(piece)


def _open(folder: Path, output: Output) -> BinaryIO:
    path = folder / output.pack
    try:
        file = path.open("rb")
    except FileNotFoundError:
        raise ErgatesError(f"{path}: the output was deleted; run the task again to have it") from None
    need = output.offset + output.stdout_bytes + output.stderr_bytes
    have = path.stat().st_size
    if have < need:
        file.close()
        raise ErgatesError(f"{path}: expected at least {need} bytes, found {have}: the file was cut off")
    file.seek(output.offset)
    return file
