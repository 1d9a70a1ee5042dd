"""Placing against a real Slurm, with a stand-in for queue and workers: submissions, refusals, SIGKILL at any step."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from slurm_placing_child import POOL, StandingQueue, placing, worker_in
from slurm_rig import SlurmCluster, slurm_cluster

from ergates.drivers.placers.slurm import Slurm
from ergates.drivers.placers.slurm_array import Shape
from ergates.drivers.placers.slurm_words import NoSlurmError, SlurmError
from ergates.errors import UsageError
from ergates.taskqueue.placement import PlacementLimits
from ergates.units import SECOND_NS, Bytes, Nanoseconds

pytestmark = [pytest.mark.system, pytest.mark.needs("slurm")]
WALLTIME = Nanoseconds(600 * SECOND_NS)
LIMITS = PlacementLimits(walltime_ns=WALLTIME, workers_max=3, pending_max=3)
CHILD = Path(__file__).with_name("slurm_placing_child.py")


@pytest.fixture(scope="module")
def cluster() -> Iterator[SlurmCluster]:
    with slurm_cluster(2, partitions=["PartitionName=short Nodes=n1 MaxTime=1"]) as started:
        yield started


@pytest.fixture
def slurm(cluster: SlurmCluster) -> Iterator[SlurmCluster]:
    """Empty before and after."""
    yield cluster
    cluster("scancel", f"--user={os.getuid()}")
    cluster.eventually(lambda: not cluster.in_state("PENDING", "RUNNING", "COMPLETING"), "nothing is left")


def submit(slurm: SlurmCluster, shape: Shape, count: int = 1, token: str = "0123") -> str:
    return Slurm(slurm.env).submit(POOL, shape, count, token, "#!/bin/sh\nsleep 600\n", "/dev")


def test_an_array_is_submitted_seen_and_cancelled(slurm: SlurmCluster) -> None:
    driver = Slurm(slurm.env)
    job = submit(slurm, Shape(walltime_ns=WALLTIME), 3)
    slurm.eventually(lambda: len(slurm.in_state("RUNNING")) == 2, "two whole nodes are taken")
    rows = [row for row in driver.allocations(POOL) if row.job == job]
    assert [(row.id, row.running, row.comment) for row in rows] == [
        (f"{job}_0", True, f"{POOL.mark} 0123"),
        (f"{job}_1", True, f"{POOL.mark} 0123"),
        (f"{job}_2", False, f"{POOL.mark} 0123"),
    ]
    driver.cancel([row.id for row in rows], pending_only=True)
    slurm.eventually(lambda: slurm.states()[f"{job}_2"] == "CANCELLED", "what waits is cancelled")
    assert len(slurm.in_state("RUNNING")) == 2, "what runs is not"
    driver.cancel([row.id for row in rows])
    slurm.eventually(lambda: not slurm.in_state("RUNNING", "COMPLETING"), "all are gone")
    driver.cancel([row.id for row in rows])


def test_parts_of_a_node_share_it(slurm: SlurmCluster) -> None:
    submit(slurm, Shape(walltime_ns=WALLTIME, cpus=1, memory_bytes=Bytes(500 << 20)), 4)
    slurm.eventually(lambda: len(slurm.in_state("RUNNING")) == 4, "four on two nodes of two cores")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"partition": "nope"}, "there is no such partition"),
        ({"constraint": "gpu"}, "no node has that feature"),
        ({"memory_bytes": Bytes(1 << 50)}, "no node has"),
        ({"extra": ("--nonsense",)}, "sbatch does not know an option"),
        ({"extra": ("--gres=gpu:1",)}, "generic resource"),
    ],
)
def test_refusals_are_told_in_words_and_are_for_good(
    slurm: SlurmCluster, options: dict[str, object], words: str
) -> None:
    with pytest.raises(SlurmError, match=words) as refused:
        submit(slurm, Shape(walltime_ns=WALLTIME, **options))  # type: ignore[arg-type]
    assert refused.value.for_good


def test_what_can_be_told_before_is_told_before(slurm: SlurmCluster) -> None:
    driver = Slurm(slurm.env)
    found = driver.check(Shape(walltime_ns=WALLTIME))
    assert found is not None and (found.name, found.cpus, found.memory_mib) == ("main", slurm.cpus, slurm.memory_mib)
    with pytest.raises(UsageError, match="one of main, short"):
        driver.check(Shape(walltime_ns=WALLTIME, partition="nope"))
    with pytest.raises(UsageError, match="partition short allows 1 min"):
        driver.check(Shape(walltime_ns=WALLTIME, partition="short"))


def test_without_slurm_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(NoSlurmError, match="this machine has no Slurm"):
        Slurm({"PATH": str(tmp_path)}).partitions()


def test_demand_is_met_and_taken_back(slurm: SlurmCluster, tmp_path: Path) -> None:
    queue, said = StandingQueue(100), list[str]()
    limits = PlacementLimits(walltime_ns=WALLTIME, workers_max=4, pending_max=3, surplus_ns=Nanoseconds(0))
    it = placing(tmp_path, queue, limits, slurm=Slurm(slurm.env), say=said.append)
    for _ in range(3):
        it.look()
    assert len(slurm.in_state("PENDING", "RUNNING")) == 3, said
    slurm.eventually(lambda: len(slurm.in_state("RUNNING")) == 2, "two nodes are taken")
    it.look()
    assert len(slurm.in_state("PENDING", "RUNNING")) == 4, said
    queue.waiting_count = 0
    for _ in range(3):
        it.look()
    slurm.eventually(lambda: not slurm.in_state("PENDING"), "what waits is taken back")
    assert len(slurm.in_state("RUNNING")) == 2, "what runs ends by itself"


def test_allocations_that_end_at_once_make_it_give_up(slurm: SlurmCluster, tmp_path: Path) -> None:
    said = list[str]()
    limits = PlacementLimits(walltime_ns=WALLTIME, workers_max=4, retry_after_ns=(0,))
    it = placing(
        tmp_path, StandingQueue(100), limits, slurm=Slurm(slurm.env), text="#!/bin/sh\nexit 3\n", say=said.append
    )

    def given_up() -> str:
        it.look()
        return it.state.given_up

    reason = slurm.eventually(given_up, "it gives up")
    assert "allocations in a row ended before a worker came" in reason and "FAILED on n" in reason
    asked = len(slurm.states())
    it.look()
    assert len(slurm.states()) == asked


@pytest.mark.parametrize("joined", [True, False])
def test_a_crashed_node_is_replaced_at_once_only_when_its_worker_had_come(
    slurm: SlurmCluster, tmp_path: Path, joined: bool
) -> None:
    queue = StandingQueue(1)
    it = placing(tmp_path, queue, LIMITS, slurm=Slurm(slurm.env), say=lambda text: None)
    for _ in range(2):
        it.look()
    (first,) = slurm.eventually(lambda: slurm.in_state("RUNNING"), "it runs")
    if joined:
        queue.present = (worker_in(first),)
    it.look()
    assert slurm.in_state("PENDING", "RUNNING") == [first]
    (node,) = (row.node for row in Slurm(slurm.env).allocations(POOL) if row.id == first)
    slurm.crash(node)
    slurm.declare_down(node)
    slurm.eventually(lambda: slurm.states()[first] == "NODE_FAIL", "Slurm knows")
    it.look()
    assert len(slurm.in_state("PENDING", "RUNNING")) == (1 if joined else 0)
    slurm.boot(node)
    slurm.eventually(lambda: f"{node} down" not in slurm("sinfo", "-h", "-N", "-o", "%N %t"), "the node is back")


# --- SIGKILL ------------------------------------------------------------------------------------------

SLOW_SBATCH = """#!/bin/sh
echo $$ > {folder}/begun.tmp && mv {folder}/begun.tmp {folder}/begun
while [ ! -e {folder}/go ]; do sleep 0.02; done
{program} "$@"
code=$?
echo $$ > {folder}/submitted
while [ ! -e {folder}/answer ]; do sleep 0.02; done
exit $code
"""


class SlowSbatch:
    """A process that places, with an sbatch that waits for us before it submits and before it answers."""

    def __init__(self, slurm: SlurmCluster, folder: Path) -> None:
        self.slurm, self.folder = slurm, folder
        program = subprocess.run(["which", "sbatch"], capture_output=True, text=True, check=True).stdout.strip()
        (folder / "bin").mkdir()
        (folder / "bin" / "sbatch").write_text(SLOW_SBATCH.format(folder=folder, program=program))
        (folder / "bin" / "sbatch").chmod(0o755)

    def start(self, *, slow: bool, ahead_s: float = 0) -> subprocess.Popen[str]:
        environment = dict(self.slurm.env)
        if slow:
            environment["PATH"] = f"{self.folder / 'bin'}:{environment['PATH']}"
        argv = [sys.executable, str(CHILD), str(self.folder), "100", "3", str(ahead_s)]
        return subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, text=True)

    def reached(self, name: str) -> int:
        self.slurm.eventually((self.folder / name).exists, name)
        return int((self.folder / name).read_text())

    def let(self, name: str) -> None:
        (self.folder / name).touch()


def killed(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def looks(process: subprocess.Popen[str], count: int) -> None:
    assert process.stdout is not None
    while count:
        line = process.stdout.readline()
        assert line, "it ended"
        count -= line == "looked\n"


@pytest.mark.parametrize("sbatch_dies", [False, True])
@pytest.mark.parametrize("submitted", [False, True])
def test_killed_during_a_submission_it_asks_for_nothing_twice(
    slurm: SlurmCluster, tmp_path: Path, submitted: bool, sbatch_dies: bool
) -> None:
    before = set(slurm.states())

    def asked() -> list[str]:
        return sorted(set(slurm.states()) - before)

    rig = SlowSbatch(slurm, tmp_path)
    first = rig.start(slow=True)
    sbatch = rig.reached("begun")
    if submitted:
        rig.let("go")
        rig.reached("submitted")
    killed(first)
    if sbatch_dies:
        os.killpg(sbatch, signal.SIGKILL)
    second = rig.start(slow=False)
    try:
        if not sbatch_dies:  # it outlives its starter, and the second process waits for it
            rig.let("go")
            rig.let("answer")
        looks(second, 10)
        assert len(asked()) == (3 if submitted or not sbatch_dies else 0)
    finally:
        killed(second)
    third = rig.start(slow=False, ahead_s=181)  # what was never seen is given up after three minutes
    try:
        looks(third, 10)
        assert len(asked()) == 3
    finally:
        killed(third)


def test_killed_at_any_moment_it_never_has_too_many(slurm: SlurmCluster, tmp_path: Path) -> None:
    before = set(slurm.states())
    rig = SlowSbatch(slurm, tmp_path)
    for number in range(8):
        process = rig.start(slow=False)
        looks(process, number // 2)
        killed(process)
        assert len(set(slurm.states()) - before) <= 3
    process = rig.start(slow=False, ahead_s=181)
    looks(process, 5)
    killed(process)
    assert len(set(slurm.states()) - before) == 3
