"""Real workers over real sshds, with a real store: up, work done, up again, down; and what a user sees when it fails."""

from __future__ import annotations

import json
import os
import signal
import tomllib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from erg_rig import Ended, Erg, ended, eventually
from ssh_rig import SshLan, ssh_processes

from ergates.drivers.stores.open_cluster import open_cluster_store
from ergates.drivers.stores.store_file import read_store_file

pytestmark = [pytest.mark.system, pytest.mark.needs("sshd", "netns", "root", "redis"), pytest.mark.timeout(240)]


class Cluster:
    """`erg` on this machine, a store that hosts can reach, and hosts."""

    def __init__(self, erg: Erg, lan: SshLan, folder: Path) -> None:
        self.erg, self.lan, self.folder = erg, lan, folder
        self.env = {"XDG_STATE_HOME": str(folder / "state"), "XDG_CACHE_HOME": str(folder / "cache")}
        lan.host("node1")
        lan.host("node2")
        up = erg("store", "up", "--listen", lan.hosts["node1"].gateway)
        assert up.code == 0, up
        self.store_file = erg.folder / ".ergates" / "store.toml"
        self.store = ("--store", str(self.store_file))
        self.ssh = ("--ssh-config", str(lan.config))

    def __call__(self, *words: str) -> Ended:
        return self.erg(*words, env=self.env)

    def hosts(self, *words: str) -> dict[str, dict[str, Any]]:
        """`erg worker up|down ... --json`, by host."""
        shown = self("worker", *words, *self.store, *self.ssh, "--json")
        return {"exit": {"code": shown.code, "err": shown.err}} | {row["host"]: row for row in json.loads(shown.out)}

    def secret(self) -> str:
        return str(tomllib.loads(self.store_file.read_text())["password"])


@pytest.fixture
def cluster(erg: Erg, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    lan = SshLan(folder)
    try:
        yield Cluster(erg, lan, folder)
    finally:
        erg("store", "down")
        lan.remove()
    assert not lan.leftovers()


def test_work_is_done_on_the_hosts_and_nothing_is_left(cluster: Cluster) -> None:
    up = cluster.hosts("up", "--host", "node1,node2", "--cpus", "1", "--label", "site=here")
    assert up["exit"]["code"] == 0, up
    assert [up[name]["state"] for name in ("node1", "node2")] == ["up", "up"]

    with closing(open_cluster_store(read_store_file(cluster.store_file))) as store:
        workers = {worker.info.placed_by: worker.info for worker in store.workers()}
    assert set(workers) == {"ssh:node1", "ssh:node2"}
    assert workers["ssh:node1"].host == "node1"
    assert workers["ssh:node1"].capacity.labels["site"] == "here"
    assert workers["ssh:node1"].capacity.cpus_milli == 1000

    told = 'test "$ERG_LABELS" = site=here && test -O "$ERGATES_STORE"'  # the store file of its own worker, there
    cluster.erg.commands(*(f": {n}; sleep 0.2; hostname; {told}" for n in range(12)))
    assert cluster("submit", "commands.txt", *cluster.store).code == 0
    assert cluster("wait", *cluster.store).code == 0
    shown = cluster("export", "--format", "jsonl", *cluster.store)
    rows = [json.loads(line) for line in shown.out.splitlines()]
    assert len(rows) == 12
    assert {row["state"] for row in rows} == {"done"}

    secret = cluster.secret()
    assert not [line for line in cluster.lan.leftovers() if secret in line]
    for log in cluster.folder.glob("*/home/.local/state/ergates/placed/*/*/1/worker.log"):
        assert secret not in log.read_text()

    again = cluster.hosts("up", "--host", "node[1-2]")
    assert [(again[name]["state"], again[name]["sent_bytes"]) for name in ("node1", "node2")] == [("already up", 0)] * 2

    down = cluster.hosts("down", "--all")
    assert down["exit"]["code"] == 0, down
    assert [down[name]["state"] for name in ("node1", "node2")] == ["down", "down"]
    assert not cluster.lan.leftovers()


def test_down_now_gives_tasks_back(cluster: Cluster) -> None:
    assert cluster.hosts("up", "--host", "node1")["node1"]["state"] == "up"
    cluster.erg.commands("sleep 1000; : 1", "sleep 1001; : 2")
    assert cluster("submit", "commands.txt", *cluster.store).code == 0
    eventually(lambda: [line for line in cluster.lan.leftovers() if "sleep 1000" in line], "the task runs")

    down = cluster.hosts("down", "node1", "--now")

    assert down["node1"]["state"] == "down", down
    assert not cluster.lan.leftovers()
    (job,) = json.loads(cluster("status", "--json", *cluster.store).out)
    assert job["counts"].get("leased", 0) == 0
    assert job["counts"].get("failed", 0) == 0


def test_what_is_told_of_hosts_that_fail(cluster: Cluster) -> None:
    cluster.lan.hosts["node2"].shut_down()
    (cluster.erg.folder / "hosts.txt").write_text("node1\nnode2   cpus=1\n")
    shown = cluster("worker", "up", "--hosts", "hosts.txt", *cluster.store, *cluster.ssh)
    assert shown.code == 1
    table = shown.out.decode()
    assert "node1  up" in table, shown
    assert "node2  failed" in table
    assert "Connection refused" in table
    assert "hint (node2): is it up" in table
    assert "1 of 2 hosts up, 1 failed" in table
    assert cluster.hosts("down", "--all")["node1"]["state"] == "down"


def test_a_store_that_the_hosts_cannot_reach(cluster: Cluster) -> None:
    elsewhere = cluster.store_file.with_name("loopback.toml")
    text = cluster.store_file.read_text().replace(cluster.lan.hosts["node1"].gateway, "127.0.0.1")
    elsewhere.touch(mode=0o600)
    elsewhere.write_text(text)
    shown = cluster("worker", "up", "--host", "node1", "--store", str(elsewhere), *cluster.ssh, "--join-timeout", "5s")
    assert shown.code == 1, shown
    assert "loopback" in shown.err
    assert "127.0.0.1" in shown.out.decode()
    assert cluster("worker", "down", "node1", "--store", str(elsewhere), *cluster.ssh, "--now").code == 0


def test_ctrl_c_ends_every_ssh_and_says_who_is_up(cluster: Cluster) -> None:
    assert cluster.hosts("up", "--host", "node1")["node1"]["state"] == "up"
    setup = cluster.erg.folder / "setup.sh"
    setup.write_text('[ "$(hostname)" = node1 ] && exit\ntouch $HOME/waiting\nsleep 1000\n')
    words = ("worker", "up", "--host", "node1,node2", "--setup", str(setup), "--json", *cluster.store, *cluster.ssh)
    process = cluster.erg.start(*words, env=cluster.env)
    waiting = cluster.lan.hosts["node2"].home / "waiting"
    eventually(waiting.exists, "node2 is being set up", process)
    # node1 is done when its ssh is gone
    eventually(lambda: len(ssh_processes([str(cluster.folder)])) == 1, "only one host is left", process)

    os.kill(process.pid, signal.SIGINT)
    came = ended(process)

    assert came.code == 130, came
    states = {row["host"]: row["state"] for row in json.loads(came.out)}
    assert states == {"node1": "already up", "node2": "interrupted"}
    assert not ssh_processes([str(cluster.folder)])
    eventually(
        lambda: not [line for line in cluster.lan.leftovers() if "sleep" in line], "the script on node2 has ended"
    )
    assert cluster.hosts("down", "--all")["node1"]["state"] == "down"
