"""Where a directory keeps its state: `.ergates/` in it, or a local directory when it lies on a network file system.

SQLite's write-ahead log needs shared memory and locks that network file systems do not give. So there the state goes to
`$XDG_STATE_HOME/ergates/<hash of the path>` of this host, and a pointer file `.ergates/elsewhere-on-<host>` says so. Who wants
the state on the share all the same names it with `--state`: then a rollback journal is used, safe for one writer at a time.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ergates.drivers.stores.file_systems import MOUNTINFO, file_system_of, is_network
from ergates.drivers.stores.sqlite import LEASE_NS, SqliteStore
from ergates.drivers.stores.sqlite_connection import Journal
from ergates.errors import UsageError

NAME = ".ergates"
DATABASE = "ergates.db"
_HINT = "hint: name a directory you may write with --state DIR or ERGATES_STATE"


@dataclass(frozen=True, slots=True, kw_only=True)
class StateDir:
    """A state directory that exists.

    Args:
        root: absolute path; rights 0700.
        journal: how the store must be opened on this file system.
        note: one line for the user when the state is not where they would look; else empty.
    """

    root: Path
    journal: Journal
    note: str = ""

    @property
    def database(self) -> Path:
        return self.root / DATABASE

    @property
    def workers(self) -> Path:
        return self.root / "workers"

    def output(self, job: str) -> Path:
        """Where the output packs of a job are."""
        return self.root / "jobs" / job / "output"

    def open_store(self, *, lease_ns: int = LEASE_NS) -> SqliteStore:
        """Raises StoreError."""
        return SqliteStore(self.database, journal=self.journal, lease_ns=lease_ns)


def make_state_dir(
    directory: Path, *, state: Path | None = None, env: Mapping[str, str] | None = None, mountinfo: Path = MOUNTINFO
) -> StateDir:
    """The state directory of `directory`, created where it is missing.

    Args:
        directory: usually the working directory.
        state: what the user named with `--state`; goes before ERGATES_STATE of `env`.
        env: the environment; None is this process's.
        mountinfo: list of mounts, as in proc(5).

    Raises:
        UsageError: it cannot be created or written; the message says what to do.
    """
    place = _place(directory, state, os.environ if env is None else env, mountinfo)
    if place.root.parent == _fallback():
        _make_fallback()
    _make(place.root, f"{directory} cannot hold the state of its jobs" if state is None else str(state))
    for part in (place.workers, place.root / "jobs"):
        _make(part, str(place.root))
    if not os.access(place.root, os.W_OK | os.X_OK):
        raise UsageError(f"{place.root}: no right to write\n  {_HINT}")
    if place.note:
        _leave_pointer(directory, place.root)
    return place


def find_state_dir(
    directory: Path, *, state: Path | None = None, env: Mapping[str, str] | None = None, mountinfo: Path = MOUNTINFO
) -> StateDir:
    """Like `make_state_dir`, for commands that only look: creates nothing.

    Raises:
        UsageError: there is no store yet.
    """
    place = _place(directory, state, os.environ if env is None else env, mountinfo)
    if not place.database.exists():
        raise UsageError(
            f"{place.root}: no jobs were submitted here yet\n"
            "  hint: `erg run` or `erg submit` begins one; --state DIR or ERGATES_STATE names another place"
        )
    return place


def place_of(directory: Path, *, state: Path | None = None) -> Path:
    """Where the state directory of `directory` is or would be; creates nothing."""
    return _place(directory, state, os.environ, MOUNTINFO).root


def make_worker_dir(
    *, named: Path | None = None, env: Mapping[str, str] | None = None, mountinfo: Path = MOUNTINFO
) -> Path:
    """Where the workers of a cluster keep spools, packs and scratch directories on this host; all of one user share it.

    Args:
        named: what the user wants instead.
        env: the environment; None is this process's.
        mountinfo: list of mounts, as in proc(5).

    Raises:
        UsageError: it cannot be created or written; the message says what to do.
    """
    root = (
        Path(os.path.abspath(named.expanduser()))
        if named
        else _local_base(os.environ if env is None else env, mountinfo)
    )
    if named is None:
        if root == _fallback():
            _make_fallback()
        root = root / "worker"
    for part in (root, root / "workers", root / "jobs"):
        _make(part, f"{root} cannot hold what workers keep")
    if not os.access(root, os.W_OK | os.X_OK):
        raise UsageError(f"{root}: no right to write\n  {_HINT}")
    return root


def _place(directory: Path, state: Path | None, env: Mapping[str, str], mountinfo: Path) -> StateDir:
    named = state or (Path(env["ERGATES_STATE"]) if env.get("ERGATES_STATE") else None)
    if named is not None:
        root = Path(os.path.abspath(named.expanduser()))
        return StateDir(root=root, journal="delete" if is_network(file_system_of(root, mountinfo)) else "wal")
    directory = directory.resolve()
    here = directory / NAME
    kind = file_system_of(here, mountinfo)
    if not is_network(kind):
        return StateDir(root=here, journal="wal")
    if (here / DATABASE).exists():  # somebody began it here with --state: go on with it
        return StateDir(root=here, journal="delete")
    root = _pointed_to(here) or _local_root(directory, env, mountinfo)
    note = f"{directory} lies on a network file system ({kind}); its state is kept on this host in {root}"
    return StateDir(root=root, journal="wal", note=note)


def _local_root(directory: Path, env: Mapping[str, str], mountinfo: Path) -> Path:
    return _local_base(env, mountinfo) / hashlib.sha256(os.fsencode(directory)).hexdigest()[:16]


def _local_base(env: Mapping[str, str], mountinfo: Path) -> Path:
    """Under XDG_STATE_HOME; where homes are on the network, too, under /var/tmp, which outlives a reboot."""
    home = env.get("HOME") or os.path.expanduser("~")
    base = Path(env.get("XDG_STATE_HOME") or os.path.join(home, ".local", "state")) / "ergates"
    if is_network(file_system_of(base, mountinfo)):
        return _fallback()
    return base


def _fallback() -> Path:
    return Path(f"/var/tmp/ergates-{os.geteuid()}")


def _make_fallback() -> None:
    """Everybody may write to /var/tmp: what is there already must be a directory of ours."""
    base = _fallback()
    _make(base, "the state of a directory on a network file system")
    if base.is_symlink() or base.stat().st_uid != os.geteuid():
        raise UsageError(f"{base} belongs to somebody else\n  {_HINT}")


def _pointer(here: Path) -> Path:
    return here / f"elsewhere-on-{os.uname().nodename}"


def _pointed_to(here: Path) -> Path | None:
    try:
        text = _pointer(here).read_text().strip()
    except (FileNotFoundError, PermissionError, NotADirectoryError):
        return None
    root = Path(text)
    return root if root.is_absolute() and root.is_dir() else None


def _leave_pointer(directory: Path, root: Path) -> None:
    """For people, and for a later start with another XDG_STATE_HOME. A share that cannot be written goes without."""
    here = directory.resolve() / NAME
    pointer = _pointer(here)
    if _pointed_to(here) == root or not os.access(directory, os.W_OK):
        return
    _make(here, str(directory))
    pointer.write_text(f"{root}\n")


def _make(path: Path, what: str) -> None:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except FileExistsError as error:
        raise UsageError(f"{what}: {path} is in the way: it is no directory\n  {_HINT}") from error
    except OSError as error:
        raise UsageError(f"{what}: {path} cannot be created: {error.strerror}\n  {_HINT}") from error
