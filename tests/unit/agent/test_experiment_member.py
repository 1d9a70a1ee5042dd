"""A member of a run of one host, with real processes. Each run has a process of its own, which adopts orphans."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ergates.experiment.layout import MEMBER
from ergates.experiment.run import RoleSeats, Run, RunOrder
from ergates.experiment.spec import Program, Ready, TimedSignal
from ergates.units import SECOND_NS, Nanoseconds

CALL = """
import json, sys
from ergates.agent.experiment_member import conduct_member
conduct_member(**json.load(sys.stdin))
"""
PATIENCE_S = 60


class Host:
    """Runs members; `folder` is the run's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mine = folder / "attempt-1" / "0-solo"

    def start(
        self, *programs: Program, time_limit_ns: int | None = None, env: dict[str, str] | None = None, **fields: Any
    ) -> subprocess.Popen[str]:
        run = Run(number=7, point=(("load", 0.5),), repetition=2, seed=11)
        roles = (RoleSeats(role="solo", group="g", count=1),)
        order = RunOrder(experiment="e", run=run, roles=roles, programs=programs, folder=str(self.folder), **fields)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("ERG")}
        process = subprocess.Popen(
            [sys.executable, "-c", CALL],
            stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**kept, "ERG_EXPERIMENT_HOST": "here", **(env or {})},
        )  # fmt: skip
        assert process.stdin is not None
        process.stdin.write(json.dumps({"order": msgspec.to_builtins(order), "time_limit_ns": time_limit_ns}))
        process.stdin.close()
        process.stdin = None
        return process

    def run(self, *programs: Program, **fields: Any) -> tuple[int, str]:
        """(exit code, stderr)"""
        process = self.start(*programs, **fields)
        _, err = process.communicate(timeout=PATIENCE_S)
        assert "Traceback" not in err, err
        return process.returncode, err

    def record(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.mine / MEMBER).read_text())
        return found

    def program(self, name: str = "p") -> dict[str, Any]:
        (found,) = [each for each in self.record()["programs"] if each["name"] == name]
        return dict(found)

    def text(self, path: str) -> str:
        return (self.mine / path).read_text()


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path / "run")


def solo(command: str, name: str = "p", **fields: Any) -> Program:
    return Program(name=name, role="solo", command=command, **fields)


def eventually(look: Callable[[], Any]) -> Any:
    until = time.monotonic() + PATIENCE_S
    while not (seen := look()):
        assert time.monotonic() < until
        time.sleep(0.01)
    return seen


def lives(pid: int) -> bool:
    return Path(f"/proc/{pid}/exe").exists() and bool(Path(f"/proc/{pid}/cmdline").read_bytes())


def test_a_program_runs_in_its_folder_with_its_values_and_is_put_on_record(host: Host) -> None:
    env = (("LEVEL", "{load}"),)
    before_ns = time.time_ns()
    code, err = host.run(solo("echo {run} {repetition} {seed} {host} {index} $LEVEL {solo.count}; pwd > here", env=env))
    assert (code, err) == (0, "")
    assert host.text("p/stdout") == "7 2 11 here 0 0.5 1\n"
    assert host.text("p/here") == f"{host.mine}/p\n"
    record = host.program()
    assert record["argv"][:2] == ["/bin/sh", "-c"] and record["ok"] and record["exit_code"] == 0
    assert before_ns <= record["started_ns"] <= record["ended_ns"] <= time.time_ns()
    assert 0 < record["wall_ns"] <= record["ended_ns"] - record["started_ns"] + SECOND_NS
    assert dict(record["files"]) == {"stdout": 20, "stderr": 0, "here": len(str(host.mine)) + 3}
    assert host.record()["seat"] == {"rank": 0, "role": "solo", "index": 0, "host": "here", "address": "here"}
    assert host.record()["facts"]["kernel"] == os.uname().release


