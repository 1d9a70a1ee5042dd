"""How the kernel writes a setting down, and when two texts mean the same: `always [madvise] never` and `madvise`, `03` and `3`.

Pure: texts in, texts out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal

Form = Literal["plain", "choice", "number", "cpulist", "mask"]
"""plain: a word; choice: all words, the chosen one in brackets; cpulist: `0-3,8`; mask: hexadecimal, groups of 32 bits."""
_CHOSEN = re.compile(r"\[([^\]\s]+)\]")
CPUS_MAX = 1 << 16
"""More cores than any kernel serves: a list that asks for more is a slip."""


def meaning(text: str, form: Form) -> str:
    """What a text says, the same for all texts that say the same. What cannot be read stays as it is, without its ends."""
    text = text.strip()
    try:
        match form:
            case "choice":
                chosen = _CHOSEN.search(text)
                return chosen.group(1) if chosen else text
            case "number":
                return str(int(text))
            case "cpulist":
                return format_cpus(parse_cpus(text))
            case "mask":
                return format_cpus(cpus_of_mask(text))
            case "plain":
                return text
    except ValueError:
        return text


def choices(text: str) -> tuple[str, ...]:
    """The words of a choice, the chosen one among them."""
    return tuple(text.replace("[", " ").replace("]", " ").split())


def written(old: str, form: Form) -> str:
    """What has to be written so that a file says again what it said: the very text, but of a choice only its chosen word."""
    return f"{meaning(old, form)}\n" if form == "choice" else old


def parse_cpus(text: str) -> tuple[int, ...]:
    """`0-3,8` as numbers, ascending; empty for an empty text.

    Raises:
        ValueError: not such a list; the message says what was expected.
    """
    found: set[int] = set()
    for piece in filter(None, (part.strip() for part in text.strip().split(","))):
        match = re.fullmatch(r"([0-9]+)(?:-([0-9]+))?", piece)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not first <= last < CPUS_MAX:
            raise ValueError(f"expected cores such as 2-5,8; got {text.strip()!r}")
        found.update(range(first, last + 1))
    return tuple(sorted(found))


def format_cpus(cpus: Iterable[int]) -> str:
    """As the kernel lists them: `0-3,8`."""
    ranges: list[list[int]] = []
    for cpu in sorted(set(cpus)):
        if ranges and cpu == ranges[-1][1] + 1:
            ranges[-1][1] = cpu
        else:
            ranges.append([cpu, cpu])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)


def cpus_of_mask(text: str) -> tuple[int, ...]:
    """`00000000,0000000f` as 0 to 3.

    Raises:
        ValueError: not hexadecimal.
    """
    bits = int(text.strip().replace(",", ""), 16)
    return tuple(cpu for cpu in range(bits.bit_length()) if bits >> cpu & 1)


def format_mask(cpus: Iterable[int]) -> str:
    """As the kernel takes it: groups of 32 bits, the highest first."""
    bits = sum(1 << cpu for cpu in set(cpus))
    groups = []
    while True:
        groups.append(f"{bits & 0xFFFFFFFF:08x}")
        bits >>= 32
        if not bits:
            return ",".join(reversed(groups))


def parse_frequency_khz(text: str) -> int:
    """`2.4GHz`, `2400MHz`, or kHz as the kernel has them.

    Raises:
        ValueError: not a frequency; the message says what was expected.
    """
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([kKmMgG][hH][zZ])?\s*", text)
    if not match or float(match[1]) <= 0:
        raise ValueError(f"expected a frequency such as 2.4GHz or 2400MHz, got {text!r}")
    return round(float(match[1]) * {"k": 1, "m": 1000, "g": 1_000_000}[(match[2] or "k")[0].lower()])


def parse_switch(text: str, on: str = "on", off: str = "off") -> bool:
    """`on` or `off`, in the words people use.

    Raises:
        ValueError: neither.
    """
    word = text.strip().lower()
    if word in {on, "on", "yes", "true", "1"}:
        return True
    if word in {off, "off", "no", "false", "0"}:
        return False
    raise ValueError(f"expected {on} or {off}, got {text!r}")
