"""What goes in: from a user's request to tasks. The one door of all parsing.

    request = with_words(InputRequest(defaults=..., cwd=...), words, is_file)     # input_request.py
    key = derive_key(request, open_file)
    parsed = read_tasks(request, open_file)
    store.submit(JobSpec(key=parsed.job.key or key, ...), parsed.tasks, now_ns)

Nothing here does I/O but through `open_file`. Tasks come one after another; the first bad one raises InputError out of
the iterator, so that a submission in one transaction leaves nothing behind (`keep_going` collects instead).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import islice

import msgspec
from msgspec.structs import replace

from ergates.cluster.task import Stdin, TaskSpec
from ergates.errors import InputError
from ergates.taskqueue.command import too_long
from ergates.taskqueue.inputs.blocks import blocks
from ergates.taskqueue.inputs.filled import Fillings, fillings_of, numbered
from ergates.taskqueue.inputs.lines import Problems, raw_lines
from ergates.taskqueue.inputs.parameters import ValueGroup, cross, crossed_size, list_groups, parameter_group
from ergates.taskqueue.inputs.request import STDIN, InputRequest, JobDefaults, OpenFile, input_files, shown_name
from ergates.taskqueue.inputs.taskfile import distcomp_tasks, format_of, line_error, shell_tasks
from ergates.taskqueue.inputs.template import SOURCE, Row, Template
from ergates.units import Bytes

_KEY_VERSION = b"ergates input 1\n"
_LINES_AT_ONCE = 4096
_KEY_DIGITS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedInput:
    """Tasks and what the input says of its job.

    Args:
        tasks: to be consumed once. Raises InputError at the first bad one, or at the end when there was none at all.
        total: how many there will be, None when only the end tells. With `keep_going` an upper bound.
        name: for people: the file, or the program of the template.
        source: what messages call the input.
        job: what a TOML file says of the job; the command line's own options go before it.
        problems: what was skipped, with `keep_going`; complete once `tasks` is consumed.
    """

    tasks: Iterator[TaskSpec]
    total: int | None
    name: str
    source: str
    job: JobDefaults
    problems: Problems


def read_tasks(request: InputRequest, open_file: OpenFile) -> ParsedInput:
    """Start reading. What can be checked before the first task (template, parameters, headers, TOML) is checked here.

    Raises:
        InputError: bad input, with file and line.
    """
    problems = Problems(keep_going=request.keep_going)
    if request.pipe is not None:
        return _read_pipe(request, open_file, problems)
    if request.files:
        return _read_files(request, open_file, problems)
    return _read_template(request, open_file, problems)


def derive_key(request: InputRequest, open_file: OpenFile) -> str:
    """A key that is the same for the same input: content of all files, template, parameters, defaults and directory.

    Names of task files and tables are not part of it. Reads every input once.

    Raises:
        InputError: an input cannot be read.
    """
    digest = hashlib.sha256(_KEY_VERSION)
    kept = replace(
        request, keep_going=False, files=("",) * len(request.files), grid=None if request.grid is None else ""
    )
    # ascii() because texts of the command line may hold bytes that are not UTF-8.
    digest.update(ascii(_sorted(msgspec.to_builtins(kept))).encode())
    for name in input_files(request):
        content = hashlib.sha256()
        lines = raw_lines(open_file, name)
        while several := list(islice(lines, _LINES_AT_ONCE)):
            content.update(b"".join(several))
        digest.update(content.digest())
    return digest.hexdigest()[:_KEY_DIGITS]


def _sorted(value: object) -> object:
    """Dictionaries as sorted pairs, so that their order does not count."""
    if isinstance(value, dict):
        return sorted((key, _sorted(each)) for key, each in value.items())
    return [_sorted(each) for each in value] if isinstance(value, list | tuple) else value


def _read_files(request: InputRequest, open_file: OpenFile, problems: Problems) -> ParsedInput:
    shown = [shown_name(name) for name in request.files]
    source = shown[0] if len(shown) == 1 else f"{shown[0]} and {len(shown) - 1} more"
    formats = [format_of(open_file, name) if request.format == "auto" else request.format for name in request.files]
    job, total = JobDefaults(), None
    parts: list[Iterator[TaskSpec]] = []
    if len(request.files) > 1 and any(each in ("jsonl", "toml") for each in formats):
        raise InputError(
            "JSON Lines and TOML files are read one at a time",
            source=source,
            expected="one such file, or several files of command lines",
            hint="submit each as a job of its own, or join them: cat a.jsonl b.jsonl | erg run -",
        )
    for name, chosen in zip(request.files, formats, strict=True):
        if chosen in ("jsonl", "toml"):
            from ergates.taskqueue.inputs import records  # tomllib and the rest: only when needed

            if chosen == "toml":
                toml = records.toml_tasks(open_file, name, request.defaults, problems)
                job, total = toml.job, toml.total
                parts.append(toml.tasks)
            else:
                parts.append(records.jsonl_tasks(open_file, name, request.defaults, problems))
        else:
            read = distcomp_tasks if chosen == "distcomp" else shell_tasks
            parts.append(read(open_file, name, request.defaults, problems))
    tasks = _not_empty(parts, source, problems)
    defaults = request.defaults
    if defaults.inputs or defaults.outputs or defaults.roles or "jsonl" in formats or "toml" in formats:
        tasks = numbered(tasks, source, problems)
    return ParsedInput(tasks=tasks, total=total, name=job.name or source, source=source, job=job, problems=problems)


def _not_empty(parts: list[Iterator[TaskSpec]], source: str, problems: Problems) -> Iterator[TaskSpec]:
    """The tasks of all parts; raises when there is none."""
    found = False
    for part in parts:
        for task in part:
            yield task
            found = True
            break
        yield from part
    if not found:
        message = (
            f"no commands in {source}" if not problems.count else f"none of {problems.count:,} commands can be used"
        )
        raise InputError(
            message,
            source=source,
            expected="at least one command",
            hint="blank lines and lines that start with # do not count"
            if not problems.count
            else str(problems.first[0]),
        )


def _read_pipe(request: InputRequest, open_file: OpenFile, problems: Problems) -> ParsedInput:
    if request.lists or request.parameters or request.grid:
        raise InputError(
            "--pipe takes no values",
            source="--pipe",
            expected="a template only",
            hint="leave ::: lists, -p or --params out",
        )
    if request.template is None or request.pipe is None:
        raise InputError(
            "--pipe without a command",
            source="--pipe",
            expected="a command that reads standard input: erg run --pipe wc",
        )
    cut = blocks(raw_lines(open_file, STDIN), request.pipe, shown_name(STDIN))
    tasks = numbered(_piped(Template(request.template, {}, ()), cut, request, problems), SOURCE, problems)
    return ParsedInput(
        tasks=_not_empty([tasks], shown_name(STDIN), problems),
        total=None,
        name=_program(request.template),
        source=shown_name(STDIN),
        job=JobDefaults(),
        problems=problems,
    )


def _piped(template: Template, cut: Iterator[bytes], request: InputRequest, problems: Problems) -> Iterator[TaskSpec]:
    prototype = request.defaults.spec("")
    for number, block in enumerate(cut, 1):
        command = template.command((), number)
        if number == 1 and (error := _template_error(command, number)) is not None:
            problems.meet(error)
            return
        yield replace(prototype, command=command, stdin=Stdin(data=block), input_bytes=Bytes(len(block)))


def _read_template(request: InputRequest, open_file: OpenFile, problems: Problems) -> ParsedInput:
    groups = [parameter_group(text, open_file) for text in request.parameters]
    if request.grid is not None:
        from ergates.taskqueue.inputs.grid import grid_group  # csv: only when needed

        # First, because only the first group is streamed.
        groups.insert(0, grid_group(open_file, request.grid, request.grid_format, problems))
    groups += list_groups(request.lists, request.colsep, open_file)
    names = [name for group in groups for name in group.names]
    named = _named_columns(names)
    positional = [column for column, name in enumerate(names) if not name] or list(named.values())
    template = Template(request.template, named, positional)
    if template.is_value and (not positional or (request.template is None and named)):
        raise InputError("nothing to run", source=SOURCE, expected="a command, a template or a task file")
    fillings = fillings_of(request.defaults.spec(""), named, positional)
    _check_used(template.used if fillings is None else template.used | fillings.used, groups, named)
    total = crossed_size(groups)
    tasks = _filled(template, fillings, cross(groups), named, request, problems)
    source = groups[0].source if groups else SOURCE
    return ParsedInput(
        tasks=_not_empty([tasks], source, problems),
        total=total,
        name=_program(request.template or source),
        source=source,
        job=JobDefaults(),
        problems=problems,
    )


def _filled(
    template: Template,
    fillings: Fillings | None,
    rows: Iterator[Row],
    named: dict[str, int],
    request: InputRequest,
    problems: Problems,
) -> Iterator[TaskSpec]:
    """One task for each row. Named values become labels, so that results can be grouped by them."""
    prototype = request.defaults.spec("")
    own_labels = request.defaults.labels
    columns = tuple(named.items())
    number = 1
    for row in rows:
        try:
            command = template.command(row, number)
            error = _template_error(command, number)
            if fillings is not None:
                prototype = fillings.fill(prototype, row, number)
        except InputError as unquotable:
            error = unquotable
        if error is not None:
            problems.meet(error)
            continue
        number += 1
        if columns:
            labels = {name: _label(row[column]) for name, column in columns}
            yield replace(prototype, command=command, labels={**labels, **own_labels} if own_labels else labels)
        else:
            yield replace(prototype, command=command)


def _label(value: str) -> str:
    """A label is text for reports: bytes that are not UTF-8 are shown as `\\xe9`."""
    if value.isascii():
        return value
    return value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _template_error(command: str | tuple[str, ...], number: int) -> InputError | None:
    """What makes a filled-in command impossible to run: an open quote, its length, nothing in it."""
    if isinstance(command, str):
        error = line_error(command, f"{SOURCE}, task {number}", None)
        if error is None and not command.strip():
            error = InputError("an empty command", source=f"{SOURCE}, task {number}", expected="a command line")
        return error
    if not command[0]:
        return InputError("a command without a program", source=f"{SOURCE}, task {number}", expected="a program's name")

    reason = too_long(command)
    hint = "put the long part into a file, or feed it on standard input (--pipe)"
    return None if reason is None else InputError(reason, source=f"{SOURCE}, task {number}", hint=hint)


def _named_columns(names: list[str]) -> dict[str, int]:
    named: dict[str, int] = {}
    for column, name in enumerate(names):
        if name and name in named:
            raise InputError(
                f"{name!r} is bound twice", source=SOURCE, expected="each name in one -p or one column of --params"
            )
        if name:
            named[name] = column
    return named


def _check_used(used_columns: frozenset[int], groups: list[ValueGroup], named: dict[str, int]) -> None:
    """A `-p` that the template never names is an error; of a table one column must be used; `:::` may repeat a command."""
    for group in groups:
        columns = [name for name in group.names if name]
        if not columns or any(named[name] in used_columns for name in columns):
            continue
        used = [name for name, column in named.items() if column in used_columns]
        nearest = get_close_matches(columns[0], used, n=1)
        hint = f"the template uses {{{nearest[0]}}}" if nearest else f"write {{{columns[0]}}} where its value belongs"
        what = f"the parameter {columns[0]} is" if len(columns) == 1 else "no column is"
        raise InputError(
            f"{what} never used by the template", source=group.source, expected=f"{{{columns[0]}}}", hint=hint
        )


def _program(command: str) -> str:
    """The first word of a command line, for the job's name."""
    return (command.split() or [command])[0].rpartition("/")[2] or command
