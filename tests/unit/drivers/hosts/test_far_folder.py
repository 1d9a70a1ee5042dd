"""Folders that travel: whole or not at all, and nothing outside of the place they go to."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from ergates.drivers.hosts.far_folder import (
    FRAME_BYTES,
    FrameReader,
    FrameWriter,
    Trouble,
    pack,
    ready,
    remove,
    run_folder,
    unpack,
)


def packed(*places: tuple[str, Path]) -> bytes:
    stream = io.BytesIO()
    pack(places, FrameWriter(stream))
    return stream.getvalue()


def framed(*members: tarfile.TarInfo) -> bytes:
    """What somebody might send who wishes us no good."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for member in members:
            tar.addfile(member, io.BytesIO(b"x" * member.size))
    out = io.BytesIO()
    writer = FrameWriter(out)
    writer.write(stream.getvalue())
    writer.finish()
    return out.getvalue()


def named(name: str, *, leads_to: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    if leads_to:
        member.type, member.linkname = tarfile.SYMTYPE, leads_to
    else:
        member.size = 1
    return member


def test_files_rights_links_and_empty_folders_arrive(tmp_path: Path) -> None:
    source, into = tmp_path / "source", tmp_path / "into"
    (source / "deep" / "empty").mkdir(parents=True)
    big = os.urandom(3 * FRAME_BYTES + 17)
    (source / "deep" / "big").write_bytes(big)
    (source / "zero").touch()
    (source / "run").write_text("#!/bin/sh\n")
    (source / "run").chmod(0o755)
    (source / "link").symlink_to("deep/big")
    os.mkfifo(source / "pipe")
    os.utime(source / "zero", (1e9, 1e9))
    into.mkdir()

    unpack(FrameReader(io.BytesIO(packed(("a", source), ("b/one", source / "run")))), into)

    assert (into / "a" / "deep" / "big").read_bytes() == big
    assert (into / "a" / "link").readlink() == Path("deep/big")
    assert (into / "a" / "deep" / "empty").is_dir()
    assert (into / "a" / "run").stat().st_mode & 0o777 == 0o755
    assert (into / "a" / "zero").stat().st_mtime == 1e9
    assert (into / "b" / "one").read_text() == "#!/bin/sh\n"
    assert sorted(path.name for path in (into / "a").iterdir()) == ["deep", "link", "run", "zero"]


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.999])
def test_a_stream_that_was_cut_is_never_taken_for_a_whole_one(tmp_path: Path, kept: float) -> None:
    source, into = tmp_path / "source", tmp_path / "into"
    source.mkdir()
    into.mkdir()
    (source / "big").write_bytes(os.urandom(2 * FRAME_BYTES))
    stream = packed(("a", source))
    with pytest.raises((EOFError, tarfile.TarError)):
        unpack(FrameReader(io.BytesIO(stream[: int(kept * len(stream))])), into)


@pytest.mark.parametrize("name", ["../evil", "/evil", "a/../../evil"])
def test_places_outside_are_refused(tmp_path: Path, name: str) -> None:
    into = tmp_path / "into"
    into.mkdir()
    with pytest.raises(Trouble, match="outside"):
        unpack(FrameReader(io.BytesIO(framed(named(name)))), into)
    assert not (tmp_path / "evil").exists()


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    into = tmp_path / "into"
    into.mkdir()
    stream = framed(named("door", leads_to=".."), named("door/evil"))
    with pytest.raises(FileExistsError):
        unpack(FrameReader(io.BytesIO(stream)), into)
    assert not (tmp_path / "evil").exists()


def test_a_file_that_shrinks_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"x" * 1000)
    real = os.fstat

    def larger(fd: int) -> os.stat_result:
        seen = real(fd)
        return os.stat_result((*seen[:6], seen.st_size + 1, *seen[7:10]))

    monkeypatch.setattr(os, "fstat", larger)
    with pytest.raises(Trouble, match="changed while it was read"):
        packed(("log", path))


@pytest.mark.parametrize("name", ["runs", "runs/../here", "/etc", "here", "../other/runs/1"])
def test_only_folders_of_runs_are_given_and_deleted(tmp_path: Path, name: str) -> None:
    request = {"directory": str(tmp_path), "name": "x-1", "key": "k"}
    assert run_folder(request, "runs/0001-r1").parts[-2:] == ("runs", "0001-r1")
    with pytest.raises(Trouble, match="no folder of a run"):
        run_folder(request, name)


def test_old_values_that_were_not_put_back_stay_and_are_said(tmp_path: Path) -> None:
    request = {"name": "pair", "directory": str(tmp_path / "there"), "key": f"test{os.getpid()}"}
    base = Path(ready(request)["base"])
    journal = base / "node" / "journal.jsonl"
    journal.parent.mkdir()
    journal.write_text("{}\n")
    (base / "here" / "sent").touch()

    assert remove(request) == {"left": [str(journal.parent)]}
    assert list(base.iterdir()) == [journal.parent]
    assert journal.exists()

    journal.unlink()
    assert remove(request) == {"left": []}
    assert not list(tmp_path.glob("there/*"))
