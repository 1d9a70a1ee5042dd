"""`erg node` on this machine as far as it has what can be set, killed for good on a node that is a folder, and with bad input."""

from __future__ import annotations

import fcntl
import json
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from erg_rig import Ended, Erg
from fake_node import build_node

pytestmark = pytest.mark.system
HERE = Path(__file__).parent
REAL = {
    "transparent-hugepages": (Path("/sys/kernel/mm/transparent_hugepage/enabled"), ("never", "madvise")),
    "aslr": (Path("/proc/sys/kernel/randomize_va_space"), ("1", "2")),
    "perf-paranoid": (Path("/proc/sys/kernel/perf_event_paranoid"), ("1", "2")),
    "watchdogs": (Path("/proc/sys/kernel/soft_watchdog"), ("off", "on")),
    "hugepages": (Path("/sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages"), ("3", "5")),
    "sysctl@vm.swappiness": (Path("/proc/sys/vm/swappiness"), ("59", "61")),
    "cstates@0": (Path("/sys/devices/system/cpu/cpu0/cpuidle/state1/disable"), ("none", "all")),
    "idle-latency@0": (Path("/sys/devices/system/cpu/cpu0/power/pm_qos_resume_latency_us"), ("77us", "any")),
    "irq-affinity@24": (Path("/proc/irq/24/smp_affinity_list"), ("0", "1")),
}
"""What may be there, and two values of which at least one is another than what it says."""


@pytest.fixture
def memory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as folder:
        yield Path(folder)


