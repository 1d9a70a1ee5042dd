"""The worker's end of one slot: what was sent, what is not over yet, and the frames in both directions.

It never blocks: what the socket does not take waits in `outbox`. Nothing is sent before the slot is ready, so that what
the slot itself uses can be measured first and taken off its attempts' memory.
"""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

from ergates.cluster.attempt import Output
from ergates.drivers.cgroups.group import SlotGroup
from ergates.drivers.launchers import wire
from ergates.taskqueue.launching import AttemptKey, Ended, Launch, LaunchEvent, Started
from ergates.units import Nanoseconds

_RECEIVE_BYTES = 65536
_CHANGES_MAX = 8
"""With more variables than this to change, a launch gets a base environment of its own."""
_NO_OUTPUT = Output()


class _Facts(TypedDict, total=False):
    exit_code: int
    signal: int
    error: str
    lost: bool


@dataclass(slots=True)
class Pending:
    """One attempt given to a slot and not over yet."""

    sequence: int
    key: AttemptKey
    limit_ns: int | None
    grace_ns: int
    started_ns: int = 0
    """CLOCK_BOOTTIME; 0 until the slot says that it runs."""
    kill_grace_ns: int | None = None
    """Set when it is to be ended as soon as it turns out to run (warm slots only)."""


@dataclass(slots=True)
class Ending:
    """A warm slot is being ended for the sake of one call."""

    sequence: int
    flag: int
    kill_ns: int
    signal: int


