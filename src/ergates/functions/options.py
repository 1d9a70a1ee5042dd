"""Reads the options that `ergates.map` and `ergates.Executor` share; says what was expected when one makes no sense."""

from __future__ import annotations

from ergates.drivers import machine
from ergates.errors import UsageError
from ergates.units import SECOND_NS, Bytes, MilliCpus, Nanoseconds, format_bytes, parse_bytes, parse_duration


def count_of(name: str, value: object, least: int) -> int:
    """A whole number that is at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UsageError(f"{name}={value!r}: expected a whole number, at least {least}")
    return value


def duration_of(name: str, value: str | float | None) -> Nanoseconds | None:
    """Seconds, or a text such as "90s" or "1h30m"."""
    if value is None:
        return None
    try:
        duration_ns = parse_duration(value) if isinstance(value, str) else Nanoseconds(round(value * SECOND_NS))
    except (TypeError, ValueError) as error:
        raise UsageError(f"{name}={value!r}: expected seconds, or a duration such as '90s' or '1h30m'") from error
    if duration_ns <= 0:
        raise UsageError(f"{name}={value!r}: expected more than nothing")
    return duration_ns


def size_of(name: str, value: str | int | None) -> Bytes | None:
    """Bytes, or a text such as "2GiB"."""
    if value is None:
        return None
    try:
        size = parse_bytes(value) if isinstance(value, str) else Bytes(int(value))
    except (TypeError, ValueError) as error:
        raise UsageError(f"{name}={value!r}: expected bytes, or a size such as '512MiB' or '2GiB'") from error
    if size <= 0:
        raise UsageError(f"{name}={value!r}: expected more than nothing")
    return size


def cpus_of(value: float) -> MilliCpus:
    """Cores of one call, in thousandths."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0.001:
        raise UsageError(f"cpus={value!r}: expected the cores one call uses, such as 1, 4 or 0.5")
    return MilliCpus(round(value * 1000))


def workers_for(workers: int | None, cpus: float, memory: str | int | None) -> int:
    """How many calls run at once: what was asked for, else what cores admit; never more than memory admits."""
    cpus_milli, memory_bytes = cpus_of(cpus), size_of("memory", memory)
    chosen = max(1, machine.cpus_milli() // cpus_milli) if workers is None else count_of("workers", workers, 1)
    if memory_bytes is None:
        return chosen
    limit = machine.memory_limit()
    have = machine.memory_total_bytes() if limit is None else limit.limit_bytes
    if memory_bytes > have:
        raise UsageError(f"memory={memory!r}: one call needs more than the {format_bytes(have)} of this machine")
    return max(1, min(chosen, have // memory_bytes))
