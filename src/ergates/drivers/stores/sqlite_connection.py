"""One connection to a store file: how it is opened, what a transaction is, and what SQLite's errors mean in words.

Store time. Delays and beats are compared by the store's own time, which never goes back: it is the highest time any
process has brought, and a process whose clock lies behind it is carried forward by the difference. So after an
administrator has set the clock back by an hour a delay of five seconds still takes five seconds.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from ergates.drivers.stores.sqlite_schema import prepare_schema, schema_is_current
from ergates.errors import ErgatesError, StoreError, StoreFullError

Journal = Literal["wal", "delete"]

BUSY_TIMEOUT_S = 60.0
"""Longer than the longest transaction: submitting a million tasks takes some seconds."""
CACHE_KIB = 16 * 1024
WAL_KEPT_BYTES = 32 * 1024**2
"""After a large submission the write-ahead log is cut back to this."""

NO_ROOM = frozenset(
    {
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR_WRITE,
        sqlite3.SQLITE_IOERR_FSYNC,
        sqlite3.SQLITE_IOERR_DIR_FSYNC,
        sqlite3.SQLITE_IOERR_TRUNCATE,
        sqlite3.SQLITE_IOERR_SHMSIZE,
        sqlite3.SQLITE_IOERR_SHMOPEN,
    }
)


class StoreConnection:
    """Belongs to one thread. `raw` is only used inside `write()` or `reading()`."""

    def __init__(self, path: Path, journal: Journal, lease_ns: int) -> None:
        """Open, or create with rights 0600, the store file.

        Raises:
            StoreError: not our file, a newer schema, or it cannot be opened.
        """
        self.path = path
        self.lease_ns = lease_ns
        self.fence = 0
        self._ahead_ns = 0
        self._names: dict[str, int] = {}
        self._texts: dict[int, str] = {}
        with self.translated():
            self.raw = _open(path, journal)
        self._inode = _inode(path)
        self._wal = self.raw.execute("PRAGMA journal_mode").fetchone()[0] == "wal"

    def close(self) -> None:
        self.raw.close()

    # --- transactions -------------------------------------------------------------------------

    @contextmanager
    def write(self, now_ns: int, *, durable: bool = False) -> Iterator[int]:
        """One transaction that holds the write lock from the start; yields store time, nothing is kept on an error.

        `now_ns` 0 is for calls that bring no time. What people told us is `durable`: once we say that it is done, a power
        cut does not undo it. What a machine did in its last second may be done again instead.
        """
        with self.translated(), self._synced(durable):
            if _inode(self.path) != self._inode:  # SQLite would go on writing to what nobody can find any more
                raise StoreError(f"{self.path}: the store was removed or replaced while it was in use")
            self.raw.execute("BEGIN IMMEDIATE")
            try:
                fence, seen_ns = self.raw.execute("SELECT fence, now_ns FROM store").fetchone()
                self.fence = fence
                store_ns = self._store_time(now_ns, seen_ns)
                yield store_ns
                if self.fence != fence or store_ns != seen_ns:
                    self.raw.execute("UPDATE store SET fence = ?, now_ns = ?", (self.fence, store_ns))
                self.raw.execute("COMMIT")
            except BaseException:
                self._roll_back()
                raise

    @contextmanager
    def _synced(self, durable: bool) -> Iterator[None]:
        """Let the transaction inside end only when it is on the disk."""
        if not durable or not self._wal:
            yield
            return
        self.raw.execute("PRAGMA synchronous = FULL")
        try:
            yield
        finally:
            self.raw.execute("PRAGMA synchronous = NORMAL")

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Several reads of one moment."""
        with self.translated():
            self.raw.execute("BEGIN")
            try:
                yield self.raw
            finally:
                if self.raw.in_transaction:
                    self.raw.execute("ROLLBACK")

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Turn SQLite's errors into ours, once."""
        try:
            yield
        except sqlite3.Error as error:
            raise _in_words(error, self.path) from error

    def to_store_time(self, at_ns: int) -> int:
        """A moment on the caller's clock as store time. 0 stays 0: no moment."""
        return at_ns + self._ahead_ns if at_ns else 0

    def to_caller_time(self, store_ns: int) -> int:
        return store_ns - self._ahead_ns

    def new_fence(self) -> int:
        """A number no lease of this store ever had. Only inside `write()`."""
        self.fence += 1
        return self.fence

    def _store_time(self, now_ns: int, seen_ns: int) -> int:
        if not now_ns:  # a call that brings no time must not look like a clock set back to 1970
            return seen_ns
        behind_ns = seen_ns - (now_ns + self._ahead_ns)
        if behind_ns > 1_000_000_000:  # less is only the jitter between the clocks of two processes
            self._ahead_ns += behind_ns
        return max(seen_ns, now_ns + self._ahead_ns)

    def _roll_back(self) -> None:
        self._names.clear()  # names interned in this transaction are gone again
        self._texts.clear()
        if self.raw.in_transaction:
            self.raw.execute("ROLLBACK")

    # --- repeated text ------------------------------------------------------------------------

    def name_id(self, text: str) -> int:
        """The number of a text in `names`, added when it is new. Only inside `write()`."""
        number = self._names.get(text)
        if number is None:
            self.raw.execute("INSERT INTO names(text) VALUES (?) ON CONFLICT DO NOTHING", (text,))
            number = int(self.raw.execute("SELECT id FROM names WHERE text = ?", (text,)).fetchone()[0])
            if len(self._names) > 10_000:
                self._names.clear()
            self._names[text] = number
        return number

    def name_text(self, number: int) -> str:
        text = self._texts.get(number)
        if text is None:
            text = str(self.raw.execute("SELECT text FROM names WHERE id = ?", (number,)).fetchone()[0])
            if len(self._texts) > 10_000:
                self._texts.clear()
            self._texts[number] = text
        return text


