"""Copies one file on this machine: sharing its blocks where the file system can, in the kernel where that works."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

from ergates.drivers.objects.files import Stop

_CHUNK_BYTES = 8 * 1024 * 1024
_FICLONE = 0x40049409
"""linux/fs.h: make a file share another one's blocks until either is written to."""
_CANNOT = (errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTTY, errno.EPERM, errno.EBADF)
"""What these calls say on file systems where they do not work."""


def copy_file(source: Path, target: Path, stop: Stop) -> os.stat_result:
    """Copy the content to a new file.

    Returns:
        Facts of the source.

    Raises:
        OSError, StoppedError: what is there of the target is worth nothing.
    """
    with source.open("rb", buffering=0) as reader, target.open("xb", buffering=0) as writer:
        if not share_blocks(reader.fileno(), writer.fileno()):
            _copy(reader.fileno(), writer.fileno(), stop)
        return os.fstat(reader.fileno())


def share_blocks(reader: int, writer: int) -> bool:
    """Make the one file a copy of the other without copying; False where that does not work."""
    try:
        fcntl.ioctl(writer, _FICLONE, reader)
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
        return False
    return True


def _copy(reader: int, writer: int, stop: Stop) -> None:
    in_kernel = True
    while True:
        stop.check()
        if in_kernel:
            try:
                if os.copy_file_range(reader, writer, _CHUNK_BYTES):
                    continue
            except OSError as error:
                if error.errno not in _CANNOT:
                    raise
            in_kernel = False  # or its end; some file systems say 0 instead of refusing
        data = os.read(reader, _CHUNK_BYTES)
        if not data:
            return
        while data:
            data = data[os.write(writer, data) :]
