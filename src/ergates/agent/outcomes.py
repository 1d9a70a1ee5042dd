"""From what the launcher saw to what the ledger says: pure translation, no decision about the task's future.

An order of ours (give back, refuse, end) explains a kill only if the attempt really was killed: a task that finished
well a moment before our signal reached it has succeeded.
"""

from __future__ import annotations

import signal

from ergates.cluster.attempt import Attempt, Outcome
from ergates.cluster.usage import MemoryLabel, Usage
from ergates.taskqueue.launching import Ended
from ergates.taskqueue.node_events import EndAttempt, GiveBack, HandBack, RefuseTask
from ergates.units import Bytes, Nanoseconds, UsdMicros, format_bytes, format_duration

Order = GiveBack | HandBack | RefuseTask | EndAttempt

_OUTCOME_OF_ORDER: dict[type[Order], Outcome] = {
    GiveBack: Outcome.EVICTED,
    HandBack: Outcome.RETURNED,
    RefuseTask: Outcome.TOO_BIG,
    EndAttempt: Outcome.CANCELLED,
}


def outcome_of(ended: Ended, order: Order | None, *, shared_end: bool = False) -> Outcome:
    """Name the end of one attempt.

    Args:
        ended: what the launcher saw.
        order: what we had told it.
        shared_end: whether a batch system sends TERM to tasks as well as to us when it ends us: then a task that died
            of TERM, or left with the exit code for it, did not fail, it was lost with us.
    """
    if ended.exit_code == 0 and not ended.disk_full:
        return Outcome.SUCCEEDED
    if order is not None and (ended.killed or ended.lost or ended.signal is not None):
        return _OUTCOME_OF_ORDER[type(order)]
    if ended.lost:
        return Outcome.LOST if ended.started_ns else Outcome.RETURNED  # it was only queued behind one that died
    if ended.disk_full:
        return Outcome.DISK_FULL
    if ended.error is not None:
        return Outcome.NOT_STARTED
    if ended.timed_out:
        return Outcome.TIMED_OUT
    if ended.oom_killed:
        return Outcome.OOM_KILLED
    if shared_end and (ended.signal == signal.SIGTERM or ended.exit_code == 128 + signal.SIGTERM):
        return Outcome.LOST
    return Outcome.SIGNALLED if ended.signal is not None else Outcome.FAILED


def reason_of(ended: Ended, outcome: Outcome, order: Order | None, peak_bytes: int, limit_ns: int | None) -> str:
    """Why it ended, in words for people; empty for a success."""
    match outcome:
        case Outcome.SUCCEEDED:
            return ""
        case Outcome.EVICTED | Outcome.RETURNED | Outcome.TOO_BIG | Outcome.CANCELLED if order is not None:
            return order.reason
        case Outcome.OOM_KILLED:
            return f"killed by the kernel for memory at {format_bytes(peak_bytes)}"
        case Outcome.TIMED_OUT:
            return f"ran longer than its limit of {format_duration(limit_ns or 0)}"
        case Outcome.SIGNALLED:
            return f"ended by signal {ended.signal} ({_signal_name(ended.signal)})"
        case Outcome.FAILED:
            return f"exit code {ended.exit_code}"
        case Outcome.LOST if not ended.lost:
            return "ended by SIGTERM, as a batch system ends everything in an allocation"
        case _:
            return ended.error or outcome.value


def peak_of(ended: Ended, sampled_bytes: int, samples: int) -> tuple[Bytes, MemoryLabel]:
    """Best figure of the anonymous plus shared peak.

    A task that the tick saw several times has its sampled peak. One too short for that has only upper bounds: the
    group's peak, with page cache, and the largest resident set, with file pages and never below the starter's own.
    """
    bounds: list[tuple[int, MemoryLabel]] = []
    if ended.cgroup_peak_bytes:
        bounds.append((ended.cgroup_peak_bytes, "cgroup"))
    if ended.maxrss_bytes:
        bounds.append((ended.maxrss_bytes, "maxrss"))
    if samples >= 3 or (samples and not bounds):
        return Bytes(sampled_bytes), "sampled"
    if not bounds:
        return Bytes(0), "unknown"
    bound, label = min(bounds)
    return (Bytes(sampled_bytes), "sampled") if sampled_bytes > bound else (Bytes(bound), label)


def cost_of(wall_ns: int, cpus_milli: int, node_cpus_milli: int, price_per_hour: UsdMicros | None) -> UsdMicros | None:
    """Share of the node's price: by the cores held over the time held. None without a price."""
    if price_per_hour is None:
        return None
    return UsdMicros(price_per_hour * wall_ns * cpus_milli // (3600 * 10**9 * max(1, node_cpus_milli)))


def attempt_of(
    ended: Ended,
    *,
    number: int,
    outcome: Outcome,
    reason: str,
    worker: str,
    host: str,
    peak: tuple[Bytes, MemoryLabel],
    cost: UsdMicros | None,
    predicted_bytes: int,
) -> Attempt:
    """The ledger's row of this end."""
    peak_bytes, label = peak
    return Attempt(
        number=number,
        outcome=outcome,
        worker=worker,
        host=host,
        started_ns=ended.started_ns,
        ended_ns=ended.ended_ns,
        exit_code=ended.exit_code,
        signal=ended.signal,
        reason=reason,
        usage=Usage(
            wall_ns=Nanoseconds(max(0, ended.ended_ns - ended.started_ns) if ended.started_ns else 0),
            cpu_ns=ended.cpu_ns,
            peak_bytes=peak_bytes,
            peak_label=label,
            peak_with_cache_bytes=ended.cgroup_peak_bytes,
            cost_usd_micros=cost,
        ),
        output=ended.output,
        predicted_bytes=predicted_bytes,
    )


def _signal_name(number: int | None) -> str:
    try:
        return signal.Signals(number or 0).name
    except ValueError:
        return "unknown"
