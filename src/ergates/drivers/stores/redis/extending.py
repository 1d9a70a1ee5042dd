"""More tasks for an open job: uploaded as a submission does, then added by one call that checks that nobody else was faster."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from ergates.cluster.task import JobId, Requirement, TaskId, TaskSpec
from ergates.drivers.stores.redis.chunks import CHUNK_TASKS
from ergates.drivers.stores.redis.editing import follow_up
from ergates.drivers.stores.redis.names import job_number, unknown_job
from ergates.drivers.stores.redis.reading import pairs
from ergates.drivers.stores.redis.session import Session
from ergates.drivers.stores.redis.submitting import SubmittedTasks
from ergates.drivers.stores.redis.upload import Upload
from ergates.errors import JobGrewError, closed_job


class _Grown(NamedTuple):
    """An open job as it is now."""

    total: int
    uid: str
    lanes: list[tuple[Requirement, int]]


def extend(session: Session, job: JobId, tasks: Iterable[TaskSpec], now_ns: int, first: TaskId | None) -> int:
    """See Editor.extend. Others may extend at the same time: who comes second counts again."""
    number = job_number(job)
    new: list[TaskSpec] | None = None
    while True:
        now = _open_job(session, job, number)
        if new is None:
            new = list(tasks)
        if first not in (None, now.total + 1):
            raise JobGrewError(f"job {job} has {now.total} tasks by now, the next is not {first}")
        answer, total = _add(session, number, now, new, now_ns)
        if answer == b"closed":
            raise closed_job(job)
        if answer == b"done":
            follow_up(session, now_ns)
            return total


def close_job(session: Session, job: JobId, now_ns: int) -> None:
    """See Editor.close_job."""
    (found,) = session.run("close", job_number(job), now_ns)
    if not found:
        raise unknown_job(job)


def _open_job(session: Session, job: JobId, number: int) -> _Grown:
    connection = session.connection()
    total, uid, takes_more = connection.command("HMGET", session.key(number), "total", "uid", "open")
    if uid is None:
        raise unknown_job(job)
    if takes_more != b"1":
        raise closed_job(job)
    known = pairs(connection.command("HGETALL", session.key(number, "lanes")))
    rows = [tuple(map(int, known[str(place)].split(b":"))) for place in range(len(known))]
    classes = session.requirements(class_id for class_id, _ in rows)
    lanes = [(classes[class_id], priority) for class_id, priority in rows]
    return _Grown(int(total), uid.decode(), lanes)


def _add(session: Session, job: int, now: _Grown, new: Sequence[TaskSpec], now_ns: int) -> tuple[Any, int]:
    if not new:
        return b"done", now.total
    whole = now.total // CHUNK_TASKS * CHUNK_TASKS
    last_chunk = list(range(whole + 1, now.total + 1))
    found = session.specs(job, now.uid, last_chunk, edited=False)
    upload = Upload(session, secrets.token_hex(8))
    try:
        added = SubmittedTasks(upload, now.total, [found[task] for task in last_chunk], now.lanes)
        added.add_all(iter(new))
        total, blocked, levels, lanes = added.finish()
        request = [upload.uid, job, now.total, total, blocked, levels, lanes, upload.names]
        (answer,) = session.run("extend", request, now_ns)
    except BaseException:
        upload.drop()
        raise
    if answer != b"done":
        upload.drop()
    return answer, total