def test_cpu_time_and_peak_are_the_programs_own(host: Host) -> None:
    burn = "import time\ndata = bytearray(200_000_000)\nwhile time.process_time() < 0.3: pass"
    assert host.run(solo(f"{sys.executable} -c '{burn}'"))[0] == 0
    assert host.program()["cpu_ns"] >= 0.3 * SECOND_NS
    assert host.program()["peak_bytes"] >= 200_000_000 and not host.program()["peak_sampled"]


def test_a_small_program_does_not_get_our_size_for_its_own(host: Host) -> None:
    assert host.run(solo("sleep 0.2"))[0] == 0
    assert 0 < host.program()["peak_bytes"] < 8_000_000 and host.program()["peak_sampled"]


@pytest.mark.parametrize(
    ("ready", "show"),
    [
        (Ready(line="^up on [0-9]+$"), "echo up on 1; exec sleep 300"),
        (Ready(line="up"), "printf 'no end of line: up' >&2; exec sleep 300"),
        (Ready(file="pid"), "echo > pid; exec sleep 300"),
    ],
)
def test_it_waits_until_a_program_shows_that_it_is_ready(host: Host, ready: Ready, show: str) -> None:
    server = solo(f"sleep 0.1; touch before; {show}", "server", background=True, ready=ready)
    assert host.run(server, solo("test -e {folder}/server/before", order=1)) == (0, "")
    served, asked = host.program("server"), host.program("p")
    assert served["started_ns"] < served["ready_ns"] <= asked["started_ns"]
    assert served["stopped"] and served["signal"] == signal.SIGTERM and served["ok"]


def test_a_port_is_ready_when_somebody_listens_and_nobody_connects_to_look(host: Host) -> None:
    serve = "import socket\nwith socket.create_server(('127.0.0.1', {port})) as door:\n door.settimeout(1)\n"
    serve += " try: print('somebody came', door.accept(), flush=True)\n except TimeoutError: print('nobody came', flush=True)"
    code, err = host.run(
        solo(f'{sys.executable} -c "{serve}"', "server", ready=Ready(port="{port}")),
        solo("echo asked", order=1),
        fixed=(("port", free_port()),),
    )
    assert (code, err) == (0, "")
    assert host.text("server/stdout") == "nobody came\n"
    assert host.program()["started_ns"] < host.program("server")["ended_ns"], "while the server ran"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_a_port_that_somebody_has_already_is_named(host: Host) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, err = host.run(
            solo("sleep 300", background=True, ready=Ready(port=str(port))), solo("true", "q", order=1)
        )
    assert code == 1 and f"p of solo 0 on here: port {port} is taken" in err


def test_one_that_is_not_ready_in_time_fails_the_run(host: Host) -> None:
    ready = Ready(line="never", within_ns=Nanoseconds(SECOND_NS // 5))
    code, err = host.run(solo("echo ever; exec sleep 300", ready=ready))
    assert code == 1 and "p of solo 0 on here: not ready within 200 ms: no line of its output matches 'never'" in err
    assert host.program()["problem"].startswith("not ready") and not host.program()["ok"]


def test_a_failure_names_the_end_and_the_last_lines_of_stderr(host: Host) -> None:
    code, err = host.run(solo("seq 100 >&2; exit 4"), solo("exec sleep 300", "other"))
    assert code == 1
    assert err.strip() == "p of solo 0 on here: exit code 4: 96\n97\n98\n99\n100"
    other = host.program("other")
    assert other["stopped"] and other["signal"] == signal.SIGTERM


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("no-such-program-at-all", "command not found: no-such-program-at-all"),
        ("/etc/passwd", "not executable: /etc/passwd"),
        ("echo {nobody}", "nothing is bound to {nobody}"),
    ],
)
def test_what_cannot_be_started_says_why(host: Host, command: str, words: str) -> None:
    code, err = host.run(solo(command))
    assert code == 1 and f"p of solo 0 on here: {words}" in err
    assert words in host.program()["problem"] and host.program()["started_ns"] is None


