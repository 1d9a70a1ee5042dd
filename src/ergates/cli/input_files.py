"""Opens the inputs of a command line, as often as asked: what can be read only once is spooled to a temporary file first."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import IO, cast

from ergates.taskqueue.inputs.request import STDIN

_PIECE_BYTES = 1 << 20
_IN_MEMORY_BYTES = 16 << 20


class InputFiles:
    """`open(name)` gives the lines of an input as bytes; `-` is standard input.

    Standard input and pipes are copied when first opened: the key of a job is made of all of its input, and the tasks
    are read after that.
    """

    def __init__(self) -> None:
        self._spooled: dict[str, IO[bytes]] = {}

    def open(self, name: str) -> AbstractContextManager[Iterable[bytes]]:
        """Raises OSError when it cannot be read."""
        if name != STDIN and os.path.isfile(name):
            return open(name, "rb")
        if name not in self._spooled:
            if name == STDIN:
                self._spooled[name] = _spooled(sys.stdin.buffer)
            else:
                with open(name, "rb") as source:
                    self._spooled[name] = _spooled(source)
        self._spooled[name].seek(0)
        return nullcontext(self._spooled[name])

    @property
    def reads_once(self) -> bool:
        """Whether an input was a pipe or standard input, so that nobody can read it again."""
        return bool(self._spooled)

    def close(self) -> None:
        for file in self._spooled.values():
            file.close()

    def __enter__(self) -> InputFiles:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _spooled(source: IO[bytes]) -> IO[bytes]:
    copy = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES)  # noqa: SIM115 - closed by InputFiles.close
    while piece := source.read(_PIECE_BYTES):
        copy.write(piece)
    return cast(IO[bytes], copy)
