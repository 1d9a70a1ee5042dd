"""What the store in memory holds, and how people and planners see it: jobs, tasks, attempts. Nothing here changes a task."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from itertools import islice
from typing import Self

from ergates.cluster.attempt import Attempt
from ergates.cluster.job import JobSpec, JobStatus
from ergates.cluster.task import JobId, Requirement, TaskId
from ergates.cluster.task_state import TaskState
from ergates.errors import UnknownJobError
from ergates.simulation.memory_copies import Copies
from ergates.simulation.memory_gangs import Gangs, Lane
from ergates.simulation.memory_job import Ranges, StoredJob, StoredLease
from ergates.simulation.memory_members import Members
from ergates.taskqueue.gang_roles import check_roles, numbers_taken
from ergates.taskqueue.store import HeldTask, Offer, PastPeak, Seat, TaskView

LEASE_NS = 40_000_000_000
PEAKS_KEPT = 256


@dataclass(slots=True)
class _Shared:
    """What all handles on one store count on together."""

    fence: int = 0
    now_ns: int = 0
    next_class: int = 1


class MemoryBooks:
    """Reader and History of a store in memory.

    Args: see MemoryStore.
    """

    def __init__(
        self, lease_ns: int = LEASE_NS, *, host: str = "", runs: Callable[[int, int], bool] | None = None
    ) -> None:
        self.lease_ns = lease_ns
        self.members = Members(lease_ns, host, runs)
        self._jobs: dict[JobId, StoredJob] = {}
        self._classes: dict[Requirement, int] = {}
        self._requirements: dict[int, Requirement] = {}
        self._shared = _Shared()
        self._held: dict[str, dict[tuple[JobId, TaskId], StoredLease]] = {}
        self._gangs = Gangs(self.members, self._gang_lanes)
        self._copies = Copies()
        self._ledger: list[tuple[JobId, TaskId, Attempt]] = []
        self._peaks: dict[str, deque[PastPeak]] = {}
        self._ahead_ns = 0

    def open_again(self) -> Self:
        """Another handle on the same store, as another process would have it, with a clock of its own."""
        handle = copy(self)
        handle._ahead_ns = 0
        return handle

    # --- Reader and History -----------------------------------------------------------------------

    def jobs(self) -> tuple[JobStatus, ...]:
        """See Reader.jobs."""
        return tuple(job.status() for job in reversed(self._jobs.values()))

    def spec(self, job: JobId) -> JobSpec:
        """See Reader.spec."""
        return self._job(job).spec

    def status(self, job: JobId) -> JobStatus:
        """See Reader.status."""
        return self._job(job).status()

    def waiting(self, job: JobId) -> tuple[Offer, ...]:
        """See Waiting.waiting."""
        counts = Counter(
            (-view.spec.priority, self.class_id(view.spec.requirement))
            for view in self.tasks(job, states=(TaskState.READY,))
        )
        return tuple(
            Offer(job=job, class_id=number, requirement=self._requirements[number], priority=-priority, waiting=waiting)
            for (priority, number), waiting in sorted(counts.items())
        )

    def tasks(
        self,
        job: JobId,
        *,
        states: Sequence[TaskState] = (),
        ids: Sequence[tuple[int, int]] = (),
        limit: int | None = None,
    ) -> Iterator[TaskView]:
        """See Reader.tasks."""
        stored = self._job(job)
        chosen = (stored.tasks[number - 1] for number in stored.numbers(ids or ((1, len(stored.tasks)),)))
        wanted = (task for task in chosen if not states or task.state in states)
        return (stored.view(task, self._ahead_ns) for task in islice(wanted, limit))

    def attempts(self, job: JobId, *, ids: Ranges = (), since_row: int = 0) -> Iterator[tuple[int, TaskId, Attempt]]:
        """See Reader.attempts."""
        self._job(job)
        return (
            (row, task, attempt)
            for row, (owner, task, attempt) in enumerate(self._ledger, 1)
            if row > since_row and owner == job and (not ids or any(first <= task <= last for first, last in ids))
        )

    def held(self, most: int) -> tuple[HeldTask, ...]:
        """See Holdings.held."""
        leases = [
            HeldTask(job=job, task=task, worker=worker, fence=lease.fence)
            for worker, held in self._held.items()
            for (job, task), lease in held.items()
        ]
        return tuple(sorted(leases, key=lambda lease: lease.fence)[:most])

    def assembling(self) -> Seat | None:
        """See Assembling."""
        return self._gangs.assembling()

    def remember_peaks(self, peaks: Sequence[PastPeak]) -> None:
        """See History.remember_peaks."""
        for peak in peaks:
            self._peaks.setdefault(peak.shape, deque(maxlen=PEAKS_KEPT)).append(peak)

    def recall_peaks(self) -> tuple[PastPeak, ...]:
        """See History.recall_peaks."""
        return tuple(peak for shape in sorted(self._peaks) for peak in self._peaks[shape])

    # --- laws -------------------------------------------------------------------------------------

    def check_invariants(self) -> None:
        """Raises AssertionError when counters, states and leases do not agree with a recount."""
        leased = 0
        for job in self._jobs.values():
            job.check_invariants()
            leased += job.counts[TaskState.LEASED] + sum(1 for task in job.tasks if task.copy is not None)
        held = [(worker, place, lease) for worker, leases in self._held.items() for place, lease in leases.items()]
        assert len(held) == leased, "leases and leased tasks differ in number"
        fences = {lease.fence for _, _, lease in held}
        assert len(fences) == len(held), "two leases have one fence"
        for worker, (job_id, task), lease in held:
            stored = self._jobs[job_id].tasks[task - 1]
            assert lease is stored.lease or lease is stored.copy, f"{job_id}/{task} is leased, but not to {worker}"
            assert lease.worker == worker

    @property
    def all_ended(self) -> bool:
        """Whether every task of every job is in a terminal state."""
        return all(job.open_tasks == 0 for job in self._jobs.values())

    # --- inside -----------------------------------------------------------------------------------

    def class_id(self, requirement: Requirement) -> int:
        number = self._classes.get(requirement)
        if number is None:
            check_roles(requirement)
            number = self._classes[requirement] = self._shared.next_class
            self._requirements[number] = requirement
            self._shared.next_class += numbers_taken(requirement)
        return number

    def _job(self, job: JobId) -> StoredJob:
        stored = self._jobs.get(job)
        if stored is None:
            raise UnknownJobError(f"no job {job!r} in this store\n  hint: `erg status` lists the jobs")
        return stored

    def _time(self, now_ns: int) -> int:
        """Store time: never back; a clock that was set back is carried forward by what it lies behind."""
        behind_ns = self._shared.now_ns - (now_ns + self._ahead_ns)
        if behind_ns > 1_000_000_000:
            self._ahead_ns += behind_ns
        self._shared.now_ns = max(self._shared.now_ns, now_ns + self._ahead_ns)
        return self._shared.now_ns

    def _gang_lanes(self) -> list[tuple[Lane, Requirement]]:
        return sorted(
            ((-priority, int(job.id[1:]), class_id), self._requirements[class_id])
            for job in self._jobs.values()
            if job.leases_out
            for (class_id, priority), ready in job.lanes.items()
            if ready and self._requirements[class_id].nodes > 1
        )
