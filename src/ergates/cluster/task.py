"""A task: one unit of work, as the user asked for it."""

from __future__ import annotations

from typing import Literal, NewType

from msgspec import Struct

from ergates.units import Bytes, MilliCpus, Nanoseconds

JobId = NewType("JobId", str)
TaskId = NewType("TaskId", int)
"""1, 2, 3, ... within a job, in the order of the input."""

Kind = Literal["command", "python", "container"]


class Alternative(Struct, frozen=True, kw_only=True, omit_defaults=True, order=True):
    """Another set of cores and named resources the task would do with: "2 cores, or 1 core and 1 GPU"."""

    cpus_milli: MilliCpus = MilliCpus(1000)
    resources: tuple[tuple[str, int], ...] = ()


class Requirement(Struct, frozen=True, kw_only=True, omit_defaults=True, order=True):
    """What one task holds of its node while it runs. Tasks with equal requirements form one resource class.

    Args:
        cpus_milli: thousandths of a core; 50 lets twenty tasks share one core.
        memory_bytes: a floor the user declared, or that an eviction raised; 0 when nothing is known.
        resources: sorted (name, amount) of named resources, e.g. (("gpus", 1),).
        alternatives: tried in this order where `cpus_milli` and `resources` are not free; the memory is the same.
        labels: sorted (name, value) the node must carry.
        paths: sorted absolute paths that must exist on the node.
        min_time_ns: the worker must have at least so long to live (a Slurm allocation ends).
        nodes: a gang of so many nodes starts at once, each holding all of the above; 1 is an ordinary task.
        roles: (name, count) of a gang's members in the order of their ranks; counts sum to `nodes`; empty: all alike.
        role_labels: (role, sorted (name, value)) that the node of such a member must carry, besides `labels`.
    """

    cpus_milli: MilliCpus = MilliCpus(1000)
    memory_bytes: Bytes = Bytes(0)
    resources: tuple[tuple[str, int], ...] = ()
    alternatives: tuple[Alternative, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    paths: tuple[str, ...] = ()
    min_time_ns: Nanoseconds = Nanoseconds(0)
    nodes: int = 1
    roles: tuple[tuple[str, int], ...] = ()
    role_labels: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = ()


class Stdin(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a task reads on standard input: literal bytes, or a file (exactly one is set)."""

    data: bytes | None = None
    path: str | None = None


class TaskSpec(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One task as submitted.

    Args:
        command: the line as the user wrote it (run directly when it has no shell syntax, else by /bin/sh -c),
            or an argument vector that is run as it is. For `python`: see `functions/`.
        kind: what runs it.
        priority: larger first.
        time_limit_ns: wall time of one attempt; None for no limit.
        retries: how often an *application* failure is tried again; None takes the job's default.
        env: variables added to the worker's environment.
        cwd: working directory; None is the directory of the submission.
        labels: free text for reports.
        after: inclusive ranges of task ids of this job that must be done first.
        image, mounts: for containers; a mount is `HOST:CONTAINER[:ro]`.
        payload: for `python`: a serialised function and arguments.
        input_bytes: size of the task's input where it is known, a feature of the memory prediction.
        inputs: paths (relative to the job's data directory) or URLs brought to the node before it starts.
        outputs: paths or globs brought back after it succeeded.
        role_commands: (role, command) for gangs with named roles; the others run `command`.
    """

    command: str | tuple[str, ...]
    kind: Kind = "command"
    priority: int = 0
    requirement: Requirement = Requirement()
    time_limit_ns: Nanoseconds | None = None
    retries: int | None = None
    env: dict[str, str] = {}
    cwd: str | None = None
    labels: dict[str, str] = {}
    after: tuple[tuple[int, int], ...] = ()
    stdin: Stdin | None = None
    image: str | None = None
    mounts: tuple[str, ...] = ()
    payload: bytes | None = None
    input_bytes: Bytes | None = None
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    role_commands: tuple[tuple[str, str | tuple[str, ...]], ...] = ()
