"""Lines that people and grep can read."""

from __future__ import annotations

import io

from ergates.agent.worker_log import WorkerLog, line_of
from ergates.clock import ManualClock


def test_a_line_is_time_event_and_facts() -> None:
    facts: dict[str, object] = {"worker": "a-b", "why": 'no "room" left', "running": 0, "note": "", "limit": None}
    assert line_of(1_000_000_000_123_456_789, "store away", facts) == (
        '2001-09-09T01:46:40.123Z store-away worker=a-b why="no \\"room\\" left" running=0\n'
    )


def test_a_line_stays_one_line() -> None:
    assert line_of(0, "x", {"why": "a\nb\x1b[2J"}).count("\n") == 1


def test_a_log_that_cannot_be_written_stops_nobody() -> None:
    stream = io.StringIO()
    log = WorkerLog(stream, ManualClock(), attempts=True)
    log.say("registered")
    assert stream.getvalue().endswith(" registered\n")
    stream.close()
    log.say("left")
