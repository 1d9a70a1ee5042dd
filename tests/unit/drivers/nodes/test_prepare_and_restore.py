"""After `restore` a node is byte for byte as it was before `prepare`, whatever was wished, refused, killed or done twice."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from fake_node import CARD, FakeNode, KilledError, build_node
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from ergates.drivers.nodes.journal import Journal, journal_of
from ergates.drivers.nodes.prepare import Outcome, carry_out, plan_node
from ergates.drivers.nodes.restore import Restored, undo_all
from ergates.errors import UsageError
from ergates.experiment.node_plan import parse_wish

EVERYTHING = (
    "governor=performance", "turbo=off", "frequency-min=2.4GHz", "frequency-max=2.4GHz", "energy-preference=performance",
    "smt=off", "cstates=C1", "idle-latency=10us", "isolate=1", "irq-affinity=0", "hugepages=64", "hugepages-1G=2",
    "thp-defrag=never", "transparent-hugepages=never", "numa-balancing=off", "swap=off", "services=quiet", "watchdogs=off",
    "aslr=off", "perf-paranoid=-1", "clocksource=tsc", "sysctl@kernel.timer_migration=0", "modules=msr,vfio-pci",
    f"card@{CARD}=vfio-pci",
)  # fmt: skip
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
WISHES = (
    *EVERYTHING, "governor@0-1=performance", "cstates=all", "cstates=none", "cstates@0=2us", "hugepages@node1=7", "isolate=2-3",
    "frequency-min=max", "frequency-max=min", "frequency-max=2000001", "irq-affinity@25=1", "energy-preference=power", "turbo=on",
    "service@cron=stopped", "smt=on", "sysctl@vm.swappiness=1",
)  # fmt: skip


@pytest.fixture(autouse=True)
def impatient_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests look at the order of things, not at the disk: tests/system/test_node_settings.py does."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """In memory where there is such a place: these trees are hundreds of small files that are written over and over."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        yield Path(folder)


def prepare(node: FakeNode, wishes: Sequence[str], profile: str = "") -> tuple[Outcome, ...]:
    planned = plan_node(node, [parse_wish(wish) for wish in wishes], profile)
    return carry_out(node, journal_of(node), planned.changes, lambda line: None)


def restore(node: FakeNode, *, force: bool = False) -> Restored:
    return undo_all(node, journal_of(node), force=force, tell=lambda line: None)


def fails(outcomes: Sequence[Outcome]) -> dict[str, str]:
    return {outcome.change.target: outcome.problem for outcome in outcomes if not outcome.ok}


@pytest.mark.parametrize("vendor", ["intel", "amd"])
def test_everything_is_changed_and_comes_back(tmp_path: Path, vendor: str) -> None:
    node = build_node(tmp_path / "root", vendor=vendor)
    before = node.snapshot()
    wishes = [wish for wish in EVERYTHING if vendor == "intel" or not wish.startswith("energy")]
    assert not fails(prepare(node, wishes))
    assert not plan_node(node, [parse_wish(wish) for wish in wishes if not wish.startswith("isolate")]).changes
    during = node.snapshot()
    assert sum(during.get(path) != text for path, text in before.items()) > 40
    told: list[str] = []
    restored = undo_all(node, journal_of(node), force=False, tell=told.append)
    assert node.snapshot() == before
    assert restored.left == 0 and not journal_of(node).path.exists()
    assert len(told) > 40
    assert restore(node) == Restored()


