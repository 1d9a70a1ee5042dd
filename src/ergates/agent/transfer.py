"""What one attempt carries: its inputs into its work directory, its outputs from there to the job's data.

Everything here may take long and is called from the threads of staging.py. What it raises says whose fault it is.
"""

from __future__ import annotations

import fnmatch
import glob
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ergates.cluster.task import TaskSpec
from ergates.drivers.objects.cache import FileCache
from ergates.drivers.objects.files import Files, Found, NoSuchFileError, Stop, UnusableError
from ergates.drivers.objects.open_files import open_files
from ergates.errors import ErgatesError
from ergates.taskqueue.data_paths import check_carried, checked_input, checked_output, is_url, split_url, url_name

WORK = "work"
"""The work directory, in the attempt's own directory (ERG_TASK_DIR)."""
_INCOMING = ".incoming"
IGNORED = ".ergignore"
"""Beside the data: patterns, one a line, of what stays there when a folder is brought."""
_IGNORED_BYTES_MAX = 64 * 1024
_NEVER = [".ergates/"]
"""Our own: the cache would be brought into the cache."""


class NotWrittenError(ErgatesError):
    """The task ended well without an output it was to write: its own fault."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    """Whose files, and where they belong. `folder` is the attempt's own directory, `data` its job's place or empty."""

    spec: TaskSpec
    data: str
    folder: Path

    @property
    def work(self) -> Path:
        """Where the command runs."""
        return self.folder / WORK


class Places:
    """Places that are open, by address. For one thread: what is behind them need not stand two."""

    def __init__(self) -> None:
        self._open: dict[str, Files] = {}

    def of(self, address: str) -> Files:
        """Raises TransferError."""
        files = self._open.get(address)
        if files is None:
            files = self._open[address] = open_files(address)
        return files

    def forget(self) -> None:
        """Connect anew next time."""
        self._open.clear()


def fetch_inputs(carried: Carried, places: Places, cache: FileCache, stop: Stop) -> None:
    """Put the inputs of a task where it will find them; the work directory is made anew.

    Raises:
        TransferError: see files.py.
        StoppedError: somebody asked for it.
    """
    spec, work = carried.spec, carried.work
    _check(carried)
    incoming = carried.folder / _INCOMING
    for folder in (work, incoming):
        folder.mkdir(mode=0o700, exist_ok=True)
    rewritten = list(map(checked_output, spec.outputs))
    for files, wanted in _wanted(carried, places, stop):
        cache.bring(
            files,
            [(found, work / name) for name, found in wanted.items()],
            incoming,
            stop,
            writable=[work / name for name in wanted if _matches(name, rewritten)],
            private=spec.kind == "container",  # root in a container is root
        )
    incoming.rmdir()


def put_outputs(carried: Carried, places: Places, stop: Stop) -> None:
    """Bring back what a task has written.

    Raises:
        NotWrittenError: an output is not there.
        TransferError: see files.py.
        StoppedError: somebody asked for it.
    """
    _check(carried)
    paths = sorted({path for pattern in carried.spec.outputs for path in _written(carried.work, pattern)})
    for path in paths:
        real = (carried.work / path).resolve()
        if not real.is_relative_to(carried.folder.resolve()):
            raise NotWrittenError(f"output {path} is a link that leads out of the work directory, to {real}")
    if paths:
        places.of(carried.data).put(carried.work, paths, stop)


def _check(carried: Carried) -> None:
    try:
        check_carried(carried.spec, carried.data)
    except ValueError as error:
        raise UnusableError(str(error)) from None


def _wanted(carried: Carried, places: Places, stop: Stop) -> list[tuple[Files, dict[str, Found]]]:
    """Of each place, the files by their paths in the work directory."""
    base: dict[str, Found] = {}
    wanted: list[tuple[Files, dict[str, Found]]] = []
    ignored: list[str] | None = None
    for text in dict.fromkeys(map(checked_input, carried.spec.inputs)):
        if is_url(text):
            folder, path = split_url(text)
            files = places.of(folder)
            found = _find(files, path, text, stop)
            if [each.path for each in found] != [path]:
                raise UnusableError(f"input {text}: a folder\n  hint: folders come from --data; a URL names one file")
            wanted.append((files, {url_name(text): found[0]}))
            continue
        files = places.of(carried.data)
        found = _find(files, text, text, stop)
        if [each.path for each in found] != [text]:
            ignored = _ignored(files, carried, stop) if ignored is None else ignored
            found = [each for each in found if not is_ignored(each.path, ignored)]
        base |= {_inside(each.path, files): each for each in found}
    if base:
        wanted.append((places.of(carried.data), base))
    return wanted


def _find(files: Files, path: str, text: str, stop: Stop) -> list[Found]:
    try:
        return files.find(path, stop)
    except NoSuchFileError as error:
        raise NoSuchFileError(f"input {text} was not found: {error}") from None


def _inside(path: str, files: Files) -> str:
    """A store of objects may have one called `../x`: it stays out of the node's directories."""
    try:
        if checked_input(path) == path and not is_url(path):
            return path
    except ValueError:
        pass
    raise UnusableError(f"{files.place}: {path!r} cannot be the name of a file here")


def _ignored(files: Files, carried: Carried, stop: Stop) -> list[str]:
    """The patterns beside the data, if there are any."""
    try:
        found = [each for each in files.find(IGNORED, stop) if each.path == IGNORED]
    except NoSuchFileError:
        found = []
    if not found:
        return _NEVER
    with tempfile.TemporaryDirectory(dir=carried.folder, prefix=".ignored") as folder:
        files.fetch(found, Path(folder), stop)
        with Path(folder, IGNORED).open(errors="surrogateescape") as lines:
            text = lines.read(_IGNORED_BYTES_MAX)
    stripped = [line.strip() for line in text.splitlines()]
    return _NEVER + [line for line in stripped if line and not line.startswith("#")]


def is_ignored(path: str, patterns: list[str]) -> bool:
    """Whether a file, or a folder it lies in, matches: `*.tmp` anywhere, `raw/one` from the top, `raw/` folders only."""
    parts = path.split("/")
    for pattern in patterns:
        folders_only, bare = pattern.endswith("/"), pattern.strip("/")
        for count in range(1, len(parts) + (0 if folders_only else 1)):
            tried = "/".join(parts[:count]) if "/" in pattern.rstrip("/") else parts[count - 1]
            if fnmatch.fnmatchcase(tried, bare):
                return True
    return False


# --- outputs ----------------------------------------------------------------------------------------


def _matches(name: str, patterns: list[str]) -> bool:
    """Whether an input is an output as well, alone or as part of a folder: then the task may write to it."""
    return any(
        pattern == "." or fnmatch.fnmatchcase(name, pattern) or name.startswith(f"{pattern}/") for pattern in patterns
    )


def _written(work: Path, pattern: str) -> Iterator[str]:
    """Files that one output means. Raises NotWrittenError when there is none."""
    pattern = checked_output(pattern)
    names = [pattern]
    if not os.path.lexists(work / pattern):
        names = sorted(glob.glob(pattern, root_dir=work, recursive=True, include_hidden=True))
    found = False
    for name in names:
        if os.path.isdir(work / name):
            for folder, _, inside in os.walk(work / name):
                for each in inside:
                    found = True
                    yield os.path.normpath(os.path.relpath(os.path.join(folder, each), work))
            found = found or name == pattern  # a folder that was named may be empty
        elif os.path.isfile(work / name):
            found = True
            yield name
    if not found:
        raise NotWrittenError(f"output {pattern} was not written")
