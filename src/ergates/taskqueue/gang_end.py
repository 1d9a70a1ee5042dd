"""How the ends of a gang's members become its one attempt.

The first member that ended badly is why all ended: its outcome, and what its own worker judged, count for the gang. The others
were told to end because of it, so what they look like says nothing. The wall time is that of the longest; CPU time, energy and
cost are sums; the peak is the largest on any node.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from ergates.cluster.attempt import KEPT_BYTES_MAX, Attempt, Kept, Outcome, Output
from ergates.cluster.gang import role_of
from ergates.cluster.usage import Usage
from ergates.taskqueue.store import (
    CANCELLED_BY_USER,
    Cancelled,
    Done,
    Failed,
    GangEnds,
    Lease,
    MemberEnd,
    Returned,
    Verdict,
)
from ergates.units import Bytes, Microjoules, Nanoseconds, UsdMicros


def merged(lease: Lease, ends: GangEnds, worker: str, host: str) -> tuple[Attempt | None, Verdict, Kept | None]:
    """The gang's attempt, what becomes of its task, and what is kept of its output.

    Args:
        lease: the leader's.
        ends: of all members.
        worker: the leader's id.
        host: the leader's.
    """
    assert lease.gang is not None
    there = [end for end in ends.ends if end is not None]
    if not there:
        return None, Returned(past=lease.past), None
    outcome, reason, verdict, cause = _judged(lease, ends)
    shown = there[0] if cause is None else cause
    attempts = [end.attempt for end in there]
    kept = _kept(lease, ends)
    attempt = Attempt(
        number=lease.attempt,
        outcome=outcome,
        worker=worker,
        host=host,
        started_ns=min((one.started_ns for one in attempts if one.started_ns), default=Nanoseconds(0)),
        ended_ns=max(one.ended_ns for one in attempts),
        exit_code=shown.attempt.exit_code,
        signal=shown.attempt.signal,
        reason=reason,
        usage=_usage(attempts),
        output=Output(pack=_pack(attempts), stdout_bytes=len(kept.stdout), stderr_bytes=len(kept.stderr)),
        predicted_bytes=max(one.predicted_bytes for one in attempts),
    )
    return attempt, verdict, kept


def share_of_output(kept: Kept | None, size: int) -> Kept | None:
    """What one member of `size` may keep, so that all together keep no more than an ordinary task."""
    most = KEPT_BYTES_MAX // size
    if kept is None or (len(kept.stdout) <= most and len(kept.stderr) <= most):
        return kept
    return replace(kept, stdout=kept.stdout[-most:], stderr=kept.stderr[-most:])


def _judged(lease: Lease, ends: GangEnds) -> tuple[Outcome, str, Verdict, MemberEnd | None]:
    rank = ends.cause
    if rank is None:
        return Outcome.SUCCEEDED, "", Done(), None
    if rank == CANCELLED_BY_USER:
        return Outcome.CANCELLED, "cancelled by the user", Cancelled(), None
    name = _name(lease, rank)
    cause = ends.ends[rank]
    if cause is None:
        return Outcome.RETURNED, f"{name} was handed back", Returned(past=lease.past), None
    reason = f"{name}: {cause.attempt.reason or cause.attempt.outcome.value}"
    match cause.verdict:
        case Failed(reason=why):
            return cause.attempt.outcome, reason, Failed(reason=f"{name}: {why}"), cause
        case Returned():
            # A gang avoids no host: it wants many, and would wait for one more than there are.
            return cause.attempt.outcome, reason, replace(cause.verdict, avoid_host=""), cause
        case _:
            return cause.attempt.outcome, reason, cause.verdict, cause


def _name(lease: Lease, rank: int) -> str:
    gang = lease.gang
    assert gang is not None
    role = role_of(lease.spec.requirement.roles, rank)
    return f"rank {rank}{f' ({role})' if role else ''} on {gang.hosts[rank]}"


def _usage(attempts: Sequence[Attempt]) -> Usage:
    used = [attempt.usage for attempt in attempts]
    largest = max(used, key=lambda one: one.peak_bytes)
    costs = [one.cost_usd_micros for one in used if one.cost_usd_micros is not None]
    energy_labels = [one.energy_label for one in used if one.energy_uj]
    return Usage(
        wall_ns=max(one.wall_ns for one in used),
        cpu_ns=Nanoseconds(sum(one.cpu_ns for one in used)),
        peak_bytes=largest.peak_bytes,
        peak_label=largest.peak_label,
        peak_with_cache_bytes=Bytes(max(one.peak_with_cache_bytes for one in used)),
        energy_uj=Microjoules(sum(one.energy_uj for one in used)),
        energy_label=energy_labels[0] if energy_labels else used[0].energy_label,
        cost_usd_micros=UsdMicros(sum(costs)) if costs else None,
    )


def _pack(attempts: Iterable[Attempt]) -> str:
    """Where the leader's own output lies on its node."""
    return next((attempt.output.pack for attempt in attempts if attempt.output.pack), "")


def _kept(lease: Lease, ends: GangEnds) -> Kept:
    """All members' output, each under a line that names it."""
    streams: dict[str, bytes] = {}
    for stream in ("stdout", "stderr"):
        parts = [(rank, getattr(end.kept, stream)) for rank, end in enumerate(ends.ends) if end and end.kept]
        written = [(f"--- {_name(lease, rank)}\n".encode(), text) for rank, text in parts if text]
        streams[stream] = b"".join(head + text + (b"" if text.endswith(b"\n") else b"\n") for head, text in written)
    return Kept(stdout=streams["stdout"], stderr=streams["stderr"])
