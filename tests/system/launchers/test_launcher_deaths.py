"""Whoever dies, nothing of an attempt stays: SIGKILL of the worker, of worker and supervisor, and the next start's cleaning."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from ergates.drivers.launchers.leftovers import RECORD, clean_leftovers, write_record

WORKER = textwrap.dedent("""
    import os, sys, uuid
    from pathlib import Path
    from ergates.clock import SystemClock
    from ergates.drivers.launchers.process import ProcessLauncher
    from ergates.taskqueue.launching import Launch, Started

    state, prefer, marks, frozen = Path(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4] == "frozen"
    launcher = ProcessLauncher(state, str(uuid.uuid4()), clock=SystemClock(), prefer=prefer)
    script = (
        f"echo $$ >> {marks}; sleep 1000 & echo $! >> {marks};"
        f"setsid -f sh -c 'trap \\"\\" TERM INT HUP; echo $$ >> {marks}; exec sleep 1000'; sleep 1000"
    )
    slots = [launcher.open_slot() for _ in range(3)]
    for number, slot in enumerate(slots):
        launch = Launch(key=("j", number, 1), argv=("sh", "-c", script), env={"PATH": os.environ["PATH"]}, output_job="j")
        launcher.launch(slot, [launch])
    running = 0
    while running < 3 or open(marks).read().count("\\n") < 9:
        running += sum(isinstance(event, Started) for event in launcher.poll(0.02))
    if frozen:
        launcher.freeze(slots[0])
    print("supervisor", launcher._supervisor.pid, *[link.pid for link in launcher._slots.values()], flush=True)
    if os.fork() == 0:  # a child that keeps every socket of ours open must not keep the attempts alive
        while True:
            os.write(1, b".\\n")
            __import__("time").sleep(0.2)
    launcher.poll(1000)
""")


class Crew:
    """A worker process with three busy slots; every process of its attempts is in `pids`."""

    def __init__(self, folder: Path, prefer: str, frozen: bool = False) -> None:
        self.state = folder / "state"
        marks = folder / "marks"
        marks.touch()
        arguments = [str(self.state), prefer, str(marks), "frozen" if frozen else "running"]
        self.worker = subprocess.Popen(
            [sys.executable, "-c", WORKER, *arguments], stdout=subprocess.PIPE, start_new_session=True, text=True
        )
        assert self.worker.stdout is not None
        words = self.worker.stdout.readline().split()
        assert words[:1] == ["supervisor"], words
        self.supervisor, *self.helpers = map(int, words[1:])
        self.pids = [int(pid) for pid in marks.read_text().split()]
        assert len(self.pids) == 9

    def kill_worker(self) -> None:
        """The worker alone; its forked child lives on until `finish`."""
        self.worker.kill()
        self.worker.wait()

    def everything(self) -> list[int]:
        return [pid for pid in [self.supervisor, *self.helpers, *self.pids] if alive(pid)]

    def wait_until_gone(self, timeout_s: float) -> None:
        until = time.monotonic() + timeout_s
        while left := self.everything():
            assert time.monotonic() < until, f"still there: {[describe(pid) for pid in left]}"
            time.sleep(0.01)

    def finish(self) -> None:
        try:
            os.killpg(self.worker.pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        finally:
            self.worker.wait()
            if self.worker.stdout is not None:
                self.worker.stdout.close()


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def describe(pid: int) -> str:
    try:
        return f"{pid} {Path(f'/proc/{pid}/cmdline').read_bytes()!r} {Path(f'/proc/{pid}/stat').read_text()}"
    except OSError:
        return str(pid)


KINDS = pytest.mark.parametrize("prefer", ["auto", "v2", "none"])


@KINDS
def test_nothing_outlives_a_killed_worker(tmp_path: Path, prefer: str) -> None:
    made = Crew(tmp_path, prefer)
    try:
        folders = [path.name for path in (made.state / "workers").iterdir()]
        made.kill_worker()
        made.wait_until_gone(1.0)  # the promise: within a second
        assert list((made.state / "workers").iterdir()) == []
        assert not [each for name in folders for each in Path("/sys/fs/cgroup").glob(f"**/ergates-{name}")]
    finally:
        made.finish()


@KINDS
def test_nothing_frozen_outlives_a_killed_worker(tmp_path: Path, prefer: str) -> None:
    made = Crew(tmp_path, prefer, frozen=True)
    try:
        made.kill_worker()
        made.wait_until_gone(5.0)
    finally:
        made.finish()


@KINDS
def test_slots_end_themselves_when_worker_and_supervisor_are_killed(tmp_path: Path, prefer: str) -> None:
    made = Crew(tmp_path, prefer)
    try:
        os.kill(made.supervisor, signal.SIGKILL)
        made.kill_worker()
        made.wait_until_gone(5.0)
        assert len(clean_leftovers(made.state)) == 1  # record and groups were still there
        assert list((made.state / "workers").iterdir()) == []
    finally:
        made.finish()


@KINDS
def test_the_next_start_ends_what_is_left_when_all_of_us_are_killed_at_once(tmp_path: Path, prefer: str) -> None:
    made = Crew(tmp_path, prefer)
    try:
        for pid in [made.worker.pid, made.supervisor, *made.helpers]:
            os.kill(pid, signal.SIGSTOP)  # so that none can act on the death of another
        for pid in [made.worker.pid, made.supervisor, *made.helpers]:
            os.kill(pid, signal.SIGKILL)
        made.worker.wait()
        assert [pid for pid in made.pids if alive(pid)] == made.pids
        assert len(clean_leftovers(made.state)) == 1
        made.wait_until_gone(5.0)
        assert list((made.state / "workers").iterdir()) == []
        assert clean_leftovers(made.state) == []
    finally:
        made.finish()


def test_a_living_worker_is_left_alone(tmp_path: Path) -> None:
    made = Crew(tmp_path, "auto")
    try:
        assert clean_leftovers(made.state) == []
        assert [pid for pid in made.pids if alive(pid)] == made.pids
        made.kill_worker()
        made.wait_until_gone(5.0)
    finally:
        made.finish()


def test_records_of_other_machines_and_broken_ones_are_left_alone(tmp_path: Path) -> None:
    for name in ("elsewhere", "broken"):
        (tmp_path / "workers" / name).mkdir(parents=True)
    write_record(tmp_path / "workers" / "elsewhere", "elsewhere", {"kind": "tree", "proc": "/proc"})
    record = tmp_path / "workers" / "elsewhere" / RECORD
    facts = json.loads(record.read_text())
    record.write_text(json.dumps({**facts, "boot_id": "another", "host": "another"}))
    (tmp_path / "workers" / "broken" / RECORD).write_text('{"launcher": "bro')
    assert clean_leftovers(tmp_path) == []
    record.write_text(json.dumps({**facts, "boot_id": "another"}))
    assert clean_leftovers(tmp_path) == ["elsewhere"], "this host before its last boot"


def test_interrupts_from_the_terminal_do_not_reach_attempts(tmp_path: Path) -> None:
    made = Crew(tmp_path, "auto")
    try:
        for pid in [made.supervisor, *made.helpers]:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGTSTP):
                os.kill(pid, number)
        assert made.worker.poll() is None
        sessions = {os.getsid(pid) for pid in made.pids}
        assert os.getsid(made.worker.pid) not in sessions
        assert os.getsid(made.supervisor) != os.getsid(made.worker.pid)
        assert made.everything() == [made.supervisor, *made.helpers, *made.pids]
        made.kill_worker()
        made.wait_until_gone(5.0)
    finally:
        made.finish()
