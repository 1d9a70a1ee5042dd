"""What every launcher must do, whatever it runs attempts in. A driver's test file subclasses `LauncherContract` and gives it
a `rig` fixture. The commands need /bin/sh and the usual small tools (cat, head, tail, sleep, od), nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ergates.cluster.attempt import Output
from ergates.drivers.output.read import read_output
from ergates.taskqueue.launching import AttemptKey, Ended, Launch, Launcher, LaunchEvent, Started
from ergates.units import Nanoseconds

MILLISECOND_NS = 1_000_000
PATIENCE_S = 30.0


class Rig:
    """A launcher under test with one open slot, and words to use it.

    Args:
        launcher: fresh.
        output_folder: where the packs of an output job are.
        fields: of every Launch (environment, image, ...).
    """

    def __init__(self, launcher: Launcher, output_folder: Callable[[str], Path], **fields: Any) -> None:
        self.launcher, self._output_folder, self._fields = launcher, output_folder, fields
        self.slot = launcher.open_slot()
        self.events: list[LaunchEvent] = []
        self._number = 0

    def launch(self, *argv: str, slot: int | None = None, **fields: Any) -> AttemptKey:
        return self.launch_all([argv], slot=slot, **fields)[0]

    def launch_all(self, commands: list[tuple[str, ...]], slot: int | None = None, **fields: Any) -> list[AttemptKey]:
        launches = []
        for argv in commands:
            self._number += 1
            key = ("job", self._number, 1)
            launches.append(Launch(key=key, argv=argv, **{"output_job": "job", **self._fields, **fields}))
        self.launcher.launch(self.slot if slot is None else slot, launches)
        return [launch.key for launch in launches]

    def run(self, *argv: str, **fields: Any) -> Ended:
        return self.ended(self.launch(*argv, **fields))

    def ended(self, key: AttemptKey) -> Ended:
        """Wait for the end of an attempt."""
        return self._wait(lambda event: isinstance(event, Ended) and event.key == key, f"the end of {key}")  # type: ignore[return-value]

    def started(self, key: AttemptKey) -> Started:
        """Wait until an attempt is said to run."""
        return self._wait(lambda event: isinstance(event, Started) and event.key == key, f"the start of {key}")  # type: ignore[return-value]

    def has_printed(self, key: AttemptKey, path: Path) -> None:
        """Wait until a running attempt has made a file: then it has come that far."""
        until = time.monotonic() + PATIENCE_S
        while not path.exists():
            assert time.monotonic() < until, f"{path} never came"
            self.events += self.launcher.poll(0.01)

    def sampled(self, key: AttemptKey, enough: Callable[[int], bool]) -> int:
        """Sample until an attempt's memory is as it should be; fails with the last figure."""
        until = time.monotonic() + PATIENCE_S
        used = -1
        while time.monotonic() < until:
            for sample in self.launcher.sample():
                if sample.key == key:
                    used = sample.used_bytes
                    if enough(used):
                        return used
            self.events += self.launcher.poll(0.02)
        pytest.fail(f"{key}: last sample {used} bytes")

    def output(self, ended: Ended) -> tuple[bytes, bytes]:
        return self.read(ended.output)

    def read(self, output: Output) -> tuple[bytes, bytes]:
        return read_output(self._output_folder("job"), output)

    def _wait(self, wanted: Callable[[LaunchEvent], bool], what: str) -> LaunchEvent:
        until = time.monotonic() + PATIENCE_S
        while True:
            for event in self.events:
                if wanted(event):
                    return event
            assert time.monotonic() < until, f"{what} never came; events: {self.events[-3:]}"
            self.events += self.launcher.poll(0.2)


