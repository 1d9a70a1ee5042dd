"""Integers with their unit in the type: nanoseconds, bytes, thousandths of a core, millionths of a dollar.

Values are converted once, at the edge (`parse_bytes("1.5GiB")`), and shown once, at the other (`format_bytes`).
"""

from __future__ import annotations

import re
from typing import NewType

Nanoseconds = NewType("Nanoseconds", int)
Bytes = NewType("Bytes", int)
MilliCpus = NewType("MilliCpus", int)
UsdMicros = NewType("UsdMicros", int)
Microjoules = NewType("Microjoules", int)

SECOND_NS = Nanoseconds(1_000_000_000)
KIB = 1024
MIB = 1024**2
GIB = 1024**3

_BYTE_UNITS = {
    "": 1, "b": 1,
    "k": KIB, "kib": KIB, "kb": 1000,
    "m": MIB, "mib": MIB, "mb": 1000**2,
    "g": GIB, "gib": GIB, "gb": 1000**3,
    "t": 1024**4, "tib": 1024**4, "tb": 1000**4,
}  # fmt: skip
_DURATION_UNITS_NS = {
    "ns": 1, "us": 1_000, "ms": 1_000_000,
    "": 10**9, "s": 10**9, "m": 60 * 10**9, "min": 60 * 10**9, "h": 3600 * 10**9, "d": 86400 * 10**9,
}  # fmt: skip
_NUMBER_AND_UNIT = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([a-zA-Z]*)\s*")


def parse_bytes(text: str) -> Bytes:
    """Read a size such as `512MiB`, `1.5g`, `2GB` or `4096` (bytes).

    Single letters and `KiB`-style units are powers of 1024; `KB`, `MB`, `GB`, `TB` are powers of 1000.

    Raises:
        ValueError: not a number followed by a known unit; the message says what was expected.
    """
    number, unit = _split(text, _BYTE_UNITS, "a size such as 512MiB, 1.5GiB or 2GB")
    return Bytes(round(number * _BYTE_UNITS[unit]))


def parse_duration(text: str) -> Nanoseconds:
    """Read a duration such as `90`, `90s`, `1.5h`, `10min`, `2d` or `1h30m`.

    Raises:
        ValueError: not a duration; the message says what was expected.
    """
    expected = "a duration such as 90s, 10m, 1.5h or 1h30m"
    pieces = re.findall(r"[0-9]+(?:\.[0-9]+)?\s*[a-zA-Z]+", text)
    if len(pieces) > 1 and "".join(pieces).replace(" ", "") == text.replace(" ", ""):
        return Nanoseconds(sum(parse_duration(piece) for piece in pieces))
    number, unit = _split(text, _DURATION_UNITS_NS, expected)
    return Nanoseconds(round(number * _DURATION_UNITS_NS[unit]))


def format_bytes(size: int) -> str:
    """Three significant digits and a binary unit: `1.50 GiB`."""
    value = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(value) < 1024:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.3g} {unit}"
        value /= 1024
    return f"{value:.3g} TiB"


def format_duration(duration_ns: int) -> str:
    """Two units at most: `850 ms`, `12.3 s`, `4 min 05 s`, `2 h 10 min`, `3 d 04 h`."""
    seconds = duration_ns / 1e9
    if seconds < 1:
        return f"{seconds * 1000:.3g} ms"
    if seconds < 60:
        return f"{seconds:.3g} s"
    if seconds < 3600:
        return f"{int(seconds // 60)} min {int(seconds % 60):02d} s"
    if seconds < 86400:
        return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60):02d} min"
    return f"{int(seconds // 86400)} d {int(seconds % 86400 // 3600):02d} h"


def _split(text: str, units: dict[str, int], expected: str) -> tuple[float, str]:
    match = _NUMBER_AND_UNIT.fullmatch(text)
    if match is None or match[2].lower() not in units:
        raise ValueError(f"expected {expected}, got {text!r}")
    return float(match[1]), match[2].lower()
