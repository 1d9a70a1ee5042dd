"""What `erg top` shows, from one look at the counters after another: rates, estimates, order, filter. Pure.

A look costs what there are jobs, workers and leases, never what there are tasks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ergates.cluster.job import JobStatus
from ergates.cluster.node import WorkerStatus
from ergates.taskqueue.eta import Eta, Pace, Rate, estimate, typical_walls
from ergates.units import SECOND_NS, Nanoseconds

BAR_NS = 5 * SECOND_NS
BARS = 60
"""The rate is kept as 60 bars of 5 seconds."""
Order = Literal["newest", "name", "left", "rate"]
ORDERS: tuple[Order, ...] = ("newest", "name", "left", "rate")


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldLook:
    """A task that is out. `since_ns` None: the store does not say for how long."""

    job: str
    task: int
    fence: int
    worker: str
    host: str
    command: str
    since_ns: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """All that was read at one moment.

    Args:
        at_ns: when.
        store: where, for people.
        jobs: newest first, with what people see of their state (jobs.shown_phase).
        workers: those that are of interest; `load` is empty in the embedded store.
        held: the oldest leases first.
        machine: (used, total) bytes of this machine's memory; None for a cluster.
    """

    at_ns: int
    store: str
    jobs: tuple[tuple[JobStatus, str], ...]
    workers: tuple[WorkerStatus, ...]
    held: tuple[HeldLook, ...]
    machine: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRow:
    """One job. `eta` is None while nothing tells; `settled` are done, failed and cancelled tasks."""

    id: str
    name: str
    phase: str
    settled: int
    failed: int
    running: int
    total: int
    rate_per_s: float | None
    eta: Eta | None
    finished: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRow:
    """One task that is out; `at_least`: only so long is known, since this screen saw it first."""

    name: str
    host: str
    for_ns: int | None
    at_least: bool
    command: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One picture. `bars` are tasks settled per second in the last minutes, oldest first, of all jobs."""

    at_ns: int
    store: str
    jobs: tuple[JobRow, ...]
    workers: tuple[WorkerStatus, ...]
    tasks: tuple[TaskRow, ...]
    machine: tuple[int, int] | None
    bars: tuple[float, ...]
    rate_per_s: float | None
    hidden: int


