"""A cluster without room: the server out of memory, the server's disk full, a worker's disk full.

Workers go on, keep what ended and say what is missing; when room is made everything is there, and nothing was done twice.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest
from broken_cluster import BrokenCluster
from erg_rig import Erg, eventually

from ergates.cluster.task import JobId

pytestmark = [pytest.mark.needs("redis"), pytest.mark.system]
LEASE_S = 1.5
GATE = "touch begun$ERG_TASK_ID; until test -e go; do sleep 0.05; done"
J1 = JobId("j1")
MUCH = "seq 20000 | head -c 100000"
FILLING = b"x" * 65536


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A file system of that size within."""
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """A file that takes all the room that is left there."""
    path = folder / "filling"
    with path.open("ab", buffering=0) as file:
        try:
            while True:
                file.write(FILLING)
        except OSError:
            return path


def gated(cluster: BrokenCluster, short: int) -> None:
    """Two workers, four tasks that run and wait for the gate, and some short ones behind them."""
    cluster.submit([GATE] * 4 + ["true"] * short)
    for _ in range(2):
        cluster.add_node(jobs=2)
    eventually(lambda: len(list(cluster.erg.folder.glob("begun*"))) == 4, "four begin")


def while_full(cluster: BrokenCluster, *says: str) -> None:
    """The tasks end, nobody can be told, for much longer than a lease; people are told what to do."""
    begun = time.monotonic()
    (cluster.erg.folder / "go").touch()
    eventually(lambda: all("end" in (cluster.notes / str(task)).read_text() for task in range(1, 5)), "they end")
    refused = cluster.erg("submit", "true", env=cluster.env)
    assert refused.code == 1, refused
    assert "Traceback" not in refused.err
    for words in says:
        assert words in refused.err
    shown = cluster.erg("status", J1, env=cluster.env)
    assert shown.code == 0, shown
    logs = [node.log for node in cluster.nodes]
    eventually(lambda: all("store-full" in log.read_text() for log in logs), "both workers say so")
    time.sleep(max(0.0, 3 * LEASE_S - (time.monotonic() - begun)))  # the fault lasts so long, whatever happens
    for node in cluster.nodes:
        assert node.process is not None and node.process.poll() is None, cluster.logs()


def test_the_server_is_out_of_memory(erg: Erg, tmp_path_factory: pytest.TempPathFactory) -> None:
    with ExitStack() as stack:
        cluster = BrokenCluster(erg, stack, tmp_path_factory.mktemp("server"), lease_s=LEASE_S)
        stack.callback(erg.clean_up)
        gated(cluster, 20)
        with closing(cluster.server.client()) as client:
            client.config_set("maxmemory", "1mb")
            while_full(cluster, "the server has no memory left", "raise its maxmemory", "erg controller")
            assert cluster.store().status(J1).counts["leased"] >= 4
            client.config_set("maxmemory", "0")
        cluster.wait(J1)
        cluster.shut_down()
        assert cluster.check(J1, 24) == {"succeeded": 24}


def test_draining_makes_room_in_a_server_without_memory(erg: Erg, tmp_path_factory: pytest.TempPathFactory) -> None:
    """What is advised must be possible: the ledger takes the attempts, and the store forgets them."""
    with ExitStack() as stack:
        cluster = BrokenCluster(erg, stack, tmp_path_factory.mktemp("server"))
        stack.callback(erg.clean_up)
        job = cluster.submit(["head -c 60000 /dev/urandom | base64 -w 0"] * 60)
        cluster.add_node(jobs=2)
        cluster.wait(job)
        with closing(cluster.server.client()) as client:
            used = int(client.info("memory")["used_memory"])
            client.config_set("maxmemory", str(used - 1_000_000))
            assert cluster.erg("submit", "true", env=cluster.env).code == 1
            drained = cluster.erg("controller", "--once", env=cluster.env)
            assert drained.code == 0, drained
            eventually(lambda: int(client.info("memory")["used_memory"]) < used - 2_000_000, "memory is free again")
        assert cluster.erg("submit", "true", env=cluster.env).code == 0


@pytest.mark.needs("root")
def test_the_servers_disk_is_full(erg: Erg, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("server")
    with small_disk(folder / "data", "4m") as disk, ExitStack() as stack:
        cluster = BrokenCluster(erg, stack, folder, lease_s=LEASE_S)
        stack.callback(erg.clean_up)
        gated(cluster, 20)
        filling = fill(disk)
        while_full(cluster, "the server cannot write to its disk", "free some space there")
        filling.unlink()
        cluster.wait(J1)
        cluster.server.kill()
        cluster.server.start()  # what was accepted is on the disk
        cluster.shut_down()
        assert cluster.check(J1, 24) == {"succeeded": 24}


def test_a_server_that_stood_still_condemns_nobody(erg: Erg, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Whoever asks first when it goes on finds all others silent for longer than a lease."""
    with ExitStack() as stack:
        cluster = BrokenCluster(erg, stack, tmp_path_factory.mktemp("server"), lease_s=LEASE_S)
        stack.callback(erg.clean_up)
        gated(cluster, 20)
        cluster.start_controller()
        for _ in range(3):
            cluster.server.stop()
            time.sleep(2 * LEASE_S)  # it stands still for so long
            cluster.server.go_on()
            eventually(lambda: cluster.store().status(J1).counts["leased"] >= 4, "it answers again")
        (cluster.erg.folder / "go").touch()
        cluster.wait(J1)
        cluster.shut_down()
        assert cluster.check(J1, 24) == {"succeeded": 24}


@pytest.mark.needs("root")
def test_a_workers_disk_is_full(erg: Erg, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Its tasks end for want of room and go back uncounted; others do them, and it works again when there is some."""
    with small_disk(tmp_path_factory.mktemp("state") / "disk", "8m") as disk, ExitStack() as stack:
        cluster = BrokenCluster(erg, stack, tmp_path_factory.mktemp("server"), lease_s=LEASE_S)
        stack.callback(erg.clean_up)
        job = cluster.submit([GATE] * 2 + [MUCH] * 30)
        full = cluster.add_node(state=disk, jobs=2)
        eventually(lambda: len(list(cluster.erg.folder.glob("begun*"))) == 2, "two begin", full.process)
        filling = fill(disk)
        (cluster.erg.folder / "go").touch()
        with closing(cluster.store()) as store:
            eventually(lambda: store.status(job).outcomes.get("disk_full"), "its tasks find no room", full.process)
            well = cluster.add_node(jobs=2)
            eventually(lambda: store.status(job).counts["done"] == 32, "another node does them", well.process)
            outcomes = {attempt.outcome.value for _, _, attempt in store.attempts(job)}
            assert outcomes == {"disk_full", "succeeded"}
        filling.unlink()
        well.leave()
        more = cluster.submit([MUCH] * 4)
        cluster.wait(more)
        cluster.shut_down()
        assert cluster.check(more, 4) == {"succeeded": 4}
