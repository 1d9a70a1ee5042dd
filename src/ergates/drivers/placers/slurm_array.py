"""What is asked of sbatch: its arguments, and the script that starts one worker in each allocation. Pure.

Every element of the array is one node with one worker. The script goes in on standard input and holds no secret: it names
the store file. Arguments are quoted for the shell; what the user wants to run before (`--setup`) stands above as it is.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

from ergates.drivers.placers.slurm_records import format_time
from ergates.errors import UsageError
from ergates.units import MIB, Bytes, Nanoseconds

_OURS = tuple(
    f"--{name}"
    for name in (
        *(
            "array",
            "begin",
            "chdir",
            "cluster-constraint",
            "clusters",
            "comment",
            "dependency",
            "error",
            "input",
            "job-name",
        ),
        *("nodes", "ntasks", "open-mode", "output", "parsable", "requeue", "test-only", "time", "wait", "wrap"),
    )
)
"""Options of sbatch that are set here, or that would take the worker away from under us."""
_OURS_SHORT = frozenset("aDdeiJMnNotW")
DEFAULT_POOL = "main"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Allocations that belong together: those of one queue of one store under one name. Slurm shows it in name and comment.

    Args:
        queue: of the store.
        store: tells stores apart that have queues of the same name: a digest of the address.
        name: so that one queue can have several pools (a partition with GPUs, one without).
    """

    queue: str
    store: str
    name: str = DEFAULT_POOL

    @property
    def job_name(self) -> str:
        return f"erg:{self.queue}"

    @property
    def mark(self) -> str:
        """What the comment of each of its arrays begins with; a word that tells submissions apart follows."""
        return f"erg:{self.queue}@{self.store}/{self.name}"

    def of_store(self, comment: str) -> bool:
        """Whether a comment is of this queue, whatever the pool."""
        return comment.startswith(f"erg:{self.queue}@{self.store}/")

    def owns(self, comment: str) -> bool:
        """Whether a comment is of this pool."""
        return comment == self.mark or comment.startswith(f"{self.mark} ")


def store_digest(url: str) -> str:
    """Of an address without its password."""
    return sha256(url.encode()).hexdigest()[:10]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What each allocation is.

    Args:
        walltime_ns: its time limit.
        partition, account, qos, constraint: Slurm's own; empty for its defaults.
        cpus, memory_bytes: of one node; None for a whole node of its own.
        extra: more options of sbatch, as the user wrote them.
    """

    walltime_ns: Nanoseconds
    partition: str = ""
    account: str = ""
    qos: str = ""
    constraint: str = ""
    cpus: int | None = None
    memory_bytes: Bytes | None = None
    extra: tuple[str, ...] = ()


def sbatch_arguments(pool: Pool, shape: Shape, count: int, token: str, logs: str) -> list[str]:
    """The argument vector, `sbatch` itself included; the script is read from standard input.

    Args:
        pool: whose it is.
        shape: of each allocation.
        count: how many.
        token: names this submission, so that it is found again whatever happens.
        logs: folder on a file system that the nodes share; each allocation writes a file.
    """
    named = {
        "partition": shape.partition, "account": shape.account, "qos": shape.qos, "constraint": shape.constraint,
    }  # fmt: skip
    whole_node = shape.cpus is None and shape.memory_bytes is None
    return [
        "sbatch", "--parsable", f"--job-name={pool.job_name}", f"--comment={pool.mark} {token}",
        f"--array=0-{count - 1}", "--nodes=1", "--ntasks=1", f"--time={format_time(shape.walltime_ns)}",
        "--no-requeue", "--open-mode=append", "--input=/dev/null", f"--output={logs}/%A_%a.log",
        *([] if not whole_node else ["--exclusive", "--mem=0"]),
        *([] if shape.cpus is None else [f"--cpus-per-task={shape.cpus}"]),
        *([] if shape.memory_bytes is None else [f"--mem={-(-shape.memory_bytes // MIB)}M"]),
        *(f"--{name}={value}" for name, value in named.items() if value),
        *shape.extra,
    ]  # fmt: skip


def checked_extra(options: Sequence[str]) -> tuple[str, ...]:
    """Options of sbatch that do not undo ours.

    Raises:
        UsageError: one of them would, or is no option at all.
    """
    for option in options:
        if not option.startswith("-"):
            raise UsageError(
                f"{option!r}: not an option of sbatch\n  expected: options after --, values joined to them: -- --gres=gpu:1"
            )
        name = option.partition("=")[0]
        long = name.startswith("--") and len(name) > 3 and any(ours.startswith(name) for ours in _OURS)
        if long or (not name.startswith("--") and name[1:2] in _OURS_SHORT):
            raise UsageError(
                f"{name}: Ergates sets this option of sbatch itself\n  expected: any other option after --"
            )
    return tuple(options)


def script(worker: Sequence[str], setup: str = "") -> str:
    """The batch script.

    Args:
        worker: command that starts the worker of an allocation.
        setup: shell lines to run before, perhaps with a `#!` line of their own.
    """
    if setup.startswith("#!"):
        first, _, rest = setup.partition("\n")
    else:
        first, rest = "#!/bin/sh", setup
    lines = [first, "# Starts one worker of Ergates. No secret is in here: the worker reads the store file."]
    if rest.strip():
        lines.append(rest.rstrip("\n"))
    return "\n".join([*lines, f"exec {shlex.join(worker)}"]) + "\n"


def submission_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """What sbatch may see, and so what Slurm stores and hands on: nothing about store and ledger, which may be a password.

    Variables that set options of sbatch (SBATCH_...) stay: they are the user's. Those that set formats go.
    """
    ours = (
        "ERGATES_STORE",
        "ERGATES_LEDGER",
        "PGPASSWORD",
        "SQUEUE_",
        "SINFO_",
        "SLURM_TIME_FORMAT",
        "SBATCH_ARRAY_INX",
        "SBATCH_WAIT",
        "SBATCH_REQUEUE",
    )
    return {name: value for name, value in environment.items() if not name.startswith(ours)}
