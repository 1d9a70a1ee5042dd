"""Inputs that this node fetched before, so that a thousand tasks with the same table fetch it once.

A file is kept under a name made of its address and its version. Beside it lies its *note*: what it looked like when it was whole,
when it was last wanted (the note's own time), and, through the lock on the note, that somebody is at work on it. A file whose
looks do not agree with its note was spoiled, by a crash or a task, and is fetched anew.

Several processes share one cache; what they agree through is flock on the notes. The least recently wanted goes first when
room is needed; what somebody is at work on, or runs with, stays.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from ergates.drivers.objects.copying import copy_file
from ergates.drivers.objects.files import Files, Found, FullDiskError, Stop, TransferError, full_disk

FOLDER = "cache"
DEFAULT_BYTES = 10 * 1024**3
_AT_ONCE = 64
"""Files that are locked, and fetched, together."""


class FileCache:
    """The cache of one node, in `cache/` of a worker's state directory.

    Args:
        state_dir: of the worker; work directories must be on the same file system.
        limit_bytes: its files are no more than this together; more only while tasks that run hold them.
        links: give out hard links where a task may only read. False: copies (or shared blocks). For root, whom no mode
            keeps from writing, a link would let a task spoil what others read.
    """

    def __init__(self, state_dir: Path, limit_bytes: int = DEFAULT_BYTES, *, links: bool | None = None) -> None:
        self._folder = state_dir.absolute() / FOLDER
        self._limit_bytes = limit_bytes
        self._links = os.geteuid() != 0 if links is None else links

    def bring(
        self,
        files: Files,
        wanted: Sequence[tuple[Found, Path]],
        incoming: Path,
        stop: Stop,
        *,
        writable: Iterable[Path] = (),
        private: bool = False,
    ) -> None:
        """Put files where a task is to find them.

        Args:
            files: where they come from.
            wanted: what was found there, and the path that is to be its own here.
            incoming: a folder on the same file system, for what is not whole yet.
            stop: ends it.
            writable: those of the paths that the task may write to.
            private: no hard links, whatever the cache was told.

        Raises:
            TransferError, StoppedError: some are there, some are not.
        """
        ours = frozenset(writable)
        for start in range(0, len(wanted), _AT_ONCE):
            some = wanted[start : start + _AT_ONCE]
            try:
                self._bring_some(files, some, incoming, stop, ours, private)
            except FullDiskError:
                self.evict(0)
                self._bring_some(files, some, incoming, stop, ours, private)

    def evict(self, keep_bytes: int) -> None:
        """Remove the least recently wanted until no more than so much is left, in use or not."""
        if not self._folder.is_dir():
            return
        with _locked(self._folder / "evicting", wait=False) as held:
            if not held:
                return  # somebody else is at it
            entries = sorted(self._entries())
            total = sum(size for _, size, _ in entries)
            for _, size, note in entries:
                if total <= keep_bytes:
                    return
                if self._remove(note):
                    total -= size

    # --- filling ------------------------------------------------------------------------------

    def _bring_some(
        self,
        files: Files,
        wanted: Sequence[tuple[Found, Path]],
        incoming: Path,
        stop: Stop,
        writable: frozenset[Path],
        private: bool,
    ) -> None:
        named = {self._note(files.place, found): found for found, _ in wanted}
        try:
            with ExitStack() as locks:
                for note in sorted(named):  # in one order everywhere: nobody waits for one who waits for them
                    locks.enter_context(_locked(note))
                    stop.check()
                missing = {note: found for note, found in named.items() if not _whole(note)}
                if missing:
                    self.evict(max(0, self._limit_bytes - sum(found.size_bytes or 0 for found in missing.values())))
                    self._fill(files, missing, incoming, stop)
                for found, target in wanted:
                    note = self._note(files.place, found)
                    os.utime(note)
                    self._hand_out(note, found, target, stop, own=target in writable, private=private)
                    if not found.version:  # nothing would tell that it changed
                        _file(note).unlink(missing_ok=True)
        except OSError as error:
            raise full_disk(error, str(self._folder)) from error

    def _fill(self, files: Files, missing: dict[Path, Found], incoming: Path, stop: Stop) -> None:
        with tempfile.TemporaryDirectory(dir=incoming, ignore_cleanup_errors=True) as folder:
            files.fetch(list(missing.values()), Path(folder), stop)
            self._keep(files, missing, Path(folder))

    def _keep(self, files: Files, missing: dict[Path, Found], folder: Path) -> None:
        for note, found in missing.items():
            part = folder / found.path
            if not part.is_file():
                raise TransferError(f"{files.place}/{found.path}: it went while it was fetched")
            size = part.stat().st_size
            if found.size_bytes is not None and size != found.size_bytes:
                raise TransferError(f"{files.place}/{found.path}: it changed while it was fetched")
            part.chmod(0o555 if found.executable else 0o444)
            with part.open("rb") as whole:
                os.fsync(whole.fileno())  # a power cut must not leave a file of zeros under a good name
            part.replace(_file(note))
            note.write_text(_looks(_file(note)))

    def _hand_out(self, note: Path, found: Found, target: Path, stop: Stop, *, own: bool, private: bool) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)  # of an earlier try
        if self._links and not (own or private):
            with suppress(OSError):  # too many links to it, or a file system without any
                os.link(_file(note), target)
                return
        facts = copy_file(_file(note), target, stop)
        os.utime(target, ns=(facts.st_mtime_ns, facts.st_mtime_ns))
        mode = 0o644 if own else 0o444
        target.chmod(mode | 0o111 if found.executable else mode)

    def _note(self, place: str, found: Found) -> Path:
        words = "\0".join((place, found.path, str(found.size_bytes), found.version, str(found.executable)))
        name = hashlib.sha256(words.encode(errors="surrogateescape")).hexdigest()
        return self._folder / name[:2] / f"{name}.note"

    # --- eviction -----------------------------------------------------------------------------

    def _entries(self) -> Iterator[tuple[int, int, Path]]:
        """(last wanted, bytes, note) of all that is here."""
        for shelf in os.scandir(self._folder):
            if not shelf.is_dir():
                continue
            for entry in os.scandir(shelf.path):
                if entry.name.endswith(".note"):
                    note = Path(entry.path)
                    with suppress(FileNotFoundError):
                        size = 0
                        with suppress(FileNotFoundError):
                            size = _file(note).stat().st_size
                        yield entry.stat().st_mtime_ns, size, note

    def _remove(self, note: Path) -> bool:
        with suppress(FileNotFoundError), _locked(note, wait=False, make=False) as held:
            if not held:
                return False
            with suppress(FileNotFoundError):
                if _file(note).stat().st_nlink > 1:  # a task has it
                    return False
                _file(note).unlink()
            note.unlink()
        return True


def _file(note: Path) -> Path:
    return note.with_suffix("")


def _looks(file: Path) -> str:
    facts = file.stat()
    return f"{facts.st_size} {facts.st_mtime_ns} {facts.st_ino}"


def _whole(note: Path) -> bool:
    """Whether the file is there as it was when it was put there. The note is locked by us."""
    try:
        return note.read_text() == _looks(_file(note))
    except (FileNotFoundError, ValueError):
        return False


@contextmanager
def _locked(path: Path, *, wait: bool = True, make: bool = True) -> Iterator[bool]:
    """Hold the lock on a file, which is made if need be.

    Args:
        path: of the file.
        wait: until it is free; else False is given when somebody else holds it.
        make: else FileNotFoundError when it is not there.
    """
    flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if make else 0)
    while True:
        try:
            descriptor = os.open(path, flags, 0o600)
        except FileNotFoundError:
            if not make:
                raise
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            continue
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                yield False
                return
            if not _still(path, descriptor):
                continue  # it was evicted while we waited
            yield True
            return
        finally:
            os.close(descriptor)


def _still(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
