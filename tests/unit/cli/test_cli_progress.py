"""Progress: the rate and the estimate are honest, lines fit any width, and a real terminal shows what they say."""

from __future__ import annotations

import io
import os
import pty
import re
from collections.abc import Iterator

import pyte
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ergates.agent.observer import NodeSnapshot
from ergates.cli.progress_display import ProgressDisplay
from ergates.cli.progress_lines import Look, live_lines, plain_line
from ergates.cli.progress_state import ProgressState, ProgressView
from ergates.cluster.job import JobStatus
from ergates.cluster.task import JobId
from ergates.units import GIB, MIB, Bytes, Nanoseconds

SECOND = 10**9


def snapshot(at_s: float, done: int, total: int = 1000, **facts: int) -> NodeSnapshot:
    failed = facts.get("failed", 0)
    counts = {"done": done, "failed": failed, "delayed": facts.get("delayed", 0)}
    job = JobStatus(
        id=JobId("j1"),
        key="k",
        name="n",
        phase="active",
        submitted_ns=Nanoseconds(0),
        finished_ns=None,
        total=total,
        counts=counts,
        outcomes={"succeeded": done, "failed": failed + facts.get("retried", 0), "evicted": facts.get("evicted", 0)},
        wall_ns=0,
        cpu_ns=0,
        wasted_cpu_ns=0,
        wasted_wall_ns=0,
        peak_bytes=0,
        cost_usd_micros=None,
    )
    return NodeSnapshot(
        at_ns=Nanoseconds(round(at_s * SECOND)),
        running=facts.get("running", 2),
        frozen=facts.get("frozen", 0),
        staged=0,
        used_bytes=Bytes(facts.get("used", 512 * MIB)),
        capacity_bytes=Bytes(4 * GIB),
        cpus_milli_held=2000,
        cpus_milli=2000,
        job=job,
    )


def seen(state: ProgressState) -> ProgressView:
    view = state.view()
    assert view is not None
    return view


def test_nothing_is_estimated_before_there_is_something_to_base_it_on() -> None:
    state = ProgressState()
    assert state.view() is None
    for at_s, done in ((0, 0), (1.0, 50), (1.9, 90)):
        state.observe(snapshot(at_s, done))
        assert seen(state).rate_per_s is None
        assert seen(state).eta_ns is None
    state.observe(snapshot(2.0, 100))
    assert seen(state).rate_per_s == pytest.approx(50)
    assert seen(state).eta_ns == pytest.approx(18 * SECOND)


def test_tasks_of_earlier_runs_do_not_count_for_the_rate() -> None:
    state = ProgressState()
    state.observe(snapshot(100, 900))
    state.observe(snapshot(105, 950))
    assert seen(state).rate_per_s == pytest.approx(10)
    assert seen(state).eta_ns == pytest.approx(5 * SECOND)


def test_the_rate_follows_a_change_within_a_third_of_the_run() -> None:
    state = ProgressState()
    for second in range(61):
        state.observe(snapshot(second, second * 10, 100_000))
    for second in range(61, 121):
        state.observe(snapshot(second, 600 + (second - 60), 100_000))
    assert seen(state).rate_per_s == pytest.approx(1, rel=0.01)


def test_a_stalled_run_is_expected_to_take_longer_and_longer() -> None:
    state = ProgressState()
    for second in range(31):
        state.observe(snapshot(second, second * 10))
    estimates = []
    for second in range(31, 200):
        state.observe(snapshot(second, 300))
        eta_ns = seen(state).eta_ns
        assert eta_ns is not None
        estimates.append(eta_ns)
    assert estimates[-1] > estimates[0] * 4


@given(st.lists(st.tuples(st.floats(0.01, 30), st.integers(0, 50)), min_size=1, max_size=600))
def test_thinning_keeps_the_start_and_the_overall_truth(steps: list[tuple[float, int]]) -> None:
    state = ProgressState()
    at_s, done = 0.0, 0
    state.observe(snapshot(at_s, done, 10**6))
    for wait_s, more in steps:
        at_s, done = at_s + wait_s, done + more
        state.observe(snapshot(at_s, done, 10**6))
    view = seen(state)
    assert view.ended == done
    assert view.elapsed_ns == round(at_s * SECOND)
    if view.rate_per_s is not None:
        assert 0 < view.rate_per_s <= 50 / 0.01


def example_view(**changes: object) -> ProgressView:
    state = ProgressState()
    facts = {"failed": 2, "evicted": 1, "retried": 3, "frozen": 1, "used": 3 * GIB}
    state.observe(snapshot(0, 0, 5000, **facts))
    state.observe(snapshot(15, 1230, 5000, **facts))
    return seen(state)


def test_two_lines_say_it_all() -> None:
    first, second = live_lines(example_view(), Look(width=100))
    assert re.sub("[█▏▎▍▌▋▊▉░]+", "BAR", first) == "BAR  1,232 of 5,000  25 %  82.0/s  about 45 s left"
    assert second == "2 running, 1 frozen  3 of 4 GiB  2 failed, 1 evicted, 3 retried"


