"""The paths a task brings along and leaves behind: what may be said, and where on the node it ends up.

A path is relative to the job's `--data` and, on the node, to the work directory. Nothing may lead out of either; it is checked
when a job is submitted, and again on the node, for a store may hold what an older or another program put there.
"""

from __future__ import annotations

import posixpath
import re

from ergates.cluster.job import JobSpec
from ergates.cluster.task import TaskSpec

_URL = re.compile(r"[a-z][a-z0-9+.-]*://")
_PASSWORD = re.compile(r"[a-z][a-z0-9+.-]*://[^/@\s]*:[^/@\s]*@")
_LINE_ENDS = re.compile(r"[\0\n\r]")


def is_url(text: str) -> bool:
    """Whether an input says itself where it comes from."""
    return _URL.match(text) is not None


def split_url(url: str) -> tuple[str, str]:
    """The folder of a URL, and the rest: the name with what follows it (`?versionId=3`)."""
    end = min((at for at in (url.find("?"), url.find("#")) if at >= 0), default=len(url))
    cut = url.rindex("/", 0, end)
    return url[:cut], url[cut + 1 :]


def url_name(url: str) -> str:
    """The file name that an input with an address of its own has in the work directory."""
    return split_url(url)[1].partition("?")[0].partition("#")[0]


def checked_input(text: str) -> str:
    """A path below the job's data, or a URL; as short as it can be said.

    Raises:
        ValueError: it leads out, or a URL names no file or holds a password.
    """
    if not is_url(text):
        return _checked_relative(text)
    if _PASSWORD.match(text):
        raise ValueError("a password does not belong here; keep it in the configuration of the cloud's library")
    if _LINE_ENDS.search(text) or url_name(text) in ("", ".", ".."):
        raise ValueError(f"expected the URL of one file such as s3://bucket/traces/one.gz, got {text!r}")
    return text


def checked_output(text: str) -> str:
    """A path or pattern below the work directory; as short as it can be said. Raises ValueError."""
    if is_url(text):
        raise ValueError(f"expected a path such as results/one.csv, got {text!r}; it is kept below --data")
    return _checked_relative(text)


def check_carried(spec: TaskSpec, data: str) -> None:
    """Check what a task brings along and leaves behind.

    Args:
        spec: of the task.
        data: of its job; empty: it has none.

    Raises:
        ValueError: a path leads out, or something has no place to come from or to go to.
    """
    needing = [text for text in map(checked_input, spec.inputs) if not is_url(text)]
    needing += map(checked_output, spec.outputs)
    if needing and not data:
        raise ValueError(f"{needing[0]} has no place to come from or to go to; say which with --data URL")
    if spec.kind == "python" and carries(spec):
        raise ValueError("Python functions run in the directory of their worker and carry no files")


def carries(spec: TaskSpec) -> bool:
    """Whether anything is to be brought to its node or back."""
    return bool(spec.inputs or spec.outputs)


def has_work_directory(spec: TaskSpec, job: JobSpec) -> bool:
    """Whether its command runs in a directory of its own, made for the attempt."""
    return spec.kind != "python" and (bool(job.data) or carries(spec))


def _checked_relative(text: str) -> str:
    if text.startswith(("/", "~")):
        raise ValueError(f"expected a path below --data such as cfg/one.toml, not an absolute one; got {text!r}")
    if ".." in text.split("/"):
        raise ValueError(f"expected a path below --data, without `..`; got {text!r}")
    if not text or _LINE_ENDS.search(text):
        raise ValueError(f"expected a path such as cfg/one.toml, on one line; got {text!r}")
    return posixpath.normpath(text)
