"""What a run was made with, for its manifest: versions, the commit of the experiment's folder, the digest of its file."""

from __future__ import annotations

import hashlib
import platform
import subprocess
from pathlib import Path

from ergates import __version__
from ergates.experiment.spec import Experiment

GIT_S = 10.0


def versions_of(experiment: Experiment, text: bytes) -> dict[str, str]:
    """Of everything that is the same for all runs.

    Args:
        experiment: whose folder is looked at.
        text: content of its file.
    """
    found = {
        "ergates": __version__,
        "python": platform.python_version(),
        "file_sha256": hashlib.sha256(text).hexdigest(),
    }
    commit = _git(Path(experiment.here), "rev-parse", "HEAD")
    if commit:
        found["commit"] = commit
        found["changed"] = "yes" if _git(Path(experiment.here), "status", "--porcelain", "--", ".") else "no"
    return found


def _git(folder: Path, *words: str) -> str:
    """What git says, empty where there is no git or no repository."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *words],
            capture_output=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            timeout=GIT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
