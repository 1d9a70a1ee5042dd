"""The hot call's request and answer: plain tuples as the scripts read and write them (lua/exchange.lua, lua/commits.lua)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, assert_never

import msgspec

from ergates.cluster.task import JobId, TaskId, TaskSpec
from ergates.drivers.stores.redis.gangs import gang_seat, pack_member
from ergates.drivers.stores.redis.names import job_name, number_or_none
from ergates.drivers.stores.redis.rows import clean_text, pack_attempt
from ergates.drivers.stores.redis.session import Session
from ergates.taskqueue.store import Cancelled, Commit, Done, Failed, Lease, Offer, PastFailures, Returned

READY, DONE, FAILED, CANCELLED, SEAT = 3, 6, 7, 8, 9
Place = tuple[JobId, TaskId, int]

_NO_PAST = PastFailures()


class Granted(msgspec.Struct, array_like=True):
    """Tasks first..first+size-1 under consecutive fences. `pasts` are (task, attempts, failures, memory, losses, timeouts,
    last peak) of those that came back before.
    """

    job: int
    uid: str
    first: int
    size: int
    fence: int
    class_id: int
    priority: int
    edited: bool
    pasts: list[tuple[int, int, int, int, int, int, int]]
    gang: tuple[int, list[str]] | bool = False
    """Rank and hosts, when it is a member's lease."""
    copy_of_host: str = ""
    """Where the other lease of this task is."""


class Core(msgspec.Struct, array_like=True):
    """What an exchange did; kept by the server, and given again when it is asked under the same number."""

    granted: list[Granted]
    refused: list[tuple[int, int, int]]


class Rest(msgspec.Struct, array_like=True):
    """What an exchange saw."""

    stale: bool
    offers: list[tuple[int, int, int, int]]
    revoked: list[tuple[int, int, int]]
    next_ready_us: int | bool
    open_tasks: int
    orders: str
    seat: tuple[int, int, int, int, int, int] | bool = False
    gang_ends: list[tuple[int, int, int, int | bool, int]] = []
    blobs: list[bytes] = []
    """How members of those gangs ended; they come beside it."""


decode_core = msgspec.msgpack.Decoder(Core).decode
decode_rest = msgspec.msgpack.Decoder(Rest).decode


def pack_commit(session: Session, commit: Commit) -> tuple[Any, ...]:
    """See lua/commits.lua for the places of this tuple."""
    attempt, verdict = commit.attempt, commit.verdict
    past: tuple[int, ...] = ()
    match verdict:
        case Done():
            if commit.seat is None:
                return _done(number_or_none(commit.job), commit)
            code, reason, not_before_us, class_id, avoid = DONE, "", 0, 0, ""
        case Failed(reason=text):
            code, reason, not_before_us, class_id, avoid = FAILED, clean_text(text), 0, 0, ""
        case Cancelled(reason=text):
            code, reason, not_before_us, class_id, avoid = CANCELLED, clean_text(text), 0, 0, ""
        case Returned():
            code, reason, avoid = READY, "" if attempt is None else clean_text(attempt.reason), verdict.avoid_host
            past = _past_tuple(verdict.past)
            not_before_us = -(-verdict.not_before_ns // 1000)
            class_id = 0 if verdict.requirement is None else session.class_id(verdict.requirement)
        case _:
            assert_never(verdict)
    job = number_or_none(commit.job)
    if commit.seat is not None:
        code, past, not_before_us, class_id, avoid = SEAT, (commit.seat,), 0, 0, ""
    if attempt is None:
        return (job, commit.task, commit.fence, code, False, 0, 0, 0, -1, reason, past, not_before_us, class_id, avoid)
    usage = attempt.usage
    cost = -1 if usage.cost_usd_micros is None else usage.cost_usd_micros
    return (
        job, commit.task, commit.fence, code, attempt.outcome, usage.wall_ns, usage.cpu_ns, usage.peak_bytes, cost,
        reason, past, not_before_us, class_id, avoid,
    )  # fmt: skip


def _done(job: int, commit: Commit) -> tuple[Any, ...]:
    """The usual commit; the places behind are those of a task that goes back."""
    attempt = commit.attempt
    if attempt is None:
        return (job, commit.task, commit.fence, DONE, False, 0, 0, 0, -1, "")
    usage = attempt.usage
    cost = -1 if usage.cost_usd_micros is None else usage.cost_usd_micros
    return (
        job, commit.task, commit.fence, DONE, attempt.outcome, usage.wall_ns, usage.cpu_ns, usage.peak_bytes, cost, "",
    )  # fmt: skip


def handed_back(row: tuple[int, int, int], some: Granted) -> tuple[Any, ...]:
    """A commit that returns this lease untried."""
    past = next((known[2:] for known in some.pasts if known[0] == row[1]), (0, 0, 0, 0, 0))
    return (*row, READY, False, 0, 0, 0, -1, "", past, 0, 0, "")


def pack_row(commit: Commit, worker: str, host: str) -> bytes:
    """The row for the log, or the end of a gang's member for its leader; empty where there is no attempt."""
    if commit.seat is not None:
        return pack_member(commit, worker, host)
    return b"" if commit.attempt is None else pack_attempt(commit.attempt, commit.kept, worker, host)


def leases_of(session: Session, granted: Sequence[Granted]) -> tuple[Lease, ...]:
    """With their specs, fetched where they are not known yet."""
    if not granted:
        return ()
    classes = session.requirements([some.class_id for some in granted])
    leases = []
    for some in granted:
        specs = session.specs_in_a_row(some.job, some.uid, some.first, some.size, edited=some.edited)
        pasts = {row[0]: row for row in some.pasts} if some.pasts else None
        job, requirement = job_name(some.job), classes[some.class_id]
        for place, spec in enumerate(specs):
            task = some.first + place
            row = None if pasts is None else pasts.get(task)
            leases.append(
                Lease(
                    job=job,
                    task=TaskId(task),
                    fence=some.fence + place,
                    attempt=1 if row is None else row[1] + 1,
                    spec=as_leased(spec, requirement, some.priority),
                    past=_NO_PAST if row is None else past_of(row[2:]),
                    gang=None if isinstance(some.gang, bool) else gang_seat(some.gang, requirement),
                    copy_of_host=some.copy_of_host,
                )
            )
    return tuple(leases)


def as_leased(spec: TaskSpec, requirement: Any, priority: int) -> TaskSpec:
    """With the requirement and priority of its lane."""
    if spec.priority == priority and spec.requirement == requirement:
        return spec
    return msgspec.structs.replace(spec, requirement=requirement, priority=priority)


def offers_of(session: Session, rows: Sequence[tuple[int, int, int, int]]) -> tuple[Offer, ...]:
    if not rows:
        return ()
    classes = session.requirements([row[1] for row in rows])
    return tuple(
        [
            Offer(
                job=job_name(job),
                class_id=class_id,
                requirement=classes[class_id],
                priority=priority,
                waiting=waiting,
            )
            for job, class_id, priority, waiting in rows
        ]
    )


def places_of(rows: Sequence[tuple[int, int, int]]) -> tuple[Place, ...]:
    return tuple((job_name(job), TaskId(task), fence) for job, task, fence in rows)


def past_of(row: Sequence[int]) -> PastFailures:
    failures, memory, losses, timeouts, last_peak = row
    return PastFailures(failures=failures, memory=memory, losses=losses, timeouts=timeouts, last_peak_bytes=last_peak)


def _past_tuple(past: PastFailures) -> tuple[int, int, int, int, int]:
    return past.failures, past.memory, past.losses, past.timeouts, past.last_peak_bytes
