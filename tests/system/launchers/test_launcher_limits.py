"""Memory limits, the kernel's own kills, full disks, and what the launcher itself takes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from ergates.clock import SystemClock
from ergates.drivers.launchers.process import ProcessLauncher
from ergates.drivers.output.read import output_folder, read_output
from ergates.errors import LaunchError
from ergates.taskqueue.launching import Ended, Launch

MIB = 1024 * 1024
ENV = {"PATH": os.environ.get("PATH", "/usr/bin:/bin")}
HOG = "head -c {size} /dev/zero | tail -c 1000000000 | wc -c"


def run(launcher: ProcessLauncher, slot: int, number: int, script: str) -> Ended:
    launch = Launch(key=("j", number, 1), argv=("sh", "-c", script), env=ENV, output_job="j")
    launcher.launch(slot, [launch])
    while True:
        for event in launcher.poll(20.0):
            if isinstance(event, Ended):
                assert event.key == launch.key
                return event


@pytest.fixture
def confined(tmp_path: Path) -> Iterator[ProcessLauncher]:
    launcher = ProcessLauncher(tmp_path, str(uuid.uuid4()), clock=SystemClock(), memory_limit_bytes=64 * MIB)
    if not launcher.confined:
        launcher.close()
        pytest.skip("this machine lets us set no memory limit")
    yield launcher
    launcher.close()


def test_a_kill_by_the_kernel_is_recognised_and_the_slot_lives_on(confined: ProcessLauncher) -> None:
    slot = confined.open_slot()
    ended = run(confined, slot, 1, f"exec {HOG.format(size=200 * MIB)}")
    assert ended.oom_killed
    assert not ended.lost
    assert ended.cgroup_peak_bytes > 40 * MIB
    after = run(confined, slot, 2, HOG.format(size=20 * MIB))
    assert (after.exit_code, after.oom_killed) == (0, False)


def test_a_sigkill_from_elsewhere_is_not_taken_for_the_kernels(confined: ProcessLauncher) -> None:
    ended = run(confined, confined.open_slot(), 1, "kill -9 $$")
    assert (ended.signal, ended.oom_killed, ended.killed) == (9, False, False)


def test_the_limit_holds_for_all_slots_together(confined: ProcessLauncher, tmp_path: Path) -> None:
    slots = [confined.open_slot() for _ in range(3)]
    for number, slot in enumerate(slots):
        pipe = tmp_path / f"pipe-{number}"  # so that the one who holds the memory is the attempt's main process
        script = f"mkfifo {pipe}; (head -c {30 * MIB} /dev/zero; sleep 1000) > {pipe} & exec tail -c 1000000000 {pipe}"
        launch = Launch(key=("j", number, 1), argv=("sh", "-c", script), env=ENV, output_job="j")
        confined.launch(slot, [launch])
    killed = None
    while killed is None:  # three times 30 MiB do not fit in 64
        killed = next((event for event in confined.poll(0.05) if isinstance(event, Ended)), None)
        used = confined.group_used_bytes()
        assert used is not None
        assert used <= 64 * MIB
    assert killed.oom_killed


def test_a_limit_without_groups_is_said_not_to_hold(tmp_path: Path) -> None:
    launcher = ProcessLauncher(
        tmp_path, str(uuid.uuid4()), clock=SystemClock(), memory_limit_bytes=64 * MIB, prefer="none"
    )
    assert not launcher.confined
    launcher.close()


def test_supervisor_and_slots_are_small(tmp_path: Path) -> None:
    launcher = ProcessLauncher(tmp_path, str(uuid.uuid4()), clock=SystemClock())
    slots = [launcher.open_slot() for _ in range(4)]
    for number, slot in enumerate(slots):
        assert run(launcher, slot, number, "exit 0").exit_code == 0
    assert rss_bytes(launcher._supervisor.pid) < 12 * MIB
    for link in launcher._slots.values():
        assert rss_bytes(link.pid) < 12 * MIB
        assert private_bytes(link.pid) < 3 * MIB
    launcher.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], check=False).returncode != 0:
        pytest.skip("cannot mount a small disk (needs root)")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_output_that_does_not_fit_is_said_to_be_lost_and_later_output_is_kept(small_disk: Path) -> None:
    launcher = ProcessLauncher(small_disk, str(uuid.uuid4()), clock=SystemClock())
    slot = launcher.open_slot()
    first = run(launcher, slot, 1, "echo first")
    # 1.5 MB fit into the spool, but not twice on this disk
    big = run(launcher, slot, 2, "head -c 1500000 /dev/zero")
    assert big.disk_full
    assert big.exit_code is None
    assert big.error is not None
    assert "output could not be kept" in big.error
    assert "exit code 0" in big.error
    third = run(launcher, slot, 3, "echo third")
    folder = output_folder(small_disk, "j")
    assert read_output(folder, first.output) == (b"first\n", b"")
    assert read_output(folder, third.output) == (b"third\n", b"")
    assert third.output.offset == 6, "the pack was cut back"
    launcher.close()


def test_a_task_that_fails_for_a_full_disk_is_not_blamed(small_disk: Path) -> None:
    launcher = ProcessLauncher(small_disk, str(uuid.uuid4()), clock=SystemClock())
    slot = launcher.open_slot()
    ended = run(launcher, slot, 1, "cat /dev/zero")
    assert ended.disk_full
    assert run(launcher, slot, 2, "exit 4").exit_code == 4
    launcher.close()


def test_a_disk_that_is_full_from_the_start(small_disk: Path) -> None:
    with pytest.raises(OSError, match="No space left"):
        (small_disk / "ballast").write_bytes(b"x" * 3_000_000)
    try:
        launcher = ProcessLauncher(small_disk, str(uuid.uuid4()), clock=SystemClock())
    except LaunchError as problem:
        assert "No space left on device" in str(problem)
        return
    slot = launcher.open_slot()
    assert run(launcher, slot, 1, "echo hi").disk_full
    launcher.close()


def test_a_directory_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "workers").write_text("a file")
    worker = str(uuid.uuid4())
    with pytest.raises(LaunchError, match="writable directory"):
        ProcessLauncher(tmp_path, worker, clock=SystemClock())
    assert not list(Path("/sys/fs/cgroup").glob(f"**/ergates-{worker}"))


NOBODY = (
    "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
    # may read everything, because this Python may lie in a home directory; may write nothing
    "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search",
)  # fmt: skip


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="needs root and setpriv to become nobody")
def test_without_any_privilege_it_falls_back_to_process_trees() -> None:
    script = (
        "import sys, uuid, pathlib, os; from ergates.clock import SystemClock\n"
        "from ergates.drivers.launchers.process import ProcessLauncher\n"
        "from ergates.taskqueue.launching import Ended, Launch\n"
        "launcher = ProcessLauncher(pathlib.Path(sys.argv[1]), str(uuid.uuid4()), clock=SystemClock())\n"
        "slot = launcher.open_slot()\n"
        "argv = ('sh', '-c', 'setsid -f sleep 1000; id -u; exit 3')\n"
        "launcher.launch(slot, [Launch(key=('j', 1, 1), argv=argv, env=dict(os.environ), output_job='j')])\n"
        "end = None\n"
        "while not isinstance(end, Ended): end = next(iter(reversed(launcher.poll(10))), None)\n"
        "print(launcher.group_kind, end.exit_code, launcher.spool_paths(slot)[0].exists(), len(launcher.group_reasons))\n"
        "launcher.close()\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        os.chown(folder, 65534, 65534)
        done = subprocess.run(
            [*NOBODY, sys.executable, "-c", script, folder],
            cwd="/",
            env={**ENV, "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        packs = [path.read_text() for path in Path(folder).glob("jobs/j/output/*.pack")]
    assert (done.stdout, done.stderr) == ("tree 3 True 2\n", "")
    assert packs == ["65534\n"]


def rss_bytes(pid: int) -> int:
    return _kib(Path(f"/proc/{pid}/smaps_rollup").read_text(), "Rss:")


def private_bytes(pid: int) -> int:
    return _kib(Path(f"/proc/{pid}/smaps_rollup").read_text(), "Private_Dirty:")


def _kib(text: str, name: str) -> int:
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith(name)) * 1024
