"""Forgetting finished jobs. The row of the job goes first: from then on nobody sees it. What belongs to it goes in pieces, so
that others get their turn in between; its lanes go last, and while they are there the next call knows that something is left.
"""

from __future__ import annotations

from ergates.cluster.task import JobId
from ergates.drivers.stores.sqlite_connection import StoreConnection
from ergates.drivers.stores.sqlite_records import ID_MASK, job_name, job_number, task_row
from ergates.errors import UnknownJobError
from ergates.taskqueue.retention import Forgetting

TASKS_AT_ONCE = 20_000
"""Rows of tasks in one transaction."""


def with_history(db: StoreConnection) -> frozenset[JobId]:
    """See Retention.with_history: the embedded store is its own ledger, so that is every job in which anything was tried."""
    with db.translated():
        found = db.raw.execute("SELECT DISTINCT job FROM sums").fetchall()
    return frozenset(job_name(number) for (number,) in found)


def forget_job(db: StoreConnection, job: JobId, *, history: bool) -> Forgetting:
    """See Retention.forget_job."""
    answer = _unlist(db, job, history=history)
    for number in _left_behind(db):
        _remove_rest(db, number)
    return answer


def _unlist(db: StoreConnection, job: JobId, *, history: bool) -> Forgetting:
    try:
        number = job_number(job)
    except UnknownJobError:
        return Forgetting.UNKNOWN
    with db.write(0, durable=True):
        found = db.raw.execute("SELECT finished_ns FROM jobs WHERE id = ?", (number,)).fetchone()
        if found is None:
            return Forgetting.UNKNOWN
        if found[0] is None:
            return Forgetting.UNFINISHED
        tried = db.raw.execute("SELECT 1 FROM sums WHERE job = ? LIMIT 1", (number,)).fetchone()
        if tried and not history:
            return Forgetting.HISTORY
        db.raw.execute("DELETE FROM jobs WHERE id = ?", (number,))
        db.raw.execute("DELETE FROM sums WHERE job = ?", (number,))
    return Forgetting.FORGOTTEN


def _left_behind(db: StoreConnection) -> list[int]:
    """Jobs that are listed no more and have rows left. A job without any task has none."""
    with db.translated():
        found = db.raw.execute("SELECT DISTINCT job FROM lanes WHERE job NOT IN (SELECT id FROM jobs)").fetchall()
    return [number for (number,) in found]


def _remove_rest(db: StoreConnection, number: int) -> None:
    low, high = task_row(number, 0), task_row(number, ID_MASK)
    while _remove_piece(db, low, high):
        pass
    with db.write(0):
        db.raw.execute("DELETE FROM prerequisites WHERE first BETWEEN ? AND ?", (low, high))
        db.raw.execute("DELETE FROM profiles WHERE job = ?", (number,))
        db.raw.execute("DELETE FROM lanes WHERE job = ?", (number,))


def _remove_piece(db: StoreConnection, low: int, high: int) -> bool:
    """The first tasks that are left, with their attempts; whether there were any."""
    with db.write(0):
        first = db.raw.execute("SELECT min(row) FROM tasks WHERE row BETWEEN ? AND ?", (low, high)).fetchone()[0]
        if first is None:
            return False
        piece = first, min(high, first + TASKS_AT_ONCE - 1)
        for table, column in (("attempts", "task"), ("setbacks", "row"), ("waits", "task"), ("tasks", "row")):
            db.raw.execute(f"DELETE FROM {table} WHERE {column} BETWEEN ? AND ?", piece)
    return True
