"""The cache of a node: filled once, never with half a file, never spoiled, never larger than it may be but for what is in use."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from ergates.drivers.objects.cache import FOLDER, FileCache
from ergates.drivers.objects.files import Found, Stop, StoppedError, TransferError
from ergates.drivers.objects.local_files import LocalFiles


class Counting(LocalFiles):
    """A folder that counts what is fetched from it, and can be told to fail in the middle or to wait."""

    def __init__(self, folder: Path) -> None:
        super().__init__(str(folder))
        self.fetched: list[str] = []
        self.breaks = False
        self.entered, self.go_on = threading.Event(), threading.Event()
        self.go_on.set()

    def fetch(self, found: Sequence[Found], folder: Path, stop: Stop) -> None:
        self.entered.set()
        assert self.go_on.wait(30)
        self.fetched += [each.path for each in found]
        super().fetch(found, folder, stop)
        if self.breaks:
            with (folder / found[-1].path).open("r+b") as half:
                half.truncate(1)
            raise TransferError("the line went dead")


class Node:
    """A cache, a place and the work directories of some attempts."""

    def __init__(self, folder: Path, *, limit: int = 1 << 30, links: bool = True) -> None:
        self.data = folder / "data"
        self.data.mkdir()
        self.state = folder / "state"
        self.place = Counting(self.data)
        self.cache = FileCache(self.state, limit, links=links)
        self._attempts = 0

    def attempt(self) -> Path:
        self._attempts += 1
        folder = self.state / "scratch" / str(self._attempts)
        (folder / "incoming").mkdir(parents=True)
        return folder

    def bring(self, *paths: str, attempt: Path | None = None, **options: object) -> Path:
        attempt = attempt or self.attempt()
        wanted = [(found, attempt / found.path) for path in paths for found in self.place.find(path, Stop())]
        self.cache.bring(self.place, wanted, attempt / "incoming", Stop(), **options)  # type: ignore[arg-type]
        return attempt

    def kept(self) -> int:
        """Bytes in the cache."""
        return sum(
            each.stat().st_size
            for each in (self.state / FOLDER).rglob("*")
            if each.is_file() and each.suffix != ".note" and each.name != "evicting"
        )


@pytest.fixture(params=[True, False], ids=["links", "copies"])
def node(request: pytest.FixtureRequest, tmp_path: Path) -> Node:
    return Node(tmp_path, links=request.param)


def test_the_second_task_fetches_nothing(node: Node) -> None:
    (node.data / "f").write_bytes(b"content")
    first, second = node.bring("f"), node.bring("f")
    assert (first / "f").read_bytes() == (second / "f").read_bytes() == b"content"
    assert node.place.fetched == ["f"]


def test_a_worker_started_anew_knows_what_was_kept(node: Node) -> None:
    (node.data / "f").write_bytes(b"content")
    node.bring("f")
    node.cache = FileCache(node.state)
    assert (node.bring("f") / "f").read_bytes() == b"content"
    assert node.place.fetched == ["f"]


def test_a_file_that_changed_is_fetched_again(node: Node) -> None:
    (node.data / "f").write_bytes(b"before")
    old = node.bring("f")
    (node.data / "f").write_bytes(b"after!")
    os.utime(node.data / "f", ns=(1, 1))
    assert (node.bring("f") / "f").read_bytes() == b"after!"
    assert (old / "f").read_bytes() == b"before", "who runs with the old one keeps it"


def test_many_at_once_fetch_once(node: Node) -> None:
    (node.data / "f").write_bytes(b"x" * 100_000)
    (node.data / "g").write_bytes(b"y" * 100_000)
    node.place.go_on.clear()
    attempts = [node.attempt() for _ in range(8)]
    orders = [("f", "g") if number % 2 else ("g", "f") for number in range(8)]
    threads = [
        threading.Thread(target=lambda a=attempt, o=order: node.bring(*o, attempt=a))
        for attempt, order in zip(attempts, orders, strict=True)
    ]
    for thread in threads:
        thread.start()
    assert node.place.entered.wait(30)
    node.place.go_on.set()
    for thread in threads:
        thread.join(30)
    assert sorted(node.place.fetched) == ["f", "g"]
    assert {(each / "f").read_bytes() for each in attempts} == {b"x" * 100_000}
    assert {(each / "g").read_bytes() for each in attempts} == {b"y" * 100_000}


def test_half_a_file_is_never_kept(node: Node) -> None:
    (node.data / "f").write_bytes(b"content")
    node.place.breaks = True
    with pytest.raises(TransferError, match="dead"):
        node.bring("f")
    assert node.kept() == 0
    node.place.breaks = False
    assert (node.bring("f") / "f").read_bytes() == b"content"


def test_a_file_that_is_shorter_than_was_said_is_not_kept(node: Node) -> None:
    (node.data / "f").write_bytes(b"content")
    attempt = node.attempt()
    found = Found("f", 100, "v")
    with pytest.raises(TransferError, match="changed while"):
        node.cache.bring(node.place, [(found, attempt / "f")], attempt / "incoming", Stop())
    assert node.kept() == 0


def test_a_spoiled_file_is_fetched_anew(node: Node) -> None:
    (node.data / "f").write_bytes(b"content")
    node.bring("f")
    (kept,) = [
        each
        for each in (node.state / FOLDER).rglob("*")
        if each.is_file() and each.suffix == "" and each.name != "evicting"
    ]
    kept.chmod(0o644)
    kept.write_bytes(b"spoiled")
    assert (node.bring("f") / "f").read_bytes() == b"content"
    assert node.place.fetched == ["f", "f"]


def test_what_a_task_may_write_to_is_its_own(node: Node) -> None:
    (node.data / "f").write_bytes(b"content")
    attempt = node.attempt()
    node.bring("f", attempt=attempt, writable=[attempt / "f"])
    (attempt / "f").write_bytes(b"mine")
    assert (node.bring("f") / "f").read_bytes() == b"content"
    assert node.place.fetched == ["f"]


def test_what_a_task_may_only_read_has_no_mode_for_writing(node: Node) -> None:
    (node.data / "f").write_bytes(b"content")
    (node.data / "run").write_bytes(b"#!/bin/sh\n")
    (node.data / "run").chmod(0o755)
    attempt = node.bring("f", "run")
    assert (attempt / "f").stat().st_mode & 0o777 == 0o444
    assert (attempt / "run").stat().st_mode & 0o777 == 0o555


def test_links_are_for_those_who_cannot_write_and_never_for_containers(tmp_path: Path) -> None:
    node = Node(tmp_path)
    (node.data / "f").write_bytes(b"content")
    assert (node.bring("f") / "f").stat().st_nlink == 2
    assert (node.bring("f", private=True) / "f").stat().st_nlink == 1
    assert FileCache(node.state)._links is (os.geteuid() != 0)


def test_the_least_recently_wanted_goes_first(tmp_path: Path) -> None:
    node = Node(tmp_path, limit=300, links=False)
    for number, name in enumerate("abc"):
        (node.data / name).write_bytes(name.encode() * 100)
        node.bring(name)
        age(node, name, number)
    node.bring("a")  # wanted again: now b is the oldest
    (node.data / "d").write_bytes(b"d" * 100)
    node.bring("d")
    assert node.kept() == 300
    node.place.fetched.clear()
    node.bring("a", "c", "d")
    assert node.place.fetched == []
    node.bring("b")
    assert node.place.fetched == ["b"]


def age(node: Node, name: str, second: int) -> None:
    """As if it had been wanted long ago."""
    found = node.place.find(name, Stop())[0]
    os.utime(node.cache._note(node.place.place, found), (second, second))


def test_what_is_in_use_is_not_evicted(tmp_path: Path) -> None:
    node = Node(tmp_path, limit=100)
    for name in "ab":
        (node.data / name).write_bytes(name.encode() * 100)
    running = node.bring("a")
    node.bring("b")
    node.place.fetched.clear()
    node.bring("a")
    assert node.place.fetched == [], "a task ran with it"
    (running / "a").unlink()
    for attempt in (node.state / "scratch").iterdir():
        (attempt / "a").unlink(missing_ok=True)
        (attempt / "b").unlink(missing_ok=True)
    node.cache.evict(0)
    assert node.kept() == 0


def test_what_has_no_version_is_fetched_every_time(node: Node) -> None:
    (node.data / "f").write_bytes(b"content")
    for _ in range(2):
        attempt = node.attempt()
        node.cache.bring(node.place, [(Found("f", None, ""), attempt / "f")], attempt / "incoming", Stop())
        assert (attempt / "f").read_bytes() == b"content"
    assert node.place.fetched == ["f", "f"]


def test_who_waits_for_another_can_be_stopped(node: Node) -> None:
    (node.data / "f").write_bytes(b"content")
    node.place.go_on.clear()
    first = threading.Thread(target=node.bring, args=("f",))
    first.start()
    assert node.place.entered.wait(30)
    attempt, stop, ended = node.attempt(), Stop(), []

    def second() -> None:
        found = node.place.find("f", Stop())[0]
        try:
            node.cache.bring(node.place, [(found, attempt / "f")], attempt / "incoming", stop)
        except StoppedError:
            ended.append("stopped")

    waiting = threading.Thread(target=second)
    waiting.start()
    stop.set()
    node.place.go_on.set()
    first.join(30)
    waiting.join(30)
    assert ended == ["stopped"]
    assert not (attempt / "f").exists()


def test_files_of_a_large_folder_all_come(node: Node) -> None:
    for number in range(200):
        (node.data / f"{number:03}").write_text(str(number))
    attempt = node.bring(".")
    assert sorted(each.name for each in attempt.iterdir()) == [*(f"{n:03}" for n in range(200)), "incoming"]
