"""What a call to a pickled function carries: the function or the file it lies in, its arguments, whether to keep the result.

A result that is kept lies in the output pack right behind the call's stdout and stderr (8 bytes of mark, 8 of length,
then the pickle), so that a job that is resumed days later still has it, and `erg logs` shows only what was printed.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from struct import Struct

from ergates.errors import ErgatesError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ergates.cluster.attempt import Output

RESULT_MARK = b"\x89ergres\n"
RESULT_HEADER = Struct("<8sQ")


def encode_payload(function: str | bytes, arguments: bytes, *, keep: bool = False) -> bytes:
    """Begins with byte 0x80, as every pickle; the JSON payloads of task files begin with `{`."""
    return pickle.dumps((function, arguments, keep), 5)


def decode_payload(payload: bytes) -> tuple[str | bytes, bytes, bool]:
    function, arguments, keep = pickle.loads(payload)  # our own socket, or our own store
    return function, arguments, keep


def read_kept_result(folder: Path, output: Output) -> bytes:
    """The result that an attempt left behind its output.

    Raises:
        ErgatesError: the pack is gone or holds no result there.
    """
    path = folder / output.pack
    try:
        with path.open("rb") as file:
            file.seek(output.offset + output.stdout_bytes + output.stderr_bytes)
            header = file.read(RESULT_HEADER.size)
            mark, length = RESULT_HEADER.unpack(header) if len(header) == RESULT_HEADER.size else (b"", 0)
            data = file.read(length)
    except OSError as error:
        raise ErgatesError(
            f"{path}: the result of a finished call cannot be read: {error.strerror}\n"
            "  hint: start the job again under another name"
        ) from error
    if mark != RESULT_MARK or len(data) != length:
        raise ErgatesError(
            f"{path}: expected a result behind the output of a finished call, found none: the file was changed"
        )
    return data
