"""Numbers and times as people read them: `1,234 tasks`, `82/s`, `3 %`, `$0.42`, `12 min ago`. Pure; no clock."""

from __future__ import annotations

import time


def count(number: int) -> str:
    """`1,234`."""
    return f"{number:,}"


def plural(number: int, noun: str) -> str:
    """`1 task`, `1,234 tasks`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def rate(per_second: float) -> str:
    """Tasks per second, minute or hour, whichever reads best: `82/s`, `4.1/s`, `14/min`, `3.2/h`."""
    if per_second >= 0.95:
        return f"{_short(per_second)}/s"
    if per_second * 60 >= 0.95:
        return f"{_short(per_second * 60)}/min"
    return f"{_short(per_second * 3600)}/h"


def percent(part: float, whole: float) -> str:
    """Whole percent; never "100 %" or "0 %" for a share that is not exactly that."""
    if whole <= 0:
        return "0 %"
    share = 100 * part / whole
    if 0 < share < 1:
        return "<1 %"
    if 99 < share < 100:
        return "99 %"
    return f"{share:.0f} %"


def usd(micros: int) -> str:
    """`$12.34`; small sums keep two significant digits: `$0.0042`."""
    dollars = micros / 1e6
    if micros == 0 or abs(dollars) >= 0.1:
        return f"${dollars:,.2f}"
    return f"${dollars:.2g}" if abs(dollars) >= 1e-4 else f"${dollars:.6f}"


def joules(energy_uj: int) -> str:
    """`850 J`, `12.3 kJ`, `4.5 MJ`."""
    value = energy_uj / 1e6
    for unit in ("J", "kJ", "MJ"):
        if abs(value) < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:,.3g} GJ"


def core_hours(cpu_ns: int) -> str:
    """`1.62 core hours`, `3.4 core minutes`, `12 core seconds`."""
    seconds = cpu_ns / 1e9
    if seconds >= 3600:
        return f"{_short(seconds / 3600)} core hours"
    if seconds >= 60:
        return f"{_short(seconds / 60)} core minutes"
    return f"{_short(seconds)} core seconds"


def coarse_duration(duration_ns: int) -> str:
    """An estimate's worth of digits: `8 s`, `50 s`, `4 min`, `2 h 10 min`, `3 d`."""
    seconds = duration_ns / 1e9
    if seconds < 20:
        return f"{max(1, round(seconds))} s"
    if seconds < 57.5:
        return f"{5 * round(seconds / 5)} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 6 * 60:
        rounded = 10 * round(minutes / 10)
        return f"{rounded // 60} h {rounded % 60:02d} min" if rounded % 60 else f"{rounded // 60} h"
    hours = round(minutes / 60)
    return f"{hours} h" if hours < 48 else f"{round(hours / 24)} d"


def local_time(at_ns: int) -> str:
    """`2031-02-03 04:05:06` in the reader's time zone."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at_ns / 1e9))


def shortened(text: str, width: int) -> str:
    """One line of at most `width` characters; what is cut shows as `…`."""
    line = " ".join(text.split()) if "\n" in text else text
    if len(line) <= width:
        return line
    return line[: max(0, width - 1)] + "…"


def _short(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2g}"
