"""The store behind a network: takes requests, answers them, and watches that nothing is committed twice.

A request has a number. Repeated because its answer was lost, it is not carried out again: the answer is given again. Else
leases that were granted in a lost answer would belong to a worker that lives, beats, and does not know of them. What is
answered is kept with the data, so a crash of the server loses neither.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, assert_never

from ergates.cluster.node import WorkerInfo
from ergates.cluster.task import JobId, TaskId
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


Call = Register | Exchange | Reap | Leave


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """`sender` is the target to answer, `worker` the identity of its present life, `number` counts its requests."""

    sender: str
    worker: str
    number: int
    call: Call


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    worker: str
    number: int
    result: Exchanged | tuple[Lease, ...] | None


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


class StoreServer:
    """A target around a store.

    Args:
        store: where the data are; outlives the server's crashes.
        changed: called after every call.
    """

    def __init__(self, store: MemoryStore, changed: Callable[[], None]) -> None:
        self.store, self._changed = store, changed
        self.witness = CommitWitness()
        self._answers: dict[str, Answer] = {}

    def handle(self, event: Any, now_ns: Nanoseconds) -> Iterator[Reply]:
        """One request."""
        request: Request = event
        last = self._answers.get(request.worker)
        if last is not None and request.number < last.number:
            return  # a copy that the network kept back: its sender has gone on long ago
        if last is None or request.number > last.number:
            last = Answer(
                worker=request.worker,
                number=request.number,
                result=self._carry_out(request.worker, request.call, now_ns),
            )
            self._answers[request.worker] = last
            self._changed()
        yield Reply(to=request.sender, answer=last)

    def _carry_out(self, worker: str, call: Call, now_ns: Nanoseconds) -> Exchanged | tuple[Lease, ...] | None:
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
            case _:
                assert_never(call)
