"""Runs calls that arrive one by one in warm interpreters, and hands each result back within a fraction of a millisecond.

It rides on the process launcher directly, not on the worker's loop: that one leases whole jobs from a store and writes a
ledger, which is right for work that must outlive this process (`ergates.map(..., job="name")` does use it), but a call
here takes tens of microseconds all in all, lives in memory only, and is gone when its caller is.

A slot is given several short calls at once, as many as last some 30 ms, so that it never waits for us; each is
reported apart. When an interpreter dies, calls that it may have been running are *suspects*: they run again one at a
time, each alone in its interpreter, so that the culprit is known for certain and only it is given up.
So a call runs at least once, not exactly once: one that ended in the last 5 ms before its interpreter died runs again.
"""

from __future__ import annotations

import atexit
import math
import os
import select
import sys
import threading
import uuid
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from signal import Signals

from ergates.clock import SystemClock
from ergates.drivers.launchers.process import ProcessLauncher
from ergates.drivers.output.read import output_folder, read_output
from ergates.errors import ErgatesError
from ergates.functions.errors import CallTimedOutError, WorkerDiedError
from ergates.functions.scratch import ScratchFolder
from ergates.functions.serialise import raised
from ergates.taskqueue.launching import AttemptKey, Ended, Launch, Started
from ergates.units import Nanoseconds, format_bytes, format_duration

BATCH_NS = 30_000_000
"""Work a slot holds at once, in estimated time: long against a turn of our loop (0.2 ms), short for a person."""
BATCH_CALLS_MAX = 512
LOSSES_MAX = 2
"""How often a call that ended its interpreter is tried again."""
_LONG_NS = 10_000_000
_JOB = "calls"
_running_pools: set[CallPool] = set()
_GRACE_NS = Nanoseconds(2_000_000_000)


class Call:
    """One call: what to run, and what became of it.

    Args:
        name: of the function, for messages.
        payload: functions/payload.py.
        sink: is handed the call, with `result` or `error` set, from the pool's thread.
        begin: asked once, in the pool's thread, before the call goes to a worker process; False drops it.
        retries: how often it is tried again when it raises.
    """

    __slots__ = ("alone", "begin", "error", "index", "losses", "name", "payload", "recalled", "result", "retries", "sink",
                 "started", "started_ns", "time_limit_ns")  # fmt: skip

    def __init__(
        self,
        name: str,
        payload: bytes,
        sink: Callable[[Call], None],
        *,
        index: int = 0,
        retries: int = 0,
        time_limit_ns: Nanoseconds | None = None,
        begin: Callable[[], bool] | None = None,
    ) -> None:
        self.name, self.payload, self.sink, self.begin, self.index = name, payload, sink, begin, index
        self.retries, self.time_limit_ns = retries, time_limit_ns
        self.losses = 0
        self.recalled = self.alone = False
        self.started = -1  # turn of the pool's loop in which its slot said that it runs
        self.started_ns = 0
        self.result: bytes | None = None
        self.error: BaseException | None = None


class _Slot:
    """A warm interpreter and what it was given and has not reported, in order."""

    __slots__ = ("calls", "number")

    def __init__(self, number: int) -> None:
        self.number = number
        self.calls: dict[AttemptKey, Call] = {}