class LauncherContract:
    """Subclass it, with a fixture `rig`."""

    def test_exit_codes_come_through(self, rig: Rig) -> None:
        for code in (0, 1, 77, 255):
            ended = rig.run("sh", "-c", f"exit {code}")
            assert (ended.exit_code, ended.signal, ended.error) == (code, None, None)
            assert 0 < ended.started_ns <= ended.ended_ns

    def test_every_attempt_starts_before_it_ends(self, rig: Rig) -> None:
        key = rig.launch("true")
        rig.ended(key)
        kinds = [type(event) for event in rig.events if event.key == key]
        assert kinds == [Started, Ended]

    def test_a_signal_is_told_apart_from_an_exit_code(self, rig: Rig) -> None:
        ended = rig.run("sh", "-c", "kill -SEGV $$")
        assert (ended.exit_code, ended.signal, ended.error) == (None, 11, None)
        assert not (ended.killed or ended.timed_out or ended.oom_killed)

    def test_a_command_that_does_not_exist(self, rig: Rig) -> None:
        ended = rig.run("no-such-command-anywhere")
        assert ended.error is not None
        assert "command not found: no-such-command-anywhere" in ended.error
        assert (ended.exit_code, ended.signal) == (None, None)

    def test_both_outputs_are_kept_apart(self, rig: Rig) -> None:
        ended = rig.run("sh", "-c", "echo out; echo err >&2; echo more")
        assert rig.output(ended) == (b"out\nmore\n", b"err\n")

    def test_outputs_of_many_attempts_do_not_mix(self, rig: Rig) -> None:
        keys = rig.launch_all([("sh", "-c", f"echo {n}; echo e{n} >&2") for n in range(20)])
        for number, key in enumerate(keys):
            assert rig.output(rig.ended(key)) == (b"%d\n" % number, b"e%d\n" % number)

    def test_a_scratch_directory_is_empty_for_every_attempt(self, rig: Rig) -> None:
        words = 'cd "$ERG_TASK_DIR" && ls -A && mkdir -p left/behind && touch file'
        keys = rig.launch_all([("sh", "-c", words)] * 3)
        for key in keys:
            ended = rig.ended(key)
            assert (ended.exit_code, rig.output(ended)) == (0, (b"", b"")), ended
        named = rig.run("sh", "-c", 'echo "$ERG_TASK_DIR"', env_changes={"ERG_TASK_DIR": "/mine"})
        assert rig.output(named) == (b"/mine\n", b"")

    def test_no_output_takes_no_room(self, rig: Rig) -> None:
        assert rig.run("true").output == Output()

    def test_binary_output_comes_through_unchanged(self, rig: Rig) -> None:
        data = bytes(range(256)) * 50
        assert rig.output(rig.run("cat", stdin_data=data)) == (data, b"")

    def test_ten_megabytes_on_one_line_come_through_unchanged(self, rig: Rig) -> None:
        ended = rig.run("sh", "-c", "head -c 10000000 /dev/zero | tr '\\0' x; echo")
        assert ended.output.stdout_bytes == 10_000_001
        assert rig.output(ended)[0] == b"x" * 10_000_000 + b"\n"

    def test_stdin_is_empty_unless_given(self, rig: Rig) -> None:
        assert rig.output(rig.run("sh", "-c", "cat; echo end")) == (b"end\n", b"")

    def test_the_environment_is_the_one_given(self, rig: Rig) -> None:
        for value in ("one", "two two", "", "ünï"):
            ended = rig.run("sh", "-c", 'echo "[$CONTRACT]"', env={"PATH": "/usr/bin:/bin", "CONTRACT": value})
            assert rig.output(ended)[0].decode() == f"[{value}]\n"

    def test_a_slot_runs_what_it_is_given_in_order(self, rig: Rig) -> None:
        keys = rig.launch_all([("sh", "-c", f"exit {n}") for n in range(12)])
        for key in keys:
            rig.ended(key)
        ends = [(event.key, event.exit_code) for event in rig.events if isinstance(event, Ended)]
        assert ends == [(key, number) for number, key in enumerate(keys)]

    def test_a_time_limit_ends_it_even_if_it_ignores_term(self, rig: Rig) -> None:
        limits = {"time_limit_ns": 1000 * MILLISECOND_NS, "grace_ns": 200 * MILLISECOND_NS}
        ended = rig.run("sh", "-c", "trap '' TERM; while :; do sleep 0.05; done", **limits)
        assert ended.timed_out
        assert ended.signal == 9
        assert not ended.killed

    def test_the_time_limit_leaves_room_to_clean_up(self, rig: Rig) -> None:
        limits = {"time_limit_ns": 300 * MILLISECOND_NS, "grace_ns": 20_000 * MILLISECOND_NS}
        ended = rig.run("sh", "-c", "trap 'echo bye; exit 3' TERM; while :; do sleep 0.05; done", **limits)
        assert ended.timed_out
        assert ended.exit_code == 3
        assert rig.output(ended)[0] == b"bye\n"

    def test_kill_ends_the_running_attempt_and_the_queue_goes_on(self, rig: Rig) -> None:
        first, second = rig.launch_all([("sleep", "1000"), ("sh", "-c", "echo on")])
        rig.started(first)
        rig.launcher.kill(rig.slot, first, Nanoseconds(0))
        ended = rig.ended(first)
        assert ended.killed
        assert ended.signal == 9
        after = rig.ended(second)
        assert after.exit_code == 0
        assert rig.output(after)[0] == b"on\n"

    def test_kill_drops_a_queued_attempt(self, rig: Rig) -> None:
        first, second, third = rig.launch_all([("sleep", "1000"), ("sh", "-c", "echo never"), ("true",)])
        rig.started(first)
        rig.launcher.kill(rig.slot, second, Nanoseconds(0))
        rig.launcher.kill(rig.slot, first, Nanoseconds(0))
        dropped = rig.ended(second)
        assert dropped.killed
        assert dropped.started_ns == 0
        assert dropped.error is not None
        assert rig.ended(third).exit_code == 0

    def test_kill_after_the_end_changes_nothing(self, rig: Rig) -> None:
        key = rig.launch("true")
        rig.ended(key)
        rig.launcher.kill(rig.slot, key, Nanoseconds(0))
        assert rig.run("sh", "-c", "exit 5").exit_code == 5
        assert sum(isinstance(event, Ended) and event.key == key for event in rig.events) == 1

    def test_a_frozen_attempt_stands_still_and_goes_on_when_thawed(self, rig: Rig) -> None:
        key = rig.launch("sh", "-c", "sleep 0.3; exit 4")
        rig.started(key)
        rig.launcher.freeze(rig.slot)
        assert rig.launcher.poll(1.0) == []
        rig.launcher.thaw(rig.slot)
        assert rig.ended(key).exit_code == 4

    def test_a_frozen_attempt_can_be_killed(self, rig: Rig) -> None:
        key = rig.launch("sleep", "1000")
        rig.started(key)
        rig.launcher.freeze(rig.slot)
        rig.launcher.kill(rig.slot, key, Nanoseconds(0))
        ended = rig.ended(key)
        assert ended.killed
        assert rig.run("true").exit_code == 0

    def test_memory_is_seen_while_it_runs(self, rig: Rig) -> None:
        size = 100_000_000
        key = rig.launch("sh", "-c", f"(head -c {size} /dev/zero; sleep 1000) | tail -c 1000000000 | od")
        used = rig.sampled(key, lambda used: used > 0.95 * size)
        assert used < 1.3 * size
        rig.launcher.kill(rig.slot, key, Nanoseconds(0))
        rig.ended(key)

    def test_slots_run_side_by_side(self, rig: Rig) -> None:
        other = rig.launcher.open_slot()
        long = rig.launch("sleep", "1000")
        short = rig.launch("true", slot=other)
        assert rig.ended(short).exit_code == 0
        rig.launcher.close_slot(other)
        rig.launcher.kill(rig.slot, long, Nanoseconds(0))
        rig.ended(long)

    def test_close_ends_what_runs(self, rig: Rig) -> None:
        rig.started(rig.launch("sleep", "1000"))
        rig.launcher.close()
        rig.launcher.close()
