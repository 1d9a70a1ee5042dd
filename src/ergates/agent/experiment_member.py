"""One member of a run: a call in a warm interpreter of its worker that starts, watches and ends this host's programs.

It hears what happens (messages of the others, ends of programs, readiness, time) and does what experiment/conduct.py answers.
What it started does not outlive it: it adopts orphans and sweeps them at its end; should it be killed itself, its worker's
launcher does the same from outside.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import time
from collections import deque
from collections.abc import Mapping
from typing import Any, assert_never

import msgspec

from ergates.agent.descendants import Brood
from ergates.agent.host_facts import host_facts
from ergates.agent.kept_files import keep_files
from ergates.agent.member_board import LoneBoard, SharedBoard
from ergates.agent.member_place import MemberPlace, place_of
from ergates.agent.program_run import ProgramRun
from ergates.agent.program_watch import ReadyWatch
from ergates.agent.told_to_end import Ear, told_to_end
from ergates.clock import Clock, SystemClock
from ergates.drivers.launchers.programs import NotStarted as CannotStart
from ergates.drivers.launchers.programs import Programs
from ergates.drivers.whole_file import write_whole
from ergates.errors import ErgatesError, InputError, UsageError
from ergates.experiment.bindings import filled_text, values_of
from ergates.experiment.conduct import Conduct
from ergates.experiment.conduct_state import (
    Action,
    Began,
    Event,
    Finish,
    Hindered,
    KillProgram,
    NotStarted,
    Say,
    SendSignal,
    ShowedReady,
    Started,
    StartProgram,
    StopProgram,
    ToldToEnd,
    WakeAt,
    Woke,
    WriteDown,
    WroteDown,
)
from ergates.experiment.layout import MEMBER
from ergates.experiment.records import MemberRecord, ProgramRecord
from ergates.experiment.run import RunOrder
from ergates.units import Nanoseconds

FUNCTION = "ergates.agent.experiment_member:conduct_member"
"""As a task's payload names it."""
SWEEP_S = 10.0
_IDLE_S = 60.0
_FROM_OUTSIDE = "ended from outside: cancelled, or a worker of the run stops or is gone"


def conduct_member(order: dict[str, Any], time_limit_ns: int | None = None) -> None:
    """Do a member's part of a run; called by the worker.

    Args:
        order: a RunOrder as JSON has it.
        time_limit_ns: of the run; None.

    Raises:
        SystemExit: the run failed here; with the reason.
    """
    limit = None if time_limit_ns is None else Nanoseconds(time_limit_ns)
    try:
        with told_to_end() as ear:
            end = _conduct(msgspec.convert(order, RunOrder), limit, ear)
    except ErgatesError as error:
        raise SystemExit(str(error)) from error
    if ear.heard:
        signal.raise_signal(signal.SIGTERM)  # what was put off, and is done now
    if not end.well:
        raise SystemExit(end.problem)


def _conduct(order: RunOrder, limit_ns: Nanoseconds | None, ear: Ear) -> Finish:
    place = place_of(order, os.environ)
    board = _board_of(place)
    try:
        return Member(order, place, board, ear, limit_ns).run()
    finally:
        board.close()


def _board_of(place: MemberPlace) -> LoneBoard | SharedBoard:
    if not place.gang:
        return LoneBoard(place.seat.rank)
    from ergates.drivers.stores.open_cluster import open_board

    named = os.environ.get("ERGATES_STORE")
    if not named:
        raise UsageError(
            "this worker does not tell its tasks which store it serves\n"
            "  hint: start it with --store FILE; a password from the environment is not passed on"
        )
    return SharedBoard(open_board(named, origin="ERGATES_STORE"), place.gang, place.seat.rank)


