"""What the user asked to be read: task files, or a template with its parameters, or blocks of standard input.

The command line fills in an `InputRequest`; `source.py` turns it into tasks. Nothing here opens a file: whoever asks
hands in `open_file`, and `-` stands for standard input.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Literal

from msgspec import Struct
from msgspec.structs import asdict, replace

from ergates.cluster.job import RetryLimits
from ergates.cluster.task import Alternative, Kind, Requirement, TaskSpec
from ergates.errors import UsageError
from ergates.taskqueue.inputs.needs import Role, gang_size
from ergates.taskqueue.inputs.template import has_positional
from ergates.units import Bytes, MilliCpus, Nanoseconds

OpenFile = Callable[[str], AbstractContextManager[Iterable[bytes]]]
"""Opens an input by the name the user gave; `open(name, "rb")` is one. It is asked for the same name several times (to
recognise a format, for the key, for the tasks) and begins at the start each time, so standard input, `-`, has to be
spooled to a file first. Readers of one name are used one after another, but for a list that is linked to itself. Raises
OSError."""

Format = Literal["auto", "commands", "distcomp", "jsonl", "toml"]
GridFormat = Literal["auto", "csv", "tsv", "jsonl"]
STDIN = "-"


class TaskDefaults(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Settings of tasks that say nothing themselves; None or empty where the user said nothing.

    A task's own setting wins over the command line's, and that over the `[defaults]` of a TOML file. `env`, `labels` and
    `require_labels` are merged name by name, the others replaced.
    """

    cpus_milli: MilliCpus | None = None
    memory_bytes: Bytes | None = None
    resources: tuple[tuple[str, int], ...] | None = None
    """Sorted (name, amount)."""
    time_limit_ns: Nanoseconds | None = None
    retries: int | None = None
    priority: int | None = None
    env: dict[str, str] = {}
    labels: dict[str, str] = {}
    cwd: str | None = None
    image: str | None = None
    """Runs commands in containers of this image."""
    mounts: tuple[str, ...] | None = None
    alternatives: tuple[Alternative, ...] | None = None
    require_labels: dict[str, str] = {}
    """Labels the node must carry; `labels` are the task's own."""
    requires: tuple[str, ...] | None = None
    """Absolute paths that must exist on the node."""
    min_time_ns: Nanoseconds | None = None
    nodes: int | None = None
    roles: tuple[Role, ...] | None = None
    inputs: tuple[str, ...] | None = None
    outputs: tuple[str, ...] | None = None

    def over(self, base: TaskDefaults) -> TaskDefaults:
        """These settings, and those of `base` where these say nothing."""
        given = {name: value for name, value in asdict(self).items() if value is not None and value != {}}
        for merged in ("env", "labels", "require_labels"):
            if merged in given:
                given[merged] = {**getattr(base, merged), **given[merged]}
        return replace(base, **given)

    def spec(self, command: str | tuple[str, ...], kind: Kind | None = None) -> TaskSpec:
        """A task with these settings. `kind` None: `container` where there is an image, else `command`.

        Raises:
            ValueError: its roles do not fit together.
        """
        kind = kind or ("container" if self.image else "command")
        return TaskSpec(
            command=command,
            kind=kind,
            priority=self.priority or 0,
            requirement=self._requirement(),
            time_limit_ns=self.time_limit_ns,
            retries=self.retries,
            env=self.env,
            cwd=self.cwd,
            labels=self.labels,
            image=self.image if kind == "container" else None,
            mounts=(self.mounts or ()) if kind == "container" else (),
            inputs=self.inputs or (),
            outputs=self.outputs or (),
            role_commands=tuple((role.name, role.command) for role in self.roles or () if role.command is not None),
        )

    def _requirement(self) -> Requirement:
        roles = self.roles or ()
        return Requirement(
            cpus_milli=MilliCpus(1000) if self.cpus_milli is None else self.cpus_milli,
            memory_bytes=self.memory_bytes or Bytes(0),
            resources=self.resources or (),
            alternatives=self.alternatives or (),
            labels=tuple(sorted(self.require_labels.items())),
            paths=tuple(sorted(set(self.requires or ()))),
            min_time_ns=self.min_time_ns or Nanoseconds(0),
            nodes=gang_size(self.nodes, roles),
            roles=tuple((role.name, role.count) for role in roles),
            role_labels=tuple((role.name, role.labels) for role in roles if role.labels),
        )


