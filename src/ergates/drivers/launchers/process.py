"""Starts, watches and ends attempts as processes of this machine, in control groups where there are any.

    worker ── socket ── supervisor ── forks ──► slot helper (in the slot's group) ── posix_spawn ──► attempt
      └────────────── a socket to each slot ──────────┘

The worker asks the supervisor for slots, hands attempts to a slot over the slot's own socket, and hears from it what
became of them. Memory, freezing and the order of the kernel's kills it does itself, through the files of the group.
Whatever dies, in whatever order, the attempts end: supervisor.py, slot.py and leftovers.py say how.
"""

from __future__ import annotations

import heapq
import os
import select
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from ergates.clock import Clock
from ergates.drivers.cgroups.detect import Preference, detect
from ergates.drivers.launchers import wire
from ergates.drivers.launchers.leftovers import MARK, kill_marked, remove_folder, write_record
from ergates.drivers.launchers.slot_link import Ending, SlotLink
from ergates.drivers.launchers.supervision import Supervision
from ergates.drivers.machine import Roots
from ergates.drivers.output.read import output_folder
from ergates.errors import LaunchError
from ergates.taskqueue.launching import AttemptKey, Launch, LaunchEvent, MemorySample
from ergates.units import Bytes, Nanoseconds

_FAILED_STARTS_MAX = 3
_GONE_TIMEOUT_S = 3.0
_KILL_AGAIN_NS = 50_000_000


