"""What a call on a cluster came to: its value, or the exception that stands for its end."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Any

from ergates.cluster.attempt import KEPT_BYTES_MAX, Kept, Outcome
from ergates.errors import ErgatesError
from ergates.functions.ended_calls import End
from ergates.functions.errors import CallTimedOutError, WorkerDiedError
from ergates.functions.serialise import load_result, raised
from ergates.units import format_bytes


def value_of(name: str, end: End) -> tuple[Any, bool]:
    """(value, False), or (exception, True).

    Raises:
        Exception: the value cannot be unpickled on this side.
    """
    attempt, kept = end
    if kept is not None and kept.result is not None:
        return load_result(kept.result), raised(kept.result)
    if attempt.outcome is Outcome.TIMED_OUT:
        return CallTimedOutError(f"{name} {attempt.reason}"), True
    if attempt.outcome in (Outcome.LOST, Outcome.SIGNALLED, Outcome.OOM_KILLED, Outcome.FAILED):
        return WorkerDiedError(f"{name} ended its worker process: {attempt.reason}"), True
    return ErgatesError(f"{name}: {attempt.outcome.value}: {attempt.reason}"), True


def show_output(kept: Kept) -> None:
    """Pass on what a call printed."""
    for data, stream in ((kept.stdout, sys.stdout), (kept.stderr, sys.stderr)):
        if data and stream is not None:
            cut = f"[the last {format_bytes(KEPT_BYTES_MAX)}]\n" if len(data) >= KEPT_BYTES_MAX else ""
            with suppress(ValueError, OSError):  # ours was closed, or its reader went away: results still count
                stream.write(cut + data.decode(errors="backslashreplace"))
                stream.flush()
