"""Second leases of tasks in the store in memory: who was faster, and who is still to be told. See Want.copy_of."""

from __future__ import annotations

from ergates.cluster.task import JobId, TaskId
from ergates.simulation.memory_job import StoredLease, StoredTask

Place = tuple[JobId, TaskId, int]


class Copies:
    """Leases that are over because another attempt of their task was faster, until their workers say that they ended them."""

    def __init__(self) -> None:
        self._over: dict[str, set[Place]] = {}

    def to_end(self, worker: str) -> set[Place]:
        return self._over.get(worker, set())

    def forget(self, worker: str) -> None:
        """It starts anew, or leaves."""
        self._over.pop(worker, None)

    def ended(self, worker: str, place: Place) -> None:
        """Its worker has ended it."""
        self._over.get(worker, set()).discard(place)

    def overtaken(self, task: StoredTask, loser: StoredLease) -> None:
        """The other one has won."""
        self._over.setdefault(loser.worker, set()).add((task.job, task.id, loser.fence))


def may_be_copied(task: StoredTask, fence: int, worker: str, nodes: int) -> bool:
    """Whether this lease stands, is the only one, was not cancelled, and is another worker's."""
    lease = task.lease
    if lease is None or lease.fence != fence or task.copy is not None:
        return False
    return not lease.revoked and lease.worker != worker and nodes == 1


def leave_pair(task: StoredTask, lease: StoredLease, *, won: bool, recorded: bool) -> StoredLease:
    """One of two leases is over; returns the other, which is the task's only one now. No attempt's number is used twice."""
    original, copy = task.lease, task.copy
    assert original is not None and copy is not None
    other = original if lease is copy else copy
    task.lease, task.copy = other, None
    used = lease.number if won or recorded else 0
    task.attempts = max(task.attempts, used, 0 if won else other.number - 1)
    return other
