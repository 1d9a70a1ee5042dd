"""Which tasks a worker gets, and what is on offer. Reads counters and the index of ready tasks, never scans.

Strict priority between offers: larger priority first, then the older job. With aging a job's tasks gain one step of
priority for each interval since their submission (all tasks of a job age alike). A task that should avoid a host waits in a
lane of its own, which that host does not see while another live host could take it; after `AVOID_FOR_LEASES` lease times
in which nobody did, it sees it after all.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ergates.drivers.stores.sqlite_connection import StoreConnection
from ergates.drivers.stores.sqlite_records import LEASED, READY, SpecDecoder, job_name, job_number, past_of, split_row
from ergates.drivers.stores.sqlite_tally import Tally
from ergates.drivers.stores.sqlite_workers import Member, others_live
from ergates.taskqueue.store import Lease, Offer, Want

OFFERS_MAX = 64
AVOID_FOR_LEASES = 2

_READY_OF_LANE = f"""SELECT t.row, t.command, t.profile, t.extra, t.attempts,
    s.failures, s.memory, s.losses, s.timeouts, s.last_peak_bytes
    FROM tasks t LEFT JOIN setbacks s ON s.row = t.row
    WHERE t.lane = ? AND t.state = {READY} ORDER BY t.row LIMIT ?"""


class Aging(NamedTuple):
    """What a job's effective priority depends on."""

    submitted_ns: int
    aging_ns: int | None


def offering_jobs(db: StoreConnection) -> dict[int, Aging]:
    """Jobs whose tasks may be leased: active, and not stopped by too many failures."""
    rows = db.raw.execute(
        "SELECT id, submitted_ns, aging_ns FROM jobs WHERE finished_ns IS NULL AND phase = 'active'"
        " AND (max_failed IS NULL OR failed < max_failed) ORDER BY id"
    )
    return {job: Aging(submitted_ns, aging_ns) for job, submitted_ns, aging_ns in rows}


def offers_now(
    db: StoreConnection, tally: Tally, member: Member, jobs: Mapping[int, Aging], unfit: Sequence[int] = ()
) -> tuple[Offer, ...]:
    """What waits in these jobs for this worker, most urgent first, without the classes it can never serve."""
    sight = _Sight(db, tally, member)
    waiting: dict[tuple[int, int, int], int] = {}
    hidden = json.dumps(list(unfit))
    for job in jobs:
        rows = db.raw.execute(
            "SELECT class, priority, avoid_host, touched_ns, waiting FROM lanes WHERE job = ? AND waiting > 0"
            " AND class NOT IN (SELECT value FROM json_each(?)) ORDER BY priority DESC, id LIMIT ?",
            (job, hidden, 2 * OFFERS_MAX),
        )
        for class_number, priority, avoid_host, touched_ns, count in rows.fetchall():
            if sight.sees(avoid_host, touched_ns):
                key = job, class_number, priority
                waiting[key] = waiting.get(key, 0) + count
    decoder = SpecDecoder(db)

    def urgency(key: tuple[int, int, int]) -> tuple[int, int, int]:
        job, class_number, priority = key
        submitted_ns, aging_ns = jobs[job]
        gained = max(0, tally.now_ns - submitted_ns) // aging_ns if aging_ns else 0
        return -(priority + gained), job, class_number

    return tuple(
        Offer(
            job=job_name(job),
            class_id=class_number,
            requirement=decoder.requirement(class_number),
            priority=priority,
            waiting=waiting[job, class_number, priority],
        )
        for job, class_number, priority in sorted(waiting, key=urgency)[:OFFERS_MAX]
    )


def lease_tasks(
    db: StoreConnection, tally: Tally, member: Member, want: Sequence[Want], jobs: Mapping[int, Aging]
) -> tuple[Lease, ...]:
    """Lease up to `count` tasks of each wanted row, smallest ids first."""
    sight = _Sight(db, tally, member)
    decoder = SpecDecoder(db)
    leases: list[Lease] = []
    for row in want:
        job = job_number(row.job)
        if row.count <= 0 or job not in jobs:
            continue
        lanes = db.raw.execute(
            "SELECT id, avoid_host, touched_ns FROM lanes WHERE job = ? AND class = ? AND priority = ? AND waiting > 0",
            (job, row.class_id, row.priority),
        ).fetchall()
        found = []
        for lane, avoid_host, touched_ns in lanes:
            if sight.sees(avoid_host, touched_ns):
                found += [(*task, lane) for task in db.raw.execute(_READY_OF_LANE, (lane, row.count))]
        found = sorted(found)[: row.count] if len(lanes) > 1 else found
        leases += _take(db, tally, member, decoder, row, found)
    return tuple(leases)


def _take(
    db: StoreConnection,
    tally: Tally,
    member: Member,
    decoder: SpecDecoder,
    want: Want,
    found: Sequence[tuple[int | str | bytes | None, ...]],
) -> list[Lease]:
    leases, rows = [], []
    for row, command, profile, extra, attempts, *past, lane in found:
        assert isinstance(row, int) and isinstance(profile, int) and isinstance(attempts, int) and isinstance(lane, int)
        assert isinstance(command, str | bytes) and not isinstance(extra, int | str)
        fence = db.new_fence()
        job, task = split_row(row)
        spec = decoder.spec(command, profile, extra, want.class_id, want.priority)
        leases.append(Lease(job=job, task=task, fence=fence, attempt=attempts + 1, spec=spec, past=past_of(past)))
        rows.append((row, fence, member.number, tally.store_ns))
        tally.move(row, READY, LEASED, lane)
    db.raw.executemany(f"UPDATE tasks SET state = {LEASED} WHERE row = ?", ((row,) for row, *_ in rows))
    db.raw.executemany("INSERT INTO leases(row, fence, worker, since_ns) VALUES (?, ?, ?, ?)", rows)
    return leases


class _Sight:
    """Whether this worker sees lanes that avoid its host; asks who else lives only when there is such a lane."""

    def __init__(self, db: StoreConnection, tally: Tally, member: Member) -> None:
        self._db, self._store_ns, self._host = db, tally.store_ns, member.host
        self._others: bool | None = None

    def sees(self, avoid_host: str, touched_ns: int) -> bool:
        if not avoid_host or avoid_host != self._host:
            return True
        if self._store_ns - touched_ns > AVOID_FOR_LEASES * self._db.lease_ns:
            return True
        if self._others is None:
            self._others = others_live(self._db, self._host, self._store_ns)
        return not self._others
