"""Workers of an experiment on this machine: child processes in sessions of their own, known by a mark that all of theirs inherit.

Whoever conducts an experiment may be killed at any moment, and so may anything it started. Records of what was started can be a
moment late; the mark in the environment cannot. So what an earlier attempt left is found by it and ended, whatever it was.
"""

from __future__ import annotations

import hashlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ergates.drivers.launchers.leftovers import clean_leftovers
from ergates.errors import ErgatesError, UsageError
from ergates.experiment.host import (
    ADDRESS_VARIABLE,
    HOST_VARIABLE,
    WHOLE_HOST,
    ExperimentHost,
    worker_labels,
)
from ergates.experiment.spec import HostGroup

MARK = "ERG_EXPERIMENT_MARK"
END_S = 10.0
"""Workers that were told to give back what they run need a grace (5 s) and a moment for the store."""
KILL_S = 10.0
EARLY_S, EARLY_ENDS_MOST = 20.0, 5
"""One that ends so soon after its start, so many times in a row, will do so for ever."""
LINES_SHOWN = 10
_LOOK_S = 0.01
_UNSEEN_LOOKS = 2
"""A process that is just becoming another program shows no environment for a moment: one look is not enough."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where an experiment lies on this machine, both absolute.

    Args:
        folder: of its runs.
        here: of its file.
    """

    folder: Path
    here: Path

    @property
    def mark(self) -> str:
        """The same for every process of this folder's experiment, another one for any other folder."""
        return hashlib.sha256(os.fsencode(self.folder.resolve())).hexdigest()[:24]

    @property
    def hosts(self) -> Path:
        """What was set up for hosts: logs, and where workers keep their state."""
        return self.folder / "hosts"

    @property
    def worker_state(self) -> Path:
        return self.hosts / "state"


class LocalWorkers:
    """The workers of one group on this machine.

    Args:
        group: whose.
        place: of the experiment.
    """

    def __init__(self, group: HostGroup, place: Place) -> None:
        self._group, self._place = group, place
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._started_s: dict[str, float] = {}
        self._early_ends: dict[str, int] = {}

    def start(self, host: ExperimentHost, store_file: Path, experiment: str, prefix: Sequence[str] = ()) -> None:
        """One worker for this host, unless that of ours lives.

        Args:
            host: whose.
            store_file: how it gets into the store.
            experiment: its name.
            prefix: what the command is run by, to enter a namespace.

        Raises:
            ErgatesError: it has ended soon after its start again and again; the message holds what it said.
        """
        log = self._place.hosts / f"{host.name}.log"
        running = self._running.get(host.name)
        if running is not None:
            if running.poll() is None:
                return
            self._note_end(host.name, running.returncode, log)
        self._place.worker_state.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._started_s[host.name] = time.monotonic()
        with log.open("ab") as stream:
            self._running[host.name] = subprocess.Popen(
                [*prefix, *self._command(host, store_file, experiment, log)],
                cwd="/",
                env={**os.environ, MARK: self._place.mark, ADDRESS_VARIABLE: host.address, HOST_VARIABLE: host.name},
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                start_new_session=True,
            )

    def _note_end(self, name: str, code: int, log: Path) -> None:
        early = time.monotonic() - self._started_s[name] < EARLY_S
        self._early_ends[name] = self._early_ends.get(name, 0) + 1 if early else 0
        if self._early_ends[name] >= EARLY_ENDS_MOST:
            said = "\n".join(f"  {line}" for line in log.read_text(errors="replace").splitlines()[-LINES_SHOWN:])
            raise ErgatesError(
                f"{name}: its worker ended {self._early_ends[name]} times in a row soon after its start"
                f" (exit code {code})\n{said}"
            )

    def _command(self, host: ExperimentHost, store_file: Path, experiment: str, log: Path) -> list[str]:
        labels = worker_labels(experiment, host.group, host.name)
        command = [sys.executable, "-P", "-m", "ergates", "worker", "start", "--store", str(store_file)]
        command += [word for name, value in labels.items() for word in ("--label", f"{name}={value}")]
        command += ["--resource", f"{WHOLE_HOST}=1", "--state", str(self._place.worker_state), "--log", str(log), "-q"]
        if self._group.cpus_milli is not None:
            command += ["--cpus", f"{self._group.cpus_milli / 1000:g}"]
        if self._group.memory_bytes is not None:
            command += ["--memory", str(self._group.memory_bytes)]
        return command

    def end(self) -> None:
        """They give back what they run, and are killed when that takes too long."""
        alive = [process for process in self._running.values() if process.poll() is None]
        for process in alive:  # two signals of one kind could become one before they are seen
            process.send_signal(signal.SIGTERM)
            process.send_signal(signal.SIGINT)
        until = time.monotonic() + END_S
        for process in alive:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, until - time.monotonic()))
        for process in alive:
            if process.poll() is None:
                process.kill()
                process.wait()
        self._running.clear()


