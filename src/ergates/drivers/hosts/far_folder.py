"""An experiment's folder on a host reached by ssh: this file is sent there and run by its Python, and packs and unpacks here too.

As placers/far_side.py it needs nothing but the standard library (>= 3.11) and listens to its standard input only: one request as
a line of JSON, one answer as a line that begins with `MARK`. Folders travel as a tar in frames, each with its length before it,
so that a stream that was cut is never taken for a whole one. It ends when its connection does.

What lies where: `BASE/here` what was sent, `BASE/runs` the folders of runs, `BASE/state` of the worker; in `/tmp` a directory
for the socket that leads to the store (a path in a home may be too long for a socket).
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
import stat
import struct
import sys
import tarfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any, cast

MARK = "ergates-far-folder "
FRAME = struct.Struct(">I")
FRAME_BYTES = 1 << 18


class Trouble(Exception):
    """Something the user can do something about, in words."""


def main() -> None:
    """Greet, then answer until nobody asks any more."""
    say(ok=True)
    made: list[Path] = []
    try:
        while line := sys.stdin.buffer.readline():
            request = json.loads(line)
            try:
                say(ok=True, **ANSWERS[request["do"]](request))
                if request["do"] == "point":
                    made.append(Path(request["socket"]))
            except Trouble as trouble:
                say(ok=False, trouble=str(trouble))
            except (OSError, tarfile.TarError) as error:
                place = f"{error.filename}: " if isinstance(error, OSError) and error.filename else ""
                words = error.strerror if isinstance(error, OSError) else None
                say(ok=False, trouble=f"{place}{words or error}")
    finally:
        for path in made:  # sshd leaves it
            path.unlink(missing_ok=True)


def say(**answer: Any) -> None:
    """One answer, on a line of its own even after a login script's unfinished one."""
    sys.stdout.buffer.write(f"\n{MARK}{json.dumps(answer)}\n".encode())
    sys.stdout.buffer.flush()


# --- folders that travel --------------------------------------------------------------------------


class FrameWriter:
    """A file of which each write becomes a frame. `finish` writes the empty one that ends it."""

    def __init__(self, out: IO[bytes]) -> None:
        self._out = out

    def write(self, data: bytes) -> int:
        for begin in range(0, len(data), FRAME_BYTES):
            piece = data[begin : begin + FRAME_BYTES]
            self._out.write(FRAME.pack(len(piece)) + piece)
        return len(data)

    def finish(self) -> None:
        self._out.write(FRAME.pack(0))
        self._out.flush()


class FrameReader:
    """The content of frames up to the empty one. Raises EOFError when the stream ends before."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source, self._left, self._ended = source, b"", False

    def read(self, size: int) -> bytes:
        if not self._left and not self._ended:
            (length,) = FRAME.unpack(self._exactly(FRAME.size))
            self._ended = length == 0
            self._left = self._exactly(length)
        piece, self._left = self._left[:size], self._left[size:]
        return piece

    def finish(self) -> None:
        """Read what is left of it."""
        while self.read(FRAME_BYTES):
            pass

    def _exactly(self, size: int) -> bytes:
        found = self._source.read(size)
        if len(found) < size:
            raise EOFError("the stream was cut")
        return found


def pack(places: Iterable[tuple[str, Path]], out: FrameWriter) -> None:
    """Write files, folders and symbolic links as a tar.

    Args:
        places: (name in the tar, where it is), in their order; folders with all that is in them.
        out: where to; it is finished in any case.

    Raises:
        Trouble: a file changed meanwhile.
    """
    try:
        with tarfile.open(fileobj=cast(Any, out), mode="w|", bufsize=FRAME_BYTES, format=tarfile.PAX_FORMAT) as tar:
            for name, path in places:
                for inner, found in _walked(name, path):
                    _add(tar, inner, found)
    finally:
        out.finish()


def _walked(name: str, path: Path) -> Iterator[tuple[str, Path]]:
    yield name, path
    if path.is_dir() and not path.is_symlink():
        for inner in sorted(path.iterdir()):
            yield from _walked(f"{name}/{inner.name}", inner)


def _add(tar: tarfile.TarFile, name: str, path: Path) -> None:
    """Sockets, pipes and devices have no content that could travel."""
    seen = path.lstat()
    entry = tarfile.TarInfo(name)
    entry.mode, entry.mtime = stat.S_IMODE(seen.st_mode), int(seen.st_mtime)
    if stat.S_ISLNK(seen.st_mode):
        entry.type, entry.linkname = tarfile.SYMTYPE, os.readlink(path)  # noqa: PTH115
        tar.addfile(entry)
    elif stat.S_ISDIR(seen.st_mode):
        entry.type = tarfile.DIRTYPE
        tar.addfile(entry)
    elif stat.S_ISREG(seen.st_mode):
        with path.open("rb") as file:
            entry.size = os.fstat(file.fileno()).st_size
            try:
                tar.addfile(entry, file)
            except OSError as error:
                if error.errno is None:  # tarfile's own: fewer bytes than were announced
                    raise Trouble(f"{path}: it changed while it was read") from error
                raise


def unpack(source: FrameReader, into: Path) -> None:
    """Make what was packed below `into`, which must be there and empty; nothing is written outside of it.

    Raises:
        Trouble, tarfile.TarError, EOFError: it is not whole, or names a place outside.
    """
    links: list[tuple[Path, str]] = []
    with tarfile.open(fileobj=cast(Any, source), mode="r|", bufsize=FRAME_BYTES) as tar:
        for entry in tar:
            parts = [part for part in entry.name.split("/") if part != "."]
            if entry.name.startswith("/") or ".." in parts or not all(parts):
                raise Trouble(f"the archive names a place outside of itself: {entry.name!r}")
            target = into.joinpath(*parts)
            target.parent.mkdir(parents=True, exist_ok=True)
            if entry.isdir():
                target.mkdir(exist_ok=True)
                target.chmod(entry.mode & 0o777 | 0o700)
            elif entry.isreg():
                content = tar.extractfile(entry)
                assert content is not None
                with target.open("xb") as file:
                    shutil.copyfileobj(content, file, FRAME_BYTES)
                target.chmod(entry.mode & 0o777 | 0o600)
                os.utime(target, (entry.mtime, entry.mtime))
            elif entry.issym():
                links.append((target, entry.linkname))
    source.finish()
    for target, leads_to in links:  # last, so that nothing was written through one
        target.symlink_to(leads_to)


# --- answers --------------------------------------------------------------------------------------


def ready(request: dict[str, Any]) -> dict[str, Any]:
    """Make the experiment's folder; say where it is and what was done there before."""
    base = base_of(request)
    for place in (base, base / "here", base / "runs"):
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
    return {"base": str(base), "notes": notes_of(base)}


