"""Gangs in the store in memory: which one assembles, who has a seat, how members ended. The same rules as in lua/gangs.lua and
lua/roles.lua.

A gang's task is leased to its leader like any other; what is kept here besides are the members' places. A member whose gang is
over, or is no longer known, is to end; it keeps its place until it says that it has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from ergates.cluster.attempt import Outcome
from ergates.cluster.task import JobId, Requirement, TaskId
from ergates.simulation.memory_members import Members
from ergates.taskqueue.gang_roles import Kind, Seating, kind_declared, seats_of
from ergates.taskqueue.store import CANCELLED_BY_USER, Commit, GangEnds, MemberEnd, Seat
from ergates.units import Nanoseconds

PATIENCE_NS = 600_000_000_000
PUT_OFF_NS = 120_000_000_000
Lane = tuple[int, int, int]
"""(-priority, job, class): smallest first."""
Key = tuple[JobId, TaskId, int]


@dataclass(slots=True)
class Gang:
    """One that runs. `cause`: rank of the first member that ended badly, or CANCELLED_BY_USER."""

    key: Key
    workers: tuple[str, ...]
    hosts: tuple[str, ...]
    ends: dict[int, MemberEnd | None] = field(default_factory=dict)
    cause: int | None = None
    given: set[int] = field(default_factory=set)


class Gangs:
    """All gangs of one store.

    Args:
        members: the workers.
        lanes: those with ready tasks of gangs, with what one task needs, most urgent first.
    """

    def __init__(self, members: Members, lanes: Callable[[], Sequence[tuple[Lane, Requirement]]]) -> None:
        self._members, self._lanes = members, lanes
        self._lane: Lane | None = None
        self._needed = Requirement()
        self._since_ns = 0
        self._seats: dict[str, int] = {}
        self._put_off: dict[Lane, int] = {}
        self._declared: dict[str, tuple[frozenset[int], frozenset[int]]] = {}
        self.running: dict[tuple[JobId, TaskId], Gang] = {}
        self.places: dict[str, dict[Key, int]] = {}
        """Ranks of the members that have not said that they ended, by worker."""

    # --- assembling -------------------------------------------------------------------------------

    def declare(self, worker: str, unfit: Sequence[int], jobs: Sequence[int], at_ns: int) -> None:
        """What a worker cannot serve, and the jobs it serves (none: all)."""
        self._declared[worker] = frozenset(unfit), frozenset(jobs)
        self._forget_the_silent(at_ns)
        seat = self._seats.pop(worker, None)
        if seat is not None and self._could_sit(worker):
            self._seats[worker] = seat
        self.choose(at_ns)

    def offered(self, worker: str, lane: Lane) -> bool:
        """Whether this worker may take a seat in this lane."""
        return lane == self._lane and worker not in self._seats and self._could_sit(worker)

    def take_seat(self, worker: str, lane: Lane, at_ns: int) -> tuple[str, ...]:
        """Returns the workers in the order of their ranks when that was the last seat."""
        self.choose(at_ns)
        if lane != self._lane or (worker not in self._seats and not self._could_sit(worker)):
            return ()
        self._seats.setdefault(worker, at_ns)
        seating = self._seating()
        if not seating.full:
            return ()
        seated = sorted(self._seats, key=lambda name: (self._seats[name], name))
        chosen = tuple(seating.dealt((name, self._kind(name)) for name in seated))
        self._seats, self._lane = {}, None
        return chosen

    def seat_of(self, worker: str) -> Seat | None:
        """The one this worker has."""
        return self.assembling() if worker in self._seats else None

    def assembling(self) -> Seat | None:
        """See store.Assembling."""
        if self._lane is None:
            return None
        priority, job, class_id = self._lane
        return Seat(
            job=JobId(f"j{job}"),
            class_id=class_id,
            priority=-priority,
            taken=len(self._seats),
            size=self._needed.nodes,
            since_ns=Nanoseconds(self._since_ns),
        )

    def choose(self, at_ns: int) -> None:
        """Which gang assembles now: the most urgent that enough live workers could serve."""
        self._forget_the_silent(at_ns)
        if self._lane is not None and at_ns - self._since_ns > PATIENCE_NS:
            self._put_off[self._lane] = at_ns + PUT_OFF_NS
        chosen: tuple[Lane | None, Requirement] = None, Requirement()
        for lane, needed in self._lanes():
            if self._put_off.get(lane, 0) <= at_ns and self._could_start(lane, needed, at_ns):
                chosen = lane, needed
                break
        if chosen[0] != self._lane:
            self._lane, self._needed = chosen
            self._since_ns = at_ns
            self._seats.clear()

    def _could_start(self, lane: Lane, needed: Requirement, at_ns: int) -> bool:
        _, job, class_id = lane
        seating = Seating(seats_of(needed))
        for worker in self._members.living(at_ns):
            unfit, jobs = self._declared.get(worker, (frozenset(), frozenset()))
            if not jobs or job in jobs:
                seating.add(kind_declared(needed, class_id, unfit))
        return seating.full

    def _forget_the_silent(self, at_ns: int) -> None:
        self._seats = {name: since for name, since in self._seats.items() if self._members.lives(name, at_ns)}

    def _could_sit(self, worker: str) -> bool:
        """Whether there is a seat for it in the gang that assembles, beside those who have theirs."""
        return self._seating().could_sit(self._kind(worker))

    def _seating(self) -> Seating:
        seating = Seating(seats_of(self._needed))
        for worker in self._seats:
            seating.add(self._kind(worker))
        return seating

    def _kind(self, worker: str) -> Kind:
        """Roles of the gang that assembles that it can take, as it says."""
        unfit, _ = self._declared.get(worker, (frozenset(), frozenset()))
        return () if self._lane is None else kind_declared(self._needed, self._lane[2], unfit)

    # --- running ----------------------------------------------------------------------------------

    def start(self, key: Key, workers: tuple[str, ...]) -> None:
        """Its leader, the first, has the lease."""
        hosts = tuple(self._members.host_of(worker) for worker in workers)
        self.running[key[0], key[1]] = Gang(key, workers, hosts)
        for rank, worker in enumerate(workers):
            self.places.setdefault(worker, {})[key] = rank

    def called_up(self, worker: str) -> Iterator[tuple[Gang, int]]:
        """Members that this worker starts now; those of a gang that is over already are never told."""
        for key, rank in sorted(self.places.get(worker, {}).items()):
            gang = self._gang(key)
            if gang is None or rank in gang.given:
                continue
            if gang.cause is not None and rank > 0:
                self._note_end(gang, rank, None)
            else:
                gang.given.add(rank)
                yield gang, rank

    def knows(self, worker: str, key: Key) -> bool:
        """A worker says that it runs this member: it need not be told to. False: that gang was forgotten."""
        rank = self.places.get(worker, {}).get(key)
        gang = self._gang(key)
        if rank is not None and gang is not None:
            gang.given.add(rank)
        return rank is not None

    def commit_seat(self, worker: str, commit: Commit) -> bool:
        """A member has ended. False: it had no place under this fence, or led a gang that is gone: there is nothing to wait for.

        The end of who leads may be told again for as long as the gang waits, and counts once.
        """
        key, rank = (commit.job, commit.task, commit.fence), commit.seat
        gang = self._gang(key)
        if gang is None:
            return self.places.get(worker, {}).pop(key, None) not in (None, 0)
        if rank is None or not 0 <= rank < len(gang.workers):
            return False
        holder = gang.workers[rank]
        if rank in gang.ends:
            return rank == 0 and holder == worker
        if holder != worker and (rank == 0 or not self._members.may_reap(holder)):
            return False
        end = None
        if commit.attempt is not None:
            end = MemberEnd(attempt=commit.attempt, verdict=commit.verdict, kept=commit.kept)
        self._note_end(gang, rank, end)
        return True

    def to_end(self, worker: str) -> list[Key]:
        """Members of this worker that are to end."""
        found = []
        for key, rank in self.places.get(worker, {}).items():
            gang = self._gang(key)
            if gang is None or (gang.cause is not None and rank not in gang.ends and rank in gang.given):
                found.append(key)
        return sorted(found)

    def ended(self, worker: str) -> tuple[GangEnds, ...]:
        """Gangs that this worker leads whose members have all ended."""
        gangs = [self._gang(key) for key, rank in sorted(self.places.get(worker, {}).items()) if rank == 0]
        return tuple(
            GangEnds(
                job=gang.key[0],
                task=gang.key[1],
                fence=gang.key[2],
                cause=gang.cause,
                ends=tuple(gang.ends[rank] for rank in range(len(gang.workers))),
            )
            for gang in gangs
            if gang is not None and len(gang.ends) == len(gang.workers)
        )

    def cancelled(self, job: JobId, task: TaskId) -> None:
        """By the user."""
        gang = self.running.get((job, task))
        if gang is not None and gang.cause is None:
            gang.cause = CANCELLED_BY_USER

    def dissolve(self, job: JobId, task: TaskId) -> None:
        """Its leader's lease is over."""
        gang = self.running.pop((job, task), None)
        if gang is not None:
            self.places.get(gang.workers[0], {}).pop(gang.key, None)

    def leave(self, worker: str) -> None:
        """It starts anew, or is gone: its members are handed back."""
        self._seats.pop(worker, None)
        for key, rank in list(self.places.get(worker, {}).items()):
            gang = self._gang(key)
            if gang is not None and rank > 0:
                self._note_end(gang, rank, None)
        self.places.pop(worker, None)

    def of_the_dead(self, worker: str) -> list[tuple[Gang, int]]:
        """Members of a worker that was found dead; those it led are ordinary leases."""
        places = self.places.get(worker, {})
        for key in [key for key in places if self._gang(key) is None]:
            del places[key]
            self._members.may_reap(worker)  # it may still run it, and nothing else would tell it to end
        return [(self.running[key[0], key[1]], rank) for key, rank in sorted(places.items()) if rank > 0]

    def _gang(self, key: Key) -> Gang | None:
        gang = self.running.get((key[0], key[1]))
        return gang if gang is not None and gang.key == key else None

    def _note_end(self, gang: Gang, rank: int, end: MemberEnd | None) -> None:
        gang.ends[rank] = end
        if rank > 0:
            self.places.get(gang.workers[rank], {}).pop(gang.key, None)
        if gang.cause is None and (end is None or end.attempt.outcome is not Outcome.SUCCEEDED):
            gang.cause = rank
