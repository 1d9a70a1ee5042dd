"""Where everything of an experiment lies. Paths only; nothing is read or made here.

```
kv-tail.experiment/           beside kv-tail.toml, or where --folder says
  experiment.toml             the file as it was when the runs were made
  plan.jsonl                  one Run a line
  store/ store.toml hosts/    the private store, how to reach it, what was set up for hosts (gone when nothing is left running)
  runs/0007-policy=darc-load=0.5-r2/
    manifest.json             written last: the run is finished
    attempt-1/
      0-server/               rank and role: a member's folder
        member.json           written last by the member
        server/               a program's folder, where it runs: stdout, stderr, its own files
      1-client/client/...
  table.csv table.parquet     one row a finished run
  comparison.json  figures/*.png
```
"""

from __future__ import annotations

import re
from pathlib import Path

from ergates.experiment.run import Run
from ergates.experiment.spec import Value

MANIFEST, MEMBER, PLAN, EXPERIMENT = "manifest.json", "member.json", "plan.jsonl", "experiment.toml"
STDOUT, STDERR = "stdout", "stderr"
FOLDER_SUFFIX = ".experiment"
NAME_MAX = 120
"""Bytes of a run's folder: file systems allow 255, and paths hold it more than once."""
_UNSAFE = re.compile(r"[^A-Za-z0-9._+-]+")


def run_folder_name(run: Run) -> str:
    """`0007-policy=darc-load=0.5-r2`: numbered, so that two points whose values look alike do not meet."""
    pieces = [f"{run.number:04d}", *(f"{name}={shown_value(value)}" for name, value in run.point)]
    return f"{'-'.join(map(_safe, pieces))[:NAME_MAX].rstrip('-.')}-r{run.repetition}"


def _safe(piece: str) -> str:
    return "=".join(_UNSAFE.sub("_", part) for part in piece.split("=", 1))


def attempt_folder(run_folder: Path, attempt: int) -> Path:
    """Of one try of a run."""
    return run_folder / f"attempt-{attempt}"


def member_folder_name(rank: int, role: str) -> str:
    """`0-server`."""
    return f"{rank}-{role}"


def shown_value(value: Value) -> str:
    """As templates and tables show it: true and false as TOML writes them."""
    return str(value).lower() if isinstance(value, bool) else str(value)
