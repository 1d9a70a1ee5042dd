"""One suite for every kind of place that inputs come from and outputs go to."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from objects_rig import Bucket, Folder, LoopbackSshd, Place, S3Server, free_port

from ergates.drivers.objects.files import Files, NoSuchFileError, Stop, StoppedError, TransferError, UnusableError
from ergates.drivers.objects.open_files import open_files

SSH = ("ssh", "sftp")
KINDS = [
    "local",
    "file",
    pytest.param("ssh", marks=[pytest.mark.needs("sshd"), pytest.mark.needs("rsync")]),
    pytest.param("sftp", marks=[pytest.mark.needs("sshd"), pytest.mark.needs("fsspec")]),
    pytest.param("s3", marks=pytest.mark.needs("s3")),
]
STRANGE = [
    "two words", "quo'te", "semi;colon", "dollar$(x)", "star*", "[b]", "\u00fc", "-dash", "back\\slash", "per%cent", "ha#sh",
]  # fmt: skip
"""Names that a shell, rsync or a URL might take for something else."""


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopbackSshd]:
    with LoopbackSshd(tmp_path_factory.mktemp("sshd")) as running:
        yield running


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with S3Server(tmp_path_factory.mktemp("s3")) as running:
        yield running


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    folder = tmp_path / "a place"
    folder.mkdir()
    kind: str = request.param
    if kind in SSH:
        sshd: LoopbackSshd = request.getfixturevalue("sshd")
        sshd.use(monkeypatch)
        yield Folder(sshd.address(kind, folder), folder)
    elif kind == "s3":
        server: S3Server = request.getfixturevalue("s3")
        for name, value in server.env.items():
            monkeypatch.setenv(name, value)
        bucket = Bucket(server, f"b{abs(hash(request.node.name))}")
        yield bucket
        bucket.close()
    else:
        yield Folder(f"file://{folder}".replace(" ", "%20") if kind == "file" else str(folder), folder)


@pytest.fixture
def files(place: Place) -> Files:
    return open_files(place.address)


def fetched(files: Files, path: str, folder: Path) -> dict[str, bytes]:
    folder.mkdir()
    found = files.find(path, Stop())
    files.fetch(found, folder, Stop())
    return {each.path: (folder / each.path).read_bytes() for each in found}


def test_a_file_is_found_and_fetched(place: Place, files: Files, tmp_path: Path) -> None:
    place.write("cfg/one.toml", b"a = 1\n")
    place.write("cfg/one.toml.bak", b"not this one")
    found = files.find("cfg/one.toml", Stop())
    assert [(each.path, each.size_bytes) for each in found] == [("cfg/one.toml", 6)]
    assert found[0].version
    assert fetched(files, "cfg/one.toml", tmp_path / "to") == {"cfg/one.toml": b"a = 1\n"}


def test_a_folder_is_all_that_is_below_it(place: Place, files: Files, tmp_path: Path) -> None:
    content = {"t/one": b"1", "t/deep/er/two": b"22", "t/empty": b""}
    for path, data in {**content, "other": b"x", "tt/three": b"3"}.items():
        place.write(path, data)
    assert fetched(files, "t", tmp_path / "to") == content
    assert fetched(files, ".", tmp_path / "all") == {**content, "other": b"x", "tt/three": b"3"}


@pytest.mark.parametrize("name", STRANGE)
def test_strange_names_are_names(place: Place, files: Files, tmp_path: Path, name: str) -> None:
    place.write(f"in {name}/{name}", name.encode())
    place.write("in star/starfish", b"not this one")
    assert fetched(files, f"in {name}/{name}", tmp_path / "one") == {f"in {name}/{name}": name.encode()}
    assert fetched(files, f"in {name}", tmp_path / "all") == {f"in {name}/{name}": name.encode()}
    files.put(tmp_path / "one", [f"in {name}/{name}"], Stop())
    assert place.read(f"in {name}/{name}") == name.encode()


def test_what_is_not_there(place: Place, files: Files) -> None:
    place.write("here", b"x")
    for path in ("nowhere", "no/where", "her", "here/below"):
        with pytest.raises(NoSuchFileError):
            files.find(path, Stop())


def test_a_version_changes_with_the_file(place: Place, files: Files) -> None:
    place.write("f", b"one")
    before = files.find("f", Stop())
    assert files.find("f", Stop()) == before
    place.write("f", b"three")
    assert files.find("f", Stop()) != before


def test_what_is_put_is_there(place: Place, files: Files, tmp_path: Path) -> None:
    content = {"out/one.csv": b"1\n", "out/deep/two.bin": os.urandom(300_000), "three": b""}
    for path, data in content.items():
        (tmp_path / "from" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "from" / path).write_bytes(data)
    place.write("three", b"replaced")
    files.put(tmp_path / "from", sorted(content), Stop())
    assert place.names() == sorted(content), "and nothing else: no half-done file"
    assert {path: place.read(path) for path in content} == content


def test_big_files_go_both_ways(place: Place, files: Files, tmp_path: Path) -> None:
    data = os.urandom(1 << 20) * 12
    (tmp_path / "from").mkdir()
    (tmp_path / "from" / "big").write_bytes(data)
    files.put(tmp_path / "from", ["big"], Stop())
    assert fetched(files, "big", tmp_path / "to") == {"big": data}


def test_readers_never_see_half_a_file(place: Place, files: Files, tmp_path: Path) -> None:
    sizes = {1: 3 << 20, 2: 2 << 20}
    for number, size in sizes.items():
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "f").write_bytes(bytes([number]) * size)
    files.put(tmp_path / "1", ["f"], Stop())
    done = threading.Event()
    torn: list[int] = []

    def look() -> None:
        while not done.is_set():
            seen = place.read("f")
            if seen != bytes([seen[0]]) * sizes.get(seen[0], 0):
                torn.append(len(seen))

    reader = threading.Thread(target=look)
    reader.start()
    writers = [threading.Thread(target=files_put, args=(place, tmp_path / str(number))) for number in (1, 2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    done.set()
    reader.join()
    assert not torn
    assert place.names() == ["f"]


def files_put(place: Place, folder: Path) -> None:
    own = open_files(place.address)  # as two workers have
    for _ in range(3):
        own.put(folder, ["f"], Stop())


def test_what_was_asked_to_stop_does_nothing(place: Place, files: Files, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x")
    stop = Stop()
    stop.set()
    with pytest.raises(StoppedError):
        files.put(tmp_path, ["f"], stop)
    assert place.names() == []


# --- one kind only ----------------------------------------------------------------------------------


@pytest.mark.needs("sshd")
@pytest.mark.needs("rsync")
def test_a_host_that_does_not_answer_is_the_worlds_doing(
    tmp_path: Path, sshd: LoopbackSshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    sshd.use(monkeypatch)
    files = open_files(f"ssh://root@127.0.0.1:{free_port()}/tmp")
    with pytest.raises(TransferError, match="refused") as caught:
        files.find("x", Stop())
    assert not isinstance(caught.value, NoSuchFileError | UnusableError)


@pytest.mark.needs("sshd")
@pytest.mark.parametrize(
    "kind",
    [pytest.param("ssh", marks=pytest.mark.needs("rsync")), pytest.param("sftp", marks=pytest.mark.needs("fsspec"))],
)
def test_a_host_whose_key_is_not_known_is_not_talked_to(
    kind: str, tmp_path: Path, sshd: LoopbackSshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    sshd.use(monkeypatch)
    known = sshd.known_hosts.read_text()
    try:
        sshd.known_hosts.write_text("")
        with pytest.raises(UnusableError, match="key"):
            open_files(sshd.address(kind, tmp_path)).find("x", Stop())
    finally:
        sshd.known_hosts.write_text(known)


@pytest.mark.parametrize(
    "address", ["-oProxyCommand=touch /tmp/owned:/x", "ssh://-oProxyCommand=touch/x", "a b:/x", "host;touch x:/y"]
)
def test_an_address_is_no_option_and_no_shell(address: str) -> None:
    with pytest.raises(UnusableError):
        open_files(address)


def test_an_unknown_form_says_so() -> None:
    with pytest.raises(UnusableError, match="nosuchform"):
        open_files("nosuchform://x/y")
