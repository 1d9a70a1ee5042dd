"""Files that are there whole or not at all, and folders whose files survive a power cut.

A file is written beside its place, put on the disk, and renamed; then the folder that holds its name is put on the disk, too.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

PRIVATE = 0o600
"""Nobody else may read it."""


def write_whole(path: Path, data: bytes, *, mode: int = 0o666) -> None:
    """At once or not at all, and on the disk when this returns.

    Args:
        path: what was there is replaced.
        data: its content.
        mode: its rights, less those that the umask takes.

    Raises:
        OSError: no room, no right.
    """
    growing = path.with_name(f".{path.name}.{os.getpid()}")
    growing.unlink(missing_ok=True)
    fd = os.open(growing, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        growing.replace(path)
    except BaseException:
        growing.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Names that were made or changed in it are on the disk when this returns. Raises OSError."""
    _sync(folder, os.O_DIRECTORY)


def sync_tree(folder: Path) -> None:
    """All regular files below it, and their names, are on the disk when this returns.

    Raises:
        OSError: the disk failed.
    """
    for root, _, names in os.walk(folder):
        for name in names:
            path = Path(root, name)
            if stat.S_ISREG(path.lstat().st_mode):
                with suppress(PermissionError):  # who may not read it now will not read it later
                    _sync(path, os.O_NOFOLLOW)
        sync_folder(Path(root))


def _sync(path: Path, flags: int) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | flags)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
