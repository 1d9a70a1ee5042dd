"""Changing what was submitted: pause, cancel, retry, close. All by ranges of ids, as sets, never task by task in Python."""

from __future__ import annotations

import json
from collections.abc import Sequence

import msgspec

from ergates.cluster.job import JobSpec
from ergates.drivers.stores.sqlite_connection import StoreConnection
from ergates.drivers.stores.sqlite_dependencies import is_blocked, revivable, tasks_ended_badly
from ergates.drivers.stores.sqlite_records import (
    BLOCKED,
    CANCELLED,
    DELAYED,
    FAILED,
    ID_MASK,
    READY,
    clean_text,
    job_number,
    row_ranges,
    task_row,
    to_json,
    unknown_job,
)
from ergates.drivers.stores.sqlite_tally import Tally
from ergates.errors import UsageError

_WAITING = f"({BLOCKED}, {READY}, {DELAYED})"
_ENDED_BADLY = f"({FAILED}, {CANCELLED})"


def set_phase(db: StoreConnection, job: str, phase: str, now_ns: int) -> None:
    """See Submitter.set_phase."""
    if phase not in ("active", "paused", "cancelled"):
        raise UsageError(f"a job can be made active, paused or cancelled, not {phase!r}")
    number = job_number(job)
    with db.write(now_ns, durable=True) as store_ns:
        before, finished_ns, _ = _job(db, job, number)
        if finished_ns is not None or before == phase:
            return
        if before == "cancelled":
            raise UsageError(f"job {job} was cancelled\n  hint: `erg retry {job}` takes its tasks back")
        db.raw.execute("UPDATE jobs SET phase = ? WHERE id = ?", (phase, number))
        if phase == "cancelled":
            tally = Tally(db, store_ns, now_ns)
            everything = task_row(number, 1), task_row(number, ID_MASK)
            _cancel_range(db, tally, number, everything, None)
            tally.flush()
            close(db, number, now_ns)


def close_job(db: StoreConnection, job: str, now_ns: int) -> None:
    """See Editor.close_job."""
    number = job_number(job)
    with db.write(now_ns, durable=True):
        _job(db, job, number)
        close(db, number, now_ns)


def close(db: StoreConnection, number: int, now_ns: int) -> None:
    """An open job takes no more tasks from now on, and is finished when all it has are settled."""
    (text, is_open) = db.raw.execute("SELECT spec, open FROM jobs WHERE id = ?", (number,)).fetchone()
    if not is_open:
        return
    spec = msgspec.structs.replace(msgspec.json.decode(text, type=JobSpec), open=False)
    db.raw.execute(
        "UPDATE jobs SET open = 0, spec = ?, finished_ns = CASE WHEN done + failed + cancelled < total THEN NULL"
        " ELSE ? END WHERE id = ?",
        (to_json(spec, "the job"), now_ns, number),
    )


def cancel(db: StoreConnection, job: str, tasks: Sequence[tuple[int, int]], reason: str, now_ns: int) -> int:
    """See Submitter.cancel."""
    number, reason = job_number(job), clean_text(reason)
    count = 0
    with db.write(now_ns, durable=True) as store_ns:
        _, _, levels = _job(db, job, number)
        tally = Tally(db, store_ns, now_ns)
        for rows in row_ranges(number, tasks):
            cancelled = []
            if levels:
                cancelled = db.raw.execute(
                    f"SELECT row FROM tasks WHERE row BETWEEN ? AND ? AND state IN {_WAITING}",
                    rows,
                ).fetchall()
            count += _cancel_range(db, tally, number, rows, reason)
            tasks_ended_badly(db, tally, [row for (row,) in cancelled], "was cancelled", levels)
        tally.flush()
    return count


