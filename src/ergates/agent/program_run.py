"""One program of a run on this host: started in a session and a folder of its own, signalled, waited for, put on record.

Its output goes straight into its folder. Its end is heard from the kernel (a pidfd), so nothing looks at it while it runs, but
for its memory now and then.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ergates.agent.descendants import signal_group
from ergates.clock import Clock
from ergates.drivers.launchers.programs import NotStarted, Programs
from ergates.drivers.machine import disk_room
from ergates.errors import InputError
from ergates.experiment.bindings import filled_command, filled_text
from ergates.experiment.conduct_state import Exited
from ergates.experiment.layout import STDERR, STDOUT
from ergates.experiment.records import ProgramRecord
from ergates.experiment.spec import Program

_WORDS_BYTES, _WORDS_LINES = 2000, 5
_ROOM_BYTES = 64 * 1024
_COUNTED_IN_BATCHES_BYTES = 1 << 20
"""By so much two figures of the kernel for the same process may differ."""
_SAMPLE_FIRST_NS, _SAMPLE_MOST_NS = 5_000_000, 1_000_000_000
_DEFAULT_SIGNALS = [
    signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGTSTP, signal.SIGPIPE, signal.SIGXFSZ,
]  # fmt: skip
"""What this process ignores or handles and a program must not."""
_FOR_THE_GROUP = frozenset({"STOP", "CONT", "TSTP", "INT", "QUIT", "TERM", "HUP", "KILL"})
"""As a terminal would; others (USR1, ...) are for the program itself: whoever does not expect them dies of them."""
_NOT_FOR_PROGRAMS = frozenset({b"ERGATES_STORE"})
"""The store is there for the runs: an `erg run` inside a program means a job of its own."""


class ProgramRun:
    """Args:
    program: what the experiment says of it.
    folder: its own, made here.
    values: of every name in templates.
    number: of the run, for `{#}`.
    clock: of this host.
    """

    def __init__(self, program: Program, folder: Path, values: Mapping[str, str], number: int, clock: Clock) -> None:
        self.program, self.folder = program, folder
        self._values, self._number, self._clock = values, number, clock
        self.argv: tuple[str, ...] = ()
        self.pid = 0
        self.pidfd = -1
        self.ready_ns: int | None = None
        self.sample_at_ns = 0
        """When to look at its memory next, by the monotonic clock; 0: never."""
        self._sample_pause_ns = _SAMPLE_FIRST_NS
        self._started_ns: int | None = None
        self._ended_ns: int | None = None
        self._begun_ns = self._wall_ns = 0  # by the monotonic clock
        self._exit_code: int | None = None
        self._signal: int | None = None
        self._cpu_ns = self._peak_bytes = self._floor_bytes = self._sampled_bytes = 0

    # --- its life ---------------------------------------------------------------------------------

    def start(self, programs: Programs) -> None:
        """Start it.

        Raises:
            NotStarted: with the reason in words.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.argv = filled_command(self.program.command, self._values, self._number)
            env = self._environment()
            cwd = filled_text(self.program.cwd, self._values, self._number) if self.program.cwd else str(self.folder)
            os.chdir(os.path.join(self.folder, cwd))
            with open(os.devnull, "rb") as null, self._output(STDOUT) as out, self._output(STDERR) as err:
                actions: list[Any] = [
                    (os.POSIX_SPAWN_DUP2, each.fileno(), number) for number, each in enumerate((null, out, err))
                ]
                self._floor_bytes = _peak_of("self") + _COUNTED_IN_BATCHES_BYTES
                argv = tuple(os.fsencode(word) for word in self.argv)
                self._started_ns, self._begun_ns = self._clock.now_ns(), time.monotonic_ns()
                self.pid = programs.start(
                    argv,
                    env,
                    lambda path, words: os.posix_spawn(
                        path, words, env, file_actions=actions, setsid=True, setsigmask=(), setsigdef=_DEFAULT_SIGNALS
                    ),
                )
        except InputError as error:
            self._started_ns = None
            raise NotStarted(str(error).removeprefix("<template>: ")) from error
        except OSError as error:
            self._started_ns = None
            place = f" {error.filename}" if error.filename else ""
            raise NotStarted(f"not started:{place}: {error.strerror}") from error
        except (ValueError, NotStarted) as error:
            self._started_ns = None
            raise error if isinstance(error, NotStarted) else NotStarted(f"cannot be run: {error}") from error
        finally:
            os.chdir("/")
        self.pidfd = os.pidfd_open(self.pid)
        self.sample_at_ns = self._begun_ns + self._sample_pause_ns

    def _output(self, name: str) -> Any:
        return open(self.folder / name, "ab", buffering=0)

    def _environment(self) -> dict[bytes, bytes]:
        added = {name: filled_text(text, self._values, self._number) for name, text in self.program.env}
        ours = {name: value for name, value in os.environb.items() if name not in _NOT_FOR_PROGRAMS}
        return ours | {os.fsencode(name): os.fsencode(text) for name, text in added.items()}

    def send(self, name: str) -> None:
        """One of its signals."""
        number = signal_number(name)
        if name.upper().removeprefix("SIG") in _FOR_THE_GROUP:
            signal_group(self.pid, number)
        elif self.pidfd >= 0:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, number)

    def stop(self) -> None:
        """Its stop signal, to all of its session's first group; one that is stopped would not hear it."""
        self.send(self.program.stop_signal)
        signal_group(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """It and its group. What gave itself another group is swept when the member ends."""
        signal_group(self.pid, signal.SIGKILL)

    def sample(self) -> None:
        """Look at its memory: the kernel's own figure begins at ours, see `_peak`."""
        self._sampled_bytes = max(self._sampled_bytes, _peak_of(str(self.pid)))
        self._sample_pause_ns = min(_SAMPLE_MOST_NS, self._sample_pause_ns * 3 // 2)
        self.sample_at_ns = time.monotonic_ns() + self._sample_pause_ns
        if self._sampled_bytes > self._floor_bytes:  # from here on the kernel's figure is exact
            self.sample_at_ns = 0

    def reap(self) -> Exited:
        """Take its end from the kernel, which has announced it."""
        self._wall_ns, self._ended_ns = time.monotonic_ns() - self._begun_ns, self._clock.now_ns()
        self.sample_at_ns = 0
        _, status, usage = os.wait4(self.pid, 0)
        os.close(self.pidfd)
        self.pidfd = -1
        self._cpu_ns = int((usage.ru_utime + usage.ru_stime) * 1e9)
        self._peak_bytes = usage.ru_maxrss * 1024
        if os.WIFSIGNALED(status):
            self._signal = os.WTERMSIG(status)
        else:
            self._exit_code = os.WEXITSTATUS(status)
        return Exited(
            program=self.program.name,
            exit_code=self._exit_code,
            signal="" if self._signal is None else signal_name(self._signal),
            last_words=self._last_words(),
        )

    def _last_words(self) -> str:
        words = last_words(self.folder / STDERR)
        with suppress(OSError):
            if disk_room(self.folder)[0] < _ROOM_BYTES:  # then it could not even say so
                words += f"\nno room is left on the disk of {self.folder}"
        return words.strip()

    # --- on record --------------------------------------------------------------------------------

    def record(self, *, ok: bool, problem: str, stopped: bool, files: tuple[tuple[str, int], ...]) -> ProgramRecord:
        """What becomes of it in the member's record."""
        return ProgramRecord(
            name=self.program.name,
            folder=self.folder.name,
            argv=self.argv,
            started_ns=self._started_ns,
            ready_ns=self.ready_ns,
            ended_ns=self._ended_ns,
            exit_code=self._exit_code,
            signal=self._signal,
            stopped=stopped,
            ok=ok,
            problem=problem,
            wall_ns=self._wall_ns,
            cpu_ns=self._cpu_ns,
            peak_bytes=self._peak_bytes if self._peak_is_exact else self._sampled_bytes,
            peak_sampled=not self._peak_is_exact,
            files=files,
        )

    @property
    def _peak_is_exact(self) -> bool:
        """The kernel counts from the moment before the program took the process over, when it was as large as we are.

        A larger figure is the program's own, exactly; a smaller one hides it: then what was sampled is the best there is, 0 for
        one that was over before anybody looked.
        """
        return self._started_ns is None or self._peak_bytes > self._floor_bytes


def signal_number(name: str) -> int:
    """`TERM`, `SIGTERM` or `15`. Raises ValueError."""
    if name.isdigit():
        return int(name)
    try:
        return signal.Signals[f"SIG{name.upper().removeprefix('SIG')}"]
    except KeyError:
        raise ValueError(f"no signal {name!r}") from None


def signal_name(number: int) -> str:
    """`KILL`; the number where it has no name."""
    try:
        return signal.Signals(number).name.removeprefix("SIG")
    except ValueError:
        return str(number)


def last_words(path: Path) -> str:
    """The last lines of a file, as text on one line each; empty when there are none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _WORDS_BYTES))
            text = file.read(_WORDS_BYTES).decode(errors="replace")
    except OSError:
        return ""
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    return "\n".join(lines[-_WORDS_LINES:])


def _peak_of(pid: str) -> int:
    """The largest resident size so far, in bytes; 0 when it has ended."""
    with suppress(OSError, ValueError, IndexError), open(f"/proc/{pid}/status", "rb", buffering=0) as file:
        return int(file.read(8192).split(b"VmHWM:", 1)[1].split(None, 1)[0]) * 1024
    return 0
