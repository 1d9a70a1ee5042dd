"""Workers: who is registered, whose beat is too old, who is provably dead, and what they hold.

A lease lives as long as its worker: `live` workers beat with every exchange. One that is found silent is `condemned`:
it may still come back, and then nothing happened. Once another worker has committed one of its leases it is `reaped`: from
then on it can change nothing until it registers again.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import msgspec

from ergates.cluster.node import WorkerInfo
from ergates.drivers.stores.sqlite_connection import StoreConnection
from ergates.drivers.stores.sqlite_dependencies import tasks_ended_badly
from ergates.drivers.stores.sqlite_records import (
    CANCELLED,
    ID_BITS,
    LEASED,
    READY,
    SpecDecoder,
    past_of,
    split_row,
    to_json,
)
from ergates.drivers.stores.sqlite_tally import Tally
from ergates.taskqueue.store import Lease

STAT_STATE_FIELD = 0
STAT_START_FIELD = 19
"""Fields of /proc/PID/stat after the closing parenthesis of the program's name (proc(5): fields 3 and 22)."""


class Member(NamedTuple):
    """A worker as the store knows it."""

    number: int
    uuid: str
    host: str


def register(db: StoreConnection, worker: WorkerInfo, now_ns: int) -> None:
    """See Exchanger.register."""
    info = to_json(worker, "the worker")
    with db.write(now_ns) as store_ns:
        old = db.raw.execute("SELECT id FROM workers WHERE uuid = ?", (worker.id,)).fetchone()
        if old is not None:
            _give_back_all(db, Tally(db, store_ns, now_ns), old[0])
        db.raw.execute(
            "INSERT INTO workers(uuid, host, info, pid, pid_start_ticks, boot_id, standing, registered_ns, beat_ns)"
            " VALUES (?, ?, ?, ?, ?, ?, 'live', ?, ?) ON CONFLICT(uuid) DO UPDATE SET host = excluded.host,"
            " info = excluded.info, pid = excluded.pid, pid_start_ticks = excluded.pid_start_ticks,"
            " boot_id = excluded.boot_id, standing = 'live', registered_ns = excluded.registered_ns,"
            " beat_ns = excluded.beat_ns",
            (worker.id, worker.host, info, worker.pid, worker.pid_start_ticks, worker.boot_id, now_ns, store_ns),
        )


def leave(db: StoreConnection, worker: str, now_ns: int) -> None:
    """See Exchanger.leave."""
    with db.write(now_ns) as store_ns:
        found = db.raw.execute("SELECT id FROM workers WHERE uuid = ?", (worker,)).fetchone()
        if found is not None:
            _give_back_all(db, Tally(db, store_ns, now_ns), found[0])
            db.raw.execute("UPDATE workers SET standing = 'left' WHERE id = ?", found)


def beat(db: StoreConnection, worker: str, store_ns: int) -> Member | None:
    """Note that a worker lives; None when it is not registered or was reaped. Inside a transaction."""
    found = db.raw.execute(
        "UPDATE workers SET beat_ns = ?, standing = 'live' WHERE uuid = ? AND standing IN ('live', 'condemned')"
        " RETURNING id, uuid, host",
        (store_ns, worker),
    ).fetchone()
    return None if found is None else Member(*found)


def may_reap(db: StoreConnection, holder: int) -> bool:
    """Whether another worker may commit a lease of this one; from then on it counts as reaped. Inside a transaction."""
    found = db.raw.execute(
        "UPDATE workers SET standing = 'reaped' WHERE id = ? AND standing IN ('condemned', 'reaped') RETURNING id",
        (holder,),
    ).fetchone()
    return found is not None


def others_live(db: StoreConnection, host: str, store_ns: int) -> bool:
    """Whether a worker on another host can take what this host should avoid."""
    found = db.raw.execute(
        "SELECT 1 FROM workers WHERE host != ? AND standing = 'live' AND beat_ns > ? LIMIT 1",
        (host, store_ns - db.lease_ns),
    ).fetchone()
    return found is not None


