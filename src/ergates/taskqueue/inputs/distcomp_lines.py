"""distComp's task lines, both ways: many lines in memory to tasks, and a task back to the line it would be."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from ergates.cluster.task import TaskSpec
from ergates.taskqueue.inputs.lines import Problems, decode
from ergates.taskqueue.inputs.request import TaskDefaults
from ergates.taskqueue.inputs.taskfile import distcomp_tasks, fits_distcomp
from ergates.units import GIB


def is_task_line(line: bytes) -> bool:
    """Whether distComp could have meant this as a task (it keeps other things, such as its stop token, among them)."""
    return b"\n" not in line and fits_distcomp(decode(line).strip(" \t")) and not line.startswith(b"#")


def tasks_of_lines(lines: Iterable[bytes], source: str) -> list[TaskSpec]:
    """Tasks of whole lines, in their order.

    Raises:
        InputError: one is no task, or no shell could run it.
    """
    data = b"\n".join(lines) + b"\n"

    @contextmanager
    def opened(_name: str) -> Iterator[Iterable[bytes]]:
        yield io.BytesIO(data)

    return list(distcomp_tasks(opened, source, TaskDefaults(), Problems()))


def line_of(task: TaskSpec) -> str:
    """`type:priority:min_dram_gb:min_cpu:command`; cores and GiB are rounded up, as distComp has whole ones only."""
    command = task.command if isinstance(task.command, str) else " ".join(task.command)
    memory = -(-task.requirement.memory_bytes // GIB)
    cores = -(-task.requirement.cpus_milli // 1000)
    kind = "python" if task.kind == "python" else "shell"
    return f"{kind}:{max(0, task.priority)}:{memory}:{cores}:{command}"
