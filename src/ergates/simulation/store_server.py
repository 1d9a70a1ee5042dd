"""The store behind a network: takes requests, answers them, and watches that nothing is committed twice.

A request has a number. Repeated because its answer was lost, it is not carried out again: the answer is given again. Else
leases that were granted in a lost answer would belong to a worker that lives, beats, and does not know of them. What is
answered is kept with the data, so a crash of the server loses neither.

A server may also come back without its last moments: as another *run*, with what it knew before. What is addressed to another
run than this one is not carried out. The workers find out so, and tell what they hold (`memory_adopting.py`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, assert_never

from ergates.cluster.attempt import Outcome
from ergates.cluster.node import WorkerInfo
from ergates.cluster.task import JobId, TaskId
from ergates.simulation.memory_adopting import Adopted, Held, adopt, start_again
from ergates.simulation.memory_store import MemoryStore
from ergates.taskqueue.store import Commit, Done, Exchanged, Lease, Want
from ergates.units import Nanoseconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Register:
    info: WorkerInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    commits: tuple[Commit, ...]
    wants: tuple[Want, ...]
    unfit: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reap:
    """Which leases belong to workers that are gone?"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leave:
    """A clean good-bye."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Adopt:
    """What a worker holds and did lately, for a server that may have forgotten.

    Args:
        registered: number of the request by which it registered.
        number: of the question it asks next, which may have been carried out.
    """

    info: WorkerInfo
    registered: int
    number: int
    held: tuple[Held, ...]
    commits: tuple[Commit, ...]


Call = Register | Exchange | Reap | Leave | Adopt


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """`sender` is the target to answer, `worker` the identity of its present life, `number` counts its requests.

    `run` is the server process it is for.
    """

    sender: str
    worker: str
    number: int
    call: Call
    run: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherRun:
    """Nothing was carried out: the server process that was asked is gone, this one answers."""

    run: int


Result = Exchanged | tuple[Lease, ...] | Adopted | OtherRun | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    worker: str
    number: int
    result: Result


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The server's only action."""

    to: str
    answer: Answer