def test_nothing_is_written_that_is_not_on_the_disk_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The journal is read back from the file at every single write; and the file was synced since it last grew."""
    node = build_node(tmp_path / "root")
    journal = journal_of(node)
    synced: set[int] = set()
    real = Journal._write

    def written(self: Journal, path: Path, records: list[dict[str, object]], flags: int) -> None:
        real(self, path, records, flags)
        assert handles, path
        synced.add(path.stat().st_size)
        handles.clear()

    handles: list[int] = []
    monkeypatch.setattr(os, "fsync", handles.append)
    monkeypatch.setattr(Journal, "_write", written)
    count = 0

    def look(what: str) -> None:
        nonlocal count
        count += 1
        known = " ".join(target for _, target in journal.entries()[0])
        name = what.split()[-1]
        assert name in known or f"{name}@" in known or CARD in known, what
        assert journal.path.stat().st_size in synced

    node.seen = look
    prepare(node, EVERYTHING)
    assert count > 80
    assert journal.path.stat().st_mode & 0o777 == 0o600
    assert journal.folder.stat().st_mode & 0o777 == 0o700


def steps_of(node: FakeNode, wishes: Sequence[str], die_at: int) -> bool:
    """Prepare, killed at a step; whether it came that far."""
    count = 0

    def step(what: str) -> None:
        nonlocal count
        count += 1
        if count == die_at:
            raise KilledError

    node.seen = step
    try:
        prepare(node, wishes)
    except KilledError:
        return True
    finally:
        node.seen = lambda what: None
    return False


@hypothesis_settings(max_examples=50, deadline=None)
@given(st.data())
def test_whatever_was_wished_and_wherever_it_was_killed_it_comes_back(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        vendor = data.draw(st.sampled_from(("intel", "amd", "bare")))
        node = build_node(Path(folder) / "root", vendor=vendor, cpus=data.draw(st.sampled_from((2, 4))))
        before = node.snapshot()
        paths = sorted(path for path in before if path.startswith(("proc/sys", "sys/dev", "sys/kernel", "proc/irq")))
        for path in data.draw(st.lists(st.sampled_from(paths), max_size=3)):
            node.refused[path] = data.draw(st.sampled_from((errno.EACCES, errno.EINVAL, errno.EBUSY)))
        node.deaf = set(data.draw(st.lists(st.sampled_from(paths), max_size=3)))
        node.pages_max = data.draw(st.sampled_from((5, 10**6)))
        for _ in range(data.draw(st.integers(1, 3))):
            wishes = data.draw(st.lists(st.sampled_from(WISHES), max_size=6, unique_by=lambda wish: wish.split("=")[0]))
            try:
                steps_of(node, wishes, data.draw(st.integers(0, 40)))
            except UsageError:
                continue  # contradictions, and what this node does not have
        # Restore itself may be killed, too.
        count, die_at = 0, data.draw(st.integers(0, 20))

        def step(what: str) -> None:
            nonlocal count
            count += 1
            if count == die_at:
                raise KilledError

        node.seen = step
        try:
            restore(node)
        except KilledError:
            pass
        node.seen = lambda what: None
        # What refuses to be changed refuses to be changed back when something else moved it: mended, it goes back.
        node.refused, node.deaf = {}, set()
        assert restore(node).left == 0
        assert node.snapshot() == before


def test_killed_at_every_step(tmp_path: Path) -> None:
    die_at, reached = 1, True
    while reached:
        node = build_node(tmp_path / str(die_at) / "root", cpus=2, interrupts=2, nodes=1)
        before = node.snapshot()
        reached = steps_of(node, EVERYTHING, die_at)
        assert restore(node).left == 0
        assert node.snapshot() == before, die_at
        die_at += 1
    assert die_at > 60


def test_prepared_twice_the_first_old_values_count(tmp_path: Path) -> None:
    node = build_node(tmp_path / "root")
    before = node.snapshot()
    prepare(node, ["aslr=1", "transparent-hugepages=always", "hugepages=10"])
    prepare(node, ["aslr=0", "transparent-hugepages=never", "swap=off"])
    prepare(node, ["aslr=2"])
    restore(node)
    assert node.snapshot() == before


def test_what_does_not_take_is_said_and_the_rest_is_done(tmp_path: Path) -> None:
    node = build_node(tmp_path / "root")
    kernel = "proc/sys/kernel"
    node.refused = {f"{kernel}/randomize_va_space": errno.EACCES, "systemctl stop -- cron.service": errno.EIO}
    node.deaf = {f"{kernel}/perf_event_paranoid"}
    node.pages_max = 5
    outcomes = prepare(node, ["aslr=0", "perf-paranoid=0", "hugepages=100", "numa-balancing=off", "services=quiet"])
    failed = fails(outcomes)
    assert set(failed) == {
        f"{kernel}/randomize_va_space",
        f"{kernel}/perf_event_paranoid",
        "cron.service",
        *(f"sys/devices/system/node/node{n}/hugepages/hugepages-2048kB/nr_hugepages" for n in (0, 1)),
    }
    assert "run as root" in failed[f"{kernel}/randomize_va_space"]
    assert "says '2' after '0' was written" in failed[f"{kernel}/perf_event_paranoid"]
    assert "scattered" in failed["sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages"]
    assert node.text(f"{kernel}/numa_balancing") == "0"


def test_an_interrupt_that_stays_is_no_failure(tmp_path: Path) -> None:
    node = build_node(tmp_path / "root")
    path = "proc/irq/25/smp_affinity_list"
    node.refused = {path: errno.EIO}
    outcomes = {outcome.change.target: outcome for outcome in prepare(node, ["irq-affinity=0"])}
    assert outcomes[path].state == "refused" and outcomes[path].ok
    assert "fewer queues" in outcomes[path].problem
    assert node.text("proc/irq/27/smp_affinity_list") == "0"


def test_a_file_that_vanishes_in_the_middle(tmp_path: Path) -> None:
    node = build_node(tmp_path / "root")
    path = "sys/devices/system/cpu/cpufreq/policy2/scaling_governor"
    node.vanishing = {path}
    failed = fails(prepare(node, ["governor=performance"]))
    assert set(failed) == {path}
    restored = restore(node)
    assert [thing.change.target for thing in restored.things if thing.verdict == "gone"] == [path]
    assert restored.left == 1  # the core may come back, and with it what we set there
    node.put(path, "performance")
    assert restore(node).left == 0
    assert node.text(path) == "powersave"


def test_what_vanished_for_good_is_forgotten_by_force(tmp_path: Path) -> None:
    node = build_node(tmp_path / "root")
    prepare(node, ["aslr=0"])
    (node.root / "proc/sys/kernel/randomize_va_space").unlink()
    assert restore(node).left == 1
    assert restore(node, force=True).left == 0
    assert not journal_of(node).path.exists()


def test_what_others_changed_is_named_and_left_to_them(tmp_path: Path) -> None:
    node = build_node(tmp_path / "root")
    before = node.snapshot()
    prepare(node, ["aslr=0", "perf-paranoid=-1"])
    node.put("proc/sys/kernel/randomize_va_space", "1")
    restored = restore(node)
    assert [(thing.change.setting, thing.verdict, thing.says) for thing in restored.things if thing.problem] == [
        ("aslr", "changed by others", "1")
    ]
    assert restored.left == 1
    assert node.text("proc/sys/kernel/perf_event_paranoid") == "2"
    assert node.text("proc/sys/kernel/randomize_va_space") == "1"
    assert restore(node, force=True).left == 0
    assert node.snapshot() == before


def test_what_others_changed_between_two_prepares_is_still_theirs(tmp_path: Path) -> None:
    node = build_node(tmp_path / "root")
    prepare(node, ["aslr=0"])
    node.put("proc/sys/kernel/randomize_va_space", "1")
    prepare(node, ["perf-paranoid=-1"])
    restore(node)
    assert node.text("proc/sys/kernel/randomize_va_space") == "1"
    assert node.text("proc/sys/kernel/perf_event_paranoid") == "2"


def test_after_a_boot_nothing_is_undone(tmp_path: Path) -> None:
    node = build_node(tmp_path / "root")
    prepare(node, ["aslr=0", "perf-paranoid=-1"])
    node.put("proc/sys/kernel/random/boot_id", "another")
    restored = restore(node)
    assert (restored.void, restored.left, restored.things) == (2, 0, ())
    assert node.text("proc/sys/kernel/randomize_va_space") == "0"
    assert not journal_of(node).path.exists()


def test_prepared_after_a_boot_the_values_of_that_boot_count(tmp_path: Path) -> None:
    node = build_node(tmp_path / "root")
    prepare(node, ["aslr=0"])
    node.put("proc/sys/kernel/random/boot_id", "another")
    node.put("proc/sys/kernel/randomize_va_space", "1")
    prepare(node, ["aslr=0"])
    restore(node)
    assert node.text("proc/sys/kernel/randomize_va_space") == "1"


def test_threads_are_moved_and_what_they_started_goes_back_with_them(tmp_path: Path) -> None:
    node = build_node(tmp_path / "root")
    prepare(node, ["isolate=2-3"])
    assert node.affinity(100) == (0, 1)
    assert node.affinity(101) == (3,)  # bound there by somebody who meant it
    assert node.affinity(2) == (0, 1, 2, 3)  # the kernel's own
    node.thread(200, "0-1", parent=100, start=900)
    node.thread(201, "2", parent=100, start=901)  # a measured program, put there by hand
    (node.root / "proc/100/task/100/stat").write_text("")  # ended
    (node.root / "proc/100/stat").write_text("")
    node.thread(200, "0-1", parent=1, start=900)
    assert restore(node).left == 0
    assert node.affinity(200) == (0, 1, 2, 3)
    assert node.affinity(201) == (2,)
    assert node.affinity(1) == (0, 1, 2, 3)


def test_a_thread_number_used_again_is_not_touched(tmp_path: Path) -> None:
    node = build_node(tmp_path / "root")
    prepare(node, ["isolate=2-3"])
    node.thread(100, "0", parent=9999, start=77777)
    assert restore(node).left == 0
    assert node.affinity(100) == (0,)


def test_only_modules_that_were_inserted_are_removed(tmp_path: Path) -> None:
    node = build_node(tmp_path / "root")
    (node.root / "sys/module/vfio").mkdir()
    prepare(node, ["modules=vfio-pci"])
    assert node.exists("sys/module/vfio_pci")
    restore(node)
    assert node.exists("sys/module/vfio") and not node.exists("sys/module/vfio_pci_core")


def test_two_at_a_time_are_refused(tmp_path: Path) -> None:
    node = build_node(tmp_path / "root")
    prepare(node, ["aslr=0"])
    with journal_of(node).alone(), pytest.raises(Exception, match="another erg node"):
        restore(node)
