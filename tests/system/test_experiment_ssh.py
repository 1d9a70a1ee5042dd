"""Experiments on hosts behind real sshds that can reach this machine by nothing but the ssh that we open."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from erg_rig import Ended, Erg, ended, eventually
from fake_node import FakeNode, build_node
from ssh_rig import SshLan, ssh_processes

from ergates.drivers.hosts.local_workers import Place
from ergates.drivers.hosts.ssh import SshHosts
from ergates.errors import ErgatesError
from ergates.experiment.spec import HostGroup

pytestmark = [pytest.mark.system, pytest.mark.needs("sshd", "netns", "root", "redis"), pytest.mark.timeout(240)]
RUN_S = 150.0
"""Until a few short runs have been made, on a machine that does much else."""
FILE = """\
[experiment]
name = "pair"
time_limit = "100s"
repetitions = 2

[hosts.lab]
hosts = ["node[1-2]"]
send = ["parts", "client.sh"]
setup = "setup.sh"

[roles]
server = { hosts = "lab" }
client = { hosts = "lab" }

[programs.server]
role = "server"
command = "python3 -m http.server --bind {address} 8123"
cwd = "{here}/parts"
background = true
ready = { port = 8123 }

[programs.client]
role = "client"
order = 1
command = "sh {here}/client.sh {part} {server.address} {folder}"

[sweep]
part = ["one", "two"]

[measure]
lines = { program = "client", regex = "(\\\\d+) lines" }
"""
HELD = "1234568"
"""Seconds that nobody else sleeps."""
CLIENT = f"""\
cd "$(dirname "$0")"
case "$3" in *attempt-1/*) if [ -e parts/hold ]; then exec sleep {HELD}; fi;; esac
echo "$(wc -l < parts/$1.txt) lines; the server is $2; set up on $(cat made)"
"""


class Lab:
    """`erg experiment` on this machine, and two hosts."""

    def __init__(self, erg: Erg, lan: SshLan, folder: Path) -> None:
        self.erg, self.lan = erg, lan
        self.env = {"XDG_STATE_HOME": str(folder / "state"), "ERGATES_SSH_CONFIG": str(lan.config)}
        self.nests = set(Path("/tmp").glob("ergates-*-node[12]"))
        for name in ("node1", "node2"):
            lan.host(name)
        here = erg.folder
        (here / "parts").mkdir()
        (here / "parts" / "one.txt").write_text("a\n")
        (here / "parts" / "two.txt").write_text("a\nb\n")
        (here / "client.sh").write_text(CLIENT)
        (here / "setup.sh").write_text("hostname >> made\n")
        self.write(FILE)
        self.folder = here / "pair.experiment"

    def write(self, text: str) -> None:
        (self.erg.folder / "pair.toml").write_text(text)

    def __call__(self, *words: str) -> Ended:
        return ended(self.erg.start("experiment", *words, env=self.env), patience_s=RUN_S)

    def rows(self) -> list[dict[str, str]]:
        with (self.folder / "table.csv").open() as file:
            return list(csv.DictReader(file))

    def manifests(self) -> list[dict[str, Any]]:
        return [json.loads(path.read_text()) for path in sorted(self.folder.glob("runs/*/manifest.json"))]

    def left_on_hosts(self) -> list[Path]:
        """What is left of the experiment on any host."""
        homes = [host.home for host in self.lan.hosts.values()]
        left = [path for home in homes for path in home.glob(".cache/ergates/experiments/*")]
        return left + sorted(set(Path("/tmp").glob("ergates-*-node[12]")) - self.nests)

    def hold(self) -> subprocess.Popen[bytes]:
        """A run that hangs in its first attempt."""
        (self.erg.folder / "parts" / "hold").touch()
        process = self.erg.start("experiment", "run", "pair.toml", env=self.env)
        eventually(lambda: self.held(), "a client hangs", process)
        return process

    def held(self) -> list[int]:
        return pids("sleep", HELD)

    def tunnels(self) -> list[int]:
        return pids("ssh", str(self.folder), " -R ")


