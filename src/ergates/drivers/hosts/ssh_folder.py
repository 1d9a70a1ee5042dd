"""This side of an experiment's folder on one host: asks far_folder.py over one ssh, kept open, and brings folders here whole.

Calls block, and several threads may make them: one at a time is under way. A connection that broke is made anew by the next
call; bringing a folder is tried again for a while, for a host that restarts.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tarfile
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from ergates.drivers.hosts import far_folder
from ergates.drivers.hosts.far_folder import FrameReader, FrameWriter, Trouble, pack, unpack
from ergates.drivers.placers.conversation import GREETING_TIMEOUT_S
from ergates.drivers.placers.ssh_words import HostError, Reason, reason_of

GATHER_S = 30.0
"""How long bringing a folder is tried again; a network that hiccups is back by then. A host known to be away is tried once."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 10.0
SILENT_S = 3.0
"""So long after a host was not reached nobody waits for it again."""
_SAID_MAX = 16_384
_LINE_MAX = 1 << 20


class FarLink:
    """One ssh at whose other end far_folder.py answers. Made by `open_link`; not for several threads at once."""

    def __init__(self, command: Sequence[str]) -> None:
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 (closed in `close`)
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said, start_new_session=True
        )
        assert self._process.stdin and self._process.stdout
        self._in: IO[bytes] = self._process.stdin
        self._out: IO[bytes] = self._process.stdout
        self._noise = ""

    def greet(self, timeout_s: float) -> None:
        """Send the program and wait until it answers. Raises HostError."""
        program = Path(far_folder.__file__).read_bytes()
        late = threading.Event()

        def too_late() -> None:
            late.set()
            self._kill()

        timer = threading.Timer(timeout_s, too_late)
        timer.start()
        try:
            with contextlib.suppress(OSError):  # why is on standard error, and reading finds the end
                self._in.write(f"{len(program)}\n".encode() + program)
                self._in.flush()
            if self._answer() is None:
                code = self._process.wait()
                raise HostError(reason_of(None if late.is_set() else code, self.said(), self._noise))
        finally:
            timer.cancel()
            timer.join()

    def ask(self, what: str, **details: Any) -> dict[str, Any]:
        """One request and its answer. Raises HostError: it could not (`may_pass` False), or the connection ended."""
        self.begin(what, **details)
        return self.answered()

    def begin(self, what: str, **details: Any) -> None:
        """Ask without waiting: content follows by `frames_out`."""
        with contextlib.suppress(OSError):  # reading the answer finds the end
            self._in.write(json.dumps({"do": what, **details}).encode() + b"\n")
            self._in.flush()

    def answered(self) -> dict[str, Any]:
        """The answer to what was asked."""
        answer = self._answer()
        if answer is None:
            last = self.said().strip().splitlines()
            raise HostError(Reason(f"the connection ended: {last[-1] if last else 'without a word'}", may_pass=True))
        if not answer.pop("ok"):
            raise HostError(Reason(str(answer["trouble"])))
        return answer

    @property
    def frames_in(self) -> FrameReader:
        return FrameReader(self._out)

    @property
    def frames_out(self) -> FrameWriter:
        return FrameWriter(self._in)

    def wait(self) -> None:
        """Until it has ended, for whatever reason."""
        self._process.wait()

    def said(self) -> str:
        """What ssh printed on standard error, its end."""
        size = os.fstat(self._said.fileno()).st_size
        return os.pread(self._said.fileno(), _SAID_MAX, max(0, size - _SAID_MAX)).decode(errors="replace")

    def close(self, grace_s: float = 2.0) -> None:
        """End it; no ssh of ours, nor that of a jump host, is left."""
        with contextlib.suppress(OSError):
            self._in.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(grace_s)
        self._kill()
        self._process.wait()
        self._out.close()
        self._said.close()

    def end(self) -> None:
        """From another thread than the one that waits for it."""
        self._kill()

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def _answer(self) -> dict[str, Any] | None:
        mark = far_folder.MARK.encode()
        while line := self._out.readline(_LINE_MAX):
            if line.startswith(mark):
                found: dict[str, Any] = json.loads(line.removeprefix(mark))
                return found
            self._noise = line.decode(errors="replace").strip() or self._noise
        return None


@contextlib.contextmanager
def open_link(command: Sequence[str], *, timeout_s: float = GREETING_TIMEOUT_S) -> Iterator[FarLink]:
    """Raises HostError: no greeting came."""
    link = FarLink(command)
    try:
        link.greet(timeout_s)
        yield link
    finally:
        link.close()