class CommitWitness:
    """Believes nobody: keeps its own record of who was granted what, and compares every accepted commit with it.

    This is where "no task commits twice" is checked, independently of the store's own books.
    """

    def __init__(self) -> None:
        self.granted: dict[tuple[JobId, TaskId], int] = {}
        self.ended: set[tuple[JobId, TaskId, int]] = set()
        self.done: set[tuple[JobId, TaskId]] = set()
        self.ever_granted: set[tuple[JobId, TaskId, int]] = set()
        """Also what a server granted that forgot it."""

    def forget(self, before: CommitWitness) -> None:
        """The server is as it was then; that it granted what it granted stays true."""
        self.granted, self.ended, self.done = dict(before.granted), set(before.ended), set(before.done)

    def saw_put_back(self, keys: tuple[tuple[JobId, TaskId, int], ...]) -> None:
        """Raises AssertionError when leases stand again that never were, or of tasks that are done."""
        for job, task, fence in keys:
            assert (job, task, fence) in self.ever_granted, f"{(job, task, fence)} was never granted"
            assert (job, task, fence) not in self.ended, f"{(job, task, fence)} stands again, and had ended"
            assert (job, task) not in self.done, f"{(job, task)} is leased again, and was done"
            self.granted[job, task] = fence

    def saw(self, commits: tuple[Commit, ...], answer: Exchanged) -> None:
        """Raises AssertionError when an exchange broke the law."""
        refused = list(answer.refused)
        accepted = []
        for commit in reversed(commits):  # of two commits of one lease in one call the later one is refused
            name = (commit.job, commit.task, commit.fence)
            if refused and refused[-1] == name:
                refused.pop()
            else:
                accepted.append(commit)
        assert not refused, f"{refused} were refused, but nobody had committed them"
        for commit in reversed(accepted):
            if commit.seat is not None:  # one member of a gang; its leader commits the task
                continue
            name = (commit.job, commit.task, commit.fence)
            task = (commit.job, commit.task)
            assert task not in self.done, f"{task} was committed after it was done"
            assert name not in self.ended, f"{name} was committed twice"
            assert self.granted.get(task) == commit.fence, (
                f"{name} was committed, but {self.granted.get(task)} holds it"
            )
            self.ended.add(name)
            if isinstance(commit.verdict, Done):
                self.done.add(task)
        for lease in answer.leases:
            task = (lease.job, lease.task)
            before = self.granted.get(task, 0)
            member = lease.gang is not None and lease.fence == before
            assert lease.fence > before or member, f"{task} was leased under fence {lease.fence} after {before}"
            assert task not in self.done, f"{task} was leased after it was done"
            self.granted[task] = lease.fence
            self.ever_granted.add((lease.job, lease.task, lease.fence))


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that a server knew at one moment."""

    store: MemoryStore
    answers: dict[str, Answer]
    registered: dict[str, int]
    witness: CommitWitness


class StoreServer:
    """A target around a store.

    Args:
        store: where the data are; outlives the server's crashes.
        changed: called after every call.
    """

    def __init__(self, store: MemoryStore, changed: Callable[[], None]) -> None:
        self.store, self._changed = store, changed
        self.witness = CommitWitness()
        self.run = 0
        self._answers: dict[str, Answer] = {}
        self._adopted: dict[str, Answer] = {}
        self._registered: dict[str, int] = {}

    def snapshot(self) -> Snapshot:
        """To start again with."""
        witness = CommitWitness()
        witness.forget(self.witness)
        return Snapshot(deepcopy(self.store), dict(self._answers), dict(self._registered), witness)

    def start_again(self, known: Snapshot | None, now_ns: Nanoseconds) -> None:
        """Another process, with what was known then (None: all). Workers are to find out by themselves."""
        self.run += 1
        self._adopted.clear()
        if known is not None:
            vars(self.store).update(vars(known.store))
            self._answers, self._registered = known.answers, known.registered
            self.witness.forget(known.witness)
        start_again(self.store, self.run, now_ns)
        self._changed()

    def check_ledger(self, job: JobId) -> None:
        """Raises AssertionError unless the ledger is given each attempt once, and one success of each task that is done."""
        rows = [(task, attempt) for _, task, attempt in self.store.attempts(job)]
        twice = [name for name, count in Counter((task, made.number) for task, made in rows).items() if count > 1]
        assert not twice, f"attempts that are in the ledger twice: {twice}"
        succeeded = Counter(task for task, made in rows if made.outcome is Outcome.SUCCEEDED)
        done = {task for of_job, task in self.witness.done if of_job == job}
        assert succeeded == Counter(done), "the ledger and the store disagree on what is done"

    def handle(self, event: Any, now_ns: Nanoseconds) -> Iterator[Reply]:
        """One request."""
        request: Request = event
        if request.run != self.run:
            answer = Answer(worker=request.worker, number=request.number, result=OtherRun(run=self.run))
            yield Reply(to=request.sender, answer=answer)
            return
        if isinstance(request.call, Adopt):
            yield from self._adopt(request, request.call, now_ns)
            return
        last = self._answers.get(request.worker)
        if last is not None and request.number < last.number:
            return  # a copy that the network kept back: its sender has gone on long ago
        if last is None or request.number > last.number:
            last = Answer(
                worker=request.worker,
                number=request.number,
                result=self._carry_out(request.worker, request.call, now_ns),
            )
            if isinstance(request.call, Register):
                self._registered[request.worker] = request.number
            self._answers[request.worker] = last
            self._changed()
        yield Reply(to=request.sender, answer=last)

    def _adopt(self, request: Request, call: Adopt, now_ns: Nanoseconds) -> Iterator[Reply]:
        """Numbered for itself: the question that waits for it has a smaller number."""
        worker, last = request.worker, self._adopted.get(request.worker)
        if last is not None and request.number < last.number:
            return
        if last is None or request.number > last.number:
            if self._registered.get(worker, 0) < call.registered:  # that was forgotten
                self.store.register(call.info, now_ns)
                self._registered[worker] = call.registered
            answered = self._answers.get(worker)
            carried_out = answered is not None and answered.number >= call.number
            made = Adopted()
            if self.store.members.beat(worker, now_ns):
                made = adopt(self.store, worker, call.held, call.commits, now_ns, carried_out=carried_out)
                self.witness.saw_put_back(made.put_back)
                self.witness.saw(call.commits, Exchanged(refused=made.refused))
            last = self._adopted[worker] = Answer(worker=worker, number=request.number, result=made)
            self._changed()
        yield Reply(to=request.sender, answer=last)

    def _carry_out(self, worker: str, call: Call, now_ns: Nanoseconds) -> Result:
        match call:
            case Register(info=info):
                self.store.register(info, now_ns)
                return None
            case Exchange(commits=commits, wants=wants, unfit=unfit):
                answer = self.store.exchange(worker, commits, wants, now_ns, unfit=unfit)
                self.witness.saw(commits, answer)
                return answer
            case Reap():
                return self.store.expired(now_ns)
            case Leave():
                self.store.leave(worker, now_ns)
                return None
            case Adopt():
                raise TypeError("told apart before")
            case _:
                assert_never(call)
