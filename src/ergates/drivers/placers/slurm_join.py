"""Inside an allocation: what Slurm says of it, turned into the arguments of `erg worker start`. Pure but for one question.

The end of the allocation is what matters most: workers stop taking tasks before it. Newer versions of Slurm tell it
(SLURM_JOB_END_TIME); older ones are asked for the time left; if nobody answers, the walltime that was asked for is counted
from now.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ergates.drivers.placers.slurm_records import PLACED_BY, parse_time
from ergates.errors import UsageError
from ergates.units import MIB, SECOND_NS

END_MARGIN_S = 5
"""Slurm counts from when the nodes were given; between asking and starting some seconds pass."""


def worker_arguments(
    environment: Mapping[str, str],
    *,
    walltime_s: int,
    now_s: int,
    time_left: Callable[[str], str],
    cores: int,
    options: Sequence[str] = (),
) -> list[str]:
    """Arguments of `erg worker start` for this allocation.

    Args:
        environment: of the batch script.
        walltime_s: that was asked for, in seconds.
        now_s: seconds since 1970.
        time_left: what `squeue` prints as time left of a job id; empty when it cannot be asked.
        cores: that this process may run on, whatever Slurm counts.
        options: further ones, handed through.

    Raises:
        UsageError: this is no allocation.
    """
    job = environment.get("SLURM_JOB_ID", "")
    if not job:
        raise UsageError("SLURM_JOB_ID is not set: this runs inside an allocation only\n  hint: erg worker slurm up")
    array, task = environment.get("SLURM_ARRAY_JOB_ID", ""), environment.get("SLURM_ARRAY_TASK_ID", "")
    arguments = [
        f"--placed-by={PLACED_BY}{f'{array}_{task}' if array else job}",
        f"--time-limit={_seconds_left(environment, job, walltime_s, now_s, time_left)}s",
    ]
    cpus = environment.get("SLURM_CPUS_ON_NODE", "")
    if cpus.isdigit():
        arguments.append(f"--cpus={min(int(cpus), cores)}")
    memory_mib = _memory_mib(environment)
    if memory_mib:
        arguments.append(f"--memory={memory_mib * MIB}")
    gpus = [part for part in environment.get("CUDA_VISIBLE_DEVICES", "").split(",") if part.isdigit()]
    if gpus and (environment.get("SLURM_JOB_GPUS") or environment.get("SLURM_STEP_GPUS")):
        arguments.append(f"--resource=gpus={','.join(gpus)},")
    for label, variable in (("partition", "SLURM_JOB_PARTITION"), ("node", "SLURMD_NODENAME")):
        if environment.get(variable):
            arguments.append(f"--label={label}={environment[variable]}")
    return [*arguments, *options]


def _seconds_left(
    environment: Mapping[str, str], job: str, walltime_s: int, now_s: int, time_left: Callable[[str], str]
) -> int:
    end = environment.get("SLURM_JOB_END_TIME", "")
    if end.isdigit():
        left_s = int(end) - now_s
    else:
        left_ns = parse_time(time_left(job))
        left_s = walltime_s if left_ns is None else left_ns // SECOND_NS
    return max(1, left_s - END_MARGIN_S)


def _memory_mib(environment: Mapping[str, str]) -> int:
    """What Slurm gave on this node; 0 when it does not say (a whole node, or memory is not counted)."""
    whole, each = environment.get("SLURM_MEM_PER_NODE", ""), environment.get("SLURM_MEM_PER_CPU", "")
    if whole.isdigit():
        return int(whole)
    cpus = environment.get("SLURM_CPUS_ON_NODE", "")
    return int(each) * int(cpus) if each.isdigit() and cpus.isdigit() else 0
