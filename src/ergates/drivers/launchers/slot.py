"""The slot helper: a small process that lives in its slot's group and runs attempts there one after another.

It is forked from the supervisor (sharing its pages) and starts every attempt by posix_spawn, so an attempt is in the
right control group from its first instruction, and starting it costs nothing but the program itself. It adopts
orphans: whatever an attempt leaves behind becomes a child of this process, so one cheap question to the kernel, "have I
any child?", tells whether the attempt is really over. wire.py says how it talks.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections import deque

from ergates.drivers.launchers import wire
from ergates.drivers.launchers.prctl import adopt_orphans, signal_when_parent_dies
from ergates.drivers.launchers.programs import NotStarted, Programs
from ergates.drivers.launchers.scratch import VARIABLE, SlotScratch
from ergates.drivers.output.pack import FULL, NOTHING, Spool

TYPE_CHECKING = False  # importing typing would cost every slot a megabyte
if TYPE_CHECKING:
    from typing import Any

    from ergates.drivers.cgroups.group import SlotGroup

SUPERVISOR_DIED = signal.SIGUSR2
_COALESCE_NS = int(wire.COALESCE_S * 1e9)
_KILL_AGAIN_NS = 20_000_000
"""A killed attempt that is still there may have forked meanwhile: kill again."""
_NO_ROOM_BYTES = 64 * 1024
"""With less disk than this left, an attempt that failed is taken to have failed for it."""
_DEFAULT_SIGNALS = [
    signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGTSTP, signal.SIGPIPE, signal.SIGXFSZ,
]  # fmt: skip
"""What this process ignores and an attempt must not."""


def serve(fd: int, group: SlotGroup, spool: Spool, scratch: SlotScratch, supervisor_pid: int) -> None:
    """Be a slot until the socket `fd` ends. Call it in a fresh child of the supervisor, already in its group."""
    adopt_orphans()
    helper = SlotHelper(fd, group, spool, scratch)
    signal.signal(SUPERVISOR_DIED, lambda *_: helper.end_and_exit())
    signal_when_parent_dies(SUPERVISOR_DIED)
    if os.getppid() != supervisor_pid:  # it died before we asked to hear of it
        return
    try:
        helper.work()
    except (EOFError, BrokenPipeError, ConnectionResetError):  # the worker closed this slot, or is gone
        helper.end_and_exit()


class SlotHelper:
    """Queue, running attempt and unreported ends of one slot."""

    def __init__(self, fd: int, group: SlotGroup, spool: Spool, scratch: SlotScratch) -> None:
        self._fd, self._group, self._spool, self._scratch = fd, group, spool, scratch
        self._programs = Programs()
        self._buffer = bytearray()
        self._queue: deque[tuple[dict[bytes, bytes], tuple[Any, ...]]] = deque()
        self._base: dict[bytes, bytes] = {}
        self._ended: list[tuple[Any, ...]] = []
        self._oldest_ns = 0  # when the first of `_ended` ended
        self._all_cpus = os.sched_getaffinity(0)
        self._cpus: tuple[int, ...] = ()
        self._oom_kills = group.oom_kills()
        self._poll = select.poll()
        self._poll.register(fd, select.POLLIN)
        # of the running attempt
        self._sequence = -1
        self._flags = 0
        self._deadline_ns = 0  # 0: no time limit, or none while it is frozen
        self._paused_ns = 0  # the deadline of a frozen attempt
        self._kill_ns = 0

    def work(self) -> None:
        """Run what comes, for ever. Raises EOFError when the worker is gone."""
        self._send(wire.READY, os.getpid())
        while True:
            while self._queue:
                env, launch = self._queue.popleft()
                self._run(env, launch)
                if self._ended and wire.boottime_ns() - self._oldest_ns >= _COALESCE_NS:
                    self._report(None)
            self._report(None)
            os.chdir("/")  # an idle slot holds nobody's directory
            self._receive()

    def end_and_exit(self) -> None:
        """Kill what runs and end this process. Also called by a signal at any moment: uses nothing half-made."""
        self._sweep()
        os._exit(0)

    # --- one attempt --------------------------------------------------------------------------

    def _run(self, env: dict[bytes, bytes], launch: tuple[Any, ...]) -> None:
        sequence, limit_ns, folder = launch[0], launch[7], launch[10]
        self._flags = 0
        started_ns = wire.boottime_ns()
        try:
            pid = self._start(env, launch)
        except (NotStarted, ValueError) as problem:  # ValueError: a NUL byte in an argument, "=" in a variable's name
            if isinstance(problem, NotStarted) and problem.machine and not self._flags & wire.DISK_FULL:
                self._flags |= wire.LOST
            reason = str(problem) if isinstance(problem, NotStarted) else f"cannot be run: {problem}"
            self._note(sequence, 0, 0, error=reason)
            return
        self._sequence, self._kill_ns, self._paused_ns = sequence, 0, 0
        self._deadline_ns = started_ns + limit_ns if limit_ns is not None else 0
        cpu_before = self._watch(pid, started_ns, launch[8])
        _, status, usage = os.wait4(pid, 0)
        if status == signal.SIGKILL and not self._flags and self._poll.poll(0):
            self._receive()  # perhaps the worker killed it while this helper was frozen, and the order lies here
        self._sequence = -1
        cpu_ns, maxrss = _figures(usage)
        try:
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            pass  # the usual case: it left nothing behind
        else:
            more_ns, more_rss = self._sweep()
            cpu_ns, maxrss = cpu_ns + more_ns, max(maxrss, more_rss)
        if cpu_before is not None:  # counts processes that nobody waited for, too
            cpu_ns = max(cpu_ns, (self._own_group_cpu_ns() or 0) - cpu_before)
        self._note_end(sequence, pid, started_ns, status, folder, cpu_ns, maxrss)
        self._scratch.clear()

    def _start(self, env: dict[bytes, bytes], launch: tuple[Any, ...]) -> int:
        _, argv, changes, removed, cwd, data, path, _, _, cpus, _, _ = launch
        env = {**env, VARIABLE: self._prepare(cwd, cpus), **changes}
        for name in removed:
            env.pop(name, None)
        stdin = -1 if data is None and path is None else _open_stdin(data, path)
        actions: list[Any] = [
            (os.POSIX_SPAWN_DUP2, self._spool.out_fd, 1),
            (os.POSIX_SPAWN_DUP2, self._spool.err_fd, 2),
        ]
        if stdin >= 0:  # otherwise fd 0 of this process: /dev/null
            actions.append((os.POSIX_SPAWN_DUP2, stdin, 0))
        self._group.reset_peak()
        try:
            return self._programs.start(
                argv,
                env,
                lambda program, arguments: os.posix_spawn(
                    program,
                    arguments,
                    env,
                    file_actions=actions,
                    setsid=True,
                    setsigmask=(),
                    setsigdef=_DEFAULT_SIGNALS,
                ),
            )
        finally:
            if stdin >= 0:
                os.close(stdin)

    def _prepare(self, cwd: bytes, cpus: tuple[int, ...]) -> bytes:
        """Spool, scratch directory, cores and directory; the child inherits the last two. Returns the scratch directory."""
        try:
            self._spool.open()
            scratch = os.fsencode(self._scratch.ready())
        except OSError as problem:
            if problem.errno in FULL:
                self._flags |= wire.DISK_FULL
            raise NotStarted(f"cannot make the files for its output: {problem.strerror}", machine=True) from None
        if cpus != self._cpus:
            try:
                os.sched_setaffinity(0, cpus or self._all_cpus)
            except OSError as problem:
                raise NotStarted(f"cannot pin it to cores {cpus}: {problem.strerror}", machine=True) from None
            self._cpus = cpus
        try:
            os.chdir(cwd)
        except FileNotFoundError:
            raise NotStarted(f"no such directory: {os.fsdecode(cwd)}") from None
        except OSError as problem:
            raise NotStarted(f"cannot enter directory {os.fsdecode(cwd)}: {problem.strerror}") from None
        return scratch

    def _watch(self, pid: int, started_ns: int, grace_ns: int) -> int | None:
        """Wait for the end of the main process; meanwhile report, obey, and mind the time limit.

        Returns:
            The group's CPU counter early in the attempt, None when it ended before anybody looked.
        """
        cpu_before: int | None = None
        look_ns = started_ns + _COALESCE_NS
        pidfd = os.pidfd_open(pid)
        self._poll.register(pidfd, select.POLLIN)
        try:
            while True:
                wake_ns = min((at for at in (look_ns, self._deadline_ns, self._kill_ns) if at), default=0)
                timeout_ms = max(0.0, (wake_ns - wire.boottime_ns()) / 1e6) if wake_ns else None
                ready = [fd for fd, _ in self._poll.poll(timeout_ms)]
                if pidfd in ready:
                    return cpu_before
                if ready:
                    self._receive()
                now_ns = wire.boottime_ns()
                if look_ns and now_ns >= look_ns:
                    look_ns = 0
                    cpu_before = self._own_group_cpu_ns()
                    self._report((self._sequence, pid, started_ns))
                if self._deadline_ns and now_ns >= self._deadline_ns:
                    self._deadline_ns = 0
                    self._end(wire.TIMED_OUT, grace_ns)
                if self._kill_ns and now_ns >= self._kill_ns:
                    self._group.signal_all(signal.SIGKILL)
                    self._kill_ns = now_ns + _KILL_AGAIN_NS
        finally:
            self._poll.unregister(pidfd)
            os.close(pidfd)

    def _end(self, flag: int, grace_ns: int) -> None:
        """TERM now and KILL after the grace; a second order can only shorten the grace."""
        kill_ns = wire.boottime_ns() + grace_ns
        if not self._flags & (wire.TIMED_OUT | wire.KILLED):
            self._flags |= flag
            if grace_ns > 0:
                self._group.signal_all(signal.SIGTERM)
                self._group.signal_all(signal.SIGCONT)  # one that stopped itself would not hear it
        self._kill_ns = min(self._kill_ns or kill_ns, kill_ns)

    def _sweep(self) -> tuple[int, int]:
        """Kill everything of this slot but ourselves and wait for it. Returns its CPU time and largest resident size."""
        cpu_ns = maxrss = 0
        pause_s = 0.0005
        self._group.forbid_forks()
        try:
            while True:
                self._group.signal_all(signal.SIGKILL)
                while True:
                    pid, _, usage = os.wait4(-1, os.WNOHANG)
                    if pid == 0:
                        break
                    used_ns, rss = _figures(usage)
                    cpu_ns, maxrss = cpu_ns + used_ns, max(maxrss, rss)
                time.sleep(pause_s)
                pause_s = min(0.02, pause_s * 2)
        except ChildProcessError:  # no child: nothing is left
            return cpu_ns, maxrss
        finally:
            self._group.allow_forks()

    # --- its end ------------------------------------------------------------------------------

    def _note_end(
        self, sequence: int, pid: int, started_ns: int, status: int, folder: bytes, cpu_ns: int, maxrss: int
    ) -> None:
        peak = self._group.peak_bytes()
        oom_kills = self._group.oom_kills()
        if oom_kills != self._oom_kills:
            self._oom_kills = oom_kills
            self._flags |= wire.OOM_KILLED
        error: str | None = None
        kept = NOTHING
        try:
            kept = self._spool.keep(folder)
            if status and not self._flags and self._spool.room_bytes() < _NO_ROOM_BYTES:
                self._flags |= wire.DISK_FULL
                error = f"the disk was full when it failed ({_words(status)})"
        except OSError as problem:
            error = f"its output could not be kept in {os.fsdecode(folder)}: {problem.strerror} ({_words(status)})"
            if problem.errno in FULL:
                self._flags |= wire.DISK_FULL
        self._note(sequence, pid, started_ns, status, error, (cpu_ns, maxrss, peak), kept)

    def _note(
        self,
        sequence: int,
        pid: int,
        started_ns: int,
        status: int = 0,
        error: str | None = None,
        figures: tuple[int, int, int] = (0, 0, 0),
        kept: tuple[str, int, int, int] = NOTHING,
        flags: int | None = None,
    ) -> None:
        """Keep one end for the next report, in the order of wire.ENDED_FIELDS."""
        now_ns = wire.boottime_ns()
        exit_code = sent_signal = None
        if error is None:
            if os.WIFSIGNALED(status):
                sent_signal = os.WTERMSIG(status)
            else:
                exit_code = os.WEXITSTATUS(status)
        if flags is None:
            flags = self._flags
        if not self._ended:
            self._oldest_ns = now_ns
        self._ended.append(
            (sequence, pid, started_ns, now_ns, exit_code, sent_signal, error, flags, *figures, *kept, None)
        )

    # --- talking ------------------------------------------------------------------------------

    def _receive(self) -> None:
        data = os.read(self._fd, 65536)
        if not data:
            raise EOFError
        self._buffer += data
        for kind, body in wire.decode(self._buffer):
            if kind == wire.LAUNCH:
                self._queue.extend([(self._base, launch) for launch in body])
            elif kind == wire.ENVIRONMENT:
                self._base = body
            elif kind == wire.KILL:
                self._kill(*body)
            elif kind == wire.PAUSE and body == self._sequence and self._deadline_ns:
                self._paused_ns, self._deadline_ns = self._deadline_ns, 0
            elif kind == wire.EXTEND and body[0] == self._sequence and self._paused_ns:
                self._deadline_ns, self._paused_ns = self._paused_ns + body[1], 0

    def _kill(self, sequence: int, grace_ns: int) -> None:
        if sequence == self._sequence:
            self._end(wire.KILLED, grace_ns)
            return
        for entry in self._queue:
            if entry[1][0] == sequence:
                self._queue.remove(entry)
                self._note(sequence, 0, 0, error="not started: ended while it waited", flags=wire.KILLED)
                return

    def _report(self, running: tuple[int, int, int] | None) -> None:
        if self._ended or running is not None:
            self._send(wire.REPORT, (self._ended, running))
            self._ended = []

    def _send(self, kind: int, body: Any) -> None:
        data = wire.encode(kind, body)
        sent = os.write(self._fd, data)
        while sent < len(data):
            sent += os.write(self._fd, memoryview(data)[sent:])

    def _own_group_cpu_ns(self) -> int | None:
        """CPU time of the group without this helper's own."""
        total = self._group.cpu_ns()
        return None if total is None else total - time.process_time_ns()


def _open_stdin(data: bytes | None, path: bytes | None) -> int:
    try:
        if path is not None:
            # A named pipe without a writer must not stop the slot: it reads as empty.
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK)
            os.set_blocking(fd, True)
            return fd
        fd = os.memfd_create("stdin")
        rest = memoryview(data or b"")
        while rest:
            rest = rest[os.write(fd, rest) :]
        os.lseek(fd, 0, os.SEEK_SET)
        return fd
    except OSError as problem:
        shown = "from memory" if path is None else os.fsdecode(path)
        raise NotStarted(f"cannot open its standard input {shown}: {problem.strerror}") from None


def _figures(usage: Any) -> tuple[int, int]:
    """CPU time in ns and largest resident size in bytes (at least that of this helper, from before the exec)."""
    return int((usage.ru_utime + usage.ru_stime) * 1e9), usage.ru_maxrss * 1024


def _words(status: int) -> str:
    return f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"exit code {os.WEXITSTATUS(status)}"
