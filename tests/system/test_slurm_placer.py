"""Real workers in allocations of a real Slurm, with a real store: work done, idle ends, walltimes, lost nodes, `auto`, `down`."""

from __future__ import annotations

import json
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from erg_rig import Ended, Erg
from slurm_rig import SlurmCluster, slurm_cluster

pytestmark = [pytest.mark.system, pytest.mark.needs("slurm", "redis"), pytest.mark.timeout(300)]
BUSY = ("PENDING", "RUNNING", "COMPLETING", "CONFIGURING")


class Cluster:
    """`erg` on a login node, a store, and Slurm."""

    def __init__(self, erg: Erg, slurm: SlurmCluster, folder: Path) -> None:
        self.erg, self.slurm, self.folder = erg, slurm, folder
        self.env = {name: slurm.env[name] for name in ("SLURM_CONF", "PATH")} | {"XDG_STATE_HOME": str(folder)}
        up = erg("store", "up")
        assert up.code == 0, up
        self.store_file = erg.folder / ".ergates" / "store.toml"
        self.store = ("--store", str(self.store_file))

    def __call__(self, *words: str, code: int = 0) -> Ended:
        ended = self.erg(*words, *self.store, env=self.env)
        assert ended.code == code, ended
        return ended

    def submit(self, *lines: str) -> str:
        """A job of these commands; returns its id."""
        self("submit", self.erg.commands(*lines, name=f"{abs(hash(lines))}.txt"))
        job: str = json.loads(self("status", "--json").out)[0]["id"]
        return job

    def counts(self, job: str) -> dict[str, int]:
        status: dict[str, Any] = json.loads(self("status", job, "--json").out)
        return {state: number for state, number in status["counts"].items() if number}

    def rows(self, job: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self("export", job, "--format", "jsonl").out.splitlines()]

    def workers(self) -> dict[str, dict[str, Any]]:
        """Live ones, by allocation."""
        listed = json.loads(self("worker", "list", "--json").out)
        return {one["info"]["placed_by"].removeprefix("slurm:"): one for one in listed if one["standing"] == "live"}

    def allocations(self) -> list[dict[str, Any]]:
        shown: list[dict[str, Any]] = json.loads(self("worker", "slurm", "list", "--json").out)
        return shown

    def all_ended(self) -> Counter[str]:
        """Wait until Slurm holds nothing; returns how it ended."""
        self.slurm.eventually(lambda: not self.slurm.in_state(*BUSY), "all allocations end")
        return Counter(self.slurm.states().values())

    def placed_by(self, pid: int) -> bool:
        """Whether this process is the one that places workers."""
        return any(f"process {pid} on" in lock.read_text() for lock in self.folder.glob("**/lock"))

    def logs(self) -> str:
        return "\n".join(path.read_text(errors="replace") for path in self.folder.glob("**/logs/*.log"))


