"""What was there before: a file that knows each old value before it is changed, so that whatever happens it can be put back.

One JSON document a line, only ever appended to while changing, each batch on the disk before its first change is made:

    {"boot": "..."}                                     which boot the rest is about
    {"change": {"setting": ..., "old": ..., ...}}       about to be made
    {"became": [["file", "proc/sys/...", "0\\n"], ...]}  made, and read back

A last line without its end was being written when we were killed: what it announces was not begun. No file means nothing to undo.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec

from ergates.drivers.machine import host_name
from ergates.drivers.nodes.tree import NodeTree
from ergates.drivers.whole_file import sync_folder
from ergates.errors import ErgatesError
from ergates.experiment.node_plan import Change
from ergates.experiment.node_undo import Entry, merged

_FILE, _LOCK = "journal.jsonl", "lock"
_BOOT_ID = "proc/sys/kernel/random/boot_id"


class JournalError(ErgatesError):
    """The journal cannot be read or kept. Nothing was changed that is not in it."""


class Journal:
    """The one of `folder`, which is made when it is first written to."""

    def __init__(self, folder: Path, boot: str) -> None:
        self.folder, self.boot = folder, boot
        self.path = folder / _FILE

    @contextmanager
    def alone(self) -> Iterator[None]:
        """One prepare or restore at a time.

        Raises:
            JournalError: another one is at it, or the folder cannot be made.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle = os.open(self.folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise JournalError(
                f"{error.filename or self.folder}: {error.strerror}\n  expected: a folder for the journal that we can write to"
                "\n  hint: run as root, or name another with --state"
            ) from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            raise JournalError(
                f"{self.folder}: another erg node prepare or restore is at work\n  hint: wait for it"
            ) from None
        try:
            yield
        finally:
            os.close(handle)

    def entries(self) -> tuple[dict[tuple[str, str], Entry], str]:
        """All that is to be undone, in the order in which it was first changed, and the boot it belongs to.

        Raises:
            JournalError: a line that we did not write.
        """
        found: dict[tuple[str, str], Entry] = {}
        boot = self.boot
        for number, line in enumerate(self._lines(), 1):
            try:
                record = json.loads(line)
                if "boot" in record:
                    boot = str(record["boot"])
                elif "change" in record:
                    merged(found, msgspec.convert(record["change"], Change))
                else:
                    for kind, target, text in record["became"]:
                        found[kind, target].became = text
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise JournalError(
                    f"{self.path}:{number}: not a line of this journal ({error})"
                    "\n  expected: JSON as `erg node prepare` writes it"
                    "\n  hint: put back by hand what the other lines say (old), then remove the file"
                ) from error
        return found, boot

    def remember(self, changes: Iterable[Change]) -> None:
        """On the disk when this returns. Raises JournalError."""
        self._append([{"change": msgspec.to_builtins(change)} for change in changes])

    def became(self, texts: Mapping[tuple[str, str], str | None]) -> None:
        """What things said after they were changed; None: not known yet. Raises JournalError."""
        self._append([{"became": [[*key, text] for key, text in texts.items()]}] if texts else [])

    def keep_only(self, entries: Iterable[Entry]) -> None:
        """Forget all others; without any the file goes. Raises JournalError, OSError."""
        records: list[dict[str, Any]] = []
        for entry in entries:
            change = entry.change
            records.append({"change": msgspec.to_builtins(change)})
            records += [
                {"change": msgspec.to_builtins(msgspec.structs.replace(change, new=text))}
                for text in entry.wrote
                if text != change.new
            ]
            if entry.became is not None:
                records.append({"became": [[*change.key, entry.became]]})
        if not records:
            with suppress(FileNotFoundError):
                self.path.unlink()
                sync_folder(self.folder)
            return
        new = self.path.with_suffix(".new")
        with suppress(FileNotFoundError):
            new.unlink()
        self._write(new, [{"boot": self.boot}, *records], os.O_CREAT | os.O_EXCL)
        new.replace(self.path)
        sync_folder(self.folder)

    def _append(self, records: list[dict[str, Any]]) -> None:
        if not records:
            return
        whole = self._drop_torn_end()
        self._write(self.path, records if whole else [{"boot": self.boot}, *records], os.O_CREAT | os.O_APPEND)
        if not whole:
            sync_folder(self.folder)

    def _drop_torn_end(self) -> int:
        """Bytes of whole lines; what follows them is cut off, or it would spoil the line to be written next."""
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return 0
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            os.truncate(self.path, whole)
        return whole

    def _write(self, path: Path, records: list[dict[str, Any]], flags: int) -> None:
        data = "".join(f"{json.dumps(record)}\n" for record in records).encode()
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW | flags, 0o600)
            with os.fdopen(handle, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            raise JournalError(
                f"{path}: {error.strerror}\n  hint: nothing is changed that is not remembered there; `erg node restore` undoes"
                " what was"
            ) from error

    def _lines(self) -> list[bytes]:
        try:
            return self.path.read_bytes().split(b"\n")[:-1]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise JournalError(f"{self.path}: {error.strerror}\n  hint: run it as whoever prepared the node") from error


def boot_of(tree: NodeTree) -> str:
    """Changes at every boot; empty where the kernel does not tell."""
    return tree.text(_BOOT_ID) or ""


def journal_of(tree: NodeTree, folder: Path | None = None) -> Journal:
    """The journal of a node: /var/lib/ergates/node for root, else in the user's state folder, where hosts may share a home."""
    if folder is None:
        if not tree.real or os.geteuid() == 0:
            folder = tree.root / "var/lib/ergates/node"
        else:
            state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state"
            folder = Path(state) / "ergates/node" / host_name()
    return Journal(folder, boot_of(tree))
