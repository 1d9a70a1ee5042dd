"""Runs one call in a warm interpreter: its directory, variables and input, the function itself, what it printed.

A call is either a pickled function with pickled arguments (from `ergates.map` and the Executor), or the JSON of a task
file: `module:function`, or source that runs as a main program. What such a task returns is printed, as JSON where it
can be, so that it ends up in its output like everything else a task says.
"""

from __future__ import annotations

import errno
import json
import os
import pickle
import resource
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import ModuleType

from ergates.drivers.launchers import wire
from ergates.drivers.output.pack import FULL, NOTHING, Spool
from ergates.functions.payload import RESULT_HEADER, RESULT_MARK, decode_payload
from ergates.functions.serialise import (
    dump_exception,
    dump_result,
    load_arguments,
    load_function,
    raised,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_FUNCTIONS_KEPT = 64
_RESET_PEAK_AFTER_NS = 5_000_000
"""Asking the kernel to forget the largest resident size costs some 20 µs; done only behind calls longer than this."""


class CallRunner:
    """State that lasts from call to call: loaded functions, environment, directory, spool."""

    def __init__(self, spool: Spool, pack: str) -> None:
        self._spool, self._pack = spool, pack
        self._functions: dict[str | bytes, tuple[int, Callable[..., Any]]] = {}
        self._base: dict[bytes, bytes] = dict(os.environb)
        self._applied: tuple[dict[bytes, bytes], Sequence[bytes]] = ({}, ())
        self._cwd = b""
        self._all_cpus = os.sched_getaffinity(0)
        self._cpus: tuple[int, ...] = ()
        self._has_stdin = False

    # --- around the call ----------------------------------------------------------------------

    def use_environment(self, base: dict[bytes, bytes]) -> None:
        """The variables of all calls from now on."""
        self._base = base
        self._applied = ({}, ())
        self._set_environment({}, ())

    def run(self, launch: tuple[Any, ...], started_ns: int) -> tuple[Any, ...]:
        """Run one launch of wire.LAUNCH_FIELDS and return its end, in the order of wire.ENDED_FIELDS."""
        sequence, _, changes, removed, cwd, data, path, _, _, cpus, folder, payload = launch
        pid = os.getpid()
        try:
            self._prepare(changes, removed, cwd, data, path, cpus)
        except OSError as problem:
            flags = wire.DISK_FULL if problem.errno in FULL else 0
            shown = problem.filename
            place = f" {os.fsdecode(shown) if isinstance(shown, bytes) else shown}" if shown else ""
            reason = f"not started:{place}: {problem.strerror}" if place else f"not started: {problem.strerror}"
            return (sequence, pid, 0, wire.boottime_ns(), None, None, reason, flags, 0, 0, 0, *NOTHING, None)
        cpu_before = _cpu_ns()
        exit_code, result, keep = self._call(payload)
        cpu_ns = _cpu_ns() - cpu_before
        ended_ns = wire.boottime_ns()
        maxrss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        if ended_ns - started_ns > _RESET_PEAK_AFTER_NS:
            _forget_peak()
        error: str | None = None
        flags = 0
        kept = NOTHING
        try:
            _flush()
            kept = self._keep(folder, result if keep else None)
        except OSError as problem:
            error = f"its output could not be kept in {os.fsdecode(folder)}: {problem.strerror}"
            flags = wire.DISK_FULL if problem.errno in FULL else 0
        code = exit_code if error is None else None
        return (sequence, pid, started_ns, ended_ns, code, None, error, flags, cpu_ns, maxrss, 0, *kept, result)

    def _prepare(
        self,
        changes: dict[bytes, bytes],
        removed: Sequence[bytes],
        cwd: bytes,
        data: bytes | None,
        path: bytes | None,
        cpus: tuple[int, ...],
    ) -> None:
        self._set_environment(changes, removed)
        if cwd != self._cwd or os.getcwdb() != cwd:
            os.chdir(cwd)
            self._cwd = cwd
        if cpus != self._cpus:
            os.sched_setaffinity(0, cpus or self._all_cpus)
            self._cpus = cpus
        if data is not None or path is not None or self._has_stdin:
            self._set_stdin(data, path)

    def _set_environment(self, changes: dict[bytes, bytes], removed: Sequence[bytes]) -> None:
        if (changes, removed) == self._applied and not changes and not removed:
            return
        wanted = {**self._base, **changes}
        for name in removed:
            wanted.pop(name, None)
        present = dict(os.environb)
        for name in present.keys() - wanted.keys():
            del os.environb[name]
        for name, value in wanted.items():
            if present.get(name) != value:
                os.environb[name] = value
        self._applied = (changes, removed)

    def _set_stdin(self, data: bytes | None, path: bytes | None) -> None:
        if path is not None:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY)
        elif data is not None:
            fd = os.memfd_create("stdin")
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(fd, rest) :]
            os.lseek(fd, 0, os.SEEK_SET)
        else:
            fd = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        os.dup2(fd, 0)
        os.close(fd)
        self._has_stdin = data is not None or path is not None
        sys.stdin = open(0, encoding="utf-8", errors="surrogateescape", closefd=False)  # noqa: SIM115 - lives on

    def _keep(self, folder: bytes, result: bytes | None) -> tuple[str, int, int, int]:
        kept = self._spool.keep(folder)
        if result is None:
            return kept
        os.makedirs(folder, exist_ok=True)
        fd = os.open(os.path.join(folder, os.fsencode(self._pack)), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            end = os.fstat(fd).st_size
            if kept == NOTHING:
                kept = (self._pack, end, 0, 0)
            rest = memoryview(RESULT_HEADER.pack(RESULT_MARK, len(result)) + result)
            while rest:
                written = os.pwrite(fd, rest, end)
                rest, end = rest[written:], end + written
        finally:
            os.close(fd)
        return kept

    # --- the call itself ----------------------------------------------------------------------

    def _call(self, payload: bytes | None) -> tuple[int, bytes | None, bool]:
        """Exit code, result for whoever waits for it, and whether it is to be kept in the pack."""
        if payload is None:
            _say("a python task without a payload: nothing to run")
            return 127, None, False
        if payload[:1] == b"{":
            return self._run_task(payload), None, False
        source, arguments, keep = decode_payload(payload)
        function: object = None
        try:
            function = self._function(source)
            args, kwargs = load_arguments(arguments)
            value = function(*args, **kwargs)
            result = dump_result(function, value)
        except BaseException as error:  # also SystemExit: whoever waits for the result gets to see it
            result = dump_exception(error, _traceback_of(error))
        failed = raised(result)
        if failed and keep:
            _say(_text_of(result))
        return int(failed), result, keep

    def _function(self, source: str | bytes) -> Callable[..., Any]:
        """Loaded once; again only when its file was changed since (a job that is resumed with a mended function)."""
        known = self._functions.get(source)
        changed_ns = 0 if isinstance(source, bytes) or (known and known[0] == 0) else _changed_ns(source)
        if known is not None and known[0] == changed_ns:
            return known[1]
        function = load_function(source)
        while len(self._functions) >= _FUNCTIONS_KEPT:
            del self._functions[next(iter(self._functions))]
        self._functions[source] = (changed_ns, function)
        return function

    def _run_task(self, payload: bytes) -> int:
        """A task of a file; what it raises goes to its stderr as it would from a program of its own."""
        call = json.loads(payload)
        args, kwargs = call.get("args", []), call.get("kwargs", {})
        try:
            if call.get("function") is not None:
                value = _named(call["function"])(*args, **kwargs)
                if value is not None:
                    print(_shown(value))
            else:
                _run_source(call["source"], args, kwargs)
        except SystemExit as leaving:
            return _exit_code(leaving)
        except BaseException as error:
            _say(_traceback_of(error))
            return 1
        return 0


def _named(text: str) -> Callable[..., Any]:
    """`package.module:name.name`; the directory of the task comes first on the import path, as for a script."""
    import importlib

    module_name, _, path = text.partition(":")
    if "" not in sys.path:
        sys.path.insert(0, "")
    importlib.invalidate_caches()
    found: Any = importlib.import_module(module_name)
    for name in path.split("."):
        found = getattr(found, name)
    if not callable(found):
        raise TypeError(f"{text} is a {type(found).__name__}, expected a function")
    function: Callable[..., Any] = found
    return function


def _run_source(source: str, args: list[object], kwargs: dict[str, object]) -> None:
    main = ModuleType("__main__")
    main.__dict__.update(args=args, kwargs=kwargs)
    before = sys.modules["__main__"]
    sys.modules["__main__"] = main
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        exec(compile(source, "<task>", "exec"), main.__dict__)  # running the user's source is the task
    finally:
        sys.modules["__main__"] = before


def _shown(value: object) -> str:
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):  # not JSON: a set, an array, an object of the user's
        return repr(value)