@pytest.fixture
def cluster(erg: Erg, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """Of three nodes, or as many as a test names."""
    with slurm_cluster(getattr(request, "param", 3)) as slurm:
        it = Cluster(erg, slurm, tmp_path_factory.mktemp("state"))
        yield it
        print(it.logs()[-6000:])
        erg("store", "down")
    assert not [line for line in erg.processes().values() if "ergates" in line]


def test_work_is_done_and_idle_workers_end_their_allocations(cluster: Cluster) -> None:
    job = cluster.submit(*(f"sleep 0.1; echo {number}" for number in range(30)))
    asked = cluster("worker", "slurm", "up", "--nodes=2", "--time=10m", "--idle-timeout=2s", "--label=site=here")
    assert b"asked Slurm for 2 workers" in asked.out
    cluster.slurm.eventually(lambda: len(cluster.workers()) == 2, "two workers come")
    workers = cluster.workers()
    assert set(workers) == {row["allocation"] for row in cluster.allocations()}
    for worker in workers.values():
        info = worker["info"]
        assert info["capacity"]["labels"].items() >= {"site": "here", "partition": "main"}.items()
        assert info["capacity"]["labels"]["node"] in cluster.slurm.nodes
        assert 0 < info["ends_ns"] - info["started_ns"] <= 600 * 10**9
    cluster("wait", job)
    assert cluster.counts(job) == {"done": 30}
    assert cluster.all_ended() == {"COMPLETED": 2}
    secret = tomllib.loads(cluster.store_file.read_text())["password"].encode()
    for path in (*cluster.slurm.folder.rglob("*"), *cluster.folder.rglob("*")):
        assert not path.is_file() or secret not in path.read_bytes(), path


def test_tasks_are_handed_back_before_the_walltime(cluster: Cluster) -> None:
    """Slurm's shortest walltime is a minute: of that a worker takes tasks for ten seconds, and lets them run some more."""
    job = cluster.submit("sleep 1000; : a", "sleep 1001; : b")
    cluster("worker", "slurm", "up", "--nodes=1", "--time=1m", "--drain-before=50s", "--cpus=2", "--memory=1500MiB")
    cluster.slurm.eventually(lambda: cluster.counts(job) == {"leased": 2}, "both run")
    cluster.slurm.eventually(lambda: not cluster.workers(), "the worker leaves")
    assert cluster.all_ended() == {"COMPLETED": 1}, "it left by itself, Slurm had to end nothing"
    assert cluster.counts(job) == {"ready": 2}
    assert not cluster.erg.running("sleep 100")


def test_a_lost_node_and_a_cancelled_worker_lose_no_task(cluster: Cluster) -> None:
    job = cluster.submit(*(f"sleep 3; : {number}" for number in range(10)))
    cluster(
        "worker", "slurm", "up", "--nodes=3", "--time=10m", "--idle-timeout=50s"
    )  # longer than a dead worker's lease
    cluster.slurm.eventually(lambda: cluster.counts(job).get("leased", 0) >= 6, "all three work")
    crashed, cancelled, _ = cluster.allocations()
    cluster.slurm.crash(crashed["node"])
    cluster.slurm.declare_down(crashed["node"])
    cluster.slurm("scancel", cancelled["allocation"])
    cluster("wait", job)
    assert cluster.counts(job) == {"done": 10}, cluster.rows(job)
    assert cluster.all_ended() == {"NODE_FAIL": 1, "CANCELLED": 1, "COMPLETED": 1}


def test_auto_follows_the_queue_and_survives_a_kill(cluster: Cluster) -> None:
    job = cluster.submit(*(f"sleep 2; : {number}" for number in range(12)))
    words = (
        "worker",
        "slurm",
        "auto",
        "--time=10m",
        "--workers-max=2",
        "--every=1s",
        "--idle-timeout=3s",
        *cluster.store,
    )
    for _ in range(2):
        auto = cluster.erg.start(*words, env=cluster.env)
        cluster.slurm.eventually(lambda: cluster.placed_by(auto.pid), "it begins")  # noqa: B023
        cluster.slurm.eventually(lambda: len(cluster.workers()) == 2, "two workers come")
        auto.kill()
        auto.wait()
    auto = cluster.erg.start(*words, env=cluster.env)
    cluster.slurm.eventually(lambda: cluster.placed_by(auto.pid), "it begins")
    refused = cluster.erg(*words, env=cluster.env)
    assert refused.code == 2 and f"process {auto.pid} on" in refused.err
    cluster("wait", job)
    assert cluster.all_ended() == {"COMPLETED": 2}, "the same two all the time"
    again = cluster.submit("sleep 0.1; : again")
    cluster("wait", again)
    assert cluster.all_ended()["COMPLETED"] == 3
    auto.terminate()
    assert auto.wait(30) == 0


GANG = "sleep 2; echo $ERG_GANG_RANK of $ERG_GANG_SIZE on $SLURMD_NODENAME"


@pytest.mark.parametrize("cluster", [4], indirect=True)
def test_a_gang_of_four_runs_on_four_allocations_and_outlives_the_loss_of_one(cluster: Cluster) -> None:
    cluster("submit", "--nodes=4", f"case $ERG_ATTEMPT in 1) exec sleep 1000;; esac; {GANG}")
    (job,) = (row["id"] for row in json.loads(cluster("status", "--json").out))
    cluster("worker", "slurm", "up", "--nodes=4", "--time=10m", "--idle-timeout=50s")
    cluster.slurm.eventually(lambda: len(sleepers(cluster, "sleep 1000")) == 4, "all members run")
    assert len(set(sleepers(cluster, "sleep 1000"))) == 4, "each on a node of its own"
    cluster.slurm("scancel", cluster.allocations()[2]["allocation"])
    cluster.slurm.eventually(lambda: not sleepers(cluster, "sleep 1000"), "the others end, too")
    assert not cluster.counts(job).keys() - {"ready", "delayed"}, "a gang waits until there are four again"
    cluster("worker", "slurm", "up", "--nodes=1", "--time=10m", "--idle-timeout=5s")
    cluster("wait", job)
    said = cluster("logs", job).out.decode()
    for rank in range(4):
        assert f"{rank} of 4 on n" in said
    (row,) = cluster.rows(job)
    assert (row["state"], row["outcome"]) == ("done", "succeeded"), row
    (status,) = json.loads(cluster("status", "--json").out)
    ends = {outcome for outcome, number in status["outcomes"].items() if number}
    assert "succeeded" in ends and ends <= {"succeeded", "lost", "returned"}, "Slurm's doing is no failure of the task"


@pytest.mark.parametrize("cluster", [4], indirect=True)
def test_auto_asks_for_as_many_as_a_gang_has_members(cluster: Cluster) -> None:
    cluster("submit", "--nodes=4", GANG)
    words = (
        "worker",
        "slurm",
        "auto",
        "--time=10m",
        "--workers-max=4",
        "--every=1s",
        "--idle-timeout=3s",
        *cluster.store,
    )
    auto = cluster.erg.start(*words, env=cluster.env)
    cluster("wait")
    assert cluster.all_ended() == {"COMPLETED": 4}
    auto.terminate()
    assert auto.wait(30) == 0


def sleepers(cluster: Cluster, line: str) -> list[str]:
    """The nodes on which this runs."""
    return [
        node for node in cluster.slurm.nodes for held in cluster.slurm.processes(node).values() if held.strip() == line
    ]


def test_down_lets_what_runs_end(cluster: Cluster) -> None:
    job = cluster.submit("sleep 4; : a", "sleep 4; : b", "sleep 4; : c", "sleep 4; : d")
    cluster("worker", "slurm", "up", "--nodes=5", "--time=10m", "--idle-timeout=1h")
    cluster.slurm.eventually(lambda: cluster.counts(job).get("leased", 0) == 4, "all run")
    down = cluster("worker", "slurm", "down")
    assert b"ended 5 allocations" in down.out
    assert cluster.counts(job) == {"done": 4}, "what ran was let end"
    states = cluster.all_ended()
    assert states["COMPLETED"] == 3 and states["CANCELLED"] >= 1, states


@pytest.mark.parametrize("how", ["--now", "--wait=1s"])
def test_down_gives_back_what_may_not_end(cluster: Cluster, how: str) -> None:
    job = cluster.submit("sleep 1000; : e")
    cluster("worker", "slurm", "up", "--nodes=1", "--time=10m", "--idle-timeout=1h")
    cluster.slurm.eventually(lambda: cluster.counts(job).get("leased", 0) == 1, "it runs")
    cluster("worker", "slurm", "down", how)
    assert cluster.counts(job) == {"ready": 1}
    assert not cluster.erg.running("sleep 1000")


def test_only_our_own_allocations_are_ended(cluster: Cluster) -> None:
    mine = cluster.slurm("sbatch", "--parsable", "--job-name=erg:default", "--wrap=sleep 600").strip()
    cluster("worker", "slurm", "up", "--nodes=1", "--time=10m", "--name=other")
    cluster("worker", "slurm", "up", "--nodes=1", "--time=10m")
    assert len(cluster.allocations()) == 2
    cluster("worker", "slurm", "down", "--now")
    (left,) = cluster.allocations()
    assert left["pool"] == "other"
    assert cluster.slurm.states()[mine] == "RUNNING"


def test_a_dry_run_submits_nothing(cluster: Cluster) -> None:
    cluster.submit("true", "true; : 2")
    shown = cluster("worker", "slurm", "up", "--nodes=7", "--time=90m", "--dry-run").out.decode()
    assert "sbatch --parsable" in shown and "--array=0-6" in shown and "--time=01:30:00" in shown
    assert shown.splitlines()[-1].startswith(f"exec {sys.executable} -m ergates worker slurm join --store=")
    auto = cluster("worker", "slurm", "auto", "--time=90m", "--dry-run").out.decode()
    assert "2 waiting tasks" in auto and "would ask Slurm for 1 worker" in auto
    assert cluster.slurm.states() == {}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--nodes=1", "--time=1h", "--partition=nope"), "no such partition"),
        (("--nodes=1", "--time=10s"), "at least 1m"),
        (("--nodes=1", "--time=1h", "--drain-before=2h"), "drain from its start"),
        (("--nodes=1", "--time=1h", "--", "--array=1-9"), "sets this option of sbatch itself"),
        (("--nodes=1", "--time=1h", "--setup=missing.sh"), "missing.sh"),
    ],
)
def test_wrong_usage_is_told_before_anything_is_submitted(cluster: Cluster, words: tuple[str, ...], told: str) -> None:
    options = list(words)
    at = options.index("--") if "--" in options else len(options)
    options[at:at] = cluster.store
    refused = cluster.erg("worker", "slurm", "up", *options, env=cluster.env)
    assert refused.code == 2, refused
    assert told in refused.err
    assert cluster.slurm.states() == {}
