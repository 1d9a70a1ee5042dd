"""Files on a host, by rsync over the system's own ssh: its configuration, its agent, its known hosts.

One run of rsync lists, one more brings all that is missing. At either end a file has a hidden name until it is whole.
Listings tell times in whole seconds: a file that is changed twice within one second and keeps its length counts as unchanged.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from shutil import which

from ergates.drivers.objects.files import (
    Found,
    FullDiskError,
    NoSuchFileError,
    Stop,
    TransferError,
    UnusableError,
    is_private,
)

CONNECT_S, SILENT_S = 15, 60
"""How long a connection may take to be made, and say nothing."""
_HOST = re.compile(r"(?:[A-Za-z0-9_][\w.-]*@)?(?:[A-Za-z0-9_][\w.-]*|\[[0-9A-Fa-f:.%]+\])")
_LINE = re.compile(
    rb"([-dlcbps])([rwxsStT-]{9})\S*\s+([\d,.]+)\s+(\d{4}/\d\d/\d\d)\s+(\d\d:\d\d:\d\d)\s(.*)", re.DOTALL
)
_ESCAPED = re.compile(rb"\\#(\d{3})")
_MISSING = re.compile(rb"No such file or directory|Permission denied \(13\)|change_dir .* failed")
_FULL = re.compile(rb"No space left on device|Disk quota exceeded")
_NOT_OURS = re.compile(
    rb"Host key verification failed|Permission denied \(|command not found|Could not resolve hostname"
)
_NO_REFERENT = b"symlink has no referent"
_VANISHED, _PARTIAL = 24, 23
_ENV = {"LC_ALL": "C", "TZ": "UTC"}


class RsyncFiles:
    """A folder of a host.

    Args:
        host: as ssh takes it, perhaps with `user@`.
        folder: absolute path there.
        port: None: what ssh's configuration says.

    Raises:
        UnusableError: it is no name of a host, or rsync is not installed here.
    """

    def __init__(self, host: str, folder: str, port: int | None = None) -> None:
        if not _HOST.fullmatch(host) or not folder.startswith("/"):
            raise UnusableError(f"expected host:/folder or ssh://user@host:22/folder, got {host!r} and {folder!r}")
        program = which("rsync")
        if program is None:
            raise UnusableError("there is no `rsync` on this node\n  hint: install it (Debian: apt-get install rsync)")
        self.place = f"{host}:{folder.rstrip('/') or '/'}"
        self._base = self.place.rstrip("/") + "/"
        remote = (
            f"ssh -o BatchMode=yes -o ConnectTimeout={CONNECT_S} -o ServerAliveInterval=15 -o ServerAliveCountMax=4"
        )
        self._remote = f"{remote} -p {port}" if port else remote
        # Its end is ours: setpriv has the kernel end rsync when this process is killed.
        setpriv = which("setpriv")
        self._program = [*([setpriv, "--pdeathsig", "TERM"] if setpriv else []), program]

    def find(self, path: str, stop: Stop) -> list[Found]:
        """See files.Files."""
        # A folder is listed with its name before everything below it, a file alone.
        source = self._base if path == "." else self._base + path
        listed = self._run(["--list-only", "-rLt", "--", _named(source)], stop)
        parent = path.rpartition("/")[0]
        found, entries = [], 0
        for line in listed.split(b"\n"):
            match = _LINE.fullmatch(line)
            if match is None:
                continue
            entries += 1
            kind, mode, size, day, second, shown = match.groups()
            name = _ESCAPED.sub(lambda octal: bytes([int(octal[1], 8) & 255]), shown).decode(errors="surrogateescape")
            if kind == b"-" and not is_private(name):
                whole = name if path == "." or not parent else f"{parent}/{name}"
                digits = size.replace(b",", b"").replace(b".", b"")
                found.append(Found(whole, int(digits), f"{day.decode()}-{second.decode()}", mode[2:3] in b"xs"))
        if not entries:
            raise NoSuchFileError(f"{source}: no such file or folder")
        return found

    def fetch(self, found: Sequence[Found], folder: Path, stop: Stop) -> None:
        """See files.Files."""
        arguments = ["-LRt", "--whole-file", "--from0", "--files-from=-", "--", self._base, f"{folder}/"]
        self._run(arguments, stop, [each.path for each in found])

    def put(self, folder: Path, paths: Sequence[str], stop: Stop) -> None:
        """See files.Files."""
        arguments = [
            "-LREt",
            "--chmod=D755,F644",
            "--mkpath",
            "--from0",
            "--files-from=-",
            "--",
            f"{folder}/",
            self._base,
        ]
        self._run(arguments, stop, paths)

    def _run(self, arguments: list[str], stop: Stop, paths: Sequence[str] = ()) -> bytes:
        """What it printed. `-s` keeps every path from the remote shell."""
        options = ["-s", "-8", "--no-h", f"--timeout={SILENT_S}", "-e", self._remote]
        listed = b"".join(path.encode(errors="surrogateescape") + b"\0" for path in paths)
        with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as printed, tempfile.TemporaryFile() as said:
            given.write(listed)
            given.seek(0)
            stop.check()
            process = subprocess.Popen(
                [*self._program, *options, *arguments],
                stdin=given, stdout=printed, stderr=said, env=_environment(), start_new_session=True,
            )  # fmt: skip

            def end() -> None:
                with suppress(ProcessLookupError):
                    process.send_signal(signal.SIGTERM)

            stop.wake(end)
            code = process.wait()
            stop.check()
            said.seek(0)
            printed.seek(0)
            self._judge(code, said.read(1 << 20))
            return printed.read()

    def _judge(self, code: int, said: bytes) -> None:
        lines = [line for line in said.splitlines() if line.strip() and _NO_REFERENT not in line]
        if code == 0 or (code == _PARTIAL and all(line.startswith(b"rsync error:") for line in lines)):
            return  # links to nothing were left out, as everywhere
        words = b"; ".join(lines[:3]).decode(errors="replace") or f"rsync ended with code {code}"
        message = f"{self.place}: {words}"
        if _FULL.search(said):
            raise FullDiskError(message)
        if code == 255 or _NOT_OURS.search(said):
            kind = UnusableError if _NOT_OURS.search(said) else TransferError
            raise kind(message)
        if code in (_PARTIAL, _VANISHED, 3) and _MISSING.search(said):
            raise NoSuchFileError(message)
        raise TransferError(message)


def _named(source: str) -> str:
    """The path so that rsync takes it for a name, not for a pattern: only in a pattern does a backslash mean anything."""
    return re.sub(r"[*?\[\\]", r"\\\g<0>", source) if re.search(r"[*?\[]", source) else source


def _environment() -> dict[str, str]:
    return {**os.environ, **_ENV}
