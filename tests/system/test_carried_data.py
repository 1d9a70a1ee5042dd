"""Tasks whose inputs and outputs travel: real workers on a real Redis, a real sshd, an S3 server, networks that die."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from erg_rig import PATIENCE_S, Ended, Erg, ended, eventually
from objects_rig import Bucket, Folder, LoopbackSshd, Place, S3Server
from redis_server import PrivateRedis

from ergates.cluster.task import JobId
from ergates.drivers.stores.redis.store import RedisStore

pytestmark = [pytest.mark.needs("redis"), pytest.mark.system]
CHILD = str(Path(__file__).parent / "cluster_worker_child.py")
SSH = [pytest.mark.needs("sshd"), pytest.mark.needs("rsync")]
TEMPLATE = ("mkdir -p out; cat cfg/{i} common > out/{i}.csv", "-p", "i=1..6")
CARRIED = ("--input", "cfg/{i}", "--input", "common", "--output-file", "out/{i}.csv")


class Cluster:
    """A server, a place with data, and `erg` with workers around them."""

    def __init__(self, erg: Erg, server: PrivateRedis) -> None:
        self.erg, self._server = erg, server
        self.state = erg.folder / "node"
        self.env = {"ERGATES_STORE": f"unix://{server.socket}", "ERGATES_WORKER_STATE": str(self.state)}

    def __call__(self, *arguments: str) -> Ended:
        return self.erg(*arguments, env=self.env)

    def submit(self, *arguments: str) -> None:
        submitted = self("submit", *arguments)
        assert submitted.code == 0, submitted

    def work(self, *arguments: str) -> None:
        """A worker that ends when nothing is left."""
        worked = self("worker", "start", "--until-empty", "-j", "2", *arguments)
        assert worked.code == 0, worked

    def worker(self) -> subprocess.Popen[bytes]:
        """One whose lease is short."""
        place = (str(self._server.socket), str(self.state), "1.5", "2")
        return self.erg.start(*place, program=(sys.executable, CHILD), stderr=subprocess.DEVNULL, env=self.env)

    def status(self, job: str = "j1") -> dict[str, Any]:
        shown = self("status", "--json", job)
        assert shown.code == 0, shown
        found: Any = json.loads(shown.out)
        status: dict[str, Any] = found[0] if isinstance(found, list) else found
        return status

    def break_connections(self) -> None:
        """The one that hangs ends; the next try works."""
        for pid in eventually(lambda: self.erg.running("sleep 600"), "a connection that hangs"):
            os.kill(pid, signal.SIGTERM)

    def outcomes(self) -> Counter[str]:
        """Of all attempts."""
        store = RedisStore(self._server.client)
        try:
            return Counter(attempt.outcome.value for _, _, attempt in store.attempts(JobId("j1")))
        finally:
            store.close()


@pytest.fixture
def cluster(erg: Erg, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with PrivateRedis(tmp_path_factory.mktemp("r")) as server:
        yield Cluster(erg, server)
        erg.clean_up()


@pytest.fixture
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopbackSshd]:
    with LoopbackSshd(tmp_path_factory.mktemp("sshd")) as running:
        yield running


@pytest.fixture
def place(sshd: LoopbackSshd, cluster: Cluster) -> Folder:
    """Reached by rsync."""
    folder = cluster.erg.folder / "far"
    folder.mkdir()
    cluster.env |= sshd.env
    return Folder(sshd.address("ssh", folder), folder)


def filled(place: Place) -> None:
    for number in range(1, 7):
        place.write(f"cfg/{number}", f"{number}\n".encode())
    place.write("common", b"common\n")


def check_outputs(place: Place) -> None:
    assert [name for name in place.names() if name.startswith("out/")] == [f"out/{n}.csv" for n in range(1, 7)]
    assert {place.read(f"out/{n}.csv") for n in range(1, 7)} == {f"{n}\ncommon\n".encode() for n in range(1, 7)}


@pytest.mark.parametrize("_", [pytest.param("", marks=SSH)])
def test_over_ssh(cluster: Cluster, place: Folder, _: str) -> None:
    filled(place)
    cluster.submit("--data", place.address, *TEMPLATE, *CARRIED)
    cluster.work()
    assert cluster.status()["counts"]["done"] == 6
    check_outputs(place)
    scratch = cluster.state / "scratch"
    assert [each for each in scratch.rglob("*") if each.is_file()] == [], "nothing is left of any attempt"
    cluster.erg.wait_until_gone()


@pytest.mark.needs("s3")
def test_in_a_bucket(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> None:
    with S3Server(tmp_path_factory.mktemp("s3")) as server:
        bucket = Bucket(server, "runs")
        filled(bucket)
        cluster.env |= server.env
        cluster.submit("--data", bucket.address, *TEMPLATE, *CARRIED)
        cluster.work()
        assert cluster.status()["counts"]["done"] == 6
        check_outputs(bucket)
        bucket.close()


def test_one_machine_works_the_same_way(erg: Erg) -> None:
    place = Folder(str(erg.folder / "data"), erg.folder / "data")
    filled(place)
    ran = erg("run", "--data", place.address, *TEMPLATE, *CARRIED)
    assert ran.code == 0, ran
    check_outputs(place)
    assert not (erg.folder / "out").exists(), "it ran in a directory of its own"


def test_a_whole_folder_comes_but_for_what_is_ignored(erg: Erg) -> None:
    data = Folder(str(erg.folder), erg.folder)  # our own state lies in it, too
    for path, text in {"a/one": "1", "a/skip.tmp": "x", "raw/big": "x", ".ergignore": "*.tmp\nraw/\n"}.items():
        data.write(path, text.encode())
    ran = erg("run", "-o", "--data", data.address, "--input", ".", "find . -type f | sort; ls -d .ergates")
    assert ran.out == b"./.ergignore\n./a/one\n", ran


def test_an_output_that_was_not_written_is_the_tasks_failure(erg: Erg) -> None:
    data = Folder(str(erg.folder / "data"), erg.folder / "data")
    data.write("in", b"x")
    ran = erg("run", "--data", data.address, "--input", "in", "--output-file", "results/3.csv", "cat in")
    assert ran.code == 1, ran
    assert "output results/3.csv was not written" in ran.err
    assert data.names() == ["in"]


def test_an_input_that_is_not_there_is_said(erg: Erg) -> None:
    (erg.folder / "data").mkdir()
    ran = erg("run", "--data", str(erg.folder / "data"), "--input", "nope", "true")
    assert ran.code == 1, ran
    assert "input nope was not found: " in ran.err


def test_an_output_that_leads_out_is_not_brought(erg: Erg) -> None:
    (erg.folder / "data").mkdir()
    ran = erg("run", "--data", str(erg.folder / "data"), "--output-file", "out", "ln -s /etc/hostname out")
    assert ran.code == 1, ran
    assert "leads out of the work directory" in ran.err
    assert not (erg.folder / "data" / "out").exists()


def test_a_time_limit_does_not_count_transfers(cluster: Cluster, sshd: LoopbackSshd, place: Folder) -> None:
    place.write("in", b"x")
    sshd.hang()
    cluster.submit("--data", place.address, "--input", "in", "--time-limit", "1s", "cat in")
    worker = cluster.worker()
    sshd.until_it_hangs()
    # The rest of the node is not held up by it.
    cluster.submit("echo plain")
    assert cluster("wait", "j2").code == 0
    eventually(lambda: cluster.status()["counts"]["leased"] == 1, "still at it")
    sshd.mend()
    cluster.break_connections()
    assert cluster("wait", "j1").code == 0
    assert cluster.outcomes() == {"succeeded": 1}
    worker.terminate()
    ended(worker)


def test_a_task_cancelled_while_its_input_comes(cluster: Cluster, sshd: LoopbackSshd, place: Folder) -> None:
    place.write("in", b"x")
    sshd.hang()
    cluster.submit("--data", place.address, "--input", "in", "touch ran; cat in")
    worker = cluster.worker()
    sshd.until_it_hangs()
    assert cluster("cancel", "j1").code == 0
    eventually(lambda: not cluster.erg.running("sleep 600"), "the transfer is over")
    assert cluster.status()["counts"]["cancelled"] == 1
    worker.terminate()
    assert worker.wait(PATIENCE_S) == 0
    cluster.erg.wait_until_gone()


@pytest.mark.parametrize("when", ["in", "out"])
def test_a_worker_killed_in_the_middle_of_a_transfer(
    cluster: Cluster, sshd: LoopbackSshd, place: Folder, when: str
) -> None:
    place.write("in", b"content")
    if when == "in":
        sshd.hang()
    script = "cat in > out" if when == "in" else f"cat in > out; touch {sshd.folder}/hang"
    cluster.submit("--data", place.address, "--input", "in", "--output-file", "out", script)
    worker = cluster.worker()
    sshd.until_it_hangs()
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait()
    cluster.erg.wait_until_gone()
    assert "out" not in place.names()
    sshd.mend()
    if when == "out":
        cluster.erg.start("-c", f"rm -f {sshd.folder}/hang", program=("sh",)).wait()
    again = cluster.worker()
    if when == "out":
        sshd.until_it_hangs()
        sshd.mend()
        cluster.break_connections()
    assert cluster("wait", "j1").code == 0
    assert place.read("out") == b"content"
    assert cluster.outcomes() == {"lost": 1, "succeeded": 1}
    again.terminate()
    assert again.wait(PATIENCE_S) == 0
    cluster.erg.wait_until_gone()


def test_a_worker_told_to_stop_at_once_does_not_wait_for_a_dead_network(
    cluster: Cluster, sshd: LoopbackSshd, place: Folder
) -> None:
    place.write("in", b"content")
    script = f"cat in > out; touch {sshd.folder}/hang"
    cluster.submit("--data", place.address, "--input", "in", "--output-file", "out", script)
    worker = cluster.worker()
    sshd.until_it_hangs()
    os.kill(worker.pid, signal.SIGTERM)
    os.kill(worker.pid, signal.SIGINT)
    assert worker.wait(PATIENCE_S) == 0
    cluster.erg.wait_until_gone()
    counts = cluster.status()["counts"]
    assert (counts["done"], counts["failed"]) == (0, 0), "it waits for another worker"
    assert "out" not in place.names()


@pytest.mark.needs("root")
def test_a_full_disk_is_waited_for(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> None:
    small = tmp_path_factory.mktemp("small")
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(small)], capture_output=True)
    if made.returncode:
        pytest.skip(f"no right to mount a file system: {made.stderr.decode().strip()}")
    try:
        cluster.state = small / "node"
        cluster.env["ERGATES_WORKER_STATE"] = str(cluster.state)
        data = Folder(str(cluster.erg.folder / "data"), cluster.erg.folder / "data")
        data.write("in", bytes(30 << 20))
        cluster.submit("--data", data.address, "--input", "in", "wc -c in")
        worker = cluster.worker()
        eventually(lambda: cluster.outcomes()["disk_full"], "a full disk")
        data.write("in", bytes(1 << 20))
        assert cluster("wait", "j1").code == 0
        assert set(cluster.outcomes()) == {"disk_full", "succeeded"}
        worker.terminate()
        assert worker.wait(PATIENCE_S) == 0
    finally:
        cluster.erg.clean_up()
        subprocess.run(["umount", "-l", str(small)], check=True)
