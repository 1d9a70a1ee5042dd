"""Output packs: what a slot's attempts print goes into one growing file, so a million tasks are not two million files.

While an attempt runs, its stdout and stderr go to two *spool* files that the slot uses again and again. At its end the
spool is copied to the end of the slot's pack, only if anything was printed, and emptied; `(pack, offset, lengths)` goes
into the ledger. read.py reads it back. Loaded by every slot: imports nothing that is not in the interpreter.
"""

from __future__ import annotations

import errno
import os

_SMALL_BYTES = 65536
"""Up to here a plain read and write is quicker than asking the kernel to copy."""
_CHUNK_BYTES = 64 * 1024 * 1024
_CANNOT_COPY = (errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP)
"""What copy_file_range says on file systems where it does not work; then we read and write."""
FULL = (errno.ENOSPC, errno.EDQUOT)
"""What a full disk, or a full quota, says."""

NOTHING = ("", 0, 0, 0)


class Spool:
    """The two files an attempt prints to, and the pack they are moved to.

    Args:
        out_path, err_path: made when they are first needed, used again for every attempt.
        pack: file name of this slot's pack in every folder it writes to.

    Raises:
        OSError: from every method: the disk is full (`FULL`), read-only, gone, ...
    """

    def __init__(self, out_path: str, err_path: str, pack: str) -> None:
        self._paths = (out_path, err_path)
        self._name = pack
        self.out_fd = self.err_fd = -1
        self._folder: bytes | None = None
        self._pack_fd = -1

    def open(self) -> None:
        """Make both files, empty, unless they are open already."""
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC
        if self.out_fd < 0:
            self.out_fd = os.open(self._paths[0], flags, 0o644)
        if self.err_fd < 0:
            self.err_fd = os.open(self._paths[1], flags, 0o644)

    def keep(self, folder: bytes) -> tuple[str, int, int, int]:
        """Move what was printed to the pack in `folder` (made when missing) and empty the spool.

        Returns:
            File name of the pack, offset of stdout in it, bytes of stdout, bytes of stderr (behind stdout).

        Raises:
            OSError: the pack is as long as before, and the spool is empty: that output is lost.
        """
        out_bytes = os.fstat(self.out_fd).st_size
        err_bytes = os.fstat(self.err_fd).st_size
        if not out_bytes and not err_bytes:
            return NOTHING
        try:
            offset = self._end_of_pack(folder)
            try:
                _copy(self.out_fd, self._pack_fd, out_bytes, offset)
                _copy(self.err_fd, self._pack_fd, err_bytes, offset + out_bytes)
            except OSError:
                os.ftruncate(self._pack_fd, offset)
                raise
        finally:
            if out_bytes:
                os.ftruncate(self.out_fd, 0)
            if err_bytes:
                os.ftruncate(self.err_fd, 0)
        return self._name, offset, out_bytes, err_bytes

    def room_bytes(self) -> int:
        """Free room of the disk the spool is on, for us."""
        facts = os.fstatvfs(self.out_fd)
        return (facts.f_bfree if os.geteuid() == 0 else facts.f_bavail) * facts.f_frsize

    def close(self) -> None:
        for fd in (self.out_fd, self.err_fd, self._pack_fd):
            if fd >= 0:
                os.close(fd)
        self.out_fd = self.err_fd = self._pack_fd = -1

    def _end_of_pack(self, folder: bytes) -> int:
        """Open the pack if it is not open (or was deleted meanwhile) and return its length."""
        if folder == self._folder and self._pack_fd >= 0:
            facts = os.fstat(self._pack_fd)
            if facts.st_nlink:
                return facts.st_size
        if self._pack_fd >= 0:
            os.close(self._pack_fd)
            self._pack_fd = -1
        path = os.path.join(folder, os.fsencode(self._name))
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        try:
            self._pack_fd = os.open(path, flags, 0o644)
        except FileNotFoundError:
            os.makedirs(folder, exist_ok=True)
            self._pack_fd = os.open(path, flags, 0o644)
        self._folder = folder
        return os.fstat(self._pack_fd).st_size


def _copy(source: int, target: int, count: int, at: int) -> None:
    """Copy the first `count` bytes of one file to offset `at` of another."""
    done = 0
    in_kernel = count > _SMALL_BYTES
    while done < count:
        length = min(count - done, _CHUNK_BYTES if in_kernel else _SMALL_BYTES)
        if in_kernel:
            try:
                copied = os.copy_file_range(source, target, length, done, at + done)
            except OSError as error:
                if error.errno not in _CANNOT_COPY:
                    raise
                in_kernel = False
                continue
            if copied == 0:  # some file systems say so instead of refusing
                in_kernel = False
        else:
            data = os.pread(source, length, done)
            if not data:
                raise OSError(errno.EIO, "the spool became shorter while it was copied")
            copied = os.pwrite(target, data, at + done)
        done += copied