class CallPool:
    """A fixed number of warm interpreters and one thread that feeds them.

    Args:
        workers: how many.
        batch: calls a slot holds at once; None adapts it to how long they take.
        show_output: pass on to our own stdout and stderr what calls print, when they have ended.

    Raises:
        LaunchError: this machine cannot start tasks.
    """

    def __init__(self, workers: int, *, batch: int | None = None, show_output: bool = True) -> None:
        self._scratch = ScratchFolder()
        self.folder: Path = self._scratch.path
        self._batch, self._show_output = batch, show_output
        self._packs = output_folder(self.folder, _JOB)
        self._clock = SystemClock()
        try:
            self._launcher = ProcessLauncher(self.folder, str(uuid.uuid4()), clock=self._clock)
        except BaseException:
            self._scratch.remove()
            raise
        self._env, self._cwd = dict(os.environ), os.getcwd()
        self._slots = [_Slot(self._launcher.open_slot("python")) for _ in range(workers)]
        self._slot_of: dict[AttemptKey, _Slot] = {}
        self._waiting: deque[Call] = deque()
        self._suspects: deque[Call] = deque()
        self._estimate_ns = float(BATCH_NS)  # how long a call takes: quick to rise, slow to fall
        self._serial = self._turn = 0
        self._timed = 0  # calls with a time limit that are on slots
        self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._lock = threading.Lock()  # of what other threads hand in
        self._arrived: list[Call] = []
        self._asleep = False
        self._open = True
        self._ending: str | None = None
        self._thread = threading.Thread(target=self._work, name="ergates-calls", daemon=True)
        _running_pools.add(self)
        self._thread.start()

    @property
    def batch(self) -> int:
        """Calls that a slot holds at once just now."""
        if self._batch is not None:
            return self._batch
        return max(1, min(BATCH_CALLS_MAX, math.ceil(BATCH_NS / max(self._estimate_ns, 1.0))))

    def submit(self, calls: Iterable[Call]) -> None:
        """Queue calls; any thread may. Each comes back to its sink.

        Raises:
            RuntimeError: the pool was closed.
        """
        with self._lock:
            if not self._open:
                raise RuntimeError("cannot run a function after shutdown")
            self._arrived += calls
            if self._asleep:
                os.eventfd_write(self._wake_fd, 1)

    def close(self, *, wait: bool = True, finish: bool = True) -> None:
        """No more calls. With `finish` those in hand still run; else they are ended and never reach their sinks.

        `wait`: return when all processes are gone and the temporary folder is removed.
        """
        with self._lock:
            self._open = False
            self._ending = "now" if not finish or self._ending == "now" else "finish"
            if self._wake_fd >= 0:
                os.eventfd_write(self._wake_fd, 1)
        if wait and threading.current_thread() is not self._thread:
            self._thread.join()

    # --- the pool's thread --------------------------------------------------------------------

    def _work(self) -> None:
        try:
            self._loop()
        except BaseException as error:
            self._break(error)
        finally:
            with self._lock:
                self._open = False
                os.close(self._wake_fd)
                self._wake_fd = -1
            self._launcher.close()
            self._scratch.remove()
            _running_pools.discard(self)

    def _loop(self) -> None:
        waiter = select.poll()
        waiter.register(self._wake_fd, select.POLLIN)
        waiter.register(self._launcher.fileno(), select.POLLIN)
        while True:
            with self._lock:
                arrived, self._arrived = self._arrived, []
                ending = self._ending
                self._asleep = not arrived and ending != "now"
            if ending == "now":
                return
            self._waiting += arrived
            if ending == "finish" and not (self._waiting or self._suspects or self._slot_of):
                return
            self._feed()
            # A time limit is watched by the launcher, inside `poll`, and a long call with others behind it by `_recall`;
            # else nothing happens unannounced.
            soon = self._timed or len(self._slot_of) > sum(bool(slot.calls) for slot in self._slots)
            waiter.poll(0 if arrived else 20 if soon else 1000 if self._slot_of else None)
            self._asleep = False
            with suppress(BlockingIOError):
                os.eventfd_read(self._wake_fd)
            self._hear()

    def _break(self, error: BaseException) -> None:
        """The launcher cannot go on: every call ends with its error."""
        with self._lock:
            self._open = False
            calls = [*self._suspects, *self._waiting, *self._arrived]
        calls += [call for slot in self._slots for call in slot.calls.values()]
        for call in calls:
            call.error = error
            call.sink(call)

    # --- giving calls to slots ----------------------------------------------------------------

    def _feed(self) -> None:
        if not (self._suspects or self._waiting):
            self._recall()
            return
        batch = self.batch
        for slot in self._slots:
            held = len(slot.calls)
            if self._suspects:  # first of all, and each alone
                if not held:
                    suspect = self._suspects.popleft()
                    suspect.alone = True
                    self._give(slot, [suspect])
            elif self._waiting and held <= batch // 2 and not self._is_stuck(slot):
                fair = -(-len(self._waiting) // len(self._slots))
                self._give(slot, self._take(min(batch - held, fair)))

    def _take(self, count: int) -> list[Call]:
        taken: list[Call] = []
        while len(taken) < count and self._waiting:
            call = self._waiting.popleft()
            begin, call.begin = call.begin, None
            if begin is None or begin():
                taken.append(call)
        return taken

    def _give(self, slot: _Slot, calls: list[Call]) -> None:
        launches = []
        for call in calls:
            self._serial += 1
            key = (_JOB, self._serial, 0)
            call.recalled, call.started = False, -1
            slot.calls[key] = call
            self._slot_of[key] = slot
            self._timed += call.time_limit_ns is not None
            launches.append(
                Launch(
                    key=key,
                    env=self._env,
                    cwd=self._cwd,
                    time_limit_ns=call.time_limit_ns,
                    grace_ns=_GRACE_NS,
                    payload=call.payload,
                    output_job=_JOB,
                )
            )
        if launches:
            self._launcher.launch(slot.number, launches)

    def _is_stuck(self, slot: _Slot) -> bool:
        """Whether it runs a suspect, or a call that takes much longer than others: then nothing should wait behind it."""
        for call in slot.calls.values():  # the first one only
            if call.alone or call.started < 0:
                return call.alone
            return self._clock.now_ns() - call.started_ns > 2 * self._estimate_ns + _LONG_NS
        return False

    def _recall(self) -> None:
        """Nothing else waits: an idle slot takes over what stands behind a call that turned out to be long."""
        if all(slot.calls for slot in self._slots):
            return
        for slot in self._slots:
            if len(slot.calls) > 1 and self._is_stuck(slot):
                for key, call in list(slot.calls.items())[1:]:
                    if not call.recalled:
                        call.recalled = True
                        self._launcher.kill(slot.number, key, Nanoseconds(0))

    # --- what became of them ------------------------------------------------------------------

    def _hear(self) -> None:
        self._turn += 1
        for event in self._launcher.poll(0):
            slot = self._slot_of.get(event.key)
            if slot is None:
                continue
            if isinstance(event, Started):
                call = slot.calls[event.key]
                call.started, call.started_ns = self._turn, event.at_ns
            else:
                self._on_ended(slot, event)

    def _on_ended(self, slot: _Slot, ended: Ended) -> None:
        held = len(slot.calls)
        call = slot.calls.pop(ended.key)
        del self._slot_of[ended.key]
        self._timed -= call.time_limit_ns is not None
        if ended.output.pack and self._show_output:
            self._show(ended)
        if ended.result is not None:
            self._returned(call, ended)
        elif ended.killed and call.recalled:
            self._waiting.appendleft(call)
        elif ended.timed_out:
            took = format_duration(call.time_limit_ns or 0)
            self._finish(call, CallTimedOutError(f"{call.name} ran longer than its time limit of {took} and was ended"))
            self._spare(slot)
        elif ended.started_ns == 0 and ended.lost:
            self._waiting.appendleft(call)
        elif ended.started_ns == 0:
            self._finish(call, ErgatesError(f"{call.name} could not be started: {ended.error}"))
        else:
            self._died(slot, call, ended, certain=held == 1 or 0 <= call.started < self._turn)

    def _returned(self, call: Call, ended: Ended) -> None:
        took_ns = ended.ended_ns - ended.started_ns
        self._estimate_ns = max(float(took_ns), 0.8 * self._estimate_ns + 0.2 * took_ns)
        assert ended.result is not None
        call.alone = False
        if call.retries and raised(ended.result):
            call.retries -= 1
            self._waiting.append(call)
            return
        call.result = ended.result
        call.sink(call)

    def _spare(self, slot: _Slot) -> None:
        """Its interpreter was ended for another call's sake: these go on elsewhere; none of them has started."""
        rest = list(slot.calls.items())
        slot.calls.clear()
        for key, call in reversed(rest):
            del self._slot_of[key]
            self._timed -= call.time_limit_ns is not None
            self._waiting.appendleft(call)

    def _died(self, slot: _Slot, call: Call, ended: Ended, *, certain: bool) -> None:
        """An interpreter ended by itself. Unless it is certain which call did it, all it held are suspects."""
        if not certain:
            self._suspects.append(call)
            self._suspects.extend(slot.calls.values())
            for key, each in slot.calls.items():
                del self._slot_of[key]
                self._timed -= each.time_limit_ns is not None
            slot.calls.clear()
            return
        self._spare(slot)
        call.losses += 1
        if call.losses <= LOSSES_MAX:
            self._suspects.append(call)
            return
        times = f"{call.losses} times"
        self._finish(
            call,
            WorkerDiedError(
                f"{call.name} ended its worker process, {times}: {_how(ended)}\n"
                "  hint: a crash in native code, os._exit, or no memory left; try it with fewer workers"
            ),
        )

    def _finish(self, call: Call, error: BaseException) -> None:
        call.error = error
        call.sink(call)

    def _show(self, ended: Ended) -> None:
        out, err = read_output(self._packs, ended.output)
        for data, stream in ((out, sys.stdout), (err, sys.stderr)):
            if data and stream is not None:
                with suppress(ValueError, OSError):  # ours was closed, or its reader went away: results still count
                    stream.write(data.decode(errors="backslashreplace"))
                    stream.flush()


def _how(ended: Ended) -> str:
    if ended.oom_killed:
        return f"killed by the kernel for memory at {format_bytes(ended.cgroup_peak_bytes or ended.maxrss_bytes)}"
    if ended.signal is not None:
        return f"killed by signal {ended.signal} ({Signals(ended.signal).name})"
    if ended.exit_code is not None:
        return f"it exited with code {ended.exit_code}"
    return ended.error or "for an unknown reason"


@atexit.register
def _finish_pools() -> None:
    """At the end of the program, what was handed in still runs, as with concurrent.futures; then temporary files go."""
    for pool in tuple(_running_pools):
        pool.close()
