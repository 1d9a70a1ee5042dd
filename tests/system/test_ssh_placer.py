"""Placing workers over real sshds in network namespaces: one that is down, one that comes late, wrong keys, a jump host, ...

The worker here is a stand-in that announces itself in a folder; test_ssh_workers.py does the same with real ones.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import stat
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest
from ssh_rig import SshLan, ssh_processes

from ergates.cluster.node import NodeCapacity, WorkerInfo, WorkerLoad, WorkerOrders, WorkerStatus
from ergates.drivers.placers.hosts import Host, named_hosts
from ergates.drivers.placers.many_hosts import HostReport, HostRun, ManyHosts
from ergates.drivers.placers.placed_hosts import PlacedHosts
from ergates.drivers.placers.roster_watch import RosterWatch
from ergates.drivers.placers.ssh_command import HostKeys, Ssh, SshOptions
from ergates.drivers.placers.ssh_down import DownPlan, SshDown
from ergates.drivers.placers.ssh_up import SshUp, UpPlan
from ergates.drivers.placers.wheelhouse import Wheelhouse
from ergates.units import Bytes, MilliCpus, Nanoseconds

pytestmark = [pytest.mark.system, pytest.mark.needs("sshd", "netns", "root")]
WORKER = Path(__file__).parent / "placed_worker.py"
CLUSTER = "cluster"


class FolderRoster:
    """What the stand-in workers write, as a roster."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def workers(self) -> tuple[WorkerStatus, ...]:
        return tuple(self._status(json.loads(path.read_text())) for path in sorted(self.folder.glob("*.json")))

    def order(self, worker: str, orders: WorkerOrders) -> WorkerOrders:
        assert orders.drain
        (self.folder / f"{worker}.drain").touch()
        return orders

    def _status(self, said: dict[str, str]) -> WorkerStatus:
        capacity = NodeCapacity(cpus_milli=MilliCpus(1000), memory_bytes=Bytes(1 << 30))
        info = WorkerInfo(
            id=said["id"], host=said["host"], pid=int(said["pid"]), capacity=capacity, placed_by=said["placed_by"]
        )
        return WorkerStatus(
            info=info, standing="live", beat_age_ns=Nanoseconds(0), leases=0, orders=WorkerOrders(), load=WorkerLoad()
        )


