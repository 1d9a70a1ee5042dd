"""What people ask of a store. `status` reads counters; listings come in chunks, so no listing holds the store for long."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from ergates.cluster.attempt import Attempt
from ergates.cluster.job import JobSpec, JobStatus
from ergates.cluster.task import JobId, TaskId
from ergates.cluster.task_state import TaskState
from ergates.drivers.stores.sqlite_connection import StoreConnection
from ergates.drivers.stores.sqlite_records import (
    ATTEMPT_COLUMNS,
    CODES,
    DONE,
    ID_MASK,
    JOB_COLUMNS,
    STATES,
    SpecDecoder,
    attempt_of,
    job_number,
    job_status,
    past_of,
    row_ranges,
    split_row,
    task_row,
    unknown_job,
)
from ergates.taskqueue.store import HeldTask, Offer, TaskView
from ergates.units import Nanoseconds

CHUNK = 500
_SUMS = (
    "SELECT outcome, attempts, wall_ns, cpu_ns, peak_bytes, cost_usd_micros FROM sums WHERE job = ? ORDER BY outcome"
)
_TASK_COLUMNS = """t.row, t.state, t.command, t.profile, t.extra, t.attempts, n.class, n.priority, s.failures, s.memory,
    s.losses, s.timeouts, s.last_peak_bytes, s.not_before_ns, s.reason, w.uuid"""
_TASK_JOINS = """tasks t JOIN lanes n ON n.id = t.lane LEFT JOIN setbacks s ON s.row = t.row
    LEFT JOIN leases l ON l.row = t.row LEFT JOIN workers w ON w.id = l.worker"""
_BLOCKED_BY = """SELECT ifnull(sum(p.open), 0) FROM waits w JOIN prerequisites p ON p.id = w.prerequisite
    WHERE w.task = ?"""


def jobs(db: StoreConnection) -> tuple[JobStatus, ...]:
    """See Reader.jobs."""
    with db.reading() as raw:
        rows = raw.execute(f"SELECT {JOB_COLUMNS} FROM jobs j ORDER BY j.id DESC").fetchall()
        return tuple(job_status(row, raw.execute(_SUMS, (row[0],)).fetchall()) for row in rows)


def status(db: StoreConnection, job: JobId) -> JobStatus:
    """See Reader.status."""
    number = job_number(job)
    with db.reading() as raw:
        row = raw.execute(f"SELECT {JOB_COLUMNS} FROM jobs j WHERE j.id = ?", (number,)).fetchone()
        if row is None:
            raise unknown_job(job)
        return job_status(row, raw.execute(_SUMS, (number,)).fetchall())


def spec(db: StoreConnection, job: JobId) -> JobSpec:
    """See Reader.spec."""
    number = job_number(job)
    with db.reading() as raw:
        row = raw.execute("SELECT spec FROM jobs WHERE id = ?", (number,)).fetchone()
    if row is None:
        raise unknown_job(job)
    return msgspec.json.decode(row[0], type=JobSpec)


def waiting(db: StoreConnection, job: JobId) -> tuple[Offer, ...]:
    """See Waiting.waiting."""
    status(db, job)  # raises when there is none
    with db.reading() as raw:
        decoder = SpecDecoder(db)
        rows = raw.execute(
            "SELECT class, priority, sum(waiting) FROM lanes WHERE job = ? AND waiting > 0"
            " GROUP BY class, priority ORDER BY priority DESC, class",
            (job_number(job),),
        ).fetchall()
        return tuple(
            Offer(
                job=job,
                class_id=class_number,
                requirement=decoder.requirement(class_number),
                priority=priority,
                waiting=count,
            )
            for class_number, priority, count in rows
        )


def tasks(
    db: StoreConnection,
    job: JobId,
    states: Sequence[TaskState],
    ids: Sequence[tuple[int, int]],
    limit: int | None,
) -> Iterator[TaskView]:
    """See Reader.tasks. Each chunk is one moment; the whole listing is not."""
    number = job_number(job)
    with db.reading() as raw:
        if raw.execute("SELECT 1 FROM jobs WHERE id = ?", (number,)).fetchone() is None:
            raise unknown_job(job)
    return _task_chunks(db, number, states, ids, limit)


def _task_chunks(
    db: StoreConnection,
    job: int,
    states: Sequence[TaskState],
    ids: Sequence[tuple[int, int]],
    limit: int | None,
) -> Iterator[TaskView]:
    decoder = SpecDecoder(db)
    wanted = f"AND t.state IN ({', '.join(str(CODES[state]) for state in states)})" if states else ""
    query = f"SELECT {_TASK_COLUMNS} FROM {_TASK_JOINS} WHERE t.row BETWEEN ? AND ? {wanted} ORDER BY t.row LIMIT ?"
    left = limit
    for first, last in row_ranges(job, ids or [(1, ID_MASK)]):
        start: int | None = first
        while start is not None and (left is None or left > 0):
            count = CHUNK if left is None else min(CHUNK, left)
            with db.reading() as raw:
                rows = raw.execute(query, (start, last, count)).fetchall()
                views = [_view(db, decoder, row) for row in rows]
            yield from views
            left = None if left is None else left - len(rows)
            start = rows[-1][0] + 1 if len(rows) == count else None


def _view(db: StoreConnection, decoder: SpecDecoder, columns: Sequence[Any]) -> TaskView:
    row, state, command, profile, extra, attempts, class_id, priority, *past, not_before_ns, reason, worker = columns
    job, task = split_row(row)
    shown = STATES[state]
    blocked_by = db.raw.execute(_BLOCKED_BY, (row,)).fetchone()[0] if shown == TaskState.BLOCKED else 0
    if shown == TaskState.CANCELLED and not reason:
        reason = "its job was cancelled"
    return TaskView(
        job=job,
        task=task,
        state=shown,
        spec=decoder.spec(command, profile, extra, class_id, priority),
        past=past_of(past),
        attempts=attempts,
        not_before_ns=Nanoseconds(db.to_caller_time(not_before_ns) if not_before_ns else 0),
        reason="" if state == DONE else reason or "",
        worker=worker or "",
        blocked_by=blocked_by,
    )


def attempts(
    db: StoreConnection, job: JobId, ids: Sequence[tuple[int, int]], since_row: int
) -> Iterator[tuple[int, TaskId, Attempt]]:
    """See Reader.attempts."""
    number = job_number(job)
    with db.reading() as raw:
        bounds = raw.execute("SELECT first_attempt, last_attempt FROM jobs WHERE id = ?", (number,)).fetchone()
    if bounds is None:
        raise unknown_job(job)
    first, last = bounds
    return _attempt_chunks(db, number, ids, max(first, since_row + 1), last)


def _attempt_chunks(
    db: StoreConnection, job: int, ids: Sequence[tuple[int, int]], start: int, last: int
) -> Iterator[tuple[int, TaskId, Attempt]]:
    # A whole job is read along the ledger, a few tasks by their index: the unary + keeps SQLite from swapping the two.
    task = "task" if ids else "+task"
    ranges = row_ranges(job, ids) if ids else [(task_row(job, 0), task_row(job, ID_MASK))]
    places = " OR ".join([f"{task} BETWEEN ? AND ?"] * len(ranges))
    query = (
        f"SELECT id, {ATTEMPT_COLUMNS} FROM attempts WHERE id BETWEEN ? AND ? AND ({places}) ORDER BY id LIMIT {CHUNK}"
    )
    flat = [row for pair in ranges for row in pair]
    while ranges:
        with db.reading() as raw:
            rows = raw.execute(query, (start, last, *flat)).fetchall()
            found = [(row[0], split_row(row[1])[1], attempt_of(db, row[2:])) for row in rows]
        yield from found
        if len(rows) < CHUNK:
            return
        start = rows[-1][0] + 1


def held(db: StoreConnection, most: int) -> tuple[HeldTask, ...]:
    """See Holdings.held."""
    with db.reading() as raw:
        rows = raw.execute(
            "SELECT l.row, l.fence, l.since_ns, w.uuid FROM leases l JOIN workers w ON w.id = l.worker ORDER BY l.fence LIMIT ?",
            (most,),
        ).fetchall()
    return tuple(
        HeldTask(
            job=split_row(row)[0],
            task=split_row(row)[1],
            worker=worker,
            fence=fence,
            since_ns=Nanoseconds(db.to_caller_time(since_ns)) if since_ns else None,
        )
        for row, fence, since_ns, worker in rows
    )
