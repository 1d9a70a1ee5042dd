"""Experiments on hosts of a real Slurm: a gang of eight that loses a member, a conductor that is killed, what is refused."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from erg_rig import Ended, Erg, ended, eventually
from fake_node import build_node
from slurm_rig import SlurmCluster, slurm_cluster

pytestmark = [pytest.mark.system, pytest.mark.needs("slurm", "redis"), pytest.mark.timeout(300)]
BUSY = ("PENDING", "RUNNING", "COMPLETING", "CONFIGURING")
LONG = "1234567"
"""Of a sleep: nobody else's."""
RUN_S = 150.0
"""Until a few short runs have been made, on a machine that does much else."""
FILE = """\
[experiment]
name = "gang"
time_limit = "100s"
retries = 1

[hosts.cluster]
kind = "slurm"
count = {count}
time = "10m"
{more}

[roles]
member = {{ hosts = "cluster", count = {count} }}

[programs.work]
role = "member"
command = "sh {{here}}/work.sh {{folder}} {{index}}"

[sweep]
size = [7]

[measure]
answer = {{ program = "work", regex = "answer (\\\\d+)", combine = "sum" }}
"""
WORK = f"""\
case "$1" in *attempt-1/*) exec sleep {LONG};; esac
echo answer "$2"
"""


@pytest.fixture(scope="module")
def slurm() -> Iterator[SlurmCluster]:
    with slurm_cluster(8) as cluster:
        yield cluster


class Lab:
    """`erg experiment` on a login node of that cluster."""

    def __init__(self, erg: Erg, slurm: SlurmCluster) -> None:
        self.erg, self.slurm = erg, slurm
        self.env = {name: slurm.env[name] for name in ("SLURM_CONF", "PATH")}
        self.env["XDG_STATE_HOME"] = str(erg.folder / "state")
        (erg.folder / "work.sh").write_text(WORK)
        self.folder = erg.folder / "gang.experiment"

    def write(self, count: int, more: str = "") -> None:
        (self.erg.folder / "gang.toml").write_text(FILE.format(count=count, more=more))

    def __call__(self, *words: str) -> Ended:
        return ended(self.erg.start("experiment", *words, env=self.env), patience_s=RUN_S)

    def long_ones(self) -> list[int]:
        """The programs of first attempts that run now."""
        return [
            pid
            for node in self.slurm.nodes
            for pid, line in self.slurm.processes(node).items()
            if line.split() == ["sleep", LONG]
        ]

    def jobs(self) -> list[str]:
        return self.slurm.in_state(*BUSY)

    def manifest(self) -> dict[str, Any]:
        (path,) = self.folder.glob("runs/*/manifest.json")
        found: dict[str, Any] = json.loads(path.read_text())
        return found

    def row(self) -> dict[str, str]:
        with (self.folder / "table.csv").open() as file:
            (row,) = csv.DictReader(file)
        return row

    def logs(self) -> str:
        return "\n".join(f"{path}:\n{path.read_text()[-1500:]}" for path in self.folder.glob("hosts/*.log"))


@pytest.fixture
def lab(erg: Erg, slurm: SlurmCluster) -> Iterator[Lab]:
    it = Lab(erg, slurm)
    yield it
    left = it.jobs()
    for job in left:
        slurm("scancel", "--signal=KILL", "--full", job)
    assert not left, it.logs()
    assert not [line for node in slurm.nodes for line in slurm.processes(node).values()]
    assert not [line for line in erg.processes().values() if "ergates" in line or "redis" in line]


def test_a_gang_of_eight_that_loses_a_member_is_repeated_and_the_table_says_so(lab: Lab) -> None:
    lab.write(8)
    running = lab.erg.start("experiment", "run", "gang.toml", env=lab.env)
    eventually(lambda: len(lab.long_ones()) == 8, "all eight members run", running)
    os.kill(lab.long_ones()[4], signal.SIGKILL)

    came = ended(running, patience_s=RUN_S)

    assert came.code == 0, f"{came}\n{lab.logs()}"
    manifest = lab.manifest()
    assert manifest["ok"], manifest["problem"]
    assert manifest["attempts"] == 2
    assert re.search(r"rank \d \(member\) on n[1-8]: ", manifest["past"][0]), manifest["past"]
    assert {member["seat"]["host"] for member in manifest["members"]} == set(lab.slurm.nodes)
    assert [member["seat"]["index"] for member in manifest["members"]] == list(range(8))
    row = lab.row()
    assert (row["ok"], row["attempts"], float(row["answer"])) == ("true", "2", sum(range(8)))
    assert not lab.long_ones(), "all members of the first attempt have ended"


