"""What one member of a run does next: starts programs in order, says what became of them, ends them all when it is over.

Every member hears the same messages in the same order, its own among them, and only what was heard counts: whose turn it is,
whether the run went well, who was to blame. So all members agree without anybody leading. A run goes well once every program in
the foreground has ended well; the first bad message before that fails it.
"""

from __future__ import annotations

from typing import assert_never

from ergates.cluster.gang import role_of
from ergates.experiment.conduct_state import (
    Action,
    Began,
    Event,
    Exited,
    Finish,
    Heard,
    Hindered,
    KillProgram,
    NotStarted,
    Part,
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
from ergates.experiment.messages import Joined, MemberClosed, MemberFailed, ProgramEnded, ProgramReady
from ergates.experiment.run import RunOrder, Seated
from ergates.experiment.spec import Program, Ready
from ergates.units import SECOND_NS, Nanoseconds, format_duration

JOIN_WITHIN_NS = 120 * SECOND_NS
"""Members start together; one that takes longer than this to say so will not come."""
CLOSE_WITHIN_NS = 120 * SECOND_NS
"""How long a member waits, after its own end, for the others of a failed run to write down what they have."""
Instance = tuple[int, str]
"""A program on a member: (rank, name)."""


class Conduct:
    """One member of one run.

    Args:
        order: of the run.
        seat: this member's.
        time_limit_ns: of the run, from the moment all members are there; None.
    """

    def __init__(self, order: RunOrder, seat: Seated, time_limit_ns: Nanoseconds | None = None) -> None:
        self._order, self._seat, self._time_limit_ns = order, seat, time_limit_ns
        self._size = sum(each.count for each in order.roles)
        roles = tuple((each.role, each.count) for each in order.roles)
        self._instances: dict[Instance, Program] = {
            (rank, program.name): program
            for rank in range(self._size)
            for program in order.programs
            if program.role == role_of(roles, rank)
        }
        foreground = {place for place, program in self._instances.items() if not program.background}
        self._awaited = foreground or set(self._instances)
        self.parts = {
            program.name: Part(program=program, signals=sorted(program.signals, key=lambda each: each.after_ns))
            for (rank, _), program in self._instances.items()
            if rank == seat.rank
        }
        """This member's programs, by name."""
        self.seats: dict[int, Seated] = {}
        """The members that are there, by rank."""
        self._ready: set[Instance] = set()
        self._ended_well: set[Instance] = set()
        self._closed: set[int] = set()
        self._went_well = False
        self._failed: tuple[int, str] | None = None  # first bad message: whose, and why
        self._own_problem = ""  # why this member failed apart from its programs
        self._unwritten = ""  # what could not be written down
        self._ends = False  # known here, perhaps before the board says so
        self._told_to_end = False
        self._join_by_ns: int | None = None
        self._first_ns: int | None = None  # when the first program may start
        self._limit_ns: int | None = None
        self._close_by_ns: int | None = None
        self._writing = self._written = self._finished = False
        self._actions: list[Action] = []

    def handle(self, event: Event, now_ns: Nanoseconds) -> list[Action]:
        """What to do now that this has happened. After `Finish` nothing more."""
        if self._finished:
            return []
        self._actions = []
        match event:
            case Began():
                self._join_by_ns = now_ns + JOIN_WITHIN_NS
                self._say(Joined(self._seat))
            case Heard():
                self._heard(event, now_ns)
            case Started(program=name):
                self._started(self.parts[name], now_ns)
            case NotStarted(program=name, problem=problem):
                self._ended(self.parts[name], ok=False, problem=problem)
            case ShowedReady(program=name):
                self._showed_ready(self.parts[name])
            case Exited():
                self._exited(event)
            case ToldToEnd(problem=problem):
                self._told_to_end = True
                self._fail(problem)
            case Hindered(problem=problem):
                self._fail(problem)
            case WroteDown(problem=problem):
                self._wrote_down(problem, now_ns)
            case Woke():
                pass
            case _:
                assert_never(event)
        self._go_on(now_ns)
        return self._actions

    def verdict(self, program: str) -> tuple[bool, str]:
        """Of one of this member's programs, for the record: whether it counts as well, and why not."""
        part = self.parts[program]
        if part.begun:
            return part.ok or (self._went_well and part.program.background), part.problem
        return self._went_well, "" if self._went_well else "not started: the run had failed before its turn came"

    # --- what happened ----------------------------------------------------------------------------

    def _heard(self, heard: Heard, now_ns: int) -> None:
        match heard.message:
            case Joined(seat=seat):
                self.seats[heard.rank] = seat
                if len(self.seats) == self._size and self._first_ns is None:
                    self._first_ns = now_ns + self._order.settle_ns
                    self._limit_ns = None if self._time_limit_ns is None else now_ns + self._time_limit_ns
                    self._went_well = not self._awaited
            case ProgramReady(program=name):
                self._ready.add((heard.rank, name))
            case ProgramEnded(program=name, ok=True):
                self._ended_well.add((heard.rank, name))
                if self._failed is None and self._awaited <= self._ended_well:
                    self._went_well = True
            case ProgramEnded(program=name, problem=problem):
                self._blame(heard.rank, f"{name} of {self._place(heard.rank)}: {problem}")
            case MemberFailed(problem=problem, of_run=of_run):
                self._blame(heard.rank, problem if of_run else f"{self._place(heard.rank)}: {problem}")
            case MemberClosed():
                self._closed.add(heard.rank)
            case _:
                assert_never(heard.message)

    def _blame(self, rank: int, problem: str) -> None:
        if self._failed is None and not self._went_well:
            self._failed = rank, problem

    def _started(self, part: Part, now_ns: int) -> None:
        part.started_ns = now_ns
        if part.program.ready is None and part.program.background:
            part.ready = True
            self._say(ProgramReady(part.program.name))

    def _showed_ready(self, part: Part) -> None:
        if not part.ready and (part.runs or part.ok):
            part.ready = True
            self._say(ProgramReady(part.program.name))

    def _exited(self, exited: Exited) -> None:
        part = self.parts[exited.program]
        ok = part.stopped or exited.exit_code in part.program.success
        how = f"ended by signal {exited.signal}" if exited.signal else f"exit code {exited.exit_code}"
        words = f": {exited.last_words}" if exited.last_words else ""
        self._ended(part, ok=ok, problem="" if ok else how + words)

    def _ended(self, part: Part, *, ok: bool, problem: str) -> None:
        part.ended = True
        if part.problem:  # it was not ready in time: that is said, and how it ended then does not matter
            return
        part.ok, part.problem = ok, problem
        if not ok:
            self._ends = True
        self._say(ProgramEnded(part.program.name, ok, problem))

    def _fail(self, problem: str, *, of_run: bool = False) -> None:
        """This member cannot go on; what runs here ends at once, the others hear of it."""
        self._ends = True
        if not self._own_problem:
            self._own_problem = problem
            self._say(MemberFailed(problem, of_run))

    def _wrote_down(self, problem: str, now_ns: int) -> None:
        self._written = True
        self._close_by_ns = now_ns + CLOSE_WITHIN_NS
        if problem:  # after a good end, too: its figures are not there
            self._unwritten = problem
            self._say(MemberFailed(problem))
        self._say(MemberClosed())

    # --- what is to be done -----------------------------------------------------------------------

    def _go_on(self, now_ns: int) -> None:
        if not self._over():
            self._mind_limits(now_ns)
        if not self._over() and self._first_ns is not None:
            self._give_turns(now_ns)
            for part in self.parts.values():
                self._mind(part, now_ns)
        if self._over():
            self._end(now_ns)
        self._finish(now_ns)
        self._set_alarm()

    def _over(self) -> bool:
        return self._went_well or self._failed is not None or self._ends

    def _mind_limits(self, now_ns: int) -> None:
        if self._first_ns is None:
            if self._join_by_ns is not None and now_ns >= self._join_by_ns:
                missing = ", ".join(self._place(rank) for rank in range(self._size) if rank not in self.seats)
                self._fail(f"not there within {_shown(JOIN_WITHIN_NS)}: {missing}", of_run=True)
        elif self._limit_ns is not None and now_ns >= self._limit_ns:
            left = sorted(self._awaited - self._ended_well)
            names = ", ".join(f"{name} of {self._place(rank)}" for rank, name in left[:8])
            more = f" and {len(left) - 8} more" if len(left) > 8 else ""
            limit = _shown(self._time_limit_ns or 0)
            self._fail(f"the run's time limit of {limit} is over; not done: {names}{more}", of_run=True)

    def _give_turns(self, now_ns: int) -> None:
        assert self._first_ns is not None
        for part in self.parts.values():
            if part.due_ns is None and all(self._is_ready(place) for place in self._before(part.program.order)):
                part.due_ns = max(now_ns, self._first_ns) + part.program.start_ns

    def _before(self, order: int) -> list[Instance]:
        return [place for place, program in self._instances.items() if program.order < order]

    def _is_ready(self, place: Instance) -> bool:
        program = self._instances[place]
        return place in self._ready or (program.ready is None and place in self._ended_well)

    def _mind(self, part: Part, now_ns: int) -> None:
        """Start it, stop it, send its signals, when it is time."""
        program, started_ns = part.program, part.started_ns
        if not part.begun:
            if part.due_ns is not None and now_ns >= part.due_ns:
                part.begun = True
                self._actions.append(StartProgram(program=program.name))
            return
        by_ns = part.ready_by_ns()
        if by_ns is not None and now_ns >= by_ns and program.ready is not None:
            part.problem = _not_ready(program.ready)
            self._ends = True
            self._say(ProgramEnded(program.name, False, part.problem))
        if not part.runs or started_ns is None:
            return
        while part.signals and now_ns >= started_ns + part.signals[0].after_ns:
            self._actions.append(SendSignal(program=program.name, signal=part.signals.pop(0).signal))
        if program.stop_ns is not None and now_ns >= started_ns + program.stop_ns:
            self._stop(part, now_ns)
        self._kill_in_time(part, now_ns)

    def _stop(self, part: Part, now_ns: int) -> None:
        if not part.stopped:
            part.stopped = True
            part.kill_ns = now_ns + part.program.grace_ns
            self._actions.append(StopProgram(program=part.program.name))

    def _kill_in_time(self, part: Part, now_ns: int) -> None:
        if part.kill_ns is not None and now_ns >= part.kill_ns:
            part.kill_ns = None
            self._actions.append(KillProgram(program=part.program.name))

    def _end(self, now_ns: int) -> None:
        """Stop what runs here; when nothing does, write it down."""
        running = [part for part in self.parts.values() if part.runs]
        for part in running:
            if part.started_ns is not None:
                self._stop(part, now_ns)
                self._kill_in_time(part, now_ns)
        if not running and not self._writing:
            self._writing = True
            self._actions.append(WriteDown(problem=self._own_problem))

    def _finish(self, now_ns: int) -> None:
        if not self._written:
            return
        waits = self._close_by_ns is not None and now_ns < self._close_by_ns and not self._told_to_end
        if self._went_well:
            self._finished = True
            own = f"{self._place(self._seat.rank)}: {self._unwritten}" if self._unwritten else ""
            self._actions.append(Finish(well=not own, problem=own))
        elif self._failed is not None and (len(self._closed) == self._size or not waits):
            self._finished = True
            rank, problem = self._failed
            well = rank != self._seat.rank and len(self._closed) == self._size and not self._told_to_end
            self._actions.append(Finish(well=well, problem=problem))
        elif not waits:
            self._finished = True
            problems = [part.problem for part in self.parts.values() if part.problem]
            problems = [self._own_problem, self._unwritten, *problems]
            self._actions.append(Finish(well=False, problem="; ".join(filter(None, problems))))

    def _set_alarm(self) -> None:
        if self._finished:
            return
        moments = [part.kill_ns for part in self.parts.values() if part.runs and part.kill_ns is not None]
        if self._written:
            moments.append(self._close_by_ns)  # type: ignore[arg-type]  # set with it
        elif not self._over():
            bounds = (self._join_by_ns if self._first_ns is None else self._limit_ns,)
            moments += [each for each in bounds if each is not None]
            for part in self.parts.values():
                moments += part.moments()
        if moments:
            self._actions.append(WakeAt(at_ns=Nanoseconds(min(moments))))

    # --- words ------------------------------------------------------------------------------------

    def _say(self, message: Joined | ProgramReady | ProgramEnded | MemberFailed | MemberClosed) -> None:
        self._actions.append(Say(message=message))

    def _place(self, rank: int) -> str:
        """Which member, as people know it: `client 1 on b`."""
        seat = self.seats.get(rank)
        if seat is None:
            role = role_of(tuple((each.role, each.count) for each in self._order.roles), rank)
            return f"{role} (rank {rank})"
        return f"{seat.role} {seat.index} on {seat.host}"


def _not_ready(ready: Ready) -> str:
    within = _shown(ready.within_ns)
    if ready.port:
        return f"not ready within {within}: nothing of its host listens on port {ready.port}"
    if ready.line:
        return f"not ready within {within}: no line of its output matches {ready.line!r}"
    return f"not ready within {within}: {ready.file} does not exist"


def _shown(duration_ns: int) -> str:
    return format_duration(Nanoseconds(duration_ns))
