"""Removing what the tasks of forgotten jobs printed. The job's folder is renamed first, so that half a folder is never taken for
a whole one; a removal that was interrupted is finished by the next one.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from ergates.errors import ErgatesError

_MARK = ".forgotten-"


def set_aside(state_dir: Path, job: str) -> None:
    """Make the job's folder vanish under its name.

    Raises:
        ErgatesError: the file system refuses.
    """
    folder = state_dir / "jobs" / job
    try:
        folder.rename(folder.with_name(f"{_MARK}{job}"))
    except FileNotFoundError:
        return
    except OSError as error:
        raise ErgatesError(
            f"{folder}: {error.strerror}\n  hint: {job} was not forgotten; see who owns that folder"
        ) from error


def remove_set_aside(state_dir: Path) -> None:
    """Remove all that was set aside, now or by a call that was killed.

    Raises:
        ErgatesError: the file system refuses; the next call tries again.
    """
    for folder in sorted((state_dir / "jobs").glob(f"{_MARK}*")):
        try:
            shutil.rmtree(folder)
        except FileNotFoundError:
            continue  # another call was faster
        except OSError as error:
            raise ErgatesError(f"{folder} cannot be removed: {error.strerror}: {error.filename}") from error