class Member:
    """The shell around the policy.

    Args:
        order: of the run.
        place: this member's.
        board: where members talk.
        ear: hears that somebody wants this member to end.
        time_limit_ns: of the run; None.
    """

    def __init__(
        self,
        order: RunOrder,
        place: MemberPlace,
        board: LoneBoard | SharedBoard,
        ear: Ear,
        time_limit_ns: Nanoseconds | None = None,
    ) -> None:
        self._order, self._place, self._board, self._ear = order, place, board, ear
        self._conduct = Conduct(order, place.seat, time_limit_ns)
        self._clock: Clock = SystemClock()
        self._programs = Programs()
        self._brood = Brood()
        self._runs: dict[str, ProgramRun] = {}
        self._by_fd: dict[int, ProgramRun] = {}
        self._watches: dict[str, ReadyWatch] = {}
        self._values: Mapping[str, str] = {}
        self._wake_ns: int | None = None
        self._finish: Finish | None = None
        self._facts: dict[str, Any] = {}
        self._epoll = select.epoll()
        self._waiting: deque[Event] = deque()

    def run(self) -> Finish:
        """To the end of the run, or of this member's part in it."""
        try:
            self._epoll.register(self._board.fileno(), select.EPOLLIN)
            self._epoll.register(self._ear.fileno(), select.EPOLLIN)
            self._tell(Began(), *self._prepared())
            while self._finish is None:
                self._wait()
            return self._finish
        finally:
            self._brood.sweep(SWEEP_S)
            for run in self._by_fd.values():
                os.close(run.pidfd)
            self._epoll.close()

    def _prepared(self) -> list[Event]:
        """What an attempt of the same number left, which was given back before it was tried, goes."""
        folder = self._place.folder
        try:
            if folder.exists():
                shutil.rmtree(folder)
            folder.mkdir(parents=True)
            self._facts = host_facts()
        except OSError as error:
            return [Hindered(problem=f"cannot make its folder {folder}: {error.strerror}")]
        return []

    # --- what happens -----------------------------------------------------------------------------

    def _wait(self) -> None:
        """Until something happens, and tell the policy."""
        ready = [fd for fd, _ in self._epoll.poll(self._patience_s())]
        found: list[Event] = []
        if self._ear.rang():  # before the ends of programs, which were told the same
            found.append(ToldToEnd(problem=_FROM_OUTSIDE))
        for fd in ready:
            if fd == self._board.fileno():
                found += self._heard()
            elif fd in self._by_fd:
                found += self._ended(self._by_fd.pop(fd))
        found += self._looked()
        if self._wake_ns is not None and self._clock.now_ns() >= self._wake_ns:
            found.append(Woke())
        self._tell(*found)

    def _heard(self) -> list[Event]:
        try:
            return list(self._board.hear())
        except ErgatesError as error:
            self._epoll.unregister(self._board.fileno())
            return [ToldToEnd(problem=str(error))]

    def _patience_s(self) -> float:
        now_ns = time.monotonic_ns()
        moments = [watch.look_at_ns for watch in self._watches.values()]
        moments += [run.sample_at_ns for run in self._by_fd.values() if run.sample_at_ns]
        left_ns = min((each - now_ns for each in moments), default=int(_IDLE_S * 1e9))
        if self._wake_ns is not None:
            left_ns = min(left_ns, self._wake_ns - self._clock.now_ns())
        return max(0, left_ns) / 1e9

    def _ended(self, run: ProgramRun) -> list[Event]:
        self._epoll.unregister(run.pidfd)
        shown = self._shown(run)  # before its network and its processes are gone
        return [*shown, run.reap()]

    def _looked(self) -> list[Event]:
        """Whether programs have become ready, and how much memory they use."""
        found: list[Event] = []
        now_ns = time.monotonic_ns()
        for name, watch in tuple(self._watches.items()):
            if now_ns >= watch.look_at_ns:
                found += self._shown(self._runs[name])
        for run in self._by_fd.values():
            if run.sample_at_ns and now_ns >= run.sample_at_ns:
                run.sample()
        return found

    def _shown(self, run: ProgramRun) -> list[Event]:
        name = run.program.name
        if name not in self._watches or not self._watches[name].look(run.pid):
            return []
        del self._watches[name]
        run.ready_ns = self._clock.now_ns()
        return [ShowedReady(program=name)]

    def _tell(self, *events: Event) -> None:
        """Tell the policy, do what it says, tell it what came of that."""
        self._waiting += events
        while self._waiting and self._finish is None:
            self._wake_ns = None
            for action in self._conduct.handle(self._waiting.popleft(), self._clock.now_ns()):
                self._do(action)

    # --- what is to be done -----------------------------------------------------------------------

    def _do(self, action: Action) -> None:
        match action:
            case Say(message=message):
                self._board.say(message)
            case StartProgram(program=name):
                self._waiting.append(self._start(name))
            case SendSignal(program=name, signal=wanted):
                self._runs[name].send(wanted)
            case StopProgram(program=name):
                self._runs[name].stop()
            case KillProgram(program=name):
                self._runs[name].kill()
            case WakeAt(at_ns=at_ns):
                self._wake_ns = at_ns
            case WriteDown(problem=problem):
                self._waiting.append(WroteDown(problem=self._write_down(problem)))
            case Finish():
                self._finish = action
            case _:
                assert_never(action)

    def _start(self, name: str) -> Started | NotStarted:
        program = self._conduct.parts[name].program
        if not self._values:
            seats = [self._conduct.seats[rank] for rank in sorted(self._conduct.seats)]
            folder = str(self._place.folder)
            self._values = values_of(self._order, seats, self._place.seat, here=self._place.here, folder=folder)
        number = self._order.run.number
        run = self._runs[name] = ProgramRun(program, self._place.folder / name, self._values, number, self._clock)
        try:
            if program.ready is not None:
                watch = ReadyWatch(program.ready, run.folder, self._values, number)
                if watch.taken:
                    return NotStarted(
                        program=name, problem=f"port {watch.port} is taken: something listens there already"
                    )
            run.start(self._programs)
        except InputError as error:
            return NotStarted(program=name, problem=str(error).removeprefix("<template>: "))
        except CannotStart as error:
            return NotStarted(program=name, problem=str(error))
        if program.ready is not None:
            self._watches[name] = watch
        self._by_fd[run.pidfd] = run
        self._epoll.register(run.pidfd, select.EPOLLIN)
        return Started(program=name)

    # --- the end ----------------------------------------------------------------------------------

    def _write_down(self, problem: str) -> str:
        """End what is left, keep files, write the record; returns what of it could not be done, in words."""
        self._watches.clear()
        problems = [problem] if problem else []
        left = self._brood.sweep(SWEEP_S)
        if left:
            problems.append(f"processes that would not end: {', '.join(map(str, left))}")
        notes: list[str] = []
        try:
            records = tuple(self._record(name, notes) for name in self._conduct.parts)
            facts = {**self._facts, "not_kept": notes} if notes else self._facts
            record = MemberRecord(seat=self._place.seat, programs=records, facts=facts, problem="; ".join(problems))
            text = msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n"
            write_whole(self._place.folder / MEMBER, text)
        except OSError as error:
            problems.append(f"its files cannot be kept: {error.filename or self._place.folder}: {error.strerror}")
        return "; ".join(each for each in problems if each != problem)

    def _record(self, name: str, notes: list[str]) -> ProgramRecord:
        part, run = self._conduct.parts[name], self._runs.get(name)
        ok, problem = self._conduct.verdict(name)
        if run is None:
            return ProgramRecord(name=name, folder=name, argv=(), ok=ok, problem=problem)
        files: tuple[tuple[str, int], ...] = ()
        if run.folder.is_dir():
            number = self._order.run.number
            gather = [filled_text(each, self._values, number) for each in part.program.gather]
            files, skipped = keep_files(run.folder, gather)
            notes += [f"{name}: {each}" for each in skipped]
        return run.record(ok=ok, problem=problem, stopped=part.stopped, files=files)
