"""A slot's scratch directory (`ERG_TASK_DIR`): every attempt finds it empty, and what it leaves there goes with it.

One directory serves a slot for ever, for making and removing one costs as much as a short task. Loaded by every slot: imports
nothing that is not in the interpreter.
"""

from __future__ import annotations

import os
import stat

VARIABLE = b"ERG_TASK_DIR"


class SlotScratch:
    """The directory of one slot.

    Args:
        path: made when it is first needed; what a former life of the slot left there is removed.
    """

    def __init__(self, path: str) -> None:
        self._path, self._made, self._there = path, 0, ""

    def ready(self) -> str:
        """An empty directory. Raises OSError."""
        if not self._there:
            path = self._path if not self._made else f"{self._path}.{self._made}"
            self._made += 1
            remove_tree(path)
            os.mkdir(path, 0o700)
            self._there = path
        return self._there

    def clear(self) -> None:
        """An attempt is over: remove what it left. What cannot be removed is left where it is, and another one is used."""
        if not self._there:
            return
        try:
            left = os.listdir(self._there)
        except OSError:  # the task removed it, or made something else of it
            self._there = ""
            return
        removed = [remove_tree(f"{self._there}/{name}") for name in left]
        if not all(removed):
            self._there = ""


def remove_tree(path: str) -> bool:
    """Remove a file, or a directory and all in it; False when something of it is left."""
    try:
        os.unlink(path)
        return True
    except FileNotFoundError:
        return True
    except OSError:  # a directory, or not ours to remove
        pass
    try:
        if not stat.S_ISDIR(os.lstat(path).st_mode):  # what a link points to is not ours to touch
            return False
        os.chmod(path, 0o700)  # it may have been made read-only
        with os.scandir(path) as found:
            names = [entry.name for entry in found]
        for name in names:
            remove_tree(f"{path}/{name}")
        os.rmdir(path)  # noqa: PTH106  pathlib is too heavy to load here
    except OSError:
        return False
    return True
