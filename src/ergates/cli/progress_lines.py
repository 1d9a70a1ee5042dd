"""What the progress display says: two live lines on a terminal, one plain line elsewhere. Pure: a view in, text out.

```
████████████████▌                1,234 of 5,000  24 %  82/s  about 46 s left
2 running, 1 frozen  3.10 of 4.00 GiB  2 failed, 1 evicted, 3 retried
```
On a narrow terminal the least important pieces go first; the counts stay.
"""

from __future__ import annotations

from dataclasses import dataclass

from ergates.cli.progress_state import ProgressView
from ergates.cli.wording import coarse_duration, count, percent, rate, shortened
from ergates.units import format_bytes, format_duration

_BAR_MIN, _BAR_MAX = 8, 40
_EIGHTHS = " ▏▎▍▌▋▊▉"


@dataclass(frozen=True, slots=True)
class Look:
    """What the terminal can do. `width` in characters."""

    width: int = 80
    colour: bool = False
    unicode: bool = True


def live_lines(view: ProgressView, look: Look) -> list[str]:
    """One or two lines, none wider than the terminal less one column (a full line would wrap on some terminals)."""
    width = max(10, look.width - 1)
    first = _fitted(
        [f"{count(view.ended)} of {count(view.total)}", percent(view.ended, view.total), *_speed(view)], width
    )
    bar_width = min(_BAR_MAX, width - len(first) - 2)
    if bar_width >= _BAR_MIN:
        bar = _bar(view.ended / view.total if view.total else 1.0, bar_width, look.unicode)
        first = f"{_paint(bar, '32', look.colour)}  {first}"
    pieces = [piece for piece in (_running(view), _memory(view), _troubles(view), view.waiting_for) if piece]
    second = _fitted(pieces, width)
    if view.failed and look.colour:
        text = f"{count(view.failed)} failed"
        second = second.replace(text, _paint(text, "31", True), 1)
    return [first, second] if second else [first]


def plain_line(view: ProgressView) -> str:
    """One line for a log: everything that matters, no control characters."""
    pieces = [f"{count(view.ended)} of {count(view.total)} ({percent(view.ended, view.total)})", *_speed(view)]
    pieces += [_running(view), _memory(view), _troubles(view), view.waiting_for]
    return ", ".join(piece for piece in pieces if piece)


def _speed(view: ProgressView) -> list[str]:
    if view.rate_per_s is None:
        return [format_duration(view.elapsed_ns)] if view.elapsed_ns >= 10**9 else []
    shown = [rate(view.rate_per_s)]
    if view.eta_ns is not None:
        shown.append(f"about {coarse_duration(view.eta_ns)} left")
    return shown


def _running(view: ProgressView) -> str:
    text = f"{count(view.running)} running"
    if view.frozen:
        text += f", {count(view.frozen)} frozen"
    if view.delayed:
        text += f", {count(view.delayed)} waiting to be tried again"
    return text


def _memory(view: ProgressView) -> str:
    used, capacity = format_bytes(view.used_bytes), format_bytes(view.capacity_bytes)
    if used.split()[-1] == capacity.split()[-1]:
        used = used.split()[0]
    return f"{used} of {capacity}"


def _troubles(view: ProgressView) -> str:
    named = (
        (view.failed, "failed"),
        (view.evicted, "evicted"),
        (view.retried, "retried"),
        (view.cancelled, "cancelled"),
    )
    return ", ".join(f"{count(number)} {word}" for number, word in named if number)


def _fitted(pieces: list[str], width: int) -> str:
    """As many pieces as fit, the last ones dropped first; the first one is cut if need be."""
    while len(pieces) > 1 and len("  ".join(pieces)) > width:
        pieces = pieces[:-1]
    return shortened("  ".join(pieces), width)


def _bar(fraction: float, width: int, unicode: bool) -> str:
    if not unicode:
        full = int(fraction * width)
        return "[" + ("#" * full).ljust(width - 2, ".")[: width - 2] + "]"
    eighths = int(fraction * width * 8)
    full, rest = divmod(eighths, 8)
    bar = "█" * full + (_EIGHTHS[rest] if rest else "")
    return bar.ljust(width, "░")


def _paint(text: str, code: str, colour: bool) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if colour else text
