"""What a pool's folder remembers: submissions whose answer is not known, jobs that are ours, one process at a time."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ergates.drivers.placers.slurm_array import Pool
from ergates.drivers.placers.slurm_pool import UNCONFIRMED_NS, PoolFolder
from ergates.drivers.placers.slurm_records import SlurmAllocation
from ergates.drivers.stores.address import StoreAddress
from ergates.drivers.stores.store_file import store_address
from ergates.errors import UsageError
from ergates.units import Nanoseconds

POOL = Pool(queue="q1", store="abc")
NOW = Nanoseconds(10**18)


def row(comment: str, job: str = "7") -> SlurmAllocation:
    return SlurmAllocation(
        id=f"{job}_0", job=job, state="PENDING", reason="None", partition="main", node="", left_ns=None, started_s=None,
        name="erg:q1", comment=comment,
    )  # fmt: skip


def test_a_submission_that_died_is_found_again_by_its_word(tmp_path: Path) -> None:
    token = PoolFolder(tmp_path, POOL).intend(3, NOW)
    later = PoolFolder(tmp_path, POOL)
    open_intent = later.open_intent([], NOW)
    assert open_intent is not None and open_intent.count == 3
    assert later.open_intent([row(f"{POOL.mark} {token}")], NOW) is None
    rewritten = PoolFolder(tmp_path, POOL).ours([row("a plugin was here"), row("somebody's", job="8")])
    assert [one.job for one in rewritten] == ["7"], "known by its number now, whatever becomes of the comment"


@pytest.mark.parametrize("later_ns", [UNCONFIRMED_NS, -1])
def test_a_submission_that_is_never_seen_is_forgotten_after_a_while(tmp_path: Path, later_ns: int) -> None:
    folder = PoolFolder(tmp_path, POOL)
    folder.intend(3, NOW)
    assert folder.open_intent([], Nanoseconds(NOW + UNCONFIRMED_NS - 1)) is not None
    assert folder.open_intent([], Nanoseconds(NOW + later_ns)) is None
    folder.intend(1, NOW)


def test_only_one_process_places_workers_of_a_pool(tmp_path: Path) -> None:
    first, second = PoolFolder(tmp_path, POOL), PoolFolder(tmp_path, POOL)
    first.lock()
    with pytest.raises(UsageError, match=f"placed by process {os.getpid()}"):
        second.lock()
    PoolFolder(tmp_path, Pool(queue="q1", store="abc", name="gpu")).lock()
    first.unlock()
    second.lock()
    second.unlock()


def test_sbatch_of_a_killed_process_is_awaited(tmp_path: Path) -> None:
    code = """
import os, subprocess, sys
from pathlib import Path
from ergates.drivers.placers.slurm_array import Pool
from ergates.drivers.placers.slurm_pool import PoolFolder
hold = PoolFolder(Path(sys.argv[1]), Pool(queue="q1", store="abc")).lock()
subprocess.Popen(["sh", "-c", "read line; echo done > " + sys.argv[2]], stdin=0, pass_fds=(hold,))
os.kill(os.getpid(), 9)
"""
    read, write = os.pipe()
    killed = subprocess.run([sys.executable, "-c", code, tmp_path, tmp_path / "ended"], stdin=read, check=False)
    os.close(read)
    assert killed.returncode == -9
    folder = PoolFolder(tmp_path, POOL)
    with ThreadPoolExecutor(1) as pool:
        waits = pool.submit(folder.lock)
        os.write(write, b"go\n")
        waits.result(timeout=60)
    os.close(write)
    assert (tmp_path / "ended").read_text() == "done\n"
    folder.unlock()


def test_nobody_else_looks_into_the_folder(tmp_path: Path) -> None:
    folder = PoolFolder(tmp_path, POOL)
    folder.intend(1, NOW)
    assert folder.path.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.path.iterdir() if path.is_file()} == {0o600}


def test_workers_read_the_store_file_that_was_named_or_a_private_copy(tmp_path: Path) -> None:
    folder = PoolFolder(tmp_path / "pools", POOL)
    copy = folder.store_file(StoreAddress(hosts=(("node1", 7000),), username="erg", password="secret", queue="q1"))
    assert copy.parent == folder.path and copy.stat().st_mode & 0o777 == 0o600
    again = store_address(str(copy))
    assert (again.hosts, again.password, again.queue) == ((("node1", 7000),), "secret", "q1")
    assert folder.store_file(again) == copy, "a file that says it all is used as it is"


def test_a_folder_that_cannot_be_made_says_what_it_is_for(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="--folder DIR"):
        PoolFolder(tmp_path / "file", POOL)