def expired(db: StoreConnection, now_ns: int, live_boot_id: str, this_host: str, proc: Path) -> tuple[Lease, ...]:
    """See Exchanger.expired. Writes only when it finds somebody newly dead."""
    with db.reading() as raw:
        (seen_ns,) = raw.execute("SELECT now_ns FROM store").fetchone()
        holders = raw.execute(
            "SELECT id, host, pid, pid_start_ticks, boot_id, standing, beat_ns FROM workers"
            " WHERE id IN (SELECT worker FROM leases)"
        ).fetchall()
    store_ns = max(seen_ns, db.to_store_time(now_ns))
    silent: list[tuple[int, int]] = []
    gone = {holder[0] for holder in holders if holder[5] in ("condemned", "reaped")}
    for number, host, pid, ticks, boot_id, standing, beat_ns in holders:
        dead = host == this_host and live_boot_id and boot_id and (
            boot_id != live_boot_id or (pid > 0 and not _runs(proc, pid, ticks))
        )  # fmt: skip
        if standing == "live" and (dead or beat_ns + db.lease_ns < store_ns):
            silent.append((number, beat_ns))
    if not silent and not gone:
        return ()
    with db.write(now_ns):
        for number, beat_ns in silent:
            # Only if it has not beaten since we looked: whoever comes first wins.
            condemned = db.raw.execute(
                "UPDATE workers SET standing = 'condemned' WHERE id = ? AND beat_ns = ? AND standing = 'live' RETURNING id",
                (number, beat_ns),
            ).fetchone()
            if condemned is not None:
                gone.add(number)
        return tuple(lease for number in sorted(gone) for lease in _leases_of(db, number))


def _leases_of(db: StoreConnection, worker: int) -> list[Lease]:
    decoder = SpecDecoder(db)
    rows = db.raw.execute(
        "SELECT l.row, l.fence, t.attempts, t.command, t.profile, t.extra, n.class, n.priority,"
        " w.host, s.failures, s.memory, s.losses, s.timeouts, s.last_peak_bytes FROM leases l JOIN workers w ON w.id = l.worker"
        " JOIN tasks t ON t.row = l.row JOIN lanes n ON n.id = t.lane LEFT JOIN setbacks s ON s.row = l.row"
        " WHERE l.worker = ? AND w.standing IN ('condemned', 'reaped') ORDER BY l.row",
        (worker,),
    ).fetchall()
    leases = []
    for row, fence, attempts, command, profile, extra, class_number, priority, host, *past in rows:
        job, task = split_row(row)
        spec = decoder.spec(command, profile, extra, class_number, priority)
        leases.append(
            Lease(job=job, task=task, fence=fence, attempt=attempts + 1, spec=spec, past=past_of(past), host=host)
        )
    return leases


def _give_back_all(db: StoreConnection, tally: Tally, worker: int) -> None:
    """Return what a worker holds, unharmed; what the user had cancelled meanwhile becomes cancelled."""
    held = db.raw.execute(
        "SELECT l.row, l.revoked, l.reason, t.lane, j.range_levels FROM leases l JOIN tasks t ON t.row = l.row"
        f" JOIN jobs j ON j.id = l.row >> {ID_BITS} WHERE l.worker = ?",
        (worker,),
    ).fetchall()
    for row, revoked, reason, lane, levels in held:
        after = CANCELLED if revoked else READY
        db.raw.execute("UPDATE tasks SET state = ? WHERE row = ?", (after, row))
        tally.move(row, LEASED, after, lane)
        if revoked:
            db.raw.execute(
                "INSERT INTO setbacks(row, job, reason) VALUES (?, ?, ?)"
                " ON CONFLICT(row) DO UPDATE SET reason = excluded.reason, cause = 0",
                (row, row >> ID_BITS, reason),
            )
            tasks_ended_badly(db, tally, [row] if levels else [], "was cancelled", levels)
    db.raw.execute("DELETE FROM leases WHERE worker = ?", (worker,))
    tally.flush()


def _runs(proc: Path, pid: int, start_ticks: int) -> bool:
    """Whether this very process still runs (a zombie does not). `start_ticks` 0: any process with this number."""
    try:
        text = (proc / str(pid) / "stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False
    fields = text[text.rindex(b")") + 2 :].split()
    if fields[STAT_STATE_FIELD] in (b"Z", b"X"):
        return False
    return start_ticks in (0, int(fields[STAT_START_FIELD]))


def worker_info(text: str) -> WorkerInfo:
    return msgspec.json.decode(text, type=WorkerInfo)
