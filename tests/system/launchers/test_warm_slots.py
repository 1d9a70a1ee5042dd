"""Warm Python slots as the launcher sees them: calls, limits, kills, and interpreters that die."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from ergates.clock import SystemClock
from ergates.drivers.launchers.process import ProcessLauncher
from ergates.drivers.output.read import output_folder, read_output
from ergates.taskqueue.launching import AttemptKey, Ended, Launch, LaunchEvent, Started
from ergates.units import Nanoseconds

MODULE = """
import os, sys, time

def double(x):
    return 2 * x

def nap(seconds):
    time.sleep(seconds)

def crash(number):
    os.kill(os.getpid(), number)

def leave(code):
    os._exit(code)

def hold(size):
    global kept
    kept = bytearray(b"x") * size
    time.sleep(1000)
"""


class Warm:
    def __init__(self, folder: Path, prefer: str) -> None:
        (folder / "warm_calls.py").write_text(MODULE)
        self.state = folder / "state"
        environment = {**os.environ, "PYTHONPATH": str(folder)}
        self.launcher = ProcessLauncher(
            self.state,
            str(uuid.uuid4()),
            clock=SystemClock(),
            prefer=prefer,  # type: ignore[arg-type]
            python_environment=environment,
            python_cwd=str(folder),
        )
        self.slot = self.launcher.open_slot("python")
        self.events: list[LaunchEvent] = []
        self._number = 0
        self._folder = folder

    def call(self, *calls: tuple[str, object], limit_ns: int | None = None) -> list[AttemptKey]:
        launches = []
        for name, argument in calls:
            self._number += 1
            payload = json.dumps({"function": f"warm_calls:{name}", "args": [argument]}).encode()
            launches.append(
                Launch(
                    key=("w", self._number, 1),
                    payload=payload,
                    env=dict(os.environ),
                    cwd=str(self._folder),
                    output_job="w",
                    time_limit_ns=None if limit_ns is None else Nanoseconds(limit_ns),
                    grace_ns=Nanoseconds(200_000_000),
                )
            )
        self.launcher.launch(self.slot, launches)
        return [launch.key for launch in launches]

    def ended(self, key: AttemptKey) -> Ended:
        while True:
            for event in self.events:
                if isinstance(event, Ended) and event.key == key:
                    return event
            self.events += self.launcher.poll(10.0)

    def started(self, key: AttemptKey) -> None:
        while not any(isinstance(event, Started) and event.key == key for event in self.events):
            self.events += self.launcher.poll(10.0)


@pytest.fixture(params=["auto", "none"])
def warm(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Warm]:
    made = Warm(tmp_path, request.param)
    yield made
    made.launcher.close()
    assert list((made.state / "workers").iterdir()) == []


def test_calls_run_in_one_interpreter(warm: Warm) -> None:
    keys = warm.call(*[("double", number) for number in range(50)])
    ends = [warm.ended(key) for key in keys]
    assert [end.exit_code for end in ends] == [0] * 50
    folder = output_folder(warm.state, "w")
    assert [read_output(folder, end.output)[0].strip() for end in ends] == [b"%d" % (2 * n) for n in range(50)]


def test_a_time_limit_ends_the_interpreter_and_the_next_calls_come_back_unharmed(warm: Warm) -> None:
    before = warm.call(("double", 1))[0]
    long, behind = warm.call(("nap", 1000), ("double", 2), limit_ns=300_000_000)
    ended = warm.ended(long)
    assert ended.timed_out
    assert ended.signal == 15
    returned = warm.ended(behind)
    assert (returned.lost, returned.started_ns, returned.exit_code) == (True, 0, None)
    assert warm.ended(before).exit_code == 0
    assert warm.ended(warm.call(("double", 3))[0]).exit_code == 0


@pytest.mark.parametrize("grace_ns", [0, 10_000_000_000])
def test_kill_ends_the_call_that_runs(warm: Warm, grace_ns: int) -> None:
    key = warm.call(("nap", 1000))[0]
    warm.started(key)
    warm.launcher.kill(warm.slot, key, Nanoseconds(grace_ns))
    ended = warm.ended(key)
    assert ended.killed
    assert ended.signal == (15 if grace_ns else 9)
    assert warm.ended(warm.call(("double", 3))[0]).exit_code == 0


def test_a_frozen_call_can_be_killed(warm: Warm) -> None:
    key = warm.call(("nap", 1000))[0]
    warm.started(key)
    warm.launcher.freeze(warm.slot)
    warm.launcher.kill(warm.slot, key, Nanoseconds(0))
    assert warm.ended(key).killed


def test_an_interpreter_that_dies_is_the_end_of_the_call(warm: Warm) -> None:
    crashed = warm.ended(warm.call(("crash", 11))[0])
    assert (crashed.signal, crashed.lost) == (11, False)
    left = warm.ended(warm.call(("leave", 7))[0])
    assert (left.exit_code, left.lost) == (7, False)
    silent = warm.ended(warm.call(("leave", 0))[0])
    assert silent.error == "its interpreter ended before the function returned"
    assert warm.ended(warm.call(("double", 3))[0]).exit_code == 0


def test_memory_of_a_call_is_seen_without_the_interpreter(warm: Warm) -> None:
    size = 100_000_000
    key = warm.call(("hold", size))[0]
    used = 0
    while used < 0.95 * size:
        warm.events += warm.launcher.poll(0.02)
        used = max([used, *[sample.used_bytes for sample in warm.launcher.sample() if sample.key == key]])
    assert used < 1.1 * size
    warm.launcher.kill(warm.slot, key, Nanoseconds(0))
    assert warm.ended(key).killed
