"""The store on which an experiment's runs are, where it takes more than one host: a private one of its folder, or the user's.

Where all hosts are this machine the private one is reached by a Unix socket, through network namespaces too, so that nothing
listens anywhere. Killed, it is started on its own log again.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ergates.conductor.host_groups import all_here
from ergates.drivers.hosts.local_workers import MARK, Place
from ergates.drivers.stores.address import StoreAddress
from ergates.drivers.stores.private_files import ServerSettings, is_any, is_loopback
from ergates.drivers.stores.private_server import PrivateServer, ServerRecord, find_program
from ergates.drivers.stores.store_file import read_store_file, store_address, store_file_text, write_private
from ergates.errors import ErgatesError, StoreError, UsageError
from ergates.experiment.spec import Experiment

if TYPE_CHECKING:
    from ergates.drivers.stores.redis.store import RedisStore

SOCKET_PATH_MAX = 100
"""The kernel takes 107 bytes."""


class RunStore:
    """Args: see `hosts_of`."""

    def __init__(self, experiment: Experiment, place: Place, say: Callable[[str], None]) -> None:
        self._experiment, self._place, self._say = experiment, place, say
        self._private = None if experiment.store else PrivateServer(place.folder, {MARK: place.mark})
        self.file = place.folder / "store.toml"
        """How workers get in."""

    def check(self) -> None:
        """Whether it can be had; starts nothing.

        Raises:
            UsageError: a program or a library is missing, or the file names it wrongly.
        """
        from ergates.drivers.stores.open_cluster import need_client_library

        why = "runs of several hosts need a store"
        try:
            need_client_library(why)
        except StoreError as error:
            raise UsageError(str(error)) from error
        try:
            if self._private is None:
                by_socket = bool(self._users_address().socket)
            else:
                find_program(None)
                by_socket = all_here(self._experiment)
        except StoreError as error:
            raise UsageError(f"{why}: {error}") from error
        apart = [group.name for group in self._experiment.hosts if group.kind == "namespaces"]
        if apart and not by_socket:
            raise UsageError(
                f"hosts.{apart[0]}: network namespaces reach a store by its Unix socket alone"
                "\n  expected: no `store` in [experiment], and no hosts by ssh or Slurm beside them"
            )

    def running(self) -> ServerRecord | None:
        """The private server that an earlier attempt left running, if it answers; one that does not is nobody's."""
        record = None if self._private is None else self._private.running()
        return record if record is not None and self._answers() else None

    def up(self) -> None:
        """Start the private one unless it runs; write the file for workers.

        Raises:
            StoreError: it does not start.
        """
        if self._private is None:
            address = self._users_address()
            write_private(self.file, store_file_text(address))
            return
        with self._private.alone():
            if self._private.running() is None:
                self._private.start(self._settings(), find_program(None)[0], self._say)

    def open(self) -> RedisStore:
        """A client of it. Raises StoreError."""
        from ergates.drivers.stores.open_cluster import open_cluster_store

        return open_cluster_store(read_store_file(self.file, origin="erg experiment"))

    def revive(self) -> bool:
        """Start the private one again when it died; whether it had."""
        if self._private is None or self._private.running() is not None:
            return False
        self._say("the store of the runs died, and is started again")
        self.up()
        return True

    def down(self) -> None:
        """Stop the private one; everything is on the disk before."""
        if self._private is None:
            return
        with self._private.alone():
            record = self._private.running()
            if record is not None:
                self._private.stop(record, force=True)
        with suppress(OSError):
            _short_folder(self._place).rmdir()

    def _answers(self) -> bool:
        assert self._private is not None
        from redis.exceptions import RedisError

        from ergates.drivers.stores.open_cluster import client_factory

        client = client_factory(self._private.admin())()
        try:
            client.ping()
        except (RedisError, OSError, ErgatesError):
            return False
        finally:
            client.close()
        return True

    def _users_address(self) -> StoreAddress:
        named = self._experiment.store
        text = named if "://" in named else str(Path(self._experiment.here) / named)
        return store_address(text, origin=f"{self._experiment.source}: store")

    def _settings(self) -> ServerSettings:
        assert self._private is not None
        before = self._private.record()
        if all_here(self._experiment):
            return ServerSettings(socket=_socket(self._place))
        listen = self._experiment.listen or ServerSettings().listen
        name = os.uname().nodename if is_any(listen) else listen
        port = before.settings.port if before is not None else 0
        return ServerSettings(listen=listen, name=name, tls=not is_loopback(listen), port=port)


def _socket(place: Place) -> str:
    """In the store's folder; in a folder of ours alone where the path would be too long for a socket."""
    path = place.folder / "store" / "socket"
    if len(os.fsencode(path)) <= SOCKET_PATH_MAX:
        return str(path)
    folder = _short_folder(place)
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise StoreError(f"{folder}: others could get at the store there\n  hint: remove it, or set TMPDIR")
    return str(folder / "socket")


def _short_folder(place: Place) -> Path:
    return Path(tempfile.gettempdir()) / f"erg-{os.geteuid()}-{place.mark[:12]}"