def test_a_log_line_has_no_control_characters() -> None:
    text = plain_line(example_view())
    assert text == (
        "1,232 of 5,000 (25 %), 82.0/s, about 45 s left, 2 running, 1 frozen, 3 of 4 GiB, 2 failed, 1 evicted, 3 retried"
    )


@given(st.integers(min_value=1, max_value=200), st.booleans())
def test_lines_are_narrower_than_the_terminal_and_keep_the_counts(width: int, unicode: bool) -> None:
    lines = live_lines(example_view(), Look(width=width, unicode=unicode))
    assert all(len(line) < max(11, width) for line in lines)
    if width >= 20:
        assert "1,232 of 5,000" in lines[0]


def test_the_bar_is_as_long_as_what_is_done() -> None:
    def bar(done: int, unicode: bool) -> str:
        state = ProgressState()
        state.observe(snapshot(0, done))
        return live_lines(seen(state), Look(width=80, unicode=unicode))[0].split("  ")[0]

    assert bar(0, True) == "░" * 40
    assert bar(1000, True) == "█" * 40
    assert bar(500, True) == "█" * 20 + "░" * 20
    assert bar(500, False) == "[" + "#" * 20 + "." * 18 + "]"


class Terminal:
    """A pseudo-terminal whose screen is drawn by pyte."""

    def __init__(self, columns: int = 80, rows: int = 12) -> None:
        self.master, slave = pty.openpty()
        self.stream = os.fdopen(slave, "w", encoding="utf-8")
        os.set_blocking(self.master, False)
        self.screen = pyte.Screen(columns, rows)
        self._parser = pyte.ByteStream(self.screen)
        self.resize(columns)

    def resize(self, columns: int) -> None:
        import fcntl
        import struct
        import termios

        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", self.screen.lines, columns, 0, 0))

    def lines(self) -> list[str]:
        self.stream.flush()
        try:
            while data := os.read(self.master, 65536):
                self._parser.feed(data)
        except BlockingIOError:
            pass  # all there was
        return [line.rstrip() for line in self.screen.display]

    def text(self) -> list[str]:
        return [line for line in self.lines() if line]


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    terminal = Terminal()
    yield terminal
    terminal.stream.close()
    os.close(terminal.master)


def test_live_lines_are_redrawn_in_place(terminal: Terminal) -> None:
    display = ProgressDisplay(terminal.stream)
    for second in range(20):
        display.looked(snapshot(second, second * 10))
    shown = terminal.lines()
    assert "190 of 1,000" in shown[0]
    assert shown[1].startswith("2 running")
    assert shown[2:] == [""] * 10


def test_what_is_said_and_printed_scrolls_above_the_live_lines(terminal: Terminal) -> None:
    display = ProgressDisplay(terminal.stream)
    display.looked(snapshot(0, 0))
    display.say("job j1: new, 1,000 tasks")
    display.looked(snapshot(1, 10))
    with display.above():
        terminal.stream.write("output of a task\n")
    display.looked(snapshot(2, 20))
    shown = terminal.text()
    assert shown[:2] == ["job j1: new, 1,000 tasks", "output of a task"]
    assert "20 of 1,000" in shown[2]
    assert len(shown) == 4


def test_a_shrinking_area_leaves_nothing_behind(terminal: Terminal) -> None:
    display = ProgressDisplay(terminal.stream)
    display.looked(snapshot(0, 0))
    display.note("draining: 2 running tasks may end; Ctrl-C again gives them back at once")
    assert len(terminal.text()) == 3
    assert terminal.text()[2].startswith("draining")
    display.close()
    assert terminal.text() == []
    assert (terminal.screen.cursor.x, terminal.screen.cursor.y) == (0, 0)
    assert not terminal.screen.cursor.hidden


def test_a_narrow_terminal_does_not_wrap(terminal: Terminal) -> None:
    terminal.resize(30)
    display = ProgressDisplay(terminal.stream)
    for second in range(5):
        display.looked(snapshot(second, second * 10, failed=1, evicted=2))
    assert all(len(line) < 30 for line in terminal.text())
    assert len(terminal.text()) == 2


def test_elsewhere_a_plain_line_comes_every_ten_seconds_and_none_for_a_short_run() -> None:
    log = io.StringIO()
    display = ProgressDisplay(log)
    for tenth in range(99):
        display.looked(snapshot(tenth / 10, tenth))
    assert log.getvalue() == ""
    for tenth in range(99, 250):
        display.looked(snapshot(tenth / 10, tenth))
    lines = log.getvalue().splitlines()
    assert [line.split(" of ")[0] for line in lines] == ["100", "200"]
    assert "\x1b" not in log.getvalue()


def test_no_progress_shows_none_but_still_lets_messages_through() -> None:
    log = io.StringIO()
    display = ProgressDisplay(log, enabled=False)
    for second in range(100):
        display.looked(snapshot(second, second))
    display.note("draining")
    assert log.getvalue() == "draining\n"