class JobDefaults(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an input file says of the job as a whole (the `[job]` table of a TOML file); None where it says nothing."""

    key: str | None = None
    name: str | None = None
    cwd: str | None = None
    env: dict[str, str] = {}
    labels: dict[str, str] = {}
    max_failed_tasks: int | None = None
    retry_limits: RetryLimits | None = None
    data: str | None = None


class ArgumentList(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One `:::` list (its values) or one file of a `::::` list. `linked`: walks along with the list before it (`:::+`)."""

    values: tuple[str, ...] = ()
    file: str | None = None
    linked: bool = False


class PipeOptions(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How `--pipe` cuts standard input. `records` (`-N`) counts records instead of bytes."""

    block_bytes: Bytes = Bytes(1024 * 1024)
    recstart: bytes = b""
    recend: bytes | None = None
    """None: a newline, or nothing when `recstart` is given, as GNU parallel has it."""
    records: int | None = None


class InputRequest(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All that decides which tasks there are.

    Args:
        files: task files; `-` is standard input. Empty when there is a template, lists or a pipe.
        format: of the task files; `auto` looks at the name, then at the content.
        template: a command line with placeholders; None with lists means that the values are commands themselves.
        lists: `:::` and `::::`, in order.
        parameters: `-p` as given, `seed=1..1000`.
        grid: a table whose columns become names (`--params`).
        colsep: regular expression that cuts the values of the lists into columns.
        pipe: cut standard input into blocks, one task each.
        cwd: where the tasks run; part of the derived key.
        keep_going: skip bad lines and collect their errors instead of stopping at the first.
    """

    files: tuple[str, ...] = ()
    format: Format = "auto"
    template: str | None = None
    lists: tuple[ArgumentList, ...] = ()
    parameters: tuple[str, ...] = ()
    grid: str | None = None
    grid_format: GridFormat = "auto"
    colsep: str | None = None
    pipe: PipeOptions | None = None
    defaults: TaskDefaults = TaskDefaults()
    cwd: str = ""
    keep_going: bool = False


_MARKS = {":::": (False, False), ":::+": (False, True), "::::": (True, False), "::::+": (True, True)}


def split_words(words: Sequence[str]) -> tuple[tuple[str, ...], tuple[ArgumentList, ...]]:
    """Split the words of a command line into those before the first `:::` and the lists after it.

    Raises:
        UsageError: a list without values, or a linked list with nothing before it.
    """
    head: list[str] = []
    lists: list[ArgumentList] = []
    mark, values = "", head
    for word in (*words, ":::"):  # a last mark closes the last list
        if word not in _MARKS:
            values.append(word)
            continue
        if mark:
            lists.extend(_lists_of(mark, values, first=not lists))
        mark, values = word, []
    return tuple(head), tuple(lists)


def with_words(request: InputRequest, words: Sequence[str], is_file: Callable[[str], bool]) -> InputRequest:
    """Complete a request with the positional words of the command line, `erg run WORDS...`.

    - With `:::` lists, `-p`, `--params` or `--pipe` the words are a template (joined by blanks, as GNU parallel does).
    - Otherwise words that all name files (`is_file`, or `-`) are task files, and no words at all are standard input.
    - Otherwise they are a template; one with `{}` and nothing to fill it takes the lines of standard input.

    Raises:
        UsageError: the words do not fit together.
    """
    head, lists = split_words(words)
    template = " ".join(head) if head else None
    if lists or request.parameters or request.grid or request.pipe:
        return replace(request, template=template, lists=lists)
    if all(word == STDIN or is_file(word) for word in head):
        return replace(request, files=head or (STDIN,))
    if template is not None and has_positional(template):
        lists = (ArgumentList(file=STDIN),)
    return replace(request, template=template, lists=lists)


def input_files(request: InputRequest) -> tuple[str, ...]:
    """Every input the request will read, in a fixed order; one that is read twice is there twice."""
    names = [*request.files, *([request.grid] if request.grid else [])]
    names += [text.partition("=")[2][1:] for text in request.parameters if text.partition("=")[2].startswith("@")]
    names += [listed.file for listed in request.lists if listed.file is not None]
    if request.pipe is not None:
        names.append(STDIN)
    return tuple(names)


def shown_name(name: str) -> str:
    """How messages call an input."""
    return "<stdin>" if name == STDIN else name


def _lists_of(mark: str, values: list[str], *, first: bool) -> list[ArgumentList]:
    from_files, linked = _MARKS[mark]
    if not values:
        raise UsageError(f"{mark} has no values\n  expected: {mark} VALUE... after the template")
    if linked and first:
        raise UsageError(
            f"{mark} links to the list before it, and there is none\n  hint: write {mark[:-1]} for the first list"
        )
    if not from_files:
        return [ArgumentList(values=tuple(values), linked=linked)]
    return [ArgumentList(file=value, linked=linked) for value in values]
