"""What is remembered here of one cluster's hosts: their pinned keys, and where workers were placed, for `erg worker down`.

The store knows the workers that are there; this knows also a host whose worker died and left something behind.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from ergates.drivers.placers.hosts import Host

_FILE = "hosts.json"


def cluster_name(url: str) -> str:
    """A name for what a store's URL (without its password) leads to: of directories here and on the hosts."""
    return hashlib.sha256(url.encode()).hexdigest()[:12]


def cluster_dir(cluster: str, env: Mapping[str, str] = os.environ) -> Path:
    """Ours, on this machine; made where it is missing, for its owner alone."""
    state = Path(env.get("XDG_STATE_HOME") or "~/.local/state").expanduser()
    directory = state / "ergates" / "placing" / cluster
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return directory


class PlacedHosts:
    """The hosts of a cluster, kept in `directory`. Several commands at once may change it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def read(self) -> tuple[Host, ...]:
        """In the order in which they were first placed."""
        try:
            return tuple(msgspec.json.decode((self._directory / _FILE).read_bytes(), type=list[Host]))
        except FileNotFoundError:
            return ()

    def add(self, host: Host) -> None:
        """Before a worker is started there."""
        with self._locked():
            self._write([*(old for old in self.read() if old.name != host.name), host])

    def remove(self, name: str) -> None:
        """When nothing of ours is left there."""
        with self._locked():
            self._write([host for host in self.read() if host.name != name])

    def _write(self, hosts: Sequence[Host]) -> None:
        growing = self._directory / f"{_FILE}.new"
        with os.fdopen(os.open(growing, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(msgspec.json.encode(hosts))
        growing.replace(self._directory / _FILE)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        fd = os.open(self._directory / f"{_FILE}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)
