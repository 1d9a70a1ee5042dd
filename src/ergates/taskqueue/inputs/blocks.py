"""`--pipe`: cut a stream into blocks at the ends of records; each block becomes the standard input of one task.

A block is as large as fits into `block_bytes` without cutting a record; a record that is larger is a block of its own.
As in GNU parallel a record ends after `recend`, begins at `recstart`, and with both lies between the two.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator

from ergates.errors import InputError
from ergates.taskqueue.inputs.request import PipeOptions

RECORD_BYTES_MAX = 256 * 1024 * 1024
"""A block is held in memory and in the store; SQLite holds at most 1 GB in one value."""

_ESCAPE = re.compile(rb"\\([nrt0\\]|x[0-9a-fA-F]{2})")
_ESCAPED = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"0": b"\0", b"\\": b"\\"}


def blocks(chunks: Iterable[bytes], options: PipeOptions, source: str) -> Iterator[bytes]:
    """Cut a stream; the blocks joined are the stream, byte for byte.

    Args:
        chunks: the stream in pieces of any size (lines of an open file are fine).
        options: sizes and what separates records.
        source: for messages.

    Raises:
        InputError: the options make no sense, or a record is too large to be a task's input.
    """
    recend = (b"" if options.recstart else b"\n") if options.recend is None else options.recend
    separator, offset = recend + options.recstart, len(recend)
    if not separator:
        raise InputError("records need a mark", source="--pipe", expected="--recend or --recstart that is not empty")
    if options.block_bytes < 1 or (options.records is not None and options.records < 1):
        raise InputError(
            "a block needs at least one byte and one record", source="--pipe", expected="--block and -N of 1 or more"
        )
    if options.block_bytes > RECORD_BYTES_MAX:
        raise InputError(
            f"a block of {options.block_bytes:,} bytes",
            source="--block",
            expected=f"at most {RECORD_BYTES_MAX:,} bytes",
        )
    if options.records is not None:
        return _counted(chunks, separator, offset, options.records, source)
    return _sized(chunks, separator, offset, options.block_bytes, source)


def _sized(chunks: Iterable[bytes], separator: bytes, offset: int, block_bytes: int, source: str) -> Iterator[bytes]:
    held = bytearray()
    after = len(separator) - offset  # the mark of a cut at block_bytes must be in sight to its last byte
    first = max(0, 1 - offset)  # a cut at 0 would make an empty block
    searched: int | None = None  # in a record longer than a block: no mark begins before here
    for chunk in chunks:
        held += chunk
        while len(held) >= block_bytes + after:
            at = -1
            if searched is None:
                at = held.rfind(separator, first, block_bytes + after)
                searched = max(first, block_bytes - len(separator))
            if at < 0:
                at = held.find(separator, searched)
            if at < 0:
                # Its first bytes may be here already: a mark can lie across two chunks.
                searched = max(first, len(held) - len(separator) + 1)
                _check_record(len(held), source)
                break
            yield bytes(held[: at + offset])
            del held[: at + offset]
            first = max(first, len(separator) - offset)  # not inside the mark this block begins with
            searched = None
    while len(held) > block_bytes and (at := held.rfind(separator, first, block_bytes + after)) >= 0:
        yield bytes(held[: at + offset])
        del held[: at + offset]
        first = max(first, len(separator) - offset)
    if held:
        yield bytes(held)


def _counted(chunks: Iterable[bytes], separator: bytes, offset: int, records: int, source: str) -> Iterator[bytes]:
    held = bytearray()
    count, searched = 0, max(0, 1 - offset)
    for chunk in chunks:
        held += chunk
        while (at := held.find(separator, searched)) >= 0:
            count += 1
            searched = at + len(separator) if offset else at + 1
            if count == records:
                yield bytes(held[: at + offset])
                del held[: at + offset]
                count, searched = 0, max(1 - offset, len(separator) - offset)
        searched = max(searched, len(held) - len(separator) + 1)
        _check_record(len(held), source)
    if held:
        yield bytes(held)


def mark_bytes(text: str) -> bytes:
    """A `--recend` or `--recstart` as typed, with the escapes \\n \\r \\t \\0 \\\\ and \\xHH taken out."""
    return _ESCAPE.sub(_unescape, os.fsencode(text))


def _unescape(match: re.Match[bytes]) -> bytes:
    code = match[1]
    return bytes([int(code[1:], 16)]) if code[:1] == b"x" else _ESCAPED[code]


def _check_record(size_bytes: int, source: str) -> None:
    if size_bytes > RECORD_BYTES_MAX:
        raise InputError(
            f"a block grew to {size_bytes:,} bytes without an end of its records",
            source=source,
            expected=f"at most {RECORD_BYTES_MAX:,} bytes for one task",
            hint="check --recend and --recstart, or let the tasks read parts of a file",
        )
