"""What `erg experiment run` and `resume` have in common: the display around the runs, and what is said at the end."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ergates.cli.wording import count, plural

if TYPE_CHECKING:
    from ergates.conductor.experiment_folder import ExperimentFolder
    from ergates.conductor.make_runs import Asked, Ending

INTERRUPTED = 130
FAILED_SHOWN = 5
_WHY = {
    "drained": "interrupted: what ran was let end, the rest waits",
    "stopped": "interrupted: what ran was given back unharmed",
    "cancelled": "stopped: what is left was cancelled",
}


def make(folder: ExperimentFolder, asked: Asked, *, as_json: bool, quiet: bool) -> int:
    """Make the runs, show how it goes, say what came of it; returns the exit code."""
    from ergates.cli.experiment_display import ExperimentDisplay
    from ergates.conductor.make_runs import make_runs

    with ExitStack() as stack:
        display = ExperimentDisplay(sys.stderr, quiet=quiet)
        stack.callback(display.close)
        try:
            ending = make_runs(folder, asked, display)
        except KeyboardInterrupt:
            display.close()
            hint = f"; {_how_on(folder)}" if folder.begun else ""
            click.echo(f"erg: interrupted before the runs began{hint}", err=True)
            return INTERRUPTED
        except OSError as error:
            if error.filename is not None or error.errno is None:
                raise
            raise OSError(error.errno, error.strerror, str(folder)) from error  # the disk is full
    if as_json:
        _print_json(folder, ending)
    elif not quiet or ending.standing.failed:
        for line in ending_lines(folder, ending, keep_hosts=asked.keep_hosts):
            click.echo(line, err=True)
    if ending.why in ("drained", "stopped"):
        return INTERRUPTED
    return 1 if ending.standing.failed or ending.why == "cancelled" else 0


def ending_lines(folder: ExperimentFolder, ending: Ending, *, keep_hosts: bool = False) -> list[str]:
    """What people read at the end."""
    standing = ending.standing
    lines = [_WHY[ending.why]] if ending.why in _WHY else []
    done = f"{count(standing.finished)} of {plural(standing.total, 'run')} finished"
    lines.append(f"{standing.name}: {done}" + (f", {count(len(standing.failed))} failed" if standing.failed else ""))
    for failed in standing.failed[:FAILED_SHOWN]:
        lines.append(f"  failed: run {failed.number} ({failed.name}): {failed.problem}")
    if len(standing.failed) > FAILED_SHOWN:
        lines.append(f"  ... and {len(standing.failed) - FAILED_SHOWN} more: erg experiment status {folder}")
    if ending.table is not None:
        lines.append(f"table: {shown_path(ending.table)}")
    if standing.ended < standing.total:
        lines.append(_how_on(folder))
    elif standing.failed:
        lines.append(f"try the failed ones again: erg experiment resume {folder} --retry-failed")
    if keep_hosts:
        lines.append(f"hosts, workers and store were left running; take them down: erg experiment resume {folder}")
    return lines


def shown_path(path: Path) -> str:
    """Relative where that is shorter."""
    relative = os.path.relpath(path)
    return relative if len(relative) < len(str(path)) else str(path)


def _how_on(folder: ExperimentFolder) -> str:
    return f"go on: erg experiment resume {folder}"


def _print_json(folder: ExperimentFolder, ending: Ending) -> None:
    from ergates.cli.json_output import plain, print_json

    table = None if ending.table is None else str(ending.table)
    print_json({**plain(ending.standing), "why": ending.why, "folder": str(folder.path), "table": table})
