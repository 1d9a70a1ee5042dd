"""Where the state of a directory is kept: beside it, elsewhere on network file systems, or where the user says."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from ergates.cluster.job import JobSpec
from ergates.cluster.task import TaskSpec
from ergates.drivers.stores.file_systems import file_system_of, is_network
from ergates.drivers.stores.state_dir import find_state_dir, make_state_dir
from ergates.errors import UsageError
from ergates.units import Nanoseconds


@pytest.fixture
def mountinfo(tmp_path: Path) -> Path:
    """Everything is ext4, `share` is NFS, `share/scratch` is local again, `my share` is sshfs."""
    share, blank = tmp_path / "share", str(tmp_path / "my share").replace(" ", "\\040")
    for name in ("share/scratch", "share/work", "my share", "local", "home"):
        (tmp_path / name).mkdir(parents=True)
    path = tmp_path / "mountinfo"
    path.write_text(
        "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n"
        f"40 22 0:50 / {share} rw,relatime shared:9 master:2 - xfs /dev/vdb rw\n"
        f"41 22 0:51 / {share} rw,relatime shared:9 master:2 - nfs4 server:/share rw,vers=4.2\n"
        f"42 41 0:52 / {share}/scratch rw - ext4 /dev/vdc rw\n"
        f"43 22 0:53 / {blank} rw - fuse.sshfs me@host: rw\n"
    )
    return path


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    return {"HOME": str(tmp_path / "home"), "XDG_STATE_HOME": str(tmp_path / "local" / "state")}


@pytest.mark.parametrize(
    ("place", "kind"),
    [
        ("local", "ext4"),
        ("share", "nfs4"),
        ("share/work/not/there/yet", "nfs4"),
        ("shared-not", "ext4"),
        ("share/scratch", "ext4"),
        ("my share/x", "fuse.sshfs"),
    ],
)
def test_the_file_system_of_a_path(tmp_path: Path, mountinfo: Path, place: str, kind: str) -> None:
    assert file_system_of(tmp_path / place, mountinfo) == kind


def test_a_link_is_followed_to_its_file_system(tmp_path: Path, mountinfo: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "share")
    assert file_system_of(tmp_path / "link" / "x", mountinfo) == "nfs4"


def test_no_list_of_mounts(tmp_path: Path) -> None:
    assert file_system_of(tmp_path, tmp_path / "missing") == ""


def test_the_real_list_of_mounts_can_be_read(tmp_path: Path) -> None:
    assert file_system_of(Path("/proc/self")) == "proc"


@pytest.mark.parametrize(
    "kind", ["nfs", "nfs4", "cifs", "smb3", "lustre", "9p", "fuse.sshfs", "beegfs", "gpfs", "ceph"]
)
def test_network_file_systems(kind: str) -> None:
    assert is_network(kind)


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "tmpfs", "overlay", "zfs", "fuse.fuseblk", "nfsd", ""])
def test_local_file_systems(kind: str) -> None:
    assert not is_network(kind)


def test_a_local_directory_holds_its_state(tmp_path: Path, mountinfo: Path, env: dict[str, str]) -> None:
    place = make_state_dir(tmp_path / "local", env=env, mountinfo=mountinfo)
    assert (place.root, place.journal, place.note) == (tmp_path / "local" / ".ergates", "wal", "")
    assert place.database == place.root / "ergates.db"
    assert place.output("j3") == place.root / "jobs" / "j3" / "output"
    assert stat.S_IMODE(place.root.stat().st_mode) == 0o700
    assert place.workers.is_dir()
    assert make_state_dir(tmp_path / "local", env=env, mountinfo=mountinfo) == place


def test_looking_creates_nothing(tmp_path: Path, mountinfo: Path, env: dict[str, str]) -> None:
    with pytest.raises(UsageError, match=r"no jobs were submitted here yet(.|\n)*--state"):
        find_state_dir(tmp_path / "local", env=env, mountinfo=mountinfo)
    assert list((tmp_path / "local").iterdir()) == []
    place = make_state_dir(tmp_path / "local", env=env, mountinfo=mountinfo)
    place.open_store().close()
    assert find_state_dir(tmp_path / "local", env=env, mountinfo=mountinfo) == place


def test_on_a_network_file_system_the_state_is_local(tmp_path: Path, mountinfo: Path, env: dict[str, str]) -> None:
    work = tmp_path / "share" / "work"
    place = make_state_dir(work, env=env, mountinfo=mountinfo)
    assert place.root.parent == tmp_path / "local" / "state" / "ergates"
    assert place.journal == "wal"
    assert "nfs4" in place.note and str(place.root) in place.note
    pointer = work / ".ergates" / f"elsewhere-on-{os.uname().nodename}"
    assert pointer.read_text() == f"{place.root}\n"
    store = place.open_store()
    store.submit(JobSpec(key="k"), [TaskSpec(command="c")], Nanoseconds(1))
    store.close()
    assert find_state_dir(work, env=env, mountinfo=mountinfo).root == place.root
    other = make_state_dir(tmp_path / "share", env=env, mountinfo=mountinfo)
    assert other.root != place.root


def test_the_pointer_is_followed_when_the_environment_changed(
    tmp_path: Path, mountinfo: Path, env: dict[str, str]
) -> None:
    work = tmp_path / "share" / "work"
    place = make_state_dir(work, env=env, mountinfo=mountinfo)
    place.open_store().close()
    assert find_state_dir(work, env={"HOME": env["HOME"]}, mountinfo=mountinfo).root == place.root


def test_homes_on_the_network_use_var_tmp(tmp_path: Path, mountinfo: Path) -> None:
    env = {"HOME": str(tmp_path / "share")}
    place = make_state_dir(tmp_path / "share" / "work", env=env, mountinfo=mountinfo)
    base = Path(f"/var/tmp/ergates-{os.geteuid()}")
    try:
        assert place.root.parent == base
        assert stat.S_IMODE(base.stat().st_mode) == 0o700
    finally:
        for folder in (place.workers, place.root / "jobs", place.root):
            folder.rmdir()
        with suppress(OSError):  # a real one, in use by somebody
            base.rmdir()


@pytest.mark.parametrize("named", ["argument", "environment"])
def test_a_named_state_on_the_network_uses_a_rollback_journal(
    tmp_path: Path, mountinfo: Path, env: dict[str, str], named: str
) -> None:
    wanted = tmp_path / "share" / "state"
    state = wanted if named == "argument" else None
    more = {} if named == "argument" else {"ERGATES_STATE": str(wanted)}
    place = make_state_dir(tmp_path / "local", state=state, env=env | more, mountinfo=mountinfo)
    assert (place.root, place.journal, place.note) == (wanted, "delete", "")
    store = place.open_store()
    assert store.connection().raw.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    store.close()
    assert list((tmp_path / "local").iterdir()) == []


def test_a_store_that_was_begun_on_the_share_is_gone_on_with(
    tmp_path: Path, mountinfo: Path, env: dict[str, str]
) -> None:
    work = tmp_path / "share" / "work"
    make_state_dir(work, state=work / ".ergates", env=env, mountinfo=mountinfo).open_store().close()
    place = make_state_dir(work, env=env, mountinfo=mountinfo)
    assert (place.root, place.journal) == (work / ".ergates", "delete")


def test_the_argument_goes_before_the_environment(tmp_path: Path, env: dict[str, str]) -> None:
    env["ERGATES_STATE"] = str(tmp_path / "b")
    assert make_state_dir(tmp_path, state=tmp_path / "a", env=env).root == tmp_path / "a"


def test_something_else_is_in_the_way(tmp_path: Path, env: dict[str, str]) -> None:
    (tmp_path / ".ergates").write_text("a file")
    with pytest.raises(UsageError, match=r"no directory(.|\n)*--state DIR or ERGATES_STATE"):
        make_state_dir(tmp_path, env=env)


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "read-only"
    place.mkdir()
    if os.geteuid() != 0:
        place.chmod(0o500)
        yield place
        return
    command = ["mount", "-t", "tmpfs", "-o", "ro,size=64k", "tmpfs", str(place)]
    mounted = subprocess.run(command, capture_output=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"root may write everywhere, and a read-only mount failed: {mounted.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_read_only_directory(read_only: Path, env: dict[str, str]) -> None:
    with pytest.raises(UsageError, match=r"cannot be created(.|\n)*--state DIR or ERGATES_STATE"):
        make_state_dir(read_only, env=env)
    place = make_state_dir(read_only, state=read_only.parent / "elsewhere", env=env)
    place.open_store().close()
