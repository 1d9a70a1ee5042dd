"""What a worker, its supervisor and its slots say to each other: frames on stream sockets.

A frame is a header, `(kind, length of the body)`, and a body in Python's `marshal` format: the same interpreter sits at
both ends on one machine, and marshal is in C, needs no import outside the interpreter, and carries megabytes of bytes
unharmed. Nobody but ourselves can write to these sockets: they are pairs without a name.

How a slot must behave (the slot helper in slot.py, and a warm interpreter in functions/python_slot.py)
------------------------------------------------------------------------------------------------------
A slot owns one socket. `python -m ergates.functions.python_slot FD OUT ERR PACK` gets the number of the socket, two spool
files and the name of its pack as arguments; it was forked from the supervisor, is in its control group already, has
SIGINT ignored, and must

1. send `READY` (its pid) once, when it can take work: what it uses then counts as its own, not as an attempt's, and
   nothing is sent to it before;
2. read frames until the socket ends (`os.read` returns b""): then it kills what it started and exits with 0. The worker
   died, or closed the slot;
3. keep the launches of `LAUNCH` frames (a list; more may come while it works) in a queue and run them one after another;
4. report in `REPORT` frames: `(ended, running)`. `ended` is a list of tuples in the order of `ENDED_FIELDS`; `running` is
   `(sequence, pid, started_ns)` of the attempt that runs now, or None. Ends are *coalesced*: with more launches
   waiting, keep them up to `COALESCE_S`, but report them (a) at once when the queue is empty, and (b) when the current
   attempt has run for `COALESCE_S`, so that nobody waits for short ones behind a long one. In (b) `running` names the
   current attempt: that is how the worker learns that it runs. A warm interpreter cannot look at the time while it runs
   a function: it leaves (b) to a thread, and it sends `running` *before* a call that has a time limit;
5. use CLOCK_BOOTTIME for times (`boottime_ns()`); the worker turns them into wall time.

A `LAUNCH` body is a list of tuples in the order of `LAUNCH_FIELDS`. Environments travel once: an `ENVIRONMENT` frame,
`{name: value}` (bytes), is the base of all launches behind it; a launch carries the variables it changes.

`KILL` is `(sequence, grace_ns)`: end that attempt, running or queued, and report it with flag `KILLED`; nothing to do when
it ended meanwhile. `PAUSE` is a sequence: that attempt is being frozen, so its time limit stands still; `EXTEND` is
`(sequence, duration_ns)`: it goes on, having been frozen that long.

A *python* slot gets `KILL` only for launches that wait (so it looks for frames before each call), never `PAUSE` and
`EXTEND`. To end a call that runs, the worker signals the whole process (SIGTERM: send every end not reported yet and
exit at once; SIGKILL after the grace), makes the slot again, reports the call as killed or timed out, and the calls
behind it as `Ended(error="not started: ...", lost=True, started_ns=0)`. So the worker itself minds time limits of calls.
A python slot that dies by itself (a segmentation fault, os._exit) is reported as the end of the call that ran.
A python slot leaves `cgroup_peak_bytes` 0 and reports CPU time of the call. It writes fd 1 and 2 to the spool files
`OUT` and `ERR` (drivers/output/pack.py: `Spool(OUT, ERR, PACK)`, `open()` once, `keep(folder)` after each call).
"""

from __future__ import annotations

import marshal
import time
from struct import Struct

TYPE_CHECKING = False  # importing typing would cost every slot a megabyte
if TYPE_CHECKING:
    from typing import Any

HEADER = Struct("<BQ")
"""Kind, length of the body in bytes."""

COALESCE_S = 0.005
"""How long a finished attempt may wait for others before it is reported: short against a person's patience, long
against a task of half a millisecond."""

# worker -> slot
LAUNCH = 1
ENVIRONMENT = 2
KILL = 3
PAUSE = 4
EXTEND = 5
# slot -> worker
READY = 10
REPORT = 11
# worker -> supervisor
CONFIGURE = 20
OPEN = 21
# supervisor -> worker
OPENED = 30
GONE = 31

LAUNCH_FIELDS = (
    "sequence",  # int: names the launch on this slot
    "argv",  # tuple of bytes; empty for a python slot
    "changes",  # {name: value} (bytes) added to the base environment, or replaced
    "removed",  # tuple of names that are in the base and must go
    "cwd",  # bytes
    "stdin_data",  # bytes or None
    "stdin_path",  # bytes or None
    "time_limit_ns",  # int or None
    "grace_ns",  # int: between TERM and KILL
    "cpu_ids",  # tuple of int; empty: all
    "output_folder",  # bytes: gets the pack
    "payload",  # bytes or None: for python slots
)
ENDED_FIELDS = (
    "sequence",
    "pid",
    "started_ns",  # CLOCK_BOOTTIME; 0 when it never started
    "ended_ns",
    "exit_code",  # exactly one of exit_code, signal, error is not None
    "signal",
    "error",  # str
    "flags",
    "cpu_ns",
    "maxrss_bytes",
    "peak_bytes",  # the control group's, page cache included; 0: unknown
    "pack",  # str: file name under the output folder; "" for no output
    "offset",
    "stdout_bytes",
    "stderr_bytes",
    "result",  # bytes or None: from python slots
)

# flags of an end
TIMED_OUT = 1
KILLED = 2
OOM_KILLED = 4
DISK_FULL = 8
LOST = 16


def encode(kind: int, body: Any) -> bytes:
    """One frame."""
    data = marshal.dumps(body, 2)  # version 2: no table of references, which costs time and saves nothing here
    return HEADER.pack(kind, len(data)) + data


def decode(buffer: bytearray) -> list[tuple[int, Any]]:
    """Take every whole frame out of `buffer`; what is left in it is the beginning of the next one."""
    frames: list[tuple[int, Any]] = []
    at, end = 0, len(buffer)
    with memoryview(buffer) as view:
        while end - at >= HEADER.size:
            kind, length = HEADER.unpack_from(view, at)
            begin = at + HEADER.size
            if end - begin < length:
                break
            frames.append((kind, marshal.loads(view[begin : begin + length])))
            at = begin + length
    if at:
        del buffer[:at]
    return frames


def boottime_ns() -> int:
    """Nanoseconds since boot, suspended time included: the clock that slots report in."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)
