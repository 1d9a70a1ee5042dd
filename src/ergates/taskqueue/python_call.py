"""The payload of a Python task that came from a file: JSON that says which function, or which source, and its arguments.

    {"function": "package.module:function", "args": [1, 2], "kwargs": {"x": 3}}
    {"source": "print(6 * 7)", "args": [], "kwargs": {}}

A `source` runs as the main program of a fresh namespace in which `args` and `kwargs` are bound. A JSON payload starts
with `{`; the pickled payloads of `ergates.map` start with byte 0x80, so the two cannot be mixed up.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

_FUNCTION = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")


class PythonCall(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Exactly one of `function` ("module:function") and `source` is set; arguments are JSON values."""

    function: str | None = None
    source: str | None = None
    args: list[Any] = []
    kwargs: dict[str, Any] = {}


def python_call(command: str, args: list[Any], kwargs: dict[str, Any]) -> PythonCall:
    """What a Python task's `command` means: `module:function`, or else Python source."""
    if _FUNCTION.fullmatch(command.strip()):
        return PythonCall(function=command.strip(), args=args, kwargs=kwargs)
    return PythonCall(source=command, args=args, kwargs=kwargs)


def encode_call(call: PythonCall) -> bytes:
    """The payload.

    Raises:
        ValueError: something in it is no JSON value (infinity, a date), or a text is not UTF-8 (UnicodeEncodeError).
    """
    payload = msgspec.json.encode(call)
    if decode_call(payload) != call:
        raise ValueError("not a JSON value")
    return payload


def is_call(payload: bytes) -> bool:
    """Whether a payload is such JSON (else it is pickled)."""
    return payload[:1] == b"{"


def decode_call(payload: bytes) -> PythonCall:
    """Read a payload. Raises msgspec.DecodeError when it is not one."""
    return msgspec.json.decode(payload, type=PythonCall)
