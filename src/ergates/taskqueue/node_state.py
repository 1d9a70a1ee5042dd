"""Who is staged, who runs where, who waits behind whom: a node's books, shared by every policy of a node.

Nothing is decided here. A *place* is one slot in use with the attempts queued on it; its head runs. Every leased key is in
exactly one of: staged, a place's queue. It leaves by an action or by the end of its attempt.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Iterator

from ergates.cluster.node import NodeCapacity
from ergates.cluster.task import Requirement
from ergates.taskqueue.data_paths import carries
from ergates.taskqueue.launching import AttemptKey
from ergates.taskqueue.memory import Sizing
from ergates.taskqueue.running import Running
from ergates.taskqueue.slots import Slot, Slots
from ergates.taskqueue.store import Lease
from ergates.taskqueue.unfit import PathsKnown, lacks


class Staged:
    """A task that is ours and has not been started."""

    __slots__ = ("job", "key", "order", "priority", "requirement", "since_ns", "sizing", "waits")

    def __init__(self, lease: Lease, sizing: Sizing, since_ns: int, sequence: int) -> None:
        self.job: str = lease.job
        self.key: AttemptKey = (lease.job, lease.task, lease.fence)
        self.requirement: Requirement = lease.spec.requirement
        self.priority = lease.spec.priority
        self.sizing = sizing
        self.since_ns = since_ns
        self.waits = carries(lease.spec)
        """Files have to be carried for it: nothing is to be queued with it on one slot."""
        # Highest priority first; among equals the largest known need, which is the hardest to place late; then first come.
        self.order = (-self.priority, -max(sizing.floor, sizing.reached_before), sequence)


class Reserved:
    """Room kept free for a member of a gang that assembles. Nothing of it is used yet."""

    __slots__ = ("class_id", "mean", "requirement", "slot", "used", "variance")

    def __init__(self, class_id: int, requirement: Requirement, slot: Slot, mean: float) -> None:
        self.class_id, self.requirement, self.slot = class_id, requirement, slot
        self.mean, self.variance, self.used = mean, 0.0, 0


class Place:
    """A slot in use and its queue; `queue[0]` runs."""

    __slots__ = ("queue", "slot")

    def __init__(self, slot: Slot, first: Running) -> None:
        self.slot = slot
        self.queue: deque[Running] = deque((first,))


class NodeState:
    """The books of one node.

    Args:
        capacity: what it has.
        pin: choose cores for each slot.
        jobs: attempts at once at most; None leaves it to cores.
        ends_ns: when its worker ends; None when that is not known.
        gangs: whether its store can start one task on several nodes.
    """

    def __init__(
        self,
        capacity: NodeCapacity,
        *,
        pin: bool = False,
        jobs: int | None = None,
        ends_ns: int | None = None,
        gangs: bool = False,
    ) -> None:
        self.capacity = capacity
        self.ends_ns = ends_ns
        self._gangs = gangs
        self.paths = PathsKnown()
        self.slots = Slots(capacity, pin=pin, most=jobs)
        self.staged: list[Staged] = []
        self.running: dict[AttemptKey, Running] = {}
        """Heads of places, oldest first."""
        self.places: dict[AttemptKey, Place] = {}
        """Of every started attempt, queued ones included."""
        self.open_places: list[Place] = []
        self.reserved: Reserved | None = None
        """Only one gang assembles at a time, and a worker has one seat in it."""
        self._sequence = 0

    @property
    def queued(self) -> int:
        """Started attempts that wait behind another on their slot."""
        return len(self.places) - len(self.running)

    def unfit(self, requirement: Requirement, now_ns: int) -> str | None:
        """Why this could never run here, in words; None when it could."""
        if (
            requirement.memory_bytes <= self.capacity.memory_bytes
            and not (requirement.labels or requirement.paths or requirement.min_time_ns)
            and requirement.nodes == 1
        ):
            return self.slots.unfit(requirement)  # nearly always, and asked for every task
        left_ns = None if self.ends_ns is None else self.ends_ns - now_ns
        missing = self.paths.missing
        found = lacks(requirement, self.slots, missing_paths=missing, left_ns=left_ns, gangs=self._gangs)
        return found[0].words if found else None

    def limit(self, capacity: NodeCapacity, jobs: int | None) -> None:
        """The node has this much from now on; more than that is held until attempts end."""
        self.capacity = capacity
        self.slots.limit(capacity, jobs)

    def stage(self, lease: Lease, sizing: Sizing, now_ns: int) -> Staged:
        self._sequence += 1
        staged = Staged(lease, sizing, now_ns, self._sequence)
        if not self.staged or self.staged[-1].order < staged.order:
            self.staged.append(staged)
        else:
            insort(self.staged, staged, key=lambda one: one.order)
        return staged

    def reserve(self, class_id: int, requirement: Requirement, mean: float) -> Reserved:
        """Take a slot for a member that may come; it must fit."""
        self.reserved = Reserved(class_id, requirement, self.slots.take(requirement), mean)
        return self.reserved

    def unreserve(self) -> Reserved | None:
        """The room is free again."""
        reserved, self.reserved = self.reserved, None
        if reserved is not None:
            self.slots.release(reserved.slot)
        return reserved

    def start(self, attempt: Running, requirement: Requirement) -> Place:
        """Take a slot for it; it must fit."""
        place = Place(self.slots.take(requirement), attempt)
        self.places[attempt.key] = place
        self.running[attempt.key] = attempt
        self.open_places.append(place)
        return place

    def queue(self, attempt: Running, place: Place) -> AttemptKey:
        """Put it behind the last of a place; returns the key it follows."""
        last = place.queue[-1].key
        place.queue.append(attempt)
        self.places[attempt.key] = place
        return last

    def end(self, key: AttemptKey, now_ns: int) -> tuple[Running, Running | None] | None:
        """Take an ended attempt off the books.

        Returns:
            It and the one that runs in its place now; None for a key that is not on the books.
        """
        place = self.places.pop(key, None)
        if place is None:
            return None
        if place.queue[0].key != key:  # one that waited could not even be started
            waiting = next(attempt for attempt in place.queue if attempt.key == key)
            place.queue.remove(waiting)
            return waiting, None
        ended = place.queue.popleft()
        del self.running[key]
        if not place.queue:
            self.slots.release(place.slot)
            self.open_places.remove(place)
            return ended, None
        head = place.queue[0]
        head.started_ns = head.sampled_ns = head.grew_ns = now_ns
        self.running[head.key] = head
        return ended, head

    def unstage(self, key: AttemptKey) -> Staged | None:
        """Take a staged task off the books."""
        for index, staged in enumerate(self.staged):
            if staged.key == key:
                return self.staged.pop(index)
        return None

    def keys(self) -> Iterator[AttemptKey]:
        """Every key on the books."""
        yield from (staged.key for staged in self.staged)
        yield from self.places

    def check_invariants(self) -> None:
        """Raises AssertionError when the books do not agree. For tests and simulations."""
        reserved = [] if self.reserved is None else [self.reserved.slot]
        self.slots.check_invariants([*(place.slot for place in self.open_places), *reserved])
        keys = list(self.keys())
        assert len(keys) == len(set(keys)), "a key is on the books twice"
        assert list(self.running) == [key for key in self.running if self.places[key].queue[0].key == key], (
            "a head is not at the head of its queue"
        )
        assert len(self.open_places) == len(self.running)
        assert sum(len(place.queue) for place in self.open_places) == len(self.places)
        assert [staged.order for staged in self.staged] == sorted(staged.order for staged in self.staged)
        starts = [attempt.started_ns for attempt in self.running.values()]
        assert starts == sorted(starts), "running is not oldest first"
