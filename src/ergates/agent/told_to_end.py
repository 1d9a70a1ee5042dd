"""A call that is told to end gets a moment for what it must not leave undone: TERM is put off, and heard."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Ear:
    """Readable when somebody told this process to end."""

    def __init__(self) -> None:
        self.heard = False
        self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def fileno(self) -> int:
        return self._event

    def ring(self, *_: object) -> None:
        self.heard = True
        os.eventfd_write(self._event, 1)

    def rang(self) -> bool:
        """Whether it did since this was asked last."""
        with suppress(BlockingIOError):
            return os.eventfd_read(self._event) > 0
        return False

    def close(self) -> None:
        os.close(self._event)


@contextmanager
def told_to_end() -> Iterator[Ear]:
    """TERM is put off while a member is at work: it stops its programs and writes down what there was, first."""
    ear = Ear()
    main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, ear.ring) if main else None
    try:
        yield ear
    finally:
        if main:
            signal.signal(signal.SIGTERM, before)
        ear.close()
