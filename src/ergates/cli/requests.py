"""From the options of a command line to what the rest of Ergates is told: what to read, which job, what this run may use."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from ergates.agent.settings import RunSettings
from ergates.cli.input_files import InputFiles
from ergates.cluster.job import JobSpec, RetryLimits
from ergates.cluster.node import NamedResource
from ergates.cluster.task import TaskSpec
from ergates.errors import InputError, UsageError
from ergates.taskqueue.command import has_unclosed_quote
from ergates.taskqueue.data_paths import carries, check_carried, checked_input, checked_output
from ergates.taskqueue.inputs.needs import checked_path, gang_size
from ergates.taskqueue.inputs.request import InputRequest, PipeOptions, TaskDefaults, with_words
from ergates.taskqueue.inputs.source import ParsedInput, derive_key, read_tasks
from ergates.taskqueue.inputs.template import has_positional
from ergates.units import Bytes, MilliCpus, Nanoseconds, UsdMicros

Options = Mapping[str, Any]


def input_request(words: tuple[str, ...], options: Options) -> InputRequest:
    """What to read, from the words and the input and task options.

    Raises:
        UsageError: words that do not fit together, or a single word that is neither a file nor a program.
    """
    cwd = os.path.abspath(options["cwd"] or ".")
    request = InputRequest(
        format=options["format"],
        parameters=options["param"],
        grid=options["params"],
        colsep=options["colsep"],
        pipe=_pipe(options),
        defaults=_task_defaults(options, cwd),
        cwd=cwd,
        keep_going=options["keep_going"],
    )
    if not os.path.isdir(request.cwd):
        raise UsageError(f"--cwd {request.cwd}: no such directory")
    request = with_words(request, words, _is_input)
    _refuse_mistyped_file(request, words)
    return request


def job_of(parsed: ParsedInput, key: str, request: InputRequest, options: Options) -> JobSpec:
    """The job as a whole; what the command line says goes before what the input file says."""
    said = parsed.job
    limits = said.retry_limits or RetryLimits()
    return JobSpec(
        key=key,
        name=options["name"] or parsed.name,
        cwd=request.cwd if options["cwd"] or not said.cwd else os.path.join(request.cwd, said.cwd),
        source=parsed.source,
        retry_limits=limits,
        max_failed_tasks=options["max_fails"] or said.max_failed_tasks,
        aging_ns=options["aging"],
        env=said.env,
        open=options.get("open_job", False),
        labels={**said.labels, **dict(options["label"])},
        data=options["data"] or said.data or "",
        copies=options.get("copies", False),
    )


def read_input(words: tuple[str, ...], options: Options, files: InputFiles) -> tuple[InputRequest, ParsedInput, str]:
    """The request, its tasks (not read yet) and the key of the job.

    Raises:
        InputError, UsageError: see source.py.
    """
    request = input_request(words, options)
    parsed = read_tasks(request, files.open)
    key = options["key"] or parsed.job.key or derive_key(request, files.open)
    if request.files or request.defaults.inputs or request.defaults.outputs:
        parsed = replace(parsed, tasks=_carried(parsed, options["data"] or parsed.job.data or ""))
    return request, parsed, key


def _carried(parsed: ParsedInput, data: str) -> Iterator[TaskSpec]:
    """The tasks, refused where what they bring along has no place to come from, or what they leave behind none to go to."""
    for number, task in enumerate(parsed.tasks, 1):
        if carries(task):
            try:
                check_carried(task, data)
            except ValueError as error:
                raise InputError(str(error), source=f"{parsed.source}, task {number}") from None
        yield task


def run_settings(options: Options, state_dir: str) -> RunSettings:
    """What this run may use of this machine."""
    from ergates.taskqueue.halt import parse_halt

    resources = tuple(
        NamedResource(name=name, amount=amount, indices=indices) for name, amount, indices in options["resource"]
    )
    names = [resource.name for resource in resources]
    if len(set(names)) < len(names):
        raise UsageError(f"--resource names one thing twice: {', '.join(sorted(names))}")
    return RunSettings(
        jobs=options["jobs"],
        cpus_milli=_optional(MilliCpus, options["cpus"]),
        memory_bytes=_optional(Bytes, options["memory"]),
        memory_policy=options["memory_policy"],
        pin=options["pin"],
        resources=resources,
        node_labels=dict(options["node_label"]),
        price_usd_micros_per_hour=_optional(UsdMicros, options["price"]),
        grace_ns=Nanoseconds(options["grace"]),
        halt=parse_halt(options["halt"]) if options["halt"] else None,
        cgroups=options["cgroups"],
        container_engine=options["container_engine"],
        state_dir=state_dir,
        cache_bytes=Bytes(options["cache_size"]),
    )


def _task_defaults(options: Options, cwd: str) -> TaskDefaults:
    requires = tuple(os.path.join(cwd, path) for path in options["requires"])
    _check_paths("--input", checked_input, options["inputs"])
    _check_paths("--output-file", checked_output, options["outputs"])
    return TaskDefaults(
        cpus_milli=options["cpus_per_task"],
        memory_bytes=options["memory_per_task"],
        resources=tuple(sorted(options["task_resource"])) or None,
        time_limit_ns=options["time_limit"],
        retries=options["retries"],
        priority=options["priority"],
        env=dict(options["env"]),
        labels=dict(options["label"]),
        image=options["image"],
        mounts=options["mount"] or None,
        alternatives=options["alternatives"] or None,
        require_labels=dict(options["require_label"]),
        requires=tuple(checked_path(os.path.normpath(path)) for path in requires) or None,
        min_time_ns=options["min_time"],
        nodes=_gang(options),
        roles=options["role"] or None,
        inputs=options["inputs"] or None,
        outputs=options["outputs"] or None,
    )


def _check_paths(option: str, check: Callable[[str], str], paths: tuple[str, ...]) -> None:
    for path in paths:
        try:
            check(path)
        except ValueError as error:
            raise UsageError(f"{option}: {error}") from None


def _gang(options: Options) -> int | None:
    try:
        gang_size(options["nodes"], options["role"])
    except ValueError as error:
        raise UsageError(f"--role: {error}") from None
    for role in options["role"]:
        if isinstance(role.command, str) and has_unclosed_quote(role.command):
            raise UsageError(f"--role {role.name}: a quote of its command is opened and never closed")
    nodes: int | None = options["nodes"]
    return nodes


def _pipe(options: Options) -> PipeOptions | None:
    if not options["pipe"]:
        return None
    from ergates.taskqueue.inputs.blocks import mark_bytes

    recend = options["recend"]
    return PipeOptions(
        block_bytes=options["block"],
        recstart=mark_bytes(options["recstart"] or ""),
        recend=None if recend is None else mark_bytes(recend),
        records=options["max_records"],
    )


def _is_input(word: str) -> bool:
    """Also pipes, so that `erg run <(generate)` works."""
    return os.path.exists(word) and not os.path.isdir(word)


def _refuse_mistyped_file(request: InputRequest, words: tuple[str, ...]) -> None:
    """`erg run comands.txt` should not try to run a program of that name."""
    import shutil

    plain = request.template is not None and len(words) == 1 and not request.lists and not request.parameters
    if not plain or request.grid or request.pipe or " " in words[0] or has_positional(words[0]):
        return
    if shutil.which(words[0]) is None:
        raise UsageError(
            f"{words[0]}: neither a file of commands nor a program\n  hint: see `erg run --help` for examples"
        )


def _optional(kind: Any, value: Any) -> Any:
    return None if value is None else kind(value)
