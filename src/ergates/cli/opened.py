"""Opens the store a command works on, and closes it again: the one of this directory, or the cluster's that was named.

A cluster's store is named by `--store`, else by ERGATES_STORE, else by `store = ...` of the configuration. Commands that only
look create nothing.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import click

from ergates.cluster.job import JobStatus
from ergates.drivers.stores.sqlite import SqliteStore
from ergates.drivers.stores.state_dir import NAME, StateDir, find_state_dir, make_state_dir, place_of
from ergates.errors import UsageError

if TYPE_CHECKING:
    from ergates.cli.ledger_option import NamedLedger
    from ergates.drivers.ledgers.joined import JoinedReader
    from ergates.drivers.stores.address import StoreAddress
    from ergates.drivers.stores.redis.store import RedisStore

AnyStore: TypeAlias = "SqliteStore | RedisStore"
Past: TypeAlias = "SqliteStore | RedisStore | JoinedReader"
EMBEDDED = "embedded"
"""What `--store` is told to work on this directory's store although the environment names a cluster's."""


def named_store() -> StoreAddress | None:
    """The cluster's store that the command line, the environment or the configuration names; None for the embedded one.

    Raises:
        UsageError: it cannot be read: neither URL nor store file, a password in an argument, a file others can read.
    """
    context = click.get_current_context(silent=True)
    said: tuple[str, str] | None = None if context is None else context.meta.get("ergates.store")
    if said is None and context is not None:
        from ergates.cli.config_file import default_store

        said = default_store()
    if said is None or said[0] in ("", EMBEDDED):
        return None
    from ergates.drivers.stores.store_file import store_address

    text, origin = said
    return store_address(text, origin=origin, in_argument=origin != "ERGATES_STORE")


@contextmanager
def opened_store(state_dir: str | None, *, create: bool = False) -> Iterator[tuple[AnyStore, Path]]:
    """The store and the state directory around it; with a cluster's store that directory may not exist.

    Args:
        state_dir: what `--state` or ERGATES_STATE say; None is `.ergates` of the working directory.
        create: make it where it is missing.

    Raises:
        UsageError: there is none, it cannot be made, or the cluster's is named wrongly.
        StoreError: it cannot be opened or reached.
    """
    address = named_store()
    named = Path(state_dir) if state_dir else None
    store: AnyStore
    if address is not None:
        from ergates.drivers.stores.open_cluster import open_cluster_store

        store, root = open_cluster_store(address), (named or Path.cwd() / NAME).absolute()
    else:
        place = make_state_dir(Path.cwd(), state=named) if create else _found(named)
        if create and place.note:
            click.echo(f"erg: {place.note}", err=True)
        store, root = place.open_store(), place.root
    try:
        yield store, root
    finally:
        store.close()


def _found(named: Path | None) -> StateDir:
    try:
        return find_state_dir(Path.cwd(), state=named)
    except UsageError as error:
        private = place_of(Path.cwd(), state=named) / "store.toml"
        if not private.exists():
            raise
        raise UsageError(f"{error}\n  hint: `erg store up` made a cluster's store here: --store {private}") from error


def past_of(store: AnyStore, ledger: NamedLedger | None = None) -> Past:
    """Attempts and outputs of a store, those that were drained into its ledger among them.

    Args:
        store: of a cluster, or of this directory, which is its own ledger.
        ledger: what `--ledger` said; None takes ERGATES_LEDGER. Without any, what was drained is not seen.

    Raises:
        UsageError, StoreError: the ledger is named wrongly, or cannot be reached.
    """
    from ergates.cli.ledger_option import NamedLedger

    text = os.environ.get("ERGATES_LEDGER")
    if isinstance(store, SqliteStore) or not (ledger or text):
        return store
    from ergates.drivers.ledgers.joined import JoinedReader
    from ergates.drivers.ledgers.open_ledger import open_ledger

    address = (ledger or NamedLedger(text or "", "ERGATES_LEDGER", from_environment=True)).to_read()
    if address is None:
        return store
    context = click.get_current_context()
    known: dict[int, JoinedReader] = context.meta.setdefault("ergates.past", {})
    if id(store) not in known:
        opened = open_ledger(address)
        context.call_on_close(opened.close)
        known[id(store)] = JoinedReader(store, opened)
    return known[id(store)]


def work_phase(store: AnyStore, folder: Path) -> Callable[[JobStatus], str]:
    """Says of jobs with work left whether somebody does it: `running`, `waiting` (workers are there, busy) or `stopped`;
    `assembling 1 of 3` where nothing runs yet but a gang of it takes its seats.

    The cluster's workers are looked at once, when the first job is asked about.
    """
    if isinstance(store, SqliteStore):
        return lambda status: "stopped" if job_holder(folder, status.id) is None else "running"

    @cache
    def attended() -> bool:
        return any(worker.standing == "live" for worker in store.workers())

    assembling = cache(store.assembling)

    def phase(status: JobStatus) -> str:
        if not attended():
            return "stopped"
        if status.counts.get("leased", 0):
            return "running"
        seat = assembling()
        if seat is None or seat.job != status.id or not seat.taken:
            return "waiting"
        return f"assembling {seat.taken} of {seat.size}"

    return phase


def how_to_run(store: AnyStore, job: str) -> str:
    """What to type so that a job of this store goes on."""
    return f"erg run --job {job}" if isinstance(store, SqliteStore) else "erg worker start"


def job_holder(state_dir: Path, job: str) -> int | None:
    """The process that runs a job here now, None when nobody does. It holds a lock on `run.lock` (drivers/job_lock.py)."""
    try:
        fd = os.open(state_dir / "jobs" / job / "run.lock", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.pread(fd, 32, 0).decode(errors="replace").strip()
        return int(text) if text.isdigit() else 0
    finally:
        os.close(fd)
    return None
