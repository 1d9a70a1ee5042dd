"""What one attempt carries, whose fault it is when that fails, and how often it is tried."""

from __future__ import annotations

import random
import select
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from ergates.agent import transfer
from ergates.agent.staging import Staging, TransferEnded
from ergates.agent.transfer import Carried, is_ignored
from ergates.cluster.attempt import Outcome
from ergates.cluster.task import TaskSpec
from ergates.drivers.objects.cache import FileCache
from ergates.drivers.objects.files import Found, Stop, TransferError
from ergates.drivers.objects.fsspec_files import FsspecFiles
from ergates.drivers.objects.local_files import LocalFiles
from ergates.drivers.objects.open_files import open_files
from ergates.taskqueue.data_paths import split_url, url_name

KEY = ("j1", 1, 1)


class Rig:
    """A staging whose pauses are short, one attempt, and its data."""

    def __init__(self, folder: Path) -> None:
        self.data, self.attempt = folder / "data", folder / "state" / "attempt"
        self.data.mkdir()
        self.attempt.mkdir(parents=True)
        self.staging = Staging(
            FileCache(folder / "state"), random.Random(1), fetch_pauses_s=(0.0, 0.0), put_pauses_s=(0.0, 0.0)
        )

    def carried(self, data: str | None = None, **spec: tuple[str, ...]) -> Carried:
        task = TaskSpec(command="true", inputs=spec.get("inputs", ()), outputs=spec.get("outputs", ()))
        return Carried(spec=task, data=str(self.data) if data is None else data, folder=self.attempt)

    def ended(self) -> TransferEnded:
        assert select.select([self.staging], [], [], 30)[0]
        (event,) = self.staging.poll()
        return event

    def fetch(self, *inputs: str, outputs: tuple[str, ...] = (), data: str | None = None) -> TransferEnded:
        self.staging.fetch(KEY, self.carried(data, inputs=inputs, outputs=outputs))
        return self.ended()

    def put(self, *outputs: str) -> TransferEnded:
        self.staging.put(KEY, self.carried(outputs=outputs))
        return self.ended()

    def wrote(self, *paths: str) -> None:
        for path in paths:
            where = self.attempt / "work" / path
            where.parent.mkdir(parents=True, exist_ok=True)
            where.write_text(path)

    def names(self) -> list[str]:
        return sorted(str(each.relative_to(self.data)) for each in self.data.rglob("*") if each.is_file())


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    with closing(rig.staging):
        yield rig


def test_patterns_folders_and_files_are_brought_back(rig: Rig) -> None:
    rig.wrote("out/a.csv", "out/b.csv", "out/c.log", "all/deep/x", "all/.hidden", "one", "not", "odd[1]")
    assert rig.put("out/*.csv", "all", "one", "odd[1]") == TransferEnded(key=KEY)
    assert rig.names() == ["all/.hidden", "all/deep/x", "odd[1]", "one", "out/a.csv", "out/b.csv"]


@pytest.mark.parametrize("missing", ["nope", "out/*.tsv", "out/b.csv/c"])
def test_one_missing_output_and_nothing_is_brought(rig: Rig, missing: str) -> None:
    rig.wrote("out/b.csv")
    event = rig.put("out/b.csv", missing)
    assert (event.outcome, event.reason) == (Outcome.FAILED, f"output {missing} was not written")
    assert rig.names() == []


@pytest.mark.parametrize("path", ["../out", "/etc/passwd", "a/../../b"])
def test_a_path_that_leads_out_is_refused_on_the_node_too(rig: Rig, path: str) -> None:
    (rig.data.parent / "out").write_text("secret")
    assert rig.fetch(path).outcome is Outcome.NOT_STARTED
    assert rig.put(path).outcome is Outcome.NOT_STARTED


