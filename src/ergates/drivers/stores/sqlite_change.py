"""Editing tasks that nobody runs: another priority, requirement, command, limit; and running finished ones again.

What changes a task's place in the queue moves it to another lane; the rest rewrites its row. Tasks that are leased, or that
ended meanwhile, are left alone: what is asked for was decided on what somebody saw some moments ago.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from ergates.cluster.task import Requirement, TaskId, TaskSpec
from ergates.drivers.stores.sqlite_connection import StoreConnection
from ergates.drivers.stores.sqlite_dependencies import block_again, is_blocked, revivable
from ergates.drivers.stores.sqlite_records import (
    BLOCKED,
    CANCELLED,
    DELAYED,
    DONE,
    FAILED,
    ID_MASK,
    READY,
    SpecDecoder,
    encode_command,
    job_number,
    task_row,
    unknown_job,
)
from ergates.drivers.stores.sqlite_submit import JobWriter, class_id, lane_id
from ergates.drivers.stores.sqlite_tally import Tally
from ergates.taskqueue.store import Changes, edited

_CHANGEABLE = f"({BLOCKED}, {READY}, {DELAYED}, {FAILED}, {CANCELLED})"
_ENDED = (DONE, FAILED, CANCELLED)
_ROWS = """SELECT t.row, t.state, t.lane, t.profile, t.command, t.extra, n.class, n.priority, n.avoid_host
    FROM json_each(?) c CROSS JOIN tasks t ON t.row = c.value JOIN lanes n ON n.id = t.lane ORDER BY t.row"""


def edit(
    db: StoreConnection, job: str, changes: Sequence[tuple[TaskId, Changes]], now_ns: int, *, rerun: bool
) -> tuple[TaskId, ...]:
    """See Editor.edit."""
    number = job_number(job)
    wanted = {task_row(number, task): change for task, change in changes if 1 <= task <= ID_MASK}
    with db.write(now_ns, durable=True) as store_ns:
        found = db.raw.execute("SELECT range_levels FROM jobs WHERE id = ?", (number,)).fetchone()
        if found is None:
            raise unknown_job(job)
        tally = Tally(db, store_ns, now_ns)
        chosen = _changeable(db, wanted)
        if rerun:
            ended = _in_states(db, wanted, _ENDED)
            back = revivable(db, ended, found[0]) if found[0] else ended
            chosen = (chosen - ended) | (back & wanted.keys())
        _Rewriter(db, tally, number).rewrite({row: wanted[row] for row in chosen})
        if rerun and back:
            _run_again(db, tally, back, found[0])
            db.raw.execute("UPDATE jobs SET phase = 'active' WHERE id = ? AND phase = 'cancelled'", (number,))
        tally.flush()
    return tuple(TaskId(row & ID_MASK) for row in sorted(chosen))


def _changeable(db: StoreConnection, rows: Mapping[int, Changes]) -> set[int]:
    found = db.raw.execute(
        f"SELECT t.row FROM json_each(?) c CROSS JOIN tasks t ON t.row = c.value WHERE t.state IN {_CHANGEABLE}",
        (json.dumps(list(rows)),),
    )
    return {row for (row,) in found}


def _in_states(db: StoreConnection, rows: Mapping[int, Changes], states: Sequence[int]) -> set[int]:
    found = db.raw.execute(
        "SELECT t.row FROM json_each(?) c CROSS JOIN tasks t ON t.row = c.value"
        " WHERE t.state IN (SELECT value FROM json_each(?))",
        (json.dumps(list(rows)), json.dumps(states)),
    )
    return {row for (row,) in found}


def _run_again(db: StoreConnection, tally: Tally, back: set[int], levels: int) -> None:
    """These ended, and become ready again, or blocked when something they come after is to run again, too."""
    names = json.dumps(sorted(back))
    old = db.raw.execute(
        "SELECT t.row, t.state, t.lane FROM json_each(?) r CROSS JOIN tasks t ON t.row = r.value", (names,)
    ).fetchall()
    done = [row for row, state, _ in old if state == DONE]
    if levels and done:
        block_again(db, tally, done, levels)
    changes = []
    for row, state, lane in old:
        after = BLOCKED if levels and is_blocked(db, row) else READY
        tally.move(row, state, after, lane)
        changes.append((after, row))
    db.raw.executemany("UPDATE tasks SET state = ? WHERE row = ?", changes)
    db.raw.execute("DELETE FROM setbacks WHERE row IN (SELECT value FROM json_each(?))", (names,))


class _Rewriter:
    """Writes changed specs back, interning what they share as a submission does."""

    def __init__(self, db: StoreConnection, tally: Tally, job: int) -> None:
        self._db, self._tally, self._job = db, tally, job
        self._decoder = SpecDecoder(db)
        self._writer = JobWriter(db, job, tally.store_ns)
        self._lanes: dict[tuple[Requirement, int, str], int] = {}

    def rewrite(self, changes: Mapping[int, Changes]) -> None:
        written = []
        for columns in self._db.raw.execute(_ROWS, (json.dumps(list(changes)),)).fetchall():
            row, state, lane, profile, command, extra, class_number, priority, avoid_host = columns
            before = self._decoder.spec(command, profile, extra, class_number, priority)
            after = edited(before, changes[row])
            if (after.requirement, after.priority) != (before.requirement, before.priority):
                new_lane = self._lane(after, avoid_host)
                if state == READY:
                    self._tally.lane(lane, -1)
                    self._tally.lane(new_lane, 1)
                lane = new_lane
            if (after.labels, after.retries, after.time_limit_ns) != (
                before.labels,
                before.retries,
                before.time_limit_ns,
            ):
                profile, extra = self._writer.shared(after, row & ID_MASK)
            written.append((lane, profile, encode_command(after.command), extra, row))
        self._db.raw.executemany(
            "UPDATE tasks SET lane = ?, profile = ?, command = ?, extra = ? WHERE row = ?", written
        )

    def _lane(self, spec: TaskSpec, avoid_host: str) -> int:
        key = spec.requirement, spec.priority, avoid_host
        if key not in self._lanes:
            self._lanes[key] = lane_id(
                self._db, self._job, class_id(self._db, spec.requirement), spec.priority, avoid_host
            )
        return self._lanes[key]
