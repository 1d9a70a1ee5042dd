"""What the ledger shall have: the oldest attempts that are still here, and dropping them once it has them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from ergates.cluster.attempt import Attempt, Kept
from ergates.cluster.job import JobSpec
from ergates.cluster.task import JobId, TaskId
from ergates.drivers.stores.redis.names import job_name, job_number, merged, unknown_job
from ergates.drivers.stores.redis.rows import KeptRow, entry_rows, unpack_entry, unpack_kept
from ergates.drivers.stores.redis.session import Session
from ergates.errors import UnknownJobError
from ergates.taskqueue.ledger import DrainBatch, LedgerJob, LedgerRow
from ergates.units import Nanoseconds

ENTRIES_AT_ONCE = 200
Token = list[tuple[int, int]]
"""Job and number of the last row that was read."""
_token = msgspec.msgpack.Decoder(Token)


def undrained(session: Session, most: int) -> DrainBatch:
    """See Drainable.undrained. One exchange that is larger than `most` comes whole, alone."""
    jobs: list[LedgerJob] = []
    rows: list[LedgerRow] = []
    token: Token = []
    for name in session.connection().command("ZRANGE", session.prefix + "logs", 0, -1):
        number = int(name)
        found, last = _oldest(session, number, most - len(rows), alone=not rows)
        if not found:
            break
        try:
            job, edited = _job(session, number)
            ready = list(_ledger_rows(session, number, job.uid, found, edited=edited))
        except UnknownJobError:  # forgotten together with these
            continue
        jobs.append(job)
        rows += ready
        token.append((number, last))
    return DrainBatch(jobs=tuple(jobs), rows=tuple(rows), token=msgspec.msgpack.encode(token))


def forget(session: Session, batch: DrainBatch) -> None:
    """See Drainable.forget."""
    session.run("drop_rows", _token.decode(batch.token))


def job_uid(session: Session, job: JobId) -> str:
    """Raises UnknownJobError."""
    uid: bytes | None = session.connection().command("HGET", session.key(job_number(job)), "uid")
    if uid is None:
        raise unknown_job(job)
    return uid.decode()


def log(session: Session, job: JobId, since_row: int) -> Iterator[tuple[int, TaskId, Attempt, Kept | None]]:
    """(row, task, attempt, what is kept of it) of attempts after a row that are still here.

    Raises:
        UnknownJobError: there is no such job.
    """
    number = job_number(job)
    if not session.connection().command("EXISTS", session.key(number)):
        raise unknown_job(job)
    for entry in entries(session, number, f"({since_row}-1"):
        for row in unpack_entry(entry):
            if row.row > since_row:
                yield row.row, row.task, row.attempt, None if row.kept is None else unpack_kept(row.kept)


def kept(session: Session, job: JobId, ids: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int, Kept]]:
    """(task, number of the attempt, what is kept of it) of attempts that are still here.

    Raises:
        UnknownJobError: there is no such job.
    """
    number = job_number(job)
    if not session.connection().command("EXISTS", session.key(number)):
        raise unknown_job(job)
    return _kept(session, number, merged(ids) if ids else None)


def _kept(session: Session, job: int, ranges: Sequence[tuple[int, int]] | None) -> Iterator[tuple[int, int, Kept]]:
    for entry in entries(session, job):
        for row in unpack_entry(entry):
            inside = ranges is None or any(first <= row.task <= last for first, last in ranges)
            if row.kept is not None and inside:
                yield row.task, row.attempt.number, unpack_kept(row.kept)


def entries(session: Session, job: int, start: str = "-") -> Iterator[Any]:
    """A job's log from the entry `start` on, in the order it was written."""
    while True:
        found = session.connection().command("XRANGE", session.key(job, "log"), start, "+", "COUNT", ENTRIES_AT_ONCE)
        yield from found
        if len(found) < ENTRIES_AT_ONCE:
            return
        start = "(" + found[-1][0].decode()


def _oldest(session: Session, job: int, most: int, *, alone: bool) -> tuple[list[KeptRow], int]:
    rows: list[KeptRow] = []
    for entry in entries(session, job):
        if len(rows) + entry_rows(entry) > most and (rows or not alone):
            break
        rows += unpack_entry(entry)
    return rows, rows[-1].row if rows else 0


def _job(session: Session, number: int) -> tuple[LedgerJob, bool]:
    uid, text, submitted_ns, total, edits = session.connection().command(
        "HMGET", session.key(number), "uid", "spec", "submitted_ns", "total", "edits"
    )
    if uid is None:
        raise unknown_job(job_name(number))
    made = LedgerJob(
        uid=uid.decode(),
        queue=session.queue,
        id=job_name(number),
        spec=msgspec.json.decode(text, type=JobSpec),
        submitted_ns=Nanoseconds(int(submitted_ns)),
        total=int(total),
    )
    return made, edits == b"1"


def _ledger_rows(session: Session, job: int, uid: str, rows: Sequence[KeptRow], *, edited: bool) -> Iterator[LedgerRow]:
    specs = session.specs(job, uid, sorted({row.task for row in rows}), edited=edited)
    for row in rows:
        yield LedgerRow(
            job_uid=uid,
            row=row.row,
            task=row.task,
            attempt=row.attempt,
            labels=specs[row.task].labels,
            kept=None if row.kept is None else unpack_kept(row.kept),
        )
