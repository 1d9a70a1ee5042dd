"""Copies of a private store: one consistent file out of a running server, checked; and a server started from such a file.

The server itself writes the snapshot, of one moment, while it goes on. A restored server takes it as the base of its log.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

from ergates.drivers.stores.address import StoreAddress
from ergates.drivers.stores.first_contact import explained
from ergates.drivers.stores.open_cluster import client_factory
from ergates.drivers.stores.private_server import PrivateServer
from ergates.errors import StoreError, UsageError

_LOOK_S = 0.05
_LOG_FOLDER, _BASE = "appendonlydir", "appendonly.aof.1.base.rdb"
"""Names of the server's own: its defaults, which the configuration leaves alone."""


def back_up(server: PrivateServer, program: str, target: Path) -> int:
    """Write a snapshot of the running server to `target`, readable by its owner only; returns its size in bytes.

    Raises:
        UsageError: the file exists, or its folder does not.
        StoreError: the server could not write it, or what it wrote is damaged.
    """
    if target.exists():
        raise UsageError(f"{target} is there already\n  hint: name another file, or remove it")
    if not target.absolute().parent.is_dir():
        raise UsageError(f"{target.absolute().parent}: no such folder")
    snapshot = server.data / "backup.rdb"
    _save(server.admin(), server)
    try:
        check(program, snapshot)
        _copy(snapshot, target)
    finally:
        snapshot.unlink(missing_ok=True)
    return target.stat().st_size


def restore(server: PrivateServer, program: str, source: Path) -> None:
    """Lay a snapshot down as the data of a server that is not running and has none yet.

    Raises:
        UsageError: there is data already, or no such file.
        StoreError: the file is damaged.
    """
    if not source.is_file():
        raise UsageError(f"--from {source}: no such file")
    log = server.data / _LOG_FOLDER
    if log.exists():
        raise UsageError(
            f"{server.data}: there is data already, which a restored store would replace"
            f"\n  hint: erg store up --state ANOTHER, or move {server.data} away"
        )
    check(program, source)
    server.data.mkdir(mode=0o700, exist_ok=True)
    prepared = server.data / f"{_LOG_FOLDER}.partial"
    shutil.rmtree(prepared, ignore_errors=True)
    prepared.mkdir(mode=0o700)
    _copy(source, prepared / _BASE)
    (prepared / "appendonly.aof.manifest").write_text(f"file {_BASE} seq 1 type b\n")
    prepared.rename(log)


def check(program: str, snapshot: Path) -> None:
    """Read a snapshot from end to end, its check sum included. The server's program does it under another name.

    Raises:
        StoreError: it is damaged, or no snapshot at all.
    """
    name = Path(program).name.replace("-server", "-check-rdb")
    done = subprocess.run(
        [name, str(snapshot)], executable=program, capture_output=True, text=True, errors="replace", check=False
    )
    if done.returncode != 0 or "RDB looks OK" not in done.stdout:
        words = [line for line in done.stdout.splitlines() if line.startswith("[offset")]
        raise StoreError(
            f"{snapshot}: no whole snapshot of a store: {words[-1] if words else done.stderr.strip()}"
            "\n  expected: a file that `erg store backup` wrote"
        )


def _save(address: StoreAddress, server: PrivateServer) -> None:
    from redis.exceptions import RedisError

    client: Any = client_factory(address)()
    try:
        before = _saves(client)["rdb_saves"]
        client.execute_command("BGSAVE", "SCHEDULE")
        while (now := _saves(client))["rdb_saves"] == before or now["rdb_bgsave_in_progress"]:
            time.sleep(_LOOK_S)  # the end of it is announced to nobody
        if now["rdb_last_bgsave_status"] != "ok":
            raise StoreError(
                f"{address}: the server could not write the snapshot\n  its log: {server.log}: {server.last_words()}"
            )
    except RedisError as error:
        raise explained(error, address) from error
    finally:
        client.close()


def _saves(client: Any) -> dict[str, Any]:
    found: dict[str, Any] = client.info("persistence")
    return found


def _copy(source: Path, target: Path) -> None:
    """All of it on the disk before it has its name."""
    partial = target.with_name(f".{target.name}.partial")
    partial.unlink(missing_ok=True)
    fd = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "wb") as out, source.open("rb") as data:
            shutil.copyfileobj(data, out, 1 << 20)
            out.flush()
            os.fsync(out.fileno())
        partial.replace(target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