def test_a_name_from_afar_cannot_lead_out(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    class Wicked(LocalFiles):
        def find(self, path: str, stop: Stop) -> list[Found]:
            return [Found("../../escaped", 1, "v")]

    monkeypatch.setattr(transfer, "open_files", lambda address: Wicked(address))
    event = rig.fetch(".")
    assert event.outcome is Outcome.NOT_STARTED
    assert "cannot be the name of a file" in event.reason


def test_what_is_an_output_too_may_be_written_to(rig: Rig) -> None:
    for name in ("db", "table"):
        (rig.data / name).write_text(name)
    assert rig.fetch("db", "table", outputs=("db",)).outcome is None
    work = rig.attempt / "work"
    assert (work / "db").stat().st_mode & 0o222
    assert not (work / "table").stat().st_mode & 0o222


def test_a_url_brings_one_file(rig: Rig, tmp_path: Path) -> None:
    (tmp_path / "elsewhere.txt").write_text("hello")
    assert rig.fetch(f"file://{tmp_path}/elsewhere.txt", data="").outcome is None
    assert (rig.attempt / "work" / "elsewhere.txt").read_text() == "hello"


class Moody(LocalFiles):
    """Fails so many times before it works."""

    failures = 0

    def find(self, path: str, stop: Stop) -> list[Found]:
        type(self).failures -= 1
        if type(self).failures >= 0:
            raise TransferError("the line is dead")
        return super().find(path, stop)

    def put(self, folder: Path, paths: Sequence[str], stop: Stop) -> None:
        self.find(".", stop)
        super().put(folder, paths, stop)


@pytest.fixture
def moody(monkeypatch: pytest.MonkeyPatch) -> type[Moody]:
    monkeypatch.setattr(transfer, "open_files", lambda address: Moody(address))
    return Moody


@pytest.mark.parametrize(("failures", "outcome"), [(2, None), (3, Outcome.RETURNED)])
def test_the_world_may_fail_a_few_times(rig: Rig, moody: type[Moody], failures: int, outcome: Outcome | None) -> None:
    (rig.data / "in").write_text("x")
    rig.wrote("out")
    moody.failures = failures
    event = rig.fetch("in")
    assert event.outcome is outcome
    moody.failures = failures
    event = rig.put("out")
    assert event.outcome is outcome
    assert rig.staging.trouble == ("" if outcome is None else "outputs could not be brought back: the line is dead")
    moody.failures = 0
    assert rig.put("out").outcome is None
    assert rig.staging.trouble == "", "it works again"


def test_what_waits_to_be_tried_again_can_be_stopped(tmp_path: Path, moody: type[Moody]) -> None:
    rig = Rig(tmp_path)
    staging = Staging(FileCache(tmp_path), random.Random(1), fetch_pauses_s=(600.0,))
    with closing(rig.staging), closing(staging):
        moody.failures = 9
        staging.fetch(KEY, rig.carried(inputs=("in",)))
        staging.stop(KEY)
        assert select.select([staging], [], [], 30)[0]
        assert [event.outcome for event in staging.poll()] == [Outcome.CANCELLED]
        assert not staging.busy(KEY)


def test_a_bug_in_a_thread_reaches_the_loop(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "open_files", lambda address: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        rig.fetch("in")


def test_a_node_without_fsspec_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(TransferError, match=r"pip install 'ergates\[data\]'"):
        FsspecFiles("s3://bucket/x")


@pytest.mark.needs("fsspec")
def test_a_node_without_the_library_of_a_form_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(TransferError, match="gcsfs"):
        open_files("gs://bucket/x")


@pytest.mark.parametrize(
    ("path", "ignored"),
    [
        ("a.tmp", True), ("deep/b.tmp", True), ("x.tmp/inside", True), ("raw/one", True), ("raw/one/two", True),
        ("deep/raw/one", False), ("build/x", True), ("deep/build/x", True), ("build", False), ("a.tmpl", False),
    ],
)  # fmt: skip
def test_ignored(path: str, ignored: bool) -> None:
    assert is_ignored(path, ["*.tmp", "raw/one", "build/"]) is ignored


def test_urls() -> None:
    assert split_url("https://h/a/b.gz?x=/1#y/2") == ("https://h/a", "b.gz?x=/1#y/2")
    assert url_name("https://h/a/b.gz?x=/1#y/2") == "b.gz"
