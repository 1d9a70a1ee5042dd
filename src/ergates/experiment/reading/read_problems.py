"""All that is wrong with a file is said at once, each thing with its line: mending one at a time is tedious."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches

from ergates.errors import InputError
from ergates.experiment.reading.read_positions import Path, line_of

PROBLEMS_MAX = 10
"""Shown of one file: what comes after is mostly a consequence."""


class ExperimentFileError(InputError):
    """What is wrong with an experiment file. Source and line are those of the first problem; the text names all.

    Args:
        problems: one or more, in the order of their lines.
    """

    def __init__(self, problems: Iterable[InputError]) -> None:
        self.problems = tuple(problems)
        first = self.problems[0]
        super().__init__(first.message, source=first.source, line=first.line, expected=first.expected, hint=first.hint)
        shown = [str(each) for each in self.problems[:PROBLEMS_MAX]]
        if len(self.problems) > PROBLEMS_MAX:
            shown.append(f"and {len(self.problems) - PROBLEMS_MAX} more")
        self.args = ("\n".join(shown),)


class Problems:
    """Collects what is wrong.

    Args:
        source: as the user named the file.
        lines: of its keys.
    """

    def __init__(self, source: str, lines: Mapping[Path, int]) -> None:
        self._source, self._lines = source, lines
        self._found: list[InputError] = []

    def add(self, path: Path, message: str, *, expected: str = "", hint: str = "") -> None:
        """Something is wrong with the key at `path`; where there is no such key, with the table it belongs to."""
        error = InputError(message, source=self._source, line=line_of(self._lines, path), expected=expected, hint=hint)
        if str(error) not in map(str, self._found):
            self._found.append(error)

    def has(self, path: Path) -> bool:
        """Whether the file has this key."""
        return path in self._lines

    def __len__(self) -> int:
        return len(self._found)

    def raise_any(self) -> None:
        """Raises:
        ExperimentFileError: something is wrong.
        """
        if self._found:
            raise ExperimentFileError(sorted(self._found, key=lambda each: each.line or 0))


def nearest(word: str, known: Iterable[str], *, none: str = "there is none") -> str:
    """A hint: the known word that is most like this one, or all of them.

    Args:
        word: what somebody wrote.
        known: what would have been right.
        none: what to say when nothing is known.
    """
    words = list(known)
    close = get_close_matches(word, words, n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]}?"
    listed = ", ".join(words[:20]) + (", ..." if len(words) > 20 else "")
    return f"known are {listed}" if words else none