def _open(path: Path, journal: Journal) -> sqlite3.Connection:
    if str(path) != ":memory:":
        _create_private(path)
    connection = sqlite3.connect(
        path, timeout=BUSY_TIMEOUT_S, isolation_level=None, cached_statements=256, check_same_thread=False
    )
    try:
        connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        # The file is looked at before anything is changed: another program's database stays as it is.
        current = schema_is_current(connection, str(path))
        _set_journal(connection, journal)
        if not current:
            prepare_schema(connection, str(path))
    except BaseException:
        connection.close()
        raise
    return connection


def _inode(path: Path) -> int:
    """Which file has this name now; 0: none (or none is needed)."""
    try:
        return 0 if str(path) == ":memory:" else path.stat().st_ino
    except FileNotFoundError:
        return 0


def _set_journal(connection: sqlite3.Connection, journal: Journal) -> None:
    mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
    if mode != journal:
        mode = connection.execute(f"PRAGMA journal_mode = {journal}").fetchone()[0]
    if mode == "wal":
        # NORMAL: a power cut may lose the last commits, never the order of them; a killed process loses nothing.
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(f"PRAGMA journal_size_limit = {WAL_KEPT_BYTES}")
    else:  # asked for, or SQLite found no shared memory here and stays with a rollback journal
        connection.execute("PRAGMA synchronous = FULL")


def _create_private(path: Path) -> None:
    """Create the file with rights 0600; SQLite gives its journals the same ones."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise StoreError(
            f"{path}: the store cannot be opened for writing: {error.strerror}.\n"
            "  hint: name a directory you may write with --state DIR or ERGATES_STATE"
        ) from error


def _in_words(error: sqlite3.Error, path: Path) -> ErgatesError:
    code = getattr(error, "sqlite_errorcode", None)
    if code in NO_ROOM:
        return StoreFullError(f"{path}: no room to write ({error}). Nothing was changed; free some space there")
    primary = None if code is None else code & 0xFF
    match primary:
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            text = f"another process has held the store for more than {BUSY_TIMEOUT_S:.0f} s; see who with `fuser -v {path}`"
        case sqlite3.SQLITE_NOTADB:
            text = "this file is no Ergates store (not even a database); move it away or name another --state DIR"
        case sqlite3.SQLITE_CORRUPT:
            text = f"the store is damaged ({error}); keep a copy, then try `sqlite3 FILE .recover`"
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM:
            text = f"the store cannot be written ({error}); name another directory with --state DIR or ERGATES_STATE"
        case _:
            text = f"{type(error).__name__}: {error}"
    return StoreError(f"{path}: {text}")
