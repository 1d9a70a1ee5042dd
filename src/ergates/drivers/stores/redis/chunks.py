"""Commands in chunks: 512 tasks each, MessagePack, compressed. What tasks have in common costs nearly nothing so, and a million
short commands cost some bytes each. A chunk never changes but that the last one of an open job grows; an edited task has its
new spec elsewhere (`edits`).

A chunk that would be large (scripts' payloads, commands of megabytes) is cut into parts that are fetched one by one.
"""

from __future__ import annotations

import zlib
from collections import OrderedDict
from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

from ergates.cluster.task import TaskSpec
from ergates.errors import UsageError

CHUNK_TASKS = 512
PART_BYTES = 256 * 1024
LEVEL = 1
"""zlib's fastest: level 6 saves a tenth and takes four times as long."""
CACHED_CHUNKS = 64

_WHOLE, _PARTS = b"W", b"P"


class _Part(msgspec.Struct, array_like=True):
    """`odd` are commands that are not valid UTF-8, by place; their specs have an empty command."""

    specs: list[TaskSpec]
    odd: dict[int, bytes | list[bytes]] = {}


_encoder = msgspec.msgpack.Encoder()
_part_decoder = msgspec.msgpack.Decoder(_Part)
_sizes_decoder = msgspec.msgpack.Decoder(list[int])


def encode_chunk(number: int, first: int, specs: Sequence[TaskSpec]) -> list[tuple[str, bytes]]:
    """Fields and values of the job's hash of chunks.

    Args:
        number: of the chunk.
        first: id of its first task, for messages.
        specs: its tasks.

    Raises:
        UsageError: text other than a command is not valid UTF-8.
    """
    plain = encode_specs(first, specs)
    if len(plain) <= PART_BYTES or len(specs) == 1:
        return [(str(number), _WHOLE + zlib.compress(plain, LEVEL))]
    size = max(1, len(specs) * PART_BYTES // len(plain))
    fields = []
    starts = list(range(0, len(specs), size))
    for start in starts:
        part = encode_specs(first + start, specs[start : start + size])
        fields.append((f"{number}.{start}", _WHOLE + zlib.compress(part, LEVEL)))
    return [(str(number), _PARTS + _encoder.encode(starts)), *fields]


def encode_specs(first: int, specs: Sequence[TaskSpec]) -> bytes:
    try:
        return _encoder.encode((specs,))
    except UnicodeEncodeError:
        pass
    kept, odd = [], {}
    for place, spec in enumerate(specs):
        command = spec.command
        if not _is_text(command):
            odd[place] = _as_bytes(command)
            spec = replace(spec, command="" if isinstance(command, str) else ())
        try:
            _encoder.encode(spec)
        except UnicodeEncodeError as error:
            raise UsageError(f"task {first + place}: {error.object!a} is not valid UTF-8 text") from error
        kept.append(spec)
    return _encoder.encode((kept, odd))


def decode_specs(plain: bytes) -> list[TaskSpec]:
    part = _part_decoder.decode(plain)
    for place, command in part.odd.items():
        part.specs[place] = replace(part.specs[place], command=_from_bytes(command))
    return part.specs


def decode_part(value: bytes) -> list[TaskSpec]:
    return decode_specs(zlib.decompress(value[1:]))


def parts_of(value: bytes) -> list[int] | None:
    """Where the parts of a chunk begin, None when it is whole."""
    return _sizes_decoder.decode(value[1:]) if value[:1] == _PARTS else None


def place_of(task: int) -> tuple[int, int]:
    """(chunk, place in it) of a task's id."""
    return divmod(task - 1, CHUNK_TASKS)


def _is_text(command: str | tuple[str, ...]) -> bool:
    words = (command,) if isinstance(command, str) else command
    try:
        for word in words:
            word.encode()
    except UnicodeEncodeError:
        return False
    return True


def _as_bytes(command: str | tuple[str, ...]) -> bytes | list[bytes]:
    if isinstance(command, str):
        return command.encode("utf-8", "surrogateescape")
    return [word.encode("utf-8", "surrogateescape") for word in command]


def _from_bytes(command: bytes | list[bytes]) -> str | tuple[str, ...]:
    if isinstance(command, bytes):
        return command.decode("utf-8", "surrogateescape")
    return tuple(word.decode("utf-8", "surrogateescape") for word in command)


class ChunkCache:
    """Decoded parts (or where they begin) by (uid of the job, field), the least recently used ones forgotten."""

    def __init__(self, most: int = CACHED_CHUNKS) -> None:
        self._most = most
        self._kept: OrderedDict[tuple[str, str], list[TaskSpec] | tuple[int, ...]] = OrderedDict()

    def get(self, uid: str, field: str) -> list[TaskSpec] | tuple[int, ...] | None:
        found = self._kept.get((uid, field))
        if found is not None:
            self._kept.move_to_end((uid, field))
        return found

    def put(self, uid: str, field: str, value: list[TaskSpec] | tuple[int, ...]) -> None:
        self._kept[uid, field] = value
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)

    def forget(self, uid: str) -> None:
        """All of one job."""
        for key in [key for key in self._kept if key[0] == uid]:
            del self._kept[key]
