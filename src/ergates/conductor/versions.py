"""What a run was made with, for its manifest: versions, the commit of the experiment's folder, the digest of its file."""

from __future__ import annotations

import hashlib
import platform
import subprocess
from pathlib import Path

from ergates import __version__
from ergates.experiment.layout import FOLDER_SUFFIX
from ergates.experiment.spec import Experiment

GIT_S = 10.0


def versions_of(experiment: Experiment, text: bytes, folder: Path) -> dict[str, str]:
    """Of everything that is the same for all runs.

    Args:
        experiment: whose folder is looked at.
        text: content of its file.
        folder: of its runs: what lies there, or in that of another experiment, is no change.
    """
    found = {
        "ergates": __version__,
        "python": platform.python_version(),
        "file_sha256": hashlib.sha256(text).hexdigest(),
    }
    here = Path(experiment.here)
    commit = _git(here, "rev-parse", "HEAD")
    if commit:
        results = [f":(exclude,glob)**/*{FOLDER_SUFFIX}/**"]
        if folder.is_relative_to(here):
            results.append(f":(exclude,literal){folder.relative_to(here)}")
        found["commit"] = commit
        found["changed"] = "yes" if _git(here, "status", "--porcelain", "--", ".", *results) else "no"
    return found


def _git(folder: Path, *words: str) -> str:
    """What git says, empty where there is no git or no repository. It locks nothing there: killed, it would leave its lock."""
    try:
        done = subprocess.run(
            ["git", "--no-optional-locks", "-C", str(folder), *words],
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
