"""Runs the real `erg` in a directory of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ERG = (sys.executable, "-m", "ergates")
TIMEOUT_S = 60


def clean_environment(home: Path, **more: str) -> dict[str, str]:
    """Ours without settings that would change what is tested."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ERGATES_", "_ERG", "XDG_"))}
    own = {"HOME": str(home), "PYTHONWARNINGS": "error", "TERM": "xterm", "COLUMNS": "100"}
    return {**kept, **own, **more}


class Erg:
    """`erg("run", "file", stdin="...", NAME="value")` runs to its end; `start` does not wait."""

    def __init__(self, cwd: Path) -> None:
        self.cwd = cwd

    def __call__(self, *args: str, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        ended = self.bytes(*args, stdin=stdin.encode("utf-8", "surrogateescape"), **environment)
        out, err = (data.decode("utf-8", "surrogateescape") for data in (ended.stdout, ended.stderr))
        return subprocess.CompletedProcess(ended.args, ended.returncode, out, err)

    def bytes(self, *args: str, stdin: bytes = b"", **environment: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [*ERG, *args],
            cwd=self.cwd,
            input=stdin,
            capture_output=True,
            env=clean_environment(self.cwd, **environment),
            timeout=TIMEOUT_S,
            check=False,
        )

    def start(self, *args: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*ERG, *args],
            cwd=self.cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=clean_environment(self.cwd, **environment),
        )
