"""Runs attempts in containers of Docker or Podman. Each slot is a thread that makes one container after another.

An engine takes a quarter of a second to make a container, so threads that wait for it cost nothing that matters. What
an attempt uses is read from its control group while it runs: CPU time is as of the last look, a lower bound.
Freezing is the engine's pause. Images are never pulled unless that was asked for.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Literal

from ergates.clock import Clock
from ergates.drivers import machine
from ergates.drivers.alarm import Alarm
from ergates.drivers.launchers import container_reaper
from ergates.drivers.launchers.container_engine import WORKER_LABEL, Engine, clean_leftovers, connect, labels_of
from ergates.drivers.launchers.container_run import ContainerRun, cpu_ns_of, group_of
from ergates.drivers.launchers.container_slot import ContainerSlot
from ergates.drivers.machine import Roots
from ergates.errors import LaunchError
from ergates.taskqueue.launching import AttemptKey, Launch, LaunchEvent, MemorySample
from ergates.units import Bytes, Nanoseconds

_CLOSE_S = 30.0


class LaunchEvents(SimpleQueue[LaunchEvent]):
    """What the slots' threads report; rings at each."""

    def __init__(self) -> None:
        self.alarm = Alarm()

    def put(self, item: LaunchEvent, block: bool = True, timeout: float | None = None) -> None:
        super().put(item, block, timeout)
        self.alarm.ring()


