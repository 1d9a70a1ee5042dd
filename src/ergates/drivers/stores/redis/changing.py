"""Editing tasks that nobody runs, and running ended ones again. The server judges each at its turn (lua/change.lua).

A new class or priority moves a task to another lane; the rest is a new spec beside the chunk it came in. When somebody else
edited between the look at the old spec and the change, the look is repeated: no edit undoes another by accident.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from ergates.cluster.task import JobId, TaskId
from ergates.drivers.stores.redis.chunks import encode_specs
from ergates.drivers.stores.redis.editing import follow_up
from ergates.drivers.stores.redis.names import job_name, job_number, unknown_job
from ergates.drivers.stores.redis.prerequisites import range_name
from ergates.drivers.stores.redis.retrying import ENDED, NONE, Ranges, order_of_revival
from ergates.drivers.stores.redis.session import Session
from ergates.taskqueue.store import Changes, edited

AT_ONCE = 500
_answer = msgspec.msgpack.Decoder(tuple[int, list[int], list[int]])


def edit(
    session: Session, job: JobId, changes: Sequence[tuple[TaskId, Changes]], now_ns: int, *, rerun: bool
) -> tuple[TaskId, ...]:
    """See Editor.edit."""
    number = job_number(job)
    total, uid, levels = session.connection().command("HMGET", session.key(number), "total", "uid", "levels")
    if uid is None:
        raise unknown_job(job)
    wanted = {int(task): change for task, change in changes if 1 <= task <= int(total)}
    order, after = sorted(wanted), dict[int, Ranges]()
    if rerun and levels:
        order, after = order_of_revival(session, number, set(wanted), done_too=True)
        order += sorted(wanted.keys() - set(order))
    changed: list[int] = []
    for start in range(0, len(order), AT_ONCE):
        some = order[start : start + AT_ONCE]
        changed += _change(session, number, uid.decode(), some, wanted, after, now_ns, rerun=rerun)
    if levels:
        follow_up(session, now_ns)
    return tuple(TaskId(task) for task in sorted(changed))


def _change(
    session: Session,
    job: int,
    uid: str,
    tasks: Sequence[int],
    wanted: Mapping[int, Changes],
    after: Mapping[int, Ranges],
    now_ns: int,
    *,
    rerun: bool,
) -> list[int]:
    while True:
        made, flag = session.connection().command("HMGET", session.key(job), "edits_made", "edits")
        seen = int(made or 0)
        rows, blobs = _rows(session, job, uid, tasks, wanted, after, edited_before=flag == b"1")
        request = [job, seen, ENDED if rerun else NONE, rows]
        now, changed, _ = _answer.decode(session.run("change", request, now_ns, blobs)[0])
        if now < 0:
            raise unknown_job(job_name(job))
        if now == seen or changed:
            return changed


def _rows(
    session: Session,
    job: int,
    uid: str,
    tasks: Sequence[int],
    wanted: Mapping[int, Changes],
    after: Mapping[int, Ranges],
    *,
    edited_before: bool,
) -> tuple[list[Any], list[bytes]]:
    rewritten = [task for task in sorted(tasks) if task in wanted and _rewrites(wanted[task])]
    specs = session.specs(job, uid, rewritten, edited=edited_before)
    rows, blobs = [], []
    for task in tasks:
        change = wanted.get(task)
        class_id, priority, blob = 0, None, 0
        if change is not None:
            class_id = 0 if change.requirement is None else session.class_id(change.requirement)
            priority = change.priority
        if change is not None and task in specs:
            blobs.append(encode_specs(task, [edited(specs[task], change)]))
            blob = len(blobs)
        ranges = [range_name(ids) for ids in after.get(task, ())]
        rows.append((task, change is not None, class_id, False if priority is None else priority, blob, ranges))
    return rows, blobs


def _rewrites(change: Changes) -> bool:
    """Whether more than the task's lane changes."""
    return any(value is not None for value in (change.command, change.labels, change.retries, change.time_limit_ns))
