"""Drives the real `erg` in a folder of its own, and knows every process it ever started by a mark in their environment."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, TypeVar

from ergates.cluster.attempt import Outcome
from ergates.drivers.stores.sqlite import SqliteStore

T = TypeVar("T")
GONE_S = 1.0
"""The supervisor promises to have ended every task within this after its worker is gone."""
SLACK_S = 9.0
"""What a busy machine of two cores may add before a test calls it broken."""
PATIENCE_S = 60.0


class Erg:
    """`erg` with `folder` as its working directory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._mark = uuid.uuid4().hex
        self._started: list[subprocess.Popen[bytes]] = []

    # --- running it ---------------------------------------------------------------------------

    def __call__(self, *arguments: str, stdin: bytes | None = None, env: Mapping[str, str] | None = None) -> Ended:
        """Run it to its end."""
        process = self.start(*arguments, stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE, env=env)
        out, err = process.communicate(stdin, timeout=PATIENCE_S)
        return Ended(process.returncode, out, err.decode(errors="replace"))

    def start(
        self,
        *arguments: str,
        stdin: int | IO[bytes] = subprocess.DEVNULL,
        stdout: int = subprocess.PIPE,
        stderr: int = subprocess.PIPE,
        env: Mapping[str, str] | None = None,
        program: Sequence[str] = (sys.executable, "-m", "ergates"),
    ) -> subprocess.Popen[bytes]:
        """Start it, in a session of its own."""
        process = subprocess.Popen(
            [*program, *arguments],
            cwd=self.folder,
            env={**self._base_env(), **(env or {})},
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )
        self._started.append(process)
        return process

    def _base_env(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("ERGATES_")}
        return {**kept, "ERG_TEST_MARK": self._mark, "XDG_CONFIG_HOME": str(self.folder / "no-config")}

    def commands(self, *lines: str, name: str = "commands.txt") -> str:
        """Write a file of commands and return its name."""
        (self.folder / name).write_text("".join(f"{line}\n" for line in lines))
        return name

    # --- what came of it ----------------------------------------------------------------------

    def jobs(self, *words: str) -> list[dict[str, Any]]:
        """What `erg status --json` shows, newest first."""
        shown = self("status", "--json", *words)
        assert shown.code == 0, shown.err
        found: list[dict[str, Any]] = json.loads(shown.out)
        return found

    def rows(self, *words: str) -> list[dict[str, Any]]:
        """What `erg export` shows of the newest job, by task."""
        shown = self("export", "--format", "jsonl", *words)
        assert shown.code == 0, shown.err
        return [json.loads(line) for line in shown.out.splitlines()]

    def logs(self, *words: str) -> bytes:
        """What `erg logs` prints on standard output."""
        shown = self("logs", *words)
        assert shown.code == 0, shown.err
        return shown.out

    def check_ledger(self, total: int, *, state: str = ".ergates") -> None:
        """In every job all tasks are done, each was committed as succeeded exactly once, and counters equal the ledger."""
        store = SqliteStore(self.folder / state / "ergates.db")
        try:
            assert store.connection().raw.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            for status in store.jobs():
                ledger = [(task, attempt.outcome) for _, task, attempt in store.attempts(status.id)]
                succeeded = Counter(int(task) for task, outcome in ledger if outcome is Outcome.SUCCEEDED)
                odd = {task: succeeded[task] for task in range(1, total + 1) if succeeded[task] != 1}
                assert not odd, f"{status.id}: these did not succeed exactly once: {odd}; {status}"
                assert status.counts["done"] == status.total == total
                assert Counter(outcome.value for _, outcome in ledger) == Counter(status.outcomes)
        finally:
            store.close()

    # --- processes ----------------------------------------------------------------------------

    def processes(self) -> dict[int, str]:
        """Living processes that inherited our mark, with their command lines."""
        needle = f"ERG_TEST_MARK={self._mark}".encode()
        found = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    if needle in (entry / "environ").read_bytes().split(b"\0"):
                        found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                except OSError:
                    continue  # ended while we looked
        return found

    def running(self, words: str) -> list[int]:
        """Our processes with these words in their command line."""
        return [pid for pid, line in self.processes().items() if words in line]

    def wait_until_gone(self) -> None:
        """Nothing of ours may be left within the promised second."""
        begun = time.monotonic()
        while left := self.processes():
            assert time.monotonic() - begun < GONE_S + SLACK_S, f"still running: {left}"
            time.sleep(0.02)  # nothing announces the end of somebody else's children

    def clean_up(self) -> None:
        """End what a failed test left."""
        for process in self._started:
            if process.poll() is None:
                process.kill()
                process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    stream.close()
        for pid in self.processes():
            os.kill(pid, signal.SIGKILL)


class Ended:
    """Exit code, standard output and standard error of a run that ended."""

    def __init__(self, code: int, out: bytes, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    def __repr__(self) -> str:
        return f"exit code {self.code}\nstdout: {self.out[:2000]!r}\nstderr:\n{self.err[:4000]}"


def ended(process: subprocess.Popen[bytes], *, patience_s: float = PATIENCE_S) -> Ended:
    """Wait for the end of one that was started."""
    out, err = process.communicate(timeout=patience_s)
    return Ended(process.returncode, out or b"", (err or b"").decode(errors="replace"))


def eventually(look: Callable[[], T], what: str, process: subprocess.Popen[bytes] | None = None) -> T:
    """Look again and again until it is true of something that announces itself to nobody."""
    until = time.monotonic() + PATIENCE_S
    while not (seen := look()):
        assert process is None or process.poll() is None, f"it ended before: {what}\n{ended(process)}"
        assert time.monotonic() < until, f"never happened: {what}"
        time.sleep(0.02)
    return seen
