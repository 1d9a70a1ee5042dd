"""What the verbs of `erg worker slurm` share: options of an allocation, the pool they mean, and the script they submit."""

from __future__ import annotations

import os
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ergates.cli.options import BYTES, DURATION, PAIR, applied
from ergates.errors import UsageError
from ergates.units import SECOND_NS

if TYPE_CHECKING:
    from ergates.cluster.node import NodeCapacity
    from ergates.drivers.placers.slurm import Slurm
    from ergates.drivers.placers.slurm_array import Pool, Shape
    from ergates.drivers.placers.slurm_pool import PoolFolder
    from ergates.drivers.stores.address import StoreAddress

SHORTEST_NS = 60 * SECOND_NS
"""Slurm counts whole minutes."""
DRAIN_SHARE = 5
"""Without `--drain-before`, a fifth of a short walltime is kept for draining, two minutes of a long one."""
DRAIN_NS = 120 * SECOND_NS

pool_options = applied(
    (
        click.option(
            "--name", default="main", show_default=True, metavar="NAME", help="Of this pool: a queue may have several."
        ),
        click.option(
            "--folder",
            envvar="ERGATES_SLURM_FOLDER",
            type=click.Path(file_okay=False, path_type=Path),
            help="Logs and notes, where login nodes and nodes both see it.  [default: ~/.local/state/ergates/slurm]",
        ),
    )
)
allocation_options = applied(
    (
        click.option("--time", "walltime_ns", type=DURATION, required=True, help="Walltime of each allocation."),
        click.option("--partition", default="", metavar="NAME"),
        click.option("--account", default="", metavar="NAME"),
        click.option("--qos", default="", metavar="NAME"),
        click.option("--constraint", default="", metavar="FEATURES"),
        click.option(
            "--cpus", type=click.IntRange(1), help="Cores of each worker.  [default: a whole node of its own]"
        ),
        click.option("--memory", type=BYTES, help="Memory of each worker.  [default: a whole node of its own]"),
        click.option(
            "--array-at-most",
            default=1000,
            show_default=True,
            type=click.IntRange(1),
            help="Elements of one job array.",
        ),
        click.option(
            "--idle-timeout",
            "idle_ns",
            type=DURATION,
            default="5m",
            show_default=True,
            help="A worker without work ends after this.",
        ),
        click.option(
            "--drain-before",
            "drain_ns",
            type=DURATION,
            help="So long before its end a worker takes nothing new.  [default: 2m, of a short --time less]",
        ),
        click.option(
            "--label", "labels", type=PAIR, multiple=True, metavar="NAME=VALUE", help="A label of these workers."
        ),
        click.option(
            "--setup",
            type=click.Path(dir_okay=False, path_type=Path),
            help="Shell lines run first in each allocation (`module load ...`).",
        ),
        click.option(
            "--erg", "erg", metavar="COMMAND", help="How the nodes call erg.  [default: this Python, by its path]"
        ),
        click.option("--dry-run", is_flag=True, help="Show what would be submitted; submit nothing."),
        pool_options,
    )
)


@dataclass(frozen=True, slots=True)
class Plan:
    """What was asked for on the command line, checked."""

    pool: Pool
    shape: Shape
    folder: PoolFolder
    script: str
    drain_ns: int


def pool_of(address: StoreAddress, name: str) -> Pool:
    """Raises UsageError for a name that could not stand in a comment."""
    from ergates.drivers.placers.slurm_array import Pool, store_digest
    from ergates.drivers.stores.address import checked_queue

    checked_queue(name, "--name")
    return Pool(queue=address.queue, store=store_digest(address.url), name=name)


def pool_root(folder: Path | None) -> Path:
    """Where pools keep their folders."""
    if folder is not None:
        return folder.expanduser().absolute()
    state_home = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(state_home).absolute() / "ergates" / "slurm"


def plan_of(address: StoreAddress, sbatch_options: tuple[str, ...], options: dict[str, Any]) -> Plan:
    """Everything that a submission needs.

    Raises:
        UsageError: an option is not what it should be.
    """
    from ergates.drivers.placers.slurm_array import Shape, checked_extra, script
    from ergates.drivers.placers.slurm_pool import PoolFolder

    walltime_ns = options["walltime_ns"]
    if walltime_ns < SHORTEST_NS:
        raise UsageError("--time: Slurm counts whole minutes\n  expected: at least 1m")
    drain_ns = options["drain_ns"]
    if drain_ns is None:
        drain_ns = min(DRAIN_NS, walltime_ns // DRAIN_SHARE)
    if drain_ns >= walltime_ns:
        raise UsageError("--drain-before: a worker would drain from its start\n  expected: less than --time")
    pool = pool_of(address, options["name"])
    folder = PoolFolder(pool_root(options["folder"]), pool)
    shape = Shape(
        walltime_ns=walltime_ns, partition=options["partition"], account=options["account"], qos=options["qos"],
        constraint=options["constraint"], cpus=options["cpus"], memory_bytes=options["memory"],
        extra=checked_extra(sbatch_options),
    )  # fmt: skip
    worker = [
        *_erg(options["erg"]), "worker", "slurm", "join", f"--store={folder.store_file(address)}",
        f"--walltime={walltime_ns // SECOND_NS}", "--", f"--drain-before={_seconds(drain_ns)}",
        f"--idle-timeout={_seconds(options['idle_ns'])}", *(f"--label={name}={value}" for name, value in options["labels"]),
    ]  # fmt: skip
    return Plan(pool, shape, folder, script(worker, _setup(options["setup"])), drain_ns)


def expected_capacity(slurm: Slurm, plan: Plan, labels: dict[str, str]) -> NodeCapacity:
    """What a worker would have, before one was seen: what is asked for, else the smallest node of the partition.

    Raises:
        UsageError: there is no such partition, or it does not allow the walltime.
        SlurmError: Slurm does not answer.
    """
    from ergates.cluster.node import NodeCapacity
    from ergates.units import MIB, Bytes, MilliCpus

    partition = slurm.check(plan.shape)
    cpus = plan.shape.cpus or (1 if plan.shape.memory_bytes else 0) or (partition.cpus if partition else 1)
    memory = plan.shape.memory_bytes or Bytes((partition.memory_mib if partition else 1) * MIB)
    found = {"partition": partition.name, **labels} if partition else labels
    return NodeCapacity(cpus_milli=MilliCpus(cpus * 1000), memory_bytes=memory, labels=found)


def _erg(command: str | None) -> list[str]:
    if command is None:
        return [sys.executable, "-m", "ergates"]
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise UsageError(f"--erg {command!r}: {error}\n  expected: a command such as /shared/venv/bin/erg") from None
    if not words:
        raise UsageError("--erg: empty\n  expected: a command such as /shared/venv/bin/erg")
    return words


def _setup(path: Path | None) -> str:
    if path is None:
        return ""
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise UsageError(f"--setup {path}: {reason}\n  expected: shell lines") from error


def _seconds(duration_ns: int) -> str:
    return f"{duration_ns / SECOND_NS:g}s"