@pytest.fixture
def this_machine() -> Iterator[None]:
    """Only one of these at a time on one machine."""
    with open(f"{tempfile.gettempdir()}/erg-test-node.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def shown(ended: Ended, code: int = 0) -> dict[str, object]:
    assert ended.code == code, ended
    found: dict[str, object] = json.loads(ended.out)
    return found


@pytest.mark.needs("root")
def test_what_this_machine_has_is_changed_and_comes_back(erg: Erg, this_machine: None) -> None:
    there = {
        name: (path, values) for name, (path, values) in REAL.items() if path.exists() and os.access(path, os.W_OK)
    }
    before = {path: path.read_bytes() for path, _ in there.values()}
    state = ("--state", str(erg.folder / "state"))
    first, second = ([f"--set={name}={values[turn]}" for name, (_, values) in there.items()] for turn in (0, 1))
    try:
        made = [erg("node", "prepare", *words, "--yes", "--json", *state) for words in (first, second, first)]
        outcomes = [outcome for each in made for outcome in shown(each)["outcomes"]]  # type: ignore[attr-defined]
        during = {path for path, text in before.items() if path.read_bytes() != text}
        journal = erg.folder / "state/journal.jsonl"
        assert stat.S_IMODE(journal.stat().st_mode) == 0o600
    finally:
        ended = erg("node", "restore", *state)
    assert ended.code == 0, ended
    assert {path: path.read_bytes() for path in before} == before
    assert any(outcome["state"] == "made" for outcome in outcomes)
    assert during, "nothing of this machine was changed, and so nothing was tested"
    assert b"everything is as it was" in ended.out
    assert not journal.exists()


@pytest.mark.needs("root")
def test_threads_of_this_machine_are_moved_and_moved_back(erg: Erg) -> None:
    """The calls below `isolate`, on a process of ours: to move everything aside would disturb whoever else works here."""
    from ergates.drivers.nodes.cores import thread_start
    from ergates.drivers.nodes.knobs import make, now_of, undo
    from ergates.drivers.nodes.tree import NodeTree
    from ergates.experiment.node_plan import Change

    tree, cpus = NodeTree(), sorted(os.sched_getaffinity(0))
    with subprocess.Popen(["sleep", "100"]) as sleeper:
        start, kernel = thread_start(tree, sleeper.pid)
        text = ",".join(map(str, cpus))
        change = Change(setting="isolate", kind="affinity", target=f"{sleeper.pid}@{start}", old=text, new=str(cpus[0]))
        make(tree, change, str(cpus[0]))
        assert os.sched_getaffinity(sleeper.pid) == {cpus[0]} and not kernel
        undo(tree, change)
        assert os.sched_getaffinity(sleeper.pid) == set(cpus)
        sleeper.kill()
    assert now_of(tree, change) is None


def test_killed_for_good_at_every_step(memory: Path) -> None:
    path = os.pathsep.join((str(HERE), str(HERE.parent / "contract"), str(HERE.parents[1] / "src")))
    ended = subprocess.run(
        [sys.executable, str(HERE / "node_killed.py"), str(memory)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert int(ended.stdout.splitlines()[-1]) > 40


def test_check_changes_nothing_and_fails_only_when_asked(erg: Erg, memory: Path) -> None:
    node = build_node(memory / "root")
    before = node.snapshot()
    where = {"ERGATES_NODE_ROOT": str(node.root)}
    found = shown(erg("node", "check", "--json", env=where))
    rows = {row["name"]: row for row in found["settings"]}  # type: ignore[attr-defined]
    assert rows["governor"]["judgement"] == "differs" and rows["governor"]["now"] == "powersave"
    assert erg("node", "check", env=where).code == 0
    assert erg("node", "check", "--strict", env=where).code == 1
    assert node.snapshot() == before
    assert not (node.root / "var").exists()


def test_the_real_machine_can_be_checked_by_anybody(erg: Erg) -> None:
    as_nobody = erg.start("node", "check", "--json", program=(*_nobody(), sys.executable, "-m", "ergates"))
    out, err = as_nobody.communicate(timeout=60)
    assert as_nobody.returncode == 0, err
    assert json.loads(out)["settings"]


def _nobody() -> tuple[str, ...]:
    return ("setpriv", "--bounding-set=-all", "--inh-caps=-all") if os.geteuid() == 0 else ()


def test_prepare_shows_asks_and_tells(erg: Erg, memory: Path) -> None:
    node = build_node(memory / "root")
    before = node.snapshot()
    where = {"ERGATES_NODE_ROOT": str(node.root)}
    words = ("node", "prepare", "--set", "governor=performance", "--set", "aslr=off")
    dry = erg(*words, "--dry-run", env=where)
    assert dry.code == 0
    assert "/sys/devices/system/cpu/cpufreq/policy3/scaling_governor: powersave → performance" in dry.out.decode()
    unasked = erg(*words, env=where)
    assert unasked.code == 2 and "--yes" in unasked.err
    assert node.snapshot() == before
    assert erg(*words, "--yes", env=where).code == 0
    assert node.text("sys/devices/system/cpu/cpufreq/policy0/scaling_governor") == "performance"
    assert b"5 old values" not in erg("node", "check", env=where).out  # the preference is remembered, too
    assert b"remembered; erg node restore puts them back" in erg("node", "check", env=where).out
    assert erg("node", "restore", env=where).code == 0
    assert node.snapshot() == before
    assert b"not prepared" in erg("node", "restore", env=where).out


def test_settings_from_a_file(erg: Erg, memory: Path) -> None:
    node = build_node(memory / "root")
    file = erg.folder / "node.toml"
    file.write_text('governor = "performance"\n"hugepages@node1" = 9\nturbo = false\nmodules = ["ext4"]\n')
    where = {"ERGATES_NODE_ROOT": str(node.root)}
    found = shown(erg("node", "prepare", "--file", "node.toml", "--dry-run", "--json", env=where))
    assert {change["setting"] for change in found["planned"]} == {"governor", "hugepages", "turbo"}  # type: ignore[attr-defined]
    for text, words in (
        ("governer = 'x'\n", "did you mean governor?"),
        ("governor = 'performance\n", "node.toml"),
        ("governor = { a = 1 }\n", "not a value"),
        ("profile = 'fast'\n", "latency or throughput"),
    ):
        file.write_text(text)
        ended = erg("node", "prepare", "--file", "node.toml", "--yes", env=where)
        assert ended.code == 2 and words in ended.err and "node.toml" in ended.err, ended


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("gouvernor=performance", "did you mean governor?"),
        ("governor=fast", "there are performance, powersave"),
        ("governor", "NAME=VALUE"),
        ("governor@9=performance", "no cores 9 here; there are 0-3"),
        ("isolate=0-3", "no core would be left"),
        ("isolate=9", "no cores 9 here"),
        ("frequency-min=9GHz", "outside of 0.8 to 3.6 GHz"),
        ("hugepages=many", "a number of pages"),
        ("hugepages@node7=4", "no huge pages of 2048 kB on node7 here"),
        ("sysctl@../../etc/passwd=x", "the name of a sysctl"),
        ("sysctl@kernel.nothing=1", "no /proc/sys/kernel/nothing"),
        ("cstates=C9", "there are POLL, C1, C1E, C6"),
        ("card@0000:02:00.0=vfio-pci", "eth-igb is up on this card"),
        ("card@eth0=vfio-pci", "a PCI address"),
        ("modules=../x", "names of modules"),
        ("service@cron=running", "nothing is started here"),
        ("transparent-hugepages=sometimes", "always, madvise, never"),
    ],
)
def test_bad_input_is_named_before_anything_is_changed(erg: Erg, memory: Path, setting: str, words: str) -> None:
    node = build_node(memory / "root")
    before = node.snapshot()
    where = {"ERGATES_NODE_ROOT": str(node.root)}
    # A program of this root answers for systemctl; none of this machine is ever asked.
    node.put("bin/systemctl", "#!/bin/sh\nexit 1\n")
    (node.root / "bin/systemctl").chmod(0o755)
    ended = erg("node", "prepare", "--set", "aslr=off", "--set", setting, "--yes", env=where)
    assert ended.code == 2, ended
    assert words in ended.err, ended
    assert {path: text for path, text in node.snapshot().items() if not path.startswith("bin")} == before


def test_a_spoiled_journal_is_named_with_its_line(erg: Erg, memory: Path) -> None:
    node = build_node(memory / "root")
    where = {"ERGATES_NODE_ROOT": str(node.root)}
    assert erg("node", "prepare", "--set", "aslr=off", "--yes", env=where).code == 0
    journal = node.root / "var/lib/ergates/node/journal.jsonl"
    whole = journal.read_bytes()
    journal.write_bytes(
        whole + b'{"change": {"setting": "as'
    )  # cut off in the middle of a line: that change was never begun
    assert erg("node", "restore", env=where).code == 0
    assert node.text("proc/sys/kernel/randomize_va_space") == "2"
    journal.write_bytes(whole + b"nonsense\n")
    ended = erg("node", "restore", env=where)
    assert ended.code == 1 and "journal.jsonl:4" in ended.err, ended
    assert journal.exists()


@pytest.mark.needs("root")
def test_who_only_looks_hears_what_would_be_refused(erg: Erg) -> None:
    tree = build_node(erg.folder / "node").root
    words = [
        sys.executable,
        "-P",
        "-m",
        "ergates",
        "node",
        "prepare",
        "--set=sysctl@vm.swappiness=10",
        "--dry-run",
        "--json",
    ]
    locked = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"'
    said = []
    for prefix in ([], ["unshare", "--mount", "sh", "-c", locked, str(tree)]):
        ended = subprocess.run([*prefix, *words, f"--root={tree}"], capture_output=True, check=True, timeout=60)
        said.append(json.loads(ended.stdout)["forbidden"])
    assert said[0] == ""
    assert said[1].startswith(
        "not allowed to change:\n  /proc/sys/vm/swappiness\n  hint: nothing was changed; mounted read-only"
    )
