"""Signals as something that can be waited for: counted, and announced by an alarm. Nobody dies of them here."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from ergates.drivers.alarm import Alarm


class Caught:
    """How often we were told to stop."""

    def __init__(self) -> None:
        self.count = 0


@contextmanager
def caught_signals(wanted: bool = True, alarm: Alarm | None = None) -> Iterator[Caught]:
    """Count INT, TERM and HUP instead of dying of them; the old handlers come back at the end.

    HUP, of a terminal that was closed, counts twice: nobody is there to say it again. Under `nohup` it stays ignored.

    Args:
        wanted: False outside the main thread, where nothing is caught.
        alarm: rings at each, for a loop that waits.
    """
    seen = Caught()
    if not wanted:
        yield seen
        return

    def count(number: int, _frame: FrameType | None) -> None:
        seen.count += 2 if number == signal.SIGHUP else 1
        if alarm is not None:
            alarm.ring()

    caught = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        caught.append(signal.SIGHUP)
    old = {number: signal.signal(number, count) for number in caught}
    try:
        yield seen
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
