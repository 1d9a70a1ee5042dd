"""Shows a run's progress while it goes on: live lines on a terminal, a plain line now and then elsewhere.

The edge of the display: it knows streams and terminals; what is said is decided in progress_state.py and
progress_lines.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from ergates.agent.observer import NodeSnapshot
from ergates.cli.progress_lines import Look, live_lines, plain_line
from ergates.cli.progress_state import ProgressState
from ergates.cli.terminal import LiveArea, give_up, shows_colour, shows_unicode, width_of
from ergates.cluster.attempt import Attempt
from ergates.taskqueue.store import Lease, Verdict
from ergates.units import Nanoseconds

_FRAME_NS = 100_000_000
_PLAIN_EVERY_NS = 10 * 10**9
_PLAIN_SELDOM_NS = 60 * 10**9
_SELDOM_AFTER_NS = 600 * 10**9
"""A log wants a line every ten seconds at first, every minute once ten minutes have passed."""


class ProgressDisplay:
    """Observer that shows progress on `stream` (standard error).

    Args:
        enabled: False shows nothing, but still lets `above` and `say` through.
    """

    def __init__(self, stream: IO[str], *, enabled: bool = True) -> None:
        self.state = ProgressState()
        self._stream = stream
        self._enabled = enabled
        self._live = LiveArea(stream) if enabled and stream.isatty() else None
        self._last_ns: int | None = None
        self._note = ""
        self._said_waiting = False

    @property
    def live(self) -> bool:
        """Whether live lines are shown, so that other output must end its lines."""
        return self._live is not None

    def attempt_started(self, lease: Lease, at_ns: Nanoseconds) -> None:
        """Snapshots say how many run."""

    def attempt_ended(self, lease: Lease, attempt: Attempt, verdict: Verdict, result: bytes | None) -> None:
        """Snapshots say how many ended."""

    def looked(self, snapshot: NodeSnapshot) -> None:
        self.state.observe(snapshot)
        if bool(snapshot.waiting_for) is not self._said_waiting:
            self._said_waiting = bool(snapshot.waiting_for)
            if self._live is None:  # the live lines say it themselves
                self.say(snapshot.waiting_for or "going on")
        if not self._enabled:
            return
        if self._last_ns is None:
            self._last_ns = snapshot.at_ns if self._live is None else snapshot.at_ns - _FRAME_NS
        if snapshot.at_ns - self._last_ns >= self._interval_ns():
            self._last_ns = snapshot.at_ns
            self._show()

    def note(self, text: str) -> None:
        """Say something that stays true until the end: "draining; Ctrl-C again to ...". Shown at once."""
        if self._live is None:
            self.say(text)
            return
        self._note = text
        self._show()

    def say(self, text: str) -> None:
        """One line above the live ones."""
        with self.above(), self._unless_gone():
            self._stream.write(text + "\n")
            self._stream.flush()

    @contextmanager
    def above(self) -> Iterator[None]:
        """What is written inside, here or on standard output, scrolls above the live lines."""
        if self._live is not None:
            with self._unless_gone():
                self._live.erase()
        yield
        if self._live is not None:
            self._show()

    def close(self) -> None:
        """Take the live lines away."""
        if self._live is not None:
            with self._unless_gone():
                self._live.erase()
            self._live = None
        self._enabled = False

    @contextmanager
    def _unless_gone(self) -> Iterator[None]:
        """A display that nobody sees any more ends; the run goes on."""
        try:
            yield
        except OSError:
            give_up(self._stream)
            self._live, self._enabled = None, False

    def _interval_ns(self) -> int:
        if self._live is not None:
            return _FRAME_NS
        view = self.state.view()
        return _PLAIN_SELDOM_NS if view is not None and view.elapsed_ns >= _SELDOM_AFTER_NS else _PLAIN_EVERY_NS

    def _show(self) -> None:
        with self._unless_gone():
            self._draw()

    def _draw(self) -> None:
        view = self.state.view()
        if view is None:
            return
        if self._live is None:
            self._stream.write(plain_line(view) + "\n")
            self._stream.flush()
            return
        width = width_of(self._stream)
        look = Look(width=width, colour=shows_colour(self._stream), unicode=shows_unicode(self._stream))
        lines = live_lines(view, look)
        if self._note:
            lines.append(self._note[: max(10, width - 1)])
        self._live.draw(lines)
