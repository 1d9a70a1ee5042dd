"""A private PostgreSQL for tests: its own cluster in a temporary directory, reached by a Unix socket and by password only."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from itertools import count
from pathlib import Path

import psycopg

from ergates.drivers.ledgers.address import LedgerAddress, ledger_address

USER, PASSWORD = "erg", "pa:ss/w?rd"
SETTINGS = "fsync = off\nlisten_addresses = ''\nmax_connections = 20\nshared_buffers = 16MB\nlc_messages = 'C'\n"


def _programs() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    beside = shutil.which("initdb")
    return found[-1].parent if found else Path(beside or "initdb").parent


class PostgresCluster:
    """Made when constructed; `start` and `stop` as often as a test likes."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="erg-pg-"))  # a short name: socket paths have little room
        self._numbers = count(1)
        if os.geteuid() == 0:
            owner = pwd.getpwnam("postgres")
            os.chown(self.folder, owner.pw_uid, owner.pw_gid)
        secret = self.folder / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)  # inside a directory that only its owner enters
        data = str(self.folder / "data")
        login = ["-U", USER, "-A", "scram-sha-256", f"--pwfile={secret}"]
        self._run("initdb", "-D", data, "-N", "-E", "UTF8", "--locale=C", *login)
        with (self.folder / "data" / "postgresql.conf").open("a") as file:
            file.write(SETTINGS + f"unix_socket_directories = '{self.folder}'\n")
        self.start()

    def start(self) -> None:
        self._run("pg_ctl", "-D", str(self.folder / "data"), "-w", "-l", str(self.folder / "log"), "start")

    def stop(self, mode: str = "fast") -> None:
        """`fast` ends connections, `immediate` is as good as kill -9."""
        self._run("pg_ctl", "-D", str(self.folder / "data"), "-w", "-m", mode, "stop")

    def close(self) -> None:
        if (self.folder / "data" / "postmaster.pid").exists():
            self.stop("immediate")
        shutil.rmtree(self.folder)

    def database(self) -> str:
        """A new, empty one."""
        name = f"d{next(self._numbers)}"
        with self.connect("postgres") as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return name

    def url(self, database: str, user: str = USER) -> str:
        return f"postgresql://{user}@/{database}?host={self.folder}"

    def address(self, database: str, user: str = USER, password: str = PASSWORD) -> LedgerAddress:
        return ledger_address(self.url(database, user), env={"ERGATES_LEDGER_PASSWORD": password})

    def connect(self, database: str) -> psycopg.Connection[tuple[object, ...]]:
        """For looking at tables; closes at the end of `with`."""
        return psycopg.connect(self.url(database), password=PASSWORD, autocommit=True)

    def _run(self, program: str, *args: str) -> None:
        argv = [str(_programs() / program), *args]
        if os.geteuid() == 0:
            argv = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", *argv]
        done = subprocess.run(argv, cwd="/", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        if done.returncode:
            log = self.folder / "log"
            raise RuntimeError(f"{program}: {done.stdout}\n{log.read_text() if log.exists() else ''}")
