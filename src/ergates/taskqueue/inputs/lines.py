"""Reading named inputs line by line: bytes in, text out, nothing lost.

Text is UTF-8; bytes that are not become lone surrogates (`surrogateescape`), which `os.fsencode` turns back into the
same bytes when the program starts. Errors name file and line. One line ending, `\\n` or `\\r\\n`, is taken off.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from ergates.errors import InputError
from ergates.taskqueue.inputs.request import OpenFile, shown_name

_BOM = b"\xef\xbb\xbf"


@dataclass(slots=True)
class Problems:
    """Where bad lines go: the first one ends the reading, unless the user said to keep going.

    Args:
        keep_going: collect instead of raising.
        count: how many lines were skipped.
        first: the errors of the first hundred of them.
    """

    keep_going: bool = False
    count: int = 0
    first: list[InputError] = field(default_factory=list)

    KEPT = 100

    def meet(self, error: InputError) -> None:
        """Raise the error, or count it and go on."""
        if not self.keep_going:
            raise error
        self.count += 1
        if len(self.first) < self.KEPT:
            self.first.append(error)


def raw_lines(open_file: OpenFile, name: str) -> Iterator[bytes]:
    """The lines of an input as they are, a byte order mark taken off.

    Raises:
        InputError: it cannot be opened or read.
    """
    try:
        with open_file(name) as lines:
            iterator = iter(lines)
            for first in iterator:
                yield first.removeprefix(_BOM)
                break
            yield from iterator
    except OSError as error:
        hint = "give an existing file, or - for standard input" if isinstance(error, FileNotFoundError) else ""
        reason = error.strerror or str(error)
        raise InputError(f"cannot be read: {reason}", source=shown_name(name), hint=hint) from error


def text_lines(open_file: OpenFile, name: str) -> Iterator[tuple[int, str]]:
    """Numbered lines as text, without their ends.

    Raises:
        InputError: it cannot be read, or a line holds a NUL byte.
    """
    for number, raw in enumerate(raw_lines(open_file, name), 1):
        line = decode(raw)
        if "\0" in line:
            raise nul_error(shown_name(name), number, raw)
        yield number, line


def decode(raw: bytes) -> str:
    """One line as text, without its end."""
    return raw.decode("utf-8", "surrogateescape").removesuffix("\n").removesuffix("\r")


def nul_error(source: str, line: int, raw: bytes) -> InputError:
    """A NUL byte can be in no argument of any program."""
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff") or raw[1:4:2] == b"\0\0" or raw[0:3:2] == b"\0\0":
        hint = f"this looks like UTF-16; convert it: iconv -f UTF-16 -t UTF-8 {source} > tasks.txt"
    else:
        hint = "this looks like a binary or compressed file; give a text file of commands"
    return InputError("the line holds a NUL byte", source=source, line=line, expected="text in UTF-8", hint=hint)
