"""One `erg run` per job: a lock on a file of the job, which the kernel lets go of when its holder dies, however it dies."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from ergates.errors import UsageError


class JobLock:
    """Held from `take` until `release` or the end of the process. The file names its holder for the message."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "run.lock"
        self._fd = -1

    def take(self, job: str) -> None:
        """Raises UsageError when another process runs this job now."""
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(fd, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(fd)
            raise UsageError(
                f"job {job} is being run by another process (pid {holder})\n"
                f"  hint: follow it with `erg wait {job}`, or stop that process first"
            ) from None
        os.ftruncate(fd, 0)
        os.pwrite(fd, str(os.getpid()).encode(), 0)
        self._fd = fd

    def release(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
