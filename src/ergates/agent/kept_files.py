"""What a program leaves in its folder when it has ended: what is named is kept, the rest goes; all is listed with its size."""

from __future__ import annotations

import glob
import os
import shutil
import stat
from collections.abc import Sequence
from pathlib import Path

from ergates.experiment.layout import STDERR, STDOUT

FILES_MAX = 10_000
"""More than this are kept, but not listed each."""


def keep_files(folder: Path, gather: Sequence[str]) -> tuple[tuple[tuple[str, int], ...], list[str]]:
    """Tidy a program's folder.

    Args:
        folder: the program's; nothing writes there any more.
        gather: globs, relative to it or absolute; files they name elsewhere are copied into it. Empty: everything stays.

    Returns:
        (path relative to the folder, bytes) of each regular file, sorted; and in words what was not kept although it was named,
        or is no regular file.

    Raises:
        OSError: the disk is full, a file cannot be read.
    """
    notes: list[str] = []
    if gather:
        wanted = _named(folder, gather, notes)
        _remove_others(folder, wanted)
    files: list[tuple[str, int]] = []
    for path in sorted(_walk(folder)):
        facts = path.lstat()
        shown = str(path.relative_to(folder))
        if stat.S_ISREG(facts.st_mode):
            files.append((shown, facts.st_size))
        elif stat.S_ISLNK(facts.st_mode):
            notes.append(f"{shown}: a link, not followed")
        else:  # of no use without the process behind it, and trouble for whoever copies the folder
            path.unlink()
            notes.append(f"{shown}: a socket, pipe or device, removed")
    if len(files) > FILES_MAX:
        notes.append(f"{len(files)} files, of which {FILES_MAX} are listed")
    return tuple(files[:FILES_MAX]), notes


def _named(folder: Path, gather: Sequence[str], notes: list[str]) -> set[Path]:
    """Files of the folder that are named; those from elsewhere are copied into it first."""
    wanted = {folder / STDOUT, folder / STDERR}
    for pattern in gather:
        found = [Path(each) for each in glob.glob(pattern, root_dir=folder, recursive=True, include_hidden=True)]
        if not found:
            notes.append(f"{pattern}: nothing there")
        for each in found:
            path = folder / each  # an absolute one stays as it is
            inside = Path(os.path.abspath(path)).is_relative_to(folder)
            for source in _walk(path) if path.is_dir() and not path.is_symlink() else [path]:
                if inside:
                    wanted.add(Path(os.path.abspath(source)))
                elif source.is_file():
                    wanted.add(_copied(source, path, folder, wanted))
                else:
                    notes.append(f"{source}: no regular file")
    return wanted


def _copied(source: Path, named: Path, folder: Path, taken: set[Path]) -> Path:
    """Into the folder, under its own name (below the named folder's where that was named), or a free one like it."""
    target = folder / named.name / source.relative_to(named) if source != named else folder / source.name
    number = 2
    base = target
    while target in taken or (target.exists() and not target.is_file()):
        target = base.with_name(f"{base.stem}-{number}{base.suffix}")
        number += 1
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source, target)
    return target


def _remove_others(folder: Path, wanted: set[Path]) -> None:
    for root, folders, names in os.walk(folder, topdown=False):
        for name in names:
            path = Path(root, name)
            if path not in wanted:
                path.unlink()
        for name in folders:
            path = Path(root, name)
            if path.is_symlink():
                path.unlink()
            elif not any(path.iterdir()):
                path.rmdir()


def _walk(folder: Path) -> list[Path]:
    """Everything below that is no folder."""
    return [
        Path(root, name)
        for root, folders, names in os.walk(folder)
        for name in (*names, *(each for each in folders if Path(root, each).is_symlink()))
    ]