def take(request: dict[str, Any]) -> dict[str, Any]:
    """What is sent becomes `here`, all at once."""
    base = base_of(request)
    growing, old, here = base / "here.new", base / "here.old", base / "here"
    source = FrameReader(sys.stdin.buffer)
    try:
        for place in (growing, old):
            shutil.rmtree(place, ignore_errors=True)
        growing.mkdir(mode=0o700)
        unpack(source, growing)
        if here.exists():
            here.rename(old)
        growing.rename(here)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        source.finish()
    return {}


def give(request: dict[str, Any]) -> dict[str, Any]:
    """Announce a folder of a run, then send what is in it; the answer that ends it says whether it was all."""
    folder = run_folder(request, request["folder"])
    if not folder.is_dir():
        raise Trouble(f"{folder}: no such folder there")
    say(ok=True, coming=True)
    pack([("whole", folder)], FrameWriter(sys.stdout.buffer))
    return {}


def drop(request: dict[str, Any]) -> dict[str, Any]:
    """Delete folders of runs, and those above them that are empty then."""
    runs = base_of(request) / "runs"
    for name in request["folders"]:
        folder = run_folder(request, name)
        shutil.rmtree(folder, ignore_errors=True)
        for above in folder.parents:
            if above == runs:
                break
            with contextlib.suppress(OSError):
                above.rmdir()
    return {}


def note(request: dict[str, Any]) -> dict[str, Any]:
    """Remember what was done."""
    base = base_of(request)
    growing = base / "notes.new"
    growing.write_text(json.dumps({**notes_of(base), request["done"]: request["value"]}))
    growing.replace(base / "notes.json")
    return {}


def remove(request: dict[str, Any]) -> dict[str, Any]:
    """Delete all but folders of runs that were not gathered and old values that were not put back; those are said."""
    base, nest = base_of(request), nest_of(request)
    left = sorted(str(path) for path in (base / "runs").glob("*")) if base.is_dir() else []
    settings = base / "node"
    if (settings / "journal.jsonl").exists():
        left.append(str(settings))
    if nest.is_dir() and not nest.is_symlink():
        shutil.rmtree(nest, ignore_errors=True)
    for path in list(base.iterdir()) if base.is_dir() else []:
        if path.name != "runs" and str(path) not in left:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    for place in (base / "runs", base, base.parent):
        with contextlib.suppress(OSError):
            place.rmdir()
    return {"left": left}


def nest(request: dict[str, Any]) -> dict[str, Any]:
    """A directory for sockets that nobody else may enter, without those of connections that are gone."""
    place = nest_of(request)
    with contextlib.suppress(FileExistsError):
        place.mkdir(mode=0o700)
    seen = place.lstat()
    if not stat.S_ISDIR(seen.st_mode) or seen.st_uid != os.getuid() or seen.st_mode & 0o077:
        raise Trouble(f"{place}: somebody else made this; remove it")
    for old in place.glob("s-*"):
        old.unlink(missing_ok=True)
    return {"socket": str(place / f"s-{os.urandom(4).hex()}"), "link": str(place / "store")}


def point(request: dict[str, Any]) -> dict[str, Any]:
    """This connection's socket is the store now."""
    link = nest_of(request) / "store"
    growing = link.with_name("store.new")
    growing.unlink(missing_ok=True)
    growing.symlink_to(Path(request["socket"]).name)
    growing.replace(link)
    return {}


def base_of(request: dict[str, Any]) -> Path:
    """Hosts may share a home: each has a folder of its own."""
    root = Path(request["directory"] or "~/.cache/ergates/experiments").expanduser()
    return Path(os.path.abspath(root / str(request["name"]) / (platform.node() or "host")))


def nest_of(request: dict[str, Any]) -> Path:
    return Path("/tmp") / f"ergates-{os.getuid()}-{request['key']}-{platform.node()[:20]}"


def run_folder(request: dict[str, Any], name: str) -> Path:
    """A folder below `runs`, named from the experiment's folder on as here: `runs/0001-.../attempt-1/0-server`."""
    base = base_of(request)
    runs, folder = base / "runs", Path(os.path.abspath(base / name))
    if runs not in folder.parents:
        raise Trouble(f"{name}: no folder of a run of this experiment")
    return folder


def notes_of(base: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((base / "notes.json").read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return found


ANSWERS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "ready": ready,
    "take": take,
    "give": give,
    "drop": drop,
    "note": note,
    "remove": remove,
    "nest": nest,
    "point": point,
}

if __name__ == "__main__":
    main()
