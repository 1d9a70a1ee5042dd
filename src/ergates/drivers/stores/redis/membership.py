"""Workers from outside: whose leases are open to be reaped, who they are for people, and what people order them to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from ergates.cluster.node import WorkerInfo, WorkerLoad, WorkerOrders, WorkerStatus
from ergates.cluster.task import TaskId
from ergates.drivers.stores.redis.gangs import gang_seat
from ergates.drivers.stores.redis.names import job_name, to_json
from ergates.drivers.stores.redis.session import Session
from ergates.drivers.stores.redis.wire import as_leased, past_of
from ergates.errors import UsageError
from ergates.taskqueue.store import Lease, PastFailures
from ergates.units import Nanoseconds

STAT_STATE_FIELD = 0
STAT_START_FIELD = 19
"""Fields of /proc/PID/stat after the closing parenthesis of the program's name (proc(5): fields 3 and 22)."""

_neighbours = msgspec.msgpack.Decoder(list[tuple[str, str, str]])
_roster = msgspec.msgpack.Decoder(list[tuple[str, str, int, int, str, str]])
_expired = msgspec.msgpack.Decoder(list[tuple[int, str, int, int, int, int, bool, list[int] | bool, str, Any]])


def expired(session: Session, now_ns: int, live_boot_id: str, this_host: str, proc: Path) -> tuple[Lease, ...]:
    """See Exchanger.expired."""
    dead: list[tuple[str, str]] = []
    if live_boot_id:
        (packed,) = session.run("neighbours", this_host, now_ns)
        for worker, text, beat in _neighbours.decode(packed):
            if _provably_dead(msgspec.json.decode(text, type=WorkerInfo), live_boot_id, proc):
                dead.append((worker, beat))
    (packed,) = session.run("expired", dead, now_ns)
    rows = _expired.decode(packed)
    classes = session.requirements(row[4] for row in rows)
    leases = []
    for job, uid, task, fence, class_id, priority, edited, past, host, place in sorted(rows, key=_by_task):
        spec = session.specs(job, uid, [task], edited=edited)[task]
        counts = past if isinstance(past, list) else None
        leases.append(
            Lease(
                job=job_name(job),
                task=TaskId(task),
                fence=fence,
                attempt=counts[0] + 1 if counts else 1,
                spec=as_leased(spec, classes[class_id], priority),
                past=past_of(counts[1:]) if counts else PastFailures(),
                host=host,
                gang=gang_seat(place, classes[class_id]) if place else None,
            )
        )
    return tuple(leases)


def _by_task(row: tuple[Any, ...]) -> tuple[int, int]:
    return row[0], row[2]


def workers(session: Session) -> tuple[WorkerStatus, ...]:
    """See Roster.workers."""
    (packed,) = session.run("roster", 0)
    return tuple(
        WorkerStatus(
            info=msgspec.json.decode(info, type=WorkerInfo),
            standing=standing,
            beat_age_ns=Nanoseconds(age_us * 1000),
            leases=leases,
            orders=msgspec.json.decode(orders, type=WorkerOrders) if orders else WorkerOrders(),
            load=msgspec.json.decode(load, type=WorkerLoad) if load else WorkerLoad(),
        )
        for info, standing, age_us, leases, orders, load in _roster.decode(packed)
    )


def order(session: Session, worker: str, orders: WorkerOrders) -> WorkerOrders:
    """See Roster.order."""
    key = f"{session.prefix}w:{worker}"
    while True:
        found, version = session.connection().command("HMGET", key, "orders", "version")
        if version is None:
            raise UsageError(f"no worker {worker!r} in queue {session.queue!r}\n  hint: `erg worker list` shows them")
        old = msgspec.json.decode(found, type=WorkerOrders) if found else WorkerOrders()
        new = _merged(old, orders, int(version) + 1)
        (written,) = session.run("order", [worker, int(version), new.version, to_json(new, "the orders")])
        if written:
            return new


def _merged(old: WorkerOrders, new: WorkerOrders, version: int) -> WorkerOrders:
    return WorkerOrders(
        version=version,
        drain=old.drain or new.drain,
        give_back=old.give_back or new.give_back,
        cpus_milli=old.cpus_milli if new.cpus_milli is None else new.cpus_milli,
        memory_bytes=old.memory_bytes if new.memory_bytes is None else new.memory_bytes,
        jobs=old.jobs if new.jobs is None else new.jobs,
        labels={**old.labels, **new.labels},
    )


def _provably_dead(info: WorkerInfo, live_boot_id: str, proc: Path) -> bool:
    if not info.boot_id:
        return False
    return info.boot_id != live_boot_id or (info.pid > 0 and not _runs(proc, info.pid, info.pid_start_ticks))


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
