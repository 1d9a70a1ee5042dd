"""The hot call: commit what ended, then lease what is asked for, in one transaction.

A commit counts only while its lease stands: same task, same fence, and held by the committing worker (or by one that was
found dead). Everything is checked first, then written in a few statements for all commits together.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple, assert_never

from ergates.drivers.stores.sqlite_connection import StoreConnection
from ergates.drivers.stores.sqlite_dependencies import tasks_done, tasks_ended_badly
from ergates.drivers.stores.sqlite_leasing import lease_tasks, offering_jobs, offers_now
from ergates.drivers.stores.sqlite_records import (
    ATTEMPT_COLUMNS,
    CANCELLED,
    DELAYED,
    DONE,
    FAILED,
    ID_BITS,
    LEASED,
    READY,
    attempt_columns,
    clean_text,
    job_number,
    split_row,
    task_row,
)
from ergates.drivers.stores.sqlite_submit import class_id, lane_id
from ergates.drivers.stores.sqlite_tally import Tally
from ergates.drivers.stores.sqlite_workers import Member, beat, may_reap
from ergates.errors import UnknownJobError
from ergates.taskqueue.store import Cancelled, Commit, Done, Exchanged, Failed, PastFailures, Returned, Want
from ergates.units import Nanoseconds

_ATTEMPT_INSERT = f"INSERT INTO attempts({ATTEMPT_COLUMNS}) VALUES ({', '.join('?' * 23)})"
_SETBACK = """INSERT INTO setbacks(row, job, failures, memory, losses, timeouts, last_peak_bytes, not_before_ns, reason)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT(row) DO UPDATE SET failures = excluded.failures,
    memory = excluded.memory, losses = excluded.losses, timeouts = excluded.timeouts,
    last_peak_bytes = excluded.last_peak_bytes, not_before_ns = excluded.not_before_ns, reason = excluded.reason,
    cause = 0"""
_REASON = """INSERT INTO setbacks(row, job, reason) VALUES (?, ?, ?)
    ON CONFLICT(row) DO UPDATE SET reason = excluded.reason, cause = 0, not_before_ns = 0"""


def exchange(
    db: StoreConnection,
    worker: str,
    commits: Sequence[Commit],
    want: Sequence[Want],
    now_ns: int,
    jobs: Sequence[str],
    unfit: Sequence[int] = (),
) -> Exchanged:
    """See Exchanger.exchange."""
    asked = [job_number(job) for job in jobs]
    with db.write(now_ns) as store_ns:
        member = beat(db, worker, store_ns)
        if member is None:
            refused = tuple((commit.job, commit.task, commit.fence) for commit in commits)
            return Exchanged(refused=refused, stale=True)
        tally = Tally(db, store_ns, now_ns)
        refused = _commit_all(db, tally, member, commits) if commits else ()
        _delayed_become_ready(db, tally)
        tally.flush()
        offering = offering_jobs(db)
        leases = lease_tasks(db, tally, member, want, offering) if want else ()
        tally.flush()
        shown = {job: aging for job, aging in offering.items() if not asked or job in asked}
        return Exchanged(
            leases=leases,
            refused=refused,
            offers=offers_now(db, tally, member, shown, unfit),
            revoked=_revoked(db, member),
            next_ready_ns=_next_ready(db, list(shown)),
            open_tasks=_open_tasks(db, asked),
        )


# --- commits --------------------------------------------------------------------------------------


class _Held(NamedTuple):
    """The lease a commit refers to, with what is needed of its task."""

    fence: int
    worker: int
    revoked: int
    reason: str
    lane: int
    uuid: str
    host: str


class _Changes:
    """What the accepted commits write, gathered for `executemany`."""

    def __init__(self) -> None:
        self.ended_leases: list[tuple[int]] = []
        self.states: list[tuple[int, int, int, int]] = []
        self.ledger: list[tuple[Any, ...]] = []
        self.setbacks: list[tuple[Any, ...]] = []
        self.reasons: list[tuple[int, int, str]] = []
        self.ended: dict[int, list[int]] = {DONE: [], FAILED: [], CANCELLED: []}


def _commit_all(
    db: StoreConnection, tally: Tally, member: Member, commits: Sequence[Commit]
) -> tuple[tuple[Any, Any, int], ...]:
    held = _held_leases(db, commits)
    changes = _Changes()
    attempts = []
    refused = []
    for commit in commits:
        row = _row_of(commit)
        lease = held.get(row)
        if lease is None or lease.fence != commit.fence or not _may_commit(db, member, lease):
            refused.append((commit.job, commit.task, commit.fence))
            continue
        del held[row]  # a second commit of the same lease in one call is refused, too
        _apply(db, tally, changes, row, commit, lease)
        if commit.attempt is not None:
            changes.ledger.append(attempt_columns(db, row, commit.attempt, lease.uuid, lease.host))
            attempts.append((row >> ID_BITS, commit.attempt))
    _write(db, changes)
    tally.attempts(attempts)
    _tell_dependents(db, tally, changes)
    return tuple(refused)


def _held_leases(db: StoreConnection, commits: Sequence[Commit]) -> dict[int, _Held]:
    rows = db.raw.execute(
        "SELECT l.row, l.fence, l.worker, l.revoked, l.reason, t.lane, w.uuid, w.host FROM json_each(?) c"
        " CROSS JOIN leases l ON l.row = c.value CROSS JOIN tasks t ON t.row = l.row CROSS JOIN workers w ON w.id = l.worker",
        (json.dumps([_row_of(commit) for commit in commits]),),
    )
    return {row: _Held(*columns) for row, *columns in rows}


def _row_of(commit: Commit) -> int:
    """0, which is no task, for a job that cannot be one of ours: the commit is refused, the others are not lost."""
    try:
        return task_row(job_number(commit.job), commit.task)
    except UnknownJobError:
        return 0


def _may_commit(db: StoreConnection, member: Member, lease: _Held) -> bool:
    return lease.worker == member.number or may_reap(db, lease.worker)


def _apply(db: StoreConnection, tally: Tally, changes: _Changes, row: int, commit: Commit, lease: _Held) -> None:
    """Decide the state after one accepted commit and note what to write."""
    verdict, new_lane, job = commit.verdict, lease.lane, row >> ID_BITS
    if lease.revoked and isinstance(verdict, Returned):
        verdict = Cancelled(reason=lease.reason)  # the user cancelled it: it does not go back
    match verdict:
        case Done():
            after = DONE
        case Failed(reason=reason):
            after = FAILED
            changes.reasons.append((row, job, clean_text(reason)))
        case Cancelled(reason=reason):
            after = CANCELLED
            changes.reasons.append((row, job, clean_text(reason or lease.reason)))
        case Returned():
            not_before_ns = db.to_store_time(verdict.not_before_ns)
            after = DELAYED if not_before_ns > tally.store_ns else READY
            new_lane = _lane_of_returned(db, lease.lane, verdict)
            reason = "" if commit.attempt is None else commit.attempt.reason
            due_ns = not_before_ns if after == DELAYED else 0
            changes.setbacks.append((row, job, *_past_columns(verdict.past), due_ns, clean_text(reason)))
        case _:
            assert_never(verdict)
    changes.ended_leases.append((row,))
    changes.states.append((after, new_lane, 0 if commit.attempt is None else 1, row))
    if after in changes.ended:
        changes.ended[after].append(row)
    tally.move(row, LEASED, after, lease.lane, new_lane)


def _past_columns(past: PastFailures) -> tuple[int, ...]:
    return past.failures, past.memory, past.losses, past.timeouts, past.last_peak_bytes


def _lane_of_returned(db: StoreConnection, lane: int, verdict: Returned) -> int:
    job, class_number, priority, avoid_host = db.raw.execute(
        "SELECT job, class, priority, avoid_host FROM lanes WHERE id = ?", (lane,)
    ).fetchone()
    if verdict.requirement is None and verdict.avoid_host == avoid_host:
        return lane
    if verdict.requirement is not None:
        class_number = class_id(db, verdict.requirement)
    return lane_id(db, job, class_number, priority, verdict.avoid_host)


def _write(db: StoreConnection, changes: _Changes) -> None:
    raw = db.raw
    raw.executemany("DELETE FROM leases WHERE row = ?", changes.ended_leases)
    raw.executemany("UPDATE tasks SET state = ?, lane = ?, attempts = attempts + ? WHERE row = ?", changes.states)
    raw.executemany(_ATTEMPT_INSERT, changes.ledger)
    raw.executemany(_SETBACK, changes.setbacks)
    raw.executemany(_REASON, changes.reasons)
    jobs = {row[0] >> ID_BITS for row in changes.ledger}
    raw.executemany(
        "UPDATE jobs SET last_attempt = (SELECT max(id) FROM attempts) WHERE id = ?", [(job,) for job in jobs]
    )


def _tell_dependents(db: StoreConnection, tally: Tally, changes: _Changes) -> None:
    jobs = {row >> ID_BITS for rows in changes.ended.values() for row in rows}
    for job in sorted(jobs):
        (levels,) = db.raw.execute("SELECT range_levels FROM jobs WHERE id = ?", (job,)).fetchone()
        if not levels:
            continue
        done, failed, cancelled = (
            [row for row in changes.ended[state] if row >> ID_BITS == job] for state in (DONE, FAILED, CANCELLED)
        )
        if done:
            tasks_done(db, tally, done, levels)
        tasks_ended_badly(db, tally, failed, "failed", levels)
        tasks_ended_badly(db, tally, cancelled, "was cancelled", levels)


# --- time, revocations, sums ----------------------------------------------------------------------


def _delayed_become_ready(db: StoreConnection, tally: Tally) -> None:
    due = db.raw.execute(
        "SELECT t.row, t.lane FROM setbacks s CROSS JOIN tasks t ON t.row = s.row"
        f" WHERE s.not_before_ns > 0 AND s.not_before_ns <= ? AND t.state = {DELAYED}",
        (tally.store_ns,),
    ).fetchall()
    if not due:
        return
    rows = [(row,) for row, _ in due]
    db.raw.executemany(f"UPDATE tasks SET state = {READY} WHERE row = ?", rows)
    db.raw.executemany("UPDATE setbacks SET not_before_ns = 0 WHERE row = ?", rows)
    for row, lane in due:
        tally.move(row, DELAYED, READY, lane)


def _revoked(db: StoreConnection, member: Member) -> tuple[tuple[Any, Any, int], ...]:
    rows = db.raw.execute(
        "SELECT row, fence FROM leases WHERE worker = ? AND revoked = 1 ORDER BY row", (member.number,)
    )
    return tuple((*split_row(row), fence) for row, fence in rows)


def _next_ready(db: StoreConnection, jobs: list[int]) -> Nanoseconds | None:
    """Of jobs that lease at all; the index is walked from the earliest, so this reads one entry where there is one job."""
    found = db.raw.execute(
        "SELECT not_before_ns FROM setbacks WHERE not_before_ns > 0 AND job IN (SELECT value FROM json_each(?))"
        " ORDER BY not_before_ns LIMIT 1",
        (json.dumps(jobs),),
    ).fetchone()
    return None if found is None else Nanoseconds(db.to_caller_time(found[0]))


def _open_tasks(db: StoreConnection, jobs: list[int]) -> int:
    total = "SELECT ifnull(sum(total - done - failed - cancelled), 0) FROM jobs"
    if jobs:
        query = f"{total} WHERE id IN (SELECT value FROM json_each(?))"
        return int(db.raw.execute(query, (json.dumps(jobs),)).fetchone()[0])
    return int(db.raw.execute(f"{total} WHERE finished_ns IS NULL").fetchone()[0])
