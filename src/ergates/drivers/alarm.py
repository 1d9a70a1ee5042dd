"""A bell that rings within this process: from a signal handler or another thread, for whoever waits on descriptors."""

from __future__ import annotations

import os
from contextlib import suppress


class Alarm:
    """Readable from `ring` until `clear`. Ringing twice is ringing once; ringing after `close` is nothing."""

    def __init__(self) -> None:
        self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def fileno(self) -> int:
        """For `select`; -1 once closed."""
        return self._fd

    def ring(self) -> None:
        """May be called from anywhere, signal handlers included."""
        if self._fd >= 0:
            os.eventfd_write(self._fd, 1)

    def clear(self) -> None:
        """Stop ringing; call it before looking at what it may have rung for."""
        with suppress(BlockingIOError):  # it did not ring
            os.eventfd_read(self._fd)

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
