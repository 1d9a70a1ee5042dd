"""The store as three small protocols, all batched. SQLite and Redis pass one contract suite (tests/contract/).

The one hot call is `Exchanger.exchange`: it commits finished attempts exactly once and leases new tasks, in one
transaction. A lease belongs to a worker's liveness, never to a task's length; a fence makes a stale commit a no-op.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

from msgspec import Struct
from msgspec.structs import replace

from ergates.cluster.attempt import Attempt, Kept
from ergates.cluster.gang import GangSeat
from ergates.cluster.job import JobSpec, JobStatus
from ergates.cluster.node import WorkerInfo, WorkerLoad, WorkerOrders, WorkerStatus
from ergates.cluster.task import JobId, Requirement, TaskId, TaskSpec
from ergates.cluster.task_state import TaskState
from ergates.units import Nanoseconds


class PastFailures(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How often a task came back so far, by cause, and what the last attempt used."""

    failures: int = 0
    memory: int = 0
    losses: int = 0
    timeouts: int = 0
    last_peak_bytes: int = 0


class Lease(Struct, frozen=True, kw_only=True):
    """One worker's claim on one task. `attempt` is the number this try will have; `fence` makes it unforgeable.

    `host` is where its worker is, for those who find the worker dead (`Exchanger.expired`); empty when it was just leased.
    `gang` is set when the task runs on several nodes at once: then this is one member's claim, and all share the fence.
    `copy_of_host` is set when it is a second lease of a task: where the other attempt runs.
    """

    job: JobId
    task: TaskId
    fence: int
    attempt: int
    spec: TaskSpec
    past: PastFailures
    host: str = ""
    gang: GangSeat | None = None
    copy_of_host: str = ""


class Done(Struct, frozen=True, tag=True):
    """The task is finished."""


class Failed(Struct, frozen=True, tag=True):
    """The task is failed for good, with a reason in words."""

    reason: str


class Returned(Struct, frozen=True, tag=True):
    """The task goes back: not before a time, perhaps with a larger requirement, perhaps preferring another node.

    `past` are the counts it goes back with.
    """

    past: PastFailures
    not_before_ns: Nanoseconds = Nanoseconds(0)
    requirement: Requirement | None = None
    avoid_host: str = ""


class Cancelled(Struct, frozen=True, tag=True):
    """The user cancelled it while it ran."""

    reason: str = ""


Verdict = Done | Failed | Returned | Cancelled


class Commit(Struct, frozen=True, kw_only=True):
    """End of one lease: the attempt for the ledger and what becomes of the task.

    `attempt` None only for a lease that is handed back without having been tried (no ledger row, no count). `kept` is
    what a cluster's store carries back; the embedded one needs none.

    `seat` is the rank of a member of a gang: then only this member has ended, the store remembers it for the gang's leader,
    and the task stays leased. Without it the leader ends the whole gang.
    """

    job: JobId
    task: TaskId
    fence: int
    attempt: Attempt | None
    verdict: Verdict
    kept: Kept | None = None
    seat: int | None = None


