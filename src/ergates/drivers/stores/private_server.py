"""A Redis or Valkey of one's own: found, configured, started as a daemon, stopped without losing anything.

Everything lies in one directory (`.ergates/store/`, rights 0700). Whether it runs is told by the process itself, its number and
its start time, never by a file alone; and the running server holds a lock on `data.lock`, so that no two ever write one log.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import select
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from ergates.drivers.machine import boot_id, pid_start_ticks
from ergates.drivers.stores.address import StoreAddress
from ergates.drivers.stores.first_contact import MAJOR_MIN, explained
from ergates.drivers.stores.open_cluster import client_factory
from ergates.drivers.stores.private_files import (
    ADMIN,
    USER,
    ServerSettings,
    configuration,
    make_certificate,
    users,
)
from ergates.drivers.stores.store_file import read_store_file, store_file_text, write_private
from ergates.errors import StoreError, UsageError

PROGRAMS = ("valkey-server", "redis-server")
START_S = 20.0
STOP_S = 120.0
LOCK_S = 5.0
_LOOK_S = 0.02
_PORT_TRIES = 5
_COMPLAINT = re.compile(
    r"fatal|fail|error|can't|cannot|could not|unable|no space|crashed|denied|in use|bad |wrong|unknown", re.IGNORECASE
)
"""The servers' own levels do not tell a greeting from a complaint."""


class ServerRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Kept in `server.json`: the settings for the next start, and who was started last."""

    settings: ServerSettings
    program: str
    pid: int = 0
    pid_start_ticks: int = 0
    boot_id: str = ""


class PrivateServer:
    """The private store of one state directory.

    Args:
        root: the state directory; it must exist.
        environment: variables that the server gets; nothing else of ours reaches it.
    """

    def __init__(self, root: Path, environment: Mapping[str, str] | None = None) -> None:
        self._environment = {"PATH": os.defpath, "LANG": "C.UTF-8", **(environment or {})}
        self.folder = root / "store"
        self.store_file = root / "store.toml"
        self.admin_file = self.folder / "admin.toml"
        self.log = self.folder / "server.log"
        self.data = self.folder / "data"

    def record(self) -> ServerRecord | None:
        """What was started here last, None if nothing ever was."""
        try:
            return msgspec.json.decode((self.folder / "server.json").read_bytes(), type=ServerRecord)
        except FileNotFoundError:
            return None
        except msgspec.DecodeError as error:
            raise StoreError(f"{self.folder / 'server.json'}: not what `erg store up` wrote: {error}") from error

    def running(self) -> ServerRecord | None:
        """The record of the server when that very process lives."""
        record = self.record()
        if record is None or not record.pid or record.boot_id != boot_id():
            return None
        return record if _lives(record) else None

    def admin(self) -> StoreAddress:
        """How `erg store` itself gets in. Raises UsageError when nothing was ever started here."""
        return read_store_file(self.admin_file, origin="erg store")

    @contextmanager
    def alone(self) -> Iterator[None]:
        """One `erg store` at a time."""
        self.folder.mkdir(mode=0o700, exist_ok=True)
        fd = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def start(self, settings: ServerSettings, program: str, say: Callable[[str], None]) -> ServerRecord:
        """Start it and wait until it answers; the port is chosen here when it is 0.

        Args:
            settings: how it is to be reached.
            program: the server's, see `find_program`.
            say: told once when it takes long.

        Raises:
            StoreError: it does not start; the message says what it said.
        """
        self.data.mkdir(mode=0o700, exist_ok=True)
        lock = self._lock_of_data()
        try:
            return self._start(settings, program, say, lock)
        finally:
            os.close(lock)

    def _start(self, settings: ServerSettings, program: str, say: Callable[[str], None], lock: int) -> ServerRecord:
        chosen, before = bool(settings.port or settings.socket), self.record()
        for attempt in range(_PORT_TRIES):
            wanted = settings if chosen else msgspec.structs.replace(settings, port=_free_port())
            self._write_files(wanted)
            begin = self.log.stat().st_size if self.log.exists() else 0
            pid = self._spawn(program, lock)
            record = ServerRecord(
                settings=wanted, program=program, pid=pid, pid_start_ticks=pid_start_ticks(pid), boot_id=boot_id()
            )
            self._keep(record)
            said = self._wait_until_ready(record, begin, say)
            if said is None:
                self._refuse_lossy_start(record, begin)
                return record
            self._keep(before)
            if chosen or "in use" not in said or attempt == _PORT_TRIES - 1:
                hint = "\n  hint: erg store up --port PORT takes another" if "in use" in said else ""
                raise StoreError(f"{program} did not start: {said}\n  its log: {self.log}{hint}")
        raise AssertionError("unreachable")

    def _refuse_lossy_start(self, record: ServerRecord, begin: int) -> None:
        """A server that could not read all of its own log back says so in a line, and begins with the rest."""
        with self.log.open("rb") as file:
            file.seek(begin)
            lossy = next((line for line in file if b"== CRITICAL ==" in line), None)
        if lossy is not None:
            self.stop(record)
            raise StoreError(
                f"{self.data}: the server skipped parts of its own log, and was stopped again: nothing is lost yet"
                f"\n  {lossy.decode(errors='replace').strip()[:400]}"
            )

    def stop(self, record: ServerRecord, *, force: bool = False) -> None:
        """Ask it to end, everything written to the disk, and wait until it has.

        Args:
            record: of the server that runs.
            force: signal it when it does not answer.

        Raises:
            StoreError: it does not end, and why.
        """
        pidfd = os.pidfd_open(record.pid)
        try:
            self._ask_to_end(force, pidfd)
            if not select.select([pidfd], [], [], STOP_S)[0]:
                raise StoreError(f"the store (pid {record.pid}) does not end\n  its log: {self.log}")
        finally:
            os.close(pidfd)

    def _ask_to_end(self, force: bool, pidfd: int) -> None:
        from redis.exceptions import RedisError, ResponseError

        address = self.admin()
        client: Any = client_factory(address)()
        try:
            client.ping()
        except RedisError as error:
            if not force:
                trouble = explained(error, address)
                raise type(trouble)(f"{trouble}\n  hint: erg store down --force sends it a signal") from error
            signal.pidfd_send_signal(pidfd, signal.SIGTERM)
            return
        finally:
            client.close()
        try:
            client.execute_command("SHUTDOWN")
        except ResponseError as error:
            raise StoreError(
                f"{address}: it does not end: {error}\n  its log: {self.log}: {self.last_words()}"
            ) from error
        except RedisError:
            return  # its end closes the connection; a long one takes longer than we wait for an answer

    def last_words(self, begin: int = 0) -> str:
        """What its log complains about since `begin`."""
        try:
            text = self.log.read_bytes()[begin:].decode(errors="replace")
        except FileNotFoundError:
            return ""
        complaints = [line for line in text.splitlines() if _COMPLAINT.search(line) and "WARNING" not in line]
        return "; ".join(line.partition(" # ")[2] or line for line in complaints[-3:])

    def _write_files(self, settings: ServerSettings) -> None:
        loopback = ServerSettings().name
        before = self.record()
        tls = self.folder / "tls"
        renamed = before is None or before.settings.name != settings.name
        if settings.tls and (renamed or not (tls / "server.key").exists()):
            make_certificate(tls, settings)
        common = StoreAddress(
            hosts=((settings.name, settings.port),) if settings.port else (),
            socket="" if settings.port else settings.socket,
            tls=settings.tls,
            ca=str(tls / "server.crt") if settings.tls else "",
            username=USER,
            password=self._password(self.store_file),
        )
        admin = replace(
            common,
            hosts=((loopback, settings.port),) if settings.port else (),
            username=ADMIN,
            password=self._password(self.admin_file),
        )
        write_private(self.store_file, _HEADING + store_file_text(common))
        write_private(self.admin_file, store_file_text(admin))
        write_private(self.folder / "users.acl", users(common.password, admin.password))
        write_private(self.folder / "server.conf", configuration(self.folder, settings))

    def _password(self, path: Path) -> str:
        """The one that is known already, so that workers need not be told a new one after a restart."""
        return read_store_file(path).password if path.exists() else secrets.token_urlsafe(32)

    def _keep(self, record: ServerRecord | None) -> None:
        path = self.folder / "server.json"
        if record is None:
            path.unlink(missing_ok=True)
        else:
            write_private(path, msgspec.json.encode(record).decode())

    def _lock_of_data(self) -> int:
        lock = os.open(self.folder / "data.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _take(lock)
        except BlockingIOError:
            os.close(lock)
            raise StoreError(
                f"{self.data}: a server that `erg store` does not know of uses it\n  hint: fuser {self.folder / 'data.lock'}"
            ) from None
        return lock

    def _spawn(self, program: str, lock: int) -> int:
        """The daemon: a session of its own, nothing of our environment, the lock of its data inherited."""
        log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        try:
            os.set_inheritable(lock, True)
            actions = [(os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, log, 1), (os.POSIX_SPAWN_DUP2, log, 2)]
            arguments = [program, str(self.folder / "server.conf")]
            return os.posix_spawn(program, arguments, self._environment, file_actions=actions, setsid=True)
        finally:
            os.set_inheritable(lock, False)
            os.close(log)
            os.close(null)

    def _wait_until_ready(self, record: ServerRecord, begin: int, say: Callable[[str], None]) -> str | None:
        """None when it answers, else what it said before it ended. Nothing announces that a server is ready: we ask."""
        from redis import exceptions as said

        address = self.admin()
        client = client_factory(address)()
        until, told = time.monotonic() + START_S, False
        try:
            while True:
                time.sleep(_LOOK_S)
                if os.waitpid(record.pid, os.WNOHANG)[0]:
                    return self.last_words(begin) or "it ended at once"
                try:
                    client.ping()
                    return None
                except said.BusyLoadingError:
                    until = time.monotonic() + START_S
                    if not told:
                        told = True
                        say("the store is loading its data")
                except (
                    said.RedisError
                ) as error:  # also of somebody else's server: ours ends when it finds its port taken
                    if time.monotonic() > until:
                        raise explained(error, address) from error
        finally:
            client.close()


_HEADING = """# How to get into the store that `erg store up` started here. It holds a password: only its owner may read it.
# --store FILE, or ERGATES_STORE=FILE; other machines need a copy.
"""


def find_program(named: str | None) -> tuple[str, str]:
    """(path, version) of a server that is new enough.

    Args:
        named: what the user wants to be used; None looks for one.

    Raises:
        StoreError, UsageError: there is none.
    """
    path = f"{os.environ.get('PATH', os.defpath)}:/usr/local/bin:/usr/bin:/usr/sbin:/sbin"
    too_old = []
    for name in (named,) if named else PROGRAMS:
        found = shutil.which(name, path=path)
        if found is None:
            continue
        said = subprocess.run([found, "--version"], capture_output=True, text=True, check=False).stdout
        version = re.search(r"v=(\d+)(\.\d+)*", said)
        if version is not None and int(version[1]) >= MAJOR_MIN:
            return os.path.abspath(found), version[0].removeprefix("v=")
        too_old.append(f"{found} is {version[0].removeprefix('v=') if version else 'no such server'}")
    if named and not too_old:
        raise UsageError(f"--server {named}: no such program")
    what = "; ".join(too_old) or f"neither {' nor '.join(PROGRAMS)} is installed here"
    raise StoreError(
        f"{what}\n  expected: Redis {MAJOR_MIN} or newer, or Valkey"
        "\n  hint: apt install redis-server    (or valkey-server; it need not run as a service: systemctl disable --now it)"
    )


def _take(lock: int) -> None:
    """A server that was killed may leave a child that still writes a file of its own: it ends soon."""
    until = time.monotonic() + LOCK_S
    while True:
        try:
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                raise
        time.sleep(_LOOK_S)


def _lives(record: ServerRecord) -> bool:
    """Whether this very process runs: a number can be somebody else's by now, and a zombie runs no more."""
    try:
        fields = Path(f"/proc/{record.pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return fields[0] not in ("Z", "X") and int(fields[19]) == record.pid_start_ticks


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