def test_a_cwd_that_is_not_there_is_named(host: Host) -> None:
    code, err = host.run(solo("true", cwd="/no/such/folder"))
    assert code == 1 and "/no/such/folder: No such file or directory" in err


def test_one_that_does_not_heed_its_stop_signal_is_killed(host: Host) -> None:
    deaf = solo(
        "trap '' INT; echo deaf; while true; do sleep 0.05; done",
        "deaf",
        background=True,
        stop_signal="INT",
        ready=Ready(line="deaf"),
        grace_ns=Nanoseconds(SECOND_NS // 5),
    )
    assert host.run(deaf, solo("true", order=1)) == (0, "")
    assert (host.program("deaf")["signal"], host.program("deaf")["ok"]) == (signal.SIGKILL, True)


def test_interrupt_reaches_a_program_although_we_ignore_it(host: Host) -> None:
    script = (
        "import signal\ntry:\n print('up', flush=True)\n signal.pause()\nexcept KeyboardInterrupt: print('interrupted')"
    )
    up = Ready(line="up")
    server = solo(f'{sys.executable} -c "{script}"', "server", background=True, stop_signal="INT", ready=up)
    assert host.run(server, solo("true", order=1)) == (0, "")
    assert host.text("server/stdout") == "up\ninterrupted\n"


def test_signals_and_stop_at_their_time(host: Host) -> None:
    program = solo(
        "trap 'echo one' USR1; echo begun; while true; do sleep 0.02; done",
        signals=(TimedSignal(after_ns=Nanoseconds(SECOND_NS), signal="USR1"),),
        stop_ns=Nanoseconds(3 * SECOND_NS // 2),
    )
    assert host.run(program) == (0, "")
    assert host.text("p/stdout") == "begun\none\n"
    assert 1.5 <= host.program()["wall_ns"] / 1e9 < 10 and host.program()["stopped"]


def test_nothing_that_programs_left_behind_survives(host: Host) -> None:
    inner = "echo $$ > {folder}/a; setsid sleep 300 & echo $! > {folder}/b; trap : TERM; sleep 300"
    leave = f"(setsid sh -c '{inner}' >/dev/null 2>&1 &); until test -s {{folder}}/b; do sleep 0.01; done"
    assert host.run(solo(leave)) == (0, "")
    for name in ("a", "b"):
        assert not lives(int(host.text(name)))


def test_a_daemon_is_a_server_too(host: Host) -> None:
    daemon = solo(
        "(setsid sh -c 'sleep 0.1; touch {folder}/up; sleep 300' >/dev/null 2>&1 &)",
        "daemon",
        ready=Ready(file="{folder}/up"),
    )
    assert host.run(daemon, solo("test -e {folder}/up", order=1)) == (0, "")


def test_told_to_end_it_stops_its_programs_writes_down_what_there_was_and_goes(host: Host) -> None:
    process = host.start(solo("trap 'echo told; exit 0' TERM; touch begun; while true; do sleep 0.02; done"))
    eventually((host.mine / "p" / "begun").exists)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=PATIENCE_S)
    assert process.returncode == -signal.SIGTERM
    assert host.text("p/stdout") == "told\n"
    assert "from outside" in host.record()["problem"] and host.program()["stopped"]


def test_the_time_limit_ends_it(host: Host) -> None:
    code, err = host.run(solo("exec sleep 300"), time_limit_ns=SECOND_NS // 5)
    assert code == 1 and err.strip() == "the run's time limit of 200 ms is over; not done: p of solo 0 on here"
    assert host.program()["signal"] == signal.SIGTERM
    assert "time limit" in host.record()["problem"]


def test_only_what_is_named_is_kept(host: Host, tmp_path: Path) -> None:
    (tmp_path / "outside.log").write_text("from elsewhere")
    command = (
        "mkdir -p deep/er; echo 1 > deep/er/a.json; echo 2 > b.csv; mkfifo pipe; ln -s /etc/passwd link; echo 3 > c.tmp"
    )
    gather = ("**/*.json", "b.csv", str(tmp_path / "*.log"), "nothing*")
    assert host.run(solo(command, gather=gather)) == (0, "")
    assert dict(host.program()["files"]) == {
        "deep/er/a.json": 2, "b.csv": 2, "outside.log": 14, "stdout": 0, "stderr": 0
    }  # fmt: skip
    assert sorted(path.name for path in (host.mine / "p").iterdir()) == [
        "b.csv",
        "deep",
        "outside.log",
        "stderr",
        "stdout",
    ]
    assert host.record()["facts"]["not_kept"] == ["p: nothing*: nothing there"]
    assert (tmp_path / "outside.log").exists(), "copied, not moved"


def test_without_names_all_files_stay_and_links_and_pipes_are_told_of(host: Host) -> None:
    assert host.run(solo("mkfifo pipe; ln -s /etc/passwd link; echo 3 > c.tmp")) == (0, "")
    assert dict(host.program()["files"]) == {"c.tmp": 2, "stdout": 0, "stderr": 0}
    notes = host.record()["facts"]["not_kept"]
    assert notes == ["p: link: a link, not followed", "p: pipe: a socket, pipe or device, removed"]


def test_what_an_attempt_of_the_same_number_left_goes(host: Host) -> None:
    (host.mine / "p").mkdir(parents=True)
    (host.mine / "p" / "old").touch()
    assert host.run(solo("true")) == (0, "")
    assert dict(host.program()["files"]) == {"stdout": 0, "stderr": 0}


def test_a_folder_that_cannot_be_made_is_named(host: Host) -> None:
    host.folder.parent.mkdir(exist_ok=True)
    host.folder.write_text("in the way")
    code, err = host.run(solo("true"))
    assert code == 1 and f"solo 0 on here: cannot make its folder {host.mine}: Not a directory" in err


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    mounted = tmp_path / "small"
    mounted.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(mounted)], capture_output=True
    ).returncode:
        pytest.skip("needs the right to mount")
    try:
        host = Host(mounted / "run")
        code, err = host.run(solo("head -c 1M /dev/zero > big"))
        assert code == 1 and f"exit code 1: no room is left on the disk of {host.mine}/p" in err
    finally:
        subprocess.run(["umount", "-l", str(mounted)], check=True)


