"""What a member of a run hears and answers, and what it knows of each program it is to run."""

from __future__ import annotations

from dataclasses import dataclass, field

from ergates.experiment.messages import Message
from ergates.experiment.spec import Program, TimedSignal
from ergates.units import Nanoseconds

# --- what happened ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Began:
    """This member is there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """A message of a member, perhaps of our own, in the order of the board; each once."""

    rank: int
    message: Message


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """A program of ours runs."""

    program: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NotStarted:
    """A program of ours could not be started."""

    program: str
    problem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ShowedReady:
    """What a program of ours was to show was seen."""

    program: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Exited:
    """A program of ours ended; exactly one of `exit_code` and `signal` (its name) is set.

    `last_words`: the end of its standard error.
    """

    program: str
    exit_code: int | None = None
    signal: str = ""
    last_words: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Woke:
    """The moment of a WakeAt has come."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToldToEnd:
    """This member has to end and waits for nobody: somebody ends it from outside (a cancelled job, a worker that stops, another
    member's worker that died), or it cannot hear the others any more.
    """

    problem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Hindered:
    """This member cannot do its part: its folder cannot be made, its disk is full."""

    problem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WroteDown:
    """What `WriteDown` asked for was done; `problem` says what of it could not be."""

    problem: str = ""


Event = Began | Heard | Started | NotStarted | ShowedReady | Exited | Woke | ToldToEnd | Hindered | WroteDown

# --- what to do ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Say:
    """Put this on the board."""

    message: Message


@dataclass(frozen=True, slots=True, kw_only=True)
class StartProgram:
    """Start it, and from then on watch for what it is to show when it is ready."""

    program: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SendSignal:
    """To a program that runs, as one of its timed signals."""

    program: str
    signal: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StopProgram:
    """Tell a program that runs to end, by its stop signal; a KillProgram follows after its grace if it does not."""

    program: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KillProgram:
    """It had its grace."""

    program: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WakeAt:
    """Come back then at the latest. The last one counts; without one there is nothing to wait for but events."""

    at_ns: Nanoseconds


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteDown:
    """Nothing of ours is to run any more: end what programs left behind, keep their files, write the member's record.

    `problem`: why this member failed apart from its programs; empty.
    """

    problem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """The member's part is over.

    Args:
        well: whether it ends well. Of a run that failed only the member that caused it ends badly, so that the queue names
            that one; and every member that does not know.
        problem: why the run failed, the same for all members; empty when it did not.
    """

    well: bool
    problem: str = ""


Action = Say | StartProgram | SendSignal | StopProgram | KillProgram | WakeAt | WriteDown | Finish

# --- one program -----------------------------------------------------------------------------------


@dataclass(slots=True, kw_only=True)
class Part:
    """One program of this member.

    Args:
        program: as the file has it.
        due_ns: when it starts; None: its turn has not come.
        started_ns, ended: what became of it; `begun` covers the moment between the order to start and the start.
        ready: whether it has shown it.
        signals: still to be sent.
        stopped: whether we told it to end; kill_ns: when that was not enough; None: not told, or killed already.
        ok, problem: how it ended.
    """

    program: Program
    due_ns: int | None = None
    begun: bool = False
    started_ns: int | None = None
    ready: bool = False
    ended: bool = False
    signals: list[TimedSignal] = field(default_factory=list)
    stopped: bool = False
    kill_ns: int | None = None
    ok: bool = False
    problem: str = ""

    @property
    def runs(self) -> bool:
        return self.begun and not self.ended

    def ready_by_ns(self) -> int | None:
        """When it must have shown that it is ready; None: it has, or has nothing to show."""
        ready = self.program.ready
        if ready is None or self.ready or self.started_ns is None:
            return None
        return self.started_ns + ready.within_ns

    def moments(self) -> list[int]:
        """When something is to be done about it."""
        if not self.begun:
            return [] if self.due_ns is None else [self.due_ns]
        found = [] if (by_ns := self.ready_by_ns()) is None else [by_ns]
        if self.runs and self.started_ns is not None:
            found += [self.started_ns + each.after_ns for each in self.signals[:1]]
            if self.kill_ns is not None:
                found.append(self.kill_ns)
            if self.program.stop_ns is not None and not self.stopped:
                found.append(self.started_ns + self.program.stop_ns)
        return found
