"""One allocation of several whole nodes, in words: what sbatch and srun are asked for, and what squeue says of it. Pure.

The job's own script does nothing but hold the nodes: each node's worker is a step of its own, so that one that died is started
again without asking for nodes again. The comment tells whose the allocation is, whoever asks later.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path

from msgspec import Struct

from ergates.drivers.placers.slurm_array import checked_extra, submission_environment
from ergates.drivers.placers.slurm_records import format_time, parse_time
from ergates.errors import UsageError
from ergates.experiment.host import (
    ADDRESS_VARIABLE,
    HOST_VARIABLE,
    WHOLE_HOST,
    worker_labels,
)
from ergates.experiment.spec import HostGroup
from ergates.units import MIB, SECOND_NS, Nanoseconds

SQUEUE_FORMAT, STEP_FORMAT, ADDRESS_FORMAT = "%i|%T|%r|%D|%N|%L|%k", "%i|%j", "%N|%o"
HOLDER = "#!/bin/sh\n# Holds the nodes of an experiment: its workers are steps of this job.\nexec sleep infinity\n"
NO_LIMIT_S = 10 * 365 * 86_400
"""What a worker is told where the allocation has no end: join wants a number."""
_WAITING = ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT")
_KEPT = ("SLURM_CONF",)
"""Of our own allocation's variables srun would take its settings; only where Slurm is goes on."""


class Allocation(Struct, frozen=True, kw_only=True):
    """A job of several nodes, as squeue shows it. `nodes` is Slurm's short form; `left_ns` None: no limit."""

    job: str
    state: str
    reason: str
    count: int
    nodes: str
    left_ns: Nanoseconds | None
    comment: str

    @property
    def running(self) -> bool:
        return self.state == "RUNNING"

    @property
    def waiting(self) -> bool:
        return self.state in _WAITING


def mark_of(folder: Path, group: str) -> str:
    """What the comment of a group's allocation begins with, the same in every process that conducts this experiment."""
    return f"erg-experiment:{sha256(os.fsencode(folder.absolute())).hexdigest()[:12]}/{group}"


def allocation_arguments(group: HostGroup, job_name: str, mark: str) -> list[str]:
    """The argument vector, `sbatch` included, without `--comment` and output; the script comes on standard input.

    Raises:
        UsageError: the group's options undo what is set here.
    """
    try:
        extra = checked_extra(group.options)
    except UsageError as error:
        told = str(error).replace("options after --, values joined to them: -- ", "values joined to them: ")
        raise UsageError(f"hosts.{group.name}: options: {told.replace(' after --', '')}") from None
    whole_node = group.cpus_milli is None and group.memory_bytes is None
    asked = [
        "sbatch", "--parsable", f"--job-name={job_name}", f"--nodes={group.count}", "--ntasks-per-node=1",
        "--no-requeue", "--input=/dev/null",
        *([] if group.time_ns is None else [f"--time={format_time(group.time_ns)}"]),
        *(["--exclusive", "--mem=0"] if whole_node else []),
        *([] if group.cpus_milli is None else [f"--cpus-per-task={-(-group.cpus_milli // 1000)}"]),
        *([] if group.memory_bytes is None else [f"--mem={-(-group.memory_bytes // MIB)}M"]),
        *extra,
    ]  # fmt: skip
    return [*asked, f"--comment={mark} {sha256(repr(asked).encode()).hexdigest()[:10]}"]


def comment_in(arguments: Sequence[str]) -> str:
    """The comment: an allocation that has it whole was asked for with the same words."""
    return next(word.removeprefix("--comment=") for word in arguments if word.startswith("--comment="))


def partition_in(options: Sequence[str]) -> str:
    """The partition that options of sbatch name; empty for the default one."""
    named = ""
    for option in options:
        if option.startswith("--part"):
            named = option.partition("=")[2]
        elif option.startswith("-p"):
            named = option.removeprefix("-p")
    return named


def step_prefix(job: str, node: str) -> list[str]:
    """What a command is run by on one node; of our own allocation's settings srun hears nothing."""
    unset = [word for name in os.environ if _of_srun(name) for word in ("-u", name)]
    return ["env", *unset, *_step(job, node), "--"]


def _step(job: str, node: str) -> list[str]:
    return [
        "srun", f"--jobid={job}", "--overlap", f"--nodelist={node}", "--nodes=1", "--ntasks=1", "--mem=0", "--input=none",
    ]  # fmt: skip


def _of_srun(name: str) -> bool:
    return name not in _KEPT and name.startswith(("SLURM_", "SBATCH_", "SRUN_"))


def worker_command(group: HostGroup, experiment: str, job: str, node: str, step: str, store_file: Path) -> list[str]:
    """The argument vector, `srun` included, that starts the worker of one node."""
    limit_s = NO_LIMIT_S if group.time_ns is None else max(1, group.time_ns // SECOND_NS)
    labels = worker_labels(experiment, group.name, node)
    return [
        *_step(job, node), f"--job-name={step}", "--export=ALL", "--",
        sys.executable, "-P", "-m", "ergates", "worker", "slurm", "join", f"--walltime={limit_s}", f"--store={store_file}", "--",
        *(f"--label={name}={value}" for name, value in labels.items()), f"--resource={WHOLE_HOST}=1",
        *([] if group.cpus_milli is None else [f"--cpus={group.cpus_milli / 1000:g}"]),
        *([] if group.memory_bytes is None else [f"--memory={group.memory_bytes}"]),
    ]  # fmt: skip


def worker_environment(environment: Mapping[str, str], node: str, address: str) -> dict[str, str]:
    """What a worker is given of ours: no secrets, no settings for srun, and how other hosts reach its node."""
    kept = {name: value for name, value in submission_environment(environment).items() if not _of_srun(name)}
    return {**kept, HOST_VARIABLE: node, ADDRESS_VARIABLE: address, "SLURM_CPU_BIND": "none"}


def parse_allocations(text: str) -> list[Allocation]:
    """Rows printed with SQUEUE_FORMAT; array tasks are none of ours."""
    found = []
    for line in text.splitlines():
        fields = line.split("|", 6)
        if len(fields) == 7 and fields[0].isdigit():
            job, state, reason, count, nodes, left, comment = fields
            number = int(count) if count.isdigit() else 0
            found.append(
                Allocation(
                    job=job,
                    state=state,
                    reason=reason,
                    count=number,
                    nodes=nodes,
                    left_ns=parse_time(left),
                    comment=comment.strip(),
                )
            )
    return found


def parse_pairs(text: str) -> list[tuple[str, str]]:
    """Rows of two fields: (step, name) or (node, address)."""
    rows = (line.strip().partition("|") for line in text.splitlines())
    return [(first.strip(), second.strip()) for first, mark, second in rows if mark]
