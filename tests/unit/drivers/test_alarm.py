"""A bell within the process."""

from __future__ import annotations

import select
import threading

from ergates.drivers.alarm import Alarm


def rings(alarm: Alarm, timeout_s: float = 0.0) -> bool:
    return bool(select.select([alarm], [], [], timeout_s)[0])


def test_it_rings_until_it_is_cleared() -> None:
    alarm = Alarm()
    assert not rings(alarm)
    alarm.clear()
    alarm.ring()
    alarm.ring()
    assert rings(alarm)
    alarm.clear()
    assert not rings(alarm)
    alarm.close()
    alarm.close()
    alarm.ring()


def test_it_wakes_who_waits() -> None:
    alarm = Alarm()
    ringer = threading.Thread(target=alarm.ring)
    ringer.start()
    assert rings(alarm, 30.0)
    ringer.join()
    alarm.close()