def test_whoever_resumes_after_a_kill_takes_the_allocation_over(lab: Lab) -> None:
    lab.write(3)
    running = lab.erg.start("experiment", "run", "gang.toml", env=lab.env)
    eventually(lambda: len(lab.long_ones()) == 3, "all members run", running)
    running.kill()
    ended(running)
    jobs = lab.jobs()
    assert len(jobs) == 1, "the nodes are still held"
    for pid in lab.long_ones():
        with suppress(ProcessLookupError):  # the first that dies ends the others
            os.kill(pid, signal.SIGKILL)

    came = lab("resume", "gang.toml")

    assert came.code == 0, f"{came}\n{lab.logs()}"
    assert f"job {jobs[0]} of an earlier start is taken over" in came.err
    assert lab.manifest()["ok"]


def test_an_allocation_that_ends_is_replaced_by_another(lab: Lab) -> None:
    lab.write(3)
    running = lab.erg.start("experiment", "run", "gang.toml", env=lab.env)
    eventually(lambda: len(lab.long_ones()) == 3, "all members run", running)
    lab.slurm("scancel", *lab.jobs())

    came = ended(running, patience_s=RUN_S)

    assert came.code == 0, f"{came}\n{lab.logs()}"
    assert "has ended: CANCELLED; nodes are asked for again" in came.err
    manifest = lab.manifest()
    assert manifest["ok"]
    assert manifest["folder"] == "attempt-2"


def test_what_slurm_would_not_give_is_named_before_anything_is_asked_for(lab: Lab) -> None:
    before = lab.slurm.states()
    lab.write(9)
    came = lab("run", "gang.toml")
    assert (came.code, "partition main has 8 nodes, 9 are asked for" in came.err) == (2, True), came
    lab.write(2, 'options = ["--partition=fast"]')
    came = lab("run", "gang.toml")
    assert (came.code, "no partition fast" in came.err) == (2, True), came
    assert lab.slurm.states() == before
    assert not list(lab.folder.glob("runs/*"))


def test_within_an_allocation_its_nodes_are_used(lab: Lab) -> None:
    lab.write(2)
    (lab.erg.folder / "work.sh").write_text('echo answer "$2"\n')
    outer = lab.slurm("sbatch", "--parsable", "--nodes=3", "--wrap=exec sleep 600").strip()
    lab.slurm.eventually(lambda: outer in lab.slurm.in_state("RUNNING"), "the allocation begins")
    lab.env["SLURM_JOB_ID"] = outer

    came = lab("run", "gang.toml")

    assert came.code == 0, f"{came}\n{lab.logs()}"
    assert lab.jobs() == [outer], "it is not ours to end"
    steps = lab.slurm("squeue", "--steps", "--noheader", f"--jobs={outer}", "--format=%i").split()
    assert steps == [f"{outer}.batch"]
    lab.slurm("scancel", outer)
    lab.slurm.eventually(lambda: not lab.jobs(), "it ends")


def test_settings_are_made_on_every_node_and_undone_after_a_kill(lab: Lab, tmp_path: Path) -> None:
    tree = build_node(tmp_path / "tree", vendor="bare")
    before = tree.snapshot()
    lab.env["ERGATES_NODE_ROOT"] = str(tree.root)
    (lab.erg.folder / "work.sh").write_text(
        WORK.replace('answer "$2"', f'answer "$(cat {tree.root}/proc/sys/vm/swappiness)"')
    )
    lab.write(2, 'prepare = { "sysctl@vm.swappiness" = 10, governor = "performance" }')
    came = lab("run", "gang.toml")
    assert came.code == 2, came
    assert "hosts.cluster: 2 of 2 nodes: cannot be prepared\n  n1: cannot be set on this node:" in came.err
    assert (tree.snapshot(), lab.jobs()) == (before, [])

    lab.write(2, 'prepare = { "sysctl@vm.swappiness" = 10 }')
    running = lab.erg.start("experiment", "run", "--again", "gang.toml", env=lab.env)
    eventually(lambda: len(lab.long_ones()) == 2, "all members run", running)
    running.kill()
    assert "/proc/sys/vm/swappiness: 60 " in ended(running).err
    assert tree.text("proc/sys/vm/swappiness") == "10"
    for pid in lab.long_ones():
        with suppress(ProcessLookupError):  # the first that dies ends the others
            os.kill(pid, signal.SIGKILL)

    came = lab("resume", "gang.toml")

    assert came.code == 0, f"{came}\n{lab.logs()}"
    assert float(lab.row()["answer"]) == 20, "two nodes, in the attempt after the kill"
    assert tree.snapshot() == before