class Placing:
    """`up` and `down` against the hosts of one test."""

    def __init__(self, lan: SshLan, folder: Path, wheels: Path) -> None:
        self.lan, self.folder, self.wheels = lan, folder, wheels
        self.roster = FolderRoster(folder / "roster")
        self.placed = PlacedHosts(folder)
        self.steps: set[tuple[str, str]] = set()

    def many(self, *, wait_s: float = 0.0, host_keys: HostKeys = "accept-new") -> ManyHosts:
        options = SshOptions(config=self.lan.config, connect_timeout_s=2, host_keys=host_keys)
        many = ManyHosts(Ssh(self.folder, options), wait_s=wait_s, connect_timeout_s=2)
        many.listen(lambda reports: self.steps.update((report.host, report.state) for report in reports))
        return many

    def up(
        self,
        *hosts: str,
        extra: Sequence[str] = (),
        setup: bytes | None = None,
        count: int = 1,
        many: ManyHosts | None = None,
    ) -> dict[str, HostReport]:
        return asyncio.run(self.up_async(*hosts, extra=extra, setup=setup, count=count, many=many))

    async def up_async(
        self,
        *hosts: str,
        extra: Sequence[str] = (),
        setup: bytes | None = None,
        count: int = 1,
        many: ManyHosts | None = None,
    ) -> dict[str, HostReport]:
        def command(host: Host) -> list[str]:
            return ["python", str(WORKER), str(self.roster.folder), f"ssh:{host.name}", *extra, "{home}/store.toml"]

        plan = UpPlan(cluster=CLUSTER, command=command, files={"store.toml": b"secret"}, count=count, setup=setup)
        many = many or self.many()
        with closing(RosterWatch(self.roster)) as watch:
            up = SshUp(many, Wheelhouse(self.wheels), watch, self.placed, plan)
            reports = await up.run(named_hosts(",".join(hosts)))
        return {report.host: report for report in reports}

    def down(self, *hosts: str, now: bool = False, grace_s: float = 15.0) -> dict[str, HostReport]:
        plan = DownPlan(cluster=CLUSTER, now=now, grace_s=grace_s)
        with closing(RosterWatch(self.roster)) as watch:
            down = SshDown(self.many(), watch, self.placed, plan)
            reports = asyncio.run(down.run(named_hosts(",".join(hosts))))
        return {report.host: report for report in reports}

    def private(self, host: str, number: int = 1) -> Path:
        """The directory of a worker on a host."""
        return self.lan.hosts[host].home / ".local/state/ergates/placed" / CLUSTER / host / str(number)


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wheels are gathered once for all tests."""
    return tmp_path_factory.mktemp("wheels")


@pytest.fixture
def lan(tmp_path: Path) -> Iterator[SshLan]:
    network = SshLan(tmp_path)
    yield network
    network.remove()
    assert not network.leftovers()


@pytest.fixture
def placing(lan: SshLan, tmp_path: Path, wheels: Path) -> Placing:
    (tmp_path / "placing").mkdir()
    return Placing(lan, tmp_path / "placing", wheels)


def test_workers_come_up_again_is_nothing_and_go_down(placing: Placing) -> None:
    for name in ("node1", "node2"):
        placing.lan.host(name)

    first = placing.up("node1", "node2")
    assert {report.state for report in first.values()} == {"up"}, first
    assert all(report.sent_bytes > 100_000 and len(report.workers) == 1 for report in first.values())
    assert {worker.info.host for worker in placing.roster.workers()} == {"node1", "node2"}
    secret = placing.private("node1") / "store.toml"
    assert secret.read_bytes() == b"secret"
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert stat.S_IMODE(secret.parent.stat().st_mode) == 0o700

    again = placing.up("node1", "node2")
    assert {report.state for report in again.values()} == {"already up"}
    assert {report.sent_bytes for report in again.values()} == {0}
    assert [report.workers for report in again.values()] == [report.workers for report in first.values()]
    assert {host.name for host in placing.placed.read()} == {"node1", "node2"}

    ended = placing.down("node1", "node2")
    assert {report.state for report in ended.values()} == {"down"}, ended
    assert not placing.lan.leftovers()
    assert not secret.exists()
    assert placing.placed.read() == ()
    assert {report.state for report in placing.down("node1", "node2").values()} == {"not up"}


def test_a_host_that_is_down_and_one_that_does_not_let_us_in_stop_nobody_else(placing: Placing) -> None:
    placing.lan.host("good")
    placing.lan.host("off", booted=False)
    placing.lan.host("locked", booted=False).boot(authorized=False)

    reports = placing.up("off", "locked", "good")

    assert reports["good"].state == "up"
    assert reports["off"].state == "failed"
    assert "Connection refused" in reports["off"].trouble
    assert "--wait" in reports["off"].hint
    assert reports["locked"].state == "failed"
    assert "Permission denied" in reports["locked"].trouble
    assert "authorized_keys" in reports["locked"].hint
    assert {host.name for host in placing.placed.read()} == {"good"}
    placing.down("good")


def test_a_host_that_boots_late_is_waited_for(placing: Placing) -> None:
    late = placing.lan.host("late", booted=False)
    many = placing.many(wait_s=60)

    async def boot_when_refused() -> dict[str, HostReport]:
        refused = asyncio.Event()
        many.listen(lambda reports: refused.set() if reports[0].state.startswith("trying again") else None)
        work = asyncio.create_task(placing.up_async("late", many=many))
        await refused.wait()
        await asyncio.to_thread(late.boot)
        return await work

    reports = asyncio.run(boot_when_refused())

    assert reports["late"].state == "up", reports
    placing.down("late")


def test_a_changed_host_key_is_refused_with_words(placing: Placing) -> None:
    host = placing.lan.host("node1")
    placing.up("node1")
    placing.down("node1")
    host.shut_down()
    host.new_host_key()
    host.boot()

    report = placing.up("node1")["node1"]

    assert report.state == "failed"
    assert "host key is another" in report.trouble
    assert f"{placing.folder}/known_hosts:1" in report.hint
    assert not placing.lan.leftovers()


def test_only_known_host_keys_when_asked(placing: Placing) -> None:
    placing.lan.host("node1")
    placing.lan.configure(f"UserKnownHostsFile {placing.folder}/users_own")
    report = placing.up("node1", many=placing.many(host_keys="known"))["node1"]
    assert report.state == "failed"
    assert "not known" in report.trouble

    key = (placing.lan.hosts["node1"].folder / "host_key.pub").read_text()
    (placing.folder / "users_own").write_text(f"{placing.lan.hosts['node1'].address} {key}")
    assert placing.up("node1", many=placing.many(host_keys="known"))["node1"].state == "up"
    placing.down("node1")


def test_through_a_jump_host_whose_key_is_pinned_too(placing: Placing) -> None:
    jump = placing.lan.host("jump")
    jump.boot(listen="127.0.0.2", port=2222)  # reached from inside its network only
    placing.lan.configure("Host inner", "  HostName 127.0.0.2", "  Port 2222", "  ProxyJump jump")

    report = placing.up("inner")["inner"]

    assert report.state == "up", report
    pinned = (placing.folder / "known_hosts").read_text()
    assert "[127.0.0.2]:2222 " in pinned
    assert f"{jump.address} " in pinned
    assert placing.down("inner")["inner"].state == "down"
    assert not ssh_processes([str(placing.folder)])


def test_a_set_up_script_runs_first_and_its_failure_is_told(placing: Placing) -> None:
    placing.lan.host("node1")

    failed = placing.up("node1", setup=b"#!/bin/sh\necho 'no disk '\"'\"'here'\nexit 3\n")["node1"]
    assert failed.state == "failed"
    assert "exit code 3: no disk 'here" in failed.trouble
    assert "setup.log" in failed.hint

    assert placing.up("node1", setup=b"touch $HOME/was-set-up\n")["node1"].state == "up"
    assert (placing.lan.hosts["node1"].home / "was-set-up").exists()
    placing.down("node1")


def test_a_worker_that_ends_at_once_is_told_with_its_last_words(placing: Placing) -> None:
    placing.lan.host("node1")
    report = placing.up("node1", extra=["broken"])["node1"]
    assert report.state == "failed"
    assert "this worker is broken on purpose" in report.trouble
    assert "worker.log" in report.hint


def test_no_python_that_is_new_enough(placing: Placing) -> None:
    host = placing.lan.host("node1", booted=False)
    empty = host.folder / "bin"
    empty.mkdir()
    (empty / "python3").write_text('#!/bin/sh\n[ "$1" = -V ] && echo Python 3.6.8 && exit\nexit 1\n')
    (empty / "python3").chmod(0o755)
    for name in ("sh", "env"):
        (empty / name).symlink_to(f"/bin/{name}")
    host.boot(path=str(empty))

    report = placing.up("node1")["node1"]

    assert report.state == "failed"
    assert "Python 3.6.8" in report.trouble
    assert "--python" in report.hint


def test_several_workers_on_one_host_and_one_that_ignores_the_drain(placing: Placing) -> None:
    placing.lan.host("node1")
    assert len(placing.up("node1", count=2)["node1"].workers) == 2
    placing.down("node1")

    stubborn = placing.up("node1", extra=["stubborn"])["node1"]
    for record in placing.roster.folder.glob("*.json"):  # the store has forgotten it: no drain reaches it
        record.unlink()
    report = placing.down("node1", grace_s=0.2)["node1"]
    assert stubborn.state == "up"
    assert report.state == "down"
    assert "killed" in report.note
    assert not placing.lan.leftovers()


def test_more_log_ins_at_once_than_an_sshd_takes(placing: Placing) -> None:
    host = placing.lan.host("node1", booted=False)
    host.boot(max_startups="2:100:2")
    placing.lan.configure(*(f"Host alias{n}\n  HostName {host.address}" for n in range(4)))
    many = placing.many()

    async def only_reach(run: HostRun) -> None:
        async with run.reached():
            run.now("up")

    reports = asyncio.run(many.each(named_hosts("alias[0-3]"), only_reach))
    assert {report.state for report in reports} == {"up"}, reports
    assert any("trying again" in state for _, state in placing.steps)


def test_one_host_under_two_names(placing: Placing) -> None:
    host = placing.lan.host("node1")
    placing.lan.configure(f"Host alias\n  HostName {host.address}")
    assert placing.up("node1")["node1"].state == "up"
    report = placing.up("alias")["alias"]
    assert "brought up as node1" in report.trouble
    placing.down("node1")


def test_an_interruption_ends_every_ssh_and_says_who_is_up(placing: Placing) -> None:
    placing.lan.host("quick")
    placing.lan.host("slow")
    placing.up("quick")
    many = placing.many()

    async def interrupt_when_slow_is_set_up() -> None:
        reached = asyncio.Event()

        def told(reports: Sequence[HostReport]) -> None:
            states = {report.host: report.state for report in reports}
            if states == {"quick": "already up", "slow": "setting up"}:
                reached.set()

        many.listen(told)
        script = b'[ "$(hostname)" = quick ] || sleep 1000\n'
        work = asyncio.create_task(placing.up_async("quick", "slow", setup=script, many=many))
        await reached.wait()
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work

    asyncio.run(interrupt_when_slow_is_set_up())

    states = {report.host: (report.state, report.trouble) for report in many.reports}
    assert states == {"quick": ("already up", ""), "slow": ("interrupted", "interrupted while setting up")}
    assert not ssh_processes([str(placing.folder)])
    placing.down("quick")
    placing.lan.hosts["slow"].shut_down()


def test_a_worker_that_died_is_started_anew(placing: Placing) -> None:
    placing.lan.host("node1")
    (old,) = placing.up("node1")["node1"].workers
    (worker,) = placing.roster.workers()
    os.kill(worker.info.pid, signal.SIGKILL)
    (placing.roster.folder / f"{old}.json").unlink()

    report = placing.up("node1")["node1"]

    assert report.state == "up"
    assert report.sent_bytes == 0
    assert report.workers != [old]
    placing.down("node1")