class ContainerLauncher:
    """A `taskqueue.launching.Launcher` for tasks with an image.

    Args:
        state_dir: spools go to `workers/<worker_id>/`, packs to `jobs/<output_job>/output/`.
        worker_id: a UUID; also the label of its containers.
        clock: for the times in events.
        engine: which one to use.
        pull: get images that are not here.
        roots: where /proc and /sys/fs/cgroup are.

    Raises:
        LaunchError: no engine answers; the message says what to do.
    """

    def __init__(
        self,
        state_dir: Path,
        worker_id: str,
        *,
        clock: Clock,
        engine: Engine = "auto",
        pull: bool = False,
        roots: Roots | None = None,
    ) -> None:
        self._state_dir, self.worker_id, self._clock = state_dir.absolute(), worker_id, clock
        self._engine, self._pull, self._roots = engine, pull, roots or Roots()
        self._client, address = connect(engine)
        self._labels = labels_of(worker_id)
        self._folder = self._state_dir / "workers" / worker_id
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as problem:
            self._client.close()
            raise LaunchError(f"{self._folder}: cannot prepare to start containers: {problem.strerror}") from problem
        clean_leftovers(self._client)
        self._near = address.startswith("unix://")
        self._reaper = _start_reaper(address, worker_id)
        self._events = LaunchEvents()
        self._slots: dict[int, ContainerSlot] = {}
        self._closing: list[ContainerSlot] = []
        self._next_slot = 0
        self._closed = False

    # --- slots --------------------------------------------------------------------------------

    def open_slot(self, kind: Literal["process", "python"] = "process") -> int:
        """See Launcher."""
        if kind != "process":
            raise LaunchError("a container is no place for a warm interpreter: give the task a command")
        number = self._next_slot
        self._next_slot += 1
        client, _ = connect(self._engine)  # one each: a connection is not made for two threads
        self._slots[number] = ContainerSlot(
            client,
            f"{self.worker_id[:8]}-c{number}",
            spool_folder=self._folder,
            state_dir=self._state_dir,
            labels=self._labels,
            pull=self._pull,
            clock=self._clock,
            events=self._events,
            scratch=self._near,
        )
        return number

    def close_slot(self, slot: int) -> None:
        """See Launcher."""
        closing = self._slots.pop(slot)
        closing.queue(None)
        self._closing.append(closing)

    def launch(self, slot: int, launches: Sequence[Launch]) -> None:
        """See Launcher."""
        for launch in launches:
            self._slots[slot].queue(ContainerRun(launch))

    # --- what happened ------------------------------------------------------------------------

    def poll(self, timeout_s: float) -> list[LaunchEvent]:
        """See Launcher."""
        until = time.monotonic() + timeout_s
        events: list[LaunchEvent] = []
        while not events:
            wait_s = self.patience_s(max(0.0, until - time.monotonic()))
            self._events.alarm.clear()
            with suppress(Empty):
                events.append(self._events.get(timeout=wait_s) if wait_s else self._events.get_nowait())
                while True:
                    events.append(self._events.get_nowait())
            self._mind_limits()
            if time.monotonic() >= until:
                break
        return events

    def fileno(self) -> int:
        """See Launcher."""
        return self._events.alarm.fileno()

    def patience_s(self, most_s: float) -> float:
        """See Launcher: until the next time limit or kill."""
        now_ns = self._clock.now_ns()
        for run in self._runs():
            at_ns = min((at for at in (run.deadline_ns, run.kill_ns) if at), default=0)
            if at_ns and not run.paused_ns:
                most_s = min(most_s, max(0.0, (at_ns - now_ns) / 1e9))
        return most_s

    def sample(self) -> list[MemorySample]:
        """See Launcher."""
        samples = []
        for run in self._runs():
            used = self._used_bytes(run)
            if used is not None:
                samples.append(MemorySample(key=run.launch.key, used_bytes=Bytes(used)))
        return samples

    def cpu_ns(self, slot: int) -> int:
        """CPU time of the slot's running attempt, as of the last sample; 0 when nothing runs."""
        run = self._slots[slot].running
        return 0 if run is None else run.cpu_ns

    def group_used_bytes(self) -> int | None:
        """See Launcher. Containers have groups of their own, side by side: their sum is not known at once."""
        return None

    def _used_bytes(self, run: ContainerRun) -> int | None:
        folder = group_of(run, "memory", "memory.stat", self._roots)
        if folder is not None:
            with suppress(OSError, KeyError, ValueError):  # it has just ended
                run.cpu_ns = max(run.cpu_ns, cpu_ns_of(run, self._roots))
                return machine.cgroup_used_bytes(folder)
            return None
        from docker.errors import APIError

        try:  # the engine runs elsewhere: ask it
            stats = self._client.stats(run.id, stream=False, one_shot=True)
        except (APIError, OSError):  # it has just ended
            return None
        memory = stats.get("memory_stats", {})
        run.cpu_ns = int(stats.get("cpu_stats", {}).get("cpu_usage", {}).get("total_usage", run.cpu_ns))
        cache = memory.get("stats", {}).get("inactive_file", 0)
        return max(0, int(memory["usage"]) - int(cache)) if "usage" in memory else None

    # --- orders -------------------------------------------------------------------------------

    def freeze(self, slot: int) -> None:
        """The engine's pause; the time limit stops, too."""
        run = self._slots[slot].running
        if run is not None and not run.paused_ns and self._order("pause", run):
            run.paused_ns = self._clock.now_ns()

    def thaw(self, slot: int) -> None:
        """Let a paused container go on."""
        run = self._slots[slot].running
        if run is not None and run.paused_ns:
            paused_ns, run.paused_ns = self._clock.now_ns() - run.paused_ns, 0
            if run.deadline_ns:
                run.deadline_ns += paused_ns
            self._order("unpause", run)

    def kill(self, slot: int, key: AttemptKey, grace_ns: Nanoseconds) -> None:
        """See Launcher. A paused container is let go on for it."""
        run = self._slots[slot].take_out(key)
        if run is None:
            return
        run.killed = run.killed or not run.timed_out
        self._end(run, grace_ns)
        if run.paused_ns:
            self.thaw(slot)

    def set_oom_score(self, slot: int, score: int) -> None:
        """See Launcher; left as it is where the engine's processes are not ours to change."""
        run = self._slots[slot].running
        group = None if run is None else group_of(run, "memory", "cgroup.procs", self._roots)
        if group is not None:
            with suppress(OSError):  # it has just ended, or we lack the right
                for pid in (group / "cgroup.procs").read_text().split():
                    (self._roots.proc / pid / "oom_score_adj").write_text(str(score))

    def close(self) -> None:
        """See Launcher."""
        if self._closed:
            return
        self._closed = True
        slots = [*self._slots.values(), *self._closing]
        for each in slots:
            each.stop()
        until = time.monotonic() + _CLOSE_S
        for each in slots:
            while each.thread.is_alive() and time.monotonic() < until:
                run = each.running
                if run is not None:
                    self._order("kill", run, signal="KILL")
                    if run.paused_ns:
                        self._order("unpause", run)
                each.thread.join(0.2)
        left = any(each.thread.is_alive() for each in slots)
        if self._reaper is not None:
            _end_reaper(self._reaper, clean=not left)
        self._client.close()
        if not left:
            self._events.alarm.close()
        with suppress(OSError):  # another launcher of this worker still has files there
            self._folder.rmdir()

    def _end(self, run: ContainerRun, grace_ns: int) -> None:
        """TERM now and KILL after the grace; a second order can only shorten the grace."""
        kill_ns = self._clock.now_ns() + grace_ns
        if grace_ns > 0 and not run.kill_ns:
            self._order("kill", run, signal="TERM")
        run.kill_ns = min(run.kill_ns or kill_ns, kill_ns)
        self._mind_limits()

    def _mind_limits(self) -> None:
        now_ns = self._clock.now_ns()
        for run in self._runs():
            if run.deadline_ns and not run.paused_ns and now_ns >= run.deadline_ns:
                run.deadline_ns = 0
                run.timed_out = not run.killed
                self._end(run, run.launch.grace_ns)
            if run.kill_ns and now_ns >= run.kill_ns:
                run.kill_ns = now_ns + 1_000_000_000  # again, should the engine not have heard
                self._order("kill", run, signal="KILL")

    def _order(self, verb: str, run: ContainerRun, **fields: str) -> bool:
        from docker.errors import APIError

        if not run.id:
            return False
        try:
            getattr(self._client, verb)(run.id, **fields)
        except (APIError, OSError):  # it has just ended, or is not there yet: its slot's thread knows better
            return False
        return True

    def _runs(self) -> list[ContainerRun]:
        return [slot.running for slot in self._slots.values() if slot.running is not None]


def _start_reaper(address: str, worker_id: str) -> subprocess.Popen[bytes] | None:
    """None for an engine on another machine: what a killed worker leaves there goes at the next start."""
    path = address.removeprefix("unix://")
    if path == address:
        return None
    script = str(Path(container_reaper.__file__))
    command = [sys.executable, "-I", "-S", script, path, f"{WORKER_LABEL}={worker_id}"]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _end_reaper(reaper: subprocess.Popen[bytes], *, clean: bool) -> None:
    assert reaper.stdin is not None
    with suppress(BrokenPipeError):  # somebody killed it
        if clean:
            reaper.stdin.write(b"x")
        reaper.stdin.close()
    reaper.wait()
