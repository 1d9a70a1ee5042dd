from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from ergates.cluster.attempt import Output
from ergates.drivers.output.pack import NOTHING, Spool
from ergates.drivers.output.read import copy_output, read_output
from ergates.errors import ErgatesError


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    made = Spool(str(tmp_path / "out"), str(tmp_path / "err"), "w-0.pack")
    made.open()
    return made


def keep(spool: Spool, folder: Path, out: bytes, err: bytes) -> Output:
    os.write(spool.out_fd, out)
    os.write(spool.err_fd, err)
    pack, offset, stdout_bytes, stderr_bytes = spool.keep(os.fsencode(folder))
    return Output(pack=pack, offset=offset, stdout_bytes=stdout_bytes, stderr_bytes=stderr_bytes)


def test_outputs_follow_each_other_in_the_pack(spool: Spool, tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "down"
    first = keep(spool, folder, b"one", b"1")
    second = keep(spool, folder, b"", b"only err")
    assert (first.offset, second.offset) == (0, 4)
    assert read_output(folder, first) == (b"one", b"1")
    assert read_output(folder, second) == (b"", b"only err")
    assert (folder / "w-0.pack").read_bytes() == b"one1only err"
    spool.close()


def test_nothing_printed_makes_no_file(spool: Spool, tmp_path: Path) -> None:
    assert spool.keep(os.fsencode(tmp_path / "packs")) == NOTHING
    assert not (tmp_path / "packs").exists()
    spool.close()


@pytest.mark.parametrize("size", [65_536, 65_537, 5_000_000])
def test_small_and_large_outputs_come_through(spool: Spool, tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    output = keep(spool, tmp_path, data, data[::-1])
    assert read_output(tmp_path, output) == (data, data[::-1])
    out, err = io.BytesIO(), io.BytesIO()
    copy_output(tmp_path, output, out, err)
    assert (out.getvalue(), err.getvalue()) == (data, data[::-1])
    spool.close()


def test_an_interrupted_kernel_copy_is_finished_by_hand(
    spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on file systems where copy_file_range copies a part and then says that there is no more."""
    real = os.copy_file_range
    calls = []

    def partial(source: int, target: int, count: int, at: int, to: int) -> int:
        calls.append(count)
        return real(source, target, 1000, at, to) if len(calls) == 1 else 0

    monkeypatch.setattr(os, "copy_file_range", partial)
    data = os.urandom(300_000)
    assert read_output(tmp_path, keep(spool, tmp_path, data, b"e")) == (data, b"e")
    assert len(calls) == 2
    spool.close()


def test_a_pack_that_was_deleted_meanwhile_is_made_again(spool: Spool, tmp_path: Path) -> None:
    keep(spool, tmp_path, b"old", b"")
    (tmp_path / "w-0.pack").unlink()
    output = keep(spool, tmp_path, b"new", b"")
    assert read_output(tmp_path, output) == (b"new", b"")
    spool.close()


def test_several_folders_take_turns(spool: Spool, tmp_path: Path) -> None:
    outputs = [(tmp_path / name, keep(spool, tmp_path / name, name.encode(), b"")) for name in ("a", "b", "a", "b")]
    assert [output.offset for _, output in outputs] == [0, 0, 1, 1]
    for folder, output in outputs:
        assert read_output(folder, output) == (folder.name.encode(), b"")
    spool.close()


def test_a_lost_pack_is_said_in_words(spool: Spool, tmp_path: Path) -> None:
    output = keep(spool, tmp_path, b"0123456789", b"")
    os.truncate(tmp_path / "w-0.pack", 5)
    with pytest.raises(ErgatesError, match="expected at least 10 bytes, found 5"):
        read_output(tmp_path, output)
    (tmp_path / "w-0.pack").unlink()
    with pytest.raises(ErgatesError, match="the output was deleted"):
        read_output(tmp_path, output)
    spool.close()
