"""A store in memory: the same protocols as the real ones, small enough to be seen to be right.

It is what simulated workers talk to, and the yardstick of the contract suite: where a real store and this one differ, one
of them is wrong. Tasks lie in dictionaries, their states and counters in `memory_job.py`; every call is one step that is
checked first and written after, so it happens whole or not at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
from msgspec.structs import replace

from ergates.cluster.attempt import Attempt
from ergates.cluster.gang import GangSeat, role_of
from ergates.cluster.job import JobSpec
from ergates.cluster.node import WorkerInfo, WorkerLoad
from ergates.cluster.task import JobId, TaskId, TaskSpec
from ergates.cluster.task_state import TaskState
from ergates.errors import JobGrewError, UsageError, closed_job
from ergates.simulation.memory_books import MemoryBooks
from ergates.simulation.memory_copies import leave_pair, may_be_copied
from ergates.simulation.memory_gangs import Gang
from ergates.simulation.memory_job import StoredJob, StoredLease, StoredTask
from ergates.taskqueue.store import (
    Cancelled,
    Changes,
    Commit,
    Done,
    Exchanged,
    Failed,
    Lease,
    Offer,
    Returned,
    Submitted,
    Want,
)
from ergates.units import Nanoseconds

OFFERS_MAX = 64
AVOID_FOR_LEASES = 2
"""A task that should avoid a host waits so many lease times for another host, then goes anywhere."""


class MemoryStore(MemoryBooks):
    """Submitter, Exchanger, Editor, Reader and History.

    Args:
        lease_ns: a worker that was silent for longer has lost its leases.
        host: the host this store is used from; of workers on it can be told at once whether they are dead.
        runs: whether the process with this number and start time still runs on that host.
    """

    # --- Submitter --------------------------------------------------------------------------------

    def submit(self, job: JobSpec, tasks: Iterable[TaskSpec], now_ns: Nanoseconds, *, again: bool = False) -> Submitted:
        """See Submitter.submit."""
        known = self._known(job.key, job.max_failed_tasks, again)
        if known is not None:
            return known
        specs = list(tasks)
        self._time(now_ns)
        stored = StoredJob(JobId(f"j{len(self._jobs) + 1}"), job, specs, now_ns, self.class_id)
        self._jobs[stored.id] = stored
        return Submitted(id=stored.id, total=len(specs), resumed=False, done=0)

    def set_phase(self, job: JobId, phase: str, now_ns: Nanoseconds) -> None:
        """See Submitter.set_phase."""
        if phase not in ("active", "paused", "cancelled"):
            raise UsageError(f"a job can be made active, paused or cancelled, not {phase!r}")
        stored = self._job(job)
        self._time(now_ns)
        if stored.finished_ns is not None or stored.phase == phase:
            return
        if stored.phase == "cancelled":
            raise UsageError(f"job {job} was cancelled\n  hint: `erg retry {job}` takes its tasks back")
        stored.phase = phase
        if phase == "cancelled":
            stored.cancel([(1, len(stored.tasks))], "its job was cancelled", now_ns, cascade=False)
            stored.close(now_ns)

    def cancel(self, job: JobId, tasks: Sequence[tuple[int, int]], reason: str, now_ns: Nanoseconds) -> int:
        """See Submitter.cancel."""
        self._time(now_ns)
        return self._job(job).cancel(tasks, clean_text(reason), now_ns)

    def retry(self, job: JobId, tasks: Sequence[tuple[int, int]], now_ns: Nanoseconds) -> int:
        """See Submitter.retry."""
        self._time(now_ns)
        return self._job(job).retry(tasks)

    # --- Editor -----------------------------------------------------------------------------------

    def extend(self, job: JobId, tasks: Iterable[TaskSpec], now_ns: Nanoseconds, *, first: TaskId | None = None) -> int:
        """See Editor.extend."""
        stored = self._job(job)
        if not stored.spec.open:
            raise closed_job(job)
        specs = list(tasks)
        if first not in (None, len(stored.tasks) + 1):
            raise JobGrewError(f"job {job} has {len(stored.tasks)} tasks by now, the next is not {first}")
        stored.add(specs, self._time(now_ns))
        return len(stored.tasks)

    def close_job(self, job: JobId, now_ns: Nanoseconds) -> None:
        """See Editor.close_job."""
        stored = self._job(job)
        self._time(now_ns)
        stored.close(now_ns)

    def edit(
        self, job: JobId, changes: Sequence[tuple[TaskId, Changes]], now_ns: Nanoseconds, *, rerun: bool = False
    ) -> tuple[TaskId, ...]:
        """See Editor.edit."""
        stored = self._job(job)
        self._time(now_ns)
        return tuple(stored.edit(dict(changes), rerun))

    # --- Exchanger --------------------------------------------------------------------------------

    def register(self, worker: WorkerInfo, now_ns: Nanoseconds) -> None:
        """See Exchanger.register."""
        at_ns = self._time(now_ns)
        self._give_back_all(worker.id, now_ns)
        self.members.register(worker, at_ns)

    def exchange(
        self,
        worker: str,
        commits: Sequence[Commit],
        want: Sequence[Want],
        now_ns: Nanoseconds,
        jobs: Sequence[JobId] = (),
        *,
        unfit: Sequence[int] = (),
        load: WorkerLoad | None = None,
        orders_seen: int = 0,
    ) -> Exchanged:
        """See Exchanger.exchange."""
        asked = [self._job(job) for job in jobs]
        at_ns = self._time(now_ns)
        if not self.members.beat(worker, at_ns):
            return Exchanged(refused=tuple((c.job, c.task, c.fence) for c in commits), stale=True)
        refused = tuple((c.job, c.task, c.fence) for c in commits if not self._commit(worker, c, now_ns))
        for stored in self._jobs.values():
            stored.wake(at_ns)
        self._note_cancelled()
        self._gangs.declare(worker, unfit, [int(job.id[1:]) for job in asked], at_ns)
        leases = [lease for row in want for lease in self._lease(worker, row, at_ns)]
        leases += [self._as_member(gang, rank) for gang, rank in self._gangs.called_up(worker)]
        self._gangs.choose(at_ns)
        shown = [job for job in (asked or self._jobs.values()) if job.leases_out]
        next_ready = [ready_ns for job in shown if (ready_ns := job.next_ready_ns()) is not None]
        held = self._held.get(worker, {})
        revoked = [(*place, held[place].fence) for place in held if held[place].revoked]
        counted = asked or [job for job in self._jobs.values() if job.finished_ns is None]
        return Exchanged(
            leases=tuple(leases),
            refused=refused,
            offers=self._offers(worker, shown, at_ns, unfit),
            revoked=tuple(sorted({*revoked, *self._copies.to_end(worker), *self._gangs.to_end(worker)})),
            next_ready_ns=Nanoseconds(min(next_ready) - self._ahead_ns) if next_ready else None,
            open_tasks=sum(job.open_tasks for job in counted),
            seat=self._gangs.seat_of(worker),
            gang_ends=self._gangs.ended(worker),
        )

    def expired(self, now_ns: Nanoseconds, live_boot_id: str = "") -> tuple[Lease, ...]:
        """See Exchanger.expired."""
        holders = [name for name, held in self._held.items() if held or self._gangs.places.get(name)]
        holders += [name for name, places in self._gangs.places.items() if places and name not in self._held]
        gone = self.members.condemn(self._time(now_ns), holders, live_boot_id)
        leases = [
            replace(
                self._as_lease(self._jobs[job].tasks[task - 1], self._held[name][job, task]),
                host=self.members.host_of(name),
            )
            for name in gone
            for job, task in sorted(self._held.get(name, {}))
        ]
        for name in gone:
            for gang, rank in self._gangs.of_the_dead(name):
                leases.append(replace(self._as_member(gang, rank), host=self.members.host_of(name)))
        return tuple(sorted(leases, key=lambda lease: (lease.job, lease.task)))

    def leave(self, worker: str, now_ns: Nanoseconds) -> None:
        """See Exchanger.leave."""
        self._time(now_ns)
        self._give_back_all(worker, now_ns)
        self.members.leave(worker)

    # --- inside -----------------------------------------------------------------------------------

    def _known(self, key: str, max_failed: int | None, again: bool) -> Submitted | None:
        jobs = [job for job in self._jobs.values() if job.spec.key == key]
        unfinished = [job for job in jobs if job.finished_ns is None and job.phase != "cancelled"]
        if unfinished:
            job = unfinished[-1]
            job.spec = msgspec.structs.replace(job.spec, max_failed_tasks=max_failed)
            return Submitted(id=job.id, total=len(job.tasks), resumed=True, done=job.counts[TaskState.DONE])
        if jobs and not again:
            job = jobs[-1]
            return Submitted(id=job.id, total=len(job.tasks), resumed=False, done=job.counts[TaskState.DONE])
        return None

    def _commit(self, worker: str, commit: Commit, now_ns: int) -> bool:
        """End one lease; False when it is not ours to end."""
        stored = self._jobs.get(commit.job)
        if stored is None or not 1 <= commit.task <= len(stored.tasks):
            return False
        if commit.seat is not None:
            self._note_cancelled()
            return self._gangs.commit_seat(worker, commit)
        task = stored.tasks[commit.task - 1]
        lease = task.lease if task.copy is None or task.copy.fence != commit.fence else task.copy
        if not self._may_commit(worker, commit, lease):
            self._copies.ended(worker, (commit.job, commit.task, commit.fence))
            return False
        assert lease is not None
        del self._held[lease.worker][stored.id, task.id]
        self._gangs.dissolve(stored.id, task.id)
        if commit.attempt is not None:
            self._record(stored, task, lease, commit.attempt)
        if task.copy is None:
            task.attempts += commit.attempt is not None
        else:
            won = isinstance(commit.verdict, Done)
            other = leave_pair(task, lease, won=won, recorded=commit.attempt is not None)
            if not won:
                return True  # the other one goes on, and nothing becomes of the task
            del self._held[other.worker][stored.id, task.id]
            self._copies.overtaken(task, other)
        task.lease = None
        verdict = commit.verdict
        if lease.revoked and isinstance(verdict, Returned):
            verdict = Cancelled(reason=lease.reason)  # the user cancelled it: it does not go back
        match verdict:
            case Done():
                stored.finish(task, now_ns)
            case Failed(reason=reason):
                stored.end_badly(task, TaskState.FAILED, clean_text(reason), now_ns)
            case Cancelled(reason=reason):
                stored.end_badly(task, TaskState.CANCELLED, clean_text(reason or lease.reason), now_ns)
            case Returned():
                reason = "" if commit.attempt is None else clean_text(commit.attempt.reason)
                not_before_ns = verdict.not_before_ns + self._ahead_ns if verdict.not_before_ns else 0
                stored.take_back(task, replace(verdict, not_before_ns=not_before_ns), reason, self._shared.now_ns)
        return True

    def _record(self, stored: StoredJob, task: StoredTask, lease: StoredLease, attempt: Attempt) -> None:
        attempt = replace(
            attempt,
            worker=attempt.worker or lease.worker,
            host=attempt.host or self.members.host_of(lease.worker),
            reason=clean_text(attempt.reason),
        )
        self._ledger.append((stored.id, task.id, attempt))
        stored.add_to_sums(attempt)

    def _may_commit(self, worker: str, commit: Commit, lease: StoredLease | None) -> bool:
        """The fence: only while the very lease stands, and only its holder, or anybody once the holder was found dead."""
        if lease is None or lease.fence != commit.fence:
            return False
        return lease.worker == worker or self.members.may_reap(lease.worker)

    def _lease(self, worker: str, want: Want, at_ns: int) -> list[Lease]:
        stored = self._jobs.get(want.job)
        if stored is None or not stored.leases_out:
            return []
        if want.copy_of is not None:
            return self._lease_copy(worker, stored, *want.copy_of)
        needed = self._requirements.get(want.class_id)
        if needed is not None and needed.nodes > 1:
            self._seat(worker, stored, want, at_ns)
            return []
        leases = []
        for task in self._visible(stored, worker, want.class_id, want.priority, at_ns)[: max(0, want.count)]:
            self._shared.fence += 1
            stored.lease(task, StoredLease(self._shared.fence, worker, task.attempts + 1))
            assert task.lease is not None
            self._held.setdefault(worker, {})[stored.id, task.id] = task.lease
            leases.append(self._as_lease(task, task.lease))
        return leases

    def _lease_copy(self, worker: str, stored: StoredJob, number: TaskId, fence: int) -> list[Lease]:
        task = stored.tasks[number - 1] if 1 <= number <= len(stored.tasks) else None
        if task is None or task.lease is None or not stored.spec.copies:
            return []
        if not may_be_copied(task, fence, worker, self._requirements[task.class_id].nodes):
            return []
        self._shared.fence += 1
        task.copy = StoredLease(self._shared.fence, worker, task.attempts + 2)
        task.lease.number = task.attempts + 1
        self._held.setdefault(worker, {})[stored.id, task.id] = task.copy
        host = self.members.host_of(task.lease.worker)
        return [replace(self._as_lease(task, task.copy), copy_of_host=host)]

    def _seat(self, worker: str, stored: StoredJob, want: Want, at_ns: int) -> None:
        lane = (-want.priority, int(stored.id[1:]), want.class_id)
        workers = self._gangs.take_seat(worker, lane, at_ns) if want.count > 0 else ()
        if workers:
            task = min(stored.lanes[want.class_id, want.priority].items())[1]
            self._shared.fence += 1
            stored.lease(task, StoredLease(self._shared.fence, workers[0]))
            assert task.lease is not None
            self._held.setdefault(workers[0], {})[stored.id, task.id] = task.lease
            self._gangs.start((stored.id, task.id, task.lease.fence), workers)

    def _as_member(self, gang: Gang, rank: int) -> Lease:
        job, number, fence = gang.key
        task = self._jobs[job].tasks[number - 1]
        lease = self._as_lease(task, StoredLease(fence, gang.workers[rank]))
        role = role_of(lease.spec.requirement.roles, rank)
        return replace(lease, gang=GangSeat(rank=rank, size=len(gang.workers), role=role, hosts=gang.hosts))

    def _note_cancelled(self) -> None:
        for job, task in self._gangs.running:
            lease = self._jobs[job].tasks[task - 1].lease
            if lease is not None and lease.revoked:
                self._gangs.cancelled(job, task)

    def _visible(self, job: StoredJob, worker: str, class_id: int, priority: int, at_ns: int) -> list[StoredTask]:
        """Ready tasks of one row that this worker may have, smallest ids first."""
        ready = job.lanes.get((class_id, priority), {})
        return [task for _, task in sorted(ready.items()) if self._sees(worker, task, at_ns)]

    def _sees(self, worker: str, task: StoredTask, at_ns: int) -> bool:
        host = self.members.host_of(worker)
        if not task.avoid_host or task.avoid_host != host:
            return True
        waited_ns = at_ns - task.ready_since_ns
        return waited_ns > AVOID_FOR_LEASES * self.lease_ns or not self.members.others_live(host, at_ns)

    def _offers(self, worker: str, jobs: Sequence[StoredJob], at_ns: int, unfit: Sequence[int]) -> tuple[Offer, ...]:
        rows = []
        for job in jobs:
            for (class_id, priority), ready in job.lanes.items():
                if class_id in unfit:
                    continue
                lane = (-priority, int(job.id[1:]), class_id)
                if self._requirements[class_id].nodes > 1 and not self._gangs.offered(worker, lane):
                    continue
                waiting = sum(1 for task in ready.values() if not task.avoid_host or self._sees(worker, task, at_ns))
                if waiting:
                    rows.append(
                        (
                            -(priority + job.aged(self._shared.now_ns - self._ahead_ns)),
                            int(job.id[1:]),
                            class_id,
                            priority,
                            waiting,
                        )
                    )
        return tuple(
            Offer(
                job=JobId(f"j{number}"),
                class_id=class_id,
                requirement=self._requirements[class_id],
                priority=priority,
                waiting=waiting,
            )
            for _, number, class_id, priority, waiting in sorted(rows)[:OFFERS_MAX]
        )

    def _as_lease(self, task: StoredTask, lease: StoredLease) -> Lease:
        spec = replace(task.spec, requirement=self._requirements[task.class_id])
        number = task.attempts + 1 if task.copy is None else lease.number
        return Lease(job=task.job, task=task.id, fence=lease.fence, attempt=number, spec=spec, past=task.past)

    def _give_back_all(self, worker: str, now_ns: int) -> None:
        for (job_id, number), lease in self._held.pop(worker, {}).items():
            stored = self._jobs[job_id]
            task = stored.tasks[number - 1]
            self._gangs.dissolve(job_id, number)
            if task.copy is not None:
                leave_pair(task, lease, won=False, recorded=False)
                continue
            task.lease = None
            if lease.revoked:
                stored.end_badly(task, TaskState.CANCELLED, lease.reason, now_ns)
            else:
                stored.take_back(task, Returned(past=task.past), task.reason, self._shared.now_ns)
        self._gangs.leave(worker)
        self._copies.forget(worker)


def clean_text(text: str) -> str:
    """Text that UTF-8 can hold, as stores keep it: a byte that was no text is shown as an escape."""
    return text.encode("utf-8", "backslashreplace").decode()
