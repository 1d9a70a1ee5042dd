"""Task files with one command a line, and the choice of format.

Lines are kept as they are: quotes, `:` and every byte. Blank lines and lines that start with `#` are left out. distComp's
`type:priority:min_dram_gb:min_cpu:command` differs from the original on purpose: the command may hold any `:`, identical
lines stay distinct tasks, `python` works and `min_cpu` counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from msgspec.structs import replace

from ergates.cluster.task import TaskSpec
from ergates.errors import InputError
from ergates.taskqueue.command import ARGUMENT_BYTES_MAX, has_unclosed_quote, too_long
from ergates.taskqueue.inputs.lines import Problems, decode, nul_error, raw_lines
from ergates.taskqueue.inputs.request import Format, OpenFile, TaskDefaults, shown_name
from ergates.taskqueue.python_call import encode_call, python_call
from ergates.units import GIB, Bytes, MilliCpus

DISTCOMP_FORM = "type:priority:min_dram_gb:min_cpu:command, for example shell:4:2:2:./cachesim PARAM1 PARAM2"
_DISTCOMP = re.compile(r"(shell|python):([0-9]{1,9}):([0-9]{1,9}):([0-9]{1,9}):(.*\S.*)", re.DOTALL)
_SUFFIXES: dict[str, Format] = {".jsonl": "jsonl", ".ndjson": "jsonl", ".toml": "toml"}


def format_of(open_file: OpenFile, name: str) -> Format:
    """Recognise the format of a task file: by its name, then by its lines.

    JSON Lines begin with `{"`. distComp is recognised when every line fits; reading stops at the first that does not.

    Raises:
        InputError: the first lines fit distComp's form and a later one does not.
    """
    for suffix, named_format in _SUFFIXES.items():
        if name.lower().endswith(suffix):
            return named_format
    fitting = 0
    for number, raw in enumerate(raw_lines(open_file, name), 1):
        line = decode(raw).strip()
        if not line or line.startswith("#"):
            continue
        if not fitting and re.match(r'\{\s*"', line):
            return "jsonl"
        if _DISTCOMP.fullmatch(line) is None:
            if fitting:
                raise _not_distcomp(
                    shown_name(name), number, f"the {fitting:,} tasks before it are distComp lines, this is not"
                )
            return "commands"
        fitting += 1
    return "distcomp" if fitting else "commands"


def shell_tasks(open_file: OpenFile, name: str, defaults: TaskDefaults, problems: Problems) -> Iterator[TaskSpec]:
    """One task for each line of shell commands.

    The loop is tight: a million lines take well under a second.

    Raises:
        InputError: a line that no shell could run, unless `problems` keeps going.
    """
    prototype = defaults.spec("")
    source = shown_name(name)
    for number, raw in enumerate(raw_lines(open_file, name), 1):
        line = raw.decode("utf-8", "surrogateescape").removesuffix("\n").removesuffix("\r")
        if line[:1] in "# \t":  # also true of an empty line
            stripped = line.lstrip(" \t")
            if not stripped or stripped[0] == "#":
                continue
        if "'" in line or '"' in line or "\0" in line or len(line) > ARGUMENT_BYTES_MAX // 4:
            error = line_error(line, source, number, raw)
            if error is not None:
                problems.meet(error)
                continue
        yield replace(prototype, command=line)


def distcomp_tasks(open_file: OpenFile, name: str, defaults: TaskDefaults, problems: Problems) -> Iterator[TaskSpec]:
    """One task for each distComp line.

    `min_dram_gb` is the memory floor in GiB, `min_cpu` the cores; 0 leaves the default of either.

    Raises:
        InputError: a line that does not fit, unless `problems` keeps going.
    """
    source = shown_name(name)
    prototypes: dict[tuple[str, ...], TaskSpec] = {}
    for number, raw in enumerate(raw_lines(open_file, name), 1):
        line = decode(raw).strip(" \t")
        if not line or line[0] == "#":
            continue
        match = _DISTCOMP.fullmatch(line)
        if match is None:
            problems.meet(_not_distcomp(source, number, "the line does not have distComp's form"))
            continue
        *head, command = match.groups()
        prototype = prototypes.get(tuple(head))
        if prototype is None:
            prototype = prototypes[tuple(head)] = _distcomp_prototype(head, defaults)
        if prototype.kind == "python":
            try:
                payload = encode_call(python_call(command, [], {}))
            except UnicodeEncodeError:
                problems.meet(
                    InputError("Python source that is not UTF-8", source=source, line=number, expected="text in UTF-8")
                )
                continue
            yield replace(prototype, command=command, payload=payload)
            continue
        error = line_error(command, source, number, raw)
        if error is None:
            yield replace(prototype, command=command)
        else:
            problems.meet(error)


def fits_distcomp(line: str) -> bool:
    """Whether a line has distComp's form."""
    return _DISTCOMP.fullmatch(line) is not None


def line_error(line: str, source: str, number: int | None, raw: bytes = b"") -> InputError | None:
    """What makes a command line impossible to run, if anything does."""
    if "\0" in line:
        return nul_error(source, number or 1, raw)
    if has_unclosed_quote(line):
        return InputError(
            "a quote is opened and never closed",
            source=source,
            line=number,
            expected="quotes in pairs",
            hint="close it, or write \\' or \\\" for the character itself; one line is one command",
        )
    reason = too_long(line)
    if reason is None:
        return None
    return InputError(
        reason,
        source=source,
        line=number,
        expected=f"a command of at most {ARGUMENT_BYTES_MAX:,} bytes",
        hint="put the long part into a file and name the file, or feed it on standard input (--pipe, or stdin in JSON Lines)",
    )


def _distcomp_prototype(head: list[str], defaults: TaskDefaults) -> TaskSpec:
    kind, priority, min_dram_gb, min_cpu = head[0], *map(int, head[1:])
    settings = TaskDefaults(
        priority=priority,
        memory_bytes=Bytes(min_dram_gb * GIB) if min_dram_gb else None,
        cpus_milli=MilliCpus(min_cpu * 1000) if min_cpu else None,
    ).over(defaults)
    return settings.spec("", "python" if kind == "python" else None)


def _not_distcomp(source: str, line: int, message: str) -> InputError:
    return InputError(
        message,
        source=source,
        line=line,
        expected=DISTCOMP_FORM,
        hint="type is shell or python, the three numbers are whole and not negative; --format commands reads plain commands",
    )
