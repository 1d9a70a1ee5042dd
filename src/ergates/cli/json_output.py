"""JSON on standard output, one document or one line for each record. Bytes that are not UTF-8 leave as `\\udcXX` escapes."""

from __future__ import annotations

import json
from typing import Any

import click
import msgspec


def plain(value: object) -> Any:
    """Structs, enums and tuples as what JSON knows; bytes as text."""
    return msgspec.to_builtins(value, builtin_types=(bytes,), enc_hook=_other) if value is not None else None


def print_json(value: object) -> None:
    """One document, indented for people who look at it anyway."""
    click.echo(json.dumps(plain(value), indent=2, default=_other))


def print_json_line(value: object) -> None:
    """One record on one line."""
    click.echo(json.dumps(plain(value), default=_other))


def _other(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    raise TypeError(f"not for JSON: {type(value).__name__}")