def _cancel_range(db: StoreConnection, tally: Tally, job: int, rows: tuple[int, int], reason: str | None) -> int:
    """Cancel what waits, revoke what is leased. Without a reason it is the job's, and no row is written per task."""
    where = f"row BETWEEN ? AND ? AND state IN {_WAITING}"
    count = 0
    for state, lane, waiting in db.raw.execute(
        f"SELECT state, lane, count(*) FROM tasks WHERE {where} GROUP BY state, lane",
        rows,
    ).fetchall():
        tally.move_many(job, state, CANCELLED, waiting)
        if state == READY:
            tally.lane(lane, -waiting)
        count += waiting
    if reason is None:
        db.raw.execute(
            f"UPDATE setbacks SET reason = '', cause = 0, not_before_ns = 0 WHERE row IN"
            f" (SELECT t.row FROM setbacks s JOIN tasks t ON t.row = s.row WHERE t.{where})",
            rows,
        )
    else:
        db.raw.execute(
            f"INSERT INTO setbacks(row, job, reason) SELECT row, ?, ? FROM tasks WHERE {where}"
            " ON CONFLICT(row) DO UPDATE SET reason = excluded.reason, cause = 0, not_before_ns = 0",
            (job, reason, *rows),
        )
    db.raw.execute(f"UPDATE tasks SET state = {CANCELLED} WHERE {where}", rows)
    revoked = db.raw.execute(
        "UPDATE leases SET revoked = 1, reason = ? WHERE row BETWEEN ? AND ? AND revoked = 0", (reason or "", *rows)
    )
    return count + revoked.rowcount


def retry(db: StoreConnection, job: str, tasks: Sequence[tuple[int, int]], now_ns: int) -> int:
    """See Submitter.retry."""
    number = job_number(job)
    with db.write(now_ns, durable=True) as store_ns:
        _, _, levels = _job(db, job, number)
        tally = Tally(db, store_ns, now_ns)
        ranges = row_ranges(number, tasks)
        if levels:
            count = _retry_with_dependents(db, tally, ranges, levels)
        else:
            count = sum(_retry_range(db, tally, number, rows) for rows in ranges)
        if count:
            db.raw.execute("UPDATE jobs SET phase = 'active' WHERE id = ? AND phase = 'cancelled'", (number,))
        tally.flush()
    return count


def _retry_range(db: StoreConnection, tally: Tally, job: int, rows: tuple[int, int]) -> int:
    """In a job where nothing waits for anything: as a set."""
    where = f"row BETWEEN ? AND ? AND state IN {_ENDED_BADLY}"
    count = 0
    for state, lane, ended in db.raw.execute(
        f"SELECT state, lane, count(*) FROM tasks WHERE {where} GROUP BY state, lane", rows
    ).fetchall():
        tally.move_many(job, state, READY, ended)
        tally.lane(lane, ended)
        count += ended
    db.raw.execute(
        f"DELETE FROM setbacks WHERE row BETWEEN ? AND ? AND (SELECT t.state IN {_ENDED_BADLY} FROM tasks t"
        " WHERE t.row = setbacks.row)",
        rows,
    )
    db.raw.execute(f"UPDATE tasks SET state = {READY} WHERE {where}", rows)
    return count


def _retry_with_dependents(db: StoreConnection, tally: Tally, ranges: Sequence[tuple[int, int]], levels: int) -> int:
    """Task by task, for what was cancelled because of these comes back, too, and what is held back stays."""
    asked: set[int] = set()
    for rows in ranges:
        found = db.raw.execute(f"SELECT row FROM tasks WHERE row BETWEEN ? AND ? AND state IN {_ENDED_BADLY}", rows)
        asked.update(row for (row,) in found)
    back = revivable(db, asked, levels)
    names = json.dumps(sorted(back))
    old = db.raw.execute(
        "SELECT t.row, t.state, t.lane FROM json_each(?) r CROSS JOIN tasks t ON t.row = r.value", (names,)
    ).fetchall()
    changes = []
    for row, state, lane in old:
        after = BLOCKED if is_blocked(db, row) else READY
        tally.move(row, state, after, lane)
        changes.append((after, row))
    db.raw.executemany("UPDATE tasks SET state = ? WHERE row = ?", changes)
    db.raw.execute("DELETE FROM setbacks WHERE row IN (SELECT value FROM json_each(?))", (names,))
    return len(back & asked)


def _job(db: StoreConnection, job: str, number: int) -> tuple[str, int | None, int]:
    """(phase, when it finished, levels of its ranges). Raises UnknownJobError."""
    found = db.raw.execute("SELECT phase, finished_ns, range_levels FROM jobs WHERE id = ?", (number,)).fetchone()
    if found is None:
        raise unknown_job(job)
    phase, finished_ns, levels = found
    return phase, finished_ns, levels
