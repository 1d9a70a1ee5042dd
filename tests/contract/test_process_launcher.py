"""The launcher of processes keeps the contract, in every kind of group this machine has, and some more promises."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from launcher_contract import LauncherContract, Rig

from ergates.clock import SystemClock
from ergates.drivers.launchers.process import ProcessLauncher
from ergates.drivers.output.read import output_folder
from ergates.errors import LaunchError
from ergates.taskqueue.launching import Ended
from ergates.units import Nanoseconds


def make_launcher(state_dir: Path, prefer: str) -> ProcessLauncher:
    try:
        return ProcessLauncher(state_dir, str(uuid.uuid4()), clock=SystemClock(), prefer=prefer)  # type: ignore[arg-type]
    except LaunchError as problem:
        pytest.skip(f"no {prefer} groups here: {problem}")


@pytest.fixture(params=["auto", "v2", "none"])
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    launcher = make_launcher(tmp_path / "state", request.param)
    env = {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "HOME": "/root"}
    made = Rig(launcher, lambda job: output_folder(tmp_path / "state", job), env=env, cwd=str(tmp_path))
    yield made
    launcher.close()
    assert list((tmp_path / "state" / "workers").iterdir()) == []


def launcher_of(rig: Rig) -> ProcessLauncher:
    assert isinstance(rig.launcher, ProcessLauncher)
    return rig.launcher


class TestProcessLauncher(LauncherContract):
    def test_a_file_that_is_not_executable(self, rig: Rig, tmp_path: Path) -> None:
        (tmp_path / "plain").write_text("echo hi\n")
        error = rig.run(str(tmp_path / "plain")).error
        assert error is not None
        assert error.startswith(f"not executable: {tmp_path / 'plain'}")

    def test_a_script_without_an_interpreter_line_runs_as_in_a_shell(self, rig: Rig, tmp_path: Path) -> None:
        script = tmp_path / "script"
        script.write_text('echo "hi $1"\n')
        script.chmod(0o755)
        assert rig.output(rig.run("./script", "there")) == (b"hi there\n", b"")

    def test_an_interpreter_that_does_not_exist(self, rig: Rig, tmp_path: Path) -> None:
        script = tmp_path / "script"
        script.write_text("#!/no/such/interpreter\n")
        script.chmod(0o755)
        error = rig.run("./script").error
        assert error == "cannot run ./script: its interpreter /no/such/interpreter does not exist"

    def test_a_binary_for_another_machine(self, rig: Rig, tmp_path: Path) -> None:
        (tmp_path / "odd").write_bytes(b"\x00\x01\x02junk")
        (tmp_path / "odd").chmod(0o755)
        assert rig.run("./odd").error == "not a program for this machine: ./odd"

    def test_too_many_arguments(self, rig: Rig) -> None:
        error = rig.run("true", *["x" * 100_000] * 40).error
        assert error is not None
        assert error.startswith("too long for this machine: 4000045 bytes")

    def test_an_argument_no_program_can_get(self, rig: Rig) -> None:
        for argv in (("true", "a\0b"), ("true", "\ud800")):
            error = rig.run(*argv).error
            assert error is not None
            assert error.startswith("cannot be run: ")
        assert rig.run("true").exit_code == 0

    def test_bytes_that_are_not_text_are_passed_on(self, rig: Rig) -> None:
        raw = b"caf\xe9"
        ended = rig.run("printf", "%s", raw.decode(errors="surrogateescape"))
        assert rig.output(ended)[0] == raw

    def test_a_command_is_found_again_when_it_moved(self, rig: Rig, tmp_path: Path) -> None:
        env = {"PATH": f"{tmp_path}/a:{tmp_path}/b:/usr/bin:/bin"}
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "tool").write_text(f"#!/bin/sh\necho {name}\n")
            (tmp_path / name / "tool").chmod(0o755)
        assert rig.output(rig.run("tool", env=env))[0] == b"a\n"
        (tmp_path / "a" / "tool").unlink()
        assert rig.output(rig.run("tool", env=env))[0] == b"b\n"

    def test_a_missing_directory(self, rig: Rig) -> None:
        assert rig.run("true", cwd="/no/such/place").error == "no such directory: /no/such/place"

    def test_stdin_from_a_file(self, rig: Rig, tmp_path: Path) -> None:
        (tmp_path / "input").write_bytes(b"in the file")
        assert rig.output(rig.run("cat", stdin_path=str(tmp_path / "input")))[0] == b"in the file"
        error = rig.run("cat", stdin_path="/no/such/file").error
        assert error == "cannot open its standard input /no/such/file: No such file or directory"

    def test_environments_that_differ_in_much_or_little(self, rig: Rig) -> None:
        base = {"PATH": "/usr/bin:/bin", **{f"V{n}": str(n) for n in range(30)}}
        fewer = {name: value for name, value in base.items() if name not in ("V3", "V4")}
        other = {"PATH": "/usr/bin:/bin", "ONLY": "this"}
        for env in (base, {**base, "V1": "changed", "NEW": "x"}, fewer, other, base):
            lines = rig.output(rig.run("env", env=env))[0].decode().splitlines()
            found = dict(line.split("=", 1) for line in lines)
            found.pop("ERGATES_LAUNCHER", None)
            found.pop("ERG_TASK_DIR")
            assert found == env

    def test_pinning_holds_for_one_attempt(self, rig: Rig) -> None:
        core = max(os.sched_getaffinity(0))
        pinned = rig.run("sh", "-c", "grep Cpus_allowed_list /proc/self/status", cpu_ids=(core,))
        assert rig.output(pinned)[0].split()[-1] == str(core).encode()
        free = rig.run("nproc")
        assert rig.output(free)[0].split()[-1] == str(len(os.sched_getaffinity(0))).encode()

    def test_signals_are_as_a_program_expects_them(self, rig: Rig) -> None:
        lines = rig.output(rig.run("grep", "-E", "SigBlk|SigIgn", "/proc/self/status"))[0].split()
        blocked, ignored = int(lines[1], 16), int(lines[3], 16)
        assert blocked == 0
        assert ignored & 0x7FFFFFFF == 0  # without 32 and 33, which the C library keeps for itself

    def test_what_it_leaves_in_the_background_ends_with_it(self, rig: Rig, tmp_path: Path) -> None:
        daemon = "setsid -f sh -c 'echo $$ >> pids; exec sleep 1000'"
        script = f"sleep 1000 & echo $! >> pids; {daemon}; while [ $(wc -l < pids) -lt 2 ]; do sleep 0.01; done"
        assert rig.run("sh", "-c", script).exit_code == 0
        for pid in (tmp_path / "pids").read_text().split():
            assert not alive(int(pid))

    def test_cpu_time_counts_children(self, rig: Rig) -> None:
        burn = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done"
        alone = rig.run("sh", "-c", burn).cpu_ns
        both = rig.run("sh", "-c", f"sh -c '{burn}' & {burn}; wait").cpu_ns
        assert alone > 1_000_000
        assert both > 1.4 * alone

    def test_the_peak_is_of_this_attempt_alone(self, rig: Rig) -> None:
        if launcher_of(rig).group_kind != "v1":
            pytest.skip("only v1 groups with memory are here")
        big = rig.run("sh", "-c", "head -c 50000000 /dev/zero | tail -c 1000000000 | wc -c")
        small = rig.run("true")
        assert big.cgroup_peak_bytes > 50_000_000
        assert 0 < small.cgroup_peak_bytes < 30_000_000
        assert big.maxrss_bytes > 50_000_000 / 2

    def test_live_output_can_be_read(self, rig: Rig, tmp_path: Path) -> None:
        key = rig.launch("sh", "-c", "echo so far; touch there; sleep 1000")
        rig.has_printed(key, tmp_path / "there")
        out, err = launcher_of(rig).spool_paths(rig.slot)
        assert (out.read_bytes(), err.read_bytes()) == (b"so far\n", b"")
        rig.launcher.kill(rig.slot, key, Nanoseconds(0))
        assert rig.output(rig.ended(key))[0] == b"so far\n"

    def test_frozen_time_does_not_count_against_the_limit(self, rig: Rig) -> None:
        key = rig.launch("sh", "-c", "sleep 0.6; exit 9", time_limit_ns=900_000_000)
        rig.started(key)
        rig.launcher.freeze(rig.slot)
        assert rig.launcher.poll(1.5) == []
        rig.launcher.thaw(rig.slot)
        assert rig.ended(key).exit_code == 9

    def test_the_kernels_order_of_kills_is_set_on_every_process(self, rig: Rig, tmp_path: Path) -> None:
        key = rig.launch("sh", "-c", "sleep 1000 & touch there; sleep 1000")
        rig.has_printed(key, tmp_path / "there")
        rig.started(key)
        rig.launcher.set_oom_score(rig.slot, 321)
        pids = launcher_of(rig).pids(rig.slot)
        assert len(pids) >= 2
        assert {Path(f"/proc/{pid}/oom_score_adj").read_text() for pid in pids} == {"321\n"}
        rig.launcher.kill(rig.slot, key, Nanoseconds(0))
        rig.ended(key)

    def test_a_killed_slot_loses_its_attempts_and_is_made_again(self, rig: Rig) -> None:
        first, second = rig.launch_all([("sleep", "1000"), ("sleep", "1000")])
        pid = rig.started(first).pid
        os.kill(launcher_of(rig)._slots[rig.slot].pid, 9)
        lost, unstarted = rig.ended(first), rig.ended(second)
        assert (lost.lost, lost.error) == (True, "its slot process was ended from outside")
        assert lost.started_ns > 0
        assert (unstarted.lost, unstarted.started_ns) == (True, 0)
        assert not alive(pid)
        assert rig.run("sh", "-c", "exit 6").exit_code == 6

    def test_a_killed_supervisor_loses_all_attempts_and_is_started_again(self, rig: Rig) -> None:
        other = rig.launcher.open_slot()
        keys = [rig.launch("sh", "-c", "setsid -f sleep 1000; sleep 1000"), rig.launch("sleep", "1000", slot=other)]
        pids = [rig.started(key).pid for key in keys]
        pids += launcher_of(rig).pids(rig.slot)
        os.kill(launcher_of(rig)._supervisor.pid, 9)
        for key in keys:
            ended = rig.ended(key)
            assert (ended.lost, ended.error) == (True, "its supervisor was ended from outside")
        assert [pid for pid in pids if alive(pid)] == []
        assert rig.run("true").exit_code == 0
        assert rig.run("true", slot=other).exit_code == 0

    def test_slot_numbers_are_used_again(self, rig: Rig) -> None:
        other = rig.launcher.open_slot()
        rig.launcher.close_slot(other)
        while other in launcher_of(rig)._slots:
            rig.events += rig.launcher.poll(0.05)
        assert rig.launcher.open_slot() == other
        assert rig.run("true", slot=other).exit_code == 0

    def test_ten_megabytes_of_input(self, rig: Rig) -> None:
        data = os.urandom(10_000_000)
        assert rig.output(rig.run("cat", stdin_data=data))[0] == data

    def test_an_output_folder_that_cannot_be_written(self, rig: Rig, tmp_path: Path) -> None:
        (tmp_path / "state" / "jobs").write_text("a file where a folder should be")
        ended: Ended = rig.run("sh", "-c", "echo hi; exit 2")
        assert ended.error is not None
        assert "its output could not be kept" in ended.error
        assert "exit code 2" in ended.error
        assert not ended.disk_full


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