class TopState:
    """Feed it every look; ask for a frame when one is due."""

    def __init__(self) -> None:
        self._paces: dict[str, Pace] = {}
        self._looks: deque[tuple[int, int]] = deque(maxlen=BARS * 5 + 1)
        """(when, tasks settled in all jobs)."""
        self._settled: dict[str, int] = {}
        self._total = 0
        self._first_seen: dict[tuple[str, int, int], int] = {}
        self._look: Look | None = None

    def observe(self, look: Look) -> None:
        """Take a look in."""
        self._look = look
        jobs = {str(status.id): settled_of(status) for status, _ in look.jobs}
        for job, settled in jobs.items():
            before = self._settled.get(job)
            if before is not None:
                self._total += max(0, settled - before)  # a retry takes some back: that is no negative work
            self._paces.setdefault(job, Pace()).looked(look.at_ns, settled)
        self._settled = jobs
        self._paces = {job: pace for job, pace in self._paces.items() if job in jobs}
        self._looks.append((look.at_ns, self._total))
        keys = {(held.job, held.task, held.fence) for held in look.held}
        self._first_seen = {key: self._first_seen.get(key, look.at_ns) for key in keys}

    def frame(self, *, order: Order = "newest", text: str = "", finished: bool = True) -> Frame | None:
        """The picture of the last look; None before the first.

        Args:
            order: of the jobs; unfinished ones always come first.
            text: only jobs, workers and tasks in whose line it occurs.
            finished: show jobs that are.
        """
        look = self._look
        if look is None:
            return None
        rows = [self._job_row(status, phase, look.at_ns) for status, phase in look.jobs]
        shown = [row for row in rows if (finished or not row.finished) and _has(text, row.id, row.name, row.phase)]
        tasks = [self._task_row(held, look.at_ns) for held in look.held]
        bars = self._bars(look.at_ns)
        recent = bars[-2:] if len(self._looks) > 1 else ()
        return Frame(
            at_ns=look.at_ns,
            store=look.store,
            jobs=tuple(sorted(shown, key=lambda row: (row.finished, _rank(row, order)))),
            workers=tuple(w for w in look.workers if _has(text, w.info.host, w.info.id, w.standing, w.load.note)),
            tasks=tuple(row for row in tasks if _has(text, row.name, row.host, row.command)),
            machine=look.machine,
            bars=bars,
            rate_per_s=sum(recent) / len(recent) if recent else None,
            hidden=len(rows) - len(shown),
        )

    def _job_row(self, status: JobStatus, phase: str, at_ns: int) -> JobRow:
        settled = settled_of(status)
        running = status.counts.get("leased", 0)
        finished = status.finished_ns is not None
        rate = None if finished else self._rate(status, settled, at_ns)
        ends = sum(status.outcomes.values())
        eta = None
        if phase in ("running", "waiting") and ends:
            waiting = status.total - settled - running
            eta = estimate(rate, waiting=waiting, running=running, walls=typical_walls(status.wall_ns / ends))
        return JobRow(
            id=str(status.id),
            name=status.name,
            phase=phase,
            settled=settled,
            failed=status.counts.get("failed", 0),
            running=running,
            total=status.total,
            rate_per_s=None if rate is None or rate.span_ns <= 0 else rate.ends / rate.span_ns * 1e9,
            eta=eta,
            finished=finished,
        )

    def _rate(self, status: JobStatus, settled: int, at_ns: int) -> Rate | None:
        """Of late; before there was time to see one, since the job was submitted."""
        seen = self._paces[str(status.id)].rate()
        if seen is not None and seen.span_ns >= BAR_NS:
            return seen
        span_ns = at_ns - status.submitted_ns
        if not settled or span_ns <= 0:
            return None
        return Rate(ends=settled, span_ns=span_ns, basis="all the time since it was submitted")

    def _task_row(self, held: HeldLook, at_ns: int) -> TaskRow:
        first_ns = self._first_seen[held.job, held.task, held.fence]
        since_ns = held.since_ns if held.since_ns is not None else first_ns
        unknown = held.since_ns is None and first_ns == at_ns  # seen for the first time: nothing can be said yet
        return TaskRow(
            name=f"{held.job}/{held.task}",
            host=held.host,
            for_ns=None if unknown else max(0, at_ns - since_ns),
            at_least=held.since_ns is None,
            command=held.command,
        )

    def _bars(self, at_ns: int) -> tuple[float, ...]:
        """Tasks settled per second in each of the last BARS intervals; shorter while there were fewer."""
        looks = list(self._looks)
        span_ns = at_ns - looks[0][0]
        count = min(BARS, -(-span_ns // BAR_NS))
        bars = []
        place = len(looks) - 1
        for number in range(count):
            end_ns, start_ns = at_ns - number * BAR_NS, at_ns - (number + 1) * BAR_NS
            last = place
            while place > 0 and looks[place][0] > start_ns:
                place -= 1
            took_ns = max(1, end_ns - max(start_ns, looks[0][0]))
            bars.append((looks[last][1] - looks[place][1]) / took_ns * 1e9)
        return tuple(reversed(bars))


def settled_of(status: JobStatus) -> int:
    """Tasks that are done, failed or cancelled."""
    return sum(status.counts.get(state, 0) for state in ("done", "failed", "cancelled"))


def of_interest(workers: Sequence[WorkerStatus], forget_after_ns: Nanoseconds) -> tuple[WorkerStatus, ...]:
    """Live and silent ones; those that are gone while they still hold something, or for a short time."""
    return tuple(
        worker
        for worker in workers
        if worker.standing in ("live", "silent") or worker.leases or worker.beat_age_ns < forget_after_ns
    )


def _rank(row: JobRow, order: Order) -> tuple[float | str, int]:
    newest = -int(row.id.removeprefix("j"))
    match order:
        case "name":
            return row.name, newest
        case "left":
            return -(row.total - row.settled), newest
        case "rate":
            return -(row.rate_per_s or 0.0), newest
        case _:
            return 0.0, newest


def _has(text: str, *fields: str) -> bool:
    return not text or any(text.lower() in field.lower() for field in fields)
