"""Members of one run in a made-up world: one board, delays of its messages, programs that start, show and end as told."""

from __future__ import annotations

import heapq
import itertools
import random
from dataclasses import dataclass
from typing import Any

from ergates.cluster.gang import role_of
from ergates.experiment.conduct import Conduct
from ergates.experiment.conduct_state import (
    Began,
    Event,
    Exited,
    Finish,
    Heard,
    KillProgram,
    NotStarted,
    Say,
    SendSignal,
    ShowedReady,
    Started,
    StartProgram,
    StopProgram,
    WakeAt,
    Woke,
    WriteDown,
    WroteDown,
)
from ergates.experiment.messages import Message
from ergates.experiment.run import RoleSeats, Run, RunOrder, Seated
from ergates.experiment.spec import Program
from ergates.units import SECOND_NS, Nanoseconds

RUN = Run(number=1, point=(), repetition=1, seed=0)


def order_for(roles: dict[str, int], *programs: Program, **fields: Any) -> RunOrder:
    seats = tuple(RoleSeats(role=role, group="g", count=count) for role, count in roles.items())
    return RunOrder(experiment="e", run=RUN, roles=seats, programs=programs, **fields)


def seat(order: RunOrder, rank: int) -> Seated:
    roles = tuple((each.role, each.count) for each in order.roles)
    role = role_of(roles, rank)
    index = sum(role_of(roles, each) == role for each in range(rank))
    return Seated(rank=rank, role=role, index=index, host=f"h{rank}", address=f"10.0.0.{rank}")


@dataclass(frozen=True)
class Fate:
    """What a program does on one member: how long until it shows that it is ready (None: never), until it ends by itself (None:
    never), its exit code, whether a stop signal is heeded, whether it starts at all."""

    ready_ns: int | None = 0
    ends_ns: int | None = SECOND_NS
    exit_code: int = 0
    heeds: bool = True
    starts: bool = True


class World:
    """Runs a run to its end.

    Args:
        order: of the run.
        fates: of (rank, program).
        seed: of delays.
        time_limit_ns: of the run.
    """

    def __init__(
        self, order: RunOrder, fates: dict[tuple[int, str], Fate], seed: int = 0, time_limit_ns: int | None = None
    ) -> None:
        self.size = sum(each.count for each in order.roles)
        limit = None if time_limit_ns is None else Nanoseconds(time_limit_ns)
        self.members = [Conduct(order, seat(order, rank), limit) for rank in range(self.size)]
        self.order, self._fates = order, fates
        self._random = random.Random(f"{seed}/delays")
        self._heap: list[tuple[int, int, int, Event]] = []
        self._sequence = itertools.count()
        self.now_ns = 0
        self.board: list[tuple[int, Message]] = []
        self._heard_until = [0] * self.size  # moments: a member hears in order
        self._wake = [-1] * self.size
        self.running: dict[tuple[int, str], int] = {}  # when started
        self.started: dict[tuple[int, str], int] = {}
        self.ended: dict[tuple[int, str], int] = {}
        self.shown: dict[tuple[int, str], int] = {}
        self.killed: set[tuple[int, str]] = set()
        self.finished: dict[int, Finish] = {}
        self.wrote: set[int] = set()

    def run(self, most_ns: int = 10_000 * SECOND_NS) -> None:
        for rank in range(self.size):
            self._later(rank, self._random.randrange(SECOND_NS), Began())
        while self._heap and len(self.finished) < self.size:
            self.now_ns, _, rank, event = heapq.heappop(self._heap)
            assert self.now_ns < most_ns, "it never ends"
            if isinstance(event, Woke) and self._wake[rank] != self.now_ns:
                continue  # another moment was named since
            if isinstance(event, Exited) and (rank, event.program) not in self.running:
                continue  # it was ended before
            if isinstance(event, ShowedReady):
                self.shown.setdefault((rank, event.program), self.now_ns)
            self._happens(rank, event)
        assert len(self.finished) == self.size, (
            f"waits for nothing: {sorted(self.finished)} of {self.size} have finished"
        )

    def _later(self, rank: int, delay_ns: int, event: Event) -> None:
        heapq.heappush(self._heap, (self.now_ns + delay_ns, next(self._sequence), rank, event))

    def _happens(self, rank: int, event: Event) -> None:
        if rank in self.finished:
            return
        if isinstance(event, Exited):
            del self.running[rank, event.program]
            self.ended[rank, event.program] = self.now_ns
        self._wake[rank] = -1
        for action in self.members[rank].handle(event, Nanoseconds(self.now_ns)):
            self._do(rank, action)

    def _do(self, rank: int, action: Any) -> None:
        match action:
            case Say(message=message):
                self.board.append((rank, message))
                for each in range(self.size):
                    at_ns = max(self._heard_until[each], self.now_ns + self._random.randrange(SECOND_NS // 5))
                    self._heard_until[each] = at_ns
                    self._later(each, at_ns - self.now_ns, Heard(rank=rank, message=message))
            case StartProgram(program=name):
                self._start(rank, name)
            case StopProgram(program=name):
                if self._fates[rank, name].heeds:
                    self._later(rank, self._random.randrange(SECOND_NS), Exited(program=name, signal="TERM"))
            case KillProgram(program=name):
                self.killed.add((rank, name))
                self._later(rank, 1, Exited(program=name, signal="KILL"))
            case SendSignal():
                pass
            case WakeAt(at_ns=at_ns):
                self._wake[rank] = max(at_ns, self.now_ns)
                self._later(rank, self._wake[rank] - self.now_ns, Woke())
            case WriteDown():
                assert not [place for place in self.running if place[0] == rank], "nothing runs when it is written down"
                self.wrote.add(rank)
                self._later(rank, self._random.randrange(SECOND_NS), WroteDown())
            case Finish():
                self.finished[rank] = action

    def _start(self, rank: int, name: str) -> None:
        fate = self._fates[rank, name]
        if not fate.starts:
            self._later(rank, 0, NotStarted(program=name, problem="command not found: x"))
            return
        self.started[rank, name] = self.running[rank, name] = self.now_ns
        self._later(rank, 0, Started(program=name))
        if fate.ready_ns is not None and self.members[rank].parts[name].program.ready is not None:
            self._later(rank, fate.ready_ns, ShowedReady(program=name))
        if fate.ends_ns is not None:
            self._later(rank, fate.ends_ns, Exited(program=name, exit_code=fate.exit_code))
