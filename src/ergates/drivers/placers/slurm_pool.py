"""The folder of a pool: what must survive the process that places its workers, whatever kills it.

Before each submission a word (the *token*) is written down, and sbatch is given it as part of the comment. If we die before
the answer comes, the token is looked for in squeue: found, the allocations are ours; not found for a while, nothing was
submitted. Until then they count as asked for, so a kill at any moment asks for nothing twice. A lock keeps a second process
out; sbatch holds it too, so that one which outlives us is awaited.
"""

from __future__ import annotations

import fcntl
import os
import re
import uuid
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import msgspec
from msgspec import Struct

from ergates.drivers.machine import host_name, pid_start_ticks
from ergates.drivers.placers.slurm_array import Pool
from ergates.drivers.placers.slurm_records import SlurmAllocation
from ergates.drivers.stores.address import StoreAddress
from ergates.drivers.stores.store_file import read_store_file, store_file_text, write_private
from ergates.errors import UsageError
from ergates.units import SECOND_NS, Nanoseconds

UNCONFIRMED_NS = 180 * SECOND_NS
"""Longer than sbatch waits for an answer: after that, what is not in squeue was not submitted."""
_JOBS_KEPT = 200
_LOGS_KEPT = 200


class Intent(Struct, frozen=True, kw_only=True):
    """A submission whose answer is not known."""

    token: str
    count: int
    at_ns: Nanoseconds


class _Kept(Struct, frozen=True, kw_only=True):
    """`jobs`: arrays that were submitted, the newest last: ours even where a site's plugin rewrites comments."""

    intent: Intent | None = None
    jobs: tuple[str, ...] = ()


class PoolFolder:
    """One pool's folder, on a file system that nodes and login nodes share; nobody else may look into it.

    Args:
        root: of all pools; made when it is missing.
        pool: whose it is.

    Raises:
        UsageError: it cannot be made.
    """

    def __init__(self, root: Path, pool: Pool) -> None:
        self.pool = pool
        self.path = root / f"{pool.queue}@{pool.store}" / pool.name
        self._fd = -1
        try:
            (self.path / "logs").mkdir(mode=0o700, parents=True, exist_ok=True)
            for folder in (self.path.parent, self.path):
                folder.chmod(0o700)
        except OSError as error:
            raise UsageError(
                f"{self.path}: {error.strerror}\n  expected: a folder that this machine and the nodes share"
                "\n  hint: --folder DIR"
            ) from error
        self._kept = self._read()

    # --- one process at a time -----------------------------------------------------------------------

    def lock(self) -> int:
        """Become the one that places workers of this pool; returns the descriptor that sbatch is to hold.

        Of a process that was killed only its sbatch may be left: the end of that is awaited, it takes seconds.

        Raises:
            UsageError: another process is that now.
        """
        fd = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(fd, 200, 0).decode(errors="replace").strip()
            if _lives(holder):
                os.close(fd)
                raise UsageError(
                    f"workers of {self.pool.mark} are placed by {holder or 'another process'}\n"
                    "  hint: stop that process first, or use another --name"
                ) from None
            fcntl.flock(fd, fcntl.LOCK_EX)
        os.ftruncate(fd, 0)
        os.pwrite(fd, _holder(os.getpid()).encode(), 0)
        self._fd = fd
        self._kept = self._read()
        return fd

    def unlock(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    # --- what was asked for ----------------------------------------------------------------------------

    def intend(self, count: int, now_ns: Nanoseconds) -> str:
        """Write down that `count` allocations are about to be asked for; returns the token for the comment."""
        assert self._kept.intent is None, "the last submission is still open"
        token = uuid.uuid4().hex[:12]
        self._keep(intent=Intent(token=token, count=count, at_ns=now_ns))
        return token

    def settle(self, job: str = "") -> None:
        """The answer came: this job, or a refusal."""
        self._keep(intent=None, job=job)

    def open_intent(self, rows: Iterable[SlurmAllocation], now_ns: Nanoseconds) -> Intent | None:
        """The submission that may still turn up, after a look at what is there."""
        intent = self._kept.intent
        if intent is None:
            return None
        job = next((row.job for row in rows if row.comment.endswith(f" {intent.token}")), "")
        if job or not 0 <= now_ns - intent.at_ns < UNCONFIRMED_NS:
            self.settle(job)
            return None
        return intent

    def ours(self, rows: Iterable[SlurmAllocation]) -> list[SlurmAllocation]:
        """Those of this pool."""
        jobs = frozenset(self._kept.jobs)
        return [row for row in rows if self.pool.owns(row.comment) or row.job in jobs]

    # --- files -----------------------------------------------------------------------------------------

    def store_file(self, address: StoreAddress) -> Path:
        """The store file that workers read: the one that was named, or a copy for those who named a URL."""
        named = Path(address.origin).absolute()
        if named.is_file() and read_store_file(named) == replace(address, origin=str(named)):
            return named
        path = self.path / "store.toml"
        write_private(path, store_file_text(address))
        return path

    def logs(self) -> Path:
        """Where allocations write what their workers say; the oldest files are removed."""
        folder = self.path / "logs"
        files = sorted(folder.glob("*.log"), key=lambda path: path.stat().st_mtime_ns)
        for path in files[:-_LOGS_KEPT]:
            path.unlink(missing_ok=True)
        return folder

    def _read(self) -> _Kept:
        try:
            return msgspec.json.decode((self.path / "submitted.json").read_bytes(), type=_Kept)
        except FileNotFoundError:
            return _Kept()
        except msgspec.MsgspecError as error:
            raise UsageError(
                f"{self.path / 'submitted.json'}: {error}\n  hint: remove it when `squeue` shows nothing of {self.pool.job_name}"
            ) from error

    def _keep(self, *, intent: Intent | None, job: str = "") -> None:
        jobs = (*self._kept.jobs, job)[-_JOBS_KEPT:] if job else self._kept.jobs
        self._kept = _Kept(intent=intent, jobs=jobs)
        write_private(self.path / "submitted.json", msgspec.json.encode(self._kept).decode())


def _holder(pid: int) -> str:
    return f"process {pid} on {host_name()}"


def _lives(holder: str) -> bool:
    """Whether a holder of the lock may still live: provably not when it was here and its process is gone."""
    match = re.fullmatch(r"process (\d+) on (.*)", holder)
    return match is None or match[2] != host_name() or pid_start_ticks(int(match[1])) != 0
