"""What people ask of a store. `status` reads one hash; listings come in chunks, each of which is one moment."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from ergates.cluster.attempt import Attempt, Outcome
from ergates.cluster.job import JobPhase, JobSpec, JobStatus
from ergates.cluster.task import JobId, TaskId, TaskSpec
from ergates.cluster.task_state import TaskState
from ergates.drivers.stores.redis.chunks import CHUNK_TASKS
from ergates.drivers.stores.redis.draining import entries
from ergates.drivers.stores.redis.names import ID_MAX, job_name, job_number, merged, unknown_job
from ergates.drivers.stores.redis.prerequisites import range_name
from ergates.drivers.stores.redis.rows import unpack_entry
from ergates.drivers.stores.redis.session import Session
from ergates.drivers.stores.redis.wire import as_leased, offers_of, past_of
from ergates.taskqueue.store import Offer, PastFailures, TaskView
from ergates.units import Nanoseconds

FRESH, BLOCKED, DONE, CANCELLED = 0, 2, 6, 8
STATES: dict[int, TaskState] = {
    FRESH: TaskState.READY,
    BLOCKED: TaskState.BLOCKED,
    3: TaskState.READY,
    4: TaskState.DELAYED,
    5: TaskState.LEASED,
    DONE: TaskState.DONE,
    7: TaskState.FAILED,
    CANCELLED: TaskState.CANCELLED,
}
"""Bytes of state, as in lua/base.lua."""
SCAN_BYTES = 64 * 1024
_SUM = struct.Struct("<8d")
_COUNTS = struct.Struct("<7d")
"""Of BLOCKED to CANCELLED, in the order of their bytes."""


class Setback(msgspec.Struct, array_like=True):
    """As in lua/tasks.lua."""

    failures: int
    memory: int
    losses: int
    timeouts: int
    last_peak_bytes: int
    attempts: int
    class_id: int
    priority: int
    avoid_host: str
    due_us: int
    reason: str
    cause: int
    word: str


class _Page(msgspec.Struct, array_like=True):
    setbacks: list[tuple[int, Setback]]
    holders: list[tuple[int, str]]
    reasons: list[tuple[int, int, str]]


class _Named(msgspec.Struct):
    name: str = ""


_page_decoder = msgspec.msgpack.Decoder(_Page)


def jobs(session: Session) -> tuple[JobStatus, ...]:
    """See Reader.jobs."""
    connection = session.connection()
    numbers = [int(number) for number in connection.command("ZREVRANGE", session.prefix + "jobs", 0, -1)]
    found = connection.pipeline([["HGETALL", session.key(number)] for number in numbers])
    return tuple(_status(number, pairs(fields)) for number, fields in zip(numbers, found, strict=True))


def status(session: Session, job: JobId) -> JobStatus:
    """See Reader.status."""
    number = job_number(job)
    fields = pairs(session.connection().command("HGETALL", session.key(number)))
    if not fields:
        raise unknown_job(job)
    return _status(number, fields)


def spec(session: Session, job: JobId) -> JobSpec:
    """See Reader.spec."""
    text, takes_more = session.connection().command("HMGET", session.key(job_number(job)), "spec", "open")
    if text is None:
        raise unknown_job(job)
    return msgspec.structs.replace(msgspec.json.decode(text, type=JobSpec), open=takes_more == b"1")


def waiting(session: Session, job: JobId) -> tuple[Offer, ...]:
    """See Waiting.waiting."""
    number = job_number(job)
    connection = session.connection()
    known, lanes = connection.pipeline([["EXISTS", session.key(number)], ["ZRANGE", session.key(number, "row"), 0, -1]])
    if not known:
        raise unknown_job(job)
    counts = connection.command("HMGET", session.prefix + "waiting", *lanes) if lanes else []
    rows: dict[tuple[int, int], int] = {}
    for lane, count in zip(lanes, counts, strict=True):
        _, class_id, priority, _ = lane.split(b":", 3)
        row = -int(priority), int(class_id)
        rows[row] = rows.get(row, 0) + int(count or 0)
    return offers_of(session, [(number, row[1], -row[0], count) for row, count in sorted(rows.items()) if count])


def pairs(reply: Any) -> dict[str, bytes]:
    """Fields of a hash, whichever protocol the client speaks."""
    items = reply.items() if isinstance(reply, Mapping) else zip(reply[::2], reply[1::2], strict=True)
    return {name.decode(): value for name, value in items}


def _status(number: int, fields: Mapping[str, bytes]) -> JobStatus:
    outcomes: dict[str, tuple[int, ...]] = {}
    for outcome in Outcome:
        packed = fields.get(f"o:{outcome.value}")
        if packed is not None:
            outcomes[outcome.value] = tuple(int(part) for part in _SUM.unpack(packed))
    wasted = [row for name, row in outcomes.items() if name != Outcome.SUCCEEDED]
    finished = fields["finished"].decode()
    phase: JobPhase = fields["phase"].decode()  # type: ignore[assignment]
    counted = (int(count) for count in _COUNTS.unpack(fields["counts"]))
    counts = {STATES[code].value: count for code, count in zip(range(BLOCKED, CANCELLED + 1), counted, strict=True)}
    return JobStatus(
        id=job_name(number),
        key=fields["key"].decode(),
        name=msgspec.json.decode(fields["spec"], type=_Named).name,
        phase="finished" if finished and phase != "cancelled" else phase,
        submitted_ns=Nanoseconds(int(fields["submitted_ns"])),
        finished_ns=Nanoseconds(int(finished)) if finished else None,
        total=int(fields["total"]),
        counts=counts,
        outcomes={name: row[0] for name, row in outcomes.items()},
        wall_ns=sum(_ns(row[1], row[2]) for row in outcomes.values()),
        cpu_ns=sum(_ns(row[3], row[4]) for row in outcomes.values()),
        wasted_cpu_ns=sum(_ns(row[3], row[4]) for row in wasted),
        wasted_wall_ns=sum(_ns(row[1], row[2]) for row in wasted),
        peak_bytes=max((row[5] for row in outcomes.values()), default=0),
        cost_usd_micros=sum(row[6] for row in outcomes.values()) if any(row[7] for row in outcomes.values()) else None,
        takes_more=fields["open"] == b"1",
    )


def _ns(seconds: int, nanoseconds: int) -> int:
    return seconds * 1_000_000_000 + nanoseconds


# --- tasks ----------------------------------------------------------------------------------------


def tasks(
    session: Session, job: JobId, states: Sequence[TaskState], ids: Sequence[tuple[int, int]], limit: int | None
) -> Iterator[TaskView]:
    """See Reader.tasks."""
    number = job_number(job)
    total, uid = session.connection().command("HMGET", session.key(number), "total", "uid")
    if uid is None:
        raise unknown_job(job)
    return _listed(session, number, uid.decode(), states, merged(ids or [(1, ID_MAX)], int(total)), limit)


def _listed(
    session: Session,
    job: int,
    uid: str,
    states: Sequence[TaskState],
    ranges: Sequence[tuple[int, int]],
    limit: int | None,
) -> Iterator[TaskView]:
    wanted = bytes(code for code, state in STATES.items() if not states or state in states)
    left = limit
    for first, last in _pages(session, job, wanted if states else b"", ranges):
        if left is not None and left <= 0:
            return
        views = _views(session, job, uid, first, last, wanted, left)
        yield from views
        left = None if left is None else left - len(views)


def _pages(session: Session, job: int, wanted: bytes, ranges: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Parts of the ranges that lie in one chunk each; where `wanted` is given, those that have a task in such a state."""
    for first, last in ranges:
        start = first
        while start <= last:
            stop = min(last, start + SCAN_BYTES - 1)
            seen = b""
            if wanted:
                seen = session.connection().command("GETRANGE", session.key(job, "state"), start - 1, stop - 1)
                seen += bytes(stop - start + 1 - len(seen))
            place = start
            while place <= stop:
                end = min(stop, (place - 1) // CHUNK_TASKS * CHUNK_TASKS + CHUNK_TASKS)
                if (
                    not wanted
                    or seen[place - start : end - start + 1].translate(None, wanted)
                    != seen[place - start : end - start + 1]
                ):
                    yield place, end
                place = end + 1
            start = stop + 1


def _views(
    session: Session, job: int, uid: str, first: int, last: int, wanted: bytes, limit: int | None
) -> list[TaskView]:
    states, packed = session.run("page", [job, first, last])
    if states is None:
        raise unknown_job(job_name(job))
    page = _page_decoder.decode(packed)
    chosen = [first + place for place, state in enumerate(states) if state in wanted][:limit]
    edited = session.connection().command("HGET", session.key(job), "edits") == b"1"
    specs = session.specs(job, uid, chosen, edited=edited)
    setbacks, holders = dict(page.setbacks), dict(page.holders)
    session.requirements(setback.class_id for setback in setbacks.values() if setback.class_id)
    blocked = _blocked_by(session, job, {task: specs[task] for task in chosen if states[task - first] == BLOCKED})
    return [
        _view(
            session, job, task, states[task - first], specs[task], setbacks.get(task), holders.get(task, ""),
            blocked.get(task, 0), page.reasons,
        )
        for task in chosen
    ]  # fmt: skip


def _view(
    session: Session,
    job: int,
    task: int,
    code: int,
    spec: TaskSpec,
    setback: Setback | None,
    holder: str,
    blocked_by: int,
    reasons: Sequence[tuple[int, int, str]],
) -> TaskView:
    past, attempts, due_us, reason = PastFailures(), 1 if code == DONE else 0, 0, ""
    if setback is not None:
        past = past_of((setback.failures, setback.memory, setback.losses, setback.timeouts, setback.last_peak_bytes))
        attempts, due_us, reason = setback.attempts, setback.due_us, setback.reason
        if setback.class_id:
            spec = as_leased(spec, session.requirements(())[setback.class_id], setback.priority)
        if setback.cause:
            reason = f"task {setback.cause}, which it comes after, {setback.word}"
    state = STATES[code]
    if state == TaskState.CANCELLED and not reason:
        found = (text for low, high, text in reversed(reasons) if low <= task <= high)
        reason = next(found, "")
    return TaskView(
        job=job_name(job),
        task=TaskId(task),
        state=state,
        spec=spec,
        past=past,
        attempts=attempts,
        not_before_ns=session.to_caller_ns(due_us) if due_us else Nanoseconds(0),
        reason="" if code == DONE else reason,
        worker=holder,
        blocked_by=blocked_by,
    )


def _blocked_by(session: Session, job: int, blocked: Mapping[int, TaskSpec]) -> dict[int, int]:
    """How many tasks each comes after that are not done."""
    names = sorted({range_name(ids) for spec in blocked.values() for ids in spec.after})
    if not names:
        return {}
    values = session.connection().command("HMGET", session.key(job, "pre"), *names)
    left = {name: int(value) for name, value in zip(names, values, strict=True)}
    return {task: sum(left[range_name(ids)] for ids in set(spec.after)) for task, spec in blocked.items()}


# --- the log --------------------------------------------------------------------------------------


def attempts(
    session: Session, job: JobId, ids: Sequence[tuple[int, int]], since_row: int
) -> Iterator[tuple[int, TaskId, Attempt]]:
    """See Reader.attempts; those that were drained are in the ledger."""
    number = job_number(job)
    if not session.connection().command("EXISTS", session.key(number)):
        raise unknown_job(job)
    return _attempts(session, number, merged(ids), bool(ids), since_row)


def _attempts(
    session: Session, job: int, ranges: Sequence[tuple[int, int]], some: bool, since_row: int
) -> Iterator[tuple[int, TaskId, Attempt]]:
    for entry in entries(session, job, f"({since_row}-1"):
        for kept in unpack_entry(entry):
            inside = not some or any(first <= kept.task <= last for first, last in ranges)
            if kept.row > since_row and inside:
                yield kept.row, kept.task, kept.attempt