class SlotLink:
    """One slot as the worker sees it.

    Args:
        number: of the slot.
        warm: a Python interpreter instead of a slot helper.
        wall_offset_ns: add it to CLOCK_BOOTTIME to get the worker's clock.
        extra: variables for every attempt's environment.
    """

    def __init__(self, number: int, warm: bool, wall_offset_ns: int, extra: Mapping[str, str]) -> None:
        self.number, self.warm = number, warm
        self._offset_ns, self._extra = wall_offset_ns, extra
        self.closing = False
        self._next_sequence = 0
        self.pending: dict[int, Pending] = {}
        self.connect()

    def connect(self) -> None:
        """A fresh pair of sockets, for a slot that is made (again)."""
        self.socket, self.far_end = socket.socketpair()
        self.socket.setblocking(False)
        self.pid = 0
        self.group: SlotGroup | None = None
        self.ready = False
        self.watched = select.EPOLLIN
        self.baseline_bytes = 0
        self.frozen_ns = 0
        self.deadline_ns = 0
        self.ending: Ending | None = None
        self._base: dict[str, str] | None = None
        self._base_given: Mapping[str, str] | None = None
        self._inbox = bytearray()
        self._outbox = bytearray()

    def disconnect(self) -> None:
        self.socket.close()
        self.far_end.close()
        if self.group is not None:
            self.group.close()

    # --- to the slot --------------------------------------------------------------------------

    def queue(self, launches: Sequence[Launch], folder_of: Callable[[str], bytes]) -> list[Ended]:
        """Queue attempts. Returns the ends of those that cannot even be said (text that is no file name or argument)."""
        refused: list[Ended] = []
        batch: list[tuple[object, ...]] = []
        for launch in launches:
            sequence = self._next_sequence
            self._next_sequence += 1
            try:
                argv = tuple([os.fsencode(part) for part in launch.argv])
                changes, removed = self._environment(launch.env, batch)
                for name, value in launch.env_changes.items():
                    changes[os.fsencode(name)] = os.fsencode(value)
                batch.append(
                    (
                        sequence,
                        argv,
                        changes,
                        removed,
                        os.fsencode(launch.cwd),
                        launch.stdin_data,
                        None if launch.stdin_path is None else os.fsencode(launch.stdin_path),
                        launch.time_limit_ns,
                        launch.grace_ns,
                        launch.cpu_ids,
                        folder_of(launch.output_job),
                        launch.payload,
                    )
                )
            except UnicodeEncodeError as problem:
                now = Nanoseconds(wire.boottime_ns() + self._offset_ns)
                error = f"cannot be run: {problem.object[problem.start : problem.end]!r} is not text the system knows"
                refused.append(Ended(key=launch.key, started_ns=Nanoseconds(0), ended_ns=now, error=error))
                continue
            self.pending[sequence] = Pending(sequence, launch.key, launch.time_limit_ns, launch.grace_ns)
        self._send_batch(batch)
        return refused

    def send(self, kind: int, body: object) -> None:
        """Queue one frame; `flush` sends it."""
        self._outbox += wire.encode(kind, body)

    def flush(self) -> bool:
        """Send what the socket takes now. True when nothing is left to send (or to be sent before it is ready)."""
        if not self.ready:
            return True
        outbox = self._outbox
        try:
            while outbox:
                del outbox[: self.socket.send(outbox)]
        except BlockingIOError:
            return False
        except OSError:  # the slot is gone; its end is reported by the supervisor
            outbox.clear()
        return True

    @property
    def unsent(self) -> bool:
        """Whether something waits to be sent."""
        return bool(self._outbox)

    def _send_batch(self, batch: list[tuple[object, ...]]) -> None:
        if batch:
            self.send(wire.LAUNCH, batch)

    def _environment(
        self, env: Mapping[str, str], batch: list[tuple[object, ...]]
    ) -> tuple[dict[bytes, bytes], tuple[bytes, ...]]:
        """What to change in the base environment; sends `env` as the new base when that is shorter."""
        base = self._base
        if base is not None and env is self._base_given:
            return {}, ()
        if base is not None:
            get = base.get
            changed = [name for name in env if get(name) != env[name] and name not in self._extra]
            if len(changed) <= _CHANGES_MAX:
                added = sum(name not in base for name in changed)
                kept = len(base) - len(self._extra)
                removed = () if len(env) - added == kept else tuple([name for name in base if name not in env])
                if len(removed) <= _CHANGES_MAX:
                    encode = os.fsencode
                    gone = tuple([encode(name) for name in removed if name not in self._extra])
                    return {encode(name): encode(env[name]) for name in changed}, gone
        whole = {**env, **self._extra}
        encoded = {os.fsencode(name): os.fsencode(value) for name, value in whole.items()}
        self._send_batch(batch)  # these still mean the old base
        batch.clear()
        self._base, self._base_given = whole, env
        self.send(wire.ENVIRONMENT, encoded)
        return {}, ()

    # --- from the slot ------------------------------------------------------------------------

    def receive(self, events: list[LaunchEvent]) -> int:
        """Read once and add what happened to `events`. Returns bytes read: 0 when nothing is there, -1 at the end."""
        try:
            data = self.socket.recv(_RECEIVE_BYTES)
        except BlockingIOError:
            return 0
        except OSError:  # reset: the slot is gone
            return -1
        if not data:
            return -1
        self._inbox += data
        for kind, body in wire.decode(self._inbox):
            if kind == wire.REPORT:
                self._take_report(body[0], body[1], events)
            elif kind == wire.READY:
                self.ready = True
                self.measure_baseline()
        return len(data)

    def receive_rest(self, events: list[LaunchEvent]) -> None:
        """Read whatever a dead slot had still sent."""
        while self.receive(events) > 0:
            continue

    def running(self) -> Pending | None:
        """The attempt that runs, if the slot said so and nothing newer is known."""
        for first in self.pending.values():
            return first if first.started_ns else None
        return None

    def measure_baseline(self) -> None:
        """What an idle slot uses is its helper's (or interpreter's), and what its pack keeps on a memory disk."""
        used = None if self.group is None else self.group.used_bytes()
        if used is not None:
            self.baseline_bytes = used

    def _take_report(
        self, ended: list[tuple[Any, ...]], running: tuple[int, int, int] | None, events: list[LaunchEvent]
    ) -> None:
        for end in ended:
            self._take_end(end, events)
        if running is not None:
            sequence, pid, started_ns = running
            pending = self.pending.get(sequence)
            if pending is not None and not pending.started_ns:
                self._start(pending, pid, started_ns, events)

    def _start(self, pending: Pending, pid: int, started_ns: int, events: list[LaunchEvent]) -> None:
        pending.started_ns = started_ns
        if self.warm:
            self.deadline_ns = 0 if pending.limit_ns is None else started_ns + pending.limit_ns
        events.append(Started(key=pending.key, pid=pid, at_ns=Nanoseconds(started_ns + self._offset_ns)))

    def _take_end(self, end: tuple[Any, ...], events: list[LaunchEvent]) -> None:
        (
            sequence, pid, started_ns, ended_ns, exit_code, signal, error, flags, cpu_ns, maxrss, peak,
            pack, offset, stdout_bytes, stderr_bytes, result,
        ) = end  # fmt: skip
        pending = self.pending.pop(sequence, None)
        if pending is None:
            return
        if started_ns:
            if not pending.started_ns:
                self._start(pending, pid, started_ns, events)
            started_ns += self._offset_ns
        self.deadline_ns = 0
        events.append(
            Ended(
                key=pending.key,
                started_ns=started_ns,
                ended_ns=Nanoseconds(ended_ns + self._offset_ns),
                exit_code=exit_code,
                signal=signal,
                error=error,
                lost=bool(flags & wire.LOST),
                disk_full=bool(flags & wire.DISK_FULL),
                timed_out=bool(flags & wire.TIMED_OUT),
                killed=bool(flags & wire.KILLED),
                oom_killed=bool(flags & wire.OOM_KILLED),
                cpu_ns=cpu_ns,
                maxrss_bytes=maxrss,
                cgroup_peak_bytes=peak,
                output=_NO_OUTPUT
                if not pack
                else Output(pack=pack, offset=offset, stdout_bytes=stdout_bytes, stderr_bytes=stderr_bytes),
                result=result,
            )
        )

    # --- the end of the slot ------------------------------------------------------------------

    def end_pending(self, status: int | None, oom_killed: bool, events: list[LaunchEvent]) -> None:
        """The slot is gone with all it ran: say how each of its attempts ended.

        Args:
            status: wait status of the slot process; None when the whole supervisor went.
            oom_killed: the kernel killed something of the slot for memory.
            events: takes them.
        """
        now_ns = wire.boottime_ns()
        pending, self.pending = list(self.pending.values()), {}
        ending = self.ending
        innocent = ending is not None and bool(pending) and pending[0].sequence != ending.sequence
        if pending and self.ready and not innocent:
            first = pending.pop(0)  # it ran, or was about to: the others never started
            started_ns = first.started_ns or now_ns
            if not first.started_ns:
                self._start(first, self.pid, started_ns, events)
            facts = _how_it_ended(self.warm, ending, status)
            flag = ending.flag if ending is not None else 0
            events.append(
                Ended(
                    key=first.key,
                    started_ns=Nanoseconds(started_ns + self._offset_ns),
                    ended_ns=Nanoseconds(now_ns + self._offset_ns),
                    timed_out=bool(flag & wire.TIMED_OUT),
                    killed=bool(flag & wire.KILLED),
                    oom_killed=oom_killed and ending is None,
                    **facts,
                )
            )
        for attempt in pending:
            events.append(
                Ended(
                    key=attempt.key,
                    started_ns=Nanoseconds(0),
                    ended_ns=Nanoseconds(now_ns + self._offset_ns),
                    error="not started: its worker process was ended",
                    lost=True,
                )
            )


def _how_it_ended(warm: bool, ending: Ending | None, status: int | None) -> _Facts:
    if status is None:
        return {"error": "its supervisor was ended from outside", "lost": True}
    if not warm:
        return {"error": "its slot process was ended from outside", "lost": True}
    if ending is not None:
        return {"signal": ending.signal}
    if os.WIFSIGNALED(status):
        return {"signal": os.WTERMSIG(status)}
    if os.WEXITSTATUS(status):
        return {"exit_code": os.WEXITSTATUS(status)}
    return {"error": "its interpreter ended before the function returned"}
