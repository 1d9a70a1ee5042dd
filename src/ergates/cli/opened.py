"""Opens the store a command works on, and closes it again. Commands that only look create nothing."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from ergates.drivers.stores.sqlite import SqliteStore
from ergates.drivers.stores.state_dir import find_state_dir, make_state_dir


@contextmanager
def opened_store(state_dir: str | None, *, create: bool = False) -> Iterator[tuple[SqliteStore, Path]]:
    """The store and the state directory around it.

    Args:
        state_dir: what `--state` or ERGATES_STATE say; None is `.ergates` of the working directory.
        create: make it where it is missing.

    Raises:
        UsageError: there is none, or it cannot be made.
        StoreError: it cannot be opened.
    """
    named = Path(state_dir) if state_dir else None
    place = make_state_dir(Path.cwd(), state=named) if create else find_state_dir(Path.cwd(), state=named)
    if create and place.note:
        click.echo(f"erg: {place.note}", err=True)
    store = place.open_store()
    try:
        yield store, place.root
    finally:
        store.close()


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