def pids(program: str, *words: str) -> list[int]:
    """Processes that run it with all these words in their command line."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):  # ended while we looked
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                if Path(line.partition(" ")[0]).name == program and all(word in line for word in words):
                    found.append(int(entry.name))
    return found


@pytest.fixture
def lab(erg: Erg, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("lab")
    lan = SshLan(folder)
    try:
        yield Lab(erg, lan, folder)
        assert not ssh_processes([str(erg.folder)])
        assert not [line for line in lan.leftovers() if "sshd" not in line]
        assert not [line for line in erg.processes().values() if "ergates" in line or "redis" in line]
    finally:
        lan.remove()


def test_runs_on_two_hosts_are_made_gathered_and_nothing_is_left(lab: Lab) -> None:
    came = lab("run", "pair.toml")

    assert came.code == 0, came
    assert "starting workers" not in came.err
    rows = lab.rows()
    assert sorted((row["part"], float(row["lines"])) for row in rows) == [
        ("one", 1),
        ("one", 1),
        ("two", 2),
        ("two", 2),
    ]
    assert {row["ok"] for row in rows} == {"true"}
    for manifest in lab.manifests():
        server, client = manifest["members"]
        assert {server["seat"]["host"], client["seat"]["host"]} == {"node1", "node2"}
        assert server["seat"]["address"] == lab.lan.hosts[server["seat"]["host"]].address
        (said,) = lab.folder.glob(f"runs/{manifest['run']['number']:04d}-*/attempt-1/1-client/client/stdout")
        words = f"the server is {server['seat']['address']}; set up on {client['seat']['host']}\n"
        assert said.read_text().endswith(words), "once: a second time would add a line"
    assert not lab.left_on_hosts()


def test_tunnels_that_break_and_a_conductor_and_a_worker_that_are_killed(lab: Lab) -> None:
    running = lab.hold()
    before = eventually(lambda: lab.tunnels() if len(lab.tunnels()) == 2 else [], "a tunnel to each host")
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: len(set(lab.tunnels()) - set(before)) == 2, "tunnels are made anew", running)
    running.kill()
    assert "it is made anew" in ended(running).err
    eventually(lambda: not lab.tunnels(), "a tunnel ends with whoever opened it")
    for pid in (*pids("python", "ssh:node1"), *lab.held()):
        with suppress(ProcessLookupError):  # what a worker started ends with it
            os.kill(pid, signal.SIGKILL)
    for host in lab.lan.hosts.values():
        for path in host.home.glob(".cache/ergates/experiments/*/*/here/parts/hold"):
            path.unlink()
    (lab.erg.folder / "parts" / "hold").unlink()

    came = lab("resume", "pair.toml")

    assert came.code == 0, came
    assert [row["ok"] for row in lab.rows()] == ["true"] * 4
    assert sorted(int(row["run"]) for row in lab.rows()) == [1, 2, 3, 4]
    assert not lab.left_on_hosts()


def test_hosts_that_refuse_are_named_and_a_store_that_listens_needs_no_tunnel(lab: Lab) -> None:
    lab.lan.hosts["node2"].shut_down()
    came = lab("run", "pair.toml")
    assert came.code == 2, came
    assert "hosts.lab: 1 of 2 hosts cannot serve\n  node2: " in came.err
    assert not lab.left_on_hosts()
    assert not lab.folder.exists()

    lab.lan.hosts["node2"].boot(more="DisableForwarding yes")
    came = lab("run", "pair.toml")
    assert came.code == 2, came
    assert "node2: its sshd does not let us forward a socket" in came.err
    assert "`listen = " in came.err
    assert not lab.left_on_hosts()
    assert not list(lab.folder.glob("runs/*/manifest.json"))

    listening = f'listen = "{lab.lan.hosts["node1"].gateway}"\nrepetitions = 1'
    lab.write(FILE.replace("repetitions = 2", listening))
    came = lab("run", "--again", "pair.toml")
    assert came.code == 0, came
    assert [row["ok"] for row in lab.rows()] == ["true"] * 2


def test_a_folder_that_is_being_gathered_when_the_connection_breaks(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in lab.env.items():
        monkeypatch.setenv(name, value)
    group = HostGroup(name="lab", kind="ssh", hosts=("node1",))
    hosts = SshHosts(group, Place(folder=lab.folder, here=lab.erg.folder))
    hosts.check()
    (host,) = hosts.up()
    base = next(lab.lan.hosts["node1"].home.glob(".cache/ergates/experiments/*/node1"))
    member = base / "runs" / "0001-r1" / "attempt-1" / "0-main"
    member.mkdir(parents=True)
    with (member / "big").open("wb") as file:
        file.truncate(1 << 28)
    (member / "zz").write_text("the last")
    into = lab.folder / "runs" / "0001-r1" / "attempt-1" / "0-main"
    with ThreadPoolExecutor(1) as pool:
        gathering = pool.submit(hosts.gather, host, "runs/0001-r1/attempt-1/0-main", into)
        growing = into.with_name(".0-main.gathering") / "whole" / "big"
        eventually(lambda: growing.exists() and growing.stat().st_size, "some of it has come")
        for pid in pids("ssh", str(lab.folder)):
            os.kill(pid, signal.SIGKILL)
        assert not into.exists()
        gathering.result(60)
    assert (into / "big").stat().st_size == 1 << 28
    assert (into / "zz").read_text() == "the last"
    assert list(into.parent.iterdir()) == [into]

    with pytest.raises(ErgatesError, match="no such folder"):
        hosts.gather(host, "runs/0001-r1/attempt-2/0-main", into.parent / "other")
    hosts.forget(host, ["runs/0001-r1"])
    hosts.down()
    assert not lab.left_on_hosts()


def test_settings_are_made_on_each_host_and_undone_after_a_kill(lab: Lab) -> None:
    setting = "proc/sys/vm/swappiness"
    lab.write(FILE.replace("send =", 'prepare = { "sysctl@vm.swappiness" = 10, governor = "performance" }\nsend ='))
    trees: dict[str, FakeNode] = {}
    for name, vendor in (("node1", "intel"), ("node2", "bare")):
        host = lab.lan.hosts[name]
        trees[name] = build_node(host.folder / "tree", vendor=vendor)
        host.shut_down()
        host.boot(environment={"ERGATES_NODE_ROOT": str(trees[name].root)})
    before = {name: tree.snapshot() for name, tree in trees.items()}

    came = lab("run", "pair.toml")
    assert came.code == 2, came
    assert "hosts.lab: 1 of 2 hosts cannot serve\n  node2: cannot be set on this node:" in came.err
    assert "governor=performance" in came.err
    assert {name: tree.snapshot() for name, tree in trees.items()} == before
    assert not lab.left_on_hosts()

    text = FILE.replace("send =", 'prepare = { "sysctl@vm.swappiness" = 10 }\nsend =')
    text = text.replace("repetitions = 2", "retries = 1").replace('["one", "two"]', '["one"]')
    lab.write(text)
    (lab.erg.folder / "client.sh").write_text(
        CLIENT.replace("wc -l < parts/$1.txt", f"cat $ERGATES_NODE_ROOT/{setting}")
    )
    running = lab.hold()
    assert [tree.text(setting) for tree in trees.values()] == ["10", "10"]
    running.kill()
    assert "hosts.lab: node1, node2: /proc/sys/vm/swappiness: 60 " in ended(running).err
    (lab.erg.folder / "parts" / "hold").unlink()
    for pid in lab.held():
        os.kill(pid, signal.SIGKILL)

    came = lab("resume", "pair.toml")

    assert came.code == 0, came
    assert [float(row["lines"]) for row in lab.rows()] == [10], "in the attempt after the kill"
    assert {name: tree.snapshot() for name, tree in trees.items()} == before
    assert not lab.left_on_hosts()