def _exit_code(leaving: SystemExit) -> int:
    if leaving.code is None:
        return 0
    if isinstance(leaving.code, int):
        return leaving.code & 0xFF
    _say(str(leaving.code))
    return 1


def _traceback_of(error: BaseException) -> str:
    """As Python prints it, without the frames of ours that lead to the call."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    return "".join(traceback.format_exception(type(error), error, trace or error.__traceback__))


def _text_of(result: bytes) -> str:
    _, kind, message, text = pickle.loads(memoryview(result)[1:])  # made by ourselves just now
    return text or f"{kind}: {message}"


def _say(text: str) -> None:
    with suppress(OSError, ValueError):  # a full disk is noticed, and reported, when the output is kept
        print(text.rstrip("\n"), file=sys.stderr)


def _flush() -> None:
    """Raises OSError: the disk under the spool is full."""
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        try:
            if stream is not None:
                stream.flush()
        except ValueError:
            continue  # the call closed it
        except OSError as problem:
            if problem.errno in FULL or problem.errno == errno.EIO:
                raise


def _cpu_ns() -> int:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time_ns() + int((children.ru_utime + children.ru_stime) * 1e9)


def _forget_peak() -> None:
    """So that the largest resident size of the next call is its own. Where the kernel refuses, it stays an upper bound."""
    with suppress(OSError), open("/proc/self/clear_refs", "w") as file:
        file.write("5")


def _changed_ns(path: str) -> int:
    """0 for a file that is named after its contents: it never changes, no need to look before every call."""
    if os.path.basename(path).startswith("function-"):
        return 0
    try:
        return Path(path).stat().st_mtime_ns
    except OSError:
        return -1  # load_function says in words what is wrong
