"""Ctrl-C and TERM before the runs begin: they break off whatever is under way, and are not forgotten if that swallows them.

Python raises what a handler raises wherever it happens to be; within some of its own callbacks (imports have such) it is dropped.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


class Told:
    """Whether we were told to stop."""

    def __init__(self) -> None:
        self.stop = False

    def check(self) -> None:
        """Raises KeyboardInterrupt if so."""
        if self.stop:
            raise KeyboardInterrupt


@contextmanager
def interruptible() -> Iterator[Told]:
    """KeyboardInterrupt at INT and TERM; the old handlers come back at the end. For the main thread."""
    told = Told()

    def interrupt(*_: object) -> None:
        told.stop = True
        raise KeyboardInterrupt

    old = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield told
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
