"""Experiments on this machine alone: made, interrupted, killed, added to, tried again; each run is in the table once."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest
from erg_rig import Erg, ended, eventually
from experiment_rig import Experiment, two_clients

from ergates.drivers.hosts.local import LocalHosts
from ergates.drivers.hosts.local_workers import Place
from ergates.errors import ErgatesError
from ergates.experiment.spec import HostGroup

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]
SQUARES = """
[experiment]
name = "squares"
repetitions = 2
retries = 0
[programs.square]
command = "{python} -S {{here}}/square.py {{n}} {{pause}}"
[fixed]
pause = {pause}
[sweep]
n = [1, 2, 3]
[measure]
square = {{ program = "square", json = "square" }}
"""
SQUARE = """
import json, os, sys, time
time.sleep(float(sys.argv[2]))
if sys.argv[1] == "2" and os.path.exists("{folder}/bad"):
    sys.exit("no even numbers today")
print(json.dumps({{"square": int(sys.argv[1]) ** 2}}))
"""


def squares(erg: Erg, pause_s: float = 0.0) -> Experiment:
    (erg.folder / "square.py").write_text(SQUARE.format(folder=erg.folder))
    return Experiment(erg, "squares", SQUARES.format(python=sys.executable, pause=pause_s))


def check_squares(experiment: Experiment, values: int, repetitions: int) -> None:
    rows = experiment.rows()
    made = Counter((row["n"], row["repetition"]) for row in rows)
    assert len(made) == len(rows) == values * repetitions
    assert all(int(row["square"]) == int(row["n"]) ** 2 for row in rows), rows


def test_made_once_and_added_to(erg: Erg) -> None:
    experiment = squares(erg)
    first = experiment("run", "--only", "n=1,3", "--repetitions", "1")
    assert first.code == 0 and "2 of 2 runs finished" in first.err, first
    manifests = {path: path.read_bytes() for path in experiment.folder.glob("runs/*/manifest.json")}
    assert experiment("run").code == 0
    check_squares(experiment, 3, 2)
    experiment.file.write_text(experiment.file.read_text().replace("n = [1, 2, 3]", "n = [3, 1, 4, 2]"))
    assert experiment("run", "--repetitions", "3", "--json").code == 0
    check_squares(experiment, 4, 3)
    assert all(path.read_bytes() == before for path, before in manifests.items())
    assert [int(row["run"]) for row in experiment.rows()] == list(range(1, 13))
    assert not (experiment.folder / "store").exists() and not (experiment.folder / "hosts").exists()
    erg.wait_until_gone()


def test_another_experiment_is_refused_and_nothing_of_the_old_one_is_lost(erg: Erg) -> None:
    experiment = squares(erg)
    assert experiment("run").code == 0
    text = experiment.file.read_text()
    experiment.file.write_text(text.replace("n = [1, 2, 3]", "n = [1, 3]"))
    gone = experiment("run")
    assert gone.code == 2 and "2 of its 6 runs are not in the file any more, such as n=2 r" in gone.err, gone
    experiment.file.write_text(text.replace("pause = 0.0", "pause = 0.125"))
    other = experiment("run")
    assert other.code == 2 and "fixed.pause: '0.0' is now '0.125'" in other.err, other
    check_squares(experiment, 3, 2)
    again = experiment("run", "--again", "--only", "n=1")
    assert again.code == 0 and "squares.1.experiment" in again.err, again
    assert len(list((erg.folder / "squares.1.experiment").glob("runs/*/manifest.json"))) == 6
    assert experiment.finished() == 2


def test_failed_runs_are_named_and_tried_again_when_asked(erg: Erg) -> None:
    experiment = squares(erg)
    (erg.folder / "bad").touch()
    failed = experiment("run")
    assert failed.code == 1 and failed.err.count("no even numbers today") >= 2, failed
    rows = {(row["n"], row["ok"]) for row in experiment.rows()}
    assert rows == {("1", "true"), ("2", "false"), ("3", "true")}
    status = experiment.status()
    assert status["finished"] == 4 and [one["name"][:3] for one in status["failed"]] == ["n=2", "n=2"]
    (erg.folder / "bad").unlink()
    assert experiment("resume").code == 1, "a failed run is not made again unless somebody says so"
    retried = experiment("resume", "--retry-failed")
    assert retried.code == 0, retried
    check_squares(experiment, 3, 2)
    manifests = [json.loads(path.read_bytes()) for path in experiment.folder.glob("runs/*n=2*/manifest.json")]
    assert all(one["attempts"] == 2 and "no even numbers today" in one["past"][0] for one in manifests), manifests


def test_ctrl_c_lets_what_runs_end_and_a_second_one_does_not(erg: Erg) -> None:
    experiment = squares(erg, pause_s=1.5)
    conductor = experiment.start("run")
    eventually(lambda: erg.running("square.py"), "a program runs", conductor)
    other = experiment("run")
    assert other.code == 2 and f"another process makes its runs now (pid {conductor.pid})" in other.err, other
    status = experiment.status()
    assert status["conductor"] == conductor.pid and status["total"] == 6
    conductor.send_signal(signal.SIGINT)
    end = ended(conductor)
    assert end.code == 130 and "go on: erg experiment resume squares.experiment" in end.err, end
    made = experiment.finished()
    assert 1 <= made < 6
    conductor = experiment.start("resume")
    eventually(lambda: erg.running("square.py"), "a program runs again", conductor)
    conductor.send_signal(signal.SIGINT)
    conductor.send_signal(signal.SIGTERM)  # two of one kind may become one
    assert ended(conductor).code == 130
    erg.wait_until_gone()
    resumed = experiment("resume")
    assert resumed.code == 0, resumed
    check_squares(experiment, 3, 2)


def test_killed_at_random_moments(erg: Erg) -> None:
    experiment = squares(erg, pause_s=0.3)
    chance = random.Random("squares/kills")
    for _ in range(5):
        conductor = experiment.start("resume" if (experiment.folder / "plan.jsonl").exists() else "run")
        with suppress(subprocess.TimeoutExpired):
            conductor.wait(chance.uniform(0.3, 3.0))
        experiment.kill_everything(conductor)
    resumed = experiment("resume") if experiment.folder.exists() else experiment("run")
    assert resumed.code == 0, resumed
    check_squares(experiment, 3, 2)
    erg.wait_until_gone()


def test_refusals_come_all_at_once_and_before_anything_is_begun(erg: Erg) -> None:
    experiment = Experiment(
        erg,
        "bad",
        """
        [hosts.a]
        kind = "simulated"
        setup = "absent.sh"
        [hosts.b]
        kind = "simulated"
        setup = "missing.sh"
        [roles]
        one = { hosts = "a" }
        two = { hosts = "b" }
        [programs.p]
        role = "one"
        command = "true"
        [programs.q]
        role = "two"
        command = "true"
        """,
    )
    refused = experiment("run")
    assert refused.code == 2 and "absent.sh" in refused.err and "missing.sh" in refused.err, refused
    assert not experiment.folder.exists()
    nothing = experiment("status")
    assert nothing.code == 2 and "no runs were planned" in nothing.err, nothing


INTERVAL = Path("/proc/sys/vm/stat_interval")


@pytest.mark.needs("root")
@pytest.mark.skipif(not os.access(INTERVAL, os.W_OK), reason="settings of the kernel are read-only here")
def test_settings_of_the_machine_are_undone_even_after_a_kill(erg: Erg) -> None:
    before = INTERVAL.read_text()
    wanted = 7 if before.strip() != "7" else 8
    experiment = Experiment(
        erg,
        "prepared",
        f"""
        [hosts.here]
        kind = "local"
        prepare = {{ "sysctl@vm.stat_interval" = {wanted} }}
        [roles]
        main = {{ hosts = "here" }}
        [programs.p]
        role = "main"
        command = "sh -c 'cat {INTERVAL}; sleep {{pause}}'"
        [sweep]
        pause = [1.5, 2]
        [measure]
        interval = {{ program = "p", regex = "\\\\d+" }}
        """,
    )
    try:
        conductor = experiment.start("run")
        eventually(lambda: erg.running("sleep"), "a program runs", conductor)
        assert int(INTERVAL.read_text()) == wanted
        experiment.kill_everything(conductor)
        assert int(INTERVAL.read_text()) == wanted, "nobody was left to undo it"
        resumed = experiment("resume")
        assert resumed.code == 0, resumed
        assert INTERVAL.read_text() == before
        assert [row["interval"] for row in experiment.rows()] == [str(wanted)] * 2
    finally:
        INTERVAL.write_text(before)


def test_a_worker_that_never_comes_up_is_given_up_with_what_it_said(tmp_path: Path) -> None:
    group = HostGroup(name="lab", kind="simulated")
    hosts = LocalHosts(group, Place(folder=tmp_path / "x.experiment", here=tmp_path))
    hosts.up()

    def given_up() -> str:
        try:
            hosts.start_workers(tmp_path / "absent.toml", "x")
        except ErgatesError as error:
            return str(error)
        return ""

    said = eventually(given_up, "given up")
    assert "lab: its worker ended 5 times in a row soon after its start (exit code 2)" in said
    assert "absent.toml: No such file or directory" in said, said


@pytest.mark.needs("redis")
def test_simulated_hosts_whose_worker_or_store_dies(erg: Erg) -> None:
    """A worker that dies is started again and its run repeated; a store that dies goes on from its own log."""
    meet = two_clients(erg, kind="simulated", repetitions=1, pause_s=0.2, more='cpus = 1\nmemory = "2GiB"')
    meet.file.write_text(meet.file.read_text().replace("load = [1, 10, 20, 30]", "load = [1, 10]"))
    conductor = meet.start("run")
    eventually(lambda: meet.finished() >= 1, "a run is finished", conductor)
    workers = [pid for pid, line in meet.marked().items() if "worker start" in line and "host=lab-2" in line]
    eventually(lambda: erg.running("client.py"), "a client runs", conductor)
    os.kill(workers[0], signal.SIGKILL)
    eventually(lambda: meet.finished() >= 3, "it goes on", conductor)
    server = json.loads((meet.folder / "store" / "server.json").read_bytes())["pid"]
    os.kill(server, signal.SIGKILL)
    end = ended(conductor)
    assert end.code == 0 and "the store of the runs died, and is started again" in end.err, end
    rows = meet.rows()
    assert len(rows) == 6 and all(row["ok"] == "true" and row["simulated"] == "true" for row in rows), rows
    eventually(lambda: not meet.marked() and not erg.processes(), "everything ended")
