"""Tasks that come after other tasks.

`after` is a set of ranges of ids; a range is stored once with a count of its tasks that are not done (`open`), and who
waits for it. A task that is done lowers the counts of the ranges around it; a range that reaches zero lets its
waiters go. Ranges are found by their length's power of two (`level`): a range around task 700 that is shorter than
16 begins after 684, so only ranges near the task are looked at, never all of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from ergates.drivers.stores.sqlite_connection import StoreConnection
from ergates.drivers.stores.sqlite_records import BLOCKED, CANCELLED, DELAYED, DONE, FAILED, ID_MASK, READY, row_ranges
from ergates.drivers.stores.sqlite_tally import Tally
from ergates.errors import UsageError
from ergates.taskqueue.dependency_order import find_circle

RANGES_REMEMBERED = 50_000
"""While submitting: equal ranges are stored once while they are among the last so many; bounds memory."""


class DependencyWriter:
    """Stores what new tasks of one job come after. `finish` checks it as a whole."""

    def __init__(self, db: StoreConnection, job: int) -> None:
        self._db = db
        self._job = job
        self._numbers: dict[tuple[int, int], int] = {}
        self._next: int = db.raw.execute("SELECT ifnull(max(id), 0) + 1 FROM prerequisites").fetchone()[0]
        self.ranges_from: int = self._next
        """Prerequisites from this number on are those added here."""
        self._ranges: list[tuple[int, int, int, int, int]] = []
        self._waits: list[tuple[int, int]] = []
        self._levels = 0
        self._forward: set[int] = set()
        self._highest = (0, 0)

    def add(self, task: int, row: int, after: Sequence[tuple[int, int]]) -> None:
        """Raises UsageError for a task that comes after itself or after an impossible id."""
        for first, last in after:
            if not 1 <= first <= last <= ID_MASK:
                raise UsageError(
                    f"task {task} comes after {first}-{last}: expected ids of this job, first to last, from 1"
                )
            if first <= task <= last:
                raise UsageError(f"task {task} comes after {_shown(first, last)}, so it would wait for itself")
            if first > task:
                self._forward.add(task)
            self._highest = max(self._highest, (last, task))
        for first_row, last_row in row_ranges(self._job, after):
            self._waits.append((row, self._number(first_row, last_row)))

    def flush(self) -> None:
        """Write what was added so far."""
        self._db.raw.executemany(
            "INSERT INTO prerequisites(id, level, first, last, open) VALUES (?, ?, ?, ?, ?)", self._ranges
        )
        self._db.raw.executemany("INSERT INTO waits(task, prerequisite) VALUES (?, ?)", self._waits)
        self._ranges.clear()
        self._waits.clear()

    def finish(self, total: int) -> int:
        """Check that every id exists and that nothing waits in a circle; returns the job's `range_levels`."""
        self.flush()
        last, task = self._highest
        if last > total:
            raise UsageError(f"task {task} comes after task {last}, but the job has only {total} tasks")
        if self._forward:  # waiting only for earlier tasks cannot make a circle
            self._refuse_circle()
        return self._levels

    def _number(self, first: int, last: int) -> int:
        number = self._numbers.get((first, last))
        if number is None:
            if len(self._numbers) >= RANGES_REMEMBERED:
                self._numbers.clear()
            number = self._numbers[first, last] = self._next
            self._next += 1
            size = last - first + 1
            self._levels |= 1 << size.bit_length()
            self._ranges.append((number, size.bit_length(), first, last, size))
        return number

    def _refuse_circle(self) -> None:
        after: dict[int, list[tuple[int, int]]] = {}
        rows = self._db.raw.execute(
            "SELECT w.task, p.first, p.last FROM waits w JOIN prerequisites p ON p.id = w.prerequisite"
            " WHERE w.task BETWEEN ? AND ?",
            (self._job << 32, (self._job << 32) + ID_MASK),
        )
        for task, first, last in rows:
            after.setdefault(task & ID_MASK, []).append((first & ID_MASK, last & ID_MASK))
        circle = find_circle(after)
        if circle:
            chain = ", which comes after ".join(f"task {task}" for task in (*circle[:10], circle[0]))
            raise UsageError(f"these tasks wait for each other and could never start: {chain}")


