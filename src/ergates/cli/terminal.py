"""A few lines that stay at the bottom of the terminal while other output scrolls above them.

The cursor is never hidden and no mode is changed, so there is nothing to restore when we die. A frame is one write:
each line is overwritten in place and the rest of it erased, so nothing flickers.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import IO

import click


class LiveArea:
    """Live lines on `stream`, a terminal.

    Every frame leaves the cursor at the end of its last line, so that whatever else writes there (a crash, a shell)
    begins on that line and not in the middle of the area.
    """

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._shown = 0

    def draw(self, lines: Sequence[str]) -> None:
        """Replace what is shown."""
        body = "\n".join(f"{line}\x1b[K" for line in lines)
        self._write(f"{self._back_to_top()}{body}\x1b[J")
        self._shown = len(lines)

    def erase(self) -> None:
        """Take the lines away; the cursor is where they began."""
        if self._shown:
            self._write(f"{self._back_to_top()}\x1b[J")
            self._shown = 0

    def _back_to_top(self) -> str:
        up = f"\x1b[{self._shown - 1}A" if self._shown > 1 else ""
        return f"\r{up}" if self._shown else ""

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


def tell(text: str) -> None:
    """One message on standard error. That nobody reads it any more is no reason to stop what goes on."""
    try:
        click.echo(text, err=True)
    except OSError:
        give_up(sys.stderr)


def give_up(stream: IO[str]) -> None:
    """The terminal was closed, or the reader of the pipe left: what is written there from now on goes nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def width_of(stream: IO[str], default: int = 80) -> int:
    """Columns of the terminal behind `stream`; `default` where it is none."""
    try:
        return os.get_terminal_size(stream.fileno()).columns or default
    except (OSError, ValueError):
        return default


def shows_colour(stream: IO[str]) -> bool:
    """A terminal that is not dumb, unless the user set NO_COLOR (no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def shows_unicode(stream: IO[str]) -> bool:
    """Whether block characters can be written."""
    return (getattr(stream, "encoding", "") or "").lower().replace("-", "") == "utf8"