def end_leftovers(place: Place, *, spared: Iterable[int] = ()) -> int:
    """Kill every process that carries the experiment's mark, and remove the control groups that dead workers left.

    Args:
        place: of the experiment.
        spared: processes that live on.

    Returns:
        How many processes there were.

    Raises:
        ErgatesError: one does not end.
    """
    mark, kept, seen = f"{MARK}={place.mark}".encode(), {os.getpid(), *spared}, set[int]()
    until, unseen = time.monotonic() + KILL_S, 0
    while unseen < _UNSEEN_LOOKS:
        left = _marked(mark) - kept
        if not left:
            unseen += 1
            time.sleep(_LOOK_S)
            continue
        unseen = 0
        if time.monotonic() > until:
            raise ErgatesError(f"processes of an earlier attempt do not end: {', '.join(map(str, sorted(left)))}")
        for pid in left:
            _kill(pid, mark)
        seen |= left
    clean_leftovers(place.worker_state)
    return len(seen)


def left_running(place: Place) -> int:
    """How many processes carry the experiment's mark, of any attempt."""
    return len(_marked(f"{MARK}={place.mark}".encode()) - {os.getpid()})


def run_setup(
    group: HostGroup, place: Place, hosts: Sequence[ExperimentHost], prefix_of: Mapping[str, Sequence[str]]
) -> None:
    """Run the group's script once for each host, in the folder of the file, with the host's name and address told.

    Raises:
        ErgatesError: one failed; the message holds the end of what it said.
    """
    script = place.here / group.setup
    command = [str(script)] if os.access(script, os.X_OK) else ["/bin/sh", str(script)]
    for host in hosts if group.setup else ():
        done = subprocess.run(
            [*prefix_of.get(host.name, ()), *command],
            cwd=place.here,
            env={**os.environ, MARK: place.mark, ADDRESS_VARIABLE: host.address, HOST_VARIABLE: host.name},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
        if done.returncode:
            said = "\n".join(f"  {line}" for line in done.stdout.splitlines()[-LINES_SHOWN:])
            raise ErgatesError(
                f"hosts.{group.name}: setup {script} failed on {host.name}: exit code {done.returncode}\n{said}"
            )


def check_setup(group: HostGroup, place: Place) -> None:
    """Raises UsageError when the group's script is not there."""
    if group.setup and not (place.here / group.setup).is_file():
        raise UsageError(
            f"hosts.{group.name}: setup {group.setup!r}: no such file\n  expected: a script, relative to {place.here}"
        )


def host_names(group: HostGroup) -> tuple[str, ...]:
    """`lab` where there is one, else `lab-1`, `lab-2`, ..."""
    return (group.name,) if group.count == 1 else tuple(f"{group.name}-{n}" for n in range(1, group.count + 1))


def _marked(mark: bytes) -> set[int]:
    return {int(name) for name in os.listdir("/proc") if name.isdigit() and _carries(int(name), mark)}


def _carries(pid: int, mark: bytes) -> bool:
    """Whether a living process has this in its environment; a zombie has none."""
    with suppress(OSError):  # it ended while we looked, or is not ours to read
        return mark in Path("/proc", str(pid), "environ").read_bytes().split(b"\0")
    return False


def _kill(pid: int, mark: bytes) -> None:
    """SIGKILL, and wait a moment for its end. Looked at again once the number cannot become somebody else's any more."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if _carries(pid, mark):
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            select.select([pidfd], [], [], _LOOK_S)
    finally:
        os.close(pidfd)
