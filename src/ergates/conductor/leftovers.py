"""What an earlier attempt left running is ended before anything is begun: workers, programs, namespaces, half-dead stores.

Runs that were under way then are given back to the store unharmed: that whoever conducted them was killed says nothing of them.
"""

from __future__ import annotations

import uuid

from ergates.clock import Clock
from ergates.cluster.attempt import Attempt, Outcome
from ergates.cluster.task import JobId
from ergates.conductor.run_store import RunStore
from ergates.controller.reap import Store, reaping_member
from ergates.drivers import machine
from ergates.drivers.hosts.local_workers import Place, end_leftovers
from ergates.drivers.hosts.namespaces import switch_of
from ergates.taskqueue.store import Commit, Returned

REASON = "the experiment was stopped while it ran"


def end_earlier(place: Place, run_store: RunStore | None) -> int:
    """End all that carries the mark of this experiment, but for a store that answers; returns how many processes that were.

    Raises:
        ErgatesError: something does not end.
    """
    record = None if run_store is None else run_store.running()
    ended = end_leftovers(place, spared=() if record is None else (record.pid,))
    switch_of(place).clear()
    return ended


def give_back(store: Store, job: JobId, clock: Clock) -> int:
    """Runs of workers of this machine that are dead go back into the queue, at once and uncounted; returns how many.

    Raises:
        StoreError: the store cannot be reached, or is full.
    """
    boot = machine.boot_id()
    leases = [lease for lease in store.expired(clock.now_ns(), boot) if lease.job == job]
    if not leases:
        return 0
    now = clock.now_ns()
    member = reaping_member(str(uuid.uuid4()), clock)
    commits = [
        Commit(
            job=job,
            task=lease.task,
            fence=lease.fence,
            attempt=Attempt(number=lease.attempt, outcome=Outcome.RETURNED, ended_ns=now, reason=REASON),
            verdict=Returned(past=lease.past),
            seat=lease.gang.rank if lease.gang is not None and lease.gang.rank > 0 else None,
        )
        for lease in leases
    ]
    store.register(member, now)
    try:
        store.exchange(member.id, commits, [], now)
    finally:
        store.leave(member.id, clock.now_ns())
    return len(commits)