def count_what_ended_before(db: StoreConnection, tally: Tally, ranges_from: int, job: int) -> None:
    """Tasks were added that come after old ones: what is done holds nothing back, what ended badly cancels.

    Args:
        db: inside its transaction.
        tally: told what changes state.
        ranges_from: prerequisites from this number on are the new ones.
        job: whose they are.
    """
    db.raw.execute(
        f"UPDATE prerequisites SET open = open - (SELECT count(*) FROM tasks t WHERE t.state = {DONE}"
        " AND t.row BETWEEN prerequisites.first AND prerequisites.last) WHERE id >= ?",
        (ranges_from,),
    )
    _let_go(db, tally, "SELECT id AS value FROM prerequisites WHERE open = 0 AND id >= ?", ranges_from)
    (levels,) = db.raw.execute("SELECT range_levels FROM jobs WHERE id = ?", (job,)).fetchone()
    for state, word in ((FAILED, "failed"), (CANCELLED, "was cancelled")):
        bad = db.raw.execute(
            f"SELECT DISTINCT t.row FROM prerequisites p CROSS JOIN tasks t ON t.row BETWEEN p.first AND p.last"
            f" AND t.state = {state} WHERE p.id >= ? AND p.open > 0",
            (ranges_from,),
        ).fetchall()
        if bad:
            tasks_ended_badly(db, tally, [row for (row,) in bad], word, levels)


def block_again(db: StoreConnection, tally: Tally, rows: Sequence[int], levels: int) -> None:
    """These tasks were done and are to be done again: what comes after them and has not begun waits again."""
    db.raw.executemany(
        "UPDATE prerequisites SET open = open + ? WHERE id = ?",
        [(count, prerequisite) for prerequisite, count in _ranges_around(db, rows, levels)],
    )
    for state in (READY, DELAYED):
        waiting = _waiting_for(db, rows, levels, state)
        names = [(row,) for row, _ in waiting]
        db.raw.executemany(f"UPDATE tasks SET state = {BLOCKED} WHERE row = ?", names)
        db.raw.executemany("UPDATE setbacks SET not_before_ns = 0 WHERE row = ?", names)
        for row, (lane, _) in waiting:
            tally.move(row, state, BLOCKED, lane)


def tasks_done(db: StoreConnection, tally: Tally, rows: Sequence[int], levels: int) -> None:
    """Lower the counts of the ranges around these tasks; let those go that have nothing left to wait for."""
    closed: list[int] = []
    for prerequisite, count in _ranges_around(db, rows, levels):
        (left,) = db.raw.execute(
            "UPDATE prerequisites SET open = open - ? WHERE id = ? RETURNING open", (count, prerequisite)
        ).fetchone()
        if left == 0:
            closed.append(prerequisite)
    if closed:
        _let_go(db, tally, "SELECT value FROM json_each(?)", json.dumps(closed))


def _let_go(db: StoreConnection, tally: Tally, closed: str, value: str | int) -> None:
    """Blocked tasks that wait for one of the prerequisites which `closed` selects, and for nothing else, are ready."""
    free = db.raw.execute(
        f"SELECT DISTINCT t.row, t.lane FROM ({closed}) c CROSS JOIN waits w ON w.prerequisite = c.value"
        f" CROSS JOIN tasks t ON t.row = w.task WHERE t.state = {BLOCKED} AND NOT EXISTS (SELECT 1 FROM waits o"
        f" JOIN prerequisites p ON p.id = o.prerequisite WHERE o.task = t.row AND p.open > 0)",
        (value,),
    ).fetchall()
    db.raw.executemany(f"UPDATE tasks SET state = {READY} WHERE row = ?", ((row,) for row, _ in free))
    for row, lane in free:
        tally.move(row, BLOCKED, READY, lane)


def tasks_ended_badly(db: StoreConnection, tally: Tally, rows: Iterable[int], word: str, levels: int) -> None:
    """Cancel what comes after these tasks, and what comes after that, each with the task it waited for as reason.

    `word` is what became of `rows`: "failed" or "was cancelled".
    """
    frontier = list(rows)
    while frontier:
        found = dict(_waiting_for(db, frontier, levels, BLOCKED))
        db.raw.executemany(f"UPDATE tasks SET state = {CANCELLED} WHERE row = ?", ((row,) for row in found))
        _write_causes(db, [(row, cause) for row, (_, cause) in found.items()], word)
        for row, (lane, _) in found.items():
            tally.move(row, BLOCKED, CANCELLED, lane)
        frontier, word = list(found), "was cancelled"


