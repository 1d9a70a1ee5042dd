"""What people see while an experiment's runs are made: one live line on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

from typing import IO

from ergates.cli.terminal import LiveArea, give_up, width_of
from ergates.cli.wording import coarse_duration, count, percent, plural, shortened
from ergates.clock import SystemClock
from ergates.conductor.standing import Standing, run_name
from ergates.experiment.records import Manifest
from ergates.experiment.run import Run
from ergates.units import format_duration

_FRAME_NS = 200_000_000
_PLAIN_EVERY_NS = 10 * 10**9
_PLAIN_SELDOM_NS = 60 * 10**9
_SELDOM_AFTER_NS = 600 * 10**9
"""As `erg run` does: a log wants a line every ten seconds at first, every minute once ten minutes have passed."""


class ExperimentDisplay:
    """See conductor/conducting.py, Display.

    Args:
        stream: standard error.
        quiet: only what went wrong is said.
    """

    def __init__(self, stream: IO[str], *, quiet: bool = False) -> None:
        self._stream, self._quiet = stream, quiet
        self._live = LiveArea(stream) if stream.isatty() and not quiet else None
        self._clock = SystemClock()
        self._next_ns = self._clock.now_ns() + (0 if self._live is not None else _PLAIN_EVERY_NS)

    def ended(self, run: Run, manifest: Manifest) -> None:
        """Only failures are worth a line of their own."""
        if not manifest.ok:
            self.say(f"run {run.number} ({run_name(run)}) failed: {manifest.problem}")

    def looked(self, standing: Standing) -> None:
        now = self._clock.now_ns()
        if self._quiet or now < self._next_ns:
            return
        seldom = standing.elapsed_ns >= _SELDOM_AFTER_NS
        self._next_ns = now + (_FRAME_NS if self._live is not None else _PLAIN_SELDOM_NS if seldom else _PLAIN_EVERY_NS)
        line = standing_line(standing)
        if self._live is not None:
            self._write_live(shortened(line, max(20, width_of(self._stream) - 1)))
        else:
            self._write(line)

    def say(self, text: str) -> None:
        """One line above the live one."""
        if self._live is not None:
            self._live.erase()
        self._write(f"erg: {text}")

    def close(self) -> None:
        """Take the live line away."""
        if self._live is not None:
            self._live.erase()
            self._live = None

    def _write_live(self, line: str) -> None:
        assert self._live is not None
        try:
            self._live.draw([line])
        except OSError:
            self._gone()

    def _write(self, line: str) -> None:
        try:
            self._stream.write(line + "\n")
            self._stream.flush()
        except OSError:
            self._gone()

    def _gone(self) -> None:
        """Nobody reads any more; the runs go on."""
        give_up(self._stream)
        self._live, self._quiet = None, True


def standing_line(standing: Standing) -> str:
    """`12 of 60 runs (20 %), 1 failed, about 4 min left (estimate), running policy=darc #2`."""
    pieces = [f"{count(standing.ended)} of {plural(standing.total, 'run')} ({percent(standing.ended, standing.total)})"]
    if standing.failed:
        pieces.append(f"{count(len(standing.failed))} failed")
    if standing.elapsed_ns >= 10**9:
        pieces.append(format_duration(standing.elapsed_ns))
    if standing.left_ns:
        pieces.append(f"about {coarse_duration(standing.left_ns)} left (estimate)")
    if standing.running:
        more = f" and {len(standing.running) - 1} more" if len(standing.running) > 1 else ""
        pieces.append(f"running {standing.running[0]}{more}")
    return ", ".join(pieces)
