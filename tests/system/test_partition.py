"""A node that is cut off for longer than its lease, and comes back: network namespaces, a real server, real workers.

Three cuts: the cable is out; what the node says is lost; what is said to the node is lost. Each time others do its tasks
meanwhile, and when it is back its late results are refused (or were heard, once) and its processes are gone.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from erg_rig import Erg, eventually
from redis_server import Server, serving
from ssh_rig import SshHost, SshLan, run

from ergates.clock import SystemClock
from ergates.cluster.attempt import Outcome
from ergates.cluster.job import JobSpec
from ergates.cluster.task import TaskSpec
from ergates.drivers.stores.open_cluster import open_cluster_store
from ergates.drivers.stores.redis.store import RedisStore
from ergates.drivers.stores.store_file import store_address

pytestmark = [pytest.mark.needs("redis", "netns", "sshd"), pytest.mark.system]
CHILD = str(Path(__file__).parent / "hurried_worker_child.py")
LEASE_S, SECRET = "2", "between-hosts"
NOBODYS_ADDRESS = "02:00:00:00:00:99"


@pytest.fixture
def lan(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshLan]:
    lan = SshLan(tmp_path_factory.mktemp("lan"))
    yield lan
    lan.remove()


class Far:
    """A server that both hosts reach, each by its own cable, and a worker on each."""

    def __init__(self, erg: Erg, lan: SshLan, server: Server) -> None:
        self.erg, self._lan, self._server = erg, lan, server
        self.logs: dict[str, Path] = {}

    def env(self, address: str) -> dict[str, str]:
        return {"ERGATES_STORE": f"redis://{address}:{self._server.port}", "ERGATES_STORE_PASSWORD": SECRET}

    def store(self) -> RedisStore:
        env = self.env("127.0.0.1")
        return open_cluster_store(store_address(env["ERGATES_STORE"], env=env))

    def worker(self, host: SshHost) -> subprocess.Popen[bytes]:
        """In the host's network, under the host's name."""
        place = (sys.executable, CHILD, str(host.folder / "state"), LEASE_S, "3")
        named = ("unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', host.name, *place)
        self.logs[host.name] = host.folder / "worker.log"
        with self.logs[host.name].open("ab") as log:
            return self.erg.start(
                program=(*host.enter, *named),
                stdout=subprocess.DEVNULL,
                stderr=log.fileno(),
                env=self.env(host.gateway),
            )

    def said(self, host: SshHost, words: str) -> bool:
        return words in self.logs[host.name].read_text()


def mended(*command: str) -> None:
    run(*command)


def cable_out(host: SshHost) -> Callable[[], None]:
    outside = f"{host.namespace}o"
    run("ip", "link", "set", outside, "down")
    return lambda: mended("ip", "link", "set", outside, "up")


def its_words_lost(host: SshHost) -> Callable[[], None]:
    """The node sends to an address on the wire that nobody has."""
    place = (host.gateway, "dev", f"{host.namespace}i")
    run(*host.enter, "ip", "neigh", "replace", *place, "lladdr", NOBODYS_ADDRESS, "nud", "permanent")
    return lambda: mended(*host.enter, "ip", "neigh", "del", *place)


def words_to_it_lost(host: SshHost) -> Callable[[], None]:
    """The server's machine sends to an address on the wire that nobody has: requests come, answers go nowhere."""
    place = (host.address, "dev", f"{host.namespace}o")
    run("ip", "neigh", "replace", *place, "lladdr", NOBODYS_ADDRESS, "nud", "permanent")
    return lambda: mended("ip", "neigh", "del", *place)


@pytest.fixture
def far(erg: Erg, lan: SshLan, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Far]:
    for name in ("near", "away"):
        lan.host(name, booted=False)
    listen = " ".join(["127.0.0.1", *(host.gateway for host in lan.hosts.values())])
    with ExitStack() as stack:
        server = stack.enter_context(
            serving(tmp_path_factory.mktemp("server"), f"bind {listen}", f"requirepass {SECRET}", "appendonly yes")
        )
        stack.callback(erg.clean_up)
        yield Far(erg, lan, server)


@pytest.mark.parametrize("cut", [cable_out, its_words_lost, words_to_it_lost])
def test_a_node_that_was_cut_off(cut: Callable[[SshHost], Callable[[], None]], far: Far, lan: SshLan) -> None:
    erg, (near, away) = far.erg, lan.hosts.values()
    os.mkfifo(erg.folder / "go")
    lines = [
        "test -e second && exit 0; touch begun1; exec sleep 300.25",
        "test -e second && exit 0; touch begun2; cat go; touch late",
    ]
    with closing(far.store()) as store:
        tasks = [TaskSpec(command=line) for line in lines]
        job = store.submit(JobSpec(key="cut", cwd=str(erg.folder)), tasks, SystemClock().now_ns()).id
        zombie = far.worker(away)
        eventually(lambda: len(list(erg.folder.glob("begun*"))) == 2, "both begin", zombie)
        (erg.folder / "second").touch()
        mend = cut(away)
        (erg.folder / "go").write_text("")
        eventually(lambda: (erg.folder / "late").exists(), "its second task ends while nobody hears of it", zombie)
        other = far.worker(near)
        eventually(lambda: store.status(job).counts["done"] == 2, "the other one does its tasks", other)
        assert erg.running("sleep 300.25"), "nobody could tell it to end this"
        by = {worker.info.host: worker.info.id for worker in store.workers()}
        before = [(int(task), attempt.outcome, attempt.worker) for _, task, attempt in store.attempts(job)]
        expected = [(1, Outcome.LOST, by["away"]), (1, Outcome.SUCCEEDED, by["near"])]
        if cut is words_to_it_lost:  # the end of its second task was heard; what is lost is the answer
            expected.append((2, Outcome.SUCCEEDED, by["away"]))
        else:
            expected += [(2, Outcome.LOST, by["away"]), (2, Outcome.SUCCEEDED, by["near"])]
        assert sorted(before) == expected
        mend()
        eventually(lambda: far.said(away, " lease-lost "), "it learns that its lease is lost", zombie)
        eventually(lambda: not erg.running("sleep 300.25"), "its task is ended", zombie)
        standing = eventually(lambda: live(store) if len(live(store)) == 2 else (), "it is back", zombie)
        assert standing == ("away", "near")
        after = [(int(task), attempt.outcome, attempt.worker) for _, task, attempt in store.attempts(job)]
        assert after == before, "what it says about its old tasks is refused"
        other.send_signal(signal.SIGTERM)
        assert other.wait(timeout=60) == 0
        more = store.submit(JobSpec(key="more"), [TaskSpec(command="true")] * 3, SystemClock().now_ns()).id
        eventually(lambda: store.status(more).counts["done"] == 3, "it works under its new epoch", zombie)
        zombie.send_signal(signal.SIGTERM)
        assert zombie.wait(timeout=60) == 0, far.logs["away"].read_text()
    erg.wait_until_gone()


def live(store: RedisStore) -> tuple[str, ...]:
    return tuple(sorted(worker.info.host for worker in store.workers() if worker.standing == "live"))
