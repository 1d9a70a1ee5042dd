"""Which tasks are out, for people. Costs what the leases are many, not the tasks; the age of a lease is not kept here."""

from __future__ import annotations

from heapq import nsmallest

from ergates.cluster.task import TaskId
from ergates.drivers.stores.redis.names import job_name
from ergates.drivers.stores.redis.session import Session
from ergates.taskqueue.store import HeldTask


def held(session: Session, most: int) -> tuple[HeldTask, ...]:
    """See Holdings.held."""
    connection = session.connection()
    workers = [worker.decode() for worker in connection.command("ZRANGE", session.prefix + "roster", 0, -1)]
    owned = connection.pipeline([["HGETALL", session.prefix + "own:" + worker] for worker in workers])
    leases: list[tuple[int, bytes, str]] = []
    for worker, pairs in zip(workers, owned, strict=True):
        items = pairs.items() if isinstance(pairs, dict) else zip(pairs[::2], pairs[1::2], strict=True)
        leases += [(int(lease.split(b" ", 1)[0]), place, worker) for place, lease in items]
    found = []
    for fence, place, worker in nsmallest(most, leases):
        number, task = place.split(b":")
        found.append(HeldTask(job=job_name(int(number)), task=TaskId(int(task)), worker=worker, fence=fence))
    return tuple(found)