class ProcessLauncher:
    """A `taskqueue.launching.Launcher` for commands and for warm Python interpreters.

    Args:
        state_dir: absolute; spools go to `workers/<worker_id>/`, packs to `jobs/<output_job>/output/`.
        worker_id: a UUID; two live launchers must not share it.
        clock: for the times in events.
        memory_limit_bytes: hard limit on all attempts together, helpers included; see `confined`.
        prefer: kind of control group; `none` for plain process trees.
        roots: where /proc and /sys/fs/cgroup are.
        python: what runs a warm slot; its `sys.path` is the caller's business, by `python_environment`.
        python_environment, python_cwd: of warm slots; None: the worker's own.

    Raises:
        LaunchError: the state directory cannot be written, or `prefer` cannot be had.
    """

    def __init__(
        self,
        state_dir: Path,
        worker_id: str,
        *,
        clock: Clock,
        memory_limit_bytes: int | None = None,
        prefer: Preference = "auto",
        roots: Roots | None = None,
        python: str = sys.executable,
        python_environment: Mapping[str, str] | None = None,
        python_cwd: str | None = None,
    ) -> None:
        self._state_dir, self._id = state_dir.absolute(), worker_id
        self._roots = roots or Roots()
        self._offset_ns = clock.now_ns() - wire.boottime_ns()
        self._folder = self._state_dir / "workers" / worker_id
        self._python, self._python_environment, self._python_cwd = python, python_environment, python_cwd
        detected = detect(f"ergates-{worker_id}", prefer, self._roots)
        self._tree = detected.tree
        self.group_kind = self._tree.kind
        """`v2`, `v1` or `tree` (no control groups)."""
        self._mark = {MARK: worker_id} if self.group_kind == "tree" else {}
        self.group_reasons = tuple(detected.reasons)
        """In words, why no better kind of group is used."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            write_record(self._folder, worker_id, self._tree.spec())
            self._tree.create()
        except OSError as problem:
            raise LaunchError(
                f"{self._folder}: cannot prepare to start tasks: {problem.strerror}\n"
                "  hint: it must be a writable directory with some free space"
            ) from problem
        self.confined = memory_limit_bytes is not None and self._tree.set_memory_limit(memory_limit_bytes)
        """Whether `memory_limit_bytes` is a hard limit on what runs here."""
        self._slots: dict[int, SlotLink] = {}
        self._by_fd: dict[int, SlotLink] = {}
        self._warm: list[SlotLink] = []
        self._free_numbers: list[int] = []
        self._failed_starts = 0
        self._events: list[LaunchEvent] = []
        self._output_folders: dict[str, bytes] = {}
        self._epoll = select.epoll()
        self._supervisor = self._start_supervisor()

    # --- slots --------------------------------------------------------------------------------

    def open_slot(self, kind: Literal["process", "python"] = "process") -> int:
        """See Launcher."""
        number = heapq.heappop(self._free_numbers) if self._free_numbers else len(self._slots)
        link = SlotLink(number, kind == "python", self._offset_ns, self._mark)
        self._slots[number] = link
        if link.warm:
            self._warm.append(link)
        self._connect(link)
        return number

    def close_slot(self, slot: int) -> None:
        """See Launcher."""
        link = self._slots[slot]
        link.closing = True
        self._unregister(link)
        link.socket.close()  # at which the slot ends

    def launch(self, slot: int, launches: Sequence[Launch]) -> None:
        """See Launcher."""
        link = self._slots[slot]
        self._events += link.queue(launches, self._output_folder)
        self._flush(link)

    def spool_paths(self, slot: int) -> tuple[Path, Path]:
        """(stdout, stderr) of the slot's running attempt so far. Emptied, and used again, when it ends."""
        return self._folder / f"slot-{slot}.out", self._folder / f"slot-{slot}.err"

    def pids(self, slot: int) -> list[int]:
        """Processes of the slot's running attempt now."""
        group = self._slots[slot].group
        return [] if group is None else group.procs()

    # --- what happened ------------------------------------------------------------------------

    def poll(self, timeout_s: float) -> list[LaunchEvent]:
        """See Launcher.

        Raises:
            LaunchError: slots cannot be made any more; the message has the supervisor's last words.
        """
        until = time.monotonic() + timeout_s
        while True:
            left_s = 0.0 if self._events else max(0.0, until - time.monotonic())
            for fd, mask in self._epoll.poll(self.patience_s(left_s)):
                link = self._by_fd.get(fd)
                if link is not None:
                    self._serve(link, mask)
                elif fd == self._supervisor.socket.fileno():
                    self._hear_supervisor()
            self._mind_warm_slots()
            if self._events or left_s == 0.0:
                events, self._events = self._events, []
                return events

    def fileno(self) -> int:
        """See Launcher."""
        return self._epoll.fileno()

    def patience_s(self, most_s: float) -> float:
        """See Launcher: until the next moment at which a warm slot needs us."""
        if self._events:
            return 0.0
        for link in self._warm:
            if not link.frozen_ns:
                at_ns = link.ending.kill_ns if link.ending is not None else link.deadline_ns
                if at_ns:
                    most_s = min(most_s, max(0.0, (at_ns - wire.boottime_ns()) / 1e9))
        return most_s

    def sample(self) -> list[MemorySample]:
        """See Launcher. Numbers come from the kernel in batches: they may be some hundred KiB behind."""
        samples = []
        for link in self._slots.values():
            if link.group is None or not link.ready:
                continue
            running = link.running()
            if running is not None:
                used = link.group.used_bytes()
                if used is not None:
                    samples.append(MemorySample(key=running.key, used_bytes=Bytes(max(0, used - link.baseline_bytes))))
            elif not link.pending:
                link.measure_baseline()
        return samples

    def group_used_bytes(self) -> int | None:
        """Anonymous plus shared memory of everything that runs here, helpers included; None when unknown."""
        used = self._tree.used_bytes()
        if used is not None or self.group_kind != "tree":
            return used
        return sum((link.group.used_bytes() or 0) for link in self._slots.values() if link.group is not None)

    # --- orders -------------------------------------------------------------------------------

    def set_memory_limit(self, limit_bytes: int) -> bool:
        """Another hard limit on all attempts together; False: the kernel has none here, or too much is in use now."""
        self.confined = self._tree.set_memory_limit(limit_bytes) or self.confined
        return self.confined

    def freeze(self, slot: int) -> None:
        """Stop everything of a slot; its time limit stops too."""
        link = self._slots[slot]
        if link.group is not None and not link.frozen_ns:
            link.frozen_ns = wire.boottime_ns()
            running = link.running()
            if running is not None and not link.warm:
                link.send(wire.PAUSE, running.sequence)
                self._flush(link)
            link.group.freeze()

    def thaw(self, slot: int) -> None:
        """Let a frozen slot go on."""
        link = self._slots[slot]
        if link.group is None or not link.frozen_ns:
            return
        duration_ns = wire.boottime_ns() - link.frozen_ns
        link.frozen_ns = 0
        running = link.running()
        if link.deadline_ns:
            link.deadline_ns += duration_ns
        elif running is not None and not link.warm:
            link.send(wire.EXTEND, (running.sequence, duration_ns))
            self._flush(link)
        link.group.thaw()

    def kill(self, slot: int, key: AttemptKey, grace_ns: Nanoseconds) -> None:
        """See Launcher. A frozen slot is thawed by it."""
        link = self._slots[slot]
        pending = next((each for each in link.pending.values() if each.key == key), None)
        if pending is None:
            return
        runs = pending is link.running()
        if link.warm and runs:
            self._end_warm(link, pending.sequence, wire.KILLED, grace_ns)
        else:
            pending.kill_grace_ns = grace_ns
            link.send(wire.KILL, (pending.sequence, grace_ns))
            self._flush(link)
            if runs and link.frozen_ns and grace_ns == 0 and link.group is not None:
                link.group.signal_all(signal.SIGKILL)  # it must not run on for a moment when it is thawed
        if runs or pending is next(iter(link.pending.values())):
            self.thaw(slot)

    def set_oom_score(self, slot: int, score: int) -> None:
        """See Launcher. What the kernel does not allow (a lower score, unprivileged) is left as it is."""
        for pid in self.pids(slot):
            with suppress(OSError):
                Path(self._roots.proc, str(pid), "oom_score_adj").write_text(str(score))

    def close(self) -> None:
        """See Launcher. Events that nobody polled are gone."""
        if self._epoll.closed:
            return
        self._epoll.close()
        for link in self._slots.values():
            link.disconnect()
        self._slots.clear()
        self._by_fd.clear()
        if not self._supervisor.end():  # it was killed, or hung: do what it should have done
            self._kill_groups()
        if self._tree.remove():
            remove_folder(self._folder)
        self._tree.close()

    # --- the supervisor -----------------------------------------------------------------------

    def _start_supervisor(self) -> Supervision:
        supervisor = Supervision(self._folder, self._id, self._tree.spec())
        self._epoll.register(supervisor.socket, select.EPOLLIN)
        return supervisor

    def _hear_supervisor(self) -> None:
        frames = self._supervisor.receive()
        if frames is None:
            self._supervisor_died()
            return
        for kind, body in frames:
            if kind == wire.OPENED:
                number, pid = body
                link = self._slots[number]
                link.pid = pid
                link.group = self._tree.slot(number, pid, warm=link.warm)
            elif kind == wire.GONE:
                self._slot_gone(*body)

    def _slot_gone(self, number: int, pid: int, status: int, oom_kills: int) -> None:
        """A slot and all it ran are dead: report its attempts and make it again, unless we closed it."""
        link = self._slots.get(number)
        if link is None or link.pid != pid:
            return
        if not link.closing:
            self._unregister(link)
            link.receive_rest(self._events)
        was_ready = link.ready
        link.end_pending(status, bool(oom_kills) and status == signal.SIGKILL, self._events)
        link.disconnect()
        if link.closing:
            self._forget(link)
            return
        self._failed_starts = 0 if was_ready else self._failed_starts + 1
        if self._failed_starts >= _FAILED_STARTS_MAX:
            raise LaunchError(f"cannot make slots for tasks\n{self._supervisor.last_words()}")
        link.connect()
        self._connect(link)

    def _supervisor_died(self) -> None:
        """End what its death left, report every attempt as lost, and start another with the same slots."""
        words = self._supervisor.last_words()
        self._epoll.unregister(self._supervisor.socket)
        self._supervisor.end()
        self._kill_groups()
        until = time.monotonic() + _GONE_TIMEOUT_S
        for link in self._slots.values():
            if not link.closing:
                self._unregister(link)
                link.socket.settimeout(max(0.01, until - time.monotonic()))
                link.receive_rest(self._events)  # to the end of its socket: then it is dead
        if not any(link.pid for link in self._slots.values()) and self._slots:
            raise LaunchError(f"cannot start tasks: the supervisor ended at once\n{words}")
        self._supervisor = self._start_supervisor()
        for link in list(self._slots.values()):
            link.end_pending(None, False, self._events)
            link.disconnect()
            if link.closing:
                self._forget(link)
            else:
                link.connect()
                self._connect(link)

    def _forget(self, link: SlotLink) -> None:
        del self._slots[link.number]
        heapq.heappush(self._free_numbers, link.number)
        if link.warm:
            self._warm.remove(link)

    def _kill_groups(self) -> None:
        if self.group_kind == "tree":
            kill_marked(self._id, proc=str(self._roots.proc))
        else:
            self._tree.kill_all(_GONE_TIMEOUT_S)

    # --- sockets ------------------------------------------------------------------------------

    def _connect(self, link: SlotLink) -> None:
        fd = link.socket.fileno()
        self._by_fd[fd] = link
        self._epoll.register(fd, select.EPOLLIN)
        self._supervisor.open(link.number, link.far_end, self._interpreter() if link.warm else None)

    def _unregister(self, link: SlotLink) -> None:
        if self._by_fd.pop(link.socket.fileno(), None) is not None:
            self._epoll.unregister(link.socket)

    def _serve(self, link: SlotLink, mask: int) -> None:
        if mask & ~select.EPOLLOUT and link.receive(self._events) < 0:
            self._unregister(link)  # the supervisor says the rest when nothing of it is left
        if link.unsent:
            self._flush(link)

    def _flush(self, link: SlotLink) -> None:
        wanted = select.EPOLLIN if link.flush() else select.EPOLLIN | select.EPOLLOUT
        if wanted != link.watched and link.socket.fileno() in self._by_fd:
            self._epoll.modify(link.socket, wanted)
            link.watched = wanted

    def _output_folder(self, output_job: str) -> bytes:
        folder = self._output_folders.get(output_job)
        if folder is None:
            folder = self._output_folders[output_job] = os.fsencode(output_folder(self._state_dir, output_job))
        return folder

    # --- warm interpreters --------------------------------------------------------------------

    def _interpreter(self) -> dict[str, Any]:
        environment = os.environ if self._python_environment is None else self._python_environment
        environment = {**environment, **self._mark}
        return {
            "argv": [self._python, "-m", "ergates.functions.python_slot"],
            "environment": {os.fsencode(name): os.fsencode(value) for name, value in environment.items()},
            "cwd": os.fsencode(self._python_cwd or os.getcwd()),
        }

    def _end_warm(self, link: SlotLink, sequence: int, flag: int, grace_ns: int) -> None:
        """End a whole interpreter for the sake of the call it runs; a second order can only shorten the grace."""
        kill_ns = wire.boottime_ns() + grace_ns
        number = signal.SIGTERM if grace_ns > 0 else signal.SIGKILL
        if link.ending is None:
            link.ending = Ending(sequence, flag, kill_ns, number)
        elif kill_ns >= link.ending.kill_ns:
            return
        link.ending.kill_ns = kill_ns
        link.deadline_ns = 0
        if link.group is not None:
            link.group.signal_all(number)

    def _mind_warm_slots(self) -> None:
        """Time limits of calls, calls to be killed that turned out to run, and interpreters that do not end."""
        for link in self._warm:
            if link.frozen_ns or link.group is None:
                continue
            now_ns = wire.boottime_ns()
            running = link.running()
            if link.ending is not None:
                if now_ns >= link.ending.kill_ns:
                    link.ending.signal, link.ending.kill_ns = signal.SIGKILL, now_ns + _KILL_AGAIN_NS
                    link.group.signal_all(signal.SIGKILL)
            elif running is not None and running.kill_grace_ns is not None:
                self._end_warm(link, running.sequence, wire.KILLED, running.kill_grace_ns)
            elif running is not None and link.deadline_ns and now_ns >= link.deadline_ns:
                self._end_warm(link, running.sequence, wire.TIMED_OUT, running.grace_ns)