def revivable(db: StoreConnection, rows: Iterable[int], levels: int) -> set[int]:
    """Which of these failed and cancelled tasks can run again, with those that were cancelled only because of them.

    A task whose prerequisite stays failed or cancelled cannot; it is left as it is.
    """
    candidates = frontier = set(rows)
    while frontier:
        found = dict(_waiting_for(db, sorted(frontier), levels, CANCELLED, only_caused=True))
        frontier = set(found) - candidates
        candidates = candidates | frontier
    while True:
        lost = _still_held_back(db, candidates)
        if not lost:
            return candidates
        candidates = candidates - lost


def is_blocked(db: StoreConnection, row: int) -> bool:
    """Whether a task comes after something that is not done."""
    found = db.raw.execute(
        "SELECT 1 FROM waits w JOIN prerequisites p ON p.id = w.prerequisite WHERE w.task = ? AND p.open > 0", (row,)
    ).fetchone()
    return found is not None


def _still_held_back(db: StoreConnection, candidates: set[int]) -> set[int]:
    dead_ranges: dict[int, bool] = {}
    lost: set[int] = set()
    for row in candidates:
        waits = db.raw.execute(
            "SELECT p.id, p.first, p.last FROM waits w JOIN prerequisites p ON p.id = w.prerequisite"
            " WHERE w.task = ? AND p.open > 0",
            (row,),
        ).fetchall()
        for number, first, last in waits:
            if number not in dead_ranges:
                dead = db.raw.execute(
                    f"SELECT row FROM tasks WHERE row BETWEEN ? AND ? AND state IN ({FAILED}, {CANCELLED})",
                    (first, last),
                )
                dead_ranges[number] = any(member not in candidates for (member,) in dead)
            if dead_ranges[number]:
                lost.add(row)
    return lost


def _ranges_around(db: StoreConnection, rows: Sequence[int], levels: int) -> list[tuple[int, int]]:
    """(prerequisite, how many of `rows` lie in it)."""
    return db.raw.execute(
        "SELECT p.id, count(*) FROM json_each(?) r CROSS JOIN json_each(?) v CROSS JOIN prerequisites p"
        " ON p.level = v.value AND p.first > r.value - (1 << v.value) AND p.first <= r.value AND p.last >= r.value"
        " GROUP BY p.id",
        (json.dumps(rows), _levels_json(levels)),
    ).fetchall()


def _waiting_for(
    db: StoreConnection, rows: Sequence[int], levels: int, state: int, *, only_caused: bool = False
) -> list[tuple[int, tuple[int, int]]]:
    """(row, (lane, cause)) of tasks in `state` that come after one of `rows`; the cause is the smallest such row."""
    caused = " JOIN setbacks s ON s.row = t.row AND s.cause > 0" if only_caused else ""
    found = db.raw.execute(
        f"SELECT t.row, t.lane, min(r.value) FROM json_each(?) r CROSS JOIN json_each(?) v CROSS JOIN prerequisites p"
        f" ON p.level = v.value AND p.first > r.value - (1 << v.value) AND p.first <= r.value AND p.last >= r.value"
        f" CROSS JOIN waits w ON w.prerequisite = p.id CROSS JOIN tasks t ON t.row = w.task{caused}"
        f" WHERE t.state = ? GROUP BY t.row",
        (json.dumps(rows), _levels_json(levels), state),
    ).fetchall()
    return [(row, (lane, cause)) for row, lane, cause in found]


def _write_causes(db: StoreConnection, causes: Sequence[tuple[int, int]], word: str) -> None:
    db.raw.executemany(
        "INSERT INTO setbacks(row, job, cause, reason) VALUES (?, ?, ?, ?)"
        " ON CONFLICT(row) DO UPDATE SET cause = excluded.cause, reason = excluded.reason, not_before_ns = 0",
        (
            (row, row >> 32, cause & ID_MASK, f"task {cause & ID_MASK}, which it comes after, {word}")
            for row, cause in causes
        ),
    )


def _levels_json(levels: int) -> str:
    return json.dumps([level for level in range(levels.bit_length()) if levels >> level & 1])


def _shown(first: int, last: int) -> str:
    return f"task {first}" if first == last else f"tasks {first}-{last}"
