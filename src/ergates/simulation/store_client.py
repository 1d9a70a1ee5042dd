"""A simulated worker's client of the store: one question at a time, asked again until it is answered; and what a worker holds and
did lately, so that it can say so to a server that has forgotten. The same rules as in drivers/stores/redis/exchanging.py.

A server that was started again is another *run*, and takes nothing that was addressed to the one before. Then the
worker first tells what it holds and offers its last commits again, and asks its question after that.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace

from ergates.cluster.node import WorkerInfo
from ergates.simulation.memory_adopting import Adopted, Held, Key
from ergates.simulation.store_server import Adopt, Answer, Call, Exchange, Leave, OtherRun, Register, Request
from ergates.taskqueue.store import Commit, Exchanged, Lease, Returned

OFFERED_AGAIN_NS = 10_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """The answer to a question."""

    call: Call
    result: Any


class StoreClient:
    """Of one life of a worker. `name` is what the network calls it."""

    def __init__(self, name: str, info: WorkerInfo) -> None:
        self._name, self._info = name, info
        self._number = self._registered = 0
        self._run = self._settled_with = 0
        self._asked: Request | None = None
        self._waits: Request | None = None
        """Asked when the server knows what we hold."""
        self._held: dict[Key, Lease] = {}
        self._led: set[Key] = set()
        """Gangs whose leader has ended here."""
        self._revoked: set[Key] = set()
        """Leases that a server which forgot them gave to somebody else."""
        self._recent: deque[tuple[int, Commit, int]] = deque()
        """Accepted commits: when, and the attempt it was (0: none)."""

    @property
    def busy(self) -> bool:
        """Whether a question is open."""
        return self._asked is not None

    def ask(self, call: Call) -> Request:
        """A new question."""
        self._number += 1
        return self._address(Request(sender=self._name, worker=self._info.id, number=self._number, call=call))

    def overdue(self, number: int) -> Request | None:
        """The same question again, if it is still open."""
        return self._asked if self._asked is not None and self._asked.number == number else None

    def heard(self, answer: Answer, now_ns: int) -> Heard | Request | None:
        """An answer, a question that has to be asked next, or nothing: it came late, or is a copy."""
        asked = self._asked
        if asked is None or answer.worker != asked.worker or answer.number != asked.number:
            return None
        result = answer.result
        if isinstance(result, OtherRun):
            if result.run <= self._run:
                return None
            self._run = result.run
            return self._address(self._waits or asked)
        if isinstance(result, Adopted):
            self._settled_with, waits = asked.run, self._waits
            self._revoked |= set(result.taken) & self._held.keys()
            self._recent = deque(
                (now_ns, commit, number) for _, commit, number in self._recent
            )  # it may lose them once more
            assert waits is not None
            return self._address(waits)
        self._asked = None
        if isinstance(asked.call, Register):
            self._forget_all()
            self._settled_with, self._registered = asked.run, asked.number
        elif isinstance(asked.call, Exchange):
            assert isinstance(result, Exchanged)
            result = self._exchanged(asked.call, result, now_ns)
        return Heard(call=asked.call, result=result)

    def _address(self, request: Request) -> Request:
        """To the server that runs now; one that may have forgotten hears first what we hold."""
        if isinstance(request.call, Exchange | Leave) and self._settled_with != self._run:
            self._waits = request
            self._number += 1
            request = Request(sender=self._name, worker=self._info.id, number=self._number, call=self._adopt(request))
        else:
            self._waits = None
        self._asked = Request(
            sender=request.sender, worker=request.worker, number=request.number, call=request.call, run=self._run
        )
        return self._asked

    def _adopt(self, waits: Request) -> Adopt:
        commits = waits.call.commits if isinstance(waits.call, Exchange) else ()
        pending = {_key(commit) for commit in commits}
        held = [
            Held(key=key, pending=key in pending, member=lease.gang is not None) for key, lease in self._held.items()
        ]
        held += [Held(key=_key(commit), attempt=number) for _, commit, number in self._recent if number]
        return Adopt(
            info=self._info,
            registered=self._registered,
            number=waits.number,
            held=tuple(held),
            commits=tuple(commit for _, commit, _ in self._recent),
        )

    def _exchanged(self, call: Exchange, answer: Exchanged, now_ns: int) -> Exchanged:
        if answer.stale:
            self._forget_all()
            return answer
        self._note(call, answer, now_ns)
        gone = self._revoked & self._held.keys()
        led = gone & self._led
        for key in led:
            del self._held[key]
        self._led -= led
        return replace(
            answer,
            revoked=tuple(sorted({*answer.revoked, *(gone - led)})),
            refused=(*answer.refused, *sorted(led)),
        )

    def _note(self, call: Exchange, answer: Exchanged, now_ns: int) -> None:
        refused = set(answer.refused)
        for commit in call.commits:
            key = _key(commit)
            if commit.seat == 0 and key in self._held and key not in refused:
                lease: Lease | None = self._held[key]
                self._led.add(key)
            else:
                lease = self._held.pop(key, None)
                self._led.discard(key)
            if lease is not None and key not in refused:
                number = 0 if lease.gang is not None or commit.attempt is None else commit.attempt.number
                self._recent.append((now_ns, commit, number))
            elif lease is not None and commit.seat is None:
                returned = replace(commit, attempt=None, verdict=Returned(past=lease.past))
                self._recent.append((now_ns, returned, 0))
        while self._recent and self._recent[0][0] < now_ns - OFFERED_AGAIN_NS:
            self._recent.popleft()
        for lease in answer.leases:
            self._held[lease.job, lease.task, lease.fence] = lease

    def _forget_all(self) -> None:
        self._held.clear()
        self._led.clear()
        self._revoked.clear()
        self._recent.clear()


def _key(commit: Commit) -> Key:
    return commit.job, commit.task, commit.fence