def test_a_host_with_a_folder_and_an_address_of_its_own(host: Host, tmp_path: Path) -> None:
    env = {
        "ERG_EXPERIMENT_FOLDER": str(tmp_path / "far"), "ERG_EXPERIMENT_HERE": "/there", "ERG_EXPERIMENT_ADDRESS": "10.0.0.9",
        "ERG_EXPERIMENT_HOST": "", "ERG_LABELS": "experiment=e,host=n7", "ERG_ATTEMPT": "3",
    }  # fmt: skip
    assert host.run(solo("echo {here} {address} {solo.host}"), env=env) == (0, "")
    assert (tmp_path / "far" / "run" / "attempt-3" / "0-solo" / "p" / "stdout").read_text() == "/there 10.0.0.9 n7\n"


def test_programs_do_not_see_the_store_of_the_runs(host: Host) -> None:
    code, err = host.run(solo("echo ${ERGATES_STORE-none} $MINE"), env={"ERGATES_STORE": "/s.toml", "MINE": "kept"})
    assert code == 0, err
    assert host.text("p/stdout") == "none kept\n"


def test_an_environment_of_another_size_is_refused(host: Host) -> None:
    code, err = host.run(solo("true"), env={"ERG_GANG_SIZE": "3", "ERG_GANG_RANK": "1"})
    assert code == 1 and "run 7 of e has 1 members, and this is rank 1 of 3" in err
