"""Where in a JSON document a figure stands: `latency.p99`, `results[0].rate`, `clients[*].rate`, `["a.b"].c`."""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import Any

Step = str | int | None
"""A key, an index (from the end when negative), or None for `[*]`: every element, or every value of an object."""

_STEP = re.compile(
    r"""\.?(?:(?P<key>[^.\[\]"]+)|\[(?P<index>-?[0-9]{1,9})\]|(?P<all>\[\*\])|\["(?P<quoted>[^"]*)"\])"""
)
_SHOWN_KEYS = 8


class NotThereError(ValueError):
    """The document has no such place; the message says how far the path leads and what is there."""


def parse_json_path(text: str) -> tuple[Step, ...]:
    """The steps of a path.

    Raises:
        ValueError: not a path; says what one looks like.
    """
    steps: list[Step] = []
    at = 0
    while at < len(text):
        match = _STEP.match(text, at)
        if match is None or (text[at] == ".") != (
            match["key"] is not None and at > 0
        ):  # a dot is before a key, but the first
            break
        if match["index"] is not None:
            steps.append(int(match["index"]))
        else:
            steps.append(None if match["all"] else match["key"] if match["key"] is not None else match["quoted"])
        at = match.end()
    if not text or at < len(text):
        raise ValueError(f'expected a path such as latency.p99, results[0].rate or ["a.b"][*].c, got {text!r}')
    return tuple(steps)


def found_at(document: object, path: tuple[Step, ...]) -> list[Any]:
    """What stands there: one value, or several where the path holds `[*]`.

    Raises:
        NotThereError: nothing does.
    """
    found: list[Any] = [document]
    for number, step in enumerate(path):
        if step is None:
            found = [inner for value in found for inner in _all_of(value, path[:number])]
        else:
            found = [_one_of(value, step, path[:number]) for value in found]
    return found


def shown_path(path: tuple[Step, ...]) -> str:
    """As people write it."""
    text = ""
    for step in path:
        if step is None or isinstance(step, int):
            text += f"[{'*' if step is None else step}]"
        elif re.search(r'[.\[\]"]', step) or not step:
            text += f'["{step}"]'
        else:
            text += f".{step}"
    return text.removeprefix(".")


def _all_of(value: object, before: tuple[Step, ...]) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    if isinstance(value, list):
        return value
    raise NotThereError(f"{_place(before)} is {_kind(value)}: there is no [*] of it")


def _one_of(value: object, step: str | int, before: tuple[Step, ...]) -> Any:
    if isinstance(step, int):
        if isinstance(value, list) and -len(value) <= step < len(value):
            return value[step]
        if isinstance(value, list):
            raise NotThereError(f"{_place(before)} has {len(value)} elements: there is no [{step}]")
    elif isinstance(value, dict):
        if step in value:
            return value[step]
        raise NotThereError(f"{_place(before)} has no {step!r}: {_instead(step, list(value))}")
    raise NotThereError(f"{_place(before)} is {_kind(value)}: there is no {shown_path((step,))!r} in it")


def _instead(key: str, keys: list[str]) -> str:
    close = get_close_matches(key, keys, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]!r}?"
    more = ", ..." if len(keys) > _SHOWN_KEYS else ""
    return f"it has {', '.join(keys[:_SHOWN_KEYS])}{more}" if keys else "it is empty"


def _place(path: tuple[Step, ...]) -> str:
    return repr(shown_path(path)) if path else "the document"


def _kind(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    return repr(value)
