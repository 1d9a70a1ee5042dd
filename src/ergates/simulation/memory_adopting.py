"""A server that was started again and may have forgotten its last moments: what it does then, and what workers tell it.

The same rules as in lua/base.lua and lua/adopt.lua: nobody is condemned for the time the server was away, no fence is given
twice, a worker says what it holds and commits again what it committed lately. Leases of tasks that went back are its own
again under the same fence, commits whose lease stands are accepted now.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ergates.cluster.task import JobId, TaskId
from ergates.cluster.task_state import TERMINAL, TaskState
from ergates.simulation.memory_job import StoredLease
from ergates.simulation.memory_store import MemoryStore
from ergates.taskqueue.store import Commit
from ergates.units import Nanoseconds

GENERATION_BITS = 32
Key = tuple[JobId, TaskId, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A lease that a worker holds, or one that it ended lately.

    Args:
        attempt: which one it was, where it has ended; 0 while it is held.
        pending: its commit is in a request that may have been carried out.
        member: of a gang; where the gang was forgotten nobody has it.
    """

    key: Key
    attempt: int = 0
    pending: bool = False
    member: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Adopted:
    """What became of it: leases that are another's now or at an end, those that were put back, commits that were not taken."""

    taken: tuple[Key, ...] = ()
    put_back: tuple[Key, ...] = ()
    refused: tuple[Key, ...] = ()


def start_again(store: MemoryStore, generation: int, now_ns: Nanoseconds) -> None:
    """Another server process: fences of another generation, and all beats count from now."""
    store._shared.fence = generation << GENERATION_BITS
    at_ns = store._time(now_ns)
    for member in store.members.all():
        if member.standing == "live":
            member.beat_ns = at_ns


def adopt(
    store: MemoryStore,
    worker: str,
    held: Sequence[Held],
    commits: Sequence[Commit],
    now_ns: Nanoseconds,
    *,
    carried_out: bool,
) -> Adopted:
    """A worker tells what it holds and did. `carried_out`: the request whose answer it waits for was."""
    store._time(now_ns)
    taken, put_back = [], []
    for one in held:
        if one.pending and carried_out:
            continue
        job, task, fence = one.key
        own = store._held.get(worker, {}).get((job, task))
        stands = own is not None and own.fence == fence
        if one.member:
            stands = store._gangs.knows(worker, one.key) or stands
        elif not stands and own is None:
            stands = _put_back(store, worker, one)
            put_back += [one.key] if stands else []
        if not stands:
            taken.append(one.key)
    refused = []
    for commit in commits:
        own = store._held.get(worker, {}).get((commit.job, commit.task))
        stands = commit.seat is not None or (own is not None and own.fence == commit.fence)
        if not stands or not store._commit(worker, commit, now_ns):
            refused.append((commit.job, commit.task, commit.fence))
    return Adopted(taken=tuple(taken), put_back=tuple(put_back), refused=tuple(refused))


def _put_back(store: MemoryStore, worker: str, one: Held) -> bool:
    """A lease that was forgotten. False: another has the task, or its end was not forgotten."""
    job, number, fence = one.key
    stored = store._jobs.get(job)
    if stored is None or number > len(stored.tasks):
        return False
    task = stored.tasks[number - 1]
    if task.state is TaskState.LEASED or task.state in TERMINAL:
        return False
    if one.attempt > 0 and task.attempts >= one.attempt:
        return False  # that commit was not lost: it is what made the task wait again
    stored.put_back(task, StoredLease(fence, worker, task.attempts + 1))
    assert task.lease is not None
    store._held.setdefault(worker, {})[job, number] = task.lease
    return True
