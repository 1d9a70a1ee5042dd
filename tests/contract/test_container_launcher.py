"""The launcher of containers keeps the contract, against a real engine, and some more promises."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import textwrap
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from launcher_contract import LauncherContract, Rig

from ergates.clock import SystemClock
from ergates.drivers.launchers.container import ContainerLauncher
from ergates.drivers.launchers.container_engine import OWNER_LABEL, WORKER_LABEL, addresses, clean_leftovers, connect
from ergates.drivers.output.read import output_folder
from ergates.errors import LaunchError
from ergates.units import Nanoseconds

IMAGE = "ergates-test:latest"
pytestmark = [pytest.mark.needs("docker"), pytest.mark.system]


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    worker = str(uuid.uuid4())
    launcher = ContainerLauncher(tmp_path / "state", worker, clock=SystemClock(), engine="docker")
    made = Rig(
        launcher,
        lambda job: output_folder(tmp_path / "state", job),
        env={},
        image=IMAGE,
        cwd=str(tmp_path),
        memory_limit_bytes=500_000_000,
    )
    yield made
    launcher.close()
    assert list((tmp_path / "state" / "workers").iterdir()) == []
    assert containers_of(worker) == []


def containers_of(worker: str) -> list[Any]:
    client, _ = connect("docker")
    try:
        return list(client.containers(all=True, filters={"label": f"{WORKER_LABEL}={worker}"}))
    finally:
        client.close()


class TestContainerLauncher(LauncherContract):
    def test_an_image_that_is_not_here_is_not_pulled(self, rig: Rig) -> None:
        ended = rig.run("true", image="no-such-image:ever")
        assert ended.error is not None
        assert ended.error.startswith("no image no-such-image:ever on this machine")
        assert "docker pull no-such-image:ever" in ended.error
        assert not ended.lost
        assert rig.run("true").exit_code == 0

    def test_mounts(self, rig: Rig, tmp_path: Path) -> None:
        (tmp_path / "in").mkdir()
        (tmp_path / "in" / "file").write_text("from outside")
        (tmp_path / "out").mkdir()
        mounts = (f"{tmp_path}/in:/in:ro", "out:/out")
        ended = rig.run("sh", "-c", "cat /in/file; echo result > /out/file; touch /in/no", mounts=mounts)
        out, err = rig.output(ended)
        assert out == b"from outside"
        assert b"Read-only file system" in err
        assert (tmp_path / "out" / "file").read_text() == "result\n"

    @pytest.mark.parametrize(
        ("mount", "said"), [("/no/such:/in", "no such file or directory"), ("in", "expected HOST:CONTAINER")]
    )
    def test_mounts_that_cannot_be_had(self, rig: Rig, mount: str, said: str) -> None:
        ended = rig.run("true", mounts=(mount,))
        assert ended.error is not None
        assert said in ended.error
        assert ended.started_ns == 0

    def test_the_directory_is_the_image_s_own_unless_it_is_one_in_the_container(self, rig: Rig, tmp_path: Path) -> None:
        assert rig.output(rig.run("pwd"))[0] == b"/\n"
        assert rig.output(rig.run("pwd", cwd="/data"))[0] == b"/data\n"
        mounted = rig.run("pwd", mounts=(f"{tmp_path}:{tmp_path}",))
        assert rig.output(mounted)[0].decode() == f"{tmp_path}\n"

    def test_stdin_from_a_file(self, rig: Rig, tmp_path: Path) -> None:
        data = os.urandom(3_000_000)
        (tmp_path / "input").write_bytes(data)
        assert rig.output(rig.run("cat", stdin_path=str(tmp_path / "input")))[0] == data
        assert rig.run("true", stdin_data=data).exit_code == 0  # reads nothing of it

    def test_out_of_memory_is_recognised(self, rig: Rig) -> None:
        ended = rig.run(
            "sh", "-c", "head -c 100000000 /dev/zero | tail -c 100000000 | wc -c", memory_limit_bytes=30_000_000
        )
        assert ended.oom_killed
        fine = rig.run("true", memory_limit_bytes=30_000_000)
        assert (fine.oom_killed, fine.exit_code) == (False, 0)

    def test_limits_on_cores(self, rig: Rig) -> None:
        quota = "cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu.max 2>/dev/null; true"
        assert rig.output(rig.run("sh", "-c", quota, cpus_milli=500))[0].split()[0] == b"50000"
        core = max(os.sched_getaffinity(0))
        pinned = rig.run("grep", "Cpus_allowed_list", "/proc/self/status", cpu_ids=(core,))
        assert rig.output(pinned)[0].split()[-1] == str(core).encode()

    def test_orphans_end_with_the_command(self, rig: Rig) -> None:
        assert rig.run("sh", "-c", "sleep 1000 & sleep 1000 & exit 3").exit_code == 3

    def test_a_container_that_somebody_removes(self, rig: Rig) -> None:
        key = rig.launch("sleep", "1000")
        rig.started(key)
        client, _ = connect("docker")
        try:
            launcher = rig.launcher
            assert isinstance(launcher, ContainerLauncher)
            (found,) = client.containers(filters={"label": f"{WORKER_LABEL}={launcher.worker_id}"})
            client.remove_container(found["Id"], force=True)
        finally:
            client.close()
        ended = rig.ended(key)
        assert ended.lost or ended.signal == 9
        assert rig.run("true").exit_code == 0

    def test_the_kernel_kills_it_in_our_order(self, rig: Rig) -> None:
        key = rig.launch("sleep", "1000")
        pid = rig.started(key).pid
        rig.launcher.set_oom_score(rig.slot, 700)
        assert Path(f"/proc/{pid}/oom_score_adj").read_text() == "700\n"
        rig.launcher.kill(rig.slot, key, Nanoseconds(0))
        rig.ended(key)

    def test_cpu_time_is_seen_while_it_runs(self, rig: Rig) -> None:
        key = rig.launch("sh", "-c", "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; sleep 1000")
        rig.started(key)
        rig.sampled(key, lambda used: used > 0)
        until = SystemClock().now_ns() + 20_000_000_000
        launcher = rig.launcher
        assert isinstance(launcher, ContainerLauncher)
        while launcher.cpu_ns(rig.slot) < 50_000_000:
            assert SystemClock().now_ns() < until
            launcher.poll(0.05)
            launcher.sample()
        launcher.kill(rig.slot, key, Nanoseconds(0))
        assert rig.ended(key).cpu_ns >= 50_000_000


def test_a_killed_worker_leaves_no_container(tmp_path: Path) -> None:
    worker = str(uuid.uuid4())
    script = textwrap.dedent(f"""
        import signal
        from pathlib import Path
        from ergates.clock import SystemClock
        from ergates.drivers.launchers.container import ContainerLauncher
        from ergates.taskqueue.launching import Launch
        launcher = ContainerLauncher(Path({str(tmp_path)!r}), {worker!r}, clock=SystemClock(), engine="docker")
        launcher.launch(launcher.open_slot(), [Launch(key=("job", 1, 1), argv=("sleep", "1000"), image={IMAGE!r})])
        while not launcher.poll(1):
            pass
        print("runs", flush=True)
        signal.pause()
    """)
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "runs\n"
    (container,) = containers_of(worker)
    client, _ = connect("docker")
    try:
        pid = client.inspect_container(container["Id"])["State"]["Pid"]
    finally:
        client.close()
    pidfd = os.pidfd_open(pid)
    process.kill()
    process.communicate()
    import select

    assert select.select([pidfd], [], [], 30)[0], "its container outlived the worker"
    os.close(pidfd)


def test_leftovers_of_dead_workers_are_removed_and_those_of_others_left_alone() -> None:
    client, _ = connect("docker")
    host, boot = socket.gethostname(), Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    namespace = Path("/proc/self/ns/pid").readlink()
    ticks = Path(f"/proc/{os.getpid()}/stat").read_text().rsplit(")", 1)[1].split()[19]
    owners = {
        "dead": f"{host} {boot} {os.getpid()} 1 {namespace}",
        "before the boot": f"{host} other-boot 1 1 {namespace}",
        "alive": f"{host} {boot} {os.getpid()} {ticks} {namespace}",
        "elsewhere": f"other-host {boot} {os.getpid()} 1 {namespace}",
        "in another namespace": f"{host} {boot} {os.getpid()} 1 pid:[1]",
        "not ours": "nonsense",
    }
    made = {}
    try:
        for name, owner in owners.items():
            labels = {WORKER_LABEL: "test", OWNER_LABEL: owner}
            made[name] = client.create_container(IMAGE, ["sleep", "1000"], labels=labels)["Id"]
        removed = clean_leftovers(client)
        assert set(removed) == {made["dead"], made["before the boot"]}
    finally:
        for name, identifier in made.items():
            if name not in ("dead", "before the boot"):
                client.remove_container(identifier, force=True)
        client.close()


def test_without_an_engine_the_error_says_what_to_do() -> None:
    with pytest.raises(LaunchError) as caught:
        connect("docker", {"DOCKER_HOST": "unix:///no/such.sock"})
    assert "unix:///no/such.sock: no such socket" in str(caught.value)
    assert "systemctl start docker" in str(caught.value)
    with pytest.raises(LaunchError, match="no container engine answers"):
        connect("docker", {"DOCKER_HOST": "tcp://127.0.0.1:9"})


def test_where_engines_are_looked_for() -> None:
    env = {"XDG_RUNTIME_DIR": "/run/user/7"}
    assert addresses("auto", env)[0] == "unix:///var/run/docker.sock"
    assert addresses("podman", env)[0] == "unix:///run/user/7/podman/podman.sock"
    assert addresses("auto", {"DOCKER_HOST": "tcp://there:1"}) == ["tcp://there:1"]