class MemberEnd(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How one member of a gang ended, as its own worker judged it."""

    attempt: Attempt
    verdict: Verdict
    kept: Kept | None = None


CANCELLED_BY_USER = -1
"""As the cause of a gang's end."""


class GangEnds(Struct, frozen=True, kw_only=True):
    """All members of a gang have ended; its leader writes the attempt down.

    Args:
        cause: rank of the first that ended badly, CANCELLED_BY_USER, or None when none did.
        ends: in the order of the ranks; None for one that never started, or was handed back.
    """

    job: JobId
    task: TaskId
    fence: int
    cause: int | None
    ends: tuple[MemberEnd | None, ...]


class Seat(Struct, frozen=True, kw_only=True):
    """A worker's promise of room for one member of the gang that assembles; not a lease yet.

    Args:
        taken: seats taken so far, of `size`.
        since_ns: when assembling it began, by the store's clock.
    """

    job: JobId
    class_id: int
    priority: int
    taken: int
    size: int
    since_ns: Nanoseconds = Nanoseconds(0)


class Offer(Struct, frozen=True, kw_only=True):
    """What waits: `waiting` ready tasks of one job, resource class and priority. Largest priority first, at most 64 rows."""

    job: JobId
    class_id: int
    requirement: Requirement
    priority: int
    waiting: int


class Want(Struct, frozen=True, kw_only=True):
    """A worker asks for up to `count` tasks of one offered row.

    `copy_of`, (task, fence), asks for a second lease of a task that another worker runs, under a fence of its own; `count` is 0
    then. It is given while that lease stands, is the only one and was not cancelled, the task is no gang and its job has
    `copies`. The first of the two to commit success wins: the other is revoked, and its commit refused. While one of them
    goes on, the end of the other is recorded if it was tried, and nothing becomes of the task.
    """

    job: JobId
    class_id: int
    priority: int
    count: int
    copy_of: tuple[TaskId, int] | None = None


class Exchanged(Struct, frozen=True, kw_only=True):
    """Answer of the hot call.

    Args:
        leases: in the order of the wants, then of the task ids.
        refused: (job, task, fence) of commits that were no-ops because the lease was no longer ours.
        offers: what waits now, after these leases.
        revoked: (job, task, fence) of our leases that were cancelled by the user, or whose task another attempt has finished:
            end them.
        next_ready_ns: earliest time a delayed task becomes ready, None if none waits.
        open_tasks: tasks of the jobs asked about that are not in a terminal state.
        stale: this worker's lease had expired; it must end its tasks and register again.
        orders: what people told this worker, when there is something newer than the version it named.
        seat: the seat of a gang that this worker holds now; its room is to be kept free.
        gang_ends: gangs this worker leads whose members have all ended; named until it has committed them.
    """

    leases: tuple[Lease, ...] = ()
    refused: tuple[tuple[JobId, TaskId, int], ...] = ()
    offers: tuple[Offer, ...] = ()
    revoked: tuple[tuple[JobId, TaskId, int], ...] = ()
    next_ready_ns: Nanoseconds | None = None
    open_tasks: int = 0
    stale: bool = False
    orders: WorkerOrders | None = None
    seat: Seat | None = None
    gang_ends: tuple[GangEnds, ...] = ()


class Submitted(Struct, frozen=True, kw_only=True):
    """`resumed`: an unfinished job with this key was there; nothing was added, delayed tasks and dead leases are kept."""

    id: JobId
    total: int
    resumed: bool
    done: int


class TaskView(Struct, frozen=True, kw_only=True):
    """A task as readers see it."""

    job: JobId
    task: TaskId
    state: TaskState
    spec: TaskSpec
    past: PastFailures
    attempts: int
    not_before_ns: Nanoseconds
    reason: str
    worker: str
    blocked_by: int


class PastPeak(Struct, frozen=True, kw_only=True):
    """One remembered peak of a command shape: what the memory predictor keeps between runs.

    `input_bytes` is -1 when the size of the input was not known. `host` is where it ran; a store of one machine does not keep it.
    """

    shape: str
    peak_bytes: int
    input_bytes: int
    wall_ns: int
    at_ns: int
    host: str = ""


class Submitter(Protocol):
    """Puts jobs in and changes what waits."""

    def submit(self, job: JobSpec, tasks: Iterable[TaskSpec], now_ns: Nanoseconds, *, again: bool = False) -> Submitted:
        """Add a job atomically; or, if an unfinished job with this key exists, resume it and read no task.

        A resumed job takes over this `max_failed_tasks`.

        A finished job with this key: `again` True adds a new one, False returns the finished one (`resumed` False,
        `done == total`... nothing added).
        """
        ...

    def set_phase(self, job: JobId, phase: str, now_ns: Nanoseconds) -> None:
        """`paused`, `active` or `cancelled`; cancelled ends waiting tasks and revokes leases."""
        ...

    def cancel(self, job: JobId, tasks: Sequence[tuple[int, int]], reason: str, now_ns: Nanoseconds) -> int:
        """Cancel tasks in inclusive id ranges; leased ones are revoked at their worker's next exchange. Returns how many."""
        ...

    def retry(self, job: JobId, tasks: Sequence[tuple[int, int]], now_ns: Nanoseconds) -> int:
        """Failed and cancelled tasks of these ranges become ready (or blocked) again, counts of failures cleared."""
        ...


class Exchanger(Protocol):
    """What a worker needs."""

    def register(self, worker: WorkerInfo, now_ns: Nanoseconds) -> None:
        """Announce a worker; registering again under the same id starts a new epoch without leases."""
        ...

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
        """Commit, beat and lease in one transaction. `jobs` restricts offers and `open_tasks`; empty means all.

        `unfit` are class ids this worker cannot serve: not offered to it, so that they hide nothing else; a seat in a gang of
        such a class is given up. Numbers of roles may be among them (gang_roles.py): it takes no seat of such a role. A want
        of a gang's class asks for a seat: see docs/gangs.md. `load` is for people; `orders_seen` is the version of the orders
        it obeys already.

        Raises:
            StoreFullError: nothing was changed; offer the same commits again.
            StoreUnavailableError: whether it was done is not known; the driver finds out before the next exchange.
        """
        ...

    def expired(self, now_ns: Nanoseconds, live_boot_id: str = "") -> tuple[Lease, ...]:
        """Leases of workers whose beat is older than the lease time, or that are provably dead on this host.

        The caller judges each (taskqueue/retry.py) and commits it under its own fence as `lost`; whoever comes
        first wins.
        """
        ...

    def leave(self, worker: str, now_ns: Nanoseconds) -> None:
        """A clean good-bye; leases still held are returned unharmed."""
        ...


class Roster(Protocol):
    """The workers, as people see and direct them."""

    def workers(self) -> tuple[WorkerStatus, ...]:
        """All that are live, silent or lately gone; the longest registered first."""
        ...

    def order(self, worker: str, orders: WorkerOrders) -> WorkerOrders:
        """Merge into what was ordered before; returns the result with its new version.

        Raises:
            UsageError: there is no such worker.
        """
        ...


class HeldTask(Struct, frozen=True, kw_only=True):
    """A task that a worker holds: it runs, or is about to. `since_ns`: when it was leased, None where the store keeps no time."""

    job: JobId
    task: TaskId
    worker: str
    fence: int
    since_ns: Nanoseconds | None = None


class Holdings(Protocol):
    """What is out now, for people."""

    def held(self, most: int) -> tuple[HeldTask, ...]:
        """The oldest leases first, at most `most`. Reads leases, never tasks."""
        ...


class Bell(Protocol):
    """Rings when there may be something for one worker: a task became ready, a lease was revoked, orders came.

    Only a store of many machines has one; elsewhere a worker looks every now and then. May ring for nothing.
    """

    def fileno(self) -> int:
        """Readable while it rings: for `select`."""
        ...

    def clear(self) -> None:
        """Stop ringing; call it before the exchange that looks."""
        ...

    def close(self) -> None: ...


class Board(Protocol):
    """What the members of one gang tell each other, through the store: every member reads all messages in one order.

    Only a store of many machines has one. It goes away by itself an hour after its last message.
    """

    def say(self, gang: str, message: bytes) -> None:
        """Add a message; `gang` is ERG_GANG_ID of an attempt."""
        ...

    def hear(self, gang: str, after: str, wait_ns: Nanoseconds) -> tuple[tuple[str, bytes], ...]:
        """Messages (place, message) behind the place `after` ("" from the first), waiting up to `wait_ns` for one."""
        ...


class Changes(Struct, frozen=True, kw_only=True):
    """What `edit` changes; None leaves as it is. A `time_limit_ns` of 0 takes the limit away; `labels` are all there are."""

    priority: int | None = None
    requirement: Requirement | None = None
    time_limit_ns: Nanoseconds | None = None
    retries: int | None = None
    command: str | tuple[str, ...] | None = None
    labels: dict[str, str] | None = None


def edited(spec: TaskSpec, changes: Changes) -> TaskSpec:
    """The task with these changes."""
    new: dict[str, Any] = {
        name: value for name in changes.__struct_fields__ if (value := getattr(changes, name)) is not None
    }
    if changes.time_limit_ns == 0:
        new["time_limit_ns"] = None
    return replace(spec, **new) if new else spec


class Editor(Protocol):
    """Changing what waits, and adding to open jobs."""

    def extend(self, job: JobId, tasks: Iterable[TaskSpec], now_ns: Nanoseconds, *, first: TaskId | None = None) -> int:
        """Add tasks to an open job, atomically; returns how many tasks it has now.

        `first` is the number the first of them must get: who names new tasks in `after` has to know it.

        `after` may name tasks that are there already: those that are done hold nothing back, those that failed or were
        cancelled cancel what comes after them at once.

        Raises:
            UsageError: the job is closed or was cancelled, or the tasks wait for what cannot be.
            JobGrewError: the first one would get another number than `first`; nothing was done.
        """
        ...

    def close_job(self, job: JobId, now_ns: Nanoseconds) -> None:
        """No more tasks will come; a closed job stays closed. With nothing left to do it is finished now.

        Cancelling a job closes it, too.
        """
        ...

    def edit(
        self, job: JobId, changes: Sequence[tuple[TaskId, Changes]], now_ns: Nanoseconds, *, rerun: bool = False
    ) -> tuple[TaskId, ...]:
        """Change tasks that nobody runs: waiting, failed or cancelled ones. What waits keeps waiting, with its place changed.

        With `rerun` finished ones (done, failed, cancelled) become ready or blocked again, their past cleared, together
        with those that were cancelled only because of them; what waited and comes after them is blocked again. One that
        comes after a task that stays failed or cancelled cannot run, and is left alone. The ledger keeps old attempts.

        Returns those that were changed, ascending: one that is leased, done (without `rerun`) or unknown is left alone.
        Of several changes of one task the last counts.
        """
        ...


class Reader(Protocol):
    """What people ask. `status` reads counters only."""

    def jobs(self) -> tuple[JobStatus, ...]:
        """All jobs, newest first."""
        ...

    def spec(self, job: JobId) -> JobSpec:
        """What was submitted. Raises UnknownJobError."""
        ...

    def status(self, job: JobId) -> JobStatus:
        """Raises UnknownJobError."""
        ...

    def tasks(
        self,
        job: JobId,
        *,
        states: Sequence[TaskState] = (),
        ids: Sequence[tuple[int, int]] = (),
        limit: int | None = None,
    ) -> Iterator[TaskView]:
        """In the order of ids."""
        ...

    def attempts(
        self, job: JobId, *, ids: Sequence[tuple[int, int]] = (), since_row: int = 0
    ) -> Iterator[tuple[int, TaskId, Attempt]]:
        """(row, task, attempt) in the order they were committed; `since_row` continues a listing."""
        ...


class Assembling(Protocol):
    """Only a store of many machines has it."""

    def assembling(self) -> Seat | None:
        """The gang whose seats are being taken now, for people; `taken` may be 0. None: none waits, or none could start."""
        ...


class Waiting(Protocol):
    """What waits, for people who ask why (`erg explain JOB`)."""

    def waiting(self, job: JobId) -> tuple[Offer, ...]:
        """Ready tasks of one job by class and priority, largest priority first, whatever its phase: counters, no scan.

        Raises:
            UnknownJobError: there is no such job.
        """
        ...


class History(Protocol):
    """What the memory predictor remembers between runs; the newest 256 peaks of each shape are kept."""

    def remember_peaks(self, peaks: Sequence[PastPeak]) -> None: ...

    def recall_peaks(self) -> tuple[PastPeak, ...]:
        """Oldest first within a shape."""
        ...
