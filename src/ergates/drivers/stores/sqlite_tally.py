"""Keeps the counters true: every change of a task's state in a transaction is told to one `Tally`, which writes the sums.

Counters are what offers and `status` read, so neither ever scans tasks.
"""

from __future__ import annotations

from collections import Counter

from ergates.cluster.attempt import Attempt
from ergates.drivers.stores.sqlite_connection import StoreConnection
from ergates.drivers.stores.sqlite_records import CANCELLED, DONE, FAILED, ID_BITS, READY, STATES

_SUM = """INSERT INTO sums(job, outcome, attempts, wall_ns, cpu_ns, peak_bytes, cost_usd_micros)
    VALUES (?, ?, 1, ?, ?, ?, ?) ON CONFLICT(job, outcome) DO UPDATE SET
    attempts = attempts + 1, wall_ns = wall_ns + excluded.wall_ns, cpu_ns = cpu_ns + excluded.cpu_ns,
    peak_bytes = max(peak_bytes, excluded.peak_bytes),
    cost_usd_micros = CASE WHEN cost_usd_micros IS NULL THEN excluded.cost_usd_micros
        ELSE cost_usd_micros + ifnull(excluded.cost_usd_micros, 0) END"""


class Tally:
    """Differences of one transaction. `flush` may be called more than once."""

    def __init__(self, db: StoreConnection, store_ns: int, now_ns: int) -> None:
        """`store_ns` marks lanes; `now_ns`, the caller's clock, is shown to people as the end of a job."""
        self.db = db
        self.store_ns = store_ns
        self.now_ns = now_ns
        self.jobs: set[int] = set()
        self._states: Counter[tuple[int, int]] = Counter()
        self._lanes: Counter[int] = Counter()

    def move(self, row: int, before: int, after: int, lane: int, new_lane: int | None = None) -> None:
        """One task goes from state to state (and perhaps to another lane)."""
        self.move_many(row >> ID_BITS, before, after, 1)
        if before == READY:
            self._lanes[lane] -= 1
        if after == READY:
            self._lanes[lane if new_lane is None else new_lane] += 1

    def move_many(self, job: int, before: int, after: int, count: int) -> None:
        """Like `move`, for many; what this does to lanes must be told by `lane`."""
        self._states[job, before] -= count
        self._states[job, after] += count
        self.jobs.add(job)

    def lane(self, lane: int, change: int) -> None:
        self._lanes[lane] += change

    def attempts(self, ended: list[tuple[int, Attempt]]) -> None:
        """Add attempts (of jobs by number) to the sums by outcome."""
        self.db.raw.executemany(
            _SUM,
            [
                (job, a.outcome.value, a.usage.wall_ns, a.usage.cpu_ns, a.usage.peak_bytes, a.usage.cost_usd_micros)
                for job, a in ended
            ],
        )

    def flush(self) -> None:
        """Write the differences; note which jobs are finished, and which are no longer."""
        raw = self.db.raw
        for (job, state), change in self._states.items():
            if change:
                raw.execute(
                    f"UPDATE jobs SET {STATES[state].value} = {STATES[state].value} + ? WHERE id = ?", (change, job)
                )
        raw.executemany(
            "UPDATE lanes SET waiting = waiting + ?, touched_ns = ? WHERE id = ?",
            [(change, self.store_ns, lane) for lane, change in self._lanes.items() if change],
        )
        ended = {
            (job) for (job, state), change in self._states.items() if state in (DONE, FAILED, CANCELLED) and change
        }
        for job in ended:
            raw.execute(
                "UPDATE jobs SET finished_ns = CASE WHEN open OR done + failed + cancelled < total THEN NULL"
                " ELSE ifnull(finished_ns, ?) END WHERE id = ?",
                (self.now_ns, job),
            )
        self._states.clear()
        self._lanes.clear()
