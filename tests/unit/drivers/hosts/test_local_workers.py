"""Processes of an experiment are found by their mark and ended, those of others never."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ergates.drivers.hosts.local import LocalHosts
from ergates.drivers.hosts.local_workers import MARK, Place, check_setup, end_leftovers, host_names
from ergates.drivers.hosts.network_namespaces import shaping
from ergates.errors import ErgatesError, UsageError
from ergates.experiment.spec import HostGroup
from ergates.units import Nanoseconds


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(folder=tmp_path / "x.experiment", here=tmp_path)


@pytest.fixture
def others(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    other = Place(folder=tmp_path / "y.experiment", here=tmp_path)
    with subprocess.Popen(["sleep", "300"], env={**os.environ, MARK: other.mark}) as process:
        yield process
        process.kill()


def test_only_what_carries_the_mark_is_ended(place: Place, others: subprocess.Popen[bytes]) -> None:
    environment = {**os.environ, MARK: place.mark}
    ours = [subprocess.Popen(["sleep", "300"], env=environment, start_new_session=True) for _ in range(3)]
    assert end_leftovers(place, spared=[ours[0].pid]) == 2
    assert [process.wait() for process in ours[1:]] == [-signal.SIGKILL] * 2
    assert ours[0].poll() is None and others.poll() is None
    assert end_leftovers(place) == 1 and ours[0].wait() == -signal.SIGKILL
    assert end_leftovers(place) == 0


def test_a_folder_by_another_path_has_the_same_mark(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    marks = {Place(folder=tmp_path / name / "x.experiment", here=tmp_path).mark for name in ("real", "link")}
    assert len(marks) == 1


def test_names_of_hosts() -> None:
    assert host_names(HostGroup(name="lab", kind="local")) == ("lab",)
    assert host_names(HostGroup(name="lab", kind="simulated", count=2)) == ("lab-1", "lab-2")


def test_a_setup_script_runs_once_for_each_host_and_its_failure_is_shown(place: Place) -> None:
    (place.here / "setup.sh").write_text('echo "$ERG_EXPERIMENT_HOST $ERG_EXPERIMENT_ADDRESS" >> seen\n')
    group = HostGroup(name="lab", kind="simulated", count=2, setup="setup.sh")
    hosts = LocalHosts(group, place)
    hosts.check()
    assert [host.simulated for host in hosts.up()] == [True, True]
    assert (place.here / "seen").read_text() == "lab-1 127.0.0.1\nlab-2 127.0.0.1\n"
    (place.here / "setup.sh").write_text("echo no compiler here; exit 3\n")
    with pytest.raises(ErgatesError, match=r"failed on lab-1: exit code 3\n  no compiler here"):
        hosts.up()
    with pytest.raises(UsageError, match=r"hosts\.lab: setup 'absent'"):
        check_setup(HostGroup(name="lab", kind="local", setup="absent"), place)


def test_links_are_shaped_by_rate_and_delay() -> None:
    assert shaping("eth0", None, Nanoseconds(0)) == []
    (rate,) = shaping("eth0", 100_000_000, Nanoseconds(0))
    assert rate[:6] == ["qdisc", "add", "dev", "eth0", "root", "handle"] and "100000000bit" in rate
    assert rate[rate.index("burst") + 1] == "62500", "5 ms of what it sends"
    both = shaping("eth0", 1000, Nanoseconds(1_500_000))
    assert both[1][4:6] == ["parent", "1:"] and "1500.000us" in both[1]
    assert both[0][both[0].index("burst") + 1] == str(16 * 1024)
    assert shaping("eth0", None, Nanoseconds(1000))[0][4] == "root"
