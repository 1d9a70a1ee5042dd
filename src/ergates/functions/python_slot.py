"""A warm interpreter that lives in a slot and runs calls there one after another, so none pays for a start of its own.

Started by the supervisor as `python -m ergates.functions.python_slot FD OUT ERR PACK`; how it must behave is written in
drivers/launchers/wire.py. Three threads: the main one runs the calls (signals, asyncio and many libraries want it), one
reads frames, one reports a call that runs for long.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from types import FrameType, ModuleType

from ergates.drivers.launchers import wire
from ergates.drivers.output.pack import NOTHING, Spool
from ergates.functions.call_runner import CallRunner

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_COALESCE_NS = int(wire.COALESCE_S * 1e9)
_READ_BYTES = 1 << 20


class PythonSlot:
    """Queue, running call and unreported ends of one warm interpreter."""

    def __init__(self, fd: int, spool: Spool, pack: str) -> None:
        self._fd = fd
        self._runner = CallRunner(spool, pack)
        self._queue: deque[tuple[int, Any]] = deque()
        self._arrived = threading.Semaphore(0)
        self._ended: list[tuple[Any, ...]] = []
        self._oldest_ns = 0
        self._running: tuple[int, int, int] | None = None
        self._announced = -1  # sequence of the call that was last reported as running
        self._sending = threading.RLock()
        self._parked = threading.Event()  # set while the reporter has nothing to watch
        self._unpark = threading.Event()
        self._dropped: set[int] = set()  # sequences in the queue that must not run
        self._in_send = False  # the main thread is inside _report
        self._told_to_end = False

    def work(self) -> None:
        """Run what comes until the worker closes the socket, which ends the process."""
        signal.signal(signal.SIGTERM, self._on_term)
        threading.Thread(target=self._read, daemon=True, name="frames").start()
        threading.Thread(target=self._watch, daemon=True, name="reports").start()
        self._send(wire.READY, os.getpid())
        while True:
            self._arrived.acquire()
            with self._sending:  # not while the reader looks for a launch that is to be dropped
                kind, body = self._queue.popleft()
                started_ns = wire.boottime_ns()
                if kind == wire.LAUNCH and body[0] not in self._dropped:
                    self._running = (body[0], os.getpid(), started_ns)
            if kind == wire.ENVIRONMENT:
                self._runner.use_environment(body)
            elif body[0] in self._dropped:
                self._dropped.discard(body[0])
            else:
                self._run(body, started_ns)

    def _run(self, launch: tuple[Any, ...], started_ns: int) -> None:
        if launch[7] is not None:  # its time limit is the worker's to watch, so the worker must know that it runs
            self._report(announce=True)
        if self._parked.is_set():
            self._unpark.set()
        ended = self._runner.run(launch, started_ns)
        with self._sending:  # the reporter may be taking the list away just now
            if not self._ended:
                self._oldest_ns = ended[3]
            self._ended.append(ended)
            self._running = None
        # The end of a call that was announced goes out at once: so a process that dies did so in the call announced last.
        old = wire.boottime_ns() - self._oldest_ns >= _COALESCE_NS
        if old or not self._queue or self._announced == launch[0]:
            self._report(announce=False)

    # --- talking ------------------------------------------------------------------------------

    def _report(self, *, announce: bool) -> None:
        """Send the ends not sent yet; with `announce` also name the call that runs."""
        main = threading.current_thread() is threading.main_thread()
        if main:
            self._in_send = True
        with self._sending:
            ended, self._ended = self._ended, []
            running = self._running if announce else None
            if running is not None:
                self._announced = running[0]
            if ended or running is not None:
                self._write(wire.encode(wire.REPORT, (ended, running)))
        if main:
            self._in_send = False
            if self._told_to_end:
                os._exit(0)

    def _send(self, kind: int, body: Any) -> None:
        with self._sending:
            self._write(wire.encode(kind, body))

    def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self._fd, rest) :]
        except (BrokenPipeError, ConnectionResetError):  # the worker is gone
            end_with_children()

    def _on_term(self, _number: int, _frame: FrameType | None) -> None:
        """The worker ends the call that runs: report what ended before it, and go at once."""
        self._told_to_end = True
        if not self._in_send:  # else _report itself goes when its frame is whole
            self._report(announce=False)

    # --- the two other threads ----------------------------------------------------------------

    def _read(self) -> None:
        buffer = bytearray()
        while True:
            try:
                data = os.read(self._fd, _READ_BYTES)
            except ConnectionResetError:
                data = b""
            if not data:
                end_with_children()
            buffer += data
            for kind, body in wire.decode(buffer):
                if kind == wire.LAUNCH:
                    self._queue.extend([(kind, launch) for launch in body])
                    self._arrived.release(len(body))
                elif kind == wire.ENVIRONMENT:
                    self._queue.append((kind, body))
                    self._arrived.release()
                elif kind == wire.KILL:
                    self._drop(body[0])

    def _drop(self, sequence: int) -> None:
        """Take a launch back that waits; one that runs, or ended meanwhile, is left alone."""
        with self._sending:
            if not any(kind == wire.LAUNCH and body[0] == sequence for kind, body in self._queue):
                return
            self._dropped.add(sequence)
            error = "not started: ended while it waited"
            now_ns = wire.boottime_ns()
            ended = (sequence, os.getpid(), 0, now_ns, None, None, error, wire.KILLED, 0, 0, 0, *NOTHING, None)
            self._ended.append(ended)
        self._report(announce=False)

    def _watch(self) -> None:
        """Report a call that runs longer than others may wait. Costs nothing while calls are short, or nothing runs."""
        while True:
            running = self._running
            if running is None or running[0] == self._announced:
                self._unpark.clear()
                self._parked.set()
                if self._running is running:  # else a call began between looking and parking
                    self._unpark.wait()
                self._parked.clear()
                continue
            age_ns = wire.boottime_ns() - running[2]
            if age_ns < _COALESCE_NS:
                time.sleep((_COALESCE_NS - age_ns) / 1e9)
            elif self._running is running:
                self._report(announce=True)


def end_with_children() -> None:
    """Kill what calls started and left running, and end. Leaves nothing behind where there are no control groups either."""
    for pid in _descendants(os.getpid()):
        with suppress(ProcessLookupError, PermissionError):  # it ended meanwhile, or became somebody else's
            os.kill(pid, signal.SIGKILL)
    os._exit(0)


def _descendants(pid: int) -> list[int]:
    """Children first, then theirs; empty where the kernel does not list them."""
    found: list[int] = []
    with suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children") as file:
                found += [int(child) for child in file.read().split()]
    for child in tuple(found):
        found += _descendants(child)
    return found


def main(arguments: list[str]) -> None:
    """FD OUT ERR PACK, see the module's text."""
    fd, out, err, pack = int(arguments[0]), *arguments[1:4]
    os.set_inheritable(fd, False)
    os.set_blocking(fd, True)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    spool = Spool(out, err, pack)
    spool.open()
    os.dup2(spool.out_fd, 1)
    os.dup2(spool.err_fd, 2)
    sys.stdout = open(1, "w", encoding="utf-8", errors="surrogateescape", closefd=False)  # noqa: SIM115 - for good
    sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115 - for good
    sys.modules["__main__"] = ModuleType("__main__")  # pickles that name __main__ must not find this module's names
    sys.argv = [""]
    PythonSlot(fd, spool, pack).work()


if __name__ == "__main__":
    main(sys.argv[1:])