class FarFolder:
    """The experiment's folder on one host.

    Args:
        command: connects and starts the far side.
        name: of the experiment's folder there.
        directory: below which; empty: the user's cache.
        key: tells experiments apart where paths must be short.
    """

    def __init__(self, command: Sequence[str], *, name: str, directory: str, key: str) -> None:
        self._command, self._known = tuple(command), {"name": name, "directory": directory, "key": key}
        self._lock = threading.Lock()
        self._link: FarLink | None = None
        self._open = contextlib.ExitStack()
        self._away = False
        self._silent_until, self._why = 0.0, Reason("")

    def ready(self) -> tuple[str, dict[str, Any]]:
        """Make it; its path there, and what was noted there."""
        answer = self._ask("ready")
        return str(answer["base"]), dict(answer["notes"])

    def send(self, places: Iterable[tuple[str, Path]]) -> None:
        """Files and folders become `here` there, all at once."""
        with self._lock, self._linked() as link:
            link.begin("take", **self._known)
            try:
                with contextlib.suppress(BrokenPipeError):  # the answer says why
                    pack(places, link.frames_out)
            except Trouble as trouble:
                with contextlib.suppress(HostError):
                    link.answered()
                raise HostError(Reason(str(trouble))) from trouble
            link.answered()

    def note(self, done: str, value: str) -> None:
        """Remember there what was done."""
        self._ask("note", done=done, value=value)

    def gather(self, folder: str, into: Path) -> None:
        """Bring a folder of a run here: `into` appears whole or not at all. Raises HostError."""
        until, pause_s = time.monotonic() + (0.0 if self._away else GATHER_S), FIRST_PAUSE_S
        while True:
            try:
                self._gather(folder, into)
                self._away = False
                return
            except OSError as error:
                raise HostError(Reason(f"{error.filename or into}: {error.strerror or error}")) from error
            except HostError as error:
                if not error.reason.may_pass or time.monotonic() > until:
                    self._away = error.reason.may_pass
                    raise
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _gather(self, folder: str, into: Path) -> None:
        if into.exists():
            return
        growing = into.with_name(f".{into.name}.gathering")
        shutil.rmtree(growing, ignore_errors=True)
        growing.mkdir(parents=True)
        try:
            with self._lock, self._linked() as link:
                link.ask("give", folder=folder, **self._known)
                frames, trouble = link.frames_in, None
                try:
                    unpack(frames, growing)
                except (Trouble, tarfile.TarError) as error:
                    trouble = error  # the far side may know better why
                    frames.finish()
                link.answered()
                if trouble is not None:
                    raise HostError(Reason(str(trouble)))
            (growing / "whole").replace(into)
        finally:
            shutil.rmtree(growing, ignore_errors=True)

    def forget(self, folders: Sequence[str]) -> None:
        """Delete folders of runs there."""
        self._ask("drop", folders=list(folders))

    def remove(self) -> list[str]:
        """Delete it there but for folders of runs; returns those."""
        return list(self._ask("remove")["left"])

    def nest(self) -> tuple[str, str]:
        """Where the next connection's socket goes there, and the name that will lead to it."""
        answer = self._ask("nest")
        return str(answer["socket"]), str(answer["link"])

    def close(self) -> None:
        with self._lock:
            self._link = None
            self._open.close()

    def _ask(self, what: str, **details: Any) -> dict[str, Any]:
        for last in (False, True):
            try:
                with self._lock, self._linked() as link:
                    return link.ask(what, **details, **self._known)
            except HostError as error:
                if last or not error.reason.may_pass:
                    raise
        raise AssertionError("unreachable")

    @contextlib.contextmanager
    def _linked(self) -> Iterator[FarLink]:
        """The connection; it is given up when anything goes wrong but what the far side itself says."""
        if self._link is None and time.monotonic() < self._silent_until:
            raise HostError(self._why)
        if self._link is None:
            try:
                self._link = self._open.enter_context(open_link(self._command))
            except HostError as error:
                self._silent_until, self._why = time.monotonic() + SILENT_S, error.reason
                raise
        try:
            yield self._link
        except BaseException as error:
            if not isinstance(error, HostError) or error.reason.may_pass:
                self._link = None
                self._open.close()
            if isinstance(error, (EOFError, ConnectionError)):
                raise HostError(Reason("the connection ended while a folder was brought", may_pass=True)) from error
            raise
